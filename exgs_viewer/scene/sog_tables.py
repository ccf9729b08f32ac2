"""What the bytes of a SOG chunk mean: meta.json -> tables, pictures -> rows.

Follows PlayCanvas' reference (splat-transform, read-sog and read-sog-v1) value by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.images import decode_picture, picture_size
from exgs_viewer.scene.cloud import SH_COUNTS
from exgs_viewer.scene.rows import MAX_GAUSSIANS, Rows, parts, settle

Load = Callable[[str], bytes]
PER_ROW = 64
"""Palette entries in one row of the picture of centroids."""


@dataclass(frozen=True, eq=False)
class Described:
    """One chunk: its files, and the value of each byte in them."""

    meta: dict[str, Any]
    """The JSON itself."""
    count: int
    """Gaussians."""
    files: dict[str, str]
    """File name -> what it holds: means_l, means_u, scales, quats, sh0, centroids, labels."""
    means: np.ndarray
    """[3, 65536] float32. World position by axis and 16-bit code."""
    scales: np.ndarray
    """[3, 256] float32. Linear scale by axis and byte."""
    colour: np.ndarray
    """[4, 256] float32. Constant coefficient of red, green, blue, and opacity, by byte."""
    rest: np.ndarray
    """[256] float32. Higher coefficients by byte."""
    sh_degree: int
    """0 to 3."""
    palette: int
    """Entries of the palette of higher coefficients."""


def described(meta: Any, load: Load, name: str) -> Described:
    """Make sense of a meta.json. Raises SceneError that calls it `name`."""
    if not isinstance(meta, dict) or "means" not in meta:
        raise SceneError(f"{name}: this JSON describes no SOG scene; it has no 'means'.")
    if meta.get("version", 1) not in (1, 2):
        raise SceneError(f"{name}: SOG version {meta['version']!r} is not known here; 1 and 2 are.")
    try:
        with np.errstate(all="ignore"):
            found = _version_2(meta) if meta.get("version", 1) == 2 else _version_1(meta, load, name)
            return _checked(found, load, name)
    except KeyError as error:
        raise SceneError(f"{name}: the description of the scene lacks {error}.") from error
    except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise SceneError(
            f"{name}: the description of the scene holds a value that makes no sense ({error})."
        ) from error


def fill(
    rows: Rows, start: int, part: Described, pictures: dict[str, bytes], name: str, tell: Callable[[float], None]
) -> int:
    """Decode a chunk into `rows` from row `start` on; returns how many Gaussians had no valid rotation."""
    pixels = {}
    for number, (file, role) in enumerate(part.files.items()):
        tell(0.4 * number / len(part.files))
        pixels[role] = decode_picture(pictures[file], f"{name}, {file}").reshape(-1, 4)
        if role != "centroids" and len(pixels[role]) < part.count:
            held = f"'{file}' has {len(pixels[role]):,} pixels"
            raise SceneError(f"{name}: {held}, too few for the {part.count:,} Gaussians promised.")
    palette = _palette(part, pixels.get("centroids"), rows.sh.shape[1], name)
    unturned = 0
    for place in parts(0, part.count):
        tell(0.4 + 0.6 * place.start / part.count)
        goal = slice(start + place.start, start + place.stop)
        block = {role: values[place] for role, values in pixels.items() if role != "centroids"}
        rows.means[goal] = _by_column(part.means, _codes(block["means_l"], block["means_u"]))
        rows.scales[goal] = _by_column(part.scales, block["scales"][:, :3])
        unturned += _rotations(block["quats"], rows.quats[goal])
        _colours(part, palette, block, rows.sh[goal], rows.opacities[goal])
        settle(rows, goal)
    return unturned


def _version_2(meta: dict[str, Any]) -> dict[str, Any]:
    bands = meta["shN"]["bands"] if meta.get("shN") else 0
    opacity = np.arange(256) / 255
    return {
        "meta": meta,
        "count": meta["count"],
        "files": _files(meta, bands > 0),
        "means": _positions(meta),
        "scales": np.tile(np.exp(_codebook(meta["scales"])), (3, 1)).astype(np.float32),
        "colour": np.vstack([np.tile(_codebook(meta["sh0"]), (3, 1)), opacity]).astype(np.float32),
        "rest": (_codebook(meta["shN"]) if bands else np.zeros(256)).astype(np.float32),
        "sh_degree": bands,
        "palette": meta["shN"]["count"] if bands else 0,
    }


def _version_1(meta: dict[str, Any], load: Load, name: str) -> dict[str, Any]:
    colour = _ranges(meta["sh0"], 4)
    colour[3] = 1 / (1 + np.exp(-colour[3]))
    rest = meta.get("shN")
    bands, palette = _bands(load, rest["files"][0], name) if rest else (0, 0)
    return {
        "meta": meta,
        "count": meta["means"]["shape"][0],
        "files": _files(meta, bool(rest)),
        "means": _positions(meta),
        "scales": np.exp(_ranges(meta["scales"], 3)).astype(np.float32),
        "colour": colour.astype(np.float32),
        "rest": (_between(rest["mins"], rest["maxs"], 256) if rest else np.zeros(256)).astype(np.float32),
        "sh_degree": bands,
        "palette": palette,
    }


def _checked(found: dict[str, Any], load: Load, name: str) -> Described:
    """Refuse counts that nothing can hold before anything is allocated for them."""
    count, palette, bands = found["count"], found["palette"], found["sh_degree"]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MAX_GAUSSIANS:
        raise SceneError(
            f"{name}: a count of {count!r} Gaussians makes no sense; 1 to {MAX_GAUSSIANS:,} can be opened."
        )
    if bands not in (0, 1, 2, 3) or not isinstance(palette, int) or not 0 <= palette <= 65536:
        raise SceneError(f"{name}: colours of degree {bands!r} with a palette of {palette!r} make no sense.")
    if not all(isinstance(file, str) for file in found["files"]):
        raise SceneError(f"{name}: the names of its files are no text.")
    first = next(iter(found["files"]))
    width, height = picture_size(load(first), f"{name}, {first}")
    if width * height < count:
        raise SceneError(
            f"{name}: '{first}' has {width * height:,} pixels, too few for the {count:,} Gaussians promised."
        )
    return Described(**found)


def _files(meta: dict[str, Any], with_rest: bool) -> dict[str, str]:
    low, high = meta["means"]["files"][:2]
    files = {low: "means_l", high: "means_u"}
    files.update({meta[role]["files"][0]: role for role in ("scales", "quats", "sh0")})
    if with_rest:
        centroids, labels = meta["shN"]["files"][:2]
        files.update({centroids: "centroids", labels: "labels"})
    if len(files) != (7 if with_rest else 5):
        raise ValueError("two of its pictures are the same file")
    return files


def _bands(load: Load, file: str, name: str) -> tuple[int, int]:
    """Version 1 tells the degree by the width of the picture of centroids, and the palette by its size."""
    width, height = picture_size(load(file), f"{name}, {file}")
    widths = [PER_ROW * (count - 1) for count in SH_COUNTS]
    if width not in widths[1:]:
        raise SceneError(
            f"{name}: '{file}' is {width} pixels wide; {widths[1]}, {widths[2]} or {widths[3]} are expected."
        )
    return widths.index(width), min(PER_ROW * height, 65536)


def _between(low: float, high: float, steps: int) -> np.ndarray:
    """`steps` values evenly from `low` to `high`."""
    return float(low) + (float(high) - float(low)) * (np.arange(steps) / (steps - 1))


def _ranges(entry: dict[str, Any], columns: int) -> np.ndarray:
    """[columns, 256] values of a byte, from the mins and maxs of version 1."""
    return np.stack([_between(entry["mins"][column], entry["maxs"][column], 256) for column in range(columns)])


def _positions(meta: dict[str, Any]) -> np.ndarray:
    """[3, 65536] float32: codes are even steps of sign(x) ln(1 + |x|)."""
    low, high = meta["means"]["mins"], meta["means"]["maxs"]
    spans = [(high[axis] - low[axis]) or 1 for axis in range(3)]
    logs = np.stack([_between(low[axis], low[axis] + spans[axis], 65536) for axis in range(3)])
    return (np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32)


def _codebook(entry: dict[str, Any]) -> np.ndarray:
    """[256] float64; bytes beyond a short codebook mean NaN, and their Gaussians are dropped."""
    values = list(entry["codebook"])[:256]
    if len(values) > 1 and values[0] is None:
        # An early writer left the first entry empty; PlayCanvas' engine mends it in this way.
        values[0] = values[1] + (values[1] - values[-1]) / 255
    book = np.full(256, math.nan)
    book[: len(values)] = np.array(values, np.float64).astype(np.float32)
    return book


def _codes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[n, 3] 16-bit codes from the low and the high bytes."""
    return low[:, :3] | (high[:, :3].astype(np.uint16) << 8)


def _by_column(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """[n, C] values: column c of `codes` looked up in row c of `table`."""
    return np.stack([values.take(codes[:, column]) for column, values in enumerate(table)], axis=1)


def _rotations(pixels: np.ndarray, out: np.ndarray) -> int:
    """Smallest three of a quaternion; the fourth byte minus 252 names the largest. Returns how many name none."""
    others = (pixels[:, :3] / 255 * 2 - 1) / math.sqrt(2)  # [n, 3]
    largest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    which = pixels[:, 3].astype(np.int16) - 252
    out[which < 0] = (1, 0, 0, 0)
    for place in range(4):
        chosen = np.flatnonzero(which == place)
        out[chosen, place] = largest[chosen]
        rest = [column for column in range(4) if column != place]
        out[np.ix_(chosen, rest)] = others[chosen]
    return int((which < 0).sum())


def _palette(part: Described, centroids: np.ndarray | None, coefficients: int, name: str) -> np.ndarray | None:
    """[palette + 1, K, 3] float32 with a zero constant term; the last entry, all zero, is for labels out of range."""
    if centroids is None:
        return None
    stored = SH_COUNTS[part.sh_degree] - 1
    if len(centroids) < part.palette * stored or part.palette == 0:
        raise SceneError(f"{name}: the picture of centroids is too small for the {part.palette:,} entries promised.")
    palette = np.zeros((part.palette + 1, coefficients, 3), np.float32)
    values = centroids[: part.palette * stored, :3].reshape(part.palette, stored, 3)
    palette[:-1, 1 : stored + 1] = part.rest.take(values)
    return palette


def _colours(
    part: Described, palette: np.ndarray | None, block: dict[str, np.ndarray], sh: np.ndarray, opacities: np.ndarray
) -> None:
    if palette is None:
        sh[:, 1:] = 0
    else:
        labels = block["labels"][:, 0] | (block["labels"][:, 1].astype(np.int64) << 8)
        flat = palette.reshape(len(palette), -1)
        np.take(flat, np.minimum(labels, part.palette), axis=0, out=sh.reshape(len(sh), -1), mode="clip")
    values = _by_column(part.colour, block["sh0"])  # [n, 4]
    sh[:, 0] = values[:, :3]
    opacities[:] = values[:, 3]
