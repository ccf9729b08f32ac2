"""The .spz of Niantic, versions 2 and 3: a gzip of byte columns. Version 4 (zstd) is refused by name.

Stored in a frame with x right, y up, z back; turned to x right, y down, z forward, as a .ply has it and as
splat-transform reads it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.cloud import SH_COUNTS
from exgs_viewer.scene.rows import MAX_GAUSSIANS, Rows, allocate, finish, parts, settle
from exgs_viewer.settings import Report, quiet

HEADER = struct.Struct("<4sIIBBBB")
MAX_RATIO = 1100
"""Deflate cannot make anything smaller than this factor, so no honest file unpacks to more."""
PIECE = 1 << 20
"""Bytes unpacked at once."""

TURN_POSITION = np.array([1, -1, -1], np.float32)
TURN_SH = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
"""Sign of each spherical harmonic when y and z change theirs."""


@dataclass(frozen=True)
class Head:
    """The 16 bytes at the start of the unpacked file."""

    version: int
    count: int
    degree: int
    """Of the spherical harmonics, 0 to 4."""
    fraction: int
    """Bits behind the point of a coordinate."""
    flags: int
    """1: trained with antialiasing."""

    @property
    def columns(self) -> dict[str, int]:
        """Bytes per Gaussian of each attribute, in the order of the file."""
        rotation = 4 if self.version >= 3 else 3
        rest = 3 * ((self.degree + 1) ** 2 - 1)
        return {"position": 9, "alpha": 1, "colour": 3, "scale": 3, "rotation": rotation, "rest": rest}


def read(path: Path, report: Report = quiet) -> Scene:
    """Read a .spz. Raises SceneError where it is damaged or of a version not known here."""
    path = Path(path)
    head, columns = _unpacked(path, report)
    rows = allocate(path, head.count, min(head.degree, 3))
    for part in parts(0, head.count):
        report(0.5 + 0.5 * part.start / head.count, f"Reading {path.name}")
        _fill(rows, part, {name: column[part] for name, column in columns.items()}, head)
        settle(rows, part)
    cloud, dropped = finish(rows, path)
    cut = ["Its colours have spherical harmonics of degree 4; degree 3 was kept."] if head.degree > 3 else []
    meta = {"version": head.version, "antialias": bool(head.flags & 1)}
    return Scene(cloud, path, "spz", path.stat().st_size, warnings=(*cut, *dropped), meta=meta)


def _unpacked(path: Path, report: Report) -> tuple[Head, dict[str, np.ndarray]]:
    """The head, and each attribute as [N, bytes] uint8."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unpacking:
            _check_start(path, file.read(4))
            file.seek(0)
            head = _head(path, unpacking.read(HEADER.size), size)
            data = bytearray()
            total = head.count * sum(head.columns.values())
            while len(data) < total and (piece := unpacking.read(min(PIECE, total - len(data)))):
                data += piece
                report(0.5 * len(data) / total, f"Unpacking {path.name}")
            unpacking.read(1)  # only behind the last byte does gzip compare its checksum
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SceneError(f"{path}: the .spz cannot be unpacked; it is damaged or was cut short.") from error
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if len(data) < total:
        raise SceneError(f"{path}: the file ends before its {head.count:,} Gaussians are complete.")
    columns, start, values = {}, 0, np.frombuffer(data, np.uint8)
    for name, width in head.columns.items():
        columns[name] = values[start : start + head.count * width].reshape(head.count, width)
        start += head.count * width
    return head, columns


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise SceneError(f"{path}: the file is empty.")
    if start == b"NGSP":
        raise SceneError(f"{path}: .spz of version 4 is not known here; splat-transform makes a .ply of it.")
    if start[:2] != b"\x1f\x8b":
        raise SceneError(f"{path}: this is no .spz file.")


def _head(path: Path, data: bytes, size: int) -> Head:
    if len(data) < HEADER.size or data[:4] != b"NGSP":
        raise SceneError(f"{path}: this is no .spz file.")
    head = Head(*HEADER.unpack(data)[1:6])
    if head.version not in (2, 3):
        raise SceneError(f"{path}: .spz of version {head.version} is not known here; 2 and 3 are.")
    if head.degree > 4 or head.fraction > 23:
        raise SceneError(f"{path}: colours of degree {head.degree} or {head.fraction} bits of fraction make no sense.")
    if head.count > min(MAX_GAUSSIANS, MAX_RATIO * size // sum(head.columns.values())):
        raise SceneError(f"{path}: {head.count:,} Gaussians are promised, more than so small a file can hold.")
    return head


def _fill(rows: Rows, part: slice, block: dict[str, np.ndarray], head: Head) -> None:
    rows.means[part] = _positions(block["position"], head.fraction)
    rows.scales[part] = np.exp(block["scale"] / np.float32(16) - 10)
    rows.quats[part] = _smallest_three(block["rotation"]) if head.version >= 3 else _first_three(block["rotation"])
    rows.quats[part, 2:] *= -1
    rows.opacities[part] = block["alpha"][:, 0] / np.float32(255)
    rows.sh[part, 0] = (block["colour"] / 255 - 0.5) / 0.15
    kept = SH_COUNTS[min(head.degree, 3)]
    rest = block["rest"].reshape(len(block["rest"]), -1, 3)[:, : kept - 1]
    rows.sh[part, 1:] = (rest - np.float32(128)) / 128 * TURN_SH[1:kept, None]


def _positions(block: np.ndarray, fraction: int) -> np.ndarray:
    """[n, 9] bytes, three signed 24-bit numbers of fixed point -> [n, 3]."""
    low, middle, high = (block.reshape(len(block), 3, 3)[:, :, byte].astype(np.int32) for byte in range(3))
    signed = ((high ^ 0x80) - 0x80) << 16
    return (low | middle << 8 | signed).astype(np.float32) / 2**fraction * TURN_POSITION


def _first_three(block: np.ndarray) -> np.ndarray:
    """[n, 3] bytes x y z of a rotation whose w is positive -> [n, 4] w x y z."""
    xyz = block / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True)))
    return np.concatenate([w, xyz], axis=1)


def _smallest_three(block: np.ndarray) -> np.ndarray:
    """[n, 4] bytes: which of x y z w is largest in 2 bits, the others as sign and 9 bits each -> [n, 4] w x y z."""
    words = np.ascontiguousarray(block).view("<u4")[:, 0]
    fields = np.stack([(words >> shift) & 1023 for shift in (20, 10, 0)], axis=1)
    others = (fields & 511) / 511 * math.sqrt(0.5) * np.where(fields & 512, -1, 1)  # [n, 3]
    largest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    xyzw = np.empty((len(words), 4))
    for place in range(4):
        chosen = words >> 30 == place
        xyzw[chosen] = np.insert(others[chosen], place, largest[chosen], axis=1)
    return xyzw[:, [3, 0, 1, 2]]
