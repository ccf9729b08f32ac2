"""How small a draft must be to stay fluid, learnt from what the last pictures cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exgs_viewer.scene.camera import Size

BUDGET = 0.033
"""Seconds that all pictures of a moving frame may take together."""

SHORTEST = 160
"""A draft never has fewer lines than this."""

FEWEST = 60_000
"""A draft never has fewer Gaussians than this; where there are no more, all are drawn."""


@dataclass(frozen=True)
class Draft:
    """How much of a picture is drawn while something moves."""

    scale: float = 1.0
    """Width and height relative to the full picture."""
    share: float = 1.0
    """Share of the Gaussians, the most significant first."""

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self == FULL

    def count(self, of: int) -> int:
        """How many of so many Gaussians are drawn."""
        return of if self.share == 1.0 else max(min(of, FEWEST), round(self.share * of))

    def size(self, of: Size) -> Size:
        """How large a picture of this size is drawn; at least one pixel."""
        return max(1, round(of[0] * self.scale)), max(1, round(of[1] * self.scale))


FULL = Draft()
# Few steps, so that neighbouring frames agree and the picture does not swim. On the CPU most of a picture's time goes
# with its Gaussians, so fewer of them buy more than fewer pixels do: of the mixtures that take equally long, these came
# nearest to the full picture (PSNR of the enlarged draft on flowers and two rooms).
DRAFTS = tuple(
    Draft(scale, share)
    for scale, share in (
        *((1.0, 1.0), (0.84, 0.85), (0.71, 0.7), (0.6, 0.5), (0.5, 0.35)),
        *((0.42, 0.28), (0.35, 0.24), (0.3, 0.2), (0.25, 0.16)),
    )
)
UNRANKED = tuple(Draft(draft.scale) for draft in DRAFTS)
"""The same before it is known which Gaussians matter."""


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


def draft(costs: Sequence[Cost], size: Size, last: Draft, drafts: Sequence[Draft], budget: float = BUDGET) -> Draft:
    """The best of `drafts` in which pictures of these costs fit the budget together.

    Where the least of them cannot fit, more would be given up for little, so the budget gives way. The `last` draft is
    left only for good reason, and upwards one step at a time: a picture that changes its sharpness in every frame
    swims.
    """
    allowed = [one for one in drafts if one.scale * size[1] >= min(size[1], SHORTEST)]
    budget = max(budget, 1.6 * sum(cost.at(allowed[-1].count(cost.count)).fixed for cost in costs))

    def seconds(one: Draft) -> float:
        pixels = one.scale * one.scale * size[0] * size[1]
        return sum(cost.at(one.count(cost.count)).of(pixels) for cost in costs)

    fitting = next((place for place, one in enumerate(allowed) if seconds(one) <= budget), len(allowed) - 1)
    if last in allowed and allowed[fitting] != last:
        place = allowed.index(last)
        if fitting > place and seconds(last) <= 1.3 * budget:
            return last
        if fitting < place:
            above = allowed[place - 1]
            return above if seconds(above) <= 0.85 * budget else last
    return allowed[fitting]
