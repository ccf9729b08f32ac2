"""Light of the demo room: sky and sun through the window, a lamp, and the shade that things throw on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from exgs_viewer.scene.cloud import SH_C0
from exgs_viewer.scene.demo.sheets import Box, unit

SKY = np.array([0.90, 1.0, 1.14], np.float32) * 3.1
SUN = np.array([1.0, 0.82, 0.56], np.float32) * 4.6
LAMP = np.array([1.0, 0.62, 0.30], np.float32) * 0.42
AMBIENT = np.array([1.0, 0.97, 0.93], np.float32) * 0.34
BOUNCE = np.array([1.0, 0.76, 0.54], np.float32) * 0.55
SKY_TINT, LAMP_TINT = np.array([0.95, 1.0, 1.05], np.float32), np.array([1.0, 0.75, 0.45], np.float32)
EXPOSURE = 1.45
GLANCE = 0.55
"""Display brightness of the highlight of a perfectly glossy splat."""


@dataclass(frozen=True)
class Lights:
    """Where the room's light comes from, and what stands in its way."""

    room: Box
    window: tuple[float, float, float, float, float]
    """The opening in the wall at x: (x, top y, bottom y, near z, far z), metres."""
    bars: tuple[int, int]
    """Panes of the window along z and along y; bars between them throw shade."""
    sun: tuple[float, float, float]
    """Unit direction in which sunlight travels."""
    lamp: tuple[float, float, float]
    """Place of the bulb."""
    boxes: tuple[Box, ...]


def base_color(
    place: ndarray, normal: ndarray, paint: ndarray, traits: ndarray, light: ndarray, lights: Lights
) -> ndarray:
    """[N, 3] constant spherical harmonic of painted splats: `traits` as in Splats, `light` [N, 3] as in soft_light."""
    sun = sunlight(place, normal, traits[:, 3], lights)
    return (display(paint, light + sun[:, None] * SUN, traits[:, 2]) - 0.5) / SH_C0


def soft_light(place: ndarray, normal: ndarray, thin: ndarray, lights: Lights) -> ndarray:
    """[N, 5]: linear red, green, blue of all light but the sun's, then how much of the window and of the lamp shows."""
    sky, open_sky = _sky(place, normal, thin, lights)
    lamp, open_lamp = _lamp(place, normal, thin, lights)
    shelter = _openness(place, normal, lights)
    around = AMBIENT * (0.8 - 0.2 * normal[:, 1:2]) + BOUNCE * _bounce(place, normal)[:, None]
    light = SKY * sky[:, None] + LAMP * lamp[:, None] + around * shelter[:, None]
    return np.column_stack([light, open_sky, open_lamp]).astype(np.float32)


def sunlight(place: ndarray, normal: ndarray, thin: ndarray, lights: Lights) -> ndarray:
    """[N] share of the sun that falls on each place: through the panes, past the furniture."""
    x, top, bottom, near, far = lights.window
    sun = np.array(lights.sun, np.float32)
    facing = -(normal @ sun)
    facing = np.where(thin > 0, np.abs(facing), facing).clip(0)
    way = (place[:, 0] - x) / sun[0]
    y, z = place[:, 1] - way * sun[1], place[:, 2] - way * sun[2]
    blur = 0.008 + 0.006 * way.clip(0)
    share = _through(y, top, bottom, lights.bars[1], blur) * _through(z, near, far, lights.bars[0], blur)
    share = share * (way > 0) * facing
    lit = np.flatnonzero(share > 0.003)
    back = -sun * way[lit, None]
    share[lit] *= _clear(place[lit] + 0.004 * normal[lit], back, lights.boxes)
    return share.astype(np.float32)


def highlight(place: ndarray, normal: ndarray, shown: ndarray, lights: Lights) -> ndarray:
    """[N, 16, 3] spherical harmonics of the mirror images of window and lamp, for a gloss of 1.

    A highlight is a lobe around the direction from the eye at which the light is mirrored. `shown` [N, 2] is how
    much of window and lamp each place sees.
    """
    x, top, bottom, near, far = lights.window
    middle = np.array([x, 0.5 * (top + bottom), 0.5 * (near + far)], np.float32)
    lobes = []
    for source, share in zip((middle, np.array(lights.lamp, np.float32)), shown.T, strict=True):
        to_light, _ = unit(source - place)
        cosine = (to_light * normal).sum(1, keepdims=True)
        mirrored = to_light - 2 * cosine * normal
        strength = GLANCE * share * (cosine[:, 0] > 0) * (1.2 - cosine[:, 0]).clip(0.2, 1)
        lobes.append(harmonics(mirrored) * LOBE * strength[:, None])
    sky, bulb = lobes
    return sky[:, :, None] * SKY_TINT + bulb[:, :, None] * LAMP_TINT


def display(paint: ndarray, light: ndarray, glow: ndarray) -> ndarray:
    """Display sRGB of paint [N, 3] (display sRGB) under linear light [N, 3]; what glows is not lit."""
    lit = 1 - np.exp(-EXPOSURE * paint**2.2 * light)
    shone = lit.clip(0, 1) ** np.float32(1 / 2.2)
    shone = shone + 0.35 * (shone * shone * (3 - 2 * shone) - shone)
    return shone * (1 - glow[:, None]) + paint * glow[:, None]


def harmonics(direction: ndarray) -> ndarray:
    """[N, 16] real spherical harmonics of unit directions [N, 3], signed as in the 3DGS code."""
    x, y, z = direction.T
    xx, yy, zz = x * x, y * y, z * z
    values = [
        0.28209479177387814 * np.ones_like(x), -0.4886025119029199 * y, 0.4886025119029199 * z,
        -0.4886025119029199 * x, 1.0925484305920792 * x * y, -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * zz - xx - yy), -1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]  # fmt: skip
    return np.stack(values, 1).astype(np.float32)


_FALL = np.array([1.0, 0.85, 0.6, 0.35], np.float32)
LOBE = (4 * math.pi * _FALL / (_FALL * [1, 3, 5, 7]).sum()).repeat([1, 3, 5, 7]).astype(np.float32)
"""[16] weights that make of harmonics(c) a lobe around c of height 1 which hardly goes below 0 elsewhere."""


def _sky(place: ndarray, normal: ndarray, thin: ndarray, lights: Lights) -> tuple[ndarray, ndarray]:
    """Form factor of the window, and the share of it that shows, from 4 x 3 points in it."""
    x, top, bottom, near, far = lights.window
    area = (bottom - top) * (far - near) / 12
    total, shown = np.zeros(len(place), np.float32), np.zeros(len(place), np.float32)
    for row in range(3):
        for column in range(4):
            y, z = top + (bottom - top) * (row + 0.5) / 3, near + (far - near) * (column + 0.5) / 4
            way = np.array([x, y, z], np.float32) - place
            square = (way * way).sum(1) + 0.02
            cosine = (way * normal).sum(1)
            cosine = np.where(thin > 0, np.abs(cosine), cosine).clip(0)
            clear = _clear(place + 0.01 * normal, way, lights.boxes)
            total += clear * cosine * np.abs(way[:, 0]) * (area / math.pi) / square**2
            shown += clear / 12
    return total, shown


def _lamp(place: ndarray, normal: ndarray, thin: ndarray, lights: Lights) -> tuple[ndarray, ndarray]:
    """Light of the bulb through its shade, brighter straight up and down where the shade is open."""
    way = np.array(lights.lamp, np.float32) - place
    square = (way * way).sum(1)
    cosine = (way * normal).sum(1) / np.sqrt(square)
    cosine = np.where(thin > 0, np.abs(cosine), cosine).clip(0)
    upright = np.abs(way[:, 1]) / np.sqrt(square)
    beam = 0.7 + 2.6 / (1 + np.exp(-(upright - 0.80) * 26))
    clear = _clear(place + 0.01 * normal, way, lights.boxes)
    return clear * beam * cosine / (square + 0.12), clear


def _openness(place: ndarray, normal: ndarray, lights: Lights, reach: float = 0.9) -> ndarray:
    """[N] ambient light let in: the mean over 14 directions of how far one sees, up to `reach` metres."""
    total = np.zeros(len(place), np.float32)
    side = np.where(np.abs(normal[:, 1:2]) < 0.9, np.array([0, 1, 0], np.float32), np.array([1, 0, 0], np.float32))
    first = np.cross(normal, side)
    first /= np.sqrt((first**2).sum(1, keepdims=True))
    second = np.cross(normal, first)
    center, half = (np.array(value, np.float32) for value in lights.room)
    for number in range(14):
        radius, angle = math.sqrt((number + 0.5) / 14), number * 2.399963
        way = normal * math.sqrt(1 - radius**2) + first * (radius * math.cos(angle))
        way = reach * (way + second * (radius * math.sin(angle)))
        to_wall = (half - np.sign(way) * (place - center)) / np.maximum(np.abs(way), 1e-6)
        seen = np.minimum(_nearest(place + 0.006 * normal, way, lights.boxes), to_wall.min(1)).clip(0, 1)
        total += seen**0.7 / 14
    return total


def _bounce(place: ndarray, normal: ndarray) -> ndarray:
    """[N] light thrown back by the sunlit floor."""
    way = np.array([-0.3, 0.02, 0.6], np.float32) - place
    square = (way * way).sum(1)
    cosine = (way * normal).sum(1) / np.sqrt(square)
    return (0.35 + cosine).clip(0) * (0.4 + np.abs(way[:, 1]) / np.sqrt(square)) / (square + 1.2)


def _clear(start: ndarray, way: ndarray, boxes: tuple[Box, ...]) -> ndarray:
    """[N] 1 where no box stands between `start` and `start + way`, else 0."""
    return (_nearest(start, way, boxes) >= 1).astype(np.float32)


def _nearest(start: ndarray, way: ndarray, boxes: tuple[Box, ...]) -> ndarray:
    """[N] share of `way` until the first box is met; 1 if none is (slab test)."""
    first = np.ones(len(start), np.float32)
    x, y, z = (np.ascontiguousarray(start[:, axis]) for axis in range(3))
    inverse = 1 / np.where(np.abs(way) < 1e-7, 1e-7, way)
    ix, iy, iz = (np.ascontiguousarray(inverse[:, axis]) for axis in range(3))
    ax, ay, az = np.abs(ix), np.abs(iy), np.abs(iz)
    for center, half in boxes:
        mx, my, mz = (center[0] - x) * ix, (center[1] - y) * iy, (center[2] - z) * iz
        hx, hy, hz = half[0] * ax, half[1] * ay, half[2] * az
        enter = np.maximum(np.maximum(mx - hx, my - hy), mz - hz)
        leave = np.minimum(np.minimum(mx + hx, my + hy), mz + hz)
        np.minimum(first, np.where((leave > enter) & (leave > 1e-3), enter.clip(0), 1), out=first)
    return first


def _through(at: ndarray, low: float, high: float, panes: int, blur: ndarray) -> ndarray:
    """[N] how far `at` lies inside one of the panes between `low` and `high`; 3 cm bars part them."""
    pane = (high - low) / panes
    inside = (at - low) % pane
    edge = np.minimum(inside, pane - inside) - 0.018
    within = (at > low) & (at < high)
    return (0.5 + edge / (2 * blur)).clip(0, 1) * within
