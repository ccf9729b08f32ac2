"""How small a draft must be to stay fluid, learnt from what the last pictures cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exgs_viewer.scene.camera import Size

BUDGET = 0.033
"""Seconds that all pictures of a moving frame may take together."""

LEVELS = (1.0, 0.84, 0.71, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25)
"""Scales a draft may have: few steps, so that neighbouring frames agree and the picture does not swim."""

SHORTEST = 160
"""A draft never has fewer lines than this."""


@dataclass(frozen=True)
class Cost:
    """What one picture of `count` Gaussians costs: fixed + per_pixel * pixels, seconds."""

    fixed: float
    per_pixel: float
    count: int
    pixels: int
    """Of the last measurement."""
    seconds: float
    """Of the last measurement."""

    def of(self, pixels: float) -> float:
        """Predicted seconds for a picture of so many pixels."""
        return self.fixed + self.per_pixel * pixels

    def at(self, count: int) -> Cost:
        """The same for another number of Gaussians; the time follows it nearly in proportion."""
        ratio = max(count, 1) / max(self.count, 1)
        return Cost(self.fixed * ratio, self.per_pixel * ratio, count, self.pixels, self.seconds * ratio)


def learnt(cost: Cost | None, pixels: int, seconds: float, count: int) -> Cost:
    """`cost` after a picture of `pixels` and `count` Gaussians took `seconds`."""
    if cost is None:
        return Cost(0.1 * seconds, 0.9 * seconds / pixels, count, pixels, seconds)
    cost = cost.at(count)
    if not 0.75 < pixels / cost.pixels < 1.33:
        per_pixel = (seconds - cost.seconds) / (pixels - cost.pixels)
        per_pixel = min(max(per_pixel, 0.15 * seconds / pixels), 0.95 * seconds / pixels)
        return Cost(seconds - per_pixel * pixels, per_pixel, count, pixels, seconds)
    ratio = 0.5 + 0.5 * seconds / max(cost.of(pixels), 1e-9)
    return Cost(cost.fixed * ratio, cost.per_pixel * ratio, count, pixels, seconds)


def draft_scale(costs: Sequence[Cost], size: Size, last: float = 1.0, budget: float = BUDGET) -> float:
    """The largest of the LEVELS at which pictures of these costs fit the budget together.

    Where the fixed part alone fills the budget, a much smaller picture gains little, so the budget gives way. The
    `last` scale is left only for good reason, and upwards one level at a time: a picture that changes its sharpness
    in every frame swims.
    """
    fixed = sum(cost.fixed for cost in costs)
    budget = max(budget, 1.6 * fixed)
    least = min(1.0, SHORTEST / size[1])
    levels = [level for level in LEVELS if level > least] + [least]

    def seconds(scale: float) -> float:
        return sum(cost.of(scale * scale * size[0] * size[1]) for cost in costs)

    fitting = next((level for level in levels if seconds(level) <= budget), least)
    if last in levels and fitting != last:
        if fitting < last and seconds(last) <= 1.3 * budget:
            return last
        if fitting > last:
            above = levels[levels.index(last) - 1]
            return above if seconds(above) <= 0.85 * budget else last
    return fitting


def scaled(size: Size, scale: float) -> Size:
    """`size` at a scale, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
