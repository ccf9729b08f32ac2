"""Few values for many: a codebook of numbers and a palette of vectors, as .sog needs them.

Both minimise the mean squared error by Lloyd's algorithm (k-means). The palette is found in bounded time, whatever the
cloud: a k-d tree cuts the vectors into cells, and each cell gets its own share of the entries.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from exgs_viewer.scene.cells import cells
from exgs_viewer.settings import Report, quiet

ROUNDS_1D, ROUNDS = 100, 4
"""Rounds of Lloyd's algorithm for numbers, where one takes no time, and for vectors."""
SHARE = 512
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


def palette(
    vectors: np.ndarray, weights: np.ndarray, size: int, report: Report = quiet
) -> tuple[np.ndarray, np.ndarray]:
    """At most `size` entries [P, D] that stand for `vectors` [N, D] float32, and the entry of each vector [N] int64.

    `weights` [N] float32 > 0 say how much the squared error of each vector counts. No more vectors than entries are
    their own palette. The same vectors give the same palette every time.
    """
    count = len(vectors)
    if count <= size:
        return vectors, np.arange(count)
    places = cells(_principal(vectors), SHARE * count // size)
    random, found = np.random.default_rng(0), []
    labels, start = np.empty(count, np.int64), 0
    for number, (cell, share) in enumerate(zip(places, _shares(vectors, weights, places, size), strict=True)):
        report(number / len(places), "Choosing a palette of colours")
        chance = np.sqrt(weights[cell], dtype=np.float64)
        entries = vectors[random.choice(cell, share, replace=False, p=chance / chance.sum())]
        labels[cell] = _k_means(vectors[cell], weights[cell], entries, ROUNDS) + start
        found.append(entries)
        start += share
    return np.concatenate(found), labels


def _companded(ordered: np.ndarray, size: int) -> np.ndarray:
    """[size] entries among the rising values, as dense as the cube root of their density."""
    marks = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), 1025)).round().astype(int)]
    # Between two marks lie equally many values, so their density is 1 / width and its cube root sums to width^(2/3).
    widths = np.diff(marks) ** (2 / 3)
    if not widths.sum() > 0:
        return np.full(size, ordered[0])
    share = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()
    return np.interp((np.arange(size) + 0.5) / size, share, marks)


def _principal(vectors: np.ndarray) -> np.ndarray:
    """[N, A]. The coordinates along the axes that the vectors vary most along."""
    some = vectors[:: max(1, len(vectors) // 10_000)]
    axes = np.linalg.eigh(np.cov(some.T))[1][:, ::-1][:, :SPLIT_AXES]  # [D, A], widest first
    return vectors @ axes.astype(np.float32)


def _shares(vectors: np.ndarray, weights: np.ndarray, places: list[np.ndarray], size: int) -> np.ndarray:
    """How many of `size` entries each cell gets: at least 1, at most one for each of its vectors.

    A cell of weight w and variance v in D dimensions has the error w v / entries^(2/D); the sum over the cells is
    least where entries are shared out as (w v)^(D/(D+2)).
    """
    errors = np.empty(len(places))
    for number, cell in enumerate(places):
        mean = np.average(vectors[cell], axis=0, weights=weights[cell])
        errors[number] = weights[cell] @ ((vectors[cell] - mean) ** 2).sum(axis=1)
    wanted = errors ** (vectors.shape[1] / (vectors.shape[1] + 2))
    shares = np.floor(wanted / max(wanted.sum(), 1e-300) * (size - len(places))).astype(np.int64) + 1
    return np.minimum(shares, [len(cell) for cell in places])


# Compiled: thousands of small steps in torch spend their time starting threads and waiting for them, 130 s where this
# takes 2 on a machine with other work. One thread, so it needs no lock beside the renderer.
@njit(cache=True, nogil=True)
def _k_means(vectors, weights, entries, rounds):
    """Move `entries` [k, D] by Lloyd's algorithm, in place; the entry of each of `vectors` [n, D], [n] int64.

    An entry that nobody takes moves to the vector that is worst off.
    """
    labels, errors = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    sums, totals = np.empty(entries.shape, np.float64), np.empty(len(entries), np.float64)
    for _ in range(rounds):
        _assign(vectors, entries, labels, errors)
        errors *= weights
        sums[:], totals[:] = 0, 0
        for row, label in enumerate(labels):
            totals[label] += weights[row]
            for place in range(vectors.shape[1]):
                sums[label, place] += weights[row] * vectors[row, place]
        for label in range(len(entries)):
            if totals[label] > 0:
                entries[label] = sums[label] / totals[label]
            else:
                worst = errors.argmax()
                entries[label] = vectors[worst]
                errors[worst] = 0
    _assign(vectors, entries, labels, errors)
    return labels


@njit(cache=True, nogil=True)
def _assign(vectors, entries, labels, errors):
    """The nearest entry of each vector, and its squared distance."""
    columns = entries.T.copy()  # [D, k]: the innermost loop runs along memory, so it is vectorised
    distances = np.empty(len(entries), np.float32)
    for row in range(len(vectors)):
        distances[:] = 0
        for place in range(vectors.shape[1]):
            value = vectors[row, place]
            for label in range(len(distances)):
                difference = columns[place, label] - value
                distances[label] += difference * difference
        labels[row] = distances.argmin()
        errors[row] = distances[labels[row]]
