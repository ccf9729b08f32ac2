"""Arrays that took long to compute, remembered beside the user's settings; losing them only costs time.

A file is a digest of everything after it, then the arrays as numpy writes them. What is damaged, or was written by
another version, is as good as absent; the files used longest ago go first.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.settings import user_folder, write_atomically

_log = logging.getLogger(__name__)
DIGEST = 16
"""Bytes of the digest that a file begins with."""
_contents: WeakKeyDictionary[GaussianCloud, dict[int, bytes]] = WeakKeyDictionary()
"""Digests of the clouds that are in memory, by how many SH coefficients they cover."""


def key_of(cloud: GaussianCloud, cameras: Sequence[Camera], size: Size, version: str, sh_degree: int = 0) -> str:
    """Content, not file name: the same scene in another place is found again. `version` names the formulas.

    Harmonics above `sh_degree` play no part.
    """
    digest = hashlib.blake2b(version.encode(), digest_size=DIGEST)
    digest.update(_content_of(cloud, min(SH_COUNTS[sh_degree], cloud.sh.shape[1])))
    digest.update(repr([tuple(cameras), size]).encode())
    return digest.hexdigest()


def remember(folder: str, key: str, arrays: Sequence[NDArray], most: int) -> None:
    """Keep arrays for the next time, `most` files in all. A full or read-only disk only means that there is none."""
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array, allow_pickle=False)
    data = buffer.getbuffer()
    path = _path(folder, key)
    try:
        write_atomically(path, [hashlib.blake2b(data, digest_size=DIGEST).digest(), data])
        _forget_oldest(path.parent, most)
    except OSError as error:
        _log.warning("%s: not remembered (%s).", path, error.strerror)


def recall(folder: str, key: str, count: int) -> list[NDArray] | None:
    """The `count` arrays that were remembered, None where there are none or they are damaged."""
    path = _path(folder, key)
    try:
        data = memoryview(path.read_bytes())
        if hashlib.blake2b(data[DIGEST:], digest_size=DIGEST).digest() != data[:DIGEST]:
            return None
        file = io.BytesIO(data[DIGEST:])
        arrays = [np.load(file, allow_pickle=False) for _ in range(count)]
        path.touch()
    except (OSError, ValueError, EOFError):
        return None
    return arrays


def _content_of(cloud: GaussianCloud, count: int) -> bytes:
    """Digest of a cloud with its first `count` SH coefficients. Four caches ask for it: it is worked out once."""
    known = _contents.setdefault(cloud, {})
    if count not in known:
        digest = hashlib.blake2b(digest_size=DIGEST)
        colors = (cloud.sh[:, number] for number in range(count))
        for tensor in (cloud.means, cloud.scales, cloud.quats, cloud.opacities, *colors):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).view(np.uint8).data)
        known[count] = digest.digest()
    return known[count]


def _path(folder: str, key: str) -> Path:
    return user_folder() / folder / f"{key}.bin"


def _forget_oldest(folder: Path, most: int) -> None:
    files = sorted(folder.glob("*.bin"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[most:]:
        file.unlink(missing_ok=True)
