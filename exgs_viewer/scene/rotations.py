"""Rotations as formats pack them: three of the four components of a quaternion, the largest follows from its length."""

from __future__ import annotations

import numpy as np


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit quaternions [n, 4] -> which component is largest [n], and the others in order [n, 3] float64.

    q and -q are the same rotation, so the one whose largest component is positive is taken; the others lie within
    +-sqrt(1/2). The components may come in any order: `which` counts as the columns do.
    """
    quats = quats.astype(np.float64)
    which = np.abs(quats).argmax(axis=1)
    left = np.arange(4) != which[:, None]  # [n, 4], three of each row
    largest = quats[~left]
    return which, quats[left].reshape(-1, 3) * np.where(largest < 0, -1.0, 1.0)[:, None]
