"""FlexGaussian's storage (Tian et al. 2025), as its paper and its program have it, to be compared with.

Written from the formulas; its figures are there to be beaten, so nothing is left out that helps it. The score by which
it prunes is LightGaussian's, see scores.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exgs_viewer.scene.cloud import GaussianCloud

SEGMENTS = 1000
"""Runs of Gaussians in which FlexGaussian quantises, each with bounds of its own."""
BOUNDS_BYTES = 8
"""Bytes of a segment's smallest value and step in one column, float32 each."""
LOGIT_LIMIT = 15.0
"""Opacities of exactly 0 and 1 have infinite logits, between which nothing could be quantised."""
HALF_MAX = 65504.0


def flexgaussian(cloud: GaussianCloud, bearing: int) -> tuple[GaussianCloud, int]:
    """What FlexGaussian's file gives back of a cloud, and the bytes it takes.

    The first `bearing` Gaussians keep their spherical harmonics, the others only the constant colour. Positions are
    float16; constant colour, log-scales and rotations int8; the opacity's logit int4; higher harmonics int4. There is
    no entropy coder.
    """
    colour = _quantised(cloud.sh[:, 0], 8)
    scales = _quantised(cloud.scales.log(), 8)
    quats = _quantised(torch.nn.functional.normalize(cloud.quats, dim=1), 8)
    logits = _quantised(torch.logit(cloud.opacities.double()).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None], 4)
    rest = _quantised(cloud.sh[:bearing, 1:].flatten(1), 4)
    sh = torch.zeros_like(cloud.sh)
    sh[:, 0] = colour.values
    sh[:bearing, 1:] = rest.values.unflatten(1, (-1, 3))
    decoded = GaussianCloud(
        means=cloud.means.clamp(-HALF_MAX, HALF_MAX).half().float(),
        scales=scales.values.exp(),
        quats=torch.nn.functional.normalize(quats.values, dim=1),
        opacities=logits.values[:, 0].sigmoid(),
        sh=sh,
    )
    return decoded, len(cloud) * 3 * 2 + sum(part.bytes for part in (colour, scales, quats, logits, rest))


@dataclass(frozen=True, eq=False)
class _Quantised:
    """Columns after a round trip through few bits."""

    values: Tensor
    """[M, C] float32."""
    bytes: int
    """Of the codes and of the bounds of all segments."""


def _quantised(values: Tensor, bits: int) -> _Quantised:
    """Round each column [M, C] to 2^bits even steps between the smallest and the largest value of each segment."""
    rows = values.cpu().double().numpy()
    count, columns = rows.shape
    if count == 0 or columns == 0:
        return _Quantised(values.float(), 0)
    starts = _segment_starts(count)
    lengths = np.diff(np.append(starts, count))
    low = np.minimum.reduceat(rows, starts).astype(np.float32)  # [S, C]
    step = ((np.maximum.reduceat(rows, starts) - low) / (2**bits - 1)).astype(np.float32)
    low, step = (np.repeat(bounds, lengths, axis=0) for bounds in (low, step))  # [M, C]
    codes = np.rint((rows - low) / np.where(step > 0, step, 1)).clip(0, 2**bits - 1)
    size = columns * (-(-count * bits // 8) + len(starts) * BOUNDS_BYTES)
    return _Quantised(torch.from_numpy((low + codes * step).astype(np.float32)).to(values.device), size)


def _segment_starts(count: int) -> NDArray[np.int64]:
    """First row of each of SEGMENTS runs of `count` rows, of equal length to within one; fewer where rows are few."""
    segments = min(SEGMENTS, count)
    return np.arange(segments, dtype=np.int64) * count // segments
