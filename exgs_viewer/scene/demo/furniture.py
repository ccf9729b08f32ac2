"""Furniture of the demo room."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy import ndarray

from exgs_viewer.scene.demo import paint
from exgs_viewer.scene.demo.sheets import Sheet, Thing, block, faces, flat, soft_block, turned, turned_body

X, Z = 2.7, 2.3
"""Half width and half depth of the room, metres; its middle is at 0."""
TABLE = (-0.35, 0.42, 0.20)
"""x, height and z of the coffee table's top, metres."""
SHELF = (1.20, 2.45, 2.12, 0.30)
"""Left and right x, height and depth of the bookshelf at the far wall, metres."""
BOARDS = (0.06, 0.46, 0.84, 1.22, 1.60, 1.96)
"""Heights of its boards' tops; the last board bears no books."""
BOOK_TINTS = (
    "8c3b34",
    "2b4a66",
    "3f6350",
    "c79a48",
    "e8dcc2",
    "6d5560",
    "34343a",
    "b5664a",
    "5f8a96",
    "d7c4a0",
    "7b3442",
    "56724e",
)


def sofa() -> Thing:
    """A three-seater against the far wall with patterned pillows."""
    cloth, z = paint.linen("6b8793"), Z - 0.52
    sheets = soft_block((-0.62, -0.21, z), (1.02, 0.13, 0.42), 0.04, cloth, skip="+z +y -y")
    for side in (-1, 1):
        sheets += soft_block(
            (-0.62 + side * 1.08, -0.33, z),
            (0.10, 0.27, 0.44),
            0.07,
            cloth,
            skip="+z +y",
        )
    sheets += soft_block(
        (-0.62, -0.52, Z - 0.15),
        (1.0, 0.34, 0.10),
        0.08,
        cloth,
        tilt=-0.12,
        skip="+z +y",
    )
    for number in range(3):
        x = -1.26 + 0.645 * number
        sheets += soft_block(
            (x, -0.40, z - 0.06),
            (0.315, 0.075, 0.37),
            0.055,
            cloth,
            0.02,
            skip="+z +y",
        )
        sheets += soft_block(
            (x, -0.66, Z - 0.30), (0.31, 0.22, 0.085), 0.075, cloth, 0.035, tilt=-0.2, skip="+z +y", sink=0.04
        )
    pillows = (
        ((-1.45, -0.64, Z - 0.46), paint.stripes("e6c25a", "f5ecd4", 0.03), 0.35),
        ((-1.17, -0.60, Z - 0.52), paint.checks("c9573c", "f0dfc4", 0.035), -0.15),
        ((0.10, -0.64, Z - 0.47), paint.checks("2b5c52", "e9dcbf", 0.05), -0.4),
    )
    for center, coat, turn in pillows:
        sheets += soft_block(
            center,
            (0.2, 0.2, 0.06),
            0.058,
            coat,
            0.05,
            turn=turn,
            skip="+y",
            tilt=-0.35,
            cell=0.0095,
        )
    legs = [((-0.62 + 1.0 * a, -0.04, z + 0.36 * b), (0.02, 0.04, 0.02)) for a in (-1, 1) for b in (-1, 1)]
    for leg in legs:
        sheets += block(*leg, paint.wood("4a2d1a", "7a4e2e"), 0.01)
    boxes = (
        ((-0.62, -0.22, z), (1.0, 0.12, 0.40)), ((-0.62, -0.40, z - 0.05), (0.94, 0.05, 0.33)),
        ((-0.62, -0.52, Z - 0.16), (0.97, 0.30, 0.09)), ((-1.70, -0.34, z), (0.08, 0.24, 0.42)),
        ((0.46, -0.34, z), (0.08, 0.24, 0.42)),
    )  # fmt: skip
    return Thing(tuple(sheets), boxes)


def coffee_table() -> Thing:
    """A polished walnut table with a shelf below."""
    x, high, z = TABLE
    walnut, board = paint.wood("4b2a17", "9a6336", 1.0, 3), ((x, -high + 0.018, z), (0.58, 0.018, 0.33))
    top = flat((x + 0.58, -high, z + 0.33), (0, 0, -1), (-1, 0, 0))
    sheets = [Sheet(top, (0.66, 1.16), walnut, (0.0072, 0.022), gloss=0.9, fine=0.5, coarse=(6, 3), sink=0.02)]
    sheets += block(*board, walnut, 0.012, "-y", gloss=0.8)
    sheets += block((x, -0.13, z), (0.50, 0.012, 0.26), walnut, 0.016)
    tall = (high - 0.04) / 2
    legs = [((x + 0.53 * a, -tall, z + 0.28 * b), (0.025, tall, 0.025)) for a in (-1, 1) for b in (-1, 1)]
    for leg in legs:
        sheets += block(*leg, paint.wood("3d2213", "7a4b29"), 0.011, "-y +y")
    boxes = (board, ((x, -0.13, z), (0.5, 0.012, 0.26)), *legs)
    return Thing(tuple(sheets), boxes)


def shelf() -> Thing:
    """An oak bookshelf."""
    left, right, high, deep = SHELF
    oak, z = paint.wood("8a5a30", "c79a62", 1.0, 9), Z - deep / 2
    middle, half = (left + right) / 2, (right - left) / 2
    boxes = [
        ((left + 0.012, -high / 2, z), (0.012, high / 2, deep / 2)),
        ((right - 0.012, -high / 2, z), (0.012, high / 2, deep / 2)),
    ]
    boxes += [((middle, -board + 0.011, z), (half - 0.024, 0.011, deep / 2)) for board in (*BOARDS, high)]
    back = ((middle, -high / 2, Z - 0.008), (half, high / 2, 0.006))
    sheets = [sheet for box in boxes for sheet in block(*box, oak, 0.024, "+z")]
    sheets += block(*back, paint.wood("6d4524", "9a6d3e", 1.0, 10), 0.02, "+z -x +x -y +y")
    cover = ((middle, -high / 2, Z), (half - 0.02, high / 2 - 0.02, 0.1))
    return Thing(tuple(sheets), (*boxes, back), (cover,))


def books() -> Thing:
    """Rows of books with printed backs and gaps between them, and a small vase on the last board."""
    left, right, _, _ = SHELF
    random, sheets, boxes = np.random.default_rng(5), [], []
    for board in BOARDS[:-1]:
        row, end = [], right - 0.03 - random.uniform(0.0, 0.25)
        x = left + 0.03
        while True:
            size = random.uniform((0.018, 0.19, 0.15), (0.05, 0.30, 0.21))
            if x + size[0] > end:
                break
            row.append((x, size, int(random.integers(1 << 20))))
            x += size[0] + (0.0015 if random.uniform() > 0.06 else random.uniform(0.06, 0.14))
        sheets += [sheet for number in range(len(row)) for sheet in book(row, number, board)]
        boxes.append((((left + 0.03 + x) / 2, -board - 0.11, Z - 0.11), ((x - left - 0.03) / 2, 0.11, 0.085)))
    vase = [(0.001, 0.13), (0.05, 0.11), (0.075, 0.05), (0.04, 0.0)]
    sheets.append(turned_body((right - 0.16, -BOARDS[-1], Z - 0.15), vase, paint.plain("2f6f73"), 0.008, gloss=1.0))
    return Thing(tuple(sheets), tuple(boxes))


def book(row: list[tuple[float, ndarray, int]], number: int, board: float) -> list[Sheet]:
    """Back, pages and those sides of one book of a row (left edge, size, seed) that its neighbours leave free."""
    left, (wide, tall, deep), seed = row[number]
    tint = (paint.color(BOOK_TINTS[seed % len(BOOK_TINTS)]) * (0.85 + 0.3 * (seed // 16 % 16) / 16)).clip(0, 1)
    center = (left + wide / 2, -board - tall / 2, Z - 0.02 - deep / 2)
    sides = faces(center, (wide / 2, tall / 2, deep / 2), "+y +z")

    def cover(u: ndarray, v: ndarray) -> ndarray:
        return np.broadcast_to(tint, (len(u), 3))

    def pages(u: ndarray, v: ndarray) -> ndarray:
        return paint.mix(paint.color("cdbf9f"), paint.color("f2e9d5"), paint.noise(u * 900, v * 0, seed))

    sheets = [
        Sheet(
            *sides["-z"],
            paint.spine(tint, seed, wide, tall),
            (0.005, 0.0058),
            gloss=0.35,
            crisp=False,
            fine=0.5,
            coarse=(5, 8),
            sink=0.05,
        ),
        Sheet(*sides["-y"], pages, (0.009, 0.035), crisp=False),
    ]
    for name, neighbour in (("-x", number - 1), ("+x", number + 1)):
        if not 0 <= neighbour < len(row) or _shows(row[number], row[neighbour]):
            sheets.append(Sheet(*sides[name], cover, (0.035, 0.035), crisp=False))
    return sheets


def _shows(one: tuple, other: tuple) -> bool:
    """Whether a book is higher or deeper than its neighbour, or stands apart from it."""
    low, high = sorted((one, other), key=lambda item: item[0])
    apart = high[0] - low[0] - low[1][0] > 0.002
    return bool(apart or one[1][1] > other[1][1] + 0.004 or one[1][2] > other[1][2] + 0.004)


def desk() -> Thing:
    """A light desk at the right wall with a laptop, papers and a mug."""
    x, z, high = X - 0.35, 0.05, 0.74
    birch = paint.wood("b98f5c", "e3c79a", 1.0, 17)
    sheets = [
        Sheet(
            flat((x - 0.33, -high, z + 0.72), (1, 0, 0), (0, 0, -1)),
            (0.66, 1.44),
            birch,
            (0.011, 0.024),
            gloss=0.45,
            fine=0.5,
            sink=0.015,
        )
    ]
    sheets += block((x, -high + 0.015, z), (0.33, 0.015, 0.72), birch, 0.014, "-y")
    tall = (high - 0.034) / 2
    legs = [((x + 0.29 * a, -tall, z + 0.66 * b), (0.018, tall, 0.018)) for a in (-1, 1) for b in (-1, 1)]
    for leg in legs:
        sheets += block(*leg, paint.plain("e8e4da"), 0.012, "-y +y")
    sheets += block((x - 0.02, -high - 0.008, z - 0.1), (0.12, 0.008, 0.16), paint.plain("b7bbc0"), 0.01, gloss=0.6)
    screen = flat((x + 0.10, -high - 0.235, z + 0.06), (0, 0, -1), (-0.22, 0.975, 0))
    sheets.append(Sheet(screen, (0.32, 0.22), desktop, (0.0055, 0.0055), glow=0.85, gloss=0.5))
    letter = flat((x - 0.26, -high - 0.003, z + 0.58), (0.94, 0, 0.34), (0.34, 0, -0.94))
    sheets.append(Sheet(letter, (0.21, 0.297), page, (0.0055, 0.0055)))
    mug = [(0.036, 0.095), (0.04, 0.09), (0.04, 0.005), (0.001, 0.0)]
    sheets.append(
        turned_body((x - 0.14, -high, z + 0.22), mug, paint.stripes("d9553b", "f4efe4", 0.012), 0.006, gloss=1.0)
    )
    boxes = (
        ((x, -high + 0.015, z), (0.33, 0.015, 0.72)),
        *legs,
        ((x - 0.02, -high - 0.008, z - 0.1), (0.12, 0.008, 0.16)),
    )
    return Thing(tuple(sheets), boxes)


def desktop(u: ndarray, v: ndarray) -> ndarray:
    """A laptop's picture: a wallpaper with a window of text."""
    picture = paint.mountains(u * 0.9 / 0.32, v * 0.6 / 0.22)
    inside = (np.abs(u - 0.2) < 0.09) & (np.abs(v - 0.10) < 0.07)
    line = ((v % 0.014) < 0.007) & (paint.noise(u * 300, np.floor(v / 0.014) * 7, 2) > 0.35) & (np.abs(u - 0.2) < 0.08)
    text = np.where(line[:, None], paint.color("30343c"), paint.color("f7f7f5"))
    return np.where(inside[:, None], text, picture)


def page(u: ndarray, v: ndarray) -> ndarray:
    """A written page."""
    line = ((v % 0.016) < 0.006) & (paint.noise(u * 260, np.floor(v / 0.016) * 3, 6) > 0.38)
    margin = (np.abs(u - 0.105) < 0.08) & (v > 0.04) & (v < 0.25)
    return np.where((line & margin)[:, None], paint.color("3b3f52"), paint.color("f5f2ea"))


def chair(place: tuple, turn: float) -> Thing:
    """A wooden chair with a slatted back; it looks towards -z before it is turned."""
    x, _, z = place
    beech, parts = paint.wood("a86f3c", "d9a870", 1.0, 23), []
    for a in (-1, 1):
        parts.append(((x + 0.19 * a, -0.22, z - 0.19), (0.016, 0.22, 0.016)))
        parts.append(((x + 0.19 * a, -0.46, z + 0.19), (0.016, 0.46, 0.016)))
    parts += [((x, -0.88, z + 0.19), (0.19, 0.035, 0.010)), ((x, -0.16, z), (0.19, 0.009, 0.009))]
    parts += [((x - 0.12 + 0.06 * k, -0.65, z + 0.19), (0.009, 0.20, 0.006)) for k in range(5)]
    sheets = [sheet for part in parts for sheet in block(*part, beech, 0.013, gloss=0.3)]
    sheets += soft_block((x, -0.455, z), (0.215, 0.022, 0.21), 0.02, beech, cell=0.013, gloss=0.3)
    sheets = [replace(sheet, shape=turned(sheet.shape, place, turn)) for sheet in sheets]
    c, s = math.cos(turn), math.sin(turn)
    boxes = (((x, -0.455, z), (0.19, 0.02, 0.19)),)
    feet = [(x + c * a + s * b, z - s * a + c * b) for a in (-0.19, 0.19) for b in (-0.19, 0.19)]
    return Thing(tuple(sheets), (*boxes, *(((fx, -0.22, fz), (0.016, 0.22, 0.016)) for fx, fz in feet)))


def sideboard() -> Thing:
    """A low sideboard at the near wall with a table lamp's worth of ornaments."""
    center, half = (-1.35, -0.37, -Z + 0.22), (0.85, 0.33, 0.20)
    teak = paint.wood("5b3519", "9c6736", 1.0, 41)
    sheets = block(center, half, teak, 0.02, "-z", gloss=0.4)
    for k in range(3):
        x = center[0] - 0.55 + 0.55 * k
        sheets += block(
            (x, center[1], center[2] + half[2] + 0.008),
            (0.255, 0.27, 0.008),
            paint.wood("6b4020", "b0783f", 1.0, 42 + k),
            0.012,
            "-z",
            gloss=0.4,
        )
        sheets += block(
            (x, center[1] - 0.2, center[2] + half[2] + 0.022),
            (0.05, 0.006, 0.006),
            paint.plain("d8b56a"),
            0.008,
            gloss=1.0,
        )
    legs = [((center[0] + 0.8 * a, -0.02, center[2] + 0.16 * b), (0.02, 0.02, 0.02)) for a in (-1, 1) for b in (-1, 1)]
    sheets += [sheet for leg in legs for sheet in block(*leg, teak, 0.012)]
    jar = [(0.05, 0.30), (0.045, 0.27), (0.10, 0.18), (0.09, 0.08), (0.06, 0.0)]
    sheets.append(
        turned_body((-1.85, -0.70, -Z + 0.22), jar, paint.stripes("20465e", "e9e2cf", 0.022), 0.009, gloss=1.0)
    )
    return Thing(tuple(sheets), ((center, half),))
