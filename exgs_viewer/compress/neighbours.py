"""The k nearest neighbours of every point of a cloud, by a k-d tree.

Kernels are serial and release the GIL; ranges of points go to threads of our own. Numba's parallel loops would have to
wait for the renderer's (its workqueue layer aborts where two run at once), and could not be cancelled in between.
"""

from __future__ import annotations

from threading import Event

import numpy as np
from numba import njit
from numpy.typing import NDArray

from exgs_viewer.scene.streams import in_threads
from exgs_viewer.settings import Report, quiet

LEAF = 8
"""Most points in a leaf of the tree."""
CHUNK = 1 << 15
"""Points that one task looks up."""
TOP = 4
"""Levels of a tree that are split one after another; then each thread takes what is below a node as a whole."""
STRANGER = -(1 << 40)
"""Number of a place that is none of the points."""


def spatial_tree(points: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int8]]:
    """A balanced k-d tree of points [N, 3]: their order [N] leaf by leaf, and each inner node's cut and its axis.

    Node i covers a run of the order, its children 2 i + 1 and 2 i + 2 the lower and the upper half of it.
    """
    depth = 0
    while len(points) > LEAF << depth:
        depth += 1
    order = np.arange(len(points), dtype=np.int32)
    cuts, axes = np.empty((1 << depth) - 1, np.float32), np.empty((1 << depth) - 1, np.int8)
    spans = np.empty((2 * len(cuts) + 1, 2), np.int64)
    spans[0], tree = (0, len(points)), (spans, cuts, axes)
    top = TOP if len(points) > CHUNK else 0
    # Nodes of a level share no points: each is a task, and below the top each tree is.
    for level, levels in (*((level, 1) for level in range(top)), (top, depth - top)):
        nodes = range((1 << level) - 1, (2 << level) - 1)
        in_threads(lambda node, _, levels=levels: _split(points, order, tree, node, levels), nodes, quiet)
    return order, cuts, axes


def nearest(
    points: NDArray[np.float32], cuts: NDArray[np.float32], axes: NDArray[np.int8], k: int, report: Report = quiet
) -> NDArray[np.int32]:
    """[N, k]: the k nearest others of each point, nearest first, -1 where there are fewer.

    `points` [N, 3] lie in the order of their `spatial_tree`. Distances are exact to 10 %, which halves the time: a
    neighbour is only replaced by one that is nearly as near.
    """
    found = np.empty((len(points), k), np.int32)

    def look_up(first: int, stop: Event) -> None:
        if not stop.is_set():
            part = slice(first, first + CHUNK)
            _nearest(points[part], first, points, cuts, axes, found[part])

    in_threads(look_up, range(0, len(points), CHUNK), report)
    return found


def nearest_to(
    places: NDArray[np.float32], points: NDArray[np.float32], cuts: NDArray[np.float32], axes: NDArray[np.int8]
) -> NDArray[np.int32]:
    """[Q]: the point nearest to each of the places [Q, 3], which are none of the points; exact to 10 %, as `nearest`.

    `points` [N, 3], N > 0, lie in the order of their `spatial_tree`.
    """
    found = np.empty((len(places), 1), np.int32)

    def look_up(first: int, stop: Event) -> None:
        if not stop.is_set():
            part = slice(first, first + CHUNK)
            _nearest(places[part], STRANGER, points, cuts, axes, found[part])

    in_threads(look_up, range(0, len(places), CHUNK), quiet)
    return found[:, 0]


@njit(cache=True, nogil=True)
def _split(points, order, tree, first, levels):
    """Split node `first` and what comes of it, so many levels deep.

    `tree` is spans [nodes, 2], the runs of the order that nodes cover, and cuts and axes of the inner ones.
    """
    spans, cuts, axes = tree
    count = 1
    for _ in range(levels):
        for node in range(first, first + count):
            low, high = spans[node]
            axis = _widest(points, order, low, high)
            middle = (low + high) // 2
            _select(points, order, low, high, middle, axis)
            cuts[node], axes[node] = points[order[middle], axis], axis
            spans[2 * node + 1, 0], spans[2 * node + 1, 1] = low, middle
            spans[2 * node + 2, 0], spans[2 * node + 2, 1] = middle, high
        first, count = 2 * first + 1, 2 * count


@njit(cache=True, nogil=True)
def _widest(points, order, low, high):
    best, axis = -1.0, 0
    for candidate in range(3):
        least, most = np.inf, -np.inf
        for i in range(low, high):
            value = points[order[i], candidate]
            least, most = min(least, value), max(most, value)
        if most - least > best:
            best, axis = most - least, candidate
    return axis


@njit(cache=True, nogil=True)
def _select(points, order, low, high, middle, axis):
    """Quickselect: order[low:middle] not above, order[middle:high] not below the middle one (Hoare's partition)."""
    left, right = low, high - 1
    while left < right:
        a, b, c = points[order[left], axis], points[order[(left + right) // 2], axis], points[order[right], axis]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while points[order[i], axis] < pivot:
                i += 1
            while points[order[j], axis] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            return


@njit(cache=True, nogil=True, fastmath=True)
def _nearest(places, first, points, cuts, axes, found):
    """For each of `places` the points nearest to it but itself; place i is point `first` + i."""
    n, k, inner = len(points), found.shape[1], len(cuts)
    best = np.empty(k, np.float32)
    nodes, bounds = np.empty(64, np.int64), np.empty(64, np.float32)
    spans = np.empty((64, 2), np.int64)
    for i in range(len(places)):
        found[i] = -1
        best[:] = np.inf
        x, y, z = places[i, 0], places[i, 1], places[i, 2]
        top = 1
        nodes[0], bounds[0], spans[0, 0], spans[0, 1] = 0, np.float32(0), 0, n
        while top > 0:
            top -= 1
            node, low, high = nodes[top], spans[top, 0], spans[top, 1]
            if bounds[top] * np.float32(1.21) >= best[k - 1]:
                continue
            while node < inner:
                middle = (low + high) // 2
                off = places[i, axes[node]] - cuts[node]
                far = off * off
                nodes[top], bounds[top] = 2 * node + (2 if off < 0 else 1), far
                if off < 0:
                    spans[top, 0], spans[top, 1] = middle, high
                    node, high = 2 * node + 1, middle
                else:
                    spans[top, 0], spans[top, 1] = low, middle
                    node, low = 2 * node + 2, middle
                top += 1
            for j in range(low, high):
                dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                distance = dx * dx + dy * dy + dz * dz
                if distance < best[k - 1] and j != first + i:
                    place = k - 1
                    while place > 0 and best[place - 1] > distance:
                        best[place], found[i, place] = best[place - 1], found[i, place - 1]
                        place -= 1
                    best[place], found[i, place] = distance, j
