"""The tree of merges: exact budgets, nested groups, sensible company, nothing that vanishes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exgs_viewer.compress import merge, merge_steps
from exgs_viewer.compress.merge import MergeTree, Voxels, build_tree, cached_tree, cut
from exgs_viewer.errors import Cancelled
from exgs_viewer.render import Significance
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import user_folder
from tests.conftest import random_cloud

CAMERAS = [look_at((0, 0, -3), (0, 0, 0), (0, -1, 0))]


def seen_by_chance(n, seed=0, unseen=0.0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(n, generator=generator) ** 3 * 100
    weight[torch.rand(n, generator=generator) < unseen] = 0
    return Significance(weight, weight, (weight / 100).clamp(max=1), 2 * weight, weight)


def groups(labels):
    """The sets of Gaussians that belong together."""
    return {tuple(np.flatnonzero(labels == g)) for g in range(labels.max() + 1)}


@pytest.fixture(scope="module")
def cloud():
    return random_cloud(3000, seed=1, sh_degree=0)


@pytest.fixture(scope="module")
def tree(cloud):
    return build_tree(cloud, seen_by_chance(3000))


@pytest.mark.parametrize("count", [30, 31, 299, 1500, 2600, 2999, 3000])
def test_a_cut_has_exactly_the_groups_that_are_asked_for(tree, count):
    labels = cut(tree, count)
    assert set(labels[labels >= 0]) == set(range(count))


def test_smaller_cuts_only_join_the_groups_of_larger_ones(tree):
    for larger, smaller in ((2000, 1000), (1000, 300), (300, 31)):
        fine, coarse = cut(tree, larger), cut(tree, smaller)
        for group in groups(fine):
            assert len({coarse[i] for i in group}) == 1


def test_what_weighs_least_is_dropped_before_anything_merges(cloud, tree):
    weight = merge.visible_weight(cloud, seen_by_chance(3000))
    dropped = np.setdiff1d(np.arange(3000), tree.leaves)
    assert weight[dropped].max() <= weight[tree.leaves].min()
    assert weight[dropped].sum() <= merge.TAIL * weight.sum()


def test_the_same_scene_always_gives_the_same_tree(cloud, tree):
    again = build_tree(cloud, seen_by_chance(3000))
    assert all(np.array_equal(*pair) for pair in zip(vars(tree).values(), vars(again).values(), strict=True))


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_a_handful_of_gaussians_has_a_tree(n):
    tree = build_tree(random_cloud(n), seen_by_chance(n, unseen=0.3))
    for count in range(1, n + 1):
        assert set(cut(tree, count)) - {-1} == set(range(count))


def test_a_scene_that_nobody_saw_has_a_tree_that_keeps_all_but_the_smallest():
    tree = build_tree(random_cloud(500), Significance(*(torch.zeros(500),) * 5))
    assert len(tree.leaves) > 300 and (cut(tree, 20) >= 0).sum() == len(tree.leaves)


def test_clusters_without_neighbours_merge_in_the_end():
    """Many islands, each smaller than the list of neighbours: the graph falls apart, the budget must still be met."""
    cloud = random_cloud(1100, seed=4)
    islands = torch.arange(1100) // 11
    cloud = cloud.replaced(means=0.01 * cloud.means + 1000.0 * torch.stack([islands, islands**2, islands * 0], 1))
    tree = build_tree(cloud, seen_by_chance(1100, seed=1))
    assert set(cut(tree, 12)) - {-1} == set(range(12))


def test_huge_coordinates_and_coinciding_gaussians_are_survived():
    cloud = random_cloud(400, seed=4)
    means = cloud.means.clone()
    means[:200] = 3e7
    tree = build_tree(cloud.replaced(means=means), seen_by_chance(400))
    assert set(cut(tree, 8)) - {-1} == set(range(8))


def test_alike_neighbours_merge_first():
    """Two colours side by side, dense and alike within: no group mixes them before each side is down to very few."""
    cloud = random_cloud(400, seed=2, sh_degree=0)
    sh = torch.zeros(400, 1, 3)
    sh[:, 0] = torch.where(cloud.means[:, :1] > 0, 1.5, -1.5)
    cloud = cloud.replaced(sh=sh, scales=torch.full((400, 3), 0.3))
    labels = cut(build_tree(cloud, Significance(*(torch.ones(400),) * 5)), 20)
    for group in groups(labels):
        assert len({bool(cloud.means[i, 0] > 0) for i in group}) == 1


@pytest.mark.parametrize(("exposed", "alone"), [(0.0, False), (merge.EXPOSED, True)])
def test_what_is_hardly_seen_does_not_merge_over_a_distance_for_nothing(exposed, alone, monkeypatch):
    """A solid disc behind everything: merged with what is seen, it would come out in front of visitors."""
    monkeypatch.setattr(merge, "EXPOSED", exposed)
    cloud = random_cloud(300, seed=5, sh_degree=0)
    means, scales, opacities = (getattr(cloud, name).clone() for name in ("means", "scales", "opacities"))
    means[7], scales[7], opacities[7] = torch.tensor([8.0, 0, 0]), torch.tensor([1.0, 1.0, 0.01]), 1.0
    seen = seen_by_chance(300)
    for values in vars(seen).values():
        values[7] = 3
    seen.peak[7] = 0.001
    labels = cut(build_tree(cloud.replaced(means=means, scales=scales, opacities=opacities), seen), 60)
    assert ((labels == labels[7]).sum() == 1 and labels[7] >= 0) == alone


def test_the_cost_of_a_pair_is_the_formula():
    """Against numpy in float64."""
    cloud = random_cloud(40, seed=7, sh_degree=0)
    arrays = [getattr(cloud, name).numpy() for name in ("means", "scales", "quats")]
    weight, error = np.random.default_rng(0).uniform(1, 9, (2, 40))
    nodes = merge_steps.leaf_rows(*arrays, cloud.sh[:, 0].numpy(), weight, error)
    for i, j in ((0, 1), (5, 30), (12, 3)):
        c = [np.zeros((3, 3)), np.zeros((3, 3))]
        for k, n in enumerate((i, j)):
            c[k][np.triu_indices(3)] = nodes[n, 3:9]
            c[k] = c[k] + np.triu(c[k], 1).T
        both, d = c[0] + c[1], (nodes[i, :3] - nodes[j, :3]).astype(np.float64)
        apart = d @ np.linalg.inv(both + 0.02 * np.trace(both) * np.eye(3)) @ d
        color = ((nodes[i, 9:12] - nodes[j, 9:12]).astype(np.float64) ** 2).sum()
        h = (error[i] * weight[j] ** 2 + error[j] * weight[i] ** 2) / (weight[i] + weight[j]) ** 2
        wanted = h * (color + 0.05 * min(apart, 20) + 1e-7)
        assert merge_steps.pair_cost(nodes, i, j) == pytest.approx(wanted, rel=1e-3)


def test_each_merge_was_the_cheapest_that_the_neighbours_allowed():
    """The lazy heap against trying all neighbours anew each time."""
    cloud, n = random_cloud(60, seed=3, sh_degree=0), 60
    nodes = merge_steps.leaf_rows(*(getattr(cloud, k).numpy() for k in ("means", "scales", "quats")),
                                  cloud.sh[:, 0].numpy(), np.ones(n), np.ones(n))  # fmt: skip
    near = np.array([[j for j in range(n) if j != i] for i in range(n)], np.int32)  # everybody is a neighbour
    region = merge.Region(nodes, near, 0)
    for done in range(n - 10):
        alive = sorted(set(range(n)) - set(region.merges[:done, 1]))
        least = min(merge_steps.pair_cost(nodes, i, j) for i in alive for j in alive if i < j)
        before = nodes.copy()
        region.merge(merge_steps.NEVER, done + 1)
        assert region.done == done + 1
        # Costs of pairs whose other half has merged since may be out of date, but only upwards of what was true then.
        assert merge_steps.pair_cost(before, *region.merges[done]) <= 1.3 * least + 1e-9
        assert region.paid[done] == pytest.approx(merge_steps.pair_cost(before, *region.merges[done]), rel=1e-5)


def scatter(cloud, labels):
    """Squared distances of the Gaussians from the middles of their groups, summed."""
    means, total = cloud.means.double().numpy(), 0.0
    for group in groups(labels):
        total += ((means[list(group)] - means[list(group)].mean(0)) ** 2).sum()
    return total


@pytest.mark.parametrize("regions", [3, 16])
def test_merging_region_by_region_gives_as_good_groups_as_all_at_once(cloud, tree, regions, monkeypatch):
    monkeypatch.setattr(merge, "SIDE_BY_SIDE", 1000)
    monkeypatch.setattr(merge, "REGIONS", regions)
    apart = build_tree(cloud, seen_by_chance(3000))
    assert not np.array_equal(apart.merges, tree.merges) and apart.smallest == tree.smallest
    for count in (150, 299, 800, 2000):
        labels = cut(apart, count)
        assert set(labels[labels >= 0]) == set(range(count))
        assert scatter(cloud, labels) <= 1.15 * scatter(cloud, cut(tree, count))


def test_regions_go_on_until_they_have_nothing_left(monkeypatch):
    """Far clusters, each with a region of its own and fewer Gaussians than may stay."""
    monkeypatch.setattr(merge, "SIDE_BY_SIDE", 100)
    monkeypatch.setattr(merge, "REGIONS", 50)
    monkeypatch.setattr(merge, "TOGETHER", 0.001)
    found = build_tree(random_cloud(400, seed=4, sh_degree=0), seen_by_chance(400))
    assert found.smallest == 2 and set(cut(found, 2)) >= {0, 1}


def test_voxels_that_lost_everything_keep_a_representative(cloud):
    """A far part of the scene that nobody saw: without its voxels it would be gone."""
    far = random_cloud(200, seed=9, sh_degree=0)
    far = far.replaced(means=0.02 * far.means + 5, scales=0.01 * far.scales)
    both = far.replaced(**{name: torch.cat([getattr(cloud, name), getattr(far, name)]) for name in vars(far)})
    near = seen_by_chance(3000)
    seen = Significance(*(torch.cat([value, torch.zeros(200)]) for value in vars(near).values()))
    tree, voxels = build_tree(both, seen), Voxels.of(both, 0.5, 5.0)
    assert (cut(tree, 100)[3000:] < 0).all()
    labels = cut(tree, 100, voxels)
    assert set(labels[labels >= 0]) == set(range(100)) and (labels[3000:] >= 0).sum() > 100
    assert len(set(labels[3000:])) <= 1 + merge.REPRESENTATIVES * 100


@pytest.mark.parametrize("count", [1, 5, 50, 1000, 2950, 3000])
def test_voxels_do_not_change_the_budget(cloud, tree, count):
    labels = cut(tree, count, Voxels.of(cloud, 0.1, 2.0)) if count >= tree.smallest else cut(tree, tree.smallest)
    wanted = max(count, tree.smallest)
    assert set(labels[labels >= 0]) == set(range(wanted))


def test_a_tree_is_built_once_and_again_where_its_file_is_damaged(cloud, monkeypatch):
    seen, calls = seen_by_chance(3000), []
    monkeypatch.setattr(merge, "build_tree", lambda *given: calls.append(1) or build_tree(*given))
    first = cached_tree(cloud, seen, CAMERAS)
    second = cached_tree(cloud, seen, CAMERAS)
    assert len(calls) == 1 and isinstance(second, MergeTree) and np.array_equal(first.merges, second.merges)
    (file,) = (user_folder() / "trees").glob("*.bin")
    file.write_bytes(file.read_bytes()[:-1])
    assert np.array_equal(cached_tree(cloud, seen, CAMERAS).merges, first.merges) and len(calls) == 2


def test_building_can_be_cancelled(cloud):
    def report(fraction, text):
        assert 0 <= fraction <= 1
        if fraction > 0.1:
            raise Cancelled

    with pytest.raises(Cancelled):
        build_tree(cloud, seen_by_chance(3000), report)
