"""Kernels of the surroundings: what was dropped near each kept Gaussian, measured along that one's own axes."""

from __future__ import annotations

import numpy as np
from numba import njit

WEIGHT, AREA, COUNT, COLOR, OPAQUE = 0, 1, 2, 3, 4
"""Columns of the sums over what was dropped: blending weight w, opaque area, how many, w |colour difference|^2,
w opacity; then from OFFSET w d (3), from SPREAD w d^2 (3), from SIZE w C_kk (3), with d the offset of the centre and
C the covariance in the axes of the kept one."""
OFFSET, SPREAD, SIZE, COLUMNS = 5, 8, 11, 14


@njit(cache=True, nogil=True, inline="always")
def _axes(quat, out):
    """Rotation matrix [3, 3] of a unit quaternion, its columns the axes."""
    w, x, y, z = quat[0], quat[1], quat[2], quat[3]
    out[0, 0], out[0, 1], out[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[1, 0], out[1, 1], out[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[2, 0], out[2, 1], out[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)


@njit(cache=True, nogil=True, fastmath=True)
def gather(means, scales, quats, opacities, colors, weight, area, dropped, kept, owner):
    """sums [M, COLUMNS] over the dropped Gaussians [D] of each kept one [M], both indices; owner [D] in 0..M-1."""
    sums = np.zeros((len(kept), COLUMNS))
    mine, theirs = np.empty((3, 3)), np.empty((3, 3))
    for row in range(len(dropped)):
        i, group = dropped[row], owner[row]
        j, w = kept[group], weight[i]
        _axes(quats[j], mine)
        _axes(quats[i], theirs)
        total = sums[group]
        total[WEIGHT] += w
        total[AREA] += area[i]
        total[COUNT] += 1
        total[OPAQUE] += w * opacities[i]
        for channel in range(3):
            total[COLOR] += w * (colors[i, channel] - colors[j, channel]) ** 2
        for k in range(3):
            along, size = 0.0, 0.0
            for axis in range(3):
                along += mine[axis, k] * (means[i, axis] - means[j, axis])
            for other in range(3):
                cosine = 0.0
                for axis in range(3):
                    cosine += mine[axis, k] * theirs[axis, other]
                size += (cosine * scales[i, other]) ** 2
            total[OFFSET + k] += w * along
            total[SPREAD + k] += w * along * along
            total[SIZE + k] += w * size
    return sums


@njit(cache=True, nogil=True, fastmath=True)
def around(means, quats, values, near):
    """spacing [M, 3] mean squared offset of the neighbours near [M, k] (-1 for none) along each Gaussian's own axes;
    pooled [M, columns] sums of values [M, columns] over each one and its neighbours."""
    spacing, pooled = np.zeros((len(means), 3)), values.copy()
    mine = np.empty((3, 3))
    for i in range(len(means)):
        _axes(quats[i], mine)
        count = 0
        for j in near[i]:
            if j < 0:
                break
            count += 1
            for column in range(values.shape[1]):
                pooled[i, column] += values[j, column]
            for k in range(3):
                along = 0.0
                for axis in range(3):
                    along += mine[axis, k] * (means[j, axis] - means[i, axis])
                spacing[i, k] += along * along
        for k in range(3):
            spacing[i, k] /= max(count, 1)
    return spacing, pooled
