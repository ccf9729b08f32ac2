"""What pruning took from around each Gaussian that it kept, as numbers that a network can read.

Every dropped Gaussian is given to the nearest kept one. Of these groups come ratios and shapes: how much was dropped
compared with what stays, how far it reaches along each axis, how alike its colour is. Nothing depends on where the
scene lies, how it is turned, or on its unit of length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exgs_viewer.compress import surroundings_steps as steps
from exgs_viewer.compress.merge import opaque_area, transmittance, visible_weight
from exgs_viewer.compress.neighbours import nearest, nearest_to, spatial_tree
from exgs_viewer.render import Significance
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud

SHARED, ALONG = 16, 4
"""Features of a Gaussian as a whole, and of each of its axes."""
NEIGHBOURS = 6
"""Kept ones around each that tell how far apart they are now."""
LIGHT = 0.01
"""Dropped Gaussians below this share of their mean weight are left out; half of a room is that light."""
LIMIT = 6.0
"""Features are limited to this on both sides: most are logarithms."""


@dataclass(frozen=True, eq=False)
class Matter:
    """What is known of each Gaussian of a scene beside its parameters, made once for all retentions."""

    weight: NDArray[np.float64]
    """[N] > 0. Summed blending weight; small by area where nobody looked."""
    area: NDArray[np.float64]
    """[N]. Opaque area, world units^2."""
    through: NDArray[np.float32]
    """[N] in (0, 1]. Mean transmittance in front of it."""
    peak: NDArray[np.float32]
    """[N] in [0, 1]. Largest blending weight at any pixel."""

    @staticmethod
    def of(cloud: GaussianCloud, seen: Significance) -> Matter:
        return Matter(visible_weight(cloud, seen), opaque_area(cloud), transmittance(seen), seen.peak.cpu().numpy())


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Features of M kept Gaussians."""

    shared: Tensor
    """[M, SHARED] float32 in [-LIMIT, LIMIT]."""
    along: Tensor
    """[M, 3, ALONG] float32 in [-LIMIT, LIMIT], one row for each axis."""
    lost: Tensor
    """[M] float32 in [0, 1]. Share of the blending weight here and at the neighbours that was dropped."""

    def take(self, index: Tensor | slice) -> Surroundings:
        """The features of some."""
        return Surroundings(self.shared[index], self.along[index], self.lost[index])


def look_around(cloud: GaussianCloud, matter: Matter, kept: Tensor) -> Surroundings:
    """Features of the Gaussians `kept` [M] int64 of a scene from which all others were dropped, in that order."""
    kept = kept.cpu().numpy()
    names = ("means", "scales", "quats", "opacities")
    means, scales, quats, opacities = (getattr(cloud, name).cpu().numpy() for name in names)
    order, cuts, axes = spatial_tree(np.ascontiguousarray(means[kept]))
    index = kept[order]
    points = np.ascontiguousarray(means[index])
    dropped = _dropped(matter.weight, kept)
    owner = nearest_to(np.ascontiguousarray(means[dropped]), points, cuts, axes)
    colors = cloud.sh[:, 0].cpu().numpy() * np.float32(SH_C0)
    sums = steps.gather(
        means, scales, quats, opacities, colors, matter.weight, matter.area, dropped, index, owner
    )  # [M, COLUMNS]
    own = np.stack([matter.weight[index], matter.area[index]], 1)
    near = nearest(points, cuts, axes, NEIGHBOURS)
    spacing, pooled = steps.around(points, quats[index], np.concatenate([sums[:, :2], own], 1), near)
    known = _Known(scales[index].astype(np.float64), opacities[index], own, sums, spacing, pooled)
    shared, along = _shared(known, matter, index), _along(known)
    lost = pooled[:, 0] / (pooled[:, 0] + pooled[:, 2])
    back = np.empty_like(order)
    back[order] = np.arange(len(order), dtype=order.dtype)
    limited = (np.clip(np.nan_to_num(part), -LIMIT, LIMIT).astype(np.float32) for part in (shared, along, lost))
    return Surroundings(*(torch.from_numpy(part[back]) for part in limited))


@dataclass(frozen=True, eq=False)
class _Known:
    """What the features are made of, for M kept Gaussians in the order of their tree."""

    scales: NDArray[np.float64]
    opacities: NDArray[np.float32]
    own: NDArray[np.float64]
    """[M, 2]. Weight and area."""
    sums: NDArray[np.float64]
    """[M, COLUMNS] of surroundings_steps."""
    spacing: NDArray[np.float64]
    """[M, 3]. Mean squared offset of the neighbours along each axis."""
    pooled: NDArray[np.float64]
    """[M, 4]. Weight and area that were dropped, weight and area that stay, of it and its neighbours."""


def _dropped(weight: NDArray[np.float64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """What was dropped and may be missed."""
    gone = np.ones(len(weight), np.bool_)
    gone[kept] = False
    if not gone.any():
        return np.empty(0, np.int64)
    return np.nonzero(gone & (weight >= LIGHT * weight[gone].mean()))[0]


def _shared(known: _Known, matter: Matter, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """[M, SHARED]. Logarithms of ratios, shares, and logits."""
    sums, own, pooled = known.sums, known.own, known.pooled
    weight = np.maximum(sums[:, steps.WEIGHT], 1e-300)
    has = sums[:, steps.WEIGHT] > 0
    spread = sums[:, steps.SPREAD : steps.SPREAD + 3].sum(1)
    offset = (sums[:, steps.OFFSET : steps.OFFSET + 3] ** 2).sum(1) / weight
    opacity = np.clip(known.opacities, 0.003, 0.997)
    ordered = np.sort(known.scales, axis=1)
    size = np.log(ordered[:, 2])
    everything = matter.weight.sum()
    parts = [
        np.log1p(_ratio(sums[:, steps.WEIGHT], own[:, 0])),
        np.log1p(_ratio(sums[:, steps.AREA], own[:, 1])),
        np.log1p(sums[:, steps.COUNT]),
        np.log1p(_ratio(pooled[:, 0], pooled[:, 2])),
        np.log1p(_ratio(pooled[:, 1], pooled[:, 3])),
        np.log1p(_ratio(pooled[:, 0], own[:, 0])),
        np.log(opacity / (1 - opacity)),
        10 * np.sqrt(sums[:, steps.COLOR] / weight) * has,
        np.sqrt(_ratio(offset, spread)) * has,
        np.log(ordered[:, 1]) - size,
        np.log(ordered[:, 0]) - size,
        0.5 * np.log(np.maximum(known.spacing.sum(1), 1e-300)) * (known.spacing.sum(1) > 0) - size,
        np.log(matter.through[index]),
        np.log(np.maximum(matter.peak[index], 1e-3)),
        sums[:, steps.OPAQUE] / weight * has,
        np.full(len(index), np.log10(max(1 - own[:, 0].sum() / everything, 1e-6))),
    ]
    # Where there is no neighbour, the distance to it is unknown, not a matter of the unit of length.
    parts[11] = np.where(known.spacing.sum(1) > 0, parts[11], 0.0)
    return np.stack(parts, 1)


def _along(known: _Known) -> NDArray[np.float64]:
    """[M, 3, ALONG]. For each axis: how long it is, and in units of its length how far the group reaches, how far
    the neighbours are and how large its members are, all as logarithms."""
    variance = np.maximum(known.scales**2, 1e-300)
    own, sums = known.own[:, :1], known.sums
    spread, size = sums[:, steps.SPREAD : steps.SPREAD + 3], sums[:, steps.SIZE : steps.SIZE + 3]
    weight = sums[:, steps.WEIGHT, None]
    grown = (own * variance + spread + size) / ((own + weight) * variance)
    parts = [
        variance / variance.max(1, keepdims=True),
        grown,
        np.where(known.spacing > 0, known.spacing / variance, 1.0),
        np.where(weight > 0, size / (np.maximum(weight, 1e-300) * variance), 1.0),
    ]
    return 0.5 * np.log(np.maximum(np.stack(parts, 2), 1e-30))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return part / np.maximum(whole, 1e-300)
