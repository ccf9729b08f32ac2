"""Ways of a camera for videos: through given views, around what it looks at, or swaying before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.scene.camera import Camera, Vector, orbit

SWAY, LIFT = math.radians(12), math.radians(3)
"""How far a swaying camera goes to each side of what it looks at, and up and down."""
TURN_COSTS = 1.0
"""Turning by a radian takes as long as moving by so many times the usual way between two views."""


def through(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """`count` cameras on a smooth way through all `cameras` (at least two), the first and the last included.

    Cubic pieces (Catmull-Rom, with centripetal knots as Yuksel et al. 2011 advise) of positions and of quaternions,
    which are normalised: they do not loop where views lie close together, nor stop at any of them. The way begins and
    ends slowly.
    """
    values = np.array([(*camera.position, *camera.rotation, camera.fov_y) for camera in cameras])  # [V, 8]
    for before, now in pairwise(values):
        if before[3:7] @ now[3:7] < 0:
            now[3:7] *= -1  # The same rotation, the shorter way.
    knots = _knots(values)
    found = _spline(values, knots, knots[-1] * _eased(np.linspace(0, 1, count)))
    found[:, 3:7] /= np.linalg.norm(found[:, 3:7], axis=1, keepdims=True)
    found[:, 7] = found[:, 7].clip(values[:, 7].min(), values[:, 7].max())
    return [Camera(tuple(row[:3]), tuple(row[3:7]), row[7]) for row in found.tolist()]


def around(camera: Camera, focus: Vector, up: Vector, count: int) -> list[Camera]:
    """`count` cameras evenly on the circle around `focus` on which `camera` stands: a turn that can be played on."""
    return [orbit(camera, focus, 2 * math.pi * number / count, 0.0, up) for number in range(count)]


def sway(camera: Camera, focus: Vector, up: Vector, count: int) -> list[Camera]:
    """`count` cameras that sway before `focus`, left, right and back: safe in a room, and can be played on."""
    swing = [2 * math.pi * number / count for number in range(count)]
    return [orbit(camera, focus, SWAY * math.sin(phase), LIFT * math.sin(2 * phase), up) for phase in swing]


def _knots(values: NDArray) -> NDArray:
    """[V] rising. When the way passes each view: after the root of what lies between two, so that curves stay tame."""
    moved = np.linalg.norm(np.diff(values[:, :3], axis=0), axis=1)
    turned = 2 * np.arccos(np.abs((values[1:, 3:7] * values[:-1, 3:7]).sum(1)).clip(0, 1))
    usual = np.median(moved[moved > 0]) if (moved > 0).any() else 1.0
    return np.concatenate([[0.0], np.cumsum(np.sqrt(moved / usual + TURN_COSTS * turned + 1e-6))])


def _spline(values: NDArray, knots: NDArray, times: NDArray) -> NDArray:
    """[T, C] at `times`: cubic Hermite pieces whose slopes are those of the parabolas through three views."""
    slopes = np.gradient(values, knots, axis=0)  # [V, C]
    piece = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    long = (knots[piece + 1] - knots[piece])[:, None]
    t = (times - knots[piece])[:, None] / long
    start, end = values[piece], values[piece + 1]
    rising = long * ((t**3 - 2 * t**2 + t) * slopes[piece] + (t**3 - t**2) * slopes[piece + 1])
    return start + (end - start) * (3 * t**2 - 2 * t**3) + rising


def _eased(shares: NDArray) -> NDArray:
    """[T] in [0, 1] -> the same with a slow first and last tenth, and even between them."""
    ramp, full = 0.1, 1 / 0.9
    early, late = shares < ramp, shares > 1 - ramp
    even = full * (shares - ramp / 2)
    slow = np.where(early, full * shares**2 / (2 * ramp), even)
    return np.where(late, 1 - full * (1 - shares) ** 2 / (2 * ramp), slow)
