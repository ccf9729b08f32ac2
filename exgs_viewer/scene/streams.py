"""Byte planes <-> one payload: each plane LZMA-compressed on its own, or stored as it is where nothing repeats.

Part of the file format written down in `EXGS.md`: u8 number of streams, then for each stream u8 coder
(0 raw, 1 LZMA2) and u32 bytes, then the streams without gaps.
"""

from __future__ import annotations

import lzma
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.settings import Report, quiet

Plane = NDArray[np.uint8]
Stream = tuple[int, bytes]
"""Coder and coded bytes of one plane."""
T = TypeVar("T")

RAW, LZMA2 = 0, 1
DICTIONARY = 4096
"""Bytes. Part of the format. What repeats in a byte plane is near; a small dictionary is 0.4 % smaller than 4 MiB,
faster, and bounds what a hostile file can make the decoder allocate."""
# Only the dictionary binds the decoder. The binary-tree finder with a single step and the optimal parser are smaller
# (0.1-0.5 %) and faster (x0.6) than preset 6 on these planes: a deeper search finds matches that are coincidences.
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "dict_size": DICTIONARY,
        "lc": 0,
        "lp": 0,
        "pb": 0,
        "mode": lzma.MODE_NORMAL,
        "mf": lzma.MF_BT2,
        "nice_len": 273,
        "depth": 1,
    }
]
NOISE = 7.95
"""Bits per byte. A plane whose bytes are as evenly spread as this is stored raw: LZMA would gain at most 0.5 %."""
PIECE = 1 << 18
"""Bytes coded between two looks at whether the result is still wanted."""
ENTRY = struct.Struct("<BI")


def pack(planes: Sequence[Plane], report: Report = quiet, raw: bool = False) -> bytes:
    """One payload of all planes; `raw` stores them as they are."""
    streams = in_threads(lambda plane, stop: _stored(plane) if raw else compress(plane, stop), planes, report)
    table = b"".join(ENTRY.pack(coder, len(data)) for coder, data in streams)
    return b"".join([bytes([len(streams)]), table, *(data for _, data in streams)])


def unpack(payload: memoryview, lengths: Sequence[int], report: Report = quiet) -> list[Plane]:
    """The planes of a payload, which must have exactly these `lengths`. Raises SceneError without naming the file."""
    streams = _split(payload, len(lengths))
    jobs = [(coder, data, length) for (coder, data), length in zip(streams, lengths, strict=True)]
    return in_threads(lambda job, stop: decompress(*job, stop), jobs, report)


def compress(plane: Plane, stop: Event | None = None) -> Stream:
    """The smaller of LZMA and raw; noise is not even tried."""
    if entropy(plane) > NOISE:
        return _stored(plane)
    coder = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=FILTERS)
    parts = []
    for start in range(0, len(plane), PIECE):
        _look(stop)
        parts.append(coder.compress(plane[start : start + PIECE].tobytes()))
    data = b"".join([*parts, coder.flush()])
    return (LZMA2, data) if len(data) < len(plane) else _stored(plane)


def decompress(coder: int, data: memoryview, length: int, stop: Event | None = None) -> Plane:
    """The plane of `length` bytes in a stream; never makes more than that plus one piece."""
    if coder == RAW:
        plane = np.frombuffer(data, np.uint8)
    elif coder == LZMA2:
        plane = np.frombuffer(_unlzma(data, length, stop), np.uint8)
    else:
        raise SceneError(f"a stream uses coder {coder}, which this version does not know")
    if len(plane) != length:
        raise SceneError(f"a stream holds {len(plane)} bytes where {length} belong")
    return plane


def entropy(plane: Plane) -> float:
    """Bits per byte if each byte were coded on its own, from at most 2^16 bytes taken evenly."""
    counts = np.bincount(plane[:: max(1, len(plane) >> 16)], minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def in_threads(work: Callable[[T, Event], object], items: Sequence[T], report: Report) -> list:
    """[work(item, stop) for item in items] on all cores; liblzma works outside Python's global lock.

    What `report` raises stops the workers within a piece and is passed on.
    """
    stop = Event()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for number, future in enumerate(futures):
                report(number / len(futures), "")
                while not wait([future], timeout=0.1).done:
                    report(number / len(futures), "")
            return [future.result() for future in futures]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _split(payload: memoryview, count: int) -> list[tuple[int, memoryview]]:
    """The streams of a payload, which must fill it exactly."""
    start = 1 + ENTRY.size * count
    if len(payload) < start or payload[0] != count:
        raise SceneError(f"a tier has not the {count} streams it must have")
    streams = []
    for number in range(count):
        coder, size = ENTRY.unpack_from(payload, 1 + ENTRY.size * number)
        streams.append((coder, payload[start : start + size]))
        start += size
    if start != len(payload):
        raise SceneError(f"the streams of a tier take {start} bytes and not {len(payload)}")
    return streams


def _unlzma(data: memoryview, length: int, stop: Event | None) -> bytes:
    """At most length + 1 bytes: one more than allowed is enough to know that the stream is wrong."""
    coder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
    parts, left, data = [], length + 1, bytes(data)
    try:
        while left > 0 and not coder.eof:
            _look(stop)
            parts.append(coder.decompress(data, max_length=min(left, PIECE)))
            left, data = left - len(parts[-1]), b""
            if not parts[-1] and coder.needs_input:
                break
    except lzma.LZMAError as error:
        raise SceneError(f"a stream is no LZMA data ({error})") from error
    if not coder.eof or coder.unused_data:
        raise SceneError("a stream does not end where it should")
    return b"".join(parts)


def _stored(plane: Plane) -> Stream:
    return RAW, plane.tobytes()


def _look(stop: Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Cancelled
