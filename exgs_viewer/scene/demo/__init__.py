"""The built-in demo room, made by code and always the same: what a user sees who has no scene at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy import ndarray

from exgs_viewer.scene import Scene
from exgs_viewer.scene.camera import Camera, look_at
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.demo.light import Lights, base_color, highlight, soft_light
from exgs_viewer.scene.demo.room import furnish
from exgs_viewer.scene.demo.sheets import Sheet, Splats, splats, surface
from exgs_viewer.settings import Report, quiet

UP = (0.0, -1.0, 0.0)
TEXEL = 0.09
"""Distance between the places where soft light is worked out, metres."""
VIEWS = (
    ((1.70, -1.52, -2.08), (-0.78, -0.80, 1.00), 0.93),
    ((0.9, -1.45, -1.2), (-1.2, -0.75, 1.3), 0.9),
    ((-1.9, -1.5, -1.5), (1.3, -0.85, 1.6), 0.93),
    ((-0.2, -0.95, -0.75), (-0.35, -0.5, 0.3), 0.9),
    ((1.5, -1.3, 0.9), (1.9, -1.1, 2.3), 0.95),
    ((0.3, -1.4, 0.3), (-2.6, -1.3, -0.1), 0.95),
    ((-0.9, -1.5, 1.2), (0.9, -1.0, -2.2), 0.95),
)
"""Bookmarks as (place, target, vertical field of view); the first is where the demo opens."""


def read(report: Report = quiet) -> Scene:
    """The demo room with its bookmarks."""
    report(0.0, "building the demo room")
    sheets, lights = furnish()
    sheets.sort(key=lambda sheet: sheet.gloss == 0)  # What shines comes first, so that it is one slice.
    parts = []
    for number, sheet in enumerate(sheets):
        parts.append(splats(sheet, number))
        if number % 50 == 0:
            report(0.4 * number / len(sheets), "building the demo room")
    light = bake(sheets, parts, lights)
    report(0.7, "lighting the demo room")
    cloud = paint([layer for layers in parts for layer in layers], light, lights)
    report(1.0, "built the demo room")
    return Scene(cloud, None, "demo", cloud.ply_bytes, UP, bookmarks())


def bookmarks() -> tuple[Camera, ...]:
    """Views worth seeing."""
    return tuple(look_at(place, target, UP, fov) for place, target, fov in VIEWS)


def bake(sheets: list[Sheet], parts: list[list[Splats]], lights: Lights) -> ndarray:
    """[N, 5] soft light on every splat: worked out on a coarse grid over each sheet, then blended in between."""
    grids = [_texels(sheet) for sheet in sheets]
    spots = []
    for sheet, (u, v) in zip(sheets, grids, strict=True):
        place, frame, _ = surface(sheet.shape, *(grid.ravel() for grid in np.meshgrid(u, v, indexing="ij")))
        spots.append((place, frame[:, :, 2], np.full(len(place), sheet.thin, np.float32)))
    place, normal, thin = (np.concatenate(column) for column in zip(*spots, strict=True))
    light = np.empty((len(place), 5), np.float32)

    def fill(rows: slice) -> None:
        light[rows] = soft_light(place[rows], normal[rows], thin[rows], lights)

    _in_two(fill, len(place))
    shares, start = [], 0
    for layers, (u, v) in zip(parts, grids, strict=True):
        texels = light[start : start + len(u) * len(v)].reshape(len(u), len(v), 5)
        shares += [_blended(texels, layer.at, u, v) for layer in layers]
        start += len(u) * len(v)
    return np.concatenate(shares)


def paint(parts: list[Splats], light: ndarray, lights: Lights) -> GaussianCloud:
    """The finished cloud: paint under light, highlights as spherical harmonics of degree 3."""
    place, frame, scale, colors, traits = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("place", "frame", "scale", "paint", "traits")
    )
    normal = np.ascontiguousarray(frame[:, :, 2])
    sh = np.zeros((len(place), 16, 3), np.float32)

    def coat(rows: slice) -> None:
        sh[rows, 0] = base_color(place[rows], normal[rows], colors[rows], traits[rows], light[rows, :3], lights)

    def polish(rows: slice) -> None:
        sh[rows] += highlight(place[rows], normal[rows], traits[rows, :1] * light[rows, 3:], lights)

    _in_two(coat, len(place))
    _in_two(polish, int((traits[:, 0] > 0).sum()))
    place = place - traits[:, 4:] * normal
    fields = (place, scale, quaternions(frame), traits[:, 1], sh)
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(values, np.float32)) for values in fields))


def quaternions(frame: ndarray) -> ndarray:
    """[N, 4] unit quaternions (w, x, y, z) of rotation matrices [N, 3, 3]."""
    m = frame.reshape(-1, 9).T
    squares = np.stack(
        [1 + m[0] + m[4] + m[8], 1 + m[0] - m[4] - m[8], 1 - m[0] + m[4] - m[8], 1 - m[0] - m[4] + m[8]], 1
    )
    a, b, c, d, e, f = m[7] - m[5], m[2] - m[6], m[3] - m[1], m[3] + m[1], m[2] + m[6], m[7] + m[5]
    # Each row is the quaternion times 4 times one of its own parts; the one with the largest part is exact.
    rows = np.stack([squares[:, 0], a, b, c, a, squares[:, 1], d, e, b, d, squares[:, 2], f, c, e, f, squares[:, 3]], 1)
    best = rows.reshape(-1, 4, 4)[np.arange(len(frame)), squares.argmax(1)]
    return (best / np.sqrt((best**2).sum(1, keepdims=True))).astype(np.float32)


def _in_two(work: Callable[[slice], None], count: int) -> None:
    """Let two threads work on one half of `count` rows each; numpy lets them run side by side."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (slice(0, count // 2), slice(count // 2, count))))


def _texels(sheet: Sheet) -> tuple[ndarray, ndarray]:
    """Places along u and v where light is worked out; one is enough for what shines by itself."""
    spacing = math.inf if sheet.glow == 1 else TEXEL
    counts = [max(1, math.ceil(length / spacing)) for length in sheet.size]
    return tuple(
        ((np.arange(n) + 0.5) * (length / n)).astype(np.float32) for n, length in zip(counts, sheet.size, strict=True)
    )


def _blended(texels: ndarray, at: ndarray, u: ndarray, v: ndarray) -> ndarray:
    """[N, C] bilinear blend of `texels` [len(u), len(v), C] at places `at` [N, 2]."""
    if texels.size == texels.shape[2]:
        return np.broadcast_to(texels[0], (len(at), texels.shape[2]))
    corners, shares = [], []
    for axis, grid in enumerate((u, v)):
        step = grid[1] - grid[0] if len(grid) > 1 else np.float32(1)
        where = ((at[:, axis] - grid[0]) / step).clip(0, len(grid) - 1)
        low = np.minimum(where.astype(int), max(len(grid) - 2, 0))
        corners.append((low, np.minimum(low + 1, len(grid) - 1)))
        shares.append((where - low).astype(np.float32)[:, None])
    (u0, u1), (v0, v1), (a, b) = *corners, shares
    low, high = texels[u0, v0] * (1 - b) + texels[u0, v1] * b, texels[u1, v0] * (1 - b) + texels[u1, v1] * b
    return low * (1 - a) + high * a
