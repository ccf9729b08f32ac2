"""Few values for many: a codebook of numbers and a palette of vectors, as .sog needs them.

Both minimise the mean squared error by Lloyd's algorithm (k-means). The palette is found in bounded time, whatever the
cloud: a k-d tree cuts the vectors into cells, and each cell gets its own share of the entries.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from exgs_viewer.scene.cells import cells
from exgs_viewer.settings import Report, quiet

ROUNDS_1D, ROUNDS = 100, 3
"""Rounds of Lloyd's algorithm for numbers, where one takes no time, and for vectors."""
SHARE = 256
"""Entries that a cell gets on average: time grows with it, and what cells lose against one search over all shrinks."""
SPLIT_AXES = 8
"""Principal axes among which the cells are cut."""


def codebook(values: np.ndarray, size: int = 256) -> np.ndarray:
    """`size` numbers in rising order, float32, that stand for `values` [n] with the least mean squared error.

    It starts with the density that is best for many entries: the cube root of that of the values (Panter and Dite,
    1951), so that rare values far out, such as the scales of a sky, are not left without entries.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    entries = _companded(ordered, size)
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(ROUNDS_1D):
        ends = np.searchsorted(ordered, (entries[1:] + entries[:-1]) / 2)
        first, last = np.concatenate([[0], ends]), np.concatenate([ends, [len(ordered)]])
        count = last - first
        entries = np.where(count > 0, (total[last] - total[first]) / np.maximum(count, 1), entries)
    return np.sort(entries).astype(np.float32)


def nearest(entries: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each value the index of the nearest of at most 256 rising entries, uint8."""
    return np.searchsorted((entries[1:] + entries[:-1]) / 2, values).astype(np.uint8)


def palette(vectors: Tensor, size: int, report: Report = quiet) -> tuple[Tensor, Tensor]:
    """At most `size` entries [P, D] that stand for `vectors` [N, D] float32, and the entry of each vector [N] int64.

    No more vectors than entries are their own palette. The same vectors give the same palette every time.
    """
    count, width = vectors.shape
    if count <= size:
        return vectors, torch.arange(count)
    places = [torch.from_numpy(cell) for cell in cells(_principal(vectors).numpy(), SHARE * count // size)]
    spread = torch.stack([vectors[cell].var(dim=0, unbiased=False).sum() * len(cell) for cell in places]).double()
    shares = _shares(spread ** (width / (width + 2)), torch.tensor([len(cell) for cell in places]), size)
    generator = torch.Generator().manual_seed(0)
    entries, labels, start = [], torch.empty(count, dtype=torch.int64), 0
    for number, (cell, share) in enumerate(zip(places, shares.tolist(), strict=True)):
        report(number / len(places), "Choosing a palette of colours")
        found, chosen = _k_means(vectors[cell], share, generator)
        entries.append(found)
        labels[cell] = chosen + start
        start += len(found)
    return torch.cat(entries), labels


def _companded(ordered: np.ndarray, size: int) -> np.ndarray:
    """[size] entries among the rising values, as dense as the cube root of their density."""
    marks = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), 1025)).round().astype(int)]
    # Between two marks lie equally many values, so their density is 1 / width and its cube root sums to width^(2/3).
    widths = np.diff(marks) ** (2 / 3)
    if not widths.sum() > 0:
        return np.full(size, ordered[0])
    share = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()
    return np.interp((np.arange(size) + 0.5) / size, share, marks)


def _principal(vectors: Tensor) -> Tensor:
    """[N, A]. The coordinates along the axes that the vectors vary most along."""
    some = vectors[:: max(1, len(vectors) // 100_000)]
    return vectors @ torch.linalg.eigh(torch.cov(some.T))[1].flip(1)[:, :SPLIT_AXES]


def _shares(weights: Tensor, limits: Tensor, size: int) -> Tensor:
    """How many of `size` entries each cell gets: in proportion to `weights`, at least 1, at most `limits`.

    A cell of n vectors of variance v in D dimensions has the error n v / entries^(2/D); the sum over the cells is
    least where entries are shared out as (n v)^(D/(D+2)).
    """
    shares = (weights / weights.sum().clamp_min(1e-300) * (size - len(weights))).floor().long() + 1
    return torch.minimum(shares, limits)


def _k_means(vectors: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a random choice of the vectors; an entry that nobody takes moves to who is worst off."""
    entries = vectors[torch.randperm(len(vectors), generator=generator)[:size]]
    for _ in range(ROUNDS):
        labels = _labels(vectors, entries)
        counts = torch.bincount(labels, minlength=size)
        sums = torch.zeros_like(entries).index_add_(0, labels, vectors)
        moved = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), entries)
        unused = torch.nonzero(counts == 0)[:, 0]
        worst = ((vectors - moved[labels]) ** 2).sum(dim=1).topk(len(unused)).indices
        entries = moved.index_copy(0, unused, vectors[worst])
    return entries, _labels(vectors, entries)


def _labels(vectors: Tensor, entries: Tensor) -> Tensor:
    """[n] int64. The nearest entry: |x - c|^2 without |x|^2, which is the same for all entries."""
    return torch.addmm((entries**2).sum(dim=1), vectors, entries.T, alpha=-2).argmin(dim=1)
