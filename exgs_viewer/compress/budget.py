"""As many Gaussians as fit into so many bytes: compress, look, correct.

How coarsely a scene is rounded and what its numbers cost depend on how many Gaussians are kept, so only a finished file
says how large it is. On logarithmic scales the bytes over the Gaussians are nearly a straight line; three or four
files lead to one that fills the limit but for a hundredth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from exgs_viewer.errors import ExgsError
from exgs_viewer.settings import Report, quiet

FULL = 0.99
"""Share of the limit from which on a file is large enough."""
AIM = 0.995
"""Share of the limit that is aimed at."""
MOST = 10
"""Files after which the best one is taken, where bytes do not follow the Gaussians."""
SLOPES = (0.3, 2.0)
"""Between these bytes follow the Gaussians, as logarithms: a header takes some of a small file."""

T = TypeVar("T")
Attempt = Callable[[int, Report], tuple[T, int]]
"""Gaussians to keep -> what is made of them, and its bytes."""


def fill(limit: int, total: int, start: int, attempt: Attempt[T], report: Report = quiet) -> T:
    """What `attempt` makes of as many of `total` Gaussians as take at most `limit` bytes; `start` are tried first.

    It takes at least FULL of the limit, unless all Gaussians fit, one more is too many, or MOST attempts do not lead
    there. Raises ExgsError where not even one Gaussian fits.
    """
    sizes: dict[int, int] = {}
    best, fitting, count = None, 0, min(max(start, 1), total)
    for number in range(MOST):
        made, sizes[count] = attempt(count, partial(_tell, report, 0.5**number))
        if fitting < count and sizes[count] <= limit:
            best, fitting = made, count
        too_many = min((count for count in sizes if count > fitting), default=total + 1)
        if best is not None and (sizes[fitting] >= FULL * limit or too_many == fitting + 1):
            return best
        if too_many == 1:
            break
        count = min(max(_next(sizes, AIM * limit), fitting + 1), too_many - 1)
    if best is None:
        least = min(sizes)
        raise ExgsError(
            f"{limit:,} bytes are too few: {least:,} of {total:,} Gaussians take {sizes[least]:,}; allow more."
        )
    return best


def _next(sizes: dict[int, int], aim: float) -> int:
    """The count that should take `aim` bytes, by the line through the two attempts that came nearest to it."""
    nearest, *others = sorted(sizes, key=lambda count: abs(math.log(sizes[count] / aim)))
    slope = math.log(sizes[nearest] / sizes[others[0]]) / math.log(nearest / others[0]) if others else 1.0
    return round(nearest * (aim / sizes[nearest]) ** (1 / min(max(slope, SLOPES[0]), SLOPES[1])))


def _tell(report: Report, left: float, part: float, words: str) -> None:
    """Each attempt may be the last: it takes half of what is left."""
    report(1 - left + part * left / 2, words)
