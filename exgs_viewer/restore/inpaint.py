"""Classical push-pull fill guided by alpha: closes the holes that pruning tears, without any weights.

Pruned Gaussians leave gaps through which the background shows. Where they are is known: alpha says how much of each
pixel is covered. How much *should* be covered is not, since a gap between two chairs looks the same, so the wanted
coverage is the morphological closing of alpha (gaps narrower than a reach, with coverage on both sides); open
background stays open. How far to reach, and whether at all, is read off the picture: thinned scenes are peppered with
fine holes, whole ones are not. What is missing to the wanted coverage gets the colour of the surroundings by push-pull
(Gortler et al. 1996).
"""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Stale, never
from exgs_viewer.settings import RestoreSettings

HEIGHT = 540
"""Picture height, pixels, for which the levels below are meant; they move with it in whole octaves. The height, since
the field of view is a vertical one: a narrow pane shows its splats no smaller."""
PEPPER_LEVELS = 2
"""Levels of halving up to which a hole counts as fine: about 4 pixels wide."""
NARROW_LEVELS = 4
"""Levels up to which holes are closed as soon as the picture counts as thinned: about 16 pixels wide."""
WIDE_LEVEL, WIDE_REACH = 2, 6
"""Where fine holes abound, gaps up to twice WIDE_REACH cells of WIDE_LEVEL are closed: about 48 pixels wide."""
THINNED, THINNED_ROOM = (0.012, 0.03), (0.003, 0.01)
"""Share of fine holes in the wanted coverage of the whole picture from which filling sets in and is complete.

Before open background the outlines and gaps of uncut objects come to 0.010; a room has none (up to 0.0015 uncut)."""
ROOM = (0.85, 0.95)
"""Mean wanted coverage from which a picture is more and more taken for one of a room, without open background."""
PEPPERED = (0.04, 0.08)
"""The same share around a pixel, from which wide gaps there are closed too."""
AROUND = 4
"""Level at whose cells the share around a pixel is taken, over 5 x 5 of them: about 80 pixels."""
SOLID = 2.0
"""A wide gap may lean on cells that are covered to one part in this."""
SATURATION = 2.0
"""A cell's own colour counts in full from a mean coverage of one part in this; below, wider surroundings help out."""


class InpaintRestorer:
    """Restorer without weights."""

    name = "inpaint"
    label = "Restored (push-pull fill)"

    def restore(
        self, output: RenderOutput, settings: RestoreSettings, stale: Stale = never, retention: float | None = None
    ) -> Tensor | None:
        """See Restorer: `filled`."""
        return filled(output, stale, settings.strength)


def open() -> InpaintRestorer:
    """The push-pull fill works everywhere."""
    return InpaintRestorer()


@torch.no_grad()
def filled(output: RenderOutput, stale: Stale = never, strength: float = 1.0) -> Tensor | None:
    """[H, W, 3] in [0, 1]: the picture with its holes closed; None if it went stale on the way.

    Pixels with alpha 1, and pictures that are not peppered with holes, come back unchanged.
    """
    coverage = pyramid(output.alpha[None, None])
    added = strength * missing_coverage(coverage)  # [1, 1, H, W]
    if stale():
        return None
    if not added.any():
        return output.color
    behind = output.color.new_tensor(output.background)[:, None, None]
    color = output.color.permute(2, 0, 1)[None]  # [1, 3, H, W]
    fill = surroundings(color - (1 - coverage[0]) * behind, coverage, stale)
    if fill is None:
        return None
    return (color + added * (fill - behind)).clamp(0, 1)[0].permute(1, 2, 0)


def pyramid(alpha: Tensor) -> list[Tensor]:
    """[1, 1, H, W] and its means over 2 x 2 pixels, level by level, down to one pixel."""
    levels = [alpha]
    while max(levels[-1].shape[2:]) > 1:
        levels.append(halved(levels[-1]))
    return levels


def missing_coverage(coverage: list[Tensor]) -> Tensor:
    """[1, 1, H, W] in [0, 1 - alpha]. What each pixel lacks to the coverage that it should have."""
    alpha = coverage[0]
    octave = round(math.log2(max(1, alpha.shape[2]) / HEIGHT))
    last = len(coverage) - 1
    pepper, narrow, wide, around = (
        min(max(1, level + octave), last) for level in (PEPPER_LEVELS, NARROW_LEVELS, WIDE_LEVEL, AROUND)
    )
    if last < 1:
        return torch.zeros_like(alpha)
    base = coverage[1]  # everything coarse is done from half the resolution on
    fine = closed_up_to(coverage, pepper)
    lost, wanted = (fine - base).clamp(min=0), torch.maximum(fine, base)
    thinned = _how_thinned(lost, wanted)
    if thinned == 0:
        return torch.zeros_like(alpha)
    peppered = _raised(_step(_share_around(lost, wanted, around), PEPPERED), coverage, around, 1)
    leaned = (SOLID * coverage[wide]).clamp(max=1)
    gaps = _raised(F.avg_pool2d(_closed(leaned, WIDE_REACH), 3, 1, 1, count_include_pad=False), coverage, wide, 1)
    close = closed_up_to(coverage, narrow)
    target = close + peppered * (gaps - close).clamp(min=0)
    return thinned * (enlarged(target, alpha).clamp(max=1) - alpha).clamp(min=0)  # rounding may pass 1


def closed_up_to(coverage: list[Tensor], level: int) -> Tensor:
    """At level 1, the largest of the closings by one cell of levels 1 to `level`."""
    closings = [_closed(coverage[i], 1) for i in range(level, 0, -1)]
    return reduce(lambda coarse, fine: torch.maximum(enlarged(coarse, fine), fine), closings)


def surroundings(color: Tensor, coverage: list[Tensor], stale: Stale) -> Tensor | None:
    """[1, 3, H, W]. For each pixel the colour of what covers its surroundings; None if it went stale on the way.

    `color` is premultiplied by alpha. Pull: average the covered colour of 2 x 2 pixels, counting little coverage as
    more. Push: where a cell is covered too thinly, its coarser cell helps out.
    """
    levels = []
    alpha = coverage[0]
    for _ in coverage[1:]:
        if stale():
            return None
        color, alpha = halved(color), halved(alpha)
        more = (SATURATION * alpha).clamp(max=1) / alpha.clamp(min=1e-6)
        color, alpha = color * more, alpha * more
        levels.append((color, alpha))
    filled = color / alpha.clamp(min=1e-6)
    for color, alpha in reversed(levels[:-1]):
        if stale():
            return None
        filled = color + (1 - alpha) * enlarged(filled, color)
    return enlarged(filled, coverage[0])


def _how_thinned(lost: Tensor, wanted: Tensor) -> Tensor:
    """Scalar in [0, 1]. Whether the picture is full of fine holes."""
    room = _step(wanted.mean(), ROOM)
    low, high = (outside + room * (inside - outside) for outside, inside in zip(THINNED, THINNED_ROOM, strict=True))
    return _step(lost.sum() / wanted.sum().clamp(min=1e-6), (low, high))


def _share_around(lost: Tensor, wanted: Tensor, level: int) -> Tensor:
    """Lost over wanted coverage in the neighbourhood, both given at level 1, at the cells of `level`."""
    for _ in range(level - 1):
        lost, wanted = halved(lost), halved(wanted)
    lost, wanted = (F.avg_pool2d(part, 5, 1, 2, count_include_pad=False) for part in (lost, wanted))
    return lost / wanted.clamp(min=1e-4)


def _closed(cells: Tensor, reach: int) -> Tensor:
    """Grey-scale closing: gaps up to 2 * reach cells wide rise to what lies on both sides.

    The erosion takes one cell more than the dilation gave, since a cell at an outline is only partly covered.
    """
    return -_largest(-_largest(cells, reach), reach + 1)


def _largest(cells: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` cells, horizontally, then vertically."""
    padded = F.pad(cells, (reach,) * 4, value=-math.inf)
    return _running_largest(_running_largest(padded, 2 * reach + 1, 3), 2 * reach + 1, 2)


def _running_largest(cells: Tensor, size: int, axis: int) -> Tensor:
    """The largest of each `size` cells that follow each other along `axis`, by doubling (max_pool2d is far slower)."""
    width = 1
    while width < size:
        shift = min(width, size - width)
        length = cells.shape[axis] - shift
        cells = torch.maximum(cells.narrow(axis, 0, length), cells.narrow(axis, shift, length))
        width += shift
    return cells


def _raised(cells: Tensor, coverage: list[Tensor], level: int, to: int) -> Tensor:
    """Cells of `level` enlarged octave by octave, which is smoother than at once."""
    for size in range(level - 1, to - 1, -1):
        cells = enlarged(cells, coverage[size])
    return cells


def halved(cells: Tensor) -> Tensor:
    """[..., H, W] -> [..., H / 2, W / 2], rounded up: means over 2 x 2 cells, or what is there of them."""
    return F.avg_pool2d(cells, 2, ceil_mode=True, count_include_pad=False)


def enlarged(cells: Tensor, like: Tensor) -> Tensor:
    """`cells` at the size of `like`, bilinearly between their centres."""
    return F.interpolate(cells, size=like.shape[2:], mode="bilinear", align_corners=False)


def _step(value: Tensor, bounds: tuple[float | Tensor, float | Tensor]) -> Tensor:
    """Smooth step from 0 at and below the lower bound to 1 at and above the upper one."""
    share = ((value - bounds[0]) / (bounds[1] - bounds[0])).clamp(0, 1)
    return share * share * (3 - 2 * share)
