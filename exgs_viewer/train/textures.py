"""What the surfaces of made scenes look like: photos, panoramas and patterns, with coarser levels of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from exgs_viewer import images
from exgs_viewer.errors import SceneError
from exgs_viewer.scene.demo.paint import checks, clouds, color, hashed, linen, mix, plain, plaster, stripes, wood

PATTERN_PIXELS = 512
"""Side of a pattern that is painted by code."""


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture and its means over 2 x 2 pixels, level by level; it repeats in both directions."""

    levels: tuple[ndarray, ...]
    """[H / 2^l, W / 2^l, 3] float32 display sRGB in [0, 1]."""

    def sample(self, u: ndarray, v: ndarray, level: int) -> ndarray:
        """[N, 3] at `u`, `v` [N] in pictures from the upper left corner: the nearest pixel of a level."""
        pixels = self.levels[min(level, len(self.levels) - 1)]
        height, width = pixels.shape[:2]
        return pixels[np.floor(v * height).astype(int) % height, np.floor(u * width).astype(int) % width]


def texture(pixels: ndarray) -> Texture:
    """All levels of [H, W, 3], down to where one side is odd or short."""
    levels = [pixels.astype(np.float32)]
    while min(levels[-1].shape[:2]) >= 8 and not any(side % 2 for side in levels[-1].shape[:2]):
        fine = levels[-1]
        levels.append((fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4)
    return Texture(tuple(levels))


class Palette:
    """All there is to draw from: the photos and panoramas of one folder, and patterns made by code."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` holds `kodak/*.png` and `panoramas/*.hdr`; without one, everything is made by code.

        Raises SceneError where a folder is named that holds no photos.
        """
        self.photos = sorted(Path(folder).glob("kodak/*.png")) if folder else []
        self.panoramas = sorted(Path(folder).glob("panoramas/*.hdr")) if folder else []
        if folder and not (self.photos and self.panoramas):
            raise SceneError(f"{folder}: expected photos in kodak/*.png and panoramas in panoramas/*.hdr there.")

    def photo(self, random: np.random.Generator) -> Texture:
        """A photo, or a pattern where there are none."""
        if not self.photos:
            return self.pattern(random)
        pixels = images.read_picture(self.photos[random.integers(len(self.photos))]).numpy()
        height, width = (side // 16 * 16 for side in pixels.shape[:2])
        return texture(varied(pixels[:height, :width], random))

    def panorama(self, random: np.random.Generator) -> Texture:
        """An equirectangular view of all directions, or a sky made by code where there are none."""
        if not self.panoramas:
            return texture(_sky(random))
        light = read_hdr(self.panoramas[random.integers(len(self.panoramas))])
        return texture(varied(np.roll(developed(light), random.integers(light.shape[1]), axis=1), random))

    def pattern(self, random: np.random.Generator) -> Texture:
        """Wood, cloth, plaster, stripes, tiles or speckles in random colours."""
        return texture(_pattern(random))

    def any(self, random: np.random.Generator, photos: float = 0.5) -> Texture:
        """A photo with probability `photos`, a pattern otherwise."""
        return self.photo(random) if random.random() < photos else self.pattern(random)


def varied(pixels: ndarray, random: np.random.Generator) -> ndarray:
    """Other colours, brightness and fine grain for [H, W, 3], so that few photos serve for many scenes."""
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
    if random.random() < 0.3:
        pixels = pixels[..., random.permutation(3)]
    bright = random.uniform(0.6, 1.15) * random.uniform(0.9, 1.1, 3)
    pixels = np.clip(pixels, 0, 1) ** random.uniform(0.7, 1.4) * bright
    grain = random.normal(0, random.uniform(0, 0.05), pixels.shape[:2])
    return np.clip(pixels * (1 + grain[..., None]), 0, 1).astype(np.float32)


def developed(light: ndarray) -> ndarray:
    """Display sRGB of linear light [H, W, 3], exposed for its geometric mean."""
    middle = np.exp(np.log(light.mean(2) + 1e-4).mean())
    return ((1 - np.exp(-0.45 * light / middle)) ** (1 / 2.2)).astype(np.float32)


def read_hdr(path: Path) -> ndarray:
    """[H, W, 3] float32 linear light of a Radiance .hdr file with run-length coded lines. Raises SceneError."""
    try:
        data = Path(path).read_bytes()
        head, _, body = data.partition(b"\n\n")
        line, _, body = body.partition(b"\n")
        words = line.split()
        if not head.startswith(b"#?") or words[0::2] != [b"-Y", b"+X"]:
            raise ValueError("its head is another's")
        height, width = int(words[1]), int(words[3])
        rgbe = _unpacked(body, height, width)
    except (OSError, ValueError, IndexError) as error:
        raise SceneError(f"{path}: cannot be read as a Radiance .hdr picture ({error}).") from error
    return rgbe[..., :3] * np.exp2(rgbe[..., 3:].astype(np.float32) - 136)


def _unpacked(body: bytes, height: int, width: int) -> ndarray:
    """[H, W, 4] uint8. Each line is 2, 2, its width, then the runs of its four planes."""
    rows, at = np.empty((height, 4, width), np.uint8), 0
    for row in rows:
        if body[at : at + 2] != b"\x02\x02" or body[at + 2] << 8 | body[at + 3] != width:
            raise ValueError("a line is not run-length coded")
        at += 4
        for plane in row:
            x = 0
            while x < width:
                count = body[at]
                run = count & 127 if count > 128 else count
                if count > 128:
                    plane[x : x + run] = body[at + 1]
                    at += 2
                else:
                    plane[x : x + run] = np.frombuffer(body, np.uint8, run, at + 1)
                    at += 1 + run
                x += run
    return rows.transpose(0, 2, 1)


def _tint(random: np.random.Generator) -> str:
    grey = random.uniform(0.1, 0.95)
    return "".join(f"{int(255 * value):02x}" for value in (grey + random.normal(0, 0.15, 3)).clip(0, 1))


def _pattern(random: np.random.Generator) -> ndarray:
    """[PATTERN_PIXELS, PATTERN_PIXELS, 3] of one random kind of paint."""
    side = random.uniform(0.4, 2.5)  # metres that one picture spans
    u, v = (grid.ravel().astype(np.float32) for grid in np.meshgrid(*[np.linspace(0, side, PATTERN_PIXELS)] * 2))
    first, second, seed = _tint(random), _tint(random), int(random.integers(1000))
    size = float(random.uniform(0.02, 0.2))
    kind = random.choice(["wood", "plaster", "linen", "checks", "stripes", "speckles", "bricks", "plain"])
    coat = {
        "wood": lambda: wood(first, second, 1.0, seed),
        "plaster": lambda: plaster(first, seed),
        "linen": lambda: linen(first),
        "checks": lambda: checks(first, second, size),
        "stripes": lambda: stripes(first, second, size),
        "plain": lambda: plain(first, 0.1, size),
        "speckles": lambda: (
            lambda u, v: mix(color(first), color(second), 1.5 * clouds(u / size, v / size, seed, 6) - 0.25)
        ),
        "bricks": lambda: lambda u, v: _bricks(u, v, (first, second), size, seed),
    }[str(kind)]()
    pixels = np.broadcast_to(coat(u, v), (len(u), 3)).reshape(PATTERN_PIXELS, PATTERN_PIXELS, 3)
    wear = clouds(u * 3, v * 3, seed, 6).reshape(PATTERN_PIXELS, PATTERN_PIXELS, 1)
    return np.clip(pixels * (1 + random.uniform(0, 0.5) * (wear - 0.5)), 0, 1).astype(np.float32)


def _bricks(u: ndarray, v: ndarray, tints: tuple[str, str], size: float, seed: int) -> ndarray:
    """Rows of bricks, every other row shifted by half, in joints of another colour."""
    row = np.floor(v / size)
    along = u / (2 * size) + 0.5 * (row % 2)
    tone = 0.7 + 0.5 * hashed(np.floor(along), row, seed)
    joint = np.minimum(along % 1, 1 - along % 1) * 2 < 0.06
    joint |= np.minimum(v / size % 1, 1 - v / size % 1) < 0.06
    return np.where(joint[:, None], color(tints[1]), color(tints[0]) * tone[:, None])


def _sky(random: np.random.Generator) -> ndarray:
    """[256, 512, 3] clouds over hills."""
    u, v = (grid.ravel().astype(np.float32) for grid in np.meshgrid(np.linspace(0, 4, 512), np.linspace(0, 2, 256)))
    seed, tints = int(random.integers(1000)), [color(_tint(random)) for _ in range(4)]
    cover = clouds(u * 3, v * 5, seed, 5)
    above = mix(tints[0], tints[1], 2 * cover - 0.5)
    below = mix(tints[2], tints[3], clouds(u * 20, v * 20, seed + 9, 5))
    hills = 1.0 + 0.15 * (clouds(u * 2, u * 0, seed + 5) - 0.5)
    return np.where((v > hills)[:, None], below, above).reshape(256, 512, 3).astype(np.float32)
