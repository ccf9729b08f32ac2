from __future__ import annotations

import numpy as np
import pytest

from exgs_viewer.scene.rotations import smallest_three
from tests.conftest import random_cloud


def test_the_fourth_component_follows_from_the_three():
    quats = random_cloud(500).quats.numpy()
    which, others = smallest_three(quats)
    assert set(which) == {0, 1, 2, 3} and np.abs(others).max() <= np.sqrt(0.5)
    for quat, place, three in zip(quats.astype(float), which, others, strict=True):
        whole = np.insert(three, place, np.sqrt(1 - (three**2).sum()))
        assert whole[place] >= np.abs(three).max()
        assert abs(whole @ quat) == pytest.approx(1, abs=1e-6)


def test_components_of_equal_size_leave_three():
    which, others = smallest_three(np.array([[0.5, -0.5, 0.5, -0.5], [0, 0, -1, 0]]))
    assert which.tolist() == [0, 2] and others.tolist() == [[-0.5, 0.5, -0.5], [0, 0, 0]]
