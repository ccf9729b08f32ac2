"""Restoring beside the drawing, on fakes: what comes first, how it fades in, when it is dropped."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from exgs_viewer.app.repairer import FADE
from exgs_viewer.app.state import Failed, Fetched, Finished, FrameReady, FrameRestored, Progress
from exgs_viewer.errors import WeightsError
from exgs_viewer.scene.camera import fly
from exgs_viewer.settings import RestoreSettings

LITE = RestoreSettings(restorer="lite")
BLUE = (0, 0, 2)
"""Of the first pixel: 0 in what is drawn, 1 in the fill, 0.5 in what the painter makes of it."""


@pytest.fixture
def resting(stand, view):
    """A scene whose full picture is on the screen, and the same view with the painter switched on."""
    stand.open()
    stand.rest(view)
    return replace(view, restoring=True, restore=LITE)


def turn(stand, view, seconds=0.0):
    """One turn of the main loop, `seconds` after the last one; the newest picture, once the drawing is done."""
    stand.clock.now += seconds
    stand.engine.show(view)
    while stand.engine._screen.busy:
        stand.woken.wait(0.02)
    stand.engine.poll()
    return stand.engine.frame


def blue_of(frame):
    return float(frame.pixels[BLUE])


def test_the_fill_stands_in_while_the_painter_works_and_both_fade_in(stand, resting):
    stand.painter.gate = threading.Event()
    turn(stand, resting)
    turn(stand, resting)
    assert stand.painter.entered.wait(20)
    shades = [blue_of(turn(stand, resting, FADE / 4)) for _ in range(7)]
    assert stand.engine.frame.sides == ("filled",) and shades[-1] == 1.0
    assert shades == sorted(shades) and any(0 < shade < 1 for shade in shades)
    stand.painter.gate.set()
    while stand.engine._repairer.busy:
        stand.woken.wait(0.02)
    stand.engine.poll()
    shades = [blue_of(turn(stand, resting, FADE / 4)) for _ in range(6)]
    assert stand.engine.frame.sides == ("restored",) and shades[-1] == 0.5
    assert shades == sorted(shades, reverse=True) and any(0.5 < shade < 1 for shade in shades)
    assert not stand.engine.fading


def test_a_quick_painter_needs_nobody_to_stand_in(stand, resting):
    stand.rest(resting)
    stand.restorer.given.clear()
    stand.rest(replace(resting, camera=fly(resting.camera, 0.1, 0, 0)))
    assert stand.restorer.given == [] and len(stand.painter.given) == 2


def test_a_moved_camera_drops_the_restored_picture_at_once(stand, resting):
    stand.rest(resting)
    assert stand.engine.frame.sides == ("restored",)
    moved = replace(resting, camera=fly(resting.camera, 0.1, 0, 0))
    frame = turn(stand, moved, 0.01)
    assert frame.request.camera == moved.camera and frame.sides == ("compressed",) and blue_of(frame) == 0


def test_a_moved_camera_stops_the_restorer(stand, resting):
    stand.painter.gate = threading.Event()
    turn(stand, resting)
    turn(stand, resting)
    assert stand.painter.entered.wait(20)
    turn(stand, replace(resting, camera=fly(resting.camera, 0.1, 0, 0)), 0.01)
    stand.painter.gate.set()
    events = stand.rest(resting)  # Back again: it is asked for anew, and what was given up on is not missed.
    assert any(isinstance(event, FrameRestored) for event in events) and len(stand.painter.given) == 2


def test_nothing_is_restored_while_a_button_is_held(stand, resting):
    held = replace(resting, held=True, camera=fly(resting.camera, 0.1, 0, 0))
    stand.rest(held)
    assert stand.engine.frame.sides == ("compressed",) and not stand.painter.given + stand.restorer.given
    stand.rest(replace(held, held=False))
    assert stand.engine.frame.sides == ("restored",)


def test_what_cannot_work_is_told_once_and_the_pane_says_compressed(stand, resting):
    stand.painter.error = WeightsError("no weights here")
    events = stand.rest(resting)
    assert [str(event.error) for event in events if isinstance(event, Failed)] == ["no weights here"]
    assert stand.engine.repairs.trouble == "no weights here" and stand.engine.settled
    stand.painter.error = None
    stand.rest(replace(resting, camera=fly(resting.camera, 0.1, 0, 0)))
    assert stand.engine.frame.sides == ("restored",) and not stand.engine.repairs.trouble


def test_fetched_weights_are_tried_at_once(stand, resting):
    stand.painter.error = WeightsError("no weights here")
    stand.rest(resting)
    stand.painter.error = None
    stand.engine.fetch()
    events = stand.until(Fetched)
    assert [event.text for event in events if isinstance(event, Progress)] == ["half of it"]
    stand.rest(resting)
    assert stand.engine.frame.sides == ("restored",) and not stand.engine.repairs.trouble


def test_fetching_can_be_stopped_and_holds_up_nothing(stand, resting):
    entered, let_go = threading.Event(), threading.Event()

    def fetch(report):
        entered.set()
        assert let_go.wait(20)
        report(0.5, "half of it")

    stand.engine._stages = replace(stand.engine._stages, fetch=fetch)
    stand.engine.fetch()
    assert entered.wait(20) and "download" in stand.engine.jobs
    stand.rest(resting)
    assert stand.engine.settled
    stand.engine.cancel("download")
    let_go.set()
    assert not [event for event in stand.until(Finished) if isinstance(event, Fetched)]


def test_the_engine_tells_who_restores_and_how_quickly(stand, resting):
    stand.rest(resting)
    repairs = stand.engine.repairs
    assert (repairs.preset, repairs.label) == ("lite", "Fake painter") and 0 <= repairs.seconds < 20


def test_the_trust_map_needs_no_second_restoration(stand, resting):
    stand.rest(resting)
    events = stand.rest(replace(resting, mode="trust"))
    assert len(stand.painter.given) == 1 and stand.engine.frame.sides == ("restored",)
    pixels = [event.frame for event in events if isinstance(event, FrameReady)][-1].pixels
    assert blue_of(stand.engine.frame) != 0.5 and pixels.shape == (320, 480, 4)
