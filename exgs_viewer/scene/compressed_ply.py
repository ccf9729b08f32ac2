"""The compressed .ply of PlayCanvas (SuperSplat): 16 bytes per Gaussian, ranges for each chunk of 256.

Packing: position and scale 11-10-11 bits within the ranges of the chunk, rotation 2-10-10-10 (largest component left
out), colour and opacity 8-8-8-8; an optional element `sh` with one byte per higher coefficient.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.cloud import SH_C0, SH_COUNTS
from exgs_viewer.scene.ply_header import Header, described, up_axis
from exgs_viewer.scene.rows import BLOCK, Rows, allocate, finish, parts, settle
from exgs_viewer.settings import Report

CHUNK = 256
"""Gaussians that share their ranges."""
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
RANGES = tuple(f"{end}_{name}" for end in ("min", "max") for name in ("x", "y", "z", "scale_x", "scale_y", "scale_z"))
COLOUR_RANGES = tuple(f"{end}_{name}" for end in ("min", "max") for name in ("r", "g", "b"))

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
    _spread(rows.means[part], chunk, ("x", "y", "z"), _unpacked(position, (21, 11), (11, 10), (0, 11)))
    _spread(rows.scales[part], chunk, ("scale_x", "scale_y", "scale_z"), _unpacked(scale, (21, 11), (11, 10), (0, 11)))
    with np.errstate(over="ignore"):
        np.exp(rows.scales[part], out=rows.scales[part])
    rgba = _unpacked(colour, (24, 8), (16, 8), (8, 8), (0, 8))
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
    table = (np.where(byte == 0, 0, np.where(byte == 255, 1, (byte + 0.5) / 256)) - 0.5) * 8
    columns = np.stack([sh[name].astype(np.uint8) for name in rest], axis=1)
    rows.sh[part, 1:] = table[columns].reshape(len(sh), -1, 3)
