"""cloud + cameras -> significance [N]: how much each Gaussian matters to what visitors see (ExGS 4.1, eq. 7 and 8)."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exgs_viewer.render import Renderer
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import Report, quiet, user_folder, write_atomically

_log = logging.getLogger(__name__)
SCORING_SIZE: Size = (480, 360)
"""Pictures that are counted, pixels: the size at which compression.md measured eq. 7."""
CACHE_FILES = 32
"""Scenes whose scores are remembered; the ones used longest ago go first."""
VERSION = b"eq7-1"
"""Part of the cache key: another formula or size must not find these scores."""


def score(cloud: GaussianCloud, renderer: Renderer, cameras: Sequence[Camera], report: Report = quiet) -> Tensor:
    """Global significance [N] float32 >= 0: the sum over all pixels hit of opacity * transmittance (eq. 7).

    What no camera saw is ordered by opacity and size, below everything that was seen.
    """
    hits = renderer.significance(cloud, cameras, SCORING_SIZE, report).hits.cpu()
    report(1.0, "scored")
    return _with_unseen(hits, cloud)


def cached_score(cloud: GaussianCloud, renderer: Renderer, cameras: Sequence[Camera], report: Report = quiet) -> Tensor:
    """The same as `score`, remembered beside the user's settings under the cloud's content and the cameras."""
    path = user_folder() / "scores" / f"{_key(cloud, cameras)}.npy"
    remembered = _read(path, len(cloud))
    if remembered is not None:
        return remembered
    significance = score(cloud, renderer, cameras, report)
    _remember(path, significance)
    return significance


def _remember(path: Path, significance: Tensor) -> None:
    """Keep scores for the next time. A full or read-only disk only means that there is none."""
    buffer = io.BytesIO()
    np.save(buffer, significance.numpy(), allow_pickle=False)
    try:
        write_atomically(path, buffer.getvalue())
        _forget_oldest(path.parent)
    except OSError as error:
        _log.warning("%s: scores are not remembered (%s).", path, error.strerror)


def _with_unseen(hits: Tensor, cloud: GaussianCloud) -> Tensor:
    unseen = hits <= 0
    if not unseen.any() or unseen.all():
        return hits if not unseen.all() else _size(cloud)
    size = _size(cloud)[unseen]
    least = hits[~unseen].min()
    result = hits.clone()
    result[unseen] = 0.5 * least * size / size.max().clamp_min(1e-30)
    return result


def _size(cloud: GaussianCloud) -> Tensor:
    """Opacity times mean radius [N]: all that is known of a Gaussian nobody saw."""
    return (cloud.opacities * cloud.scales.log().mean(1).exp()).cpu()


def _key(cloud: GaussianCloud, cameras: Sequence[Camera]) -> str:
    """Content, not file name: the same scene in another place is found again."""
    digest = hashlib.blake2b(VERSION, digest_size=16)
    for tensor in (cloud.means, cloud.opacities, cloud.scales):
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).view(np.uint8).data)
    digest.update(repr([tuple(cameras), SCORING_SIZE]).encode())
    return digest.hexdigest()


def _read(path: Path, n: int) -> Tensor | None:
    """Remembered scores, None where there are none or they do not fit (a damaged cache is only a slower start)."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if values.shape != (n,) or values.dtype != np.float32 or not np.isfinite(values).all():
        return None
    path.touch()
    return torch.from_numpy(values)


def _forget_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[CACHE_FILES:]:
        file.unlink(missing_ok=True)
