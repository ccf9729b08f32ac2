"""Movements of the camera, judged by geometry."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer.app import navigation as nav_
from exgs_viewer.scene.camera import distance, look_at

UP = (0.0, -1.0, 0.0)


def start(flying=False):
    camera = look_at((0.5, -0.4, -3.0), (0.0, 0.0, 0.0), UP, fov_y=0.9)
    return replace(nav_.started(camera, UP, extent=2.0), focus=(0.0, 0.0, 0.0), flying=flying)


def on_screen(nav, point):
    """Where a point stands, in shares of the picture's height from its middle."""
    offset = [p - c for p, c in zip(point, nav.camera.position, strict=True)]
    x, y, z = (
        sum(a * b for a, b in zip(offset, axis, strict=True))
        for axis in (nav.camera.right, nav.camera.down, nav.camera.forward)
    )
    reach = 2 * z * math.tan(nav.camera.fov_y / 2)
    return x / reach, y / reach


@given(st.floats(-1, 1), st.floats(-0.3, 0.3))
def test_orbiting_keeps_distance_and_focus_in_the_middle(right, down):
    nav = nav_.dragged(start(), right, down)
    assert distance(nav.camera, nav.focus) == pytest.approx(distance(start().camera, (0, 0, 0)), rel=1e-4)
    assert on_screen(nav, nav.focus) == pytest.approx((0, 0), abs=1e-3)


def test_dragging_right_turns_the_scene_to_the_right():
    nav = nav_.dragged(start(), 0.05, 0.0)
    near = (0.1, -0.08, -0.6)  # Between the camera and the focus.
    assert on_screen(nav, near)[0] > on_screen(start(), near)[0]


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_panning_moves_the_focus_with_the_hand(right, down):
    nav = nav_.panned(start(), right, down)
    assert on_screen(nav, (0.0, 0.0, 0.0)) == pytest.approx((right, down), abs=1e-4)


@given(st.integers(-10, 10))
def test_the_wheel_is_proportional_to_the_distance(notches):
    nav = nav_.wheeled(start(), notches)
    wanted = distance(start().camera, (0, 0, 0)) * nav_.WHEEL**notches
    assert distance(nav.camera, (0, 0, 0)) == pytest.approx(max(wanted, 0.04), rel=1e-3)


def test_the_wheel_goes_through_a_focus_that_is_reached():
    nav = start()
    for _ in range(80):
        nav = nav_.wheeled(nav, 1)
    # The focus is pushed ahead, so the way goes on instead of ending at a wall.
    assert nav.camera.position[2] > -0.04 and distance(nav.camera, nav.focus) > 0.01


@pytest.mark.parametrize("rate", [10, 30, 144])
def test_flying_goes_as_far_at_any_frame_rate(rate):
    nav = start()
    for _ in range(2 * rate):
        nav = nav_.flown(nav, (0.0, 0.0, 1.0), 1.0, 1 / rate)
    way = math.dist(nav.camera.position, start().camera.position)
    full = 2 * nav_.PACE * 2.0
    assert full * 0.9 < way < full * 1.01


def test_flying_stops_softly_and_completely():
    nav = nav_.flown(start(), (1.0, 0.0, 0.0), 1.0, 0.5)
    assert nav.moving and nav.flying
    for _ in range(60):
        nav = nav_.flown(nav, (0.0, 0.0, 0.0), 1.0, 1 / 60)
    assert nav.velocity == (0.0, 0.0, 0.0) and not nav.moving


def test_flying_keeps_the_speed_within_its_limits():
    assert nav_.sped(start(), 1000).speed == 100.0 and nav_.sped(start(), -1000).speed == 0.01


def test_gliding_ends_exactly_at_its_goal():
    goal = look_at((2.0, 0.0, 0.0), (0.0, 0.0, 0.0), UP)
    nav = nav_.gone_to(start(), goal, now=5.0)
    half = nav_.glided(nav, 5.0 + nav_.GLIDE / 2)
    assert half.moving and half.camera not in (goal, start().camera)
    done = nav_.glided(nav, 5.0 + nav_.GLIDE)
    assert done.camera == goal and not done.moving


def test_focusing_brings_the_point_into_the_middle():
    point = (0.4, 0.3, 0.2)
    nav = nav_.glided(nav_.focused(start(), point, 0.0), 10.0)
    assert on_screen(nav, point) == pytest.approx((0, 0), abs=1e-3) and nav.focus == point


def test_framing_shows_the_whole_ball():
    nav = nav_.glided(nav_.framed(start(), (1.0, 2.0, 3.0), 1.5, 0.0), 10.0)
    assert distance(nav.camera, (1.0, 2.0, 3.0)) * math.sin(nav.camera.fov_y / 2) == pytest.approx(1.5, rel=1e-3)


def test_turning_over_twice_is_nothing():
    once = nav_.turned_over(start())
    twice = nav_.turned_over(once)
    assert once.up == (0.0, 1.0, 0.0) and once.camera.down == pytest.approx([-p for p in start().camera.down], abs=1e-4)
    assert twice.camera.down == pytest.approx(start().camera.down, abs=1e-4)
    assert twice.camera.position == pytest.approx(start().camera.position)


def test_looking_around_does_not_move():
    nav = nav_.dragged(start(flying=True), 0.2, 0.1)
    assert nav.camera.position == pytest.approx(start().camera.position)
    assert nav.camera.forward != start().camera.forward


def test_leaning_turns_the_up_axis_along():
    nav = nav_.rolled(start(), 0.3)
    cosine = sum(a * b for a, b in zip(nav.up, UP, strict=True))
    assert math.sqrt(sum(part**2 for part in nav.up)) == pytest.approx(1)
    assert cosine == pytest.approx(math.cos(0.3), abs=0.02)
    assert nav_.rolled(nav, -0.3).camera.down == pytest.approx(start().camera.down, abs=1e-4)


def test_refocusing_does_not_change_the_view():
    nav = nav_.refocused(start(), 1.25)
    assert nav.camera == start().camera and distance(nav.camera, nav.focus) == pytest.approx(1.25, rel=1e-5)
    assert nav_.refocused(start(), 1e6) == start()
