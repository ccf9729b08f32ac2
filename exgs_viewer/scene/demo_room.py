"""The demo room itself: walls, window and furniture as sheets, and the boxes that throw their shade."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from exgs_viewer.scene import demo_paint as paint
from exgs_viewer.scene.demo_light import Lights
from exgs_viewer.scene.demo_sheets import Box, Paint, Sheet, faces, flat, lathe, rounded, strip, turned

X, Z, HIGH = 2.7, 2.3, 2.7
"""Half width, half depth and height of the room, metres. The floor lies at y = 0; y points down."""
WINDOW = (-X, -2.30, -0.80, -1.15, 0.95)
SUN = (0.826, 0.505, -0.250)
LAMP = (0.86, -1.52, 1.88)


@dataclass(frozen=True, eq=False)
class Thing:
    """A piece of the room."""

    sheets: tuple[Sheet, ...]
    boxes: tuple[Box, ...] = ()
    """What throws shade."""
    covers: tuple[Box, ...] = ()
    """What hides the floor and walls behind it."""


def furnish() -> tuple[list[Sheet], Lights]:
    """Everything in the room."""
    things = [shell(), skirting(), window(), curtains(), outside(), rug(), sofa(), coffee_table(), shelf(), books(),
              lamp(), plant(), desk(), chair((1.86, 0.0, 0.12), -1.45), chair((0.75, 0, -1.95), math.pi), pictures(), door(), bottles(), still_life(),
              ceiling_lamp(), sideboard()]  # fmt: skip
    boxes = tuple(box for thing in things for box in thing.boxes)
    lights = Lights(((0, -HIGH / 2, 0), (X, HIGH / 2, Z)), WINDOW, (3, 2), SUN, LAMP, boxes)
    covers = tuple(box for thing in things for box in thing.covers)
    walls = [replace(sheet, cut=covers) for sheet in things[0].sheets]
    return walls + [sheet for thing in things[1:] for sheet in thing.sheets], lights


def block(center: tuple, half: tuple, coat: Paint, cell: float, skip: str = "", **traits) -> list[Sheet]:
    """The faces of a box in one paint."""
    sides = faces(center, half, skip).values()
    return [Sheet(shape, size, coat, (cell, cell), **traits) for shape, size in sides]


def soft_block(center: tuple, half: tuple, radius: float, coat: Paint, bulge: float = 0.0, **more) -> list[Sheet]:
    """A cushion: a box with round edges; `more` may hold `turn` and `tilt` (radians), `cell` and traits."""
    turn, tilt, cell = more.pop("turn", 0.0), more.pop("tilt", 0.0), more.pop("cell", 0.024)
    sheets = []
    for shape, size in faces(center, half).values():
        bent = rounded(shape, center, half, radius, bulge)
        bent = turned(bent, center, turn, tilt) if turn or tilt else bent
        sheets.append(Sheet(bent, size, coat, (cell, cell), crisp=False, jitter=0.2, **more))
    return sheets


def turned_body(foot: tuple, profile: list, coat: Paint, cell: float, **traits) -> Sheet:
    """A vase, pole or bowl."""
    shape, size = lathe(foot, profile)
    return Sheet(shape, size, coat, (cell, cell), crisp=False, **traits)


def shell() -> Thing:
    """Floor, ceiling and walls; the left wall leaves the window open."""
    wall = paint.plaster("d9d2c5", 1)
    accent = paint.plaster("7f9490", 2)
    white = paint.plaster("efebe2", 3)
    coats = {"cell": (0.04, 0.04), "jitter": 0.2}
    x, top, bottom, near, far = WINDOW
    left = [(-Z, near, -HIGH, 0), (far, Z, -HIGH, 0), (near, far, -HIGH, top), (near, far, bottom, 0)]
    sheets = [
        Sheet(
            flat((-X, 0, -Z), (0, 0, 1), (1, 0, 0)),
            (2 * Z, 2 * X),
            paint.planks,
            (paint.PLANK, 0.038),
            gloss=0.42,
            ruled=(0.26, *[1.0] * 10, 0.26),
        ),
        Sheet(flat((-X, -HIGH, Z), (0, 0, -1), (1, 0, 0)), (2 * Z, 2 * X), white, (0.06, 0.06), jitter=0.2),
        Sheet(flat((-X, -HIGH, Z), (1, 0, 0), (0, 1, 0)), (2 * X, HIGH), accent, **coats),
        Sheet(flat((X, -HIGH, -Z), (-1, 0, 0), (0, 1, 0)), (2 * X, HIGH), wall, **coats),
        Sheet(flat((X, -HIGH, Z), (0, 0, -1), (0, 1, 0)), (2 * Z, HIGH), wall, **coats),
        *[Sheet(flat((x, y0, z0), (0, 0, 1), (0, 1, 0)), (z1 - z0, y1 - y0), wall, **coats) for z0, z1, y0, y1 in left],
    ]
    return Thing(tuple(sheets))


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

        sheets.append(Sheet(shape, (0.56, 2.36), paint.linen("efe4cf"), (0.011, 0.026), opacity=0.88, thin=True))
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
    return Thing((Sheet(screen, (9.4, 3.7), paint.landscape, (0.042, 0.042), glow=1.0),))


def rug() -> Thing:
    """A patterned rug with fringes, 8 mm thick."""
    x, z, long, wide = -1.62, 1.12, 2.7, 1.85
    top = Sheet(flat((x, -0.010, z), (1, 0, 0), (0, 0, -1)), (long, wide), paint.carpet(long, wide), (0.0122, 0.0122))
    sheets = [
        top,
        *block(
            (x + long / 2, -0.005, z - wide / 2), (long / 2, 0.005, wide / 2), paint.plain("6b3a30"), 0.012, "-y +y"
        ),
    ]
    for edge, way in ((x, -1), (x + long, 1)):
        fringe = lambda u, v: paint.mix(
            paint.color("b9a988"), paint.color("efe6d0"), paint.noise(u * 0 + v * 90, v * 0, 4)
        )  # noqa: E731
        start = edge - 0.05 if way < 0 else edge
        sheets.append(
            Sheet(
                flat((start, -0.004, z), (1, 0, 0), (0, 0, -1)),
                (0.05, wide),
                fringe,
                (0.05, 0.008),
                opacity=0.8,
                jitter=0.3,
            )
        )
    return Thing(tuple(sheets), covers=(((x + long / 2, 0, z - wide / 2), (long / 2 - 0.02, 0.1, wide / 2 - 0.02)),))


def sofa() -> Thing:
    """A three-seater against the far wall with patterned pillows."""
    cloth, z = paint.linen("41647a"), Z - 0.52
    sheets = soft_block((-0.62, -0.21, z), (1.02, 0.13, 0.42), 0.04, cloth)
    for side in (-1, 1):
        sheets += soft_block((-0.62 + side * 1.08, -0.33, z), (0.10, 0.27, 0.44), 0.07, cloth)
    sheets += soft_block((-0.62, -0.52, Z - 0.15), (1.0, 0.34, 0.10), 0.08, cloth, tilt=-0.12)
    for number in range(3):
        x = -1.26 + 0.645 * number
        sheets += soft_block((x, -0.40, z - 0.06), (0.315, 0.075, 0.37), 0.055, cloth, 0.02)
        sheets += soft_block((x, -0.66, Z - 0.30), (0.31, 0.22, 0.085), 0.075, cloth, 0.035, tilt=-0.2)
    pillows = [
        ((-1.45, -0.64, Z - 0.46), paint.stripes("e6c25a", "f5ecd4", 0.03), 0.35), ((-1.17, -0.60, Z - 0.52), paint.checks("c9573c", "f0dfc4", 0.035), -0.15),
        ((0.10, -0.64, Z - 0.47), paint.checks("2b5c52", "e9dcbf", 0.05), -0.4),
    ]  # fmt: skip
    for center, coat, turn in pillows:
        sheets += soft_block(center, (0.2, 0.2, 0.06), 0.058, coat, 0.05, turn=turn, tilt=-0.35, cell=0.0095)
    legs = [((-0.62 + 1.0 * a, -0.04, z + 0.36 * b), (0.02, 0.04, 0.02)) for a in (-1, 1) for b in (-1, 1)]
    for leg in legs:
        sheets += block(*leg, paint.wood("4a2d1a", "7a4e2e"), 0.01)
    boxes = (
        ((-0.62, -0.22, z), (1.0, 0.12, 0.40)), ((-0.62, -0.40, z - 0.05), (0.94, 0.05, 0.33)),
        ((-0.62, -0.52, Z - 0.16), (0.97, 0.30, 0.09)), ((-1.70, -0.34, z), (0.08, 0.24, 0.42)),
        ((0.46, -0.34, z), (0.08, 0.24, 0.42)),
    )  # fmt: skip
    return Thing(tuple(sheets), boxes)


TABLE = (-0.35, 0.42, 0.20)
"""x, height and z of the coffee table's top, metres."""


def coffee_table() -> Thing:
    """A polished walnut table with a shelf below."""
    x, high, z = TABLE
    walnut = paint.wood("4b2a17", "9a6336", 1.0, 3)
    top = faces((x, -high + 0.018, z), (0.58, 0.018, 0.33))
    sheets = [Sheet(turned(shape, (x, -high, z), 0), size, walnut, (0.008, 0.02) if name == "-y" else (0.012, 0.012), gloss=0.8)
              for name, (shape, size) in top.items()]  # fmt: skip
    sheets[2] = Sheet(
        flat((x + 0.58, -high, z + 0.33), (0, 0, -1), (-1, 0, 0)), (0.66, 1.16), walnut, (0.0075, 0.022), gloss=0.9
    )
    sheets += block((x, -0.13, z), (0.50, 0.012, 0.26), walnut, 0.016)
    legs = [((x + 0.53 * a, -high / 2, z + 0.28 * b), (0.025, high / 2, 0.025)) for a in (-1, 1) for b in (-1, 1)]
    for leg in legs:
        sheets += block(*leg, paint.wood("3d2213", "7a4b29"), 0.011, "-y +y")
    boxes = (((x, -high + 0.018, z), (0.58, 0.018, 0.33)), ((x, -0.13, z), (0.5, 0.012, 0.26)), *legs)
    return Thing(tuple(sheets), boxes)


SHELF = (1.20, 2.45, 2.12, 0.30)
"""Left and right x, height and depth of the bookshelf at the far wall, metres."""
BOARDS = (0.06, 0.46, 0.84, 1.22, 1.60, 1.96)
"""Heights of its boards' tops; the last board bears no books."""


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
    sheets = [sheet for box in boxes for sheet in block(*box, oak, 0.024, "+z", gloss=0.2)]
    sheets += block(*back, paint.wood("6d4524", "9a6d3e", 1.0, 10), 0.02, "+z -x +x -y +y")
    cover = ((middle, -high / 2, Z), (half - 0.02, high / 2 - 0.02, 0.1))
    return Thing(tuple(sheets), (*boxes, back), (cover,))


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


def books() -> Thing:
    """Rows of books with printed backs, some leaning, some lying, and a few ornaments between them."""
    left, right, _, deep = SHELF
    random, sheets, boxes = np.random.default_rng(5), [], []
    for row, board in enumerate(BOARDS[:-1]):
        x, end = left + 0.03, right - 0.03 - random.uniform(0.0, 0.25)
        tallest = 0.0
        while True:
            width, height, depth = random.uniform(0.018, 0.05), random.uniform(0.19, 0.30), random.uniform(0.15, 0.21)
            if x + width > end:
                break
            center = (x + width / 2, -board - height / 2, Z - 0.02 - depth / 2)
            sheets += book(center, (width / 2, height / 2, depth / 2), int(random.integers(1 << 20)))
            tallest, x = max(tallest, height), x + width + 0.0015
            if random.uniform() < 0.06:
                x += random.uniform(0.06, 0.14)
        boxes.append((((left + 0.03 + x) / 2, -board - 0.11, Z - 0.11), ((x - left - 0.03) / 2, 0.11, 0.085)))
    sheets.append(
        turned_body(
            (right - 0.16, -BOARDS[-1], Z - 0.15),
            [(0.001, 0.13), (0.05, 0.11), (0.075, 0.05), (0.04, 0.0)],
            paint.plain("2f6f73"),
            0.008,
            gloss=1.0,
        )
    )
    return Thing(tuple(sheets), tuple(boxes))


def book(center: tuple, half: tuple, seed: int) -> list[Sheet]:
    """Back, sides and pages of one book."""
    tint = paint.color(BOOK_TINTS[seed % len(BOOK_TINTS)]) * (0.85 + 0.3 * (seed // 16 % 16) / 16)
    sides = faces(center, half, "+y +z")
    cover = lambda u, v: np.broadcast_to(tint, (len(u), 3))  # noqa: E731
    pages = lambda u, v: paint.mix(paint.color("cdbf9f"), paint.color("f2e9d5"), paint.noise(u * 900, v * 0, seed))  # noqa: E731
    return [
        Sheet(
            *sides["-z"],
            paint.spine(tint.clip(0, 1), seed, 2 * half[0], 2 * half[1]),
            (0.0056, 0.0064),
            gloss=0.35,
            crisp=False,
        ),
        Sheet(*sides["-x"], cover, (0.035, 0.035), crisp=False),
        Sheet(*sides["+x"], cover, (0.035, 0.035), crisp=False),
        Sheet(*sides["-y"], pages, (0.009, 0.035), crisp=False),
    ]


def lamp() -> Thing:
    """A floor lamp with a glowing linen shade and a halo around it."""
    x, _, z = LAMP
    brass = paint.plain("b08d4c", 0.05)
    sheets = [
        turned_body((x, 0, z), [(0.001, 0.03), (0.15, 0.022), (0.155, 0.0)], brass, 0.012, gloss=0.9),
        turned_body((x, 0, z), [(0.011, 1.45), (0.011, 0.02)], brass, 0.009, gloss=0.9),
    ]

    def glow(u, v):
        hot = np.exp(-(((v - 0.17) / 0.13) ** 2))
        weave = 0.96 + 0.06 * paint.noise(u * 180, v * 180, 3)
        return paint.mix(paint.color("e9a85c"), paint.color("fff3d4"), hot) * weave[:, None]

    sheets.append(turned_body((x, -1.36, z), [(0.15, 0.34), (0.22, 0.0)], glow, 0.012, glow=0.95, opacity=0.96))
    sheets.append(
        turned_body((x, -1.36, z), [(0.035, 0.20), (0.045, 0.15), (0.001, 0.10)], paint.plain("fffbe8"), 0.01, glow=1.0)
    )
    for radius, opacity in ((0.45, 0.018), (0.30, 0.03), (0.2, 0.04)):
        ball = [(radius * math.sin(a), 0.17 + radius * math.cos(a)) for a in np.linspace(0.01, math.pi - 0.01, 12)]
        sheets.append(
            turned_body((x, -1.36, z), ball, paint.plain("ffcf8a", 0), radius / 1.6, glow=1.0, opacity=opacity)
        )
    return Thing(tuple(sheets), (((x, -0.012, z), (0.11, 0.012, 0.11)),))


def plant() -> Thing:
    """A palm in a glazed pot: many thin arching leaves."""
    x, z = -2.28, 1.78
    pot = [(0.20, 0.40), (0.21, 0.37), (0.19, 0.34), (0.15, 0.0)]
    sheets = [turned_body((x, 0, z), pot, paint.stripes("c8653f", "d98357", 0.02), 0.011, gloss=0.8)]
    sheets.append(turned_body((x, -0.35, z), [(0.001, 0.012), (0.185, 0.0)], paint.plain("3a2a1d", 0.4, 0.006), 0.012))
    random = np.random.default_rng(3)
    for number in range(110):
        turn, lift, long = 2.399963 * number, random.uniform(0.35, 1.35), random.uniform(0.55, 1.15)
        sheets.append(leaf((x, -0.36, z), turn, lift, long, number))
    return Thing(tuple(sheets), (((x, -0.2, z), (0.13, 0.2, 0.13)),))


def leaf(root: tuple, turn: float, lift: float, length: float, number: int) -> Sheet:
    """One blade that rises at `lift` radians and hangs over; it keeps off the walls."""
    root = np.array(root, np.float32)
    out = np.array([math.cos(turn), 0, math.sin(turn)], np.float32)
    reach = length * math.cos(lift) * (1.0 if out[0] > -0.2 and out[2] < 0.2 else 0.42)
    top = root + out * reach * 0.55 + np.array([0, -length * math.sin(lift) * 1.15, 0], np.float32)
    tip = root + out * reach * 1.15 + np.array([0, -length * math.sin(lift) * 0.72, 0], np.float32)
    across = np.array([-math.sin(turn), 0, math.cos(turn)], np.float32)
    dark, light = paint.color("2f5a2b"), paint.color("86ad4f")
    tone = float(paint.hashed(number, 0, 8)[0])

    def blade(t):
        return 0.052 * np.sin(math.pi * np.clip(t, 0.0, 1.0) ** 0.7) * (1 - 0.3 * t) + 0.006

    def coat(u, v):
        rib = np.abs(u - 0.5)
        shade = 0.25 + 0.6 * tone * paint.rise(0.02, 0.3, rib) + 0.15 * paint.noise(v * 90, u * 8, number)
        return paint.mix(dark, light, shade) * np.where(rib < 0.07, 1.25, 1.0)[:, None]

    shape = strip(np.stack([root, top, tip]), across, blade, length)
    return Sheet(shape, (1.0, length), coat, (0.21, 0.026), thin=True, opacity=0.94, crisp=False, gloss=0.25)


def desk() -> Thing:
    """A light desk at the right wall with a laptop, papers and a mug."""
    x, z, high = X - 0.35, 0.05, 0.74
    birch = paint.wood("b98f5c", "e3c79a", 1.0, 17)
    sheets = [
        Sheet(flat((x - 0.33, -high, z + 0.72), (1, 0, 0), (0, 0, -1)), (0.66, 1.44), birch, (0.011, 0.024), gloss=0.45)
    ]
    sheets += block((x, -high + 0.015, z), (0.33, 0.015, 0.72), birch, 0.014, "-y")
    legs = [((x + 0.29 * a, -high / 2, z + 0.66 * b), (0.018, high / 2, 0.018)) for a in (-1, 1) for b in (-1, 1)]
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


def desktop(u, v):
    """A laptop's picture: a wallpaper with a window of text."""
    picture = paint.mountains(u * 0.9 / 0.32, v * 0.6 / 0.22)
    inside = (np.abs(u - 0.2) < 0.09) & (np.abs(v - 0.10) < 0.07)
    line = ((v % 0.014) < 0.007) & (paint.noise(u * 300, np.floor(v / 0.014) * 7, 2) > 0.35) & (np.abs(u - 0.2) < 0.08)
    text = np.where(line[:, None], paint.color("30343c"), paint.color("f7f7f5"))
    return np.where(inside[:, None], text, picture)


def page(u, v):
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


def framed(corner: tuple, across: tuple, size: tuple, coat: Paint, tint: str, cell: float = 0.0065) -> list[Sheet]:
    """A picture behind glass in a frame; `corner` is its upper left one, `across` the unit vector to the right."""
    corner, right, down = np.array(corner, np.float32), np.array(across, np.float32), np.array([0, 1, 0], np.float32)
    front = np.cross(down, right)
    middle = corner + right * size[0] / 2 + down * size[1] / 2
    sheets = [Sheet(flat(corner + front * 0.012, right, down), size, coat, (cell, cell), gloss=0.25, glow=0.15)]
    edge, deep, wood = (
        0.022,
        0.014,
        paint.wood(
            *{"dark": ("241a14", "463428"), "gold": ("8f6a2c", "d2ab5d"), "pale": ("b89a70", "e0c9a2")}[tint], 0.5, 31
        ),
    )
    for shift, half_u, half_v in (
        (-down * (size[1] / 2 + edge), size[0] / 2 + 2 * edge, edge), (down * (size[1] / 2 + edge), size[0] / 2 + 2 * edge, edge),
        (-right * (size[0] / 2 + edge), edge, size[1] / 2), (right * (size[0] / 2 + edge), edge, size[1] / 2),
    ):  # fmt: skip
        center = middle + shift + front * deep
        half = np.abs(right) * half_u + down * half_v + np.abs(front) * deep
        sheets += block(tuple(center.tolist()), tuple(half.tolist()), wood, 0.018, gloss=0.5)
    return sheets


def pictures() -> Thing:
    """Three over the sofa, a large one at the right wall, a tall one beside the door."""
    sheets = framed((-1.75, -1.92, Z), (1, 0, 0), (0.55, 0.55), paint.circles, "dark")
    sheets += framed((-1.02, -1.97, Z), (1, 0, 0), (0.9, 0.6), paint.mountains, "gold")
    sheets += framed((0.06, -1.92, Z), (1, 0, 0), (0.55, 0.55), lambda u, v: paint.wave(u * 0.7 / 0.55, v), "pale")
    sheets += framed(
        (X, -2.0, 0.65),
        (0, 0, -1),
        (1.05, 0.7),
        lambda u, v: paint.wave(u * 0.7 / 1.05, v * 0.55 / 0.7),
        "dark",
        0.0075,
    )
    sheets += framed((0.25, -2.05, -Z), (-1, 0, 0), (0.6, 0.9), paint.portrait, "pale", 0.007)
    covers = [((-1.475, -1.645, Z), (0.29, 0.29, 0.1)), ((-0.57, -1.67, Z), (0.46, 0.31, 0.1)), ((0.335, -1.645, Z), (0.29, 0.29, 0.1)),
              ((X, -1.65, 0.125), (0.1, 0.36, 0.54)), ((-0.05, -1.6, -Z), (0.31, 0.46, 0.1))]  # fmt: skip
    return Thing(tuple(sheets), covers=tuple(covers))


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


def bottles() -> Thing:
    """Coloured glass on the window sill: light falls through it."""
    x, _, bottom, near, far = WINDOW
    sheets = []
    forms = {
        "bottle": [(0.014, 0.27), (0.016, 0.19), (0.042, 0.13), (0.044, 0.004), (0.001, 0.0)],
        "flask": [(0.018, 0.20), (0.018, 0.13), (0.065, 0.05), (0.05, 0.003), (0.001, 0.0)],
        "tall": [(0.016, 0.33), (0.018, 0.25), (0.034, 0.20), (0.036, 0.004), (0.001, 0.0)],
    }
    for z, form, tint in (
        (-0.78, "tall", "2f7d4f"),
        (-0.62, "flask", "2a6fb0"),
        (-0.42, "bottle", "b7651d"),
        (0.55, "flask", "8c2f4f"),
        (0.70, "tall", "3f8f8f"),
    ):
        sheets.append(
            turned_body(
                (x + 0.07, bottom, z),
                forms[form],
                paint.plain(tint, 0.02),
                0.008,
                opacity=0.34,
                gloss=1.0,
                thin=True,
                glow=0.35,
            )
        )
    return Thing(tuple(sheets))


def still_life() -> Thing:
    """On the coffee table: tulips in a glass vase, a bowl of fruit, two books."""
    x, high, z = TABLE
    vase = [(0.050, 0.25), (0.040, 0.20), (0.034, 0.15), (0.055, 0.07), (0.058, 0.03), (0.04, 0.002), (0.001, 0.0)]
    foot = (x - 0.22, -high, z + 0.05)
    sheets = [
        turned_body(foot, vase, paint.plain("b9d6dc", 0.02), 0.0075, opacity=0.16, gloss=1.0, thin=True, glow=0.3)
    ]
    sheets += [sheet for number in range(11) for sheet in tulip(foot, number)]
    bowl = [(0.145, 0.085), (0.13, 0.055), (0.08, 0.015), (0.05, 0.0)]
    center = (x + 0.27, -high, z - 0.06)
    sheets.append(turned_body(center, bowl, paint.plain("e9e6df", 0.02), 0.008, gloss=1.0))
    sheets.append(
        turned_body(center, [(0.001, 0.02), (0.08, 0.018), (0.135, 0.08)], paint.plain("d9d4c8", 0.02), 0.01, gloss=0.6)
    )
    fruits = (
        (-0.05, 0.075, 0.02, "c8312b"),
        (0.045, 0.07, 0.045, "e0932f"),
        (0.03, 0.075, -0.055, "8fae3a"),
        (-0.035, 0.08, -0.06, "d8a62f"),
        (0.0, 0.125, 0.0, "b3262a"),
    )
    for dx, lift, dz, tint in fruits:
        ball = [(0.042 * math.sin(a), 0.042 * math.cos(a)) for a in np.linspace(0.02, math.pi - 0.02, 14)]
        sheets.append(
            turned_body(
                (center[0] + dx, center[1] - lift, center[2] + dz),
                ball,
                paint.plain(tint, 0.12, 0.02),
                0.0075,
                gloss=1.0,
            )
        )
    for lift, turn, tint, half in (
        (0.014, 0.3, "24495e", (0.11, 0.014, 0.15)),
        (0.041, 0.05, "c9a24b", (0.10, 0.013, 0.135)),
    ):
        pile = block((x + 0.02, -high - lift, z - 0.13), half, paint.plain(tint), 0.011, gloss=0.5)
        sheets += [replace(sheet, shape=turned(sheet.shape, (x + 0.02, 0, z - 0.13), turn)) for sheet in pile]
    boxes = ((((x + 0.02), -high - 0.027, z - 0.13), (0.09, 0.027, 0.12)), ((center[0], -high - 0.05, center[2]), (0.1, 0.04, 0.1)),
             ((foot[0], -high - 0.03, foot[2]), (0.035, 0.03, 0.035)))  # fmt: skip
    return Thing(tuple(sheets), boxes)


def tulip(foot: tuple, number: int) -> list[Sheet]:
    """A stem, a leaf and a cup of petals."""
    turn, lean = 2.399963 * number, 0.05 + 0.012 * number
    head = (foot[0] + lean * math.cos(turn), foot[1] - 0.40 + 0.006 * number, foot[2] + lean * math.sin(turn))
    root = np.array([foot[0], foot[1] - 0.01, foot[2]], np.float32)
    middle = np.array(
        [foot[0] + 0.2 * lean * math.cos(turn), foot[1] - 0.25, foot[2] + 0.2 * lean * math.sin(turn)], np.float32
    )
    path = np.stack([root, middle, np.array(head, np.float32)])
    across = np.array([-math.sin(turn), 0, math.cos(turn)], np.float32)
    green = paint.plain("5d8a3c", 0.1)
    tint = ("d6336c", "f08fb0", "f2c14e", "e4572e")[number % 4]
    cup = [(0.012, 0.034), (0.021, 0.018), (0.019, -0.008), (0.004, -0.024)]
    return [
        Sheet(
            strip(path, across, lambda t: 0.006 + 0 * t, 0.4), (1.0, 0.4), green, (0.5, 0.011), thin=True, crisp=False
        ),
        turned_body(head, cup, paint.plain(tint, 0.25, 0.006), 0.0055, thin=True),
    ]


def ceiling_lamp() -> Thing:
    """A white glass globe."""
    ball = [(0.14 * math.sin(a), 0.14 * math.cos(a)) for a in np.linspace(0.02, math.pi - 0.02, 16)]
    globe = turned_body((0, -HIGH + 0.36, 0), ball, paint.plain("f3efe4", 0.02), 0.014, gloss=1.0, glow=0.25)
    rod = turned_body((0, -HIGH + 0.22, 0), [(0.008, 0.22), (0.008, 0.0)], paint.plain("8a8378"), 0.009)
    return Thing((globe, rod), (((0, -HIGH + 0.36, 0), (0.09, 0.09, 0.09)),))


def sideboard() -> Thing:
    """A low sideboard at the near wall with a table lamp's worth of ornaments."""
    center, half = (-1.35, -0.37, -Z + 0.22), (0.85, 0.33, 0.20)
    teak = paint.wood("5b3519", "9c6736", 1.0, 41)
    sheets = block(center, half, teak, 0.022, "-z", gloss=0.4)
    for k in range(3):
        x = center[0] - 0.55 + 0.55 * k
        sheets += block(
            (x, center[1], center[2] + half[2] + 0.008),
            (0.255, 0.27, 0.008),
            paint.wood("6b4020", "b0783f", 1.0, 42 + k),
            0.020,
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
