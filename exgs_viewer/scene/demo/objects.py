"""Smaller things of the demo room: rug, lamp, plant, glass, flowers, fruit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from exgs_viewer.scene.demo import paint
from exgs_viewer.scene.demo.sheets import Sheet, Thing, block, flat, strip, turned, turned_body


def rug() -> Thing:
    """A patterned rug with fringes, 1 cm thick."""
    x, z, long, wide, away = -1.62, 1.12, 2.7, 1.85, (0, 0, -1)
    middle, half = (x + long / 2, -0.005, z - wide / 2), (long / 2, 0.005, wide / 2)
    cloth = flat((x, -0.010, z), (1, 0, 0), away)
    sheets = [
        Sheet(cloth, (long, wide), paint.carpet(long, wide), (0.0112, 0.0112), fine=0.5, coarse=(7, 7), sink=0.09)
    ]
    sheets += block(middle, half, paint.plain("6b3a30"), 0.012, "-y +y")
    for start in (x - 0.05, x + long):
        threads = flat((start, -0.004, z), (1, 0, 0), away)
        sheets.append(Sheet(threads, (0.05, wide), _fringe, (0.05, 0.008), opacity=0.8, jitter=0.3))
    return Thing(tuple(sheets), covers=((middle, (long / 2 - 0.02, 0.1, wide / 2 - 0.02)),))


def _fringe(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return paint.mix(paint.color("b9a988"), paint.color("efe6d0"), paint.noise(v * 90, v * 0, 4))


def lamp(bulb: tuple) -> Thing:
    """A floor lamp with a glowing linen shade and a halo around it."""
    x, _, z = bulb
    brass = paint.plain("b08d4c", 0.05)
    sheets = [
        turned_body((x, 0, z), [(0.001, 0.03), (0.15, 0.022), (0.155, 0.0)], brass, 0.012, gloss=0.9),
        replace(turned_body((x, 0, z), [(0.011, 1.45), (0.011, 0.02)], brass, 0.01, gloss=0.9), cell=(0.01, 0.05)),
    ]

    def glow(u, v):
        hot = np.exp(-(((v - 0.17) / 0.13) ** 2))
        weave = 0.96 + 0.06 * paint.noise(u * 180, v * 180, 3)
        return paint.mix(paint.color("e9a85c"), paint.color("fff3d4"), hot) * weave[:, None]

    sheets.append(turned_body((x, -1.36, z), [(0.15, 0.34), (0.22, 0.0)], glow, 0.022, glow=0.95))
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
    tone, size = float(paint.hashed(number, 0, 8)[0]), (0.05, length)

    def blade(t):
        return 0.052 * np.sin(math.pi * np.clip(t, 0.0, 1.0) ** 0.7) * (1 - 0.3 * t) + 0.006

    def coat(u, v):
        rib = np.abs(u / size[0] - 0.5)
        shade = 0.25 + 0.6 * tone * paint.rise(0.02, 0.3, rib) + 0.15 * paint.noise(v * 90, u * 160, number)
        return paint.mix(dark, light, shade) * np.where(rib < 0.07, 1.25, 1.0)[:, None]

    shape = strip(np.stack([root, top, tip]), across, blade, size)
    return Sheet(shape, size, coat, (0.0126, 0.032), thin=True, opacity=0.94, crisp=False, gloss=0.25)


def bottles(window: tuple) -> Thing:
    """Coloured glass on the window sill: light falls through it."""
    x, _, bottom, _, _ = window
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


def still_life(table: tuple) -> Thing:
    """On the coffee table: tulips in a glass vase, a bowl of fruit, two books."""
    x, high, z = table
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
    boxes = (
        ((x + 0.02, -high - 0.027, z - 0.13), (0.09, 0.027, 0.12)),
        ((center[0], -high - 0.01, center[2]), (0.07, 0.01, 0.07)),
        ((foot[0], -high - 0.03, foot[2]), (0.035, 0.03, 0.035)),
    )
    return Thing(tuple(sheets), boxes)


def tulip(foot: tuple, number: int) -> list[Sheet]:
    """A stem, a leaf and a cup of petals."""
    turn, lean = 2.399963 * number, 0.05 + 0.012 * number
    head = (foot[0] + lean * math.cos(turn), foot[1] - 0.40 + 0.006 * number, foot[2] + lean * math.sin(turn))
    root = np.array([foot[0], foot[1] - 0.01, foot[2]], np.float32)
    out = np.array([math.cos(turn), 0, math.sin(turn)], np.float32)
    bend = root + 0.2 * lean * out - np.array([0, 0.24, 0], np.float32)
    path = np.stack([root, bend, np.array(head, np.float32)])
    across = np.array([-math.sin(turn), 0, math.cos(turn)], np.float32)
    green, size = paint.plain("5d8a3c", 0.1), (0.006, 0.4)
    stem = strip(path, across, lambda share: np.full_like(share, size[0]), size)
    tint = ("d6336c", "f08fb0", "f2c14e", "e4572e")[number % 4]
    cup = [(0.012, 0.034), (0.021, 0.018), (0.019, -0.008), (0.004, -0.024)]
    return [
        Sheet(stem, size, green, (0.003, 0.011), thin=True, crisp=False),
        turned_body(head, cup, paint.plain(tint, 0.25, 0.006), 0.0055, thin=True),
    ]
