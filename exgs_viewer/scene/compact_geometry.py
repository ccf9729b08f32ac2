"""Kernels of the compact form: cells of the octahedral square to directions, numbers to places and looks.

Part of the file format and specified in `EXGS.md`; float64 throughout.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from exgs_viewer.scene.cloud import SH_C0
from exgs_viewer.scene.compact_model import (
    ANGLE,
    AXES,
    COLUMNS,
    FINEST_HALF,
    GREEN,
    LONG,
    LUMA,
    MIDDLE,
    NORMAL_U,
    NORMAL_V,
    OPACITY,
    ORANGE,
    SHORT,
    opacity_half,
    places,
    precision,
)
from exgs_viewer.scene.lanes import borrow

CORE = 1 << 16
"""Steps from the middle within which positions are evenly spaced; beyond, the step doubles whenever the distance does,
so that a few Gaussians far away cost the scene nothing."""
HALF = 1 << AXES - 1
HALF_OCTAVES = 2.0 ** (-0.5 * np.arange(FINEST_HALF + 1))
"""2^(-half / 2): what opacities' roots and colours are counted in."""
MOST_OPAQUE = 0.999
"""A decoded opacity of 1 is drawn like this, so that its logit stays finite in other formats."""


@njit(cache=True, nogil=True, inline="always")
def thin_axis(u, v, cells):
    """Unit vector with z >= 0 in the middle of cell (u, v) of the octahedral square, which is `cells` wide."""
    across, down = (u + 0.5) / cells * 2 - 1, (v + 0.5) / cells * 2 - 1
    x, y = (across + down) / 2, (across - down) / 2
    z = 1 - abs(x) - abs(y)
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@njit(cache=True, nogil=True, inline="always")
def tangents(x, y, z):
    """Where the shortest rotation from (0, 0, 1) to the unit vector (x, y, z) takes x and y (Duff et al. 2017)."""
    a = -1 / (1 + z)
    b = x * y * a
    return (1 + x * x * a, b, -x), (b, 1 + y * y * a, -y)


@njit(cache=True, nogil=True)
def axis(quat, which):
    """Where a rotation, wxyz of any length but 0, takes x, y or z."""
    w, x, y, z = float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    if which == 0:
        return 1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)
    if which == 1:
        return 2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)
    return 2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)


@njit(cache=True, nogil=True)
def rotation_numbers(quats, scales, bits):
    """[n, 3] int64: the thin axis on the octahedral square of its upper half, and the turn of the long one around it.

    quats [n, 4] wxyz, scales [n, 3], bits [n, >= 2] as `precisions` gives them. Of equal axes the first is the longer.
    """
    found = np.empty((len(quats), 3), np.int64)
    for i in range(len(quats)):
        long, thin = 0, 2
        for which in (1, 2):
            long = which if scales[i, which] > scales[i, long] else long
        for which in (1, 0):
            thin = which if scales[i, which] < scales[i, thin] else thin
        x, y, z = axis(borrow(quats, 4 * i), thin)
        if z < 0:
            x, y, z = -x, -y, -z
        whole = abs(x) + abs(y) + abs(z)
        x, y = x / whole, y / whole
        cells = float(1 << bits[i, 0])
        u = min(max(math.floor(((x + y) / 2 + 0.5) * cells), 0), cells - 1)
        v = min(max(math.floor(((x - y) / 2 + 0.5) * cells), 0), cells - 1)
        x, y, z = thin_axis(u, v, cells)
        first, second = tangents(x, y, z)
        ax, ay, az = axis(borrow(quats, 4 * i), long)
        across, along = ax * second[0] + ay * second[1] + az * second[2], ax * first[0] + ay * first[1] + az * first[2]
        parts = 1 << bits[i, 1]
        found[i, 0], found[i, 1] = u, v
        found[i, 2] = np.int64(math.floor(math.atan2(across, along) / math.pi % 1.0 * parts)) % parts
    return found


@njit(cache=True, nogil=True)
def appearances(values, form, sizes, thicknesses):
    """What the rows of `values` [n, COLUMNS] stand for: scales [n, 3], rotations [n, 4] wxyz, opacities [n], constant
    SH coefficients [n, 1, 3], all float32; and [n] int64 half octaves of the steps of the higher harmonics.

    `sizes` [2^width] and `thicknesses` [thin] are what the numbers of the axes stand for. A rotation is the shortest
    way from z to the thin axis, after a turn around z.
    """
    n = len(values)
    scales, quats = np.empty((n, 3), np.float32), np.empty((n, 4), np.float32)
    opacities, colours, harmonics = np.empty(n, np.float32), np.empty((n, 1, 3), np.float32), np.empty(n, np.int64)
    for i in range(n):
        row, numbers = borrow(values, COLUMNS * i), borrow(form, 0)
        flat_bits, turn_bits, fine, coarse, harmonics[i] = precision(row, numbers)
        wide = sizes[row[MIDDLE] << 1]
        scales[i, 0], scales[i, 1], scales[i, 2] = sizes[row[LONG]], wide, wide * thicknesses[row[SHORT]]
        x, y, z = thin_axis(row[NORMAL_U], row[NORMAL_V], float(1 << flat_bits))
        turn = (row[ANGLE] + 0.5) / (1 << turn_bits) * (math.pi / 2)
        cos, sin, length = math.cos(turn), math.sin(turn), math.sqrt(2 + 2 * z)
        w, x, y = (1 + z) / length, x / length, y / length
        quats[i, 0], quats[i, 1] = w * cos, x * sin - y * cos
        quats[i, 2], quats[i, 3] = x * cos + y * sin, w * sin
        root = row[OPACITY] * HALF_OCTAVES[opacity_half(row, numbers)]
        opacities[i] = min(root * root, MOST_OPAQUE)
        luma, chroma = row[LUMA] * HALF_OCTAVES[fine], HALF_OCTAVES[coarse]
        orange, green = row[ORANGE] * chroma, row[GREEN] * chroma
        grey = luma - green / 2
        colours[i, 0, 0], colours[i, 0, 2] = (grey + orange / 2) / SH_C0, (grey - orange / 2) / SH_C0
        colours[i, 0, 1] = (luma + green / 2) / SH_C0
    return scales, quats, opacities, colours, harmonics


@njit(cache=True, nogil=True)
def cell_middles(keys, origin, step):
    """[n, 3] float32 world units: the middles of the cells with Morton keys [n]; origin [3]."""
    spots = places(keys)
    found = np.empty((len(keys), 3), np.float32)
    for i in range(len(keys)):
        for axis in range(3):
            number = np.int64(spots[axis, i]) - HALF
            counted = -1 - number if number < 0 else number
            octave = max(counted // CORE - 1, 0)
            steps = (counted + 0.5 - octave * float(CORE)) * float(1 << octave)
            found[i, axis] = (-steps if number < 0 else steps) * step + origin[axis]
    return found
