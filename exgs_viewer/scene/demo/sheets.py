"""Sheets: painted surfaces of the demo room, and how they become flat, overlapping splats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

Shape = Callable[[ndarray, ndarray], ndarray]
"""(u, v) [N] metres along the sheet -> [N, 3] places in the world."""
Paint = Callable[[ndarray, ndarray], ndarray]
"""(u, v) [N] metres along the sheet -> [N, 3] colours, display sRGB in [0, 1]."""

OVERLAP = 0.71
"""Standard deviation of a splat over the width of its cell: enough that no gap shows between neighbours."""
STRAY_OVERLAP = 0.79
"""The same where splats stray from their cells."""
Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""(centre, half size), metres."""

THICKNESS = 0.0012
"""Standard deviation of a splat across its sheet, metres."""
COARSE_BORDER = (0.5,)
"""As BORDER, for the coarse layer."""
BORDER = (0.25, 0.45, 0.75)
"""Widths of the outermost cells over that of the inner ones: small splats make a crisp edge."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A curved rectangle with paint on it. Seen from its front, u runs to the right and v downwards."""

    shape: Shape
    size: tuple[float, float]
    """Length along u and v, metres."""
    paint: Paint
    cell: tuple[float, float] = (0.02, 0.02)
    """Size of its splats along u and v, metres."""
    gloss: float = 0.0
    """Strength of its highlights, in [0, 1]."""
    opacity: float = 0.99
    glow: float = 0.0
    """Light it gives by itself, as a share of its paint; 1 ignores all other light."""
    thin: bool = False
    """Light from behind shines through: leaves, curtains."""
    jitter: float = 0.0
    """How far splats stray from their cells, as a share of the cell."""
    crisp: bool = True
    """Whether small splats line its borders; seamless things (around a vase) need none."""
    ruled: tuple[float, ...] = ()
    """Relative widths of cells that repeat along u, one set per `cell[0]`, so that a joint gets its own narrow ones."""
    fine: float = 0.0
    """Opacity of the small splats where they are a fine layer over a coarse one; 0 is one layer only."""
    coarse: tuple[float, float] = (4.0, 4.0)
    """Size of the coarse layer's cells over that of the fine ones, along u and v."""
    sink: float = 0.01
    """How far below the surface the coarse layer lies, metres: as far as there is room."""
    spill: float = 0.0
    """How far the coarse layer reaches beyond the borders, metres: sunk walls would else part at their corners."""
    cut: tuple[Box, ...] = ()
    """What covers parts of it: no splats there, as those would shine through in front of what is close to them."""


@dataclass(frozen=True, eq=False)
class Thing:
    """A piece of the room."""

    sheets: tuple[Sheet, ...]
    boxes: tuple[Box, ...] = ()
    """What throws shade."""
    covers: tuple[Box, ...] = ()
    """What hides the floor and walls behind it."""


@dataclass(frozen=True, eq=False)
class Splats:
    """Unlit splats of many sheets; all arrays float32 with N rows."""

    at: ndarray
    """[N, 2] u and v on its sheet, metres."""
    place: ndarray
    """[N, 3]"""
    frame: ndarray
    """[N, 3, 3] unit columns: along u, along v, normal."""
    scale: ndarray
    """[N, 3] metres."""
    paint: ndarray
    """[N, 3] display sRGB."""
    traits: ndarray
    """[N, 5] gloss, opacity, glow, thin, and how far it lies below the surface, metres."""


def splats(sheet: Sheet, number: int) -> list[Splats]:
    """Cover a sheet with splats, `fine` ones over coarse ones where it says so; `number` seeds its jitter.

    As in trained scenes few large splats then carry the surface and many small ones its detail. The coarse layer
    lies `sink` deep, or at a slant its splats, sorted by their centres, would be drawn over the fine ones.
    """
    u, wide = _ruled(sheet) if sheet.ruled else _cells(sheet.size[0], sheet.cell[0], BORDER * sheet.crisp)
    v, tall = _cells(sheet.size[1], sheet.cell[1], BORDER * sheet.crisp)
    cells = _grid(u, v, wide, tall)
    if sheet.cut:
        cells = cells[:, _uncovered(sheet, *cells[:2])]
    paint = sheet.paint(*cells[:2])
    if not sheet.fine:
        return [_layer(sheet, cells, paint, number, sheet.opacity)]
    return [_layer(sheet, cells, paint, number, sheet.fine), _coarse(sheet, cells, paint)]


def _layer(sheet: Sheet, cells: ndarray, paint: ndarray, number: int, opacity: float) -> Splats:
    """One splat on each of `cells` [4, N] (u, v, width, height)."""
    u, v, wide, tall = cells
    if sheet.jitter:
        stray = np.random.default_rng(number).uniform(-sheet.jitter, sheet.jitter, (2, len(u))).astype(np.float32)
        u, v = u + stray[0] * wide, v + stray[1] * tall
    place, frame, stretch = surface(sheet.shape, u, v)
    overlap = STRAY_OVERLAP if sheet.jitter else OVERLAP
    across = np.full_like(u, THICKNESS)
    scale = np.stack([overlap * wide * stretch[:, 0], overlap * tall * stretch[:, 1], across], 1)
    traits = np.array([sheet.gloss, opacity, sheet.glow, sheet.thin, 0], np.float32)
    traits = np.broadcast_to(traits, (len(u), 5))
    return Splats(np.stack([u, v], 1), place, frame, np.maximum(scale, 2e-4), paint, traits)


def _coarse(sheet: Sheet, fine: ndarray, paint: ndarray) -> Splats:
    """The carrying layer: larger cells, painted with the mean of the `fine` ones over them."""
    cell = sheet.coarse[0] * sheet.cell[0] / max(1, len(sheet.ruled)), sheet.coarse[1] * sheet.cell[1]
    u, wide = _cells(sheet.size[0], cell[0], COARSE_BORDER * sheet.crisp)
    v, tall = _cells(sheet.size[1], cell[1], COARSE_BORDER * sheet.crisp)
    row = np.searchsorted(u + 0.5 * wide, fine[0]).clip(0, len(u) - 1)
    column = np.searchsorted(v + 0.5 * tall, fine[1]).clip(0, len(v) - 1)
    where = row * len(v) + column
    count = np.bincount(where, minlength=len(u) * len(v))
    kept = np.flatnonzero(count)
    mean = [np.bincount(where, channel, len(count))[kept] / count[kept] for channel in paint.T]
    (u, wide), (v, tall) = _spilled(u, wide, sheet.spill), _spilled(v, tall, sheet.spill)
    layer = _layer(sheet, _grid(u, v, wide, tall)[:, kept], np.stack(mean, 1).astype(np.float32), 1, sheet.opacity)
    traits = layer.traits.copy()
    traits[:, 4] = sheet.sink
    return replace(layer, traits=traits)


def surface(shape: Shape, u: ndarray, v: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Places [N, 3], frames [N, 3, 3] and metres per metre along u and v [N, 2] of a shape."""
    if isinstance(shape, Flat):
        frame = np.stack([shape.along_u, -shape.along_v, shape.normal], 1)
        return shape(u, v), np.broadcast_to(frame, (len(u), 3, 3)), np.ones((len(u), 2), np.float32)
    step, place = np.float32(2e-3), shape(u, v)
    along_u, along_v = (shape(u + step, v) - place) / step, (shape(u, v + step) - place) / step
    first, stretch_u = unit(along_u)
    normal, _ = unit(cross(along_v, first))
    second = cross(normal, first)
    stretch_v = np.abs((along_v * second).sum(1, keepdims=True))
    frame = np.stack([first, second, normal], 2)
    return place.astype(np.float32), frame.astype(np.float32), np.hstack([stretch_u, stretch_v])


def unit(vectors: ndarray) -> tuple[ndarray, ndarray]:
    """Unit vectors [N, 3] and lengths [N, 1]; a vector of no length becomes upright."""
    x, y, z = vectors.T
    length = np.sqrt(x * x + y * y + z * z)[:, None]
    upright = np.array([0, -1, 0], np.float32)
    return np.where(length > 1e-7, vectors / np.maximum(length, 1e-7), upright), length


def cross(first: ndarray, second: ndarray) -> ndarray:
    """[N, 3] cross products; numpy's own takes ten times as long on short arrays."""
    (a, b, c), (x, y, z) = first.T, second.T
    return np.stack([b * z - c * y, c * x - a * z, a * y - b * x], 1)


class Flat:
    """The shape of a plane from a corner along two unit vectors at a right angle."""

    def __init__(self, corner: ndarray, along_u: ndarray, along_v: ndarray) -> None:
        self.corner, self.along_u, self.along_v = corner, along_u, along_v
        self.normal = cross(along_v[None], along_u[None])[0]

    def __call__(self, u: ndarray, v: ndarray) -> ndarray:
        return self.corner + u[:, None] * self.along_u + v[:, None] * self.along_v


def flat(corner: tuple, along_u: tuple, along_v: tuple) -> Shape:
    """A plane from `corner` along two vectors at a right angle."""
    along_u, along_v = (np.array(value, np.float32) / np.float32(math.hypot(*value)) for value in (along_u, along_v))
    return Flat(np.array(corner, np.float32), along_u, along_v)


def lathe(foot: tuple, profile: list[tuple[float, float]]) -> tuple[Shape, tuple[float, float]]:
    """A turned body on `foot` (x, y, z), outside to the front: its shape and size.

    `profile` holds (radius, height above the foot) from top to bottom.
    """
    points = np.array(profile, np.float32)
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))]).astype(np.float32)
    around = np.float32(2 * math.pi * points[:, 0].max())

    def shape(u: ndarray, v: ndarray) -> ndarray:
        radius, height = np.interp(v, length, points[:, 0]), np.interp(v, length, points[:, 1])
        angle = u * (2 * math.pi / around)
        return np.stack([foot[0] + radius * np.cos(angle), foot[1] - height, foot[2] + radius * np.sin(angle)], 1)

    return shape, (float(around), float(length[-1]))


def strip(path: ndarray, across: ndarray, width: Callable[[ndarray], ndarray], size: tuple[float, float]) -> Shape:
    """A leaf or ribbon around a quadratic curve through the 3 points of `path`, `width(share of its length)` wide.

    `size` is its nominal width and its length; u and v run over it.
    """
    a, b, c = path

    def shape(u: ndarray, v: ndarray) -> ndarray:
        t = (v / size[1])[:, None]
        middle = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        return middle + (u / size[0] - 0.5)[:, None] * width(v / size[1])[:, None] * across

    return shape


def faces(center: tuple, half: tuple, skip: str = "") -> dict[str, tuple[Shape, tuple[float, float]]]:
    """The faces of a box by name (-x +x -y +y -z +z; -y is the top) as (shape, size); `skip` names some to omit."""
    found = {}
    for name, (across, down) in FACES.items():
        if name in skip:
            continue
        across, down, middle = np.array(across), np.array(down), np.array(center, np.float32)
        outward = cross(down[None], across[None])[0]
        corner = middle + (outward - across - down) * np.array(half)
        found[name] = flat(corner, across, down), (2 * half[_axis(across)], 2 * half[_axis(down)])
    return found


FACES = {
    "-x": ((0, 0, -1), (0, 1, 0)),
    "+x": ((0, 0, 1), (0, 1, 0)),
    "-y": ((1, 0, 0), (0, 0, -1)),
    "+y": ((1, 0, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, 1, 0)),
    "+z": ((-1, 0, 0), (0, 1, 0)),
}
"""Directions of u and v on each face of a box, to the right and down for who looks at it."""


def _axis(direction: ndarray) -> int:
    return int(np.abs(direction).argmax())


def rounded(shape: Shape, center: tuple, half: tuple, radius: float, bulge: float = 0.0) -> Shape:
    """A face of a box with its edges rounded and its middle swollen by `bulge` metres."""
    center, half = np.array(center, np.float32), np.array(half, np.float32)
    core = np.maximum(half - radius, 1e-4)

    def bent(u: ndarray, v: ndarray) -> ndarray:
        offset = shape(u, v) - center
        inner = np.clip(offset, -core, core)
        away, _ = unit(offset - inner)
        if not bulge:
            return center + inner + radius * away
        swell = np.prod(np.cos(np.clip(inner / half, -1, 1) * (math.pi / 2)) ** 0.5 + 1e-3, axis=1, keepdims=True)
        return center + inner + (radius + bulge * np.clip(swell * 6, 0, 1)) * away

    return bent


def turned(shape: Shape, pivot: tuple, angle: float, tilt: float = 0.0) -> Shape:
    """A shape turned about the upright through `pivot`, after tilting it backwards about x."""
    c, s, ct, st = math.cos(angle), math.sin(angle), math.cos(tilt), math.sin(tilt)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
    turn, pivot = turn.astype(np.float32), np.array(pivot, np.float32)
    return lambda u, v: pivot + (shape(u, v) - pivot) @ turn.T


def _uncovered(sheet: Sheet, u: ndarray, v: ndarray) -> ndarray:
    """[N] bool: not inside any of the boxes that cover the sheet."""
    place = sheet.shape(u, v)
    covered = np.zeros(len(u), bool)
    for center, half in sheet.cut:
        covered |= (np.abs(place - np.array(center, np.float32)) < np.array(half, np.float32)).all(1)
    return ~covered


def _ruled(sheet: Sheet) -> tuple[ndarray, ndarray]:
    """Middles and widths of cells that repeat every `cell[0]` along u."""
    shares = np.array(sheet.ruled, np.float32)
    widths = np.tile(shares * (sheet.cell[0] / shares.sum()), round(sheet.size[0] / sheet.cell[0]))
    return (np.cumsum(widths) - 0.5 * widths).astype(np.float32), widths.astype(np.float32)


def _cells(length: float, cell: float, border: tuple[float, ...]) -> tuple[ndarray, ndarray]:
    """Middles and widths of the cells that part `length`; `border` as BORDER."""
    inner = length / cell - 2 * sum(border)
    if inner < 1:
        border, inner = (), length / cell
    widths = np.array([*border, *[1.0] * max(1, round(inner)), *reversed(border)], np.float32)
    widths *= length / widths.sum()
    return (np.cumsum(widths) - 0.5 * widths).astype(np.float32), widths


def _spilled(middles: ndarray, widths: ndarray, spill: float) -> tuple[ndarray, ndarray]:
    """The same cells stretched by `spill` metres at both ends."""
    factor = np.float32(1 + 2 * spill / widths.sum())
    return middles * factor - np.float32(spill), widths * factor


def _grid(u: ndarray, v: ndarray, wide: ndarray, tall: ndarray) -> ndarray:
    """[4, N] u, v, width and height of every cell."""
    return np.stack([np.repeat(u, len(v)), np.tile(v, len(u)), np.repeat(wide, len(v)), np.tile(tall, len(u))])


def block(center: tuple, half: tuple, coat: Paint, cell: float, skip: str = "", **traits) -> list[Sheet]:
    """The faces of a box in one paint; along its longer sides splats are up to five times as long as `cell`."""
    sides = faces(center, half, skip).values()
    return [
        Sheet(shape, size, coat, tuple(max(cell, min(length / 10, 5 * cell)) for length in size), **traits)
        for shape, size in sides
    ]


def soft_block(center: tuple, half: tuple, radius: float, coat: Paint, bulge: float = 0.0, **more) -> list[Sheet]:
    """A cushion: a box with round edges; `more` may hold `turn`, `tilt` (radians), `cell`, `skip` and traits."""
    turn, tilt, cell = more.pop("turn", 0.0), more.pop("tilt", 0.0), more.pop("cell", 0.027)
    sheets = []
    for shape, size in faces(center, half, more.pop("skip", "")).values():
        bent = rounded(shape, center, half, radius, bulge)
        bent = turned(bent, center, turn, tilt) if turn or tilt else bent
        sheets.append(Sheet(bent, size, coat, (cell, cell), crisp=False, jitter=0.2, **more))
    return sheets


def turned_body(foot: tuple, profile: list, coat: Paint, cell: float, **traits) -> Sheet:
    """A vase, pole or bowl."""
    shape, size = lathe(foot, profile)
    return Sheet(shape, size, coat, (cell, cell), crisp=False, **traits)


def together(things: Sequence[Thing]) -> Thing:
    """Many things as one."""
    return Thing(
        *(tuple(part for thing in things for part in getattr(thing, name)) for name in ("sheets", "boxes", "covers"))
    )
