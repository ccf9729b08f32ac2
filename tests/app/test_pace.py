"""Draft sizes, on renderers whose cost is known."""

from __future__ import annotations

import pytest

from exgs_viewer.app.pace import BUDGET, DRAFTS, FULL, SHORTEST, UNRANKED, Draft, draft, learnt

SIZE = (1600, 900)
PIXELS = SIZE[0] * SIZE[1]


COUNT = 1_000_000


def driven(fixed: float, per_pixel: float, drafts=UNRANKED, frames: int = 12) -> list[Draft]:
    """What is chosen, one after another, for a renderer with this cost for a million Gaussians."""

    def seconds(one: Draft) -> float:
        width, height = one.size(SIZE)
        return (fixed + per_pixel * width * height) * one.count(COUNT) / COUNT

    cost = learnt(None, PIXELS, seconds(FULL), COUNT)
    last, chosen = FULL, []
    for _ in range(frames):
        last = draft([cost.at(COUNT)], SIZE, last, drafts)
        width, height = last.size(SIZE)
        cost = learnt(cost, width * height, seconds(last), last.count(COUNT))
        chosen.append(last)
    return chosen


@pytest.mark.parametrize("per_pixel", [3e-8, 6e-8, 1.5e-7, 4e-7])
def test_drafts_come_to_rest_at_a_size_that_keeps_the_budget(per_pixel):
    chosen = driven(0.004, per_pixel)
    width, height = chosen[-1].size(SIZE)
    assert 0.004 + per_pixel * width * height <= 1.3 * BUDGET
    assert len(set(chosen[-4:])) == 1, "it does not swim"
    above = [one for one in UNRANKED if one.scale > chosen[-1].scale]
    if above:
        width, height = above[-1].size(SIZE)
        assert 0.004 + per_pixel * width * height > 0.8 * BUDGET, "no smaller than it must be"


def test_a_quick_renderer_is_drawn_in_full():
    assert driven(0.001, 5e-9)[-1] == FULL


def test_a_picture_is_not_made_tiny_where_that_gains_nothing():
    assert driven(0.2, 2e-8)[-1].scale >= 0.84


def test_fewer_gaussians_keep_the_budget_where_fewer_pixels_do_not():
    """On the CPU the time goes with the Gaussians: 100 ms of work that no smaller picture makes less."""
    few = driven(0.1, 1e-8, DRAFTS)[-1]
    assert few.share < 0.5 and 0.1 * few.share <= 1.3 * BUDGET


def test_a_draft_has_enough_lines():
    assert driven(0.0, 1e-4)[-1].scale * SIZE[1] >= SHORTEST


def test_small_scenes_are_never_thinned():
    assert all(one.count(50_000) == 50_000 for one in DRAFTS)


def test_more_gaussians_are_expected_to_take_longer():
    cost = learnt(None, PIXELS, 0.1, 1000)
    assert cost.at(3000).of(PIXELS) == pytest.approx(0.3)


def test_two_sizes_tell_fixed_from_proportional_cost():
    cost = learnt(None, 100_000, 0.02 + 1e-7 * 100_000, 50)
    cost = learnt(cost, 1_000_000, 0.02 + 1e-7 * 1_000_000, 50)
    assert (cost.fixed, cost.per_pixel) == pytest.approx((0.02, 1e-7))


def test_sizes_have_at_least_one_pixel():
    assert Draft(0.1).size((3, 2)) == (1, 1)
