"""The integers of a cloud <-> the payloads of its tiers, block by block on all cores.

A tier is cut along the Morton curve into blocks of at most 65,536 Gaussians that know nothing of each other. A payload
is `u32 blocks`, for each block `u32 Gaussians, u32 bytes`, then the blocks without gaps. Part of the file format
specified in `EXGS.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.scene.compact import Form, Numbers, to_cloud
from exgs_viewer.scene.compact_model import COLUMNS, code_base, code_harmonics
from exgs_viewer.scene.exgs_header import FEWEST_BITS
from exgs_viewer.scene.range_coder import MARGIN
from exgs_viewer.scene.streams import in_threads
from exgs_viewer.settings import Report

MAX_BLOCK = 1 << 16
BLOCK = 40_000
"""Gaussians a block should hold: large enough to learn from, small enough to keep two cores equally busy."""
TWO_BLOCKS = 1 << 14
"""Gaussians from which on there are two blocks at least: 0.1 to 0.4 % more bytes, read in six tenths of the time."""
TABLE = struct.Struct("<I")
ENTRY = struct.Struct("<II")
SMALL_BLOCK = 256
"""Bytes. A payload has at most one block more than this fits into it: each block costs a reader a fresh model."""
Payloads = list[bytes]
"""What a tier's Gaussians take: without higher harmonics, then what each SH degree adds."""


def spatial_order(numbers: Numbers) -> NDArray[np.int64]:
    """[N]. Along the Morton curve; of two in the same place the earlier first."""
    return np.argsort(numbers.keys, kind="stable")


def pack_tiers(tiers: Sequence[Numbers], form: Form, report: Report) -> list[Payloads]:
    """The payloads of tiers whose Gaussians are in spatial order."""
    blocks = [_blocks(tier) for tier in tiers]
    jobs = [block for tier in blocks for block in tier]
    coded = iter(in_threads(lambda block, _: pack_block(block, form), jobs, report))
    return [_joined(tier, [next(coded) for _ in tier]) for tier in blocks]


def unpack_tiers(tiers: Sequence[tuple[int, list[memoryview]]], form: Form, report: Report) -> list[GaussianCloud]:
    """The clouds of all blocks, for tiers given as their counts and payloads.

    Raises SceneError without naming the file.
    """
    jobs = [job for count, payloads in tiers for job in _block_jobs(count, payloads)]
    return in_threads(lambda job, _: to_cloud(_unpack_block(*job, form), form), jobs, report)


def _blocks(tier: Numbers) -> list[Numbers]:
    count = max(-(-len(tier.keys) // BLOCK), 1 + (len(tier.keys) >= TWO_BLOCKS))
    count += count > 1 and count % 2  # An even number keeps two cores equally long at work.
    ends = np.linspace(0, len(tier.keys), count + 1).astype(np.int64)
    return [tier.take(slice(start, end)) for start, end in pairwise(ends)]


def pack_block(block: Numbers, form: Form) -> list[bytes]:
    """The bytes of one block, for the base and for each SH degree."""
    keys, values = block.keys.copy(), np.ascontiguousarray(block.values)
    fewest = -(-len(keys) * FEWEST_BITS // 8)
    parts = [_written(lambda data: code_base(False, data, len(data), keys, values, form.numbers), len(keys), fewest)]
    for degree in range(1, _degree(block.harmonics.shape[1]) + 1):
        part = np.ascontiguousarray(block.harmonics[:, _columns(degree)])
        parts.append(_written(lambda data, part=part: code_harmonics(False, data, len(data), part), part.size, fewest))
    return parts


def _written(code: Callable[[NDArray[np.uint8]], tuple[int, int]], numbers: int, fewest: int) -> bytes:
    """What `code` writes at the front and at the end of the room it is given, which grows until it suffices; between
    them as many zeros as `fewest` bytes need."""
    room = 16 * numbers + 1024
    while True:
        data = np.empty(room, np.uint8)
        at, end = code(data)
        if at <= end:
            zeros = max(fewest - at - (room - end), 0)
            return data[:at].tobytes() + bytes(zeros) + data[end:].tobytes()
        room *= 4


def _unpack_block(count: int, payloads: list[memoryview], form: Form) -> Numbers:
    keys, values = np.zeros(count, np.uint64), np.zeros((count, COLUMNS), np.int32)
    _read(lambda data, size: code_base(True, data, size, keys, values, form.numbers), payloads[0])
    parts = []
    for degree, payload in enumerate(payloads[1:], 1):
        part = np.zeros((count, _width(degree)), np.int32)
        _read(lambda data, size, part=part: code_harmonics(True, data, size, part), payload)
        parts.append(part)
    return Numbers(keys, values, np.concatenate([np.zeros((count, 0), np.int32), *parts], axis=1))


def _read(code: Callable[[NDArray[np.uint8], int], tuple[int, int]], payload: memoryview) -> None:
    """Have `code` read a part; what stands at its front and at its end must not overlap."""
    data = np.zeros(len(payload) + MARGIN, np.uint8)
    data[: len(payload)] = np.frombuffer(payload, np.uint8)
    at, end = code(data, len(payload))
    if at > end:
        raise SceneError("a block ends before its Gaussians do")


def _joined(blocks: list[Numbers], coded: list[list[bytes]]) -> Payloads:
    """The payloads of a tier from the parts of its blocks."""
    payloads = []
    for parts in zip(*coded, strict=True):
        entries = [ENTRY.pack(len(block.keys), len(part)) for block, part in zip(blocks, parts, strict=True)]
        payloads.append(b"".join([TABLE.pack(len(parts)), *entries, *parts]))
    return payloads


def _block_jobs(count: int, payloads: list[memoryview]) -> list[tuple[int, list[memoryview]]]:
    """For each block of a tier its Gaussians and its part of each payload."""
    tables = [_split(payload) for payload in payloads]
    counts = [gaussians for gaussians, _ in tables[0]]
    if any([gaussians for gaussians, _ in table] != counts for table in tables) or sum(counts) != count:
        raise SceneError(f"the blocks of a tier do not hold its {count} Gaussians")
    return [(gaussians, [table[number][1] for table in tables]) for number, gaussians in enumerate(counts)]


def _split(payload: memoryview) -> list[tuple[int, memoryview]]:
    """Gaussians and bytes of each block, which must fill the payload exactly."""
    blocks = TABLE.unpack_from(payload)[0] if len(payload) >= TABLE.size else 0
    at = TABLE.size + blocks * ENTRY.size
    if not 0 < blocks <= 1 + len(payload) // SMALL_BLOCK or at > len(payload):
        raise SceneError("the table of a tier's blocks is damaged")
    found = []
    for number in range(blocks):
        gaussians, size = ENTRY.unpack_from(payload, TABLE.size + number * ENTRY.size)
        if not 0 < gaussians <= MAX_BLOCK or gaussians * FEWEST_BITS > 8 * size or at + size > len(payload):
            raise SceneError(f"{size} bytes cannot be a block of {gaussians} Gaussians")
        found.append((gaussians, payload[at : at + size]))
        at += size
    if at != len(payload):
        raise SceneError(f"the blocks of a tier take {at} bytes and not {len(payload)}")
    return found


def _degree(columns: int) -> int:
    return SH_COUNTS.index(columns // 3 + 1)


def _columns(degree: int) -> slice:
    """The columns of the higher coefficients that belong to one degree."""
    return slice(3 * (SH_COUNTS[degree - 1] - 1), 3 * (SH_COUNTS[degree] - 1))


def _width(degree: int) -> int:
    return 3 * (SH_COUNTS[degree] - SH_COUNTS[degree - 1])
