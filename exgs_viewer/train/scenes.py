"""A number -> a scene made by code: rooms, environments, yards and things, dense and as trained ones are.

The same number gives the same scene on every machine (numpy's generator, seeded). Lengths are metres, y points down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy import ndarray

from exgs_viewer.scene.cloud import GaussianCloud, join
from exgs_viewer.scene.demo.sheets import Shape, faces, flat, lathe, rounded, strip, turned
from exgs_viewer.train.matter import (
    Light,
    Splats,
    Style,
    Surface,
    cloud_of,
    floaters,
    foliage,
    splats,
)
from exgs_viewer.train.textures import Palette, Texture

UP = (0.0, -1.0, 0.0)
MOST = 700_000
"""Splats that a scene is made for: its finest cell follows from that and from its area."""


@dataclass(eq=False)
class _Site:
    """A scene while it is being put together."""

    random: np.random.Generator
    palette: Palette
    sheets: list[Surface] = field(default_factory=list)
    leaves: list[Splats] = field(default_factory=list)

    def add(self, shape: Shape, size: tuple[float, float], coat: Texture | None = None, **traits) -> None:
        """One surface; its texture is a new one unless given, at a random scale."""
        coat = coat or self.palette.any(self.random)
        span = traits.pop("span", None) or self.random.uniform(0.5, 2.5)
        high, wide = coat.levels[0].shape[:2]
        start = tuple(self.random.random(2))
        self.sheets.append(Surface(shape, size, coat, (span, span * high / wide), start, **traits))

    def box(self, center: Sequence[float], half: Sequence[float], coat: Texture | None = None, **traits) -> None:
        """A block with sharp or round edges, turned about the upright by `turn` radians."""
        turn, round_, skip = traits.pop("turn", 0.0), traits.pop("round_", 0.0), traits.pop("skip", "")
        coat = coat or self.palette.any(self.random, 0.5)
        center, half = tuple(center), tuple(half)
        for shape, size in faces(center, half, skip).values():
            if min(size) <= 0:
                continue
            bent = rounded(shape, center, half, min(round_, min(half)), 0.0) if round_ else shape
            self.add(turned(bent, center, turn) if turn else bent, size, coat, **traits)

    def turned_body(self, foot: Sequence[float], profile: list, coat: Texture | None = None, **traits) -> None:
        shape, size = lathe(tuple(foot), profile)
        self.add(shape, size, coat, **traits)


def make_scene(seed: int, palette: Palette) -> GaussianCloud:
    """Scene number `seed`; its kind is `KINDS[seed % len(KINDS)]`. Its way up is UP."""
    random = np.random.default_rng([seed, 20260])
    site = _Site(random, palette)
    KINDS[list(KINDS)[seed % len(KINDS)]](site)
    area = sum(sheet.size[0] * sheet.size[1] for sheet in site.sheets)
    style = _style(random, area)
    light = _light(random)
    parts = [splats(sheet, style, light, random) for sheet in site.sheets] + site.leaves
    low, high = (np.quantile(np.concatenate([part.place for part in parts]), q, 0) for q in (0.02, 0.98))
    parts.append(floaters(low, high, int(300 * random.random() ** 3), random))
    return cloud_of(parts, style, random, sh_degree=int(random.integers(0, 3)))


def gathered(clouds: Sequence[GaussianCloud], around: GaussianCloud | None, seed: int) -> GaussianCloud:
    """Some trained objects side by side on the ground, each turned, at its own size; `around` them another scene.

    Only their constant colour comes along: higher harmonics would have to be turned too.
    """
    random = np.random.default_rng([seed, 31337])
    parts = [] if around is None else [around.with_sh_degree(0)]
    for number, cloud in enumerate(clouds):
        angle = 2.4 * number + random.uniform(0, 1)
        away = 0.0 if len(clouds) == 1 else random.uniform(0.5, 1.3)
        spot = np.array([away * math.cos(angle), 0.0, away * math.sin(angle)], np.float32)
        parts.append(_placed(cloud.with_sh_degree(0), spot, random))
    return join(parts)


def _placed(cloud: GaussianCloud, spot: ndarray, random: np.random.Generator) -> GaussianCloud:
    """The cloud turned about the upright, its middle 90 % scaled to 0.5 to 1.5 metres, standing on `spot`."""
    low, high = (torch.quantile(cloud.means[::7], q, dim=0) for q in (0.05, 0.95))
    factor = float(random.uniform(0.5, 1.5)) / float((high - low).max())
    angle = float(random.uniform(0, 2 * math.pi))
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    foot = torch.stack([(low[0] + high[0]) / 2, high[1], (low[2] + high[2]) / 2])
    w, x, y, z = cloud.quats.T
    ch, sh = math.cos(angle / 2), math.sin(angle / 2)  # (ch, 0, sh, 0) times each quaternion
    quats = torch.stack([ch * w - sh * y, ch * x + sh * z, ch * y + sh * w, ch * z - sh * x], 1)
    means = ((cloud.means - foot) * factor) @ turn.T + torch.from_numpy(spot)
    return cloud.replaced(means=means, scales=cloud.scales * factor, quats=quats)


def _style(random: np.random.Generator, area: float) -> Style:
    wanted = MOST * random.uniform(0.4, 1.0)
    return Style(
        cell=max(0.006, math.sqrt(area / (wanted * 1.1))),
        levels=int(random.integers(3, 6)),
        overlap=random.uniform(0.45, 0.75),
        spread=random.uniform(0.15, 0.6),
        needle=random.uniform(0.1, 0.7),
        tilt=random.uniform(0, 0.3),
        dark=random.uniform(0.25, 1.0),
        noise=random.uniform(0, 0.1),
        detail=random.uniform(0.0, 0.8),
        solid=random.uniform(1, 5),
        gloss=random.uniform(0, 0.12),
    )


def _light(random: np.random.Generator) -> Light:
    direction = random.normal(0, 1, 3) - np.array([0, 1.5, 0])
    return Light(
        ambient=(random.uniform(0.45, 0.9) * random.uniform(0.85, 1.15, 3)).astype(np.float32),
        sun=(random.uniform(0.0, 0.9) * random.uniform(0.85, 1.15, 3)).astype(np.float32),
        direction=(direction / np.linalg.norm(direction)).astype(np.float32),
        patches=random.uniform(0, 0.5),
        phase=random.uniform(0, 6.3),
    )


def _room(site: _Site) -> None:
    """A furnished room with pictures on its walls and glass and thin things in it."""
    random = site.random
    half = np.array([random.uniform(1.2, 2.6), random.uniform(1.1, 1.4), random.uniform(1.2, 2.6)])
    center = np.array([0, -half[1], 0])
    coats = {"-y": site.palette.pattern(random), "+y": site.palette.any(random, 0.5)}
    wall = site.palette.any(random, 0.5)
    for name, (shape, size) in faces(tuple(center), tuple(half)).items():
        site.add(shape, size, coats.get(name, wall), inward=True)
    for _ in range(int(random.integers(3, 8))):
        _poster(site, half)
    for _ in range(int(random.integers(5, 12))):
        spot = random.uniform(-0.85, 0.85, 2) * half[[0, 2]]
        FURNITURE[int(random.integers(len(FURNITURE)))](site, np.array([spot[0], 0, spot[1]]))


def _poster(site: _Site, half: ndarray) -> None:
    """A photo on one of the four walls."""
    random, photo = site.random, site.palette.photo(site.random)
    wide = random.uniform(0.4, 1.6)
    tall = wide * photo.levels[0].shape[0] / photo.levels[0].shape[1]
    along, sign = random.integers(2) * 2, random.choice([-1, 1])
    middle = np.array([0, -half[1] * random.uniform(0.9, 1.2), 0])
    middle[along] = sign * (half[along] - 0.02)
    middle[2 - along] = random.uniform(-0.6, 0.6) * half[2 - along]
    right = np.zeros(3)
    right[2 - along] = sign if along == 0 else -sign
    corner = middle - right * wide / 2 - np.array([0, tall / 2, 0])
    site.sheets.append(Surface(flat(tuple(corner), tuple(right), (0, 1, 0)), (wide, tall), photo, (wide, tall)))


def _table(site: _Site, spot: ndarray) -> None:
    random, coat = site.random, site.palette.any(site.random, 0.2)
    x, z, high = random.uniform(0.3, 0.8), random.uniform(0.25, 0.5), random.uniform(0.35, 0.8)
    site.box(spot - [0, high, 0], (x, 0.02, z), coat)
    for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        thin = random.uniform(0.008, 0.03)
        foot = spot + np.array([a * (x - 0.04), -high / 2, b * (z - 0.04)])
        site.box(foot, (thin, high / 2, thin), coat, skip="-y +y")
    for _ in range(int(random.integers(1, 5))):
        offset = np.array([random.uniform(-0.8, 0.8) * x, -high - 0.02, random.uniform(-0.8, 0.8) * z])
        _vase(site, spot + offset, 0.4)


def _seat(site: _Site, spot: ndarray) -> None:
    random, coat, turn = site.random, site.palette.any(site.random, 0.3), site.random.uniform(0, 6.3)
    wide, deep = random.uniform(0.3, 1.0), random.uniform(0.3, 0.45)
    site.box(spot - [0, 0.25, 0], (wide, 0.17, deep), coat, round_=0.08, turn=turn)
    back = spot + np.array([deep * math.sin(turn), -0.6, deep * math.cos(turn)])
    site.box(back, (wide, 0.3, 0.09), coat, round_=0.08, turn=turn)


def _cabinet(site: _Site, spot: ndarray) -> None:
    random, turn = site.random, site.random.choice([0.0, 0.3, 1.57])
    half = random.uniform([0.2, 0.3, 0.2], [0.7, 0.95, 0.35])
    site.box(spot - [0, half[1], 0], half, turn=turn)
    for _ in range(int(random.integers(0, 8))):  # books and boxes on it
        small = random.uniform(0.02, 0.14, 3)
        offset = np.array([random.uniform(-0.8, 0.8) * half[0], -2 * half[1] - small[1], 0])
        site.box(spot + offset, small, site.palette.any(random, 0.6), turn=random.uniform(0, 1))


def _vase(site: _Site, spot: ndarray, high: float = 0.0) -> None:
    """A turned body of random outline: vase, bottle, bowl or lamp, one in three of glass."""
    random = site.random
    high = random.uniform(0.1, high or 1.2)
    knots = random.uniform(0.1, 0.4, 5) * high * random.uniform(0.4, 1.2)
    heights = np.linspace(1, 0, 24)
    radius = np.interp(heights, np.linspace(0, 1, 5), knots)
    radius = np.convolve(np.pad(radius, 2, mode="edge"), np.full(5, 0.2), "valid")
    profile = [(0.001, high), *zip(radius, heights * high, strict=True)]
    glass = random.random() < 0.33
    site.turned_body(spot, profile, opacity=random.uniform(0.1, 0.5) if glass else 1.0)


def _pole(site: _Site, spot: ndarray) -> None:
    """Thin things: a pole, a rail, wires."""
    random = site.random
    for _ in range(int(random.integers(1, 7))):
        high, thin = random.uniform(0.8, 2.2), random.uniform(0.004, 0.02)
        site.turned_body(spot + random.uniform(-0.3, 0.3, 3) * [1, 0, 1], [(thin, high), (thin, 0.0)])


def _pane(site: _Site, spot: ndarray) -> None:
    """A standing pane of glass in a frame."""
    random, turn = site.random, site.random.uniform(0, 3.1)
    wide, high = random.uniform(0.4, 1.0), random.uniform(0.6, 1.8)
    pane = flat(tuple(spot - [wide / 2, high, 0]), (1, 0, 0), (0, 1, 0))
    site.add(turned(pane, tuple(spot), turn), (wide, high), opacity=random.uniform(0.03, 0.3), glow=0.5)
    site.box(spot - [0, high, 0], (wide / 2, 0.02, 0.02), turn=turn)


def _plant(site: _Site, spot: ndarray) -> None:
    """Arching leaves out of a pot."""
    random, coat = site.random, site.palette.any(site.random, 0.5)
    _vase(site, spot, 0.4)
    root = (spot - [0, 0.2, 0]).astype(np.float32)
    for _ in range(int(random.integers(15, 60))):
        turn, long = random.uniform(0, 6.3), random.uniform(0.2, 0.9)
        out = np.array([math.cos(turn), 0, math.sin(turn)], np.float32)
        up = np.array([0, -long * random.uniform(0.3, 1.2), 0], np.float32)
        path = np.stack([root, root + 0.4 * long * out + up, root + long * out + 0.6 * up])
        across = np.array([-math.sin(turn), 0, math.cos(turn)], np.float32)
        wide = random.uniform(0.01, 0.06)
        shape = strip(path, across, lambda t, wide=wide: wide * np.sin(np.pi * t.clip(0, 1)) + 0.003, (wide, long))
        site.add(shape, (wide, long), coat)


def _bush(site: _Site, spot: ndarray) -> None:
    random = site.random
    reach = random.uniform([0.2, 0.2, 0.2], [0.9, 0.8, 0.9])
    leaf = site.palette.any(random, 0.7)
    site.leaves.append(foliage(spot - [0, reach[1], 0], reach, int(random.uniform(3e3, 2e4)), leaf, random))


def _tree(site: _Site, spot: ndarray) -> None:
    high = site.random.uniform(1.2, 2.5)
    site.turned_body(spot, [(0.03, high), (0.05, high / 2), (0.09, 0.0)])
    _bush(site, spot - [0, high, 0])


def _heap(site: _Site, spot: ndarray) -> None:
    """A few blocks and bodies on top of each other."""
    random, high = site.random, 0.0
    for _ in range(int(random.integers(2, 6))):
        half = random.uniform(0.05, 0.4, 3)
        site.box(spot - [0, high + half[1], 0], half, round_=random.uniform(0, 0.1), turn=random.uniform(0, 3))
        high += 2 * half[1]


FURNITURE: tuple[Callable[[_Site, ndarray], None], ...] = (
    _table, _table, _seat, _seat, _cabinet, _cabinet, _vase, _pole, _pane, _plant, _bush, _heap
)  # fmt: skip
GARDEN: tuple[Callable[[_Site, ndarray], None], ...] = (_tree, _tree, _bush, _bush, _pole, _heap, _vase, _plant, _pane)


def _environment(site: _Site) -> None:
    """A panorama on a far shell, round or angular, and a few things inside."""
    random, size = site.random, site.random.uniform(2.0, 3.5)
    _shell(site, size, angular=random.random() < 0.6)
    things = FURNITURE if random.random() < 0.5 else GARDEN
    for _ in range(int(random.integers(0, 6))):
        spot = random.uniform(-0.6, 0.6, 2) * size
        things[int(random.integers(len(things)))](site, np.array([spot[0], 0.35 * size, spot[1]]))


def _shell(site: _Site, size: float, angular: bool, down: float = 0.5) -> None:
    """The directions of a panorama onto a ball, or a block `down` times as high as wide, around the origin."""
    random, panorama = site.random, site.palette.panorama(site.random)
    half = np.array([size, size * random.uniform(0.4, 0.6), size * random.uniform(0.6, 1)], np.float32)

    def shape(u: ndarray, v: ndarray) -> ndarray:
        along, down = u * (2 * math.pi), v * math.pi
        way = np.stack([np.sin(down) * np.cos(along), -np.cos(down), np.sin(down) * np.sin(along)], 1)
        # A high power of the norm is a block with slightly round edges.
        reach = ((np.abs(way) / half) ** 12).sum(1, keepdims=True) ** (-1 / 12) if angular else size
        return (way * reach).astype(np.float32)

    # Strips of equal height, each as long as its circle, so that cells are about as wide as high everywhere.
    bands = 12
    for band in range(bands):
        wide = size * 2 * math.pi * math.sin((band + 0.5) / bands * math.pi)
        tall = size * math.pi / bands

        def part(u: ndarray, v: ndarray, band=band, wide=wide, tall=tall) -> ndarray:
            return shape(u / wide, (band + v / tall) / bands)

        start = (0.0, band / bands)
        tile = (wide, tall * bands)
        site.sheets.append(Surface(part, (wide, tall), panorama, tile, start, inward=True, glow=1.0))


def _yard(site: _Site) -> None:
    """Ground with grass, trees and clutter under an open or painted sky."""
    random, size = site.random, site.random.uniform(3, 6)
    ground = flat((-size, 0.0, size), (1, 0, 0), (0, 0, -1))
    site.add(ground, (2 * size, 2 * size), site.palette.photo(random))
    blades = int(random.uniform(0, 60_000))
    leaf = site.palette.photo(random)
    site.leaves.append(foliage(np.zeros(3), np.array([size, 0.06, size]), blades, leaf, random))
    for _ in range(int(random.integers(4, 12))):
        spot = random.uniform(-0.7, 0.7, 2) * size
        GARDEN[int(random.integers(len(GARDEN)))](site, np.array([spot[0], 0, spot[1]]))
    if random.random() < 0.5:
        _shell(site, 2 * size, angular=False)


def _things(site: _Site) -> None:
    """A few things close together before empty black, some on a plate."""
    random = site.random
    things = FURNITURE + GARDEN
    for _ in range(int(random.integers(2, 7))):
        spot = random.normal(0, 0.6, 2)
        things[int(random.integers(len(things)))](site, np.array([spot[0], 0, spot[1]]))
    if random.random() < 0.5:
        wide = random.uniform(0.8, 2)
        site.add(flat((-wide, 0.02, wide), (1, 0, 0), (0, 0, -1)), (2 * wide, 2 * wide))


KINDS: dict[str, Callable[[_Site], None]] = {
    "room": _room, "environment": _environment, "yard": _yard, "room again": _room, "things": _things
}  # fmt: skip
