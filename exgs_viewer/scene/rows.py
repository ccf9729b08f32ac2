"""The buffers that a format fills block by block; what cannot be drawn is marked there, then dropped and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud

MAX_GAUSSIANS = 1 << 26
"""A file that promises more than this is broken or beyond what one machine can show."""
BLOCK = 1 << 14
"""Rows converted at once: they stay in the processor's cache, and progress is told several times a second."""

FARTHEST = 1e7
"""World units. Beyond this, float32 cannot place a Gaussian."""
LARGEST_LOG_SCALE = 12.0
"""Natural logarithm of the largest standard deviation that is believed, world units."""
THINNEST = 1e-20
"""World units. A scale of zero is a flat disc; this keeps it above zero and its logarithm finite."""

FLAWS = {
    1: "had values that are not finite",
    2: "had a rotation of length zero",
    3: "had a negative size",
    4: f"were larger than any scene (log-scale above {LARGEST_LOG_SCALE:g})",
    5: f"lay farther than {FARTHEST:g} units from the origin",
}
"""What can be wrong with a row, by the mark that `settle` gives it."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Room for N Gaussians, the fields of GaussianCloud as numpy arrays, and a mark for each row."""

    means: np.ndarray
    """[N, 3] float32."""
    scales: np.ndarray
    """[N, 3] float32. Linear, not logarithms."""
    quats: np.ndarray
    """[N, 4] float32, w x y z; `settle` brings them to length one."""
    opacities: np.ndarray
    """[N] float32 in [0, 1]."""
    sh: np.ndarray
    """[N, K, 3] float32."""
    marks: np.ndarray
    """[N] uint8. 0 for a good row, otherwise a key of FLAWS."""


def allocate(path: Path, count: int, sh_degree: int) -> Rows:
    """Uninitialised room for `count` Gaussians. Raises SceneError where there are none or absurdly many."""
    if count < 1:
        raise SceneError(f"{path}: the file holds no Gaussians.")
    if count > MAX_GAUSSIANS:
        raise SceneError(
            f"{path}: the file promises {count:,} Gaussians; more than {MAX_GAUSSIANS:,} cannot be opened."
        )
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, SH_COUNTS[sh_degree], 3))
    try:
        return Rows(*(np.empty(shape, np.float32) for shape in shapes), np.zeros(count, np.uint8))
    except MemoryError as error:
        raise SceneError(f"{path}: there is not enough memory for its {count:,} Gaussians.") from error


def parts(start: int, stop: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows from `start` to `stop`."""
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def settle(rows: Rows, part: slice) -> None:
    """Bring a filled part into the form GaussianCloud promises and mark the rows that cannot be drawn."""
    means, scales, quats = rows.means[part], rows.scales[part], rows.quats[part]
    opacities, sh, marks = rows.opacities[part], rows.sh[part], rows.marks[part]
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("nc,nc->n", quats, quats))[:, None]  # [n, 1]
        quats /= lengths
        _mark(marks, means, -FARTHEST, FARTHEST, 5)
        _mark(marks, scales, -math.inf, math.exp(LARGEST_LOG_SCALE), 4)
        _mark(marks, scales, 0.0, math.inf, 3)
        _mark(marks, lengths, 1e-8, math.inf, 2)
        for values in (means, scales, lengths, opacities[:, None], sh.reshape(len(marks), -1)):
            _mark_not_finite(marks, values)
    np.maximum(scales, THINNEST, out=scales)
    np.clip(opacities, 0.0, 1.0, out=opacities)


def finish(rows: Rows, path: Path) -> tuple[GaussianCloud, list[str]]:
    """The good rows as a cloud that owns the buffers, and a sentence about each kind of row that was dropped.

    Raises SceneError where no row is good.
    """
    total = len(rows.marks)
    counts = {mark: int((rows.marks == mark).sum()) for mark in FLAWS} if rows.marks.any() else {}
    kept = total - sum(counts.values())
    found = [f"{counts[mark]:,} of {total:,} Gaussians {FLAWS[mark]}" for mark in counts if counts[mark]]
    if kept == 0:
        raise SceneError(f"{path}: nothing in it can be drawn; {' and '.join(found)}.")
    arrays = [getattr(rows, field.name) for field in fields(GaussianCloud)]
    if kept < total:
        good = rows.marks == 0
        arrays = [_compacted(array, good)[:kept] for array in arrays]
    return GaussianCloud(*map(torch.from_numpy, arrays)), [f"{sentence} and were dropped." for sentence in found]


def _mark(marks: np.ndarray, values: np.ndarray, low: float, high: float, mark: int) -> None:
    """Mark rows of `values` [n, C] outside [low, high]. Two numbers of the whole block tell first whether any is."""
    if not (values.min() >= low and values.max() <= high):
        marks[~((values >= low) & (values <= high)).all(axis=1)] = mark


def _mark_not_finite(marks: np.ndarray, values: np.ndarray) -> None:
    """Mark rows with NaN or infinity. The sum of the whole block tells first that there are none."""
    if not math.isfinite(float(values.sum())):
        marks[~np.isfinite(values).all(axis=1)] = 1


def _compacted(array: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Move the good rows to the front, in place, so that a large scene is never held twice."""
    end = 0
    for part in parts(0, len(array)):
        chosen = array[part][good[part]]
        array[end : end + len(chosen)] = chosen
        end += len(chosen)
    return array
