"""What went into each merged Gaussian, as numbers that a network can read (ExGS eq. 10, for merging).

A merged Gaussian has the moments and the visibility of its members, but cannot show what was between and behind them:
how unlike they were, how far apart, how much of its neighbours it now lies on. Nothing here depends on where the scene
lies, how it is turned, or on its unit of length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from exgs_viewer.compress import fold_steps
from exgs_viewer.compress import surroundings_steps as steps
from exgs_viewer.compress.fold import Folded, Members
from exgs_viewer.compress.merge import exposure, opaque_area
from exgs_viewer.compress.neighbours import nearest, spatial_tree
from exgs_viewer.compress.surroundings import LIMIT, NEIGHBOURS, Surroundings
from exgs_viewer.render import Significance
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud

TINY = 1e-300
"""Keeps quotients and logarithms finite."""


def look_within(
    scene: GaussianCloud, seen: Significance, members: Members, folded: Folded, cloud: GaussianCloud, views: int
) -> Surroundings:
    """Features of the groups of `folded`, which calibration has made into `cloud`; `views` have `seen` the scene.

    What the network answers counts in full for every group, also for those of one: `lost` is 1.
    """
    group, weight = folded.group, fold_steps.total(folded.group, members.weight, len(cloud))
    some = np.nonzero(group >= 0)[0]
    peak = np.zeros(len(cloud), np.float32)
    np.maximum.at(peak, group[some], seen.peak.cpu().numpy()[some])
    through = fold_steps.total(group, members.weight * members.through, len(cloud)) / np.maximum(weight, TINY)
    known = _Known(cloud, folded, opaque_area(cloud), _sums(scene, members, folded, cloud, weight), peak, through)
    spacing, crowd, contrast = _neighbourhood(known)
    shared, along = _shared(known, views, spacing, crowd, contrast), _along(known, spacing)
    limited = (np.clip(np.nan_to_num(part), -LIMIT, LIMIT).astype(np.float32) for part in (shared, along))
    return Surroundings(*map(torch.from_numpy, limited), torch.ones(len(cloud)))


@dataclass(frozen=True, eq=False)
class _Known:
    """What the features of K groups are made of."""

    cloud: GaussianCloud
    """After calibration."""
    folded: Folded
    """Before it."""
    area: NDArray[np.float64]
    """[K]. Opaque area after it, world units^2."""
    sums: NDArray[np.float64]
    """[K, COLUMNS] of surroundings_steps, over the members."""
    peak: NDArray[np.float32]
    """[K] in [0, 1]. Largest blending weight of a member at any pixel."""
    through: NDArray[np.float64]
    """[K] in [0, 1]. Mean transmittance in front of the members."""

    @property
    def scales(self) -> NDArray[np.float64]:
        """[K, 3]. World units."""
        return self.cloud.scales.double().cpu().numpy()


def _sums(
    scene: GaussianCloud, members: Members, folded: Folded, cloud: GaussianCloud, weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[K, COLUMNS] of surroundings_steps: of the members of each group, along the group's own axes."""
    names = ("means", "scales", "quats", "opacities")
    arrays = [np.concatenate([getattr(part, name).cpu().numpy() for part in (scene, cloud)]) for name in names]
    colors = np.concatenate([_colors(part) for part in (scene, cloud)])
    weights = np.concatenate([members.weight, weight])
    area = np.concatenate([opaque_area(scene), opaque_area(cloud)])
    some, groups = np.nonzero(folded.group >= 0)[0], np.arange(len(scene), len(scene) + len(cloud))
    return steps.gather(*arrays, colors, weights, area, some, groups, folded.group[some])


def _neighbourhood(known: _Known) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """spacing [K, 3] of surroundings_steps.around; opaque area [K] with that of the neighbours; root mean square
    difference [K] of their colours from one's own."""
    means, quats = (value.cpu().numpy() for value in (known.cloud.means, known.cloud.quats))
    order, cuts, axes = spatial_tree(means)
    points, colors = np.ascontiguousarray(means[order]), _colors(known.cloud)[order]
    near = nearest(points, cuts, axes, NEIGHBOURS)  # [K, NEIGHBOURS], -1 for none
    spacing, pooled = steps.around(points, quats[order], known.area[order, None], near)
    there = near >= 0
    apart = ((colors[near] - colors[:, None]) ** 2).sum(2) * there
    contrast = np.sqrt(apart.sum(1, dtype=np.float64) / np.maximum(there.sum(1), 1))
    back = np.argsort(order)
    return spacing[back], pooled[back, 0], contrast[back]


def _shared(
    known: _Known,
    views: int,
    spacing: NDArray[np.float64],
    crowd: NDArray[np.float64],
    contrast: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[K, SHARED]. Logarithms of ratios, shares, and logits."""
    sums, area = known.sums, np.maximum(known.area, TINY)
    weight = np.maximum(sums[:, steps.WEIGHT], TINY)
    wanted = known.folded.wanted.double().cpu().numpy()
    ordered = np.sort(known.scales, axis=1)
    size = np.log(np.maximum(ordered[:, 2], TINY))
    before, after = (
        np.clip(cloud.opacities.double().cpu().numpy(), 0.003, 0.997) for cloud in (known.folded.cloud, known.cloud)
    )
    away = spacing.sum(1)
    parts = [
        np.log(np.maximum(sums[:, steps.COUNT], 1)),
        sums[:, steps.COUNT] <= 1,
        np.log(after / (1 - after)),
        np.log(after / before),
        10 * contrast,
        np.log1p(wanted / views),
        np.log((exposure(known.cloud, known.folded.wanted) + 1) / (wanted + 1)),
        10 * np.sqrt(sums[:, steps.COLOR] / weight),
        sums[:, steps.OPAQUE] / weight,
        np.log(np.maximum(ordered[:, 1], TINY)) - size,
        np.log(np.maximum(ordered[:, 0], TINY)) - size,
        np.log(np.maximum(known.through, 1e-3)),
        np.log(np.maximum(known.peak, 1e-3)),
        np.log(np.maximum(sums[:, steps.AREA], TINY) / area),
        # Where there is no neighbour, the distance to it is unknown, not a matter of the unit of length.
        np.where(away > 0, 0.5 * np.log(np.maximum(away, TINY)) - size, 0.0),
        np.log(np.maximum(crowd, TINY) / area / (1 + NEIGHBOURS)),
    ]
    return np.stack(parts, 1)


def _along(known: _Known, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, 3, ALONG]. For each axis: how long it is, and in units of its length how far the neighbours are, how far
    apart the members and how large they are, all as logarithms."""
    sums, variance = known.sums, np.maximum(known.scales**2, TINY)
    weight = np.maximum(sums[:, steps.WEIGHT, None], TINY)
    spread, size = sums[:, steps.SPREAD : steps.SPREAD + 3], sums[:, steps.SIZE : steps.SIZE + 3]
    parts = [
        variance / variance.max(1, keepdims=True),
        np.where(spacing > 0, spacing / variance, 1.0),
        spread / weight / variance + 1e-6,
        size / weight / variance + 1e-6,
    ]
    return 0.5 * np.log(np.maximum(np.stack(parts, 2), 1e-30))


def _colors(cloud: GaussianCloud) -> NDArray[np.float32]:
    """[N, 3]. Constant colours but for an offset."""
    return cloud.sh[:, 0].cpu().numpy() * np.float32(SH_C0)
