"""Judged against what is optimal by theory or by trying everything, on values whose distribution is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

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


def test_no_more_vectors_than_entries_are_kept_as_they_are():
    vectors = torch.randn(50, 9)
    entries, labels = palette(vectors, 50)
    assert torch.equal(entries[labels], vectors)


def test_vectors_of_few_kinds_find_their_kinds():
    kinds = torch.randn(40, 9, generator=torch.Generator().manual_seed(0))
    vectors = kinds.repeat(50, 1)
    entries, labels = palette(vectors, 512)
    assert (entries[labels] - vectors).abs().max() < 1e-5


def test_all_vectors_alike_need_one_entry():
    entries, labels = palette(torch.full((2000, 9), 0.5), 256)
    assert torch.equal(entries[labels], torch.full((2000, 9), 0.5))


def test_a_palette_beats_its_own_choice_of_vectors_and_is_near_one_search_over_all(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(3000, 9, generator=generator) * torch.tensor([4.0, 2, 1, 1, 0.5, 0.5, 0.1, 0.1, 0.1])

    def error(entries, labels):
        return float(((entries[labels] - vectors) ** 2).sum(1).mean())

    some = vectors[:500]
    unimproved = error(some, torch.cdist(vectors, some).argmin(1))
    found = palette(vectors, 500)
    assert len(found[0]) <= 500 and found[1].max() < len(found[0])
    monkeypatch.setattr(module, "SHARE", 500)
    monkeypatch.setattr(module, "ROUNDS", 20)
    assert error(*found) < 0.8 * unimproved
    assert error(*found) < 1.25 * error(*palette(vectors, 500))


def test_the_same_vectors_give_the_same_palette():
    vectors = torch.randn(3000, 9)
    (a, chosen_a), (b, chosen_b) = palette(vectors, 300), palette(vectors, 300)
    assert torch.equal(a, b) and torch.equal(chosen_a, chosen_b)


def test_cancelling_passes_through():
    def stop(fraction: float, text: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        palette(torch.randn(300, 9), 100, stop)
