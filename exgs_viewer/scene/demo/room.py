"""The demo room: walls, window, door and pictures, and what else stands in it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from exgs_viewer.scene.demo import paint
from exgs_viewer.scene.demo.furniture import TABLE, X, Z, books, chair, coffee_table, desk, shelf, sideboard, sofa
from exgs_viewer.scene.demo.light import Lights
from exgs_viewer.scene.demo.objects import bottles, lamp, plant, rug, still_life
from exgs_viewer.scene.demo.sheets import Paint, Sheet, Thing, block, cross, faces, flat, together, turned_body

HIGH = 2.7
"""Height of the room, metres. The floor lies at y = 0; y points down."""
WINDOW = (-X, -2.30, -0.80, -1.15, 0.95)
SUN = (0.826, 0.505, -0.250)
LAMP = (0.86, -1.52, 1.88)


def furnish() -> tuple[list[Sheet], Lights]:
    """Everything in the room, and its light."""
    walls = shell()
    room = (skirting(), window(), curtains(), outside(), pictures(), door(), ceiling_lamp())
    chairs = (chair((2.04, 0.0, 0.12), -1.45), chair((0.75, 0.0, -1.95), math.pi))
    pieces = (sofa(), coffee_table(), shelf(), books(), desk(), sideboard(), *chairs)
    things = together((*room, *pieces, rug(), lamp(LAMP), plant(), bottles(WINDOW), still_life(TABLE)))
    lights = Lights(((0, -HIGH / 2, 0), (X, HIGH / 2, Z)), WINDOW, (3, 2), SUN, LAMP, things.boxes)
    return [replace(sheet, cut=things.covers) for sheet in walls] + list(things.sheets), lights


def shell() -> list[Sheet]:
    """Floor, ceiling and walls; the left wall leaves the window open."""
    wall = paint.plaster("e3d6bf", 1)
    accent = paint.plaster("7f9490", 2)
    white = paint.plaster("efebe2", 3)
    coats = {"cell": (0.036, 0.036), "jitter": 0.2, "fine": 0.12, "coarse": (3.6, 3.6), "sink": 0.1}
    x, top, bottom, near, far = WINDOW
    left = [(-Z, near, -HIGH, 0), (far, Z, -HIGH, 0), (near, far, -HIGH, top), (near, far, bottom, 0)]
    sheets = [
        Sheet(
            flat((-X, 0, -Z), (0, 0, 1), (1, 0, 0)),
            (2 * Z, 2 * X),
            paint.planks,
            (paint.PLANK, 0.038),
            gloss=0.42,
            fine=0.5,
            coarse=(6, 3),
            sink=0.1,
            spill=0.11,
            ruled=(0.26, *[1.0] * 10, 0.26),
        ),
        Sheet(flat((-X, -HIGH, Z), (0, 0, -1), (1, 0, 0)), (2 * Z, 2 * X), white, (0.12, 0.12), jitter=0.12),
        Sheet(flat((-X, -HIGH, Z), (1, 0, 0), (0, 1, 0)), (2 * X, HIGH), accent, spill=0.11, **coats),
        Sheet(flat((X, -HIGH, -Z), (-1, 0, 0), (0, 1, 0)), (2 * X, HIGH), wall, spill=0.11, **coats),
        Sheet(flat((X, -HIGH, Z), (0, 0, -1), (0, 1, 0)), (2 * Z, HIGH), wall, spill=0.11, **coats),
        *[Sheet(flat((x, y0, z0), (0, 0, 1), (0, 1, 0)), (z1 - z0, y1 - y0), wall, **coats) for z0, z1, y0, y1 in left],
    ]
    return sheets


def skirting() -> Thing:
    """Skirting boards and a cornice."""
    white, sheets = paint.plain("f1eee7", 0.02), []
    for y, tall, deep in ((-0.045, 0.045, 0.009), (-HIGH + 0.035, 0.035, 0.03)):
        sheets += block((0, y, Z - deep), (X, tall, deep), white, 0.022, "+z +y -x +x")
        sheets += block((0, y, -Z + deep), (X, tall, deep), white, 0.03, "-z +y -x +x")
        sheets += block((X - deep, y, 0), (deep, tall, Z), white, 0.022, "+x +y -z +z")
        sheets += block((-X + deep, y, 0), (deep, tall, Z), white, 0.022, "-x +y -z +z")
    return Thing(tuple(sheets))


def window() -> Thing:
    """Reveal, frame, bars, sill and panes of faintly mirroring glass."""
    x, top, bottom, near, far = WINDOW
    white, sheets = paint.plain("f4f2ec", 0.02), []
    middle_y, middle_z, tall, wide = (top + bottom) / 2, (near + far) / 2, (bottom - top) / 2, (far - near) / 2
    deep = 0.09
    for center, half, face in (
        ((x - deep, top, middle_z), (deep, 0.0, wide), "+y"), ((x - deep, bottom, middle_z), (deep, 0.0, wide), "-y"),
        ((x - deep, middle_y, near), (deep, tall, 0.0), "+z"), ((x - deep, middle_y, far), (deep, tall, 0.0), "-z"),
    ):  # fmt: skip
        shape, size = faces(center, half)[face]
        sheets.append(Sheet(shape, size, white, (0.026, 0.026)))
    for number in range(4):
        sheets += block((x - deep, middle_y, near + wide * number * 2 / 3), (0.03, tall, 0.022), white, 0.022, "+y -y")
    for number in range(3):
        sheets += block((x - deep, top + tall * number, middle_z), (0.026, 0.022, wide), white, 0.022, "-z +z")
    sheets += block((x + 0.07, bottom + 0.02, middle_z), (0.09, 0.02, wide + 0.06), white, 0.022, gloss=0.3)
    pane = flat((x - deep, top, near), (0, 0, 1), (0, 1, 0))
    sheets.append(
        Sheet(
            pane,
            (2 * wide, 2 * tall),
            paint.plain("dfeaf2"),
            (0.09, 0.09),
            opacity=0.02,
            gloss=1.0,
            glow=0.9,
            jitter=0.3,
            crisp=False,
        )
    )
    frame = [((x + 0.012, middle_y, z), (0.012, tall + 0.07, 0.035)) for z in (near - 0.035, far + 0.035)]
    for center, half in [*frame, ((x + 0.012, top - 0.035, middle_z), (0.012, 0.035, wide))]:
        sheets += block(center, half, white, 0.024, "-x")
    return Thing(tuple(sheets), (((x + 0.07, bottom + 0.02, middle_z), (0.09, 0.02, wide + 0.06)),))


def curtains() -> Thing:
    """Two linen curtains in folds, lit from behind, on a dark rod."""
    x, top, _, near, far = WINDOW
    sheets = []
    for z0, phase in ((near - 0.50, 0.0), (far - 0.05, 1.3)):

        def shape(u, v, z0=z0, phase=phase):
            fold = 0.045 * np.sin(u * 38 + phase) * (0.5 + 0.25 * v) + 0.012 * np.sin(u * 91 + v * 2)
            pinch = 0.04 * np.sin(math.pi * v / 2.45) * (0.28 - u)
            return np.stack([x + 0.13 + fold, top - 0.12 + v, z0 + u + pinch], 1)

        sheets.append(Sheet(shape, (0.56, 2.36), paint.linen("efe4cf"), (0.016, 0.05), opacity=0.88, thin=True))
    rod = [(0.012, 0.0), (0.012, -2.9)]
    for sheet in (turned_body((0, 0, 0), rod, paint.plain("3a2c22"), 0.012, gloss=0.6),):

        def along(u, v, body=sheet.shape):
            points = body(u, v)
            return np.stack([x + 0.13 + points[:, 0], top - 0.15 + points[:, 2], near - 0.5 + points[:, 1]], 1)

        sheets.append(replace(sheet, shape=along, cell=(0.012, 0.02)))
    return Thing(tuple(sheets))


def outside() -> Thing:
    """A bright landscape on a screen some metres beyond the window."""
    screen = flat((-X - 2.5, -3.6, -4.8), (0, 0, 1), (0, 1, 0))
    return Thing((Sheet(screen, (9.4, 3.7), paint.landscape, (0.05, 0.05), glow=1.0, fine=0.5, sink=0.2),))


def framed(corner: tuple, across: tuple, size: tuple, coat: Paint, tint: str, cell: float = 0.0056) -> Thing:
    """A picture in a frame; `corner` is its upper left one, `across` the unit vector to the right."""
    corner, right, down = (np.array(value, np.float32) for value in (corner, across, (0, 1, 0)))
    front = cross(down[None], right[None])[0]
    middle = corner + right * size[0] / 2 + down * size[1] / 2
    sheets = [
        Sheet(
            flat(corner + front * 0.018, right, down),
            size,
            coat,
            (cell, cell),
            gloss=0.25,
            glow=0.15,
            fine=0.48,
            coarse=(12, 12),
            sink=0.08,
        )
    ]
    edge, deep, wood = 0.022, 0.017, paint.plain(tint, 0.12, 0.03)
    for side, along, half_along in (
        (down * (size[1] / 2 + edge), right, size[0] / 2 + 2 * edge),
        (right * (size[0] / 2 + edge), down, size[1] / 2),
    ):
        half = np.abs(along) * half_along + np.abs(down + np.abs(right) - np.abs(along)) * edge + np.abs(front) * deep
        for sign in (-1, 1):
            center = middle + sign * side + front * deep
            sheets += block(tuple(center.tolist()), tuple(half.tolist()), wood, 0.018, gloss=0.5)
    reach = np.abs(right) * (size[0] / 2 + edge) + down * (size[1] / 2 + edge) + np.abs(front) * 0.1
    return Thing(tuple(sheets), covers=((tuple(middle.tolist()), tuple(reach.tolist())),))


def pictures() -> Thing:
    """Three over the sofa, a large one at the right wall, a tall one beside the door."""
    hung = (
        framed((-1.75, -1.92, Z), (1, 0, 0), (0.55, 0.55), paint.circles, "3a2b20"),
        framed((-1.02, -1.97, Z), (1, 0, 0), (0.9, 0.6), paint.mountains, "b48a45"),
        framed((0.06, -1.92, Z), (1, 0, 0), (0.55, 0.55), paint.wave, "d2b98f"),
        framed((X, -2.0, 0.65), (0, 0, -1), (1.05, 0.7), paint.harbour, "3a2b20", 0.0065),
        framed((0.25, -2.05, -Z), (-1, 0, 0), (0.6, 0.9), paint.portrait, "c9b083", 0.0062),
    )
    return together(hung)


def door() -> Thing:
    """A panelled door in the near wall."""
    white, sheets = (
        paint.plain("e9e3d6", 0.02),
        block((1.85, -1.02, -Z + 0.02), (0.43, 1.02, 0.02), paint.plain("e6dfd0", 0.02), 0.022, "-z +y"),
    )
    for x, y, wide, tall in (
        (1.66, -1.5, 0.13, 0.36),
        (2.04, -1.5, 0.13, 0.36),
        (1.66, -0.55, 0.13, 0.38),
        (2.04, -0.55, 0.13, 0.38),
    ):
        sheets += block((x, y, -Z + 0.046), (wide, tall, 0.006), white, 0.016, "-z")
    for x, y, wide, tall in ((1.37, -1.04, 0.05, 1.08), (2.33, -1.04, 0.05, 1.08), (1.85, -2.09, 0.53, 0.05)):
        sheets += block((x, y, -Z + 0.03), (wide, tall, 0.03), white, 0.018, "-z +y")
    sheets.append(
        turned_body(
            (1.49, -1.0, -Z + 0.085),
            [(0.001, 0.02), (0.024, 0.008), (0.024, -0.008), (0.001, -0.02)],
            paint.plain("b08d4c"),
            0.006,
            gloss=1.0,
        )
    )
    return Thing(tuple(sheets))


def ceiling_lamp() -> Thing:
    """A white glass globe."""
    ball = [(0.14 * math.sin(a), 0.14 * math.cos(a)) for a in np.linspace(0.02, math.pi - 0.02, 16)]
    globe = turned_body((0, -HIGH + 0.36, 0), ball, paint.plain("f3efe4", 0.02), 0.018, gloss=1.0, glow=0.25)
    rod = turned_body((0, -HIGH + 0.22, 0), [(0.008, 0.22), (0.008, 0.0)], paint.plain("8a8378"), 0.009)
    return Thing((globe, rod), (((0, -HIGH + 0.36, 0), (0.09, 0.09, 0.09)),))
