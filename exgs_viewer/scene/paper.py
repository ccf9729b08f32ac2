"""A cloud in the very form of the paper: float16 numbers as they are, Gaussian after Gaussian, behind LZMA (ExGS 4.1).

It is kept to compare with: `float16` holds numbers as exact in three quarters of the bytes, `compact` in a third.
Part of the file format specified in `EXGS.md`.
"""

from __future__ import annotations

import lzma

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.float16 import HALF_MAX, Frame, from_halves, rows, to_halves

AS_IT_IS = Frame((0.0, 0.0, 0.0), 1.0)
"""The paper takes nothing from the positions before they are rounded."""
RAW, XZ = 0, 1
MEMORY = 1 << 26
"""Bytes that unpacking an .xz stream may take for its dictionary."""


def to_rows(cloud: GaussianCloud) -> NDArray[np.float16]:
    """[N, C] float16. Raises SceneError where a position is beyond float16."""
    farthest = float(cloud.means.abs().max())
    if farthest > HALF_MAX:
        raise SceneError(
            f"The paper's form stores positions up to {HALF_MAX:g}, and this scene reaches {farthest:g}; "
            "choose the codec compact or float16."
        )
    return np.ascontiguousarray(to_halves(cloud, AS_IT_IS).T)


def to_cloud(numbers: NDArray[np.float16]) -> GaussianCloud:
    """The cloud that rows stand for."""
    return from_halves(numbers.T, AS_IT_IS)


def pack(numbers: NDArray[np.float16]) -> bytes:
    """u8 coder, then the rows as they are or as one .xz stream, whichever is smaller."""
    plain = numbers.astype("<f2").tobytes()
    packed = lzma.compress(plain, preset=6)
    return bytes([XZ]) + packed if len(packed) < len(plain) <= 64 * len(packed) else bytes([RAW]) + plain


def unpack(payload: memoryview, count: int, sh_degree: int) -> NDArray[np.float16]:
    """The rows of a payload. Raises SceneError without naming the file; never makes more than `count` rows."""
    size = count * 2 * rows(sh_degree)
    coder, data = payload[0] if len(payload) else RAW, bytes(payload[1:])
    if coder == XZ:
        data = _unpacked(data, size)
    elif coder != RAW:
        raise SceneError(f"a tier uses coder {coder}, which this version does not know")
    if len(data) != size:
        raise SceneError(f"a tier holds {len(data)} bytes where {size} belong")
    return np.frombuffer(data, "<f2").reshape(count, -1).astype(np.float16)


def _unpacked(data: bytes, size: int) -> bytes:
    """At most size + 1 bytes: one more than allowed is enough to know that the stream is wrong."""
    coder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    try:
        plain = coder.decompress(data, max_length=size + 1)
        if len(plain) == size and not coder.eof:
            coder.decompress(b"", max_length=1)
    except (lzma.LZMAError, EOFError) as error:
        raise SceneError(f"a tier is no LZMA data ({error})") from error
    if not coder.eof or coder.unused_data:
        raise SceneError("a tier does not end where it should")
    return plain
