"""Damaged .exgs files for the tests: what breaks in one, and what must become of it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import fields

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import exgs
from exgs_viewer.scene.exgs_header import TIER


def sealed(data: bytes | bytearray) -> bytes:
    """The file with its checksums made right again, as far as its index still makes sense."""
    data = bytearray(data)
    n_tiers, index = struct.unpack_from("<II", data, 24)
    end = index + n_tiers * TIER.size
    if n_tiers <= 256 and end + 4 <= len(data):
        start = end + 4
        for number in range(n_tiers):
            kind, count, size, raw, _, zero = TIER.unpack_from(data, index + number * TIER.size)
            crc = zlib.crc32(data[start : start + size]) if start + size <= len(data) else 0
            TIER.pack_into(data, index + number * TIER.size, kind, count, size, raw, crc, zero)
            start += size
        struct.pack_into("<I", data, end, zlib.crc32(data[:end]))
    return bytes(data)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, removed or doubled, mostly where the structure is, and the checksums made right again."""
    broken = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        limit = 200 if rng.random() < 0.4 else 900 if rng.random() < 0.5 else len(broken)
        place = int(rng.integers(8, max(9, min(limit, len(broken)))))
        match rng.integers(5):
            case 0:
                broken[place] ^= 1 << int(rng.integers(8))
            case 1:
                broken[place] = int(rng.choice([0, 1, 127, 128, 255]))
            case 2:
                broken[place : place + 4] = rng.bytes(4)
            case 3:
                del broken[place : place + int(rng.integers(1, 9))]
            case 4:
                broken[place:place] = broken[place : place + int(rng.integers(1, 9))]
        if len(broken) < 100:
            return bytes(broken)
    return sealed(broken)


def refused_or_sound(data: bytes) -> bool:
    """Whether a file is refused in words; what is accepted must be a proper cloud."""
    try:
        cloud, meta = exgs.decode(data, "room.exgs")
    except SceneError as error:
        assert str(error).startswith("room.exgs: ")
        return True
    assert all(getattr(cloud, field.name).isfinite().all() for field in fields(cloud))
    assert cloud.scales.min() > 0 and isinstance(meta, dict)
    return False
