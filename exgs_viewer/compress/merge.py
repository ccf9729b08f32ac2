"""One nested order of a scene in which Gaussians merge instead of being dropped: a greedy tree of pair merges.

First the tail goes that no view misses; then, one pair at a time, those two neighbours that a visitor would miss least
become one. Any number of Gaussians is a cut through that history, so a slider only decides how much of it applies.

A merge costs what it changes in the picture, estimated from the members' blending weights w (research/folding.md):

    cost = h ( |colour_i - colour_j|^2 + SHAPE min(M, CAP) ),    h = (e_i w_j^2 + e_j w_i^2) / (w_i + w_j)^2,
    M = d^T (C_i + C_j + SLACK tr(C_i + C_j) I)^-1 d

with d the distance of the centres, C the covariances, e = w sqrt(peak weight) the error weight: squared error grows
with the square of the weight in each pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.compress import merge_steps as steps
from exgs_viewer.compress import scores
from exgs_viewer.compress.cache import key_of, recall, remember
from exgs_viewer.compress.neighbours import nearest, spatial_tree
from exgs_viewer.compress.select import POPULATED, group_voxels, voxel_edge
from exgs_viewer.render import Significance
from exgs_viewer.scene.camera import Camera
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.settings import Report, quiet

TAIL = 3e-4
"""Share of all blending weight that is dropped before the first merge; half of a room is this light."""
NEIGHBOURS = 10
"""Candidates that each Gaussian may merge with."""
UNSEEN = 1e-3
"""Weight of what no view sees, by opaque area, against what is seen: the chance that somebody looks there after all."""
SMALLEST = 0.005
"""Share of the Gaussians below which the tree need not reach: half of the smallest retention."""
REPRESENTATIVES = 0.1
"""Largest part of a budget that goes to voxels of which the merges leave nothing."""
CACHE_FILES = 16
"""Scenes whose trees are remembered: at most 16 bytes a Gaussian each."""
VERSION = "tree-1"
"""Part of the cache key: other costs must not find this tree."""
WORDS = "Merging what looks alike"
CHUNK = 1 << 16
"""Merges between two reports."""


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
    """[N] > 0. Summed blending weight, and for what nobody saw a small one by its opaque area.

    The area is the product of the two longer axes, times opacity; none counts for more than the largest but 0.5 %.
    """
    weight = seen.weight.cpu().numpy().astype(np.float64)
    area = opaque_area(cloud)
    area = np.minimum(area, np.quantile(area, 0.995))
    met = weight > 0
    density = weight.sum() / max(area[met].sum(), 1e-300) if met.any() else 1.0 / max(area.max(), 1e-300)
    return weight + UNSEEN * density * area + 1e-12 * max(1.0, weight.max())


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
    nodes = steps.leaf_rows(*_arrays(cloud, leaves), weight[leaves], weight[leaves] * np.sqrt(peak))
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
        state = steps.start(rows, near)
        merges = np.empty((len(alive) - smallest, 2), np.int32)
        done, wanted = 0, 0
        while done == wanted < len(merges):
            report(1 - 0.8 * (len(alive) - done) / n, WORDS)
            wanted = min(len(merges), done + CHUNK)
            done = steps.merge_until(rows, near, state, merges, done, wanted)
        history.append(alive[merges[:done]])
        gone = np.zeros(len(alive), np.bool_)
        gone[merges[:done, 1]] = True
        nodes[alive] = rows
        alive = alive[~gone]
    return np.concatenate(history)


def _tell(report: Report, start: float, length: float, fraction: float, _: str) -> None:
    report(start + length * fraction, WORDS)
