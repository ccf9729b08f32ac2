from __future__ import annotations

import pytest
import torch

from exgs_viewer.scene.cloud import GaussianCloud, join
from tests.conftest import random_cloud

FIELDS = ("means", "scales", "quats", "opacities", "sh")


def test_selecting_everything_returns_the_same_cloud(cloud):
    for index in (slice(None), torch.arange(len(cloud)), torch.ones(len(cloud), dtype=torch.bool)):
        again = cloud.take(index)
        assert all(torch.equal(getattr(again, name), getattr(cloud, name)) for name in FIELDS)


def test_taking_keeps_the_order_of_the_index(cloud):
    index = torch.tensor([5, 2, 2, 9])
    assert all(torch.equal(getattr(cloud.take(index), name), getattr(cloud, name)[index]) for name in FIELDS)


def test_a_slice_shares_memory(cloud):
    assert cloud.take(slice(0, 10)).sh.data_ptr() == cloud.sh.data_ptr()


def test_a_cloud_cannot_be_changed(cloud):
    with pytest.raises(AttributeError):
        cloud.means = cloud.means


def test_clouds_are_equal_only_to_themselves(cloud):
    assert cloud != cloud.take(slice(None)) and len({cloud, cloud.take(slice(None))}) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", torch.zeros(600, 2)),
        ("scales", torch.zeros(599, 3)),
        ("quats", torch.zeros(600, 3)),
        ("opacities", torch.zeros(600, 1)),
        ("sh", torch.zeros(600, 5, 3)),
        ("sh", torch.zeros(600, 4, 4)),
        ("means", torch.zeros(600, 3, dtype=torch.float64)),
        ("opacities", torch.zeros(600, dtype=torch.float16)),
        ("quats", torch.zeros(600, 4, device="meta")),
    ],
)
def test_wrong_shapes_types_and_devices_are_our_own_mistake(cloud, name, value):
    with pytest.raises(AssertionError):
        cloud.replaced(**{name: value})


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_cutting_the_degree_keeps_the_lower_coefficients_and_adds_none(degree):
    cloud = random_cloud(10, sh_degree=2)
    cut = cloud.with_sh_degree(degree)
    assert cut.sh_degree == min(degree, 2)
    assert torch.equal(cut.sh, cloud.sh[:, : cut.sh.shape[1]])


@pytest.mark.parametrize(("degree", "floats"), [(0, 17), (1, 26), (2, 41), (3, 62)])
def test_the_yardstick_is_a_standard_ply(degree, floats):
    assert random_cloud(7, sh_degree=degree).ply_bytes == 7 * 4 * floats


def test_joining_pads_lower_degrees_with_zeros():
    low, high = random_cloud(4, seed=1, sh_degree=1), random_cloud(5, seed=2, sh_degree=3)
    whole = join([low, high])
    assert (len(whole), whole.sh_degree) == (9, 3)
    assert torch.equal(whole.take(slice(4, 9)).sh, high.sh)
    assert torch.equal(whole.sh[:4, :4], low.sh) and (whole.sh[:4, 4:] == 0).all()
    assert all(torch.equal(getattr(whole, name)[:4], getattr(low, name)) for name in FIELDS[:4])


def test_joining_one_cloud_changes_nothing(cloud):
    again = join([cloud])
    assert isinstance(again, GaussianCloud)
    assert all(torch.equal(getattr(again, name), getattr(cloud, name)) for name in FIELDS)


def test_moving_to_where_it_is_returns_the_cloud_itself(cloud):
    assert cloud.to("cpu") is cloud
    assert cloud.to("meta").device == torch.device("meta")
