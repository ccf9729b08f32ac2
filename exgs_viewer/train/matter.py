"""Surface with a texture -> splats as training would leave them: few large ones below, many small ones where detail is.

Trained scenes were looked at for the numbers: scales spread over two orders of magnitude, needles and discs more often
than balls, opacities everywhere between 0.05 and 1, colours beyond black and white that make up for one another, a
shell of large, dark splats that only shows once the small ones before it are gone. That shell is what pruning lays
bare, so a painter trained without it would not know the commonest damage.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy import ndarray

from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.scene.demo import quaternions
from exgs_viewer.scene.demo.sheets import Shape, surface
from exgs_viewer.train.textures import Texture


@dataclass(frozen=True)
class Style:
    """How one scene's splats are spread; the same for all its surfaces, as one training run would do it."""

    cell: float = 0.015
    """Distance between the finest splats, metres."""
    levels: int = 4
    """Octaves of size."""
    overlap: float = 0.7
    """Standard deviation over the distance between splats."""
    spread: float = 0.35
    """Standard deviation of the logarithm of their size."""
    needle: float = 0.4
    """The same of their aspect."""
    tilt: float = 0.1
    """How far normals stray, radians."""
    dark: float = 0.7
    """Brightness of the shell over that of the texture."""
    noise: float = 0.05
    """Spread of colours between neighbours."""
    detail: float = 0.6
    """How much of the finest levels is left out where the texture is smooth."""
    solid: float = 1.5
    """First parameter of the opacities' beta distribution: small ones are more transparent."""
    gloss: float = 0.05
    """Spread of the coefficients of degree 1."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A painted sheet; u and v in metres as in demo/sheets.py."""

    shape: Shape
    size: tuple[float, float]
    """Length along u and v, metres."""
    texture: Texture
    tile: tuple[float, float]
    """Metres that one picture of the texture spans along u and v."""
    start: tuple[float, float] = (0.0, 0.0)
    """Where in the picture u = v = 0 lies."""
    opacity: float = 1.0
    inward: bool = False
    """Whether it is looked at from its back, as the walls of a box from inside."""
    glow: float = 0.0
    """Light it gives by itself: 1 ignores all lamps."""


@dataclass(frozen=True, eq=False)
class Light:
    """A sky, a sun and shade that falls in soft patches."""

    ambient: ndarray = field(default_factory=lambda: np.full(3, 0.6, np.float32))
    sun: ndarray = field(default_factory=lambda: np.full(3, 0.6, np.float32))
    direction: ndarray = field(default_factory=lambda: np.array([0.4, -0.8, 0.45], np.float32))
    """Unit vector towards the sun."""
    patches: float = 0.3
    """Depth of the shade."""
    phase: float = 0.0


@dataclass(frozen=True, eq=False)
class Splats:
    """Arrays float32 with N rows, as in GaussianCloud but for colour and frame."""

    place: ndarray
    frame: ndarray
    """[N, 3, 3] unit columns: along u, along v, normal."""
    scale: ndarray
    color: ndarray
    """[N, 3] display sRGB, also beyond [0, 1]."""
    opacity: ndarray


def splats(sheet: Surface, style: Style, light: Light, random: np.random.Generator) -> Splats:
    """Cover one surface, coarsest level first."""
    narrow = min(sheet.size) / 3  # No splat is wider than its surface: a table's leg would else become a cloud.
    levels = max(1, min(style.levels, 1 + int(np.log2(max(narrow / style.cell, 1)))))
    style = replace(style, levels=levels, cell=max(min(style.cell, narrow), 0.003))
    parts = [_level(sheet, style, level, random) for level in range(levels)[::-1]]
    place, frame, scale, color, opacity = (np.concatenate(column) for column in zip(*parts, strict=True))
    shown = lit(place, frame[:, :, 2] * (-1 if sheet.inward else 1), light)
    return Splats(place, frame, scale, color * (shown * (1 - sheet.glow) + sheet.glow), opacity)


def lit(place: ndarray, normal: ndarray, light: Light) -> ndarray:
    """[N, 3] light that falls on each place."""
    sun = (normal @ light.direction).clip(0)
    wave = np.sin(place @ np.array([1.3, 0.9, 1.1]) + light.phase) * np.sin(place @ np.array([-0.7, 1.7, 0.8]))
    shade = 1 - light.patches * (0.5 + 0.5 * np.tanh(4 * wave))
    return (light.ambient + sun[:, None] * light.sun) * shade[:, None].astype(np.float32)


def cloud_of(parts: list[Splats], style: Style, random: np.random.Generator, sh_degree: int = 1) -> GaussianCloud:
    """All splats as one cloud; higher coefficients are a little noise, as training leaves them."""
    place, frame, scale, color, opacity = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("place", "frame", "scale", "color", "opacity")
    )
    count = len(place)
    sh = np.zeros((count, (sh_degree + 1) ** 2, 3), np.float32)
    sh[:, 0] = (color - 0.5) / SH_C0
    if sh_degree:
        shared = random.normal(0, style.gloss, (count, sh.shape[1] - 1, 1))
        sh[:, 1:] = shared + random.normal(0, 0.4 * style.gloss, (count, sh.shape[1] - 1, 3))
    values = (place, scale, quaternions(frame), opacity, sh)
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(value, np.float32)) for value in values))


def floaters(low: ndarray, high: ndarray, count: int, random: np.random.Generator) -> Splats:
    """Large faint blobs in mid-air between two corners, as training leaves them where no view forbids."""
    size = np.exp(random.normal(-3.2, 0.8, (count, 1))) * np.exp(random.normal(0, 0.4, (count, 3)))
    return Splats(
        place=random.uniform(low, high, (count, 3)).astype(np.float32),
        frame=random_frames(count, random),
        scale=size.astype(np.float32),
        color=random.uniform(-0.1, 1.1, (count, 1)) + random.normal(0, 0.1, (count, 3)),
        opacity=random.beta(0.6, 6, count).astype(np.float32),
    )


def foliage(center: ndarray, reach: ndarray, count: int, leaf: Texture, random: np.random.Generator) -> Splats:
    """`count` leaves, thin and at all angles, in an ellipsoid; colours of random pixels of `leaf`."""
    away = random.normal(0, 1, (count, 3))
    away *= random.uniform(0.3, 1, (count, 1)) ** 0.4 / np.linalg.norm(away, axis=1, keepdims=True)
    size = np.exp(random.normal(-4.3, 0.4, (count, 1)))
    scale = size * np.array([1, random.uniform(0.15, 0.6), 0.08])
    shade = (0.55 - 0.45 * away[:, 1:2]) * random.uniform(0.6, 1.2, (count, 1))
    return Splats(
        place=(center + away * reach).astype(np.float32),
        frame=random_frames(count, random),
        scale=scale.astype(np.float32),
        color=leaf.sample(random.random(count), random.random(count), 1) * shade,
        opacity=random.beta(3, 1, count).astype(np.float32),
    )


def random_frames(count: int, random: np.random.Generator) -> ndarray:
    """[N, 3, 3] rotations, evenly spread."""
    q, r = np.linalg.qr(random.normal(0, 1, (count, 3, 3)))
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    q[:, :, 2] *= np.linalg.det(q)[:, None]
    return q.astype(np.float32)


def _level(sheet: Surface, style: Style, level: int, random: np.random.Generator) -> tuple[ndarray, ...]:
    """Place, frame, scale, colour and opacity of the splats of one octave."""
    coarsest, cell = level == style.levels - 1, style.cell * 2**level
    u, v = _scattered(sheet.size, cell, random)
    across, down = u / sheet.tile[0] + sheet.start[0], v / sheet.tile[1] + sheet.start[1]
    mip = _mip(sheet, cell)
    color, below = sheet.texture.sample(across, down, mip), sheet.texture.sample(across, down, mip + 1)
    if not coarsest:
        busy = np.abs(color - below).mean(1)
        kept = random.random(len(u)) < 1 - style.detail * np.exp(-busy / 0.01)
        u, v, color, below = u[kept], v[kept], color[kept], below[kept]
    count = len(u)
    place, frame, stretch = surface(sheet.shape, u.astype(np.float32), v.astype(np.float32))
    # Small splats are see-through, so their colours overshoot to arrive at the texture, as trained ones do.
    color = color * style.dark if coarsest else color + random.uniform(0.2, 0.8) * (color - below)
    color = color + random.normal(0, style.noise, (count, 1)) + random.normal(0, 0.4 * style.noise, (count, 3))
    size = style.overlap * cell * np.exp(random.normal(0, style.spread, (count, 1)))
    aspect = np.exp(random.normal(0, style.needle, (count, 1)))
    thin = random.uniform(0.03, 0.2, (count, 1))
    scale = size * np.hstack([aspect * stretch[:, :1], stretch[:, 1:] / aspect, thin]) + 2e-4
    opacity = random.beta(9, 0.7, count) if coarsest else random.beta(style.solid, 0.6, count)
    # The finest lie on the surface, the others below: sorted by their centres, they would else hide the detail.
    sink = (-1 if sheet.inward else 1) * (cell - style.cell) * (0.5 + random.uniform(-0.2, 0.1, count))
    place = place - frame[:, :, 2] * sink[:, None]
    return place, _tilted(frame, style.tilt, random), scale, color, opacity * sheet.opacity


def _scattered(size: tuple[float, float], cell: float, random: np.random.Generator) -> tuple[ndarray, ndarray]:
    """u and v [N] in the middle of cells of a grid, strayed by up to half a cell."""
    counts = [max(1, round(length / cell)) for length in size]
    grids = np.meshgrid(*(np.arange(n) + 0.5 for n in counts), indexing="ij")
    strayed = [grid.ravel() + random.uniform(-0.5, 0.5, grid.size) for grid in grids]
    return tuple(at * (length / n) for at, length, n in zip(strayed, size, counts, strict=True))


def _mip(sheet: Surface, cell: float) -> int:
    """The level whose pixels are about as large as a cell."""
    pixel = sheet.tile[0] / sheet.texture.levels[0].shape[1]
    return max(0, round(np.log2(max(cell / pixel, 1e-6))))


def _tilted(frame: ndarray, angle: float, random: np.random.Generator) -> ndarray:
    """Frames turned about their normal at random and tilted off it by about `angle`."""
    count = len(frame)
    turn, lean = random.uniform(0, np.pi, count), random.normal(0, angle, count)
    c, s, cl, sl = np.cos(turn), np.sin(turn), np.cos(lean), np.sin(lean)
    first, second, normal = frame[:, :, 0].T, frame[:, :, 1].T, frame[:, :, 2].T
    along, across = c * first + s * second, c * second - s * first
    return np.stack([along, cl * across + sl * normal, cl * normal - sl * across], 0).transpose(2, 1, 0)
