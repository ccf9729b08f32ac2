"""Ways of a camera: they pass every view, go evenly, and stay where a visitor would go."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exgs_viewer.scene.camera import distance, look_at
from exgs_viewer.scene.flight import LIFT, SWAY, around, sway, through

UP = (0.0, -1.0, 0.0)
VIEWS = [
    look_at((3 * math.cos(a), -0.3 * n, 3 * math.sin(a)), (0.0, 0.0, 0.0), UP, 0.8 + 0.05 * n)
    for n, a in enumerate((0.0, 0.7, 1.0, 2.2, 3.0))
]


def steps(cameras) -> np.ndarray:
    return np.linalg.norm(np.diff([camera.position for camera in cameras], axis=0), axis=1)


def test_the_way_passes_every_view_and_begins_and_ends_with_one():
    way = through(VIEWS, 2000)
    assert len(way) == 2000
    for found, wanted in ((way[0], VIEWS[0]), (way[-1], VIEWS[-1])):
        assert found.position == pytest.approx(wanted.position, abs=1e-6)
        assert abs(np.dot(found.rotation, wanted.rotation)) == pytest.approx(1, abs=1e-6)
        assert found.fov_y == pytest.approx(wanted.fov_y)
    for view in VIEWS:
        nearest = min(way, key=lambda camera: distance(camera, view.position))
        assert distance(nearest, view.position) < 0.01
        assert abs(np.dot(nearest.rotation, view.rotation)) > 1 - 1e-4


def test_it_goes_smoothly_and_keeps_looking_at_what_the_views_look_at():
    way = through(VIEWS, 600)
    went = steps(way)
    inside = went[60:-60]
    assert inside.max() < 2 * np.median(inside) and inside.min() > 0.3 * np.median(inside)
    assert np.abs(np.diff(went)).max() < 0.1 * np.median(inside), "it jerks"
    assert went[0] < 0.1 * np.median(inside) and went[-1] < 0.1 * np.median(inside)
    for camera in way:
        away = -np.array(camera.position)
        assert np.dot(camera.forward, away / np.linalg.norm(away)) > 0.97
        assert np.linalg.norm(camera.rotation) == pytest.approx(1)


def test_views_whose_quaternions_have_opposite_signs_are_near_each_other():
    first, second = look_at((0, 0, -3), (0, 0, 0), UP), look_at((0.5, 0, -3), (0, 0, 0), UP)
    turned = type(second)(second.position, tuple(-value for value in second.rotation), second.fov_y)
    plain, other = (np.array([camera.position for camera in through([first, end], 9)]) for end in (second, turned))
    assert np.allclose(plain, other)
    for camera in through([first, turned], 9):
        assert np.dot(camera.forward, first.forward) > 0.95


def test_views_at_one_place_are_turned_through():
    views = [look_at((0, 0, 0), (math.cos(a), 0, math.sin(a)), UP) for a in (0.0, 0.5, 1.0)]
    way = through([*views, views[-1]], 40)
    assert np.abs(steps(way)).max() < 1e-9
    assert all(math.isfinite(value) for camera in way for value in camera.rotation)
    angles = [math.atan2(camera.forward[2], camera.forward[0]) for camera in way]
    assert angles == sorted(angles) and angles[-1] == pytest.approx(1.0, abs=1e-3)


def test_a_turn_goes_around_once_and_ends_before_its_first_picture():
    camera, focus = VIEWS[1], (0.0, 0.0, 0.0)
    way = around(camera, focus, UP, 90)
    assert way[0].position == pytest.approx(camera.position, abs=1e-6)
    assert [distance(each, focus) for each in way] == pytest.approx([distance(camera, focus)] * 90, rel=1e-5)
    went = steps([*way, way[0]])
    assert went == pytest.approx([went[0]] * 90, rel=1e-3)


def test_swaying_stays_before_what_it_looks_at():
    camera, focus = VIEWS[0], (0.0, 0.0, 0.0)
    way = sway(camera, focus, UP, 120)
    assert way[0].position == pytest.approx(camera.position, abs=1e-6)
    limit = 2 * distance(camera, focus) * math.sin((SWAY + LIFT) / 2)
    assert 0.8 * limit < max(distance(each, camera.position) for each in way) <= limit
    assert steps([*way, way[0]]).max() < 4 * np.median(steps(way))
