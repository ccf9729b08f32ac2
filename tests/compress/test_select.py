import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exgs_viewer.compress import select
from tests.conftest import random_cloud


def plain_order(cloud, significance, edge):
    """The priority of select.py's docstring, spelled out with dictionaries and a sort."""
    n = len(cloud)
    best_first = sorted(range(n), key=lambda j: (-float(significance[j]), j))
    members = {}
    for j in best_first:
        members.setdefault(tuple(np.floor(cloud.means[j].double().numpy() / edge).astype(int)), []).append(j)
    by_population = sorted(members.values(), key=lambda v: -len(v))
    priority = {}
    for rank, j in enumerate(best_first):
        priority[j] = (rank + 1) / n
    for m, voxel in enumerate(by_population):
        for i, j in enumerate(voxel):
            priority[j] = min(priority[j], (i + 1) / len(voxel) / select.KAPPA)
        if len(voxel) >= select.POPULATED:
            priority[voxel[0]] = min(priority[voxel[0]], (m + 1) / n / select.BETA)
    return priority


def test_every_budget_is_met_exactly():
    for n in (1, 7, 1000, 1_495_636):
        for keep in (0.01, 0.1, 0.333, 0.5, 1.0):
            assert abs(select.keep_count(n, keep) - n * keep) <= 0.5 or select.keep_count(n, keep) == 1


def test_the_order_is_a_permutation(cloud):
    order = select.rank(cloud, torch.rand(len(cloud)))
    assert order.sort().values.equal(torch.arange(len(cloud)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), edge=st.floats(0.02, 3.0), n=st.integers(1, 400))
def test_a_prefix_holds_what_eq_9_with_a_budget_asks_for(seed, edge, n):
    cloud = random_cloud(n, seed, sh_degree=0)
    significance = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    order = select.rank(cloud, significance, edge).tolist()
    priority = plain_order(cloud, significance, edge)
    levels = [int(np.ceil(priority[j] * n - 1e-9)) for j in order]
    assert levels == sorted(levels)


def test_a_populated_voxel_far_from_everything_keeps_its_representative():
    cloud = random_cloud(2000, sh_degree=0)
    means = cloud.means.clone()
    means[:20] = torch.tensor([50.0, 50.0, 50.0]) + torch.rand(20, 3) * 0.01
    means[20] = torch.tensor([-70.0, 0.0, 0.0])  # a lone floater
    cloud = cloud.replaced(means=means)
    significance = torch.rand(2000) + 1.0
    significance[:21] = 1e-6
    significance[7] = 2e-6
    kept = set(select.rank(cloud, significance, 0.5)[:200].tolist())
    assert 7 in kept
    assert 20 not in kept


def test_one_huge_voxel_is_plain_global_ranking(cloud):
    significance = torch.rand(len(cloud))
    moved = cloud.replaced(means=cloud.means.clamp(0.01, 0.99))
    order = select.rank(moved, significance, 1.0)
    kept, best = set(order[:60].tolist()), set(significance.topk(60).indices.tolist())
    assert kept == best


def test_positions_beyond_the_voxel_grid_share_its_border():
    cloud = random_cloud(50, sh_degree=0)
    far = cloud.replaced(means=cloud.means * 1e6)
    assert select.rank(far, torch.rand(50), 1e-3).sort().values.equal(torch.arange(50))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), edge=st.floats(0.02, 3.0), n=st.integers(1, 400))
def test_a_rearranged_cloud_is_ranked_as_before(seed, edge, n):
    """The window ranks a cloud again that lies in the order of an older ranking."""
    cloud = random_cloud(n, seed, sh_degree=0)
    significance = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    before = select.best_first(cloud, significance)
    older = select.nested_order(before, 0.7)
    again = select.nested_order(before.moved(older), edge)
    assert older[again].equal(select.rank(cloud, significance, edge))


def test_more_voxels_than_the_table_starts_with_are_told_apart():
    cloud = random_cloud(30_000, sh_degree=0)
    voxel, place, count = select.group_voxels(cloud.means.numpy(), 0.001)
    cells = np.floor(cloud.means.numpy() / 0.001).astype(np.int64)
    _, inverse, population = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    assert len(count) == len(population) > 1 << 14
    assert (count[voxel] == population[inverse.ravel()]).all()
    assert (place < count[voxel]).all()
