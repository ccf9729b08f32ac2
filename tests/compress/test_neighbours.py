import numpy as np
import pytest

from exgs_viewer.compress.neighbours import LEAF, nearest, spatial_tree


def neighbours_of(points, k):
    order, cuts, axes = spatial_tree(points)
    assert sorted(order) == list(range(len(points)))
    return points[order], nearest(np.ascontiguousarray(points[order]), cuts, axes, k)


@pytest.mark.parametrize("n", [1, 2, 5, LEAF, LEAF + 1, 300, 5000])
def test_neighbours_are_the_nearest_that_there_are(n):
    points = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) ** 3
    points, found = neighbours_of(points, 6)
    distances = ((points[:, None, :200] - points[None]) ** 2).sum(2) if n <= 300 else None
    for i in range(0, n, max(1, n // 50)):
        row = distances[i].copy() if distances is not None else ((points - points[i]) ** 2).sum(1)
        row[i] = np.inf
        wanted = np.sort(row)[: min(6, n - 1)]
        given = found[i][found[i] >= 0]
        assert len(set(given)) == len(given) == len(wanted) and i not in given
        assert (row[given] <= 1.21 * wanted + 1e-12).all() and (np.diff(row[given]) >= 0).all()


def test_points_that_coincide_are_neighbours_like_others():
    _, found = neighbours_of(np.zeros((100, 3), np.float32), 4)
    assert (found >= 0).all() and all(len(set(row)) == 4 and i not in row for i, row in enumerate(found))
