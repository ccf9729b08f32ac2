"""Draft sizes, on renderers whose cost is known."""

from __future__ import annotations

import pytest

from exgs_viewer.app import pace
from exgs_viewer.app.pace import BUDGET, LEVELS, SHORTEST, draft_scale, learnt, scaled

SIZE = (1600, 900)
PIXELS = SIZE[0] * SIZE[1]


def driven(fixed: float, per_pixel: float, frames: int = 12) -> list[float]:
    """Scales chosen, one after another, for a renderer with this cost."""
    cost = learnt(None, PIXELS, fixed + per_pixel * PIXELS, 1000)
    scale, scales = 1.0, []
    for _ in range(frames):
        scale = draft_scale([cost], SIZE, scale)
        size = scaled(SIZE, scale)
        cost = learnt(cost, size[0] * size[1], fixed + per_pixel * size[0] * size[1], 1000)
        scales.append(scale)
    return scales


@pytest.mark.parametrize("per_pixel", [3e-8, 6e-8, 1.5e-7, 4e-7])
def test_drafts_come_to_rest_at_a_size_that_keeps_the_budget(per_pixel):
    scales = driven(0.004, per_pixel)
    width, height = scaled(SIZE, scales[-1])
    assert 0.004 + per_pixel * width * height <= 1.3 * BUDGET
    assert len(set(scales[-4:])) == 1, "it does not swim"
    above = [level for level in LEVELS if level > scales[-1]]
    if above:
        width, height = scaled(SIZE, above[-1])
        assert 0.004 + per_pixel * width * height > 0.8 * BUDGET, "no smaller than it must be"


def test_a_quick_renderer_is_drawn_in_full():
    assert driven(0.001, 5e-9)[-1] == 1.0


def test_a_picture_is_not_made_tiny_where_that_gains_nothing():
    assert driven(0.2, 2e-8)[-1] >= 0.84


def test_a_draft_has_enough_lines():
    assert driven(0.0, 1e-4)[-1] * SIZE[1] >= SHORTEST


def test_more_gaussians_are_expected_to_take_longer():
    cost = learnt(None, PIXELS, 0.1, 1000)
    assert cost.at(3000).of(PIXELS) == pytest.approx(0.3)


def test_two_sizes_tell_fixed_from_proportional_cost():
    cost = learnt(None, 100_000, 0.02 + 1e-7 * 100_000, 50)
    cost = learnt(cost, 1_000_000, 0.02 + 1e-7 * 1_000_000, 50)
    assert (cost.fixed, cost.per_pixel) == pytest.approx((0.02, 1e-7))


def test_sizes_have_at_least_one_pixel():
    assert pace.scaled((3, 2), 0.1) == (1, 1)
