"""Kernels of the compact form: cells of the octahedral square to directions, numbers to places and rotations.

Part of the file format and specified in `EXGS.md`; float64 throughout.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from exgs_viewer.scene.compact_model import ANGLE, AXES, NORMAL_U, NORMAL_V, places

CORE = 1 << 16
"""Steps from the middle within which positions are evenly spaced; beyond, the step doubles whenever the distance does,
so that a few Gaussians far away cost the scene nothing."""
HALF = 1 << AXES - 1


@njit(cache=True, nogil=True, inline="always")
def thin_axis(u, v, cells):
    """Unit vector with z >= 0 in the middle of cell (u, v) of the octahedral square, which is `cells` wide."""
    across, down = (u + 0.5) / cells * 2 - 1, (v + 0.5) / cells * 2 - 1
    x, y = (across + down) / 2, (across - down) / 2
    z = 1 - abs(x) - abs(y)
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@njit(cache=True, nogil=True)
def thin_axes(numbers, bits):
    """[n, 3]: `thin_axis` of the cells `numbers` [n, 2], whose squares are 2^bits [n] wide."""
    found = np.empty((len(numbers), 3))
    for i in range(len(numbers)):
        found[i] = thin_axis(numbers[i, 0], numbers[i, 1], float(1 << bits[i]))
    return found


@njit(cache=True, nogil=True)
def rotations(values, bits):
    """[n, 4] float32 wxyz: the shortest way from z to the thin axis, after a turn around z.

    values [n, COLUMNS], bits [n, 2] of the direction's two numbers and of the turn.
    """
    found = np.empty((len(values), 4), np.float32)
    for i in range(len(values)):
        x, y, z = thin_axis(values[i, NORMAL_U], values[i, NORMAL_V], float(1 << bits[i, 0]))
        turn = (values[i, ANGLE] + 0.5) / (1 << bits[i, 1]) * (math.pi / 2)
        cos, sin, length = math.cos(turn), math.sin(turn), math.sqrt(2 + 2 * z)
        w, x, y = (1 + z) / length, x / length, y / length
        found[i, 0], found[i, 1] = w * cos, x * sin - y * cos
        found[i, 2], found[i, 3] = x * cos + y * sin, w * sin
    return found


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
