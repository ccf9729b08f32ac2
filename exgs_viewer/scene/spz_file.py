"""The container of a .spz: a head, then one column of bytes per attribute, in one gzip (versions 2, 3) or as a zstd
stream each (version 4)."""

from __future__ import annotations

import gzip
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.rows import MAX_GAUSSIANS
from exgs_viewer.settings import Report

HEADER = struct.Struct("<4sIIBBBB")
STREAM = struct.Struct("<QQ")
"""One line of the table of contents of version 4: bytes packed, bytes unpacked."""
MAX_RATIO = 1100
"""Deflate cannot make anything smaller than this factor; zstd could, but no scene is that much alike."""
PIECE = 1 << 20
"""Bytes unpacked at once."""
Columns = dict[str, np.ndarray]
"""Attribute -> [N, bytes] uint8."""


@dataclass(frozen=True)
class Head:
    """The first 16 bytes, behind the gzip where there is one."""

    version: int
    count: int
    degree: int
    """Of the spherical harmonics, 0 to 4."""
    fraction: int
    """Bits behind the point of a coordinate."""
    flags: int
    """1: trained with antialiasing. 2: there are extensions."""
    streams: int = 0
    """Of version 4; 0 before."""

    @property
    def columns(self) -> dict[str, int]:
        """Bytes per Gaussian of each attribute, in the order of the file."""
        rotation = 4 if self.version >= 3 else 3
        rest = 3 * ((self.degree + 1) ** 2 - 1)
        return {"position": 9, "alpha": 1, "colour": 3, "scale": 3, "rotation": rotation, "rest": rest}

    @property
    def bytes(self) -> int:
        """Of all columns."""
        return self.count * sum(self.columns.values())


def unpacked(path: Path, report: Report) -> tuple[Head, Columns]:
    """The head and the columns of a file. Raises SceneError where it is damaged or of a version not known here."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(HEADER.size)
            _check_start(path, start)
            file.seek(0)
            if start[:4] == b"NGSP":
                head = _head(path, start, size, versions=(4,))
                pieces = _unpacked_streams(path, file, head, size)
            else:
                unpacking = gzip.GzipFile(fileobj=file)
                head = _head(path, unpacking.read(HEADER.size), size, versions=(2, 3))
                pieces = _unpacked_gzip(unpacking, head)
            data = bytearray()
            for piece in pieces:
                data += piece
                report(0.5 * len(data) / max(head.bytes, 1), f"Unpacking {path.name}")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SceneError(f"{path}: the .spz cannot be unpacked; it is damaged or was cut short.") from error
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if len(data) < head.bytes:
        raise SceneError(f"{path}: the file ends before its {head.count:,} Gaussians are complete.")
    return head, _columns(head, np.frombuffer(data, np.uint8))


def packed(head: Head, columns: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a file of version 3, of columns in whatever pieces."""
    packing = zlib.compressobj(wbits=31)
    yield packing.compress(HEADER.pack(b"NGSP", head.version, head.count, head.degree, head.fraction, head.flags, 0))
    for piece in columns:
        yield packing.compress(piece)
    yield packing.flush()


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise SceneError(f"{path}: the file is empty.")
    if start[:2] != b"\x1f\x8b" and start[:4] != b"NGSP":
        raise SceneError(f"{path}: this is no .spz file.")


def _head(path: Path, data: bytes, size: int, versions: tuple[int, ...]) -> Head:
    if len(data) < HEADER.size or data[:4] != b"NGSP":
        raise SceneError(f"{path}: this is no .spz file.")
    head = Head(*HEADER.unpack(data)[1:])
    if head.version not in versions:
        raise SceneError(f"{path}: .spz of version {head.version} is not known here; 2, 3 and 4 are.")
    if head.degree > 4 or head.fraction > 23:
        raise SceneError(f"{path}: colours of degree {head.degree} or {head.fraction} bits of fraction make no sense.")
    if head.count > MAX_GAUSSIANS or head.bytes > MAX_RATIO * size:
        raise SceneError(f"{path}: {head.count:,} Gaussians are promised, more than so small a file can hold.")
    return head


def _unpacked_gzip(unpacking: gzip.GzipFile, head: Head) -> Iterator[bytes]:
    missing = head.bytes
    while missing and (piece := unpacking.read(min(PIECE, missing))):
        missing -= len(piece)
        yield piece
    unpacking.read(1)  # only behind the last byte does gzip compare its checksum


def _unpacked_streams(path: Path, file: BinaryIO, head: Head, size: int) -> Iterator[bytes]:
    """The columns of version 4. The head is 32 bytes; bytes 16 to 20 say where the table of contents begins."""
    zstd = _zstd(path)
    widths = [width for width in head.columns.values() if width]
    contents = struct.unpack("<I", _exactly(file, HEADER.size + 4)[-4:])[0]
    file.seek(contents)
    table = [STREAM.unpack(_exactly(file, STREAM.size)) for _ in range(head.streams)]
    if [unpacked for _, unpacked in table] != [width * head.count for width in widths]:
        raise SceneError(f"{path}: the streams of this .spz do not fit its {head.count:,} Gaussians; it is damaged.")
    if sum(stored for stored, _ in table) > size:
        raise EOFError
    try:
        for stored, unpacked in table:
            yield from _unpacked_zstd(zstd.ZstdDecompressor(), _exactly(file, stored), unpacked)
    except zstd.ZstdError as error:
        raise EOFError from error


def _unpacked_zstd(unpacking: object, stored: bytes, missing: int) -> Iterator[bytes]:
    while missing:
        piece = unpacking.decompress(stored, max_length=min(PIECE, missing))
        if not piece:
            raise EOFError
        stored, missing = b"", missing - len(piece)
        yield piece
    if not unpacking.eof and (unpacking.decompress(stored, max_length=1) or not unpacking.eof):
        raise EOFError  # more than was promised, or a frame without its end


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _zstd(path: Path) -> ModuleType:
    """Python's own zstd, or before 3.14 the same module as a package."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise SceneError(
            f"{path}: .spz of version 4 needs the Python package backports.zstd; run_viewer.py installs it."
        ) from error
    return zstd


def _columns(head: Head, values: np.ndarray) -> Columns:
    columns, start = {}, 0
    for name, width in head.columns.items():
        columns[name] = values[start : start + head.count * width].reshape(head.count, width)
        start += head.count * width
    return columns
