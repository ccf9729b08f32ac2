"""The beginning of an .exgs file: what it holds and where, checked before any of it is decoded.

The bytes are specified in `EXGS.md`. Problems are SceneErrors that leave naming the file to the caller.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.float16 import Frame, rows

MAGIC = b"\x89EGS\r\n\x1a\n"
VERSION = (1, 4)
COMPACT_SINCE = 4
"""Minor version of the compact form that is read; 1.1 to 1.3 had others."""
CODECS = ("float16", "compact", "paper")
"""The forms of storage by their number in the file."""
FLOAT16, COMPACT, PAPER = range(3)
FIXED = struct.Struct("<8sHHIQII4d8h")
CHUNK = struct.Struct("<4sI")
TIER = struct.Struct("<IIQQII")
CRC = struct.Struct("<I")
FORM = struct.Struct("<25h")
"""The numbers of the compact form after frame, in the order of `compact.Form`."""
MAX_GAUSSIANS = 1 << 28
MAX_TIERS = 256
MAX_INDEX_START = 1 << 20
MAX_META = 1 << 16
MAX_RATIO = 64
"""Decoded bytes of a tier may be this many times its coded bytes; in the compact form the bound is FEWEST_BITS."""
FEWEST_BITS = 2
"""A tier of the compact form has at least this many bits for each Gaussian."""


@dataclass(frozen=True)
class Tier:
    """One line of the tier index."""

    count: int
    bytes: int
    raw_bytes: int
    crc: int
    kind: int = 0


@dataclass(frozen=True)
class Header:
    """Everything before the tiers."""

    gaussians: int
    sh_degree: int
    frame: Frame
    tiers: tuple[Tier, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    codec: int = FLOAT16
    """Place in CODECS."""
    form: tuple[int, ...] = ()
    """The numbers of FORM in the compact form."""


def pack_header(header: Header) -> bytes:
    meta = _meta_bytes(header.meta)
    chunks = CHUNK.pack(b"meta", len(meta)) + meta
    if header.form:
        chunks += CHUNK.pack(b"Form", FORM.size) + FORM.pack(*header.form)
    fixed = FIXED.pack(
        MAGIC,
        *VERSION,
        header.codec | header.sh_degree << 4,
        header.gaussians,
        len(header.tiers),
        FIXED.size + len(chunks),
        *header.frame.origin,
        header.frame.step,
        *[0] * 8,
    )
    index = [TIER.pack(tier.kind, tier.count, tier.bytes, tier.raw_bytes, tier.crc, 0) for tier in header.tiers]
    head = b"".join([fixed, chunks, *index])
    return head + CRC.pack(zlib.crc32(head))


def read_header(data: bytes) -> tuple[Header, int]:
    """The checked header and where the first tier begins."""
    if data[:8] != MAGIC or len(data) < FIXED.size:
        raise SceneError("this is no .exgs file, or its beginning is damaged")
    _, major, minor, flags, gaussians, n_tiers, index, *numbers = FIXED.unpack_from(data)
    if major != VERSION[0]:
        raise SceneError(f"it is in format {major}.{minor}, this program reads {VERSION[0]}.x; use a newer program")
    end = index + n_tiers * TIER.size
    if not (1 <= n_tiers <= MAX_TIERS and FIXED.size <= index <= MAX_INDEX_START and end + CRC.size <= len(data)):
        raise SceneError("its header is damaged or cut off")
    if zlib.crc32(data[:end]) != CRC.unpack_from(data, end)[0]:
        raise SceneError("its header is damaged (checksum)")
    if flags & 0xFF00 or flags & 15 >= len(CODECS) or flags >> 4 & 15 > 3:
        raise SceneError(f"it uses a form of storage (flags {flags:#x}) that this program does not know")
    if flags & 15 == COMPACT and minor < COMPACT_SINCE:
        raise SceneError(f"it is in format {major}.{minor}, from before the first release; compress its scene again")
    tiers = tuple(_read_tier(data, index + i * TIER.size) for i in range(n_tiers))
    meta, form = _read_chunks(data, index)
    frame = Frame(tuple(numbers[:3]), numbers[3])
    header = Header(gaussians, flags >> 4 & 15, frame, tiers, meta, flags & 15, form)
    _check(header)
    return header, end + CRC.size


def _read_tier(data: bytes, at: int) -> Tier:
    kind, count, size, raw, crc, _ = TIER.unpack_from(data, at)
    return Tier(count, size, raw, crc, kind)


def _check(header: Header) -> None:
    """Refuse what no writer makes, before anything is allocated for it."""
    shown = [tier for tier in header.tiers if tier.kind == 0]
    if not (1 <= header.gaussians <= MAX_GAUSSIANS and sum(tier.count for tier in shown) == header.gaussians):
        raise SceneError(f"its header is damaged: {header.gaussians} Gaussians do not fit its tiers")
    for tier in shown:
        if tier.count == 0 or not _plausible(tier, header):
            raise SceneError(f"its header is damaged: {tier.bytes} bytes cannot hold {tier.count} Gaussians")
    if bool(header.form) != (header.codec == COMPACT):
        raise SceneError("its header is damaged: it does not say how its numbers are rounded")
    frame = header.frame
    if not all(map(math.isfinite, (*frame.origin, frame.step))) or frame.step <= 0:
        raise SceneError("its header is damaged: the origin or step of its positions is no number")


def _plausible(tier: Tier, header: Header) -> bool:
    if header.codec == COMPACT:
        return tier.count * FEWEST_BITS <= 8 * tier.bytes
    raw = tier.count * 2 * rows(header.sh_degree)
    return tier.raw_bytes == raw <= MAX_RATIO * tier.bytes


def _read_chunks(data: bytes, end: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The metadata and the numbers of FORM among the chunks from the fixed header to `end`."""
    at, meta, form = FIXED.size, {}, ()
    while at < end:
        if at + CHUNK.size > end:
            raise SceneError("its header is damaged: chunks do not fit")
        kind, size = CHUNK.unpack_from(data, at)
        at += CHUNK.size + size
        if at > end:
            raise SceneError("its header is damaged: chunks do not fit")
        if kind == b"meta":
            meta = _meta_from(data[at - size : at])
        elif kind == b"Form" and size == FORM.size:
            form = FORM.unpack_from(data, at - size)
        elif not kind[:1].islower():
            raise SceneError(f"it needs '{kind.decode('ascii', 'replace')}', which this program does not know")
    return meta, form


def _meta_bytes(meta: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(meta, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise SceneError(f"The metadata cannot be stored as JSON ({error}).") from error
    if len(text) > MAX_META:
        raise SceneError(f"The metadata take {len(text)} bytes, more than the {MAX_META} an .exgs file has for them.")
    return text


def _meta_from(text: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(text) if len(text) <= MAX_META else None
    except (ValueError, RecursionError) as error:
        raise SceneError("its metadata are damaged") from error
    if not isinstance(meta, dict):
        raise SceneError("its metadata are damaged")
    return meta
