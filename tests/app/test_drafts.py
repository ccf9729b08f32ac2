"""Which draft is chosen while something moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exgs_viewer.app.drafts import Drafts
from exgs_viewer.app.frames import Timing
from exgs_viewer.app.pace import FULL

TOTAL = 1_000_000


@pytest.fixture
def drafts():
    """The original takes half a second, what is compressed hardly anything."""
    drafts = Drafts()
    pixels = 480 * 320
    drafts.learn([Timing("original", pixels, TOTAL, 0.5), Timing("compressed", pixels, TOTAL // 10, 0.002)])
    return drafts


def test_what_was_never_drawn_is_drawn_in_full(view):
    assert Drafts().affordable(view, TOTAL, ready=True, turning=True) == FULL


def test_the_original_costs_nothing_while_only_the_slider_moves(drafts, view):
    both = replace(view, layout="wipe")
    assert drafts.affordable(both, TOTAL, ready=True, turning=True) != FULL
    drafts.last = FULL
    assert drafts.affordable(both, TOTAL, ready=True, turning=False) == FULL


def test_nothing_is_left_out_before_it_is_known_what_matters(drafts, view):
    draft = drafts.affordable(view, TOTAL, ready=False, turning=True)
    assert draft.share == 1.0 and draft.scale < 1
