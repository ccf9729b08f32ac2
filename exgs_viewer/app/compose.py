"""Single, split wipe, side by side, difference, trust: several pictures of one camera become ONE."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.scene.camera import Size
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud

# Five stops of a dark-to-bright map for depth: readable in grey, and for colour-blind eyes.
_STOPS = ((0.02, 0.02, 0.08), (0.30, 0.07, 0.48), (0.72, 0.21, 0.47), (0.99, 0.53, 0.38), (0.99, 0.99, 0.75))
TRUST_TOP = 64 / 255
"""Change of a colour from which the trust map is at its brightest."""
TRUST_SEEN = 8 / 255
"""Change from which it hides the picture below; less lets the picture through."""


def pane_sizes(size: Size, count: int) -> list[Size]:
    """`count` panes beside each other that fill `size` exactly."""
    width, height = size
    edges = [round(width * number / count) for number in range(count + 1)]
    return [(right - left, height) for left, right in pairwise(edges)]


def wipe(pictures: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Pictures [H, W, 3] -> [H, W, 3]: each up to its divider at a share of the width, the last one from there on."""
    width = pictures[0].shape[1]
    edges = [0, *(round(width * min(max(share, 0.0), 1.0)) for share in shares), width]
    return torch.cat([picture[:, a:b] for picture, (a, b) in zip(pictures, pairwise(edges), strict=True)], dim=1)


def side_by_side(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures [H, W_i, 3] of one height -> [H, sum of W_i, 3]."""
    return torch.cat(list(pictures), dim=1)


def enlarged(output: RenderOutput, size: Size) -> RenderOutput:
    """A picture drawn smaller, smoothly brought to `size`."""
    width, height = size
    if output.alpha.shape == (height, width):
        return output
    parts = torch.cat([output.color, output.alpha[..., None], output.depth[..., None]], dim=2).permute(
        2, 0, 1
    )  # [5, h, w]
    parts = torch.nn.functional.interpolate(parts[None], (height, width), mode="bilinear")[0].permute(1, 2, 0)
    return RenderOutput(parts[..., :3], parts[..., 3], parts[..., 4], output.background)


def difference(first: Tensor, second: Tensor, gain: float) -> Tensor:
    """[H, W, 3] twice -> [H, W, 3] in [0, 1]: absolute difference times `gain`."""
    return ((first - second).abs() * gain).clamp_(0, 1)


def trust(before: Tensor, after: Tensor) -> Tensor:
    """[H, W, 3] twice -> [H, W, 3]: how much each pixel was changed, as colours over the greyed picture.

    The amount is the mean absolute difference of the three display sRGB values, 0 to TRUST_TOP along the map.
    """
    amount = (after - before).abs().mean(2)  # [H, W]
    grey = 0.6 * (after @ after.new_tensor([0.2126, 0.7152, 0.0722]))[..., None].expand(-1, -1, 3)
    over = (amount / TRUST_SEEN).clamp(max=1)[..., None]
    return torch.lerp(grey, trust_color(amount), over)


def trust_color(amount: Tensor) -> Tensor:
    """[...] -> [..., 3]: the colour that stands for a change; the dark end of the map is left to the picture."""
    return coloured(0.2 + 0.8 * (amount / TRUST_TOP).clamp(0, 1))


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio of two pictures in [0, 1], dB; infinite where they are equal."""
    error = torch.mean((first - second) ** 2).item()
    return float("inf") if error == 0 else -10 * torch.log10(torch.tensor(error)).item()


def painted(output: RenderOutput, mode: str) -> Tensor:
    """[H, W, 3] in [0, 1]: what `mode` shows of a rendered picture; all but `alpha` and `depth` show its colours."""
    if mode == "alpha":
        return output.alpha[..., None].expand(-1, -1, 3)
    return depth_picture(output.depth, output.alpha) if mode == "depth" else output.color


def depth_picture(depth: Tensor, alpha: Tensor) -> Tensor:
    """[H, W] twice -> [H, W, 3]: near is bright, far is dark, nothing is black.

    Spread over nearness (1 / depth) between the 2 % and the 98 % quantile, which keeps floaters from eating the range.
    """
    seen = alpha > 0.05
    if not bool(seen.any()):
        return torch.zeros(*depth.shape, 3, device=depth.device)
    near = 1 / depth.clamp_min(1e-6)
    values = near[seen]
    values = values[:: max(1, len(values) // 50_000)]
    low, high = torch.quantile(values, torch.tensor([0.02, 0.98], device=depth.device))
    place = ((near - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return coloured(place) * (alpha * seen)[..., None]


def heat_map(ranked: GaussianCloud) -> GaussianCloud:
    """A cloud whose most significant Gaussians come first, coloured by that: bright ones stay longest (ExGS fig. 3)."""
    rank = torch.arange(len(ranked), device=ranked.device)
    return ranked.replaced(sh=((coloured(1 - (rank + 0.5) / len(ranked)) - 0.5) / SH_C0)[:, None])


def coloured(place: Tensor) -> Tensor:
    """[...] in [0, 1] -> [..., 3]: the colour of each place on the dark-to-bright map."""
    stops = torch.tensor(_STOPS, device=place.device)  # [5, 3]
    scaled = place * (len(_STOPS) - 1)
    lower = scaled.floor().clamp(0, len(_STOPS) - 2).long()
    part = (scaled - lower)[..., None]
    return stops[lower] * (1 - part) + stops[lower + 1] * part


def rgba(picture: Tensor) -> Tensor:
    """[H, W, 3] -> [H, W, 4] float32, contiguous, opaque: what a texture takes."""
    result = torch.ones(*picture.shape[:2], 4, device=picture.device)
    result[..., :3] = picture
    return result


def rgba_bytes(picture: Tensor) -> Tensor:
    """[H, W, 3] in [0, 1] -> [H, W, 4] uint8, contiguous, opaque, rounded to the nearest."""
    result = torch.full((*picture.shape[:2], 4), 255, dtype=torch.uint8, device=picture.device)
    result[..., :3] = (picture * 255 + 0.5).clamp_(0, 255)
    return result
