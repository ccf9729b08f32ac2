from __future__ import annotations

import numpy as np
import pytest

from exgs_viewer.scene.cells import cells


@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 4), (5, 4), (1000, 256), (1024, 256), (1025, 256), (77, 1)])
def test_every_point_is_in_one_cell_and_only_the_last_may_be_short(count, size):
    found = cells(np.random.default_rng(0).normal(size=(count, 3)), size)
    assert sorted(np.concatenate(found)) == list(range(count))
    assert [len(cell) for cell in found] == [size] * (count // size) + [count % size] * (count % size > 0)


def test_cells_are_small_places():
    points = np.random.default_rng(0).random((4096, 3))
    sides = [np.ptp(points[cell], axis=0) for cell in cells(points, 64)]
    # 64 cells of a cube would have sides of 1/4 each.
    assert np.mean(sides) < 0.3


def test_points_that_are_all_alike_are_cut_too():
    assert [len(cell) for cell in cells(np.zeros((10, 3)), 4)] == [4, 4, 2]
