"""What counts as movement, and for how long it is waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exgs_viewer.app.stillness import Stillness
from exgs_viewer.errors import Cancelled
from exgs_viewer.scene.camera import fly


@pytest.fixture
def still(stand, view):
    still = Stillness(stand.clock)
    still.notice(None, view)
    stand.clock.now += 1
    return still


def since(still):
    return still.of_camera, still.of_picture, still.of_view


def test_a_divider_moves_nothing_that_has_to_be_drawn(still, view):
    still.notice(view, replace(view, wipe=0.2))
    assert since(still) == (1, 1, 0)


def test_the_slider_leaves_the_camera_at_rest(still, view):
    still.notice(view, replace(view, compression=replace(view.compression, keep=0.7)))
    assert since(still) == (1, 0, 0)


def test_a_moved_camera_moves_everything(still, view):
    still.notice(view, replace(view, camera=fly(view.camera, 1, 0, 0)))
    assert since(still) == (0, 0, 0)


def test_the_same_view_again_is_no_movement(still, view):
    still.notice(view, replace(view))
    assert since(still) == (1, 1, 1)


def test_a_job_that_makes_way_can_still_be_cancelled(still, view):
    calls = []

    def report(fraction, text):
        calls.append(fraction)
        if len(calls) == 2:
            raise Cancelled("job")

    with pytest.raises(Cancelled):
        still.making_way(report)(0.5, "under way")
    assert calls == [0.5, 0.5]
