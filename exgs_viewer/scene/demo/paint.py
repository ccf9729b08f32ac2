"""Paint of the demo room: procedural textures and pictures, each a function of metres along a sheet."""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray

from exgs_viewer.scene.demo.sheets import Paint


def color(text: str) -> ndarray:
    """[3] float32 display sRGB of `rrggbb`."""
    return np.array([int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def plain(text: str, grain: float = 0.03, size: float = 0.015) -> Paint:
    """One colour with a little uneven brightness, `size` metres wide."""
    base = color(text)
    return lambda u, v: base * (1 + grain * (2 * noise(u / size, v / size, 7) - 1))[:, None]


def hashed(x: ndarray | float, y: ndarray | float, seed: int = 0) -> ndarray:
    """[N] float32 in [0, 1): a fixed random number for every pair of whole numbers."""
    x, y = (np.atleast_1d(value).astype(np.int32).view(np.uint32) for value in (x, y))
    return _mixed(x * _STRIDE_X ^ y * _STRIDE_Y ^ _salt(seed))


def noise(x: ndarray, y: ndarray, seed: int = 0) -> ndarray:
    """[N] float32 in [0, 1]: smooth noise that varies over about 1."""
    ix, iy = np.floor(x), np.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    left = ix.astype(np.int32).view(np.uint32) * _STRIDE_X
    upper = iy.astype(np.int32).view(np.uint32) * _STRIDE_Y
    right, lower, salt = left + _STRIDE_X, (upper + _STRIDE_Y) ^ _salt(seed), _salt(seed)
    upper = upper ^ salt
    a, b, c, d = (_mixed(n) for n in (left ^ upper, right ^ upper, left ^ lower, right ^ lower))
    low, high = a + (b - a) * fx, c + (d - c) * fx
    return low + (high - low) * fy


_STRIDE_X, _STRIDE_Y = np.uint32(73856093), np.uint32(19349663)


def _salt(seed: int) -> np.uint32:
    return np.uint32(seed * 83492791 & 0xFFFFFFFF)


def _mixed(n: ndarray) -> ndarray:
    """[N] float32 in [0, 1) from [N] uint32: the bit mixer "lowbias32"."""
    n = (n ^ (n >> np.uint32(16))) * np.uint32(0x7FEB352D)
    n = (n ^ (n >> np.uint32(15))) * np.uint32(0x846CA68B)
    return ((n ^ (n >> np.uint32(16))) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def clouds(x: ndarray, y: ndarray, seed: int = 0, octaves: int = 4) -> ndarray:
    """[N] float32 in [0, 1]: noise with detail down to 1 / 2^octaves."""
    total, weight = np.zeros_like(x), 0.0
    for octave in range(octaves):
        total += noise(x * 2**octave, y * 2**octave, seed + octave) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def mix(first: ndarray, second: ndarray, share: ndarray) -> ndarray:
    """Colours between `first` and `second`: `share` [N] in [0, 1] of the second."""
    return first + (second - first) * np.clip(share, 0, 1)[:, None]


def rise(low: float, high: float, at: ndarray) -> ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    share = np.clip((at - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def wood(dark: str, light: str, scale: float = 1.0, seed: int = 0) -> Paint:
    """Grain that runs along v."""
    dark_color, light_color = color(dark), color(light)

    def paint(u: ndarray, v: ndarray) -> ndarray:
        bend = clouds(u * 5 / scale, v * 0.8 / scale, seed, 3)
        rings = 0.5 + 0.5 * np.sin(38 * (u / scale + 0.55 * bend) + 4 * bend)
        pores = noise(u * 260 / scale, v * 9 / scale, seed + 5)
        return mix(dark_color, light_color, 0.25 + 0.5 * rings * bend + 0.35 * pores)

    return paint


PLANK = 4.6 / 30
"""Width of a floor plank, metres."""


def planks(u: ndarray, v: ndarray) -> ndarray:
    """Floor boards along v, PLANK wide, of different lengths and tones."""
    row = np.floor(u / PLANK)
    shift = hashed(row, row * 0, 3) * 1.6
    piece = np.floor((v + shift) / 1.6)
    tone = hashed(row, piece, 4)
    across, along = u - row * PLANK, (v + shift) - piece * 1.6
    bend = clouds(u * 6 + tone * 50, v * 0.7 + row * 9, 11, 3)
    rings = 0.5 + 0.5 * np.sin(110 * (across + 0.10 * bend) + 20 * tone)
    pores = noise(u * 170, v * 5 + tone * 31, 12)
    shade = 0.3 * tone + 0.28 * rings * bend + 0.34 * pores
    wooden = mix(color("7d4f2b"), color("d3a26b"), shade + 0.05)
    knot = rise(0.86, 0.93, noise(u * 9, v * 2.2, 15)) * rise(0.55, 0.9, tone)
    wooden = mix(wooden, color("5a3319"), 0.6 * knot)
    gap = np.minimum(np.minimum(across, PLANK - across) * 1.0, np.minimum(along, 1.6 - along))
    return mix(color("2c190d"), wooden, rise(0.0012, 0.0045, gap))


def plaster(text: str, seed: int) -> Paint:
    """Rolled wall paint: two sizes of faint unevenness."""
    base = color(text)

    def paint(u: ndarray, v: ndarray) -> ndarray:
        fine, wide = noise(u * 16, v * 16, seed), clouds(u * 1.5, v * 1.5, seed + 3, 3)
        return base * (0.965 + 0.035 * fine + 0.03 * wide)[:, None]

    return paint


def carpet(length: float, width: float) -> Paint:
    """A woven rug with borders, a field of small flowers and a medallion."""
    red, blue, cream, gold = color("8e2a2b"), color("22344f"), color("e6d8b8"), color("c6924a")

    def paint(u: ndarray, v: ndarray) -> ndarray:
        edge = np.minimum(np.minimum(u, length - u), np.minimum(v, width - v))
        x, y = (u - length / 2), (v - width / 2)
        cloth = _field(u, v, red, cream, gold, blue)
        cloth = _medallion(cloth, x / length, y / width, (blue, cream, gold, red))
        along = np.where(np.minimum(u, length - u) < np.minimum(v, width - v), v, u)
        wave = np.abs((along * 9) % 1 - 0.5)
        band = mix(blue, gold, rise(0.02, 0.05, 0.16 - np.abs(wave - 0.25) * 0.9 - np.abs(edge - 0.125) * 2.4))
        band = mix(band, cream, rise(0.0, 0.012, 0.02 - np.hypot(((along * 9) % 1 - 0.5) / 9, edge - 0.125)))
        cloth = mix(band, cloth, rise(0.198, 0.204, edge))
        for at, tint in ((0.2, cream), (0.185, red), (0.06, cream), (0.045, red)):
            cloth = mix(cloth, tint, rise(0.0035, 0.0065, 0.011 - np.abs(edge - at)))
        pile = 0.84 + 0.32 * noise(u * 160, v * 160, 21) * noise(u * 13, v * 60, 22) + 0.05 * noise(u * 3, v * 3, 23)
        return mix(cream * 0.9, cloth, rise(0.006, 0.012, edge)) * pile[:, None]

    return paint


def _field(u, v, red, cream, gold, blue) -> ndarray:
    """Rows of eight-leaved flowers, every other row shifted."""
    row = np.floor(v / 0.11)
    x, y = (u + 0.055 * (row % 2)) % 0.11 - 0.055, v % 0.11 - 0.055
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    leaves = 0.030 + 0.010 * np.cos(4 * angle)
    ground = mix(red, red * 0.8, noise(u * 20, v * 20, 24))
    ground = mix(ground, cream, rise(0, 0.006, leaves - radius) * 0.9)
    ground = mix(ground, np.array(blue), rise(0, 0.005, 0.018 - radius))
    return mix(ground, gold, rise(0, 0.004, 0.008 - radius))


def _medallion(cloth, x, y, tints) -> ndarray:
    """Nested sixteen-pointed stars in the middle; x and y run from -1/2 to 1/2."""
    radius, angle = np.hypot(x * 1.25, y), np.arctan2(y, x * 1.25)
    blue, cream, gold, red = tints
    petals = 0.03 * np.abs(np.cos(8 * angle))
    for size, tint in (
        (0.36, cream),
        (0.345, blue),
        (0.25, gold),
        (0.24, red),
        (0.15, cream),
        (0.14, blue),
        (0.06, gold),
    ):
        cloth = mix(cloth, tint, rise(-0.006, 0.006, size + petals * size * 3 - radius))
    return cloth


def mountains(u: ndarray, v: ndarray, size: tuple[float, float] = (0.9, 0.6)) -> ndarray:
    """A lake between mountains at dusk."""
    x, y = u / size[0], v / size[1]
    sky = mix(color("2b3f73"), color("f6b36b"), rise(0.0, 0.5, y))
    sky = mix(sky, color("ffe9b8"), rise(0.0, 0.22, 0.24 - np.hypot((x - 0.68) * 1.5, y - 0.42)))
    sky = mix(sky, color("fff6dc"), rise(0.0, 0.01, 0.05 - np.hypot((x - 0.68) * 1.5, y - 0.42)))
    water = y > 0.62
    level = np.where(water, 1.24 - y, y)
    ripple = np.where(water, 0.02 * (noise(x * 14, y * 120, 33) - 0.5), 0)
    picture = mix(sky, color("e9c7a5"), 0.5 * clouds(x * 6, y * 22, 31) * rise(0.1, 0.4, y))
    for number, (height, tint) in enumerate(((0.36, "7d7aa0"), (0.46, "4c5a80"), (0.545, "253a4e"))):
        ridge = height - 0.24 * (clouds((x + ripple) * (3 + number) + number * 7, x * 0 + 0.5, 40 + number, 5) - 0.42)
        slope = mix(
            color(tint),
            color("fff3ea"),
            0.75 * (number == 0) * rise(0.02, 0.0, level - ridge + 0.02 * noise(x * 40, y * 40, 5)),
        )
        picture = mix(picture, slope, rise(-0.004, 0.004, level - ridge))
    trees = 0.60 - 0.05 * noise(x * 60, x * 0, 44) - 0.03 * noise(x * 9, x * 0, 45)
    picture = mix(picture, color("14222a"), rise(-0.002, 0.002, level - trees))
    return np.where(water[:, None], picture * 0.78 + 0.05 * noise(x * 20, y * 160, 35)[:, None], picture)


def circles(u: ndarray, v: ndarray) -> ndarray:
    """Rows of concentric circles in bright squares."""
    tints = np.stack(
        [color(t) for t in ("d8432f", "f1b434", "2c6e8f", "f3ead3", "1f2b3f", "7fb09a", "e88a5c", "8c4a7d")]
    )
    cell = 0.1375
    column, row = np.floor(u / cell), np.floor(v / cell)
    radius = np.hypot(u % cell - cell / 2, v % cell - cell / 2) + 0.006 * (noise(u * 40, v * 40, 51) - 0.5)
    ring = np.floor((radius / cell + 0.02) * 8.5).clip(0, 4)
    index = (hashed(column * 7 + ring, row * 5 + ring * 3, 52) * len(tints)).astype(int)
    shade = 0.88 + 0.12 * noise(u * 90, v * 25, 53)
    return tints[index] * shade[:, None]


def wave(u: ndarray, v: ndarray, size: tuple[float, float] = (0.55, 0.55)) -> ndarray:
    """A great wave in stripes of blue, foam on its crests, under a pale sky."""
    x, y = u / size[0], v / size[1]
    picture = mix(color("efe2c2"), color("d9c9a3"), rise(0.0, 0.6, y) + 0.2 * clouds(x * 4, y * 4, 61))
    picture = mix(picture, color("d95b3a"), rise(0, 0.012, 0.10 - np.hypot(x - 0.72, (y - 0.26) * 0.8)))
    for number in range(7):
        height = 0.34 + 0.095 * number - 0.13 * np.sin(4.6 * x + 1.7 * number + 0.6) * (1 - 0.08 * number)
        height += 0.014 * np.sin(31 * x + 5 * number)
        tint = mix(color("16365c"), color("5f9db8"), np.full_like(x, (number * 0.37) % 1))
        stripes = 0.5 + 0.5 * np.sin((y - height) * 150 + 2 * np.sin(x * 9))
        body = mix(tint, color("dbe8e2"), 0.35 * rise(0.6, 0.9, stripes))
        picture = mix(picture, body, rise(-0.003, 0.003, y - height))
        foam = np.abs(y - height) - 0.016 * noise(x * 38, y * 38, 62 + number)
        picture = mix(picture, color("fbf6ea"), rise(0.006, 0.0, foam))
    return picture


def harbour(u: ndarray, v: ndarray) -> ndarray:
    """Gabled houses in a row with lit windows, and their broken images in the water; 1.05 by 0.7 metres."""
    tints = np.stack([color(t) for t in ("c8553d", "e9c46a", "3d6b7d", "f0e3cd", "8a3b4a", "6a8d73", "d98b5f")])
    shore = 0.44
    water = v > shore
    sway = np.where(water, 0.012 * (noise(u * 8, v * 90, 122) - 0.5), 0)
    x, y = u + sway, np.where(water, 2 * shore - v, v)
    picture = mix(color("35507a"), color("f4c9a0"), rise(0.0, 0.42, y) + 0.25 * (clouds(x * 5, y * 12, 121) - 0.5))
    house = np.floor(x / 0.105)
    across = x - house * 0.105
    eaves = 0.19 + 0.09 * hashed(house, 1 + 0 * house, 123)
    gable = eaves - 0.055 * rise(0.0, 1.0, 1 - np.abs(across / 0.0525 - 1))
    front = tints[(hashed(house, 0 * house, 124) * len(tints)).astype(int)]
    front = front * (0.86 + 0.2 * noise(x * 120, y * 40, 125))[:, None]
    pane = (
        (np.abs((across % 0.035) - 0.0175) < 0.0075)
        & (np.abs(((y - 0.01) % 0.05) - 0.025) < 0.0125)
        & (y > eaves + 0.012)
    )
    lit = hashed(np.floor(x / 0.035), np.floor((y - 0.01) / 0.05), 126) > 0.45
    front = np.where(pane[:, None], np.where(lit[:, None], color("ffe9a8"), color("22303f")), front)
    picture = mix(picture, front, rise(-0.002, 0.002, y - gable) * (across > 0.003))
    deeper = mix(picture * 0.72, color("27466a"), 0.25 + 0.5 * noise(u * 12, v * 110, 127))
    return np.where(water[:, None], deeper, picture)


def portrait(u: ndarray, v: ndarray) -> ndarray:
    """A tall abstract of leaves on rust."""
    picture = mix(color("b4532a"), color("e2a55e"), clouds(u * 3, v * 3, 71))
    for number in range(9):
        a, b = (float(hashed(number, k, 72)[0]) for k in (1, 2))
        turn = 6.3 * float(hashed(number, 3, 72)[0])
        x, y = u - 0.6 * a, v - 0.9 * b
        x, y = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        leaf = 0.07 * (1 - (y / 0.2) ** 2) - np.abs(x)
        veins = np.abs((y * 40 + np.abs(x) * 60) % 1 - 0.5)
        tint = mix(color("1f3b34"), color("9fb59a"), np.full_like(u, (a + b) / 2))
        tint = mix(tint, color("f0e6cf"), 0.7 * rise(0.42, 0.48, veins) + rise(0.003, 0.001, np.abs(x)))
        picture = mix(picture, tint, rise(0, 0.004, leaf))
    return picture


def spine(tint: ndarray, seed: int, width: float, height: float) -> Paint:
    """The back of a book: bands, a title in unreadable letters, a sign."""
    a, b, c = (float(hashed(seed, k, 80)[0]) for k in range(3))
    ink = color("f2dc9a") if tint.mean() < 0.5 else color("2b2320")

    def paint(u: ndarray, v: ndarray) -> ndarray:
        cover = tint * (0.9 + 0.12 * noise(u * 300, v * 80, seed))[:, None]
        band = np.minimum(np.abs(v - height * (0.07 + 0.05 * a)), np.abs(v - height * (0.93 - 0.05 * b)))
        cover = mix(cover, ink, rise(0.005, 0.003, band))
        letters = (noise(v * 210, u * 0, seed) > 0.42) & (noise(v * 500, u * 260, seed + 1) > 0.35)
        title = (np.abs(u - width / 2) < width * 0.22) & (v > height * 0.2) & (v < height * (0.5 + 0.25 * c))
        cover = mix(cover, ink, 0.9 * (letters & title))
        round_back = np.abs(u / width - 0.5) * 2
        return cover * (1 - 0.35 * round_back**3)[:, None]

    return paint


def checks(first: str, second: str, size: float) -> Paint:
    """Woven squares."""
    one, two = color(first), color(second)

    def paint(u: ndarray, v: ndarray) -> ndarray:
        squares = 0.5 * (rise(-0.1, 0.1, np.sin(u * math.pi / size)) + rise(-0.1, 0.1, np.sin(v * math.pi / size)))
        return mix(one, two, squares) * (0.92 + 0.12 * noise(u * 200, v * 200, 91))[:, None]

    return paint


def stripes(first: str, second: str, size: float) -> Paint:
    """Stripes along v."""
    one, two = color(first), color(second)

    def paint(u: ndarray, v: ndarray) -> ndarray:
        lines = rise(-0.15, 0.15, np.sin(u * math.pi / size))
        return mix(one, two, lines) * (0.92 + 0.12 * noise(u * 200, v * 200, 92))[:, None]

    return paint


def linen(text: str) -> Paint:
    """Woven cloth with soft folds of tone."""
    base = color(text)

    def paint(u: ndarray, v: ndarray) -> ndarray:
        weave = noise(u * 220, v * 220, 95) * 0.10 + 0.06 * clouds(u * 6, v * 6, 96, 3)
        return base * (0.90 + weave)[:, None]

    return paint


def landscape(u: ndarray, v: ndarray) -> ndarray:
    """What lies outside the window, bright: clouds, hills, fields, trees; u to the right, v downwards, metres."""
    sky = mix(color("8fbdf0"), color("f2f7fb"), rise(0.2, 2.5, v))
    picture = mix(sky, color("ffffff"), rise(0.52, 0.68, clouds(u * 0.55, v * 1.3, 102, 4)))
    for number, (tint, dark) in enumerate((("a9c2d6", "9ab4cc"), ("8fb0ae", "7fa098"), ("93ad72", "7f9c5e"))):
        ridge = (
            2.28 + 0.17 * number - (0.9 - 0.25 * number) * (clouds(u * 0.4 + 9 * number, u * 0, 101 + number, 4) - 0.4)
        )
        ground = mix(color(tint), color(dark), clouds(u * 3, v * 14, 110 + number, 3))
        picture = mix(picture, ground, rise(-0.012, 0.012, v - ridge))
    meadow = mix(color("86a955"), color("b7cd74"), clouds(u * 1.6, v * 9, 104, 3))
    picture = mix(picture, meadow, rise(-0.01, 0.01, v - 2.72 + 0.1 * (noise(u * 0.9, u * 0, 105) - 0.5)))
    for number in range(9):
        at = 0.35 + 1.04 * number + 0.5 * float(hashed(number, 2, 106)[0])
        size = 0.30 + 0.34 * float(hashed(number, 5, 106)[0])
        foot = 2.70 + 0.25 * float(hashed(number, 7, 106)[0])
        picture = _tree(picture, u, v, (at, foot, size))
    return picture


def _tree(picture: ndarray, u: ndarray, v: ndarray, where: tuple[float, float, float]) -> ndarray:
    """A round tree with light from the upper left; `where` is (u, v of its foot, radius of its crown)."""
    at, foot, size = where
    near = np.flatnonzero((np.abs(u - at) < 1.5 * size) & (v > foot - 3 * size) & (v < foot + 0.1))
    x, y = (u[near] - at) / size, (v[near] - foot + 1.35 * size) / size
    outline = 1.0 + 0.42 * (clouds(u[near] * 5, v[near] * 5, int(at * 100), 4) - 0.5) - np.hypot(x, y * 0.92)
    light = 0.55 - 0.28 * x - 0.36 * y + 0.7 * (clouds(u[near] * 8, v[near] * 8, 108, 3) - 0.5)
    tree = picture[near]
    trunk = rise(0.02, 0.0, np.abs(x) - 0.07) * (y > 0.5) * rise(0.02, 0.0, v[near] - foot)
    tree = mix(tree, color("5a4632"), trunk)
    leaves = mix(color("35602f"), color("a5c65c"), light)
    picture[near] = mix(tree, leaves, rise(0.0, 0.06, outline))
    return picture
