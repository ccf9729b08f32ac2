"""The compressed .ply of PlayCanvas (SuperSplat): 16 bytes per Gaussian, ranges for each chunk of 256.

Packing: position and scale 11-10-11 bits within the ranges of the chunk, rotation 2-10-10-10 (largest component left
out), colour and opacity 8-8-8-8; an optional element `sh` with one byte per higher coefficient.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.cells import cells
from exgs_viewer.scene.cloud import SH_C0, SH_COUNTS, GaussianCloud
from exgs_viewer.scene.losses import no_cameras, oblique_up, too_strong
from exgs_viewer.scene.ply_header import Element, Header, described, header_bytes, up_axis
from exgs_viewer.scene.rotations import smallest_three
from exgs_viewer.scene.rows import BLOCK, Rows, allocate, finish, parts, settle
from exgs_viewer.settings import Report, quiet, write_atomically

CHUNK = 256
"""Gaussians that share their ranges."""
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
PLACES, SIZES = ("x", "y", "z"), ("scale_x", "scale_y", "scale_z")
RANGES = tuple(f"{end}_{name}" for names in (PLACES, SIZES) for end in ("min", "max") for name in names)
COLOUR_RANGES = tuple(f"{end}_{name}" for end in ("min", "max") for name in ("r", "g", "b"))
VECTOR = ((21, 11), (11, 10), (0, 11))
"""(shift, bits) of the three coordinates in a packed position or scale."""
BYTES = ((24, 8), (16, 8), (8, 8), (0, 8))
"""(shift, bits) of red, green, blue and opacity."""
LARGEST_SH = 4.0
"""Higher coefficients reach from minus this to plus this."""
THINNEST_LOG = -20.0
"""A flatter Gaussian is written as e to this: one that is infinitely thin would make its chunk's steps coarse."""

assert BLOCK % CHUNK == 0


def is_compressed(header: Header) -> bool:
    """Whether the .ply is of this kind."""
    vertex = header.element("vertex")
    return header.element("chunk") is not None and vertex is not None and set(PACKED) <= set(vertex.names)


def read(path: Path, header: Header, report: Report) -> Scene:
    """Read a compressed .ply whose header is known. Raises SceneError where it is cut short or its parts disagree."""
    tables = _tables(path, header)
    vertex, chunks, sh = tables["vertex"], tables["chunk"], tables.get("sh")
    if len(chunks) * CHUNK < len(vertex) or (sh is not None and len(sh) != len(vertex)):
        raise SceneError(f"{path}: its elements chunk, vertex and sh do not fit each other.")
    rest, degree = _rest(path, sh)
    rows = allocate(path, len(vertex), degree)
    for part in parts(0, len(vertex)):
        report(part.start / len(vertex), f"Reading {path.name}")
        _fill(rows, part, vertex[part], chunks)
        if sh is not None:
            _fill_rest(rows, part, sh[part], rest)
        settle(rows, part)
    cloud, dropped = finish(rows, path)
    up = up_axis(header.comments)
    return Scene(
        cloud, path, "compressed.ply", path.stat().st_size, up, warnings=tuple(dropped), meta=described(header)
    )


def write(path: Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet) -> int:
    """Write a compressed .ply whose chunks are small places, so that 11 bits go far; returns its bytes.

    `meta["comments"]` and `meta["up"]` become comment lines.
    """
    cloud = cloud.to("cpu")
    count, degree = len(cloud), cloud.sh_degree
    rest = 3 * (SH_COUNTS[degree] - 1)
    chunks = np.empty((-(-count // CHUNK), len(RANGES + COLOUR_RANGES)), "<f4")
    vertex, sh = np.empty((count, len(PACKED)), "<u4"), np.empty((count, rest), np.uint8)
    order = torch.from_numpy(np.concatenate(cells(cloud.means.numpy(), CHUNK)))
    for part in parts(0, count):
        report(0.9 * part.start / count, f"Writing {Path(path).name}")
        block = cloud.take(order[part])
        chosen = slice(part.start // CHUNK, -(-part.stop // CHUNK))
        chunks[chosen], vertex[part] = _packed(block)
        sh[part] = _rest_bytes(block.sh[:, 1:].numpy())
    elements = [
        Element("chunk", len(chunks), tuple((name, "f4") for name in (*RANGES, *COLOUR_RANGES))),
        Element("vertex", count, tuple((name, "u4") for name in PACKED)),
        Element("sh", count, tuple((f"f_rest_{number}", "u1") for number in range(rest))),
    ]
    head = header_bytes(elements if degree else elements[:2], meta or {})
    write_atomically(Path(path), [head, *(memoryview(table).cast("B") for table in (chunks, vertex, sh) if table.size)])
    return Path(path).stat().st_size


def losses(scene: Scene) -> list[str]:
    """A sentence for each thing of the scene that has no place in this format."""
    return [*no_cameras(scene), *oblique_up(scene), *too_strong(scene.cloud, -LARGEST_SH, LARGEST_SH)]


def _tables(path: Path, header: Header) -> dict[str, np.ndarray]:
    """Every element as an array of structures."""
    if not header.byte_order or any(element.has_lists for element in header.elements):
        raise SceneError(f"{path}: a compressed .ply must be binary and without lists.")
    tables, offset, size = {}, header.size, path.stat().st_size
    for element in header.elements:
        row_type = element.row_type(header.byte_order)
        if offset + element.count * row_type.itemsize > size:
            raise SceneError(f"{path}: the file ends within its {element.count:,} rows of '{element.name}'.")
        tables[element.name] = np.fromfile(path, row_type, element.count, offset=offset)
        offset += element.count * row_type.itemsize
    missing = [name for name in RANGES if name not in (tables["chunk"].dtype.names or ())]
    if missing:
        raise SceneError(f"{path}: the element chunk of this compressed .ply lacks {', '.join(missing)}.")
    return tables


def _rest(path: Path, sh: np.ndarray | None) -> tuple[list[str], int]:
    """The columns of `sh` coefficient by coefficient, and their degree."""
    if sh is None:
        return [], 0
    per_channel = len(sh.dtype.names or ()) // 3
    rest = [f"f_rest_{channel * per_channel + k}" for k in range(per_channel) for channel in range(3)]
    if per_channel + 1 not in SH_COUNTS or set(rest) != set(sh.dtype.names):
        raise SceneError(f"{path}: its element sh holds {len(sh.dtype.names or ())} columns; 9, 24 or 45 are expected.")
    return rest, SH_COUNTS.index(per_channel + 1)


def _fill(rows: Rows, part: slice, vertex: np.ndarray, chunks: np.ndarray) -> None:
    chunk = np.repeat(chunks[part.start // CHUNK : -(-part.stop // CHUNK)], CHUNK)[: len(vertex)]
    position, rotation, scale, colour = (vertex[name].astype(np.uint32) for name in PACKED)
    _spread(rows.means[part], chunk, PLACES, _unpacked(position, *VECTOR))
    _spread(rows.scales[part], chunk, SIZES, _unpacked(scale, *VECTOR))
    with np.errstate(over="ignore"):
        np.exp(rows.scales[part], out=rows.scales[part])
    rgba = _unpacked(colour, *BYTES)
    if set(COLOUR_RANGES) <= set(chunks.dtype.names):
        _spread(rgba[:, :3], chunk, ("r", "g", "b"), rgba[:, :3].copy())
    rows.sh[part, 0] = (rgba[:, :3] - 0.5) / SH_C0
    rows.opacities[part] = rgba[:, 3]
    rows.quats[part] = _rotation(rotation)


def _unpacked(values: np.ndarray, *fields: tuple[int, int]) -> np.ndarray:
    """[n] uint32 -> [n, len(fields)] float64 in [0, 1]; a field is (shift, bits)."""
    return np.stack([((values >> shift) & (2**bits - 1)) / (2**bits - 1) for shift, bits in fields], axis=1)


def _spread(out: np.ndarray, chunk: np.ndarray, names: tuple[str, ...], share: np.ndarray) -> None:
    """Write min + (max - min) * share of each row's chunk, column by column."""
    for column, name in enumerate(names):
        t = share[:, column]
        out[:, column] = chunk[f"min_{name}"].astype(np.float64) * (1 - t) + chunk[f"max_{name}"].astype(np.float64) * t


def _rotation(values: np.ndarray) -> np.ndarray:
    """[n] uint32 -> [n, 4] w x y z: two bits name the largest component, the others follow in order."""
    others = (_unpacked(values, (20, 10), (10, 10), (0, 10)) - 0.5) * math.sqrt(2)  # [n, 3]
    largest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    which = values >> 30
    result = np.empty((len(values), 4))
    for place in range(4):
        chosen = which == place
        result[chosen] = np.insert(others[chosen], place, largest[chosen], axis=1)
    return result


def _fill_rest(rows: Rows, part: slice, sh: np.ndarray, rest: list[str]) -> None:
    """Bytes to coefficients in [-4, 4]; 0 and 255 stand for the ends, the others for the middle of their step."""
    byte = np.arange(256)
    table = (np.where(byte == 0, 0, np.where(byte == 255, 1, (byte + 0.5) / 256)) - 0.5) * 2 * LARGEST_SH
    columns = np.stack([sh[name].astype(np.uint8) for name in rest], axis=1)
    rows.sh[part, 1:] = table[columns].reshape(len(sh), -1, 3)


def _packed(block: GaussianCloud) -> tuple[np.ndarray, np.ndarray]:
    """The ranges of the chunks of a block, [C, 18], and its four words per Gaussian, [n, 4]; C = ceil(n / 256)."""
    logs = np.maximum(block.scales.log().numpy(), THINNEST_LOG)
    position, *ends = _shares(block.means.numpy())
    scale, *scale_ends = _shares(logs)
    colour, *colour_ends = _shares(block.sh[:, 0].numpy() * np.float32(SH_C0) + np.float32(0.5))
    rgba = np.concatenate([colour, block.opacities.numpy()[:, None]], axis=1)
    which, others = smallest_three(block.quats.numpy())
    turned = np.concatenate([which[:, None] / 3, others * math.sqrt(0.5) + 0.5], axis=1)
    words = [_joined(position, VECTOR), _joined(turned, ((30, 2), (20, 10), (10, 10), (0, 10)))]
    words += [_joined(scale, VECTOR), _joined(rgba, BYTES)]
    return np.concatenate([*ends, *scale_ends, *colour_ends], axis=1), np.stack(words, axis=1)


def _shares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[n, 3] float32 -> where each lies between the ends of its chunk [n, 3], and these ends, [C, 3] each."""
    count = len(values)
    chunked = np.pad(values, ((0, -count % CHUNK), (0, 0)), mode="edge").reshape(-1, CHUNK, 3)
    low, high = chunked.min(axis=1), chunked.max(axis=1)
    extent = (high.astype(np.float64) - low)[:, None]
    shares = (chunked - low[:, None].astype(np.float64)) / np.where(extent > 0, extent, 1.0)
    return shares.reshape(-1, 3)[:count], low, high


def _joined(shares: np.ndarray, fields: tuple[tuple[int, int], ...]) -> np.ndarray:
    """[n, len(fields)] in [0, 1] -> [n] uint32: the inverse of `_unpacked`."""
    words = np.zeros(len(shares), np.uint32)
    for column, (shift, bits) in enumerate(fields):
        words |= np.rint(shares[:, column] * (2**bits - 1)).astype(np.uint32) << np.uint32(shift)
    return words


def _rest_bytes(rest: np.ndarray) -> np.ndarray:
    """[n, K - 1, 3] -> [n, 3 (K - 1)] bytes, channel by channel as f_rest is; the nearest that `_fill_rest` knows."""
    steps = np.floor((rest / (2 * LARGEST_SH) + 0.5) * 256).clip(0, 255).astype(np.uint8)
    return steps.transpose(0, 2, 1).reshape(len(rest), -1)
