"""One nested order of a scene in which Gaussians merge instead of being dropped: a greedy tree of pair merges.

First the tail goes that no view misses; then, one pair at a time, those two neighbours that a visitor would miss least
become one. Any number of Gaussians is a cut through that history, so a slider only decides how much of it applies.

A merge costs what it changes in the picture, estimated from the members' blending weights w (research/folding.md):

    cost = h ( |colour_i - colour_j|^2 + SHAPE min(M, CAP) ),    h = (e_i w_j^2 + e_j w_i^2) / (w_i + w_j)^2,
    M = d^T (C_i + C_j + SLACK tr(C_i + C_j) I)^-1 d

with d the distance of the centres, C the covariances, e = w sqrt(peak weight) + EXPOSED x the error weight: squared
error grows with the square of the weight in each pixel; x is what visitors from everywhere would see (`exposure`).
Without that, what no view saw would merge for nothing, over any distance, and then stand in everybody's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from exgs_viewer.compress import merge_steps as steps
from exgs_viewer.compress import scores
from exgs_viewer.compress.cache import key_of, recall, remember
from exgs_viewer.compress.neighbours import nearest, spatial_tree
from exgs_viewer.compress.select import POPULATED, group_voxels, voxel_edge
from exgs_viewer.render import Significance
from exgs_viewer.scene.camera import Camera
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.scene.streams import in_threads
from exgs_viewer.settings import Report, quiet

TAIL = 3e-4
"""Share of all blending weight that is dropped before the first merge; half of a room is this light."""
NEIGHBOURS = 10
"""Candidates that each Gaussian may merge with."""
UNSEEN = 1e-3
"""Weight of what no view sees, by opaque area, against what is seen: the chance that somebody looks there after all."""
EXPOSED = 0.05
"""What counts of a Gaussian's exposure as error weight: visitors stand elsewhere than the views did. Measured on seven
scenes from cameras of their own, a tenth kept, polished: +0.7 dB in the mean against none, 0.1 is as good."""
SMALLEST = 0.005
"""Share of the Gaussians below which the tree need not reach: half of the smallest retention."""
REPRESENTATIVES = 0.1
"""Largest part of a budget that goes to voxels of which the merges leave nothing."""
CACHE_FILES = 16
"""Scenes whose trees are remembered: at most 16 bytes a Gaussian each."""
VERSION = "tree-2"
"""Part of the cache key: other costs must not find this tree."""
WORDS = "Merging what looks alike"
CHUNK = 1 << 16
"""Merges between two reports."""
REGIONS = 32
"""Parts of space in which merges go on side by side. Fixed, so that the tree is the same on every machine."""
SIDE_BY_SIDE = 1 << 17
"""Nodes from which on that pays."""
TOGETHER = 0.2
"""Share of the nodes that are left when regions end and everything merges with everything."""
STEP = 1.5
"""What a merge may cost in all regions grows by this factor at a time."""


@dataclass(frozen=True, eq=False)
class MergeTree:
    """The history by which N Gaussians become ever fewer."""

    order: NDArray[np.int32]
    """[N]. All Gaussians by weight, heaviest first; the first `len(leaves)` of them take part in merges."""
    leaves: NDArray[np.int32]
    """[L]. The Gaussians that the merges are about, in the order in which the merges number them."""
    merges: NDArray[np.int32]
    """[M, 2]. Pair by pair, first merge first: leaf `merges[m, 1]` and its group join the group of `merges[m, 0]`."""

    def moved(self, place: NDArray[np.int64]) -> MergeTree:
        """The same tree for a cloud in which Gaussian i lies at `place[i]` [N]."""
        place = place.astype(np.int32)
        return MergeTree(place[self.order], place[self.leaves], self.merges)

    @property
    def smallest(self) -> int:
        """Fewest groups that a cut can have."""
        return len(self.leaves) - len(self.merges)


def visible_weight(cloud: GaussianCloud, seen: Significance) -> NDArray[np.float64]:
    """[N] > 0. Summed blending weight, and for what nobody saw a small one by its exposure.

    None of these counts for more than the largest but 0.5 %.
    """
    weight, exposed = seen.weight.cpu().numpy().astype(np.float64), exposure(cloud, seen.weight)
    hidden = np.minimum(exposed, np.quantile(exposed, 0.995))
    return weight + UNSEEN * hidden + 1e-12 * max(1.0, weight.max())


def exposure(cloud: GaussianCloud, weights: Tensor) -> NDArray[np.float64]:
    """[N] in [0, 1e30]. The blending weight each would have if its opaque area were met as often as that of others.

    `weights` [N] are the summed blending weights that some views saw.
    """
    weight, area = weights.cpu().numpy().astype(np.float64), opaque_area(cloud)
    usual, met = np.minimum(area, np.quantile(area, 0.995)), weight > 0
    density = weight.sum() / max(usual[met].sum(), 1e-300) if met.any() else 1.0 / max(usual.max(), 1e-300)
    return np.minimum(density * area, 1e30)


def transmittance(seen: Significance) -> NDArray[np.float32]:
    """[N] in (0, 1]. Mean transmittance in front of each Gaussian."""
    weight, coverage = seen.weight.cpu().numpy(), seen.coverage.cpu().numpy()
    return np.clip(weight / np.maximum(coverage, 1e-9), 1e-3, 1).astype(np.float32)


def opaque_area(cloud: GaussianCloud) -> NDArray[np.float64]:
    """[N]. Opacity times the two longer axes, world units^2."""
    scales = cloud.scales.double().cpu().numpy()
    shortest = scales.min(1)
    return cloud.opacities.double().cpu().numpy() * scales.prod(1) / np.maximum(shortest, 1e-300)


def build_tree(cloud: GaussianCloud, seen: Significance, report: Report = quiet) -> MergeTree:
    """The whole history of a cloud on the CPU, down to SMALLEST of it."""
    report(0.0, WORDS)
    weight = visible_weight(cloud, seen)
    order = np.argsort(-weight, kind="stable").astype(np.int32)
    total = np.cumsum(weight[order])
    leaves = order[: min(len(cloud), int(np.searchsorted(total, (1 - TAIL) * total[-1])) + 1)]
    # Neighbours in space shall lie together in memory.
    leaves = leaves[spatial_tree(np.ascontiguousarray(cloud.means.cpu().numpy()[leaves]))[0]]
    peak = np.clip(seen.peak.cpu().numpy()[leaves], 1e-3, 1)
    errors = weight[leaves] * np.sqrt(peak) + EXPOSED * exposure(cloud, seen.weight)[leaves]
    nodes = steps.leaf_rows(*_arrays(cloud, leaves), weight[leaves], errors)
    return MergeTree(order, leaves, _merge(nodes, max(1, int(SMALLEST * len(cloud))), report))


def cached_tree(
    cloud: GaussianCloud, seen: Significance, cameras: Sequence[Camera], report: Report = quiet
) -> MergeTree:
    """The same as `build_tree`, remembered beside the scores; `seen` must be what `cameras` saw."""
    key = key_of(cloud, cameras, scores.SCORING_SIZE, f"{scores.VERSION} {VERSION}")
    found = recall("trees", key, 3)
    if found is not None:
        return MergeTree(*found)
    tree = build_tree(cloud, seen, report)
    remember("trees", key, [tree.order, tree.leaves, tree.merges], CACHE_FILES)
    return tree


@dataclass(frozen=True, eq=False)
class Voxels:
    """Which cube of space each Gaussian lies in."""

    number: NDArray[np.int32]
    """[N]. The voxel of each Gaussian."""
    by_population: NDArray[np.int64]
    """The voxels with enough points, the most populated first."""

    @staticmethod
    def of(cloud: GaussianCloud, voxel_size: float, size_of_scene: float) -> Voxels:
        edge = voxel_edge(size_of_scene, voxel_size)
        number, _, population = group_voxels(cloud.means.cpu().numpy(), edge)
        order = np.argsort(-population, kind="stable")
        return Voxels(number, order[population[order] >= POPULATED])


def cut(tree: MergeTree, count: int, voxels: Voxels | None = None) -> NDArray[np.int32]:
    """[N] group of every Gaussian, -1 where it is dropped; exactly `count` groups, as far as the tree reaches.

    Where the cut leaves nothing of a populated voxel, what was dropped there becomes one group: no part of a scene
    vanishes because no view looked at it. Such groups take up to REPRESENTATIVES of the budget.
    More groups than there are leaves: that many of the heaviest Gaussians, each on its own.
    """
    if voxels is None:
        return _cut(tree, count)
    labels = _cut(tree, count)
    present = np.zeros(int(voxels.number.max()) + 1, np.bool_)
    present[voxels.number[labels >= 0]] = True
    lost = voxels.by_population[~present[voxels.by_population]][: int(REPRESENTATIVES * count)]
    if not len(lost):
        return labels
    # A smaller cut of the tree may lose more voxels, but never one of those that are lost already.
    labels = _cut(tree, count - len(lost))
    group = np.full(len(present), -1, np.int32)
    group[lost] = np.arange(count - len(lost), count, dtype=np.int32)
    return np.where(labels < 0, group[voxels.number], labels)


def _cut(tree: MergeTree, count: int) -> NDArray[np.int32]:
    labels = np.full(len(tree.order), -1, np.int32)
    if count >= len(tree.leaves):
        labels[tree.order[:count]] = np.arange(count, dtype=np.int32)
    else:
        steps.label_groups(tree.leaves, tree.merges[: len(tree.leaves) - count], labels)
    return labels


def _arrays(cloud: GaussianCloud, leaves: NDArray[np.int32]) -> tuple[NDArray, ...]:
    """Means, scales, quaternions and colours [L, .] of the leaves."""
    colors = cloud.sh[:, 0].cpu().numpy()[leaves] * np.float32(SH_C0) + np.float32(0.5)
    return (*(getattr(cloud, name).cpu().numpy()[leaves] for name in ("means", "scales", "quats")), colors)


def _merge(nodes: NDArray, smallest: int, report: Report) -> NDArray[np.int32]:
    """All merges of node rows down to `smallest` of them; changes the rows.

    Where groups have swallowed all their neighbours before that, what is left is given new ones.
    """
    alive, history, n = np.arange(len(nodes), dtype=np.int32), [np.empty((0, 2), np.int32)], len(nodes)
    while len(alive) > smallest:
        order, cuts, axes = spatial_tree(np.ascontiguousarray(nodes[alive, :3]))
        alive = alive[order]
        rows = nodes[alive]
        share = partial(_tell, report, 1 - len(alive) / n, 0.2 * len(alive) / n)
        near = nearest(np.ascontiguousarray(rows[:, :3]), cuts, axes, NEIGHBOURS, share)
        share = partial(_tell, report, 1 - 0.8 * len(alive) / n, 0.8 * len(alive) / n)
        if len(alive) == n >= SIDE_BY_SIDE:
            merges = _merge_regions(rows, near, n - max(smallest, int(TOGETHER * n)), share)
        else:
            merges = _merge_all(rows, near, smallest, share)
        history.append(alive[merges])
        gone = np.zeros(len(alive), np.bool_)
        gone[merges[:, 1]] = True
        nodes[alive] = rows
        alive = alive[~gone]
    return np.concatenate(history)


def _merge_all(rows: NDArray, near: NDArray[np.int32], smallest: int, report: Report) -> NDArray[np.int32]:
    """[M, 2]. Merges among all of the rows, as far as their neighbours go."""
    all_in_one = Region(rows, near, 0)
    for wanted in (*range(CHUNK, len(rows) - smallest, CHUNK), len(rows) - smallest):
        report(all_in_one.done / len(rows), WORDS)
        all_in_one.merge(steps.NEVER, wanted)
    return all_in_one.merges[: all_in_one.done]


def _merge_regions(rows: NDArray, near: NDArray[np.int32], wanted: int, report: Report) -> NDArray[np.int32]:
    """[M, 2]. At least `wanted` merges, each within a region of space, in the order of what they cost.

    All regions go equally far: until nothing merges for less than a limit, which grows until it is enough.
    """
    spans = pairwise(np.linspace(0, len(rows), REGIONS + 1).astype(int).tolist())
    regions = in_threads(lambda span, _: Region(rows[slice(*span)], near[slice(*span)], span[0]), list(spans), quiet)
    limit = max(float(np.median(np.concatenate([region.costs for region in regions]).astype(np.float64))), 1e-30)
    while (done := sum(region.done for region in regions)) < wanted and limit < float(steps.NEVER):
        told = partial(_tell, report, done / len(rows), 0.0)
        in_threads(lambda region, _, limit=limit: region.merge(limit), regions, told)
        limit *= STEP
    merges = np.concatenate([region.merges[: region.done] + region.first for region in regions])
    paid = np.concatenate([np.maximum.accumulate(region.paid[: region.done]) for region in regions])
    return merges[np.argsort(paid, kind="stable")]


class Region:
    """Nodes that merge among themselves, and how far they have come."""

    def __init__(self, rows: NDArray, near: NDArray[np.int32], first: int) -> None:
        """`near` are the neighbours of rows [n, 16], numbered like those that begin with `first`."""
        self.first, self.done = first, 0
        self.merges, self.paid = np.empty((len(rows), 2), np.int32), np.empty(len(rows), np.float32)
        self._rows, self._near = rows, steps.within(near, first)
        self._state = steps.start(rows, self._near)

    @property
    def costs(self) -> NDArray[np.float32]:
        """[n]. What every node's cheapest merge would cost, before the first one."""
        return self._state[0]

    def merge(self, limit: float, wanted: int | None = None) -> None:
        """Merge what costs less than `limit`, up to `wanted` merges in all."""
        state, wanted = (self._rows, self._near, self._state), len(self._rows) if wanted is None else wanted
        self.done = steps.merge_until(*state, self.merges, self.paid, self.done, wanted, np.float32(limit))


def _tell(report: Report, start: float, length: float, fraction: float, _: str) -> None:
    report(start + length * fraction, WORDS)
