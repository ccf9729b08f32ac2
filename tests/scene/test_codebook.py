"""Judged against what is optimal by theory or by trying everything, on values whose distribution is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exgs_viewer.errors import Cancelled
from exgs_viewer.scene import codebook as module
from exgs_viewer.scene.codebook import codebook, nearest, palette


def test_few_values_are_their_own_codebook():
    values = np.array([3.0, -1.5, 3.0, 0.25, 80.0], np.float32)
    entries = codebook(values)
    assert len(entries) == 256 and (np.diff(entries) >= 0).all()
    assert entries[nearest(entries, values)] == pytest.approx(values, abs=1e-6)
    assert (codebook(np.full(9, 2.5)) == 2.5).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_of_normal_values_is_near_the_least_possible(seed):
    values = np.random.default_rng(seed).normal(size=200_000)
    entries = codebook(values)
    error = ((entries[nearest(entries, values)] - values) ** 2).mean()
    # Panter and Dite, 1951: for many entries (integral of the cube root of the density)^3 / (12 k^2) is the least.
    least = math.sqrt(3) * math.pi / 2 / 256**2
    assert error < 1.02 * least


def test_nearest_is_nearest():
    random = np.random.default_rng(0)
    entries, values = np.sort(random.normal(size=256)).astype(np.float32), random.normal(size=(500, 3))
    assert (nearest(entries, values) == np.abs(values[..., None] - entries).argmin(-1)).all()


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """[count, 9] float32, normal, of very different variance along the axes."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 9)) * [4, 2, 1, 1, 0.5, 0.5, 0.1, 0.1, 0.1]).astype(np.float32)


def alike(count: int) -> np.ndarray:
    return np.ones(count, np.float32)


def errors(found: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> np.ndarray:
    entries, labels = found
    return ((entries[labels] - values) ** 2).sum(axis=1)


def test_no_more_vectors_than_entries_are_kept_as_they_are():
    values = vectors(50)
    assert errors(palette(values, alike(50), 50), values).max() == 0


def test_vectors_of_few_kinds_find_their_kinds():
    values = np.tile(vectors(40), (50, 1))
    assert errors(palette(values, alike(2000), 512), values).max() < 1e-9


def test_all_vectors_alike_need_one_entry():
    values = np.full((2000, 9), 0.5, np.float32)
    assert errors(palette(values, alike(2000), 256), values).max() == 0


def test_a_palette_beats_its_own_choice_of_vectors_and_is_near_one_search_over_all(monkeypatch):
    values = vectors(3000)
    found = palette(values, alike(3000), 500)
    assert len(found[0]) <= 500 and found[1].max() < len(found[0])
    some = values[:500]
    nearest_of_some = ((values[:, None] - some) ** 2).sum(axis=2).argmin(axis=1)
    assert errors(found, values).mean() < 0.8 * errors((some, nearest_of_some), values).mean()
    monkeypatch.setattr(module, "SHARE", 50)
    cut_up = palette(values, alike(3000), 500)
    monkeypatch.setattr(module, "SHARE", 500)
    monkeypatch.setattr(module, "ROUNDS", 20)
    best = palette(values, alike(3000), 500)
    assert errors(cut_up, values).mean() < 1.25 * errors(best, values).mean()


def test_every_vector_has_the_nearest_entry_of_its_cell():
    values = vectors(300)
    entries, labels = palette(values, alike(300), 100)  # so few are one cell
    assert (labels == ((values[:, None] - entries) ** 2).sum(axis=2).argmin(axis=1)).all()


def test_what_weighs_more_is_met_better():
    values, weights = vectors(3000), alike(3000)
    weights[:1000] = 20
    fair, favoured = palette(values, alike(3000), 300), palette(values, weights, 300)
    assert errors(favoured, values)[:1000].mean() < 0.8 * errors(fair, values)[:1000].mean()


def test_the_same_vectors_give_the_same_palette():
    (a, chosen_a), (b, chosen_b) = (palette(vectors(3000), alike(3000), 300) for _ in range(2))
    assert (a == b).all() and (chosen_a == chosen_b).all()


def test_cancelling_passes_through():
    def stop(fraction: float, text: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        palette(vectors(300), alike(300), 100, stop)
