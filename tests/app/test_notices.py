"""What is told, for how long, and what of it is shown."""

from __future__ import annotations

import pytest

from exgs_viewer.app.notices import TOAST, Notices
from exgs_viewer.errors import SceneError

from .conftest import Clock


@pytest.fixture
def notices():
    notices = Notices(Clock())
    notices.clock = notices._clock
    return notices


def test_a_message_goes_away_and_the_screen_is_drawn_once_more_without_it(notices):
    assert not notices.fading
    notices.toast("Saved")
    notices.clock.now += TOAST - 0.1
    assert notices.over_picture == "Saved" and notices.fading
    notices.clock.now += 0.15
    assert notices.over_picture == "" and notices.fading
    notices.clock.now += 0.1
    assert not notices.fading


def test_of_several_jobs_the_one_that_is_waited_for_is_shown(notices):
    assert notices.under_way is None
    notices.progress("anchors", 0.1, "at leisure")
    assert notices.under_way is None
    notices.progress("score", 0.2, "scoring")
    notices.progress("open", 0.5, "reading")
    assert notices.under_way == ("open", 0.5, "reading")
    notices.finished("open")
    assert notices.under_way == ("score", 0.2, "scoring")


def test_an_empty_window_says_what_to_do_what_is_done_or_what_went_wrong(notices):
    assert notices.centre[0] == "Drop a scene here"
    notices.fail(SceneError("x.ply: broken."))
    assert notices.centre == ("Nothing is open", "x.ply: broken.", -1.0)
    notices.progress("open", 0.5, "reading")
    assert notices.centre == ("Opening", "reading", 0.5)


def test_a_file_that_cannot_be_written_is_told_by_its_name(notices):
    def write():
        raise OSError(28, "No space left", "out.ply")

    notices.attempt(write)
    assert str(notices.failed) == "out.ply: cannot be written (No space left)."


def test_a_mistake_of_the_program_is_not_hidden(notices):
    with pytest.raises(ZeroDivisionError):
        notices.attempt(lambda: 1 / 0)
