"""What a network reads of merged groups: the plain sums over their members, wherever the scene lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.compress.fold import Members, fold
from exgs_viewer.compress.groups import look_within
from exgs_viewer.compress.merge import opaque_area
from exgs_viewer.compress.neighbours import LEAF
from exgs_viewer.compress.surroundings import ALONG, LIMIT, SHARED
from exgs_viewer.render.reference import rotation_matrices
from exgs_viewer.scene.cloud import SH_C0
from tests.compress.test_amplify import seen_alike, turned
from tests.conftest import random_cloud

N, K, VIEWS = 400, LEAF, 5
"""Gaussians, groups (as few as fit into one leaf of the tree: there neighbours are exact), views."""


LABELS = np.append(np.random.default_rng(0).integers(-1, K - 1, N - 1), K - 1).astype(np.int32)
"""The last group has one member."""


def looked(cloud, labels):
    seen = seen_alike(cloud)
    members = Members.of(cloud, seen)
    folded = fold(cloud, seen, members, labels)
    louder = folded.cloud.replaced(opacities=(1.3 * folded.cloud.opacities).clamp(max=0.99))
    return folded, louder, members, look_within(cloud, seen, members, folded, louder, VIEWS)


def test_features_are_those_of_the_members():
    """Every sum again, group by group in float64."""
    cloud = random_cloud(N, seed=3)
    folded, louder, members, around = looked(cloud, LABELS)
    assert around.shared.shape == (K, SHARED) and around.along.shape == (K, 3, ALONG) and (around.lost == 1).all()
    axes, color = rotation_matrices(louder.quats.double()), 0.5 + SH_C0 * cloud.sh[:, 0].double()
    spread = rotation_matrices(cloud.quats.double()) * cloud.scales.double()[:, None]
    seen, area = seen_alike(cloud), torch.from_numpy(opaque_area(cloud))
    for g in range(K):
        index = torch.from_numpy(np.flatnonzero(folded.group == g))
        w = torch.from_numpy(members.weight).double()[index]
        w, own = w / w.sum(), louder.scales[g].double()
        off = (cloud.means[index] - louder.means[g]).double() @ axes[g]  # [M, 3] along the group's own axes
        size = (axes[g].T @ spread[index]).square().sum(2)  # [M, 3]
        unlike = (color[index] - 0.5 - SH_C0 * louder.sh[g, 0].double()).square().sum(1)
        wanted = float(seen.weight[index].sum())
        shared = {
            0: math.log(len(index)),
            1: len(index) == 1,
            2: torch.logit(louder.opacities[g].double().clamp(0.003, 0.997)),
            3: math.log(louder.opacities[g] / folded.cloud.opacities[g]),
            5: math.log1p(wanted / VIEWS),
            7: 10 * (w * unlike).sum().sqrt(),
            8: (w * cloud.opacities[index]).sum(),
            12: seen.peak[index].max().clamp_min(1e-3).log(),
            13: (area[index].sum() / opaque_area(louder)[g]).log(),
        }
        along = [(own / own.max()).log(), *(((w @ part) / own**2 + 1e-6).log() / 2 for part in (off**2, size))]
        for column, value in shared.items():
            assert float(around.shared[g, column]) == pytest.approx(min(float(value), LIMIT), rel=2e-3, abs=2e-3)
        for column, values in zip((0, 2, 3), along, strict=True):
            assert_close(around.along[g, :, column].double(), values.clamp(-LIMIT, LIMIT), rtol=5e-3, atol=5e-3)


def test_features_do_not_depend_on_place_size_or_direction():
    cloud = random_cloud(N, seed=4)
    first, second = (looked(each, LABELS)[3] for each in (cloud, turned(cloud)))
    assert_close(first.shared, second.shared, rtol=2e-3, atol=2e-3)
    # Which of its axes a group calls the first is the solver's affair.
    places = (part.along[:, :, :1].argsort(1).expand(-1, -1, ALONG) for part in (first, second))
    one, other = (part.along.gather(1, place) for part, place in zip((first, second), places, strict=True))
    assert_close(one, other, rtol=5e-3, atol=5e-3)


def test_one_group_has_no_neighbours_and_finite_features():
    cloud = random_cloud(5, seed=1)
    around = looked(cloud, np.zeros(5, np.int32))[3]
    assert around.shared.isfinite().all() and around.shared[0, 4] == 0 and around.shared[0, 14] == 0
