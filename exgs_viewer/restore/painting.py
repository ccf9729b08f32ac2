"""A painter as Restorer: any size of picture, tile by tile, dropped between parts once nobody wants it.

Pictures are padded on the right and at the bottom to a lattice of LATTICE pixels, so that the same pixel meets the
same cell of the latent whatever the window's size. Sides above the first of TILES are cut into overlapping tiles that
fade into each other, which bounds the memory.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Stale, never
from exgs_viewer.restore.inpaint import filled
from exgs_viewer.settings import RestoreSettings

if TYPE_CHECKING:  # diffusers takes two seconds to import; tables and tests of values need not wait for it.
    from exgs_viewer.restore.graphs import Graphs
    from exgs_viewer.restore.painter import Frames, Painter

LATTICE = 32
"""Pixels: a latent cell times what the UNets of both presets halve on their way down."""
LEAST = 64
"""Pixels that the shorter side is padded to at least: the UNet's coarsest level must hold more than one cell."""
TILES = (768, 512, 256)
"""Longest side that is painted at once, pixels: the first, and what it falls back to where memory runs out."""
OVERLAP = 64
"""Pixels over which neighbouring tiles fade into each other."""
SHORT = ", in pieces of"
"""How what a label says of short memory begins."""
USUAL_RETENTION = 0.1
"""Taken where nobody says how much was kept."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class PainterRestorer:
    """Restorer with a trained painter."""

    painter: Painter
    """In evaluation mode, on the device and in the precision that it works in."""
    name: str
    label: str
    graphs: Graphs | None = None
    """Where it paints in one go; None where it asks in between whether the picture is still wanted."""
    _tile: int = field(default=TILES[0], init=False)

    @torch.no_grad()
    def restore(
        self, output: RenderOutput, settings: RestoreSettings, stale: Stale = never, retention: float | None = None
    ) -> Tensor | None:
        """See Restorer. Where nothing was left out, the picture comes back as it is."""
        return self.averaged([output], settings, stale, retention)

    @torch.no_grad()
    def averaged(
        self,
        outputs: Sequence[RenderOutput],
        settings: RestoreSettings,
        stale: Stale = never,
        retention: float | None = None,
    ) -> Tensor | None:
        """The first of `outputs` restored, its latent the mean of all of theirs: for a camera that rests.

        The others are the same view moved by parts of a pixel, so that what hangs on the lattice of the latent, and on
        how edges meet the pixels, averages out. All are of one size.
        """
        output, image = outputs[0], outputs[0].color
        if retention == 1 or settings.strength == 0:
            return image
        seen = []
        for each in map(over_black, outputs):
            fill = filled(each, stale)
            if fill is None:
                return None
            seen.append(frames(each, fill, retention))
        fill = seen[0].fill[0].movedim(0, 2)
        shown = filled(output, stale) if any(output.background) else fill
        decoded = None if shown is None else self._decoded(seen, stale)
        if decoded is None:
            return None
        restored = self._composed(decoded, image, shown, fill)
        return (image + settings.strength * (restored - image)).clamp(0, 1)

    def _composed(self, decoded: Tensor, image: Tensor, shown: Tensor, fill: Tensor) -> Tensor:
        """[H, W, 3] over the real background, which the painter never sees; `shown` is the fill over it.

        In full precision: where the painter has nothing to say, not a bit changes.
        """
        if self.painter.config.residual:
            pictures = (picture.movedim(2, 0)[None] for picture in (image, shown))
            return self.painter.composed(decoded[None], *pictures)[0].movedim(0, 2)
        return shown + (decoded.movedim(0, 2) - fill)

    def _decoded(self, seen: Sequence[Frames], stale: Stale) -> Tensor | None:
        """[C, H, W]. What the decoder says, float32; None once stale. In smaller tiles where memory runs out."""
        while True:
            try:
                return self._in_tiles(seen, self._tile, stale)
            except (RuntimeError, MemoryError) as error:
                smaller = next((size for size in TILES if size < self._tile), None)
                if smaller is None or not ran_out(error):
                    raise
            self._fall_back(smaller)

    def _fall_back(self, tile: int) -> None:
        """Work with less memory from now on, and say so."""
        self.label = f"{self.label.partition(SHORT)[0]}{SHORT} {tile} pixels for want of memory"
        self._tile = tile
        _log.warning("Memory ran out; '%s' paints in pieces of %d pixels from now on.", self.name, tile)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _in_tiles(self, seen: Sequence[Frames], tile: int, stale: Stale) -> Tensor | None:
        whole = seen[0]
        height, width = whole.color.shape[2:]
        total = whole.color.new_zeros(self.painter.config.told, height, width)
        weight = whole.color.new_zeros(height, width)
        for window in tiles(height, width, tile):
            decoded = self._painted(seen, window, stale)
            if decoded is None:
                return None
            share = fade(window, (height, width)).to(decoded)
            total[(..., *window)] += decoded * share
            weight[window] += share
        return total / weight

    def _painted(self, seen: Sequence[Frames], window: tuple[slice, slice], stale: Stale) -> Tensor | None:
        """[C, h, w] of one window, asking between encoder, UNet and decoder whether it is still wanted."""
        painter, first = self.painter, next(self.painter.parameters())
        part = _part(seen[0], window, first)
        height, width = (side.stop - side.start for side in window)
        if stale():
            return None
        if self.graphs is not None and len(seen) == 1:
            return self.graphs.decoded(part)[0, :, :height, :width].to(seen[0].color)
        latent, skips = painter.encode(part)
        if stale():
            return None
        latent = painter.denoise(latent, part)
        for other in seen[1:]:
            if stale():
                return None
            part = _part(other, window, first)
            latent = latent + painter.denoise(painter.encode(part)[0], part)
        if stale():
            return None
        return painter.decode(latent / len(seen), skips)[0, :, :height, :width].to(seen[0].color)


def ready(painter: Painter, name: str, label: str) -> PainterRestorer:
    """A painter as it was loaded, made ready to work here: placed, its constants folded, on a GPU with graphs."""
    from exgs_viewer.restore import weights
    from exgs_viewer.restore.graphs import Graphs

    painter = weights.placed(painter)
    return PainterRestorer(painter, name, label, Graphs(painter) if torch.cuda.is_available() else None)


def ran_out(error: Exception) -> bool:
    """Whether it says that memory ran out; on the CPU torch says so in words only."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def over_black(output: RenderOutput) -> RenderOutput:
    """The same picture without its background."""
    behind = output.color.new_tensor(output.background)
    return replace(output, color=output.color - (1 - output.alpha[..., None]) * behind, background=(0.0, 0.0, 0.0))


def frames(black: RenderOutput, fill: Tensor, retention: float | None) -> Frames:
    """A picture over black, its `fill` [H, W, 3] and what else is known of it, as the network takes it."""
    from exgs_viewer.restore.painter import Frames

    pictures = (part.movedim(2, 0)[None] for part in (black.color, fill))
    kept = black.color.new_tensor([USUAL_RETENTION if retention is None else retention])
    return Frames(*pictures, black.alpha[None, None], relative_depth(black.depth)[None, None].to(black.alpha), kept)


def relative_depth(depth: Tensor) -> Tensor:
    """[H, W] in [0, 1): distance d as d / (d + median); 0 where nothing is."""
    solid = depth > 0
    middle = depth[solid].median() if solid.any() else depth.new_ones(())
    return depth / (depth + middle)


def tiles(height: int, width: int, longest: int = TILES[0]) -> list[tuple[slice, slice]]:
    """Windows that cover the picture, each at most `longest` on a side and beginning on the lattice."""
    return [(y, x) for y in _spans(height, longest) for x in _spans(width, longest)]


def fade(window: tuple[slice, slice], size: tuple[int, int]) -> Tensor:
    """[h, w] > 0. Weight of a tile: 1 inside, falling where another tile overlaps it."""
    down, along = (_ramp(span, length) for span, length in zip(window, size, strict=True))
    return down[:, None] * along


def _spans(length: int, longest: int) -> list[slice]:
    if length <= longest:
        return [slice(0, length)]
    count = math.ceil((length - OVERLAP) / (longest - OVERLAP))
    step = (length - longest) / (count - 1)
    starts = [math.ceil(step * number / LATTICE) * LATTICE for number in range(count)]
    return [slice(start, min(start + longest, length)) for start in starts]


def _ramp(span: slice, length: int) -> Tensor:
    """Linear over OVERLAP pixels at each end that is not the picture's own."""
    size = span.stop - span.start
    place = torch.arange(size) + 0.5
    rise = place / OVERLAP if span.start > 0 else torch.ones(size)
    fall = (size - place) / OVERLAP if span.stop < length else torch.ones(size)
    return torch.minimum(rise, fall).clamp(max=1)


def _part(whole: Frames, window: tuple[slice, slice], like: Tensor) -> Frames:
    """A window of all pictures, padded to the lattice with its outermost pixels, as `like` in device and type."""
    from exgs_viewer.restore.painter import Frames

    height, width = (side.stop - side.start for side in window)
    down, along = (max(LEAST, side + -side % LATTICE) - side for side in (height, width))

    def cut(picture: Tensor) -> Tensor:
        padded = F.pad(picture[(..., *window)], (0, along, 0, down), mode="replicate")
        return padded.to(like.device, like.dtype).contiguous(memory_format=torch.channels_last)

    pictures = (cut(picture) for picture in (whole.color, whole.fill, whole.alpha, whole.depth))
    return Frames(*pictures, whole.retention.to(like.device))
