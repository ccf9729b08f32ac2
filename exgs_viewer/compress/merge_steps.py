"""Kernels of the merge tree: the cost of a pair, and a heap that holds every node's best neighbour.

A node is one row of 16 float32, a cache line: mean 3, covariance 6 (xx xy xz yy yz zz), colour 3, weight, error weight.
The heap has one entry a node. What it says may be out of date, because the neighbour has merged since; that is found
out when the entry comes up, and costs one look at the node's few neighbours then.
"""

from __future__ import annotations

import numpy as np
from numba import njit

F = np.float32
SHAPE, CAP, SLACK, EVEN = F(0.05), F(20), F(0.02), F(1e-7)
"""Weight of the distance against the colour, where it ends, how much thin covariances are thickened, and what even two
equal Gaussians cost, so that light ones go first."""
WEIGHT, ERROR = 12, 13
NEVER = F(3e38)


@njit(cache=True, nogil=True)
def leaf_rows(means, scales, quats, colors, weights, errors):
    """Node rows [L, 16] of single Gaussians."""
    nodes = np.zeros((len(means), 16), np.float32)
    for i in range(len(means)):
        nodes[i, :3] = means[i]
        covariance(scales[i], quats[i], nodes[i, 3:9])
        nodes[i, 9:12] = colors[i]
        nodes[i, WEIGHT], nodes[i, ERROR] = weights[i], errors[i]
    return nodes


@njit(cache=True, nogil=True, inline="always")
def covariance(scale, quat, out):
    """R diag(scale^2) R^T into out [6]."""
    w, x, y, z = quat[0], quat[1], quat[2], quat[3]
    a, b, c = scale[0] * scale[0], scale[1] * scale[1], scale[2] * scale[2]
    r00, r01, r02 = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    r10, r11, r12 = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    r20, r21, r22 = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    out[0] = r00 * r00 * a + r01 * r01 * b + r02 * r02 * c
    out[1] = r00 * r10 * a + r01 * r11 * b + r02 * r12 * c
    out[2] = r00 * r20 * a + r01 * r21 * b + r02 * r22 * c
    out[3] = r10 * r10 * a + r11 * r11 * b + r12 * r12 * c
    out[4] = r10 * r20 * a + r11 * r21 * b + r12 * r22 * c
    out[5] = r20 * r20 * a + r21 * r21 * b + r22 * r22 * c


@njit(cache=True, nogil=True, fastmath=True)
def pair_cost(nodes, i, j):
    """What merging nodes i and j changes in the pictures (see merge.py)."""
    p, q = nodes[i], nodes[j]
    share = F(1) / (p[WEIGHT] + q[WEIGHT])
    a_i, a_j = p[WEIGHT] * share, q[WEIGHT] * share
    h = p[ERROR] * a_j * a_j + q[ERROR] * a_i * a_i
    d0, d1, d2 = p[0] - q[0], p[1] - q[1], p[2] - q[2]
    # The inverse of a symmetric 3 x 3 matrix by its cofactors, in units in which its trace is 1.
    trace = max(p[3] + q[3] + p[6] + q[6] + p[8] + q[8], F(1e-30))
    unit = F(1) / trace
    a, b, c = (p[3] + q[3]) * unit + SLACK, (p[4] + q[4]) * unit, (p[5] + q[5]) * unit
    d, e, f = (p[6] + q[6]) * unit + SLACK, (p[7] + q[7]) * unit, (p[8] + q[8]) * unit + SLACK
    k0, k1, k2, k3, k4, k5 = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * k0 + b * k1 + c * k2
    off = k0 * d0 * d0 + k3 * d1 * d1 + k5 * d2 * d2 + F(2) * (k1 * d0 * d1 + k2 * d0 * d2 + k4 * d1 * d2)
    red, green, blue = p[9] - q[9], p[10] - q[10], p[11] - q[11]
    apart = red * red + green * green + blue * blue
    return h * (apart + SHAPE * min(off * unit / determinant, CAP) + EVEN)


@njit(cache=True, nogil=True)
def join(nodes, i, j):
    """Merge node j into node i: weights add, moments are those of the mixture."""
    p, q = nodes[i], nodes[j]
    total = p[WEIGHT] + q[WEIGHT]
    a, b = p[WEIGHT] / total, q[WEIGHT] / total
    d0, d1, d2, ab = p[0] - q[0], p[1] - q[1], p[2] - q[2], a * b
    for k in range(12):
        p[k] = a * p[k] + b * q[k]
    p[3] += ab * d0 * d0
    p[4] += ab * d0 * d1
    p[5] += ab * d0 * d2
    p[6] += ab * d1 * d1
    p[7] += ab * d1 * d2
    p[8] += ab * d2 * d2
    p[WEIGHT] = total
    p[ERROR] += q[ERROR]


@njit(cache=True, nogil=True)
def start(nodes, near):
    """The state before the first merge: heap of costs and nodes, a node's place in it, its best neighbour, that one's
    version when it was looked at, versions, parents, and the heap's size."""
    n = len(nodes)
    costs, best = np.empty(n, np.float32), np.empty(n, np.int32)
    for i in range(n):
        costs[i], best[i] = NEVER, -1
        for k in range(near.shape[1]):
            j = near[i, k]
            if j >= 0:
                cost = pair_cost(nodes, i, j)
                if cost < costs[i]:
                    costs[i], best[i] = cost, j
    heap = np.argsort(costs).astype(np.int32)  # A sorted list is a heap.
    place = np.empty(n, np.int32)
    for p in range(n):
        place[heap[p]] = p
    parents = np.arange(n).astype(np.int32)
    return costs[heap], heap, place, best, np.zeros(n, np.int32), np.zeros(n, np.int32), parents, np.array([n])


@njit(cache=True, nogil=True)
def find(parents, i):
    root = i
    while parents[root] != root:
        root = parents[root]
    while parents[i] != root:
        parents[i], i = root, parents[i]
    return root


@njit(cache=True, nogil=True)
def within(near, first):
    """The neighbours [n, k] of n nodes that follow each other from `first`: those among themselves, counted from 0."""
    n, k = near.shape
    found = np.full((n, k), -1, np.int32)
    for i in range(n):
        at = 0
        for j in near[i]:
            if first <= j < first + n:
                found[i, at] = j - first
                at += 1
    return found


@njit(cache=True, nogil=True)
def merge_until(nodes, near, state, merges, paid, done, wanted, limit):
    """Go on from `done` to `wanted` merges, and note in `paid` what each cost.

    Returns how many there are: fewer where no neighbours are left, or none that merge for less than `limit`.
    """
    costs, heap, place, best, looked, version, parents, size = state
    gathered, prices = np.empty(2 * near.shape[1], np.int32), np.empty(2 * near.shape[1], np.float32)
    while done < wanted and size[0] > 1 and costs[0] < limit:
        i, j = heap[0], best[heap[0]]
        if parents[j] != j or looked[i] != version[j]:
            count = look_around(nodes, near, parents, i, i, gathered, prices)
        else:
            merges[done, 0], merges[done, 1], paid[done] = i, j, costs[0]
            done += 1
            join(nodes, i, j)
            parents[j] = i
            version[i] += 1
            count = look_around(nodes, near, parents, i, j, gathered, prices)
            drop(costs, heap, place, size, j)
        keep_cheapest(near, i, gathered, prices, count)
        best[i] = near[i, 0]
        if best[i] >= 0:
            looked[i] = version[best[i]]
        # Dropping j may have moved i away from the root.
        sift(costs, heap, place, size[0], place[i], prices[0] if count else NEVER)
    return done


@njit(cache=True, nogil=True)
def look_around(nodes, near, parents, i, j, gathered, prices):
    """The nodes that the neighbours of i and of j have become, each once, with what merging i with them costs."""
    count = 0
    for turn in range(1 if i == j else 2):
        source = i if turn == 0 else j
        for k in range(near.shape[1]):
            other = near[source, k]
            if other < 0:
                break
            other = find(parents, other)
            known = other == i
            for earlier in range(count):
                known = known or gathered[earlier] == other
            if not known:
                gathered[count], prices[count] = other, pair_cost(nodes, i, other)
                count += 1
    return count


@njit(cache=True, nogil=True)
def keep_cheapest(near, i, gathered, prices, count):
    """The cheapest of what was gathered become the neighbours of i, cheapest first."""
    for k in range(near.shape[1]):
        if k >= count:
            near[i, k] = -1
            continue
        least = k
        for other in range(k + 1, count):
            if prices[other] < prices[least]:
                least = other
        prices[k], prices[least] = prices[least], prices[k]
        gathered[k], gathered[least] = gathered[least], gathered[k]
        near[i, k] = gathered[k]


@njit(cache=True, nogil=True)
def drop(costs, heap, place, size, node):
    """Take a node out of the heap."""
    size[0] -= 1
    p, last = place[node], size[0]
    if p < last:
        heap[p] = heap[last]
        place[heap[p]] = p
        sift(costs, heap, place, last, p, costs[last])


@njit(cache=True, nogil=True)
def sift(costs, heap, place, size, p, cost):
    """Give the node at place p of the heap another cost and move it to where it belongs."""
    node = heap[p]
    while p > 0 and costs[(p - 1) // 2] > cost:
        up = (p - 1) // 2
        costs[p], heap[p] = costs[up], heap[up]
        place[heap[p]] = p
        p = up
    while 2 * p + 1 < size:
        down = 2 * p + 1
        if down + 1 < size and costs[down + 1] < costs[down]:
            down += 1
        if costs[down] >= cost:
            break
        costs[p], heap[p] = costs[down], heap[down]
        place[heap[p]] = p
        p = down
    costs[p], heap[p], place[node] = cost, node, p


@njit(cache=True, nogil=True)
def label_groups(leaves, merges, labels):
    """Write each leaf's group into labels [N] of all Gaussians; groups are numbered as their first leaves come."""
    group = np.full(len(leaves), -1, np.int32)
    joined = np.zeros(len(leaves), np.bool_)
    for m in range(len(merges)):
        joined[merges[m, 1]] = True
    count = 0
    for i in range(len(leaves)):
        if not joined[i]:
            group[i] = count
            count += 1
    # Backwards: what a leaf was merged into has joined others, if at all, only later.
    for m in range(len(merges) - 1, -1, -1):
        group[merges[m, 1]] = group[merges[m, 0]]
    for i in range(len(leaves)):
        labels[leaves[i]] = group[i]
