"""Kernels of folding: sums over the members of each group, and their covariances taken apart into axes again."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from exgs_viewer.compress.merge_steps import covariance

OPACITY_MIN, OPACITY_MAX = 0.01, 0.99
"""Bounds of a folded opacity; beyond them it could not answer to calibration."""


@njit(cache=True, nogil=True)
def total(group, values, count):
    """Sum of values [N] over each group."""
    sums = np.zeros(count)
    for i in range(len(group)):
        if group[i] >= 0:
            sums[group[i]] += values[i]
    return sums


@njit(cache=True, nogil=True)
def gather(means, scales, quats, opacities, sh, weight, through, group, count, power):
    """first [count] a member of each group, size [count], sums [count, 12] and colors [count, K, 3].

    sums: weight, w d (3) and w (C + d d^T) (6) with d taken from the first member, visible mass o A T, w T^power.
    """
    first, size = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    sums = np.zeros((count, 12))
    colors = np.zeros((count, sh.shape[1], 3), np.float32)
    spread = np.empty(6, np.float32)
    for i in range(len(group)):
        g = group[i]
        if g < 0:
            continue
        size[g] += 1
        if first[g] < 0:
            first[g] = i
        row, w, origin = sums[g], np.float64(weight[i]), first[g]
        d0 = np.float64(means[i, 0]) - means[origin, 0]
        d1 = np.float64(means[i, 1]) - means[origin, 1]
        d2 = np.float64(means[i, 2]) - means[origin, 2]
        covariance(scales[i], quats[i], spread)
        row[0] += w
        row[1] += w * d0
        row[2] += w * d1
        row[3] += w * d2
        row[4] += w * (spread[0] + d0 * d0)
        row[5] += w * (spread[1] + d0 * d1)
        row[6] += w * (spread[2] + d0 * d2)
        row[7] += w * (spread[3] + d1 * d1)
        row[8] += w * (spread[4] + d1 * d2)
        row[9] += w * (spread[5] + d2 * d2)
        row[10] += opacities[i] * area(scales[i]) * through[i]
        row[11] += w * through[i] ** power
        for k in range(sh.shape[1]):
            for channel in range(3):
                colors[g, k, channel] += weight[i] * sh[i, k, channel]
    return first, size, sums, colors


@njit(cache=True, nogil=True, inline="always")
def area(scale):
    """Product of the two longer of three axes."""
    a, b, c = np.float64(scale[0]), np.float64(scale[1]), np.float64(scale[2])
    return max(a * b, max(a * c, b * c))


@njit(cache=True, nogil=True)
def finish(means, scales, quats, opacities, sh, first, size, sums, colors, power):
    """The groups' means, scales, quats, opacities and sh."""
    count = len(first)
    out_means, out_scales = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    out_quats, out_opacities = np.empty((count, 4), np.float32), np.empty(count, np.float32)
    matrix, vectors = np.empty((3, 3)), np.empty((3, 3))
    for g in range(count):
        i, row = first[g], sums[g]
        if size[g] == 1:
            out_means[g], out_scales[g], out_quats[g], out_opacities[g] = means[i], scales[i], quats[i], opacities[i]
            colors[g] = sh[i]
            continue
        w = row[0]
        d0, d1, d2 = row[1] / w, row[2] / w, row[3] / w
        out_means[g, 0], out_means[g, 1], out_means[g, 2] = means[i, 0] + d0, means[i, 1] + d1, means[i, 2] + d2
        matrix[0, 0], matrix[1, 1], matrix[2, 2] = row[4] / w - d0 * d0, row[7] / w - d1 * d1, row[9] / w - d2 * d2
        matrix[0, 1] = matrix[1, 0] = row[5] / w - d0 * d1
        matrix[0, 2] = matrix[2, 0] = row[6] / w - d0 * d2
        matrix[1, 2] = matrix[2, 1] = row[8] / w - d1 * d2
        diagonalise(matrix, vectors)
        largest = max(matrix[0, 0], max(matrix[1, 1], matrix[2, 2]))
        for k in range(3):
            # Rounding must not make an axis vanish or its variance negative.
            out_scales[g, k] = math.sqrt(max(matrix[k, k], 1e-12 * largest, 1e-30))
        quaternion(vectors, out_quats[g])
        through = (row[11] / w) ** (1 / power)
        visible = row[10] / through / max(area(out_scales[g]), 1e-300)
        out_opacities[g] = min(OPACITY_MAX, max(OPACITY_MIN, visible))
        for k in range(colors.shape[1]):
            for channel in range(3):
                colors[g, k, channel] /= np.float32(w)
    return out_means, out_scales, out_quats, out_opacities, colors


@njit(cache=True, nogil=True)
def diagonalise(matrix, vectors):
    """Eigenvalues of a symmetric matrix [3, 3] onto its diagonal, eigenvectors into columns (Jacobi rotations)."""
    vectors[:] = 0.0
    vectors[0, 0] = vectors[1, 1] = vectors[2, 2] = 1.0
    for _ in range(12):
        off = matrix[0, 1] ** 2 + matrix[0, 2] ** 2 + matrix[1, 2] ** 2
        if off <= 1e-20 * (matrix[0, 0] ** 2 + matrix[1, 1] ** 2 + matrix[2, 2] ** 2):
            return
        for p in range(2):
            for q in range(p + 1, 3):
                if matrix[p, q] == 0.0:
                    continue
                theta = (matrix[q, q] - matrix[p, p]) / (2 * matrix[p, q])
                t = (1.0 if theta >= 0 else -1.0) / (abs(theta) + math.sqrt(theta * theta + 1))
                c = 1 / math.sqrt(t * t + 1)
                s = t * c
                for k in range(3):
                    a, b = matrix[k, p], matrix[k, q]
                    matrix[k, p], matrix[k, q] = c * a - s * b, s * a + c * b
                for k in range(3):
                    a, b = matrix[p, k], matrix[q, k]
                    matrix[p, k], matrix[q, k] = c * a - s * b, s * a + c * b
                    a, b = vectors[k, p], vectors[k, q]
                    vectors[k, p], vectors[k, q] = c * a - s * b, s * a + c * b


@njit(cache=True, nogil=True)
def quaternion(r, out):
    """The unit quaternion wxyz of a rotation matrix. Jacobi rotations never mirror, so it is one (Shepperd 1978)."""
    trace = r[0, 0] + r[1, 1] + r[2, 2]
    if trace >= max(r[0, 0], max(r[1, 1], r[2, 2])):
        q0, q1, q2, q3 = 1 + trace, r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    elif r[0, 0] >= r[1, 1] and r[0, 0] >= r[2, 2]:
        q0, q1 = r[2, 1] - r[1, 2], 1 + r[0, 0] - r[1, 1] - r[2, 2]
        q2, q3 = r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]
    elif r[1, 1] >= r[2, 2]:
        q0, q1 = r[0, 2] - r[2, 0], r[0, 1] + r[1, 0]
        q2, q3 = 1 - r[0, 0] + r[1, 1] - r[2, 2], r[1, 2] + r[2, 1]
    else:
        q0, q1 = r[1, 0] - r[0, 1], r[0, 2] + r[2, 0]
        q2, q3 = r[1, 2] + r[2, 1], 1 - r[0, 0] - r[1, 1] + r[2, 2]
    unit = 1 / math.sqrt(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3)
    out[0], out[1], out[2], out[3] = q0 * unit, q1 * unit, q2 * unit, q3 * unit
