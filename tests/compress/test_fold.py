"""Folding keeps the moments and the visible mass of every group."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.compress import fold_steps
from exgs_viewer.compress.fold import POWER, Members, fold
from exgs_viewer.render.reference import rotation_matrices
from tests.compress.test_merge import seen_by_chance
from tests.conftest import random_cloud

N, K = 300, 40


@pytest.fixture(scope="module")
def cloud():
    return random_cloud(N, seed=3, sh_degree=1)


@pytest.fixture(scope="module")
def seen():
    return seen_by_chance(N, seed=2, unseen=0.2)


@pytest.fixture(scope="module")
def labels():
    labels = np.random.default_rng(0).integers(-1, K, N).astype(np.int32)
    labels[:K] = np.arange(K)
    labels[labels == 7] = -1
    labels[7] = 7  # a group of one
    return labels


def covariances(cloud):
    axes = rotation_matrices(cloud.quats.double()) * cloud.scales.double()[:, None]
    return axes @ axes.transpose(1, 2)


def plain_fold(cloud, seen, labels):
    """The formulas of research/folding.md, group by group in float64."""
    members = Members.of(cloud, seen)
    weight, through = (torch.from_numpy(v).double() for v in (members.weight, members.through))
    spread, groups = covariances(cloud), []
    for g in range(K):
        index = torch.from_numpy(np.flatnonzero(labels == g))
        w = weight[index] / weight[index].sum()
        mean = (w[:, None] * cloud.means[index].double()).sum(0)
        off = cloud.means[index].double() - mean
        c = (w[:, None, None] * (spread[index] + off[:, :, None] * off[:, None])).sum(0)
        sorted_scales = cloud.scales[index].double().sort(1).values
        alone = len(index) == 1
        mass = (cloud.opacities[index] * sorted_scales[:, 1] * sorted_scales[:, 2] * through[index]).sum()
        transmittance = (w * through[index] ** POWER).sum() ** (1 / POWER)
        values = torch.linalg.eigvalsh(c)
        opacity = (mass / transmittance / (values[1] * values[2]).sqrt()).clamp(0.01, 0.99)
        sh = (w[:, None, None] * cloud.sh[index].double()).sum(0)
        opacity = cloud.opacities[index[0]].double() if alone else opacity
        groups.append((weight[index].sum(), mean, c, opacity, sh, seen.weight[index].sum()))
    return sorted(groups, key=lambda group: -group[0])


def test_groups_have_the_moments_of_their_members(cloud, seen, labels):
    folded = fold(cloud, seen, Members.of(cloud, seen), labels)
    spread = covariances(folded.cloud)
    for i, (_, mean, c, opacity, sh, wanted) in enumerate(plain_fold(cloud, seen, labels)):
        assert_close(folded.cloud.means[i].double(), mean, rtol=1e-4, atol=1e-5)
        assert_close(spread[i], c, rtol=1e-3, atol=1e-6)
        assert_close(folded.cloud.sh[i].double(), sh, rtol=1e-3, atol=1e-4)
        assert_close(folded.wanted[i], wanted, rtol=1e-4, atol=1e-4)
        assert_close(folded.cloud.opacities[i].double(), opacity, rtol=1e-3, atol=1e-5)


def test_a_group_of_one_comes_back_as_it_was(cloud, seen, labels):
    merged = fold(cloud, seen, Members.of(cloud, seen), labels).cloud
    place = int((merged.means == cloud.means[7]).all(1).nonzero())
    for name, values in vars(merged).items():
        assert values[place].equal(getattr(cloud, name)[7])


def test_the_most_visible_come_first(cloud, seen):
    members = Members.of(cloud, seen)
    folded = fold(cloud, seen, members, np.arange(N, dtype=np.int32))
    order = np.argsort(-members.weight, kind="stable")
    assert folded.cloud.means.equal(cloud.means[order]) and folded.wanted.equal(seen.weight[order])


def test_a_cut_of_higher_harmonics_folds_like_a_copy_of_it(cloud, seen, labels):
    flat = cloud.with_sh_degree(0)
    copy = flat.replaced(sh=flat.sh.contiguous())
    first, second = (fold(each, seen, Members.of(each, seen), labels).cloud for each in (flat, copy))
    assert first.sh.equal(second.sh) and first.sh.shape == (K, 1, 3)


def test_far_from_the_origin_groups_keep_their_shape(cloud, seen, labels):
    far = cloud.replaced(means=cloud.means + 1e5)
    here, there = (fold(each, seen, Members.of(cloud, seen), labels).cloud for each in (cloud, far))
    assert_close(there.scales, here.scales, rtol=0.05, atol=0.02)  # float32 positions are 0.008 apart there


def test_axes_and_variances_are_those_of_lapack():
    rng = np.random.default_rng(1)
    for _ in range(200):
        half = rng.normal(size=(3, 3)) * 10.0 ** rng.uniform(-4, 2, 3)
        matrix = half @ half.T
        worked, vectors, quat = matrix.copy(), np.empty((3, 3)), np.empty(4, np.float32)
        fold_steps.diagonalise(worked, vectors)
        assert np.allclose(
            np.sort(np.diag(worked)), np.linalg.eigvalsh(matrix), rtol=1e-6, atol=1e-9 * np.trace(matrix)
        )
        fold_steps.quaternion(vectors, quat)
        assert np.allclose(rotation_matrices(torch.from_numpy(quat)[None])[0], vectors, atol=1e-5)
