"""Several pictures become one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer.app import compose
from exgs_viewer.render import RenderOutput
from exgs_viewer.scene.cloud import SH_C0

from .conftest import plain_cloud

LEFT, RIGHT = torch.rand(6, 10, 3), torch.rand(6, 10, 3)


@pytest.mark.parametrize(("share", "column"), [(0.0, 0), (0.31, 3), (0.5, 5), (1.0, 10), (1.7, 10), (-1.0, 0)])
def test_the_wipe_shows_the_left_picture_up_to_the_divider(share, column):
    picture = compose.wipe([LEFT, RIGHT], [share])
    assert torch.equal(picture[:, :column], LEFT[:, :column])
    assert torch.equal(picture[:, column:], RIGHT[:, column:])


@pytest.mark.parametrize(("shares", "columns"), [((0.2, 0.7), (2, 7)), ((0.4, 0.4), (4, 4)), ((0.0, 1.0), (0, 10))])
def test_two_dividers_show_three_pictures(shares, columns):
    middle = torch.rand(6, 10, 3)
    picture, (a, b) = compose.wipe([LEFT, middle, RIGHT], shares), columns
    parts = [LEFT[:, :a], middle[:, a:b], RIGHT[:, b:]]
    assert torch.equal(picture, torch.cat(parts, 1))


def test_where_nothing_was_changed_the_trust_map_is_grey_and_brighter_the_more_was():
    before = torch.full((1, 5, 3), 0.4)
    before[..., 0] = 0.7
    after = before.clone()
    after[0, :, 1] += torch.tensor([0.0, 0.09, 0.24, 0.45, 0.59])  # a third of it is the mean over the channels
    picture = compose.trust(before, after)[0]
    assert picture[0].max() - picture[0].min() < 1e-6
    assert (picture[1:].sum(1).diff() > 0).all()
    assert torch.allclose(picture[2], compose.trust_color(torch.tensor(0.08)), atol=1e-5)


@given(st.integers(3, 5000), st.integers(1, 3))
def test_panes_fill_the_width_and_differ_by_one_pixel_at_most(width, count):
    sizes = compose.pane_sizes((width, 7), count)
    assert sum(pane for pane, _ in sizes) == width and len(sizes) == count
    assert max(sizes)[0] - min(sizes)[0] <= 1 and {height for _, height in sizes} == {7}


def test_side_by_side_keeps_every_pixel():
    picture = compose.side_by_side([LEFT, RIGHT])
    assert torch.equal(picture[:, :10], LEFT) and torch.equal(picture[:, 10:], RIGHT)


def test_the_difference_of_equal_pictures_is_black_and_a_large_one_saturates():
    assert not compose.difference(LEFT, LEFT, 32.0).any()
    assert compose.difference(torch.zeros(1, 1, 3), torch.full((1, 1, 3), 0.3), 2.0).tolist()[0][0] == pytest.approx(
        [0.6] * 3
    )
    assert compose.difference(torch.zeros(1, 1, 3), torch.ones(1, 1, 3), 9.0).max() == 1


def test_psnr_of_a_known_error():
    assert compose.psnr(torch.zeros(4, 4, 3), torch.full((4, 4, 3), 0.1)) == pytest.approx(20.0, abs=1e-4)
    assert math.isinf(compose.psnr(LEFT, LEFT))


def test_bytes_are_rounded_and_opaque():
    levels = torch.arange(256) / 255
    picture = levels[None, :, None].expand(1, 256, 3)
    made = compose.rgba_bytes(picture)
    assert made.dtype == torch.uint8 and made.is_contiguous()
    assert torch.equal(made[0, :, 0], torch.arange(256).byte()) and (made[..., 3] == 255).all()
    assert torch.equal(compose.rgba(picture)[..., :3], picture)


def test_near_is_brighter_than_far_and_nothing_is_black():
    depth = torch.tensor([[1.0, 2.0, 4.0, 8.0, 0.0]])
    alpha = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    brightness = compose.depth_picture(depth, alpha).sum(2)[0]
    assert (brightness[:-1].diff()[:3] < 0).all() and brightness[-1] == 0
    assert not compose.depth_picture(torch.zeros(2, 2), torch.zeros(2, 2)).any()


def test_the_heat_map_is_brightest_where_the_cloud_begins():
    cloud = compose.heat_map(plain_cloud(100))
    colors = 0.5 + SH_C0 * cloud.sh[:, 0]
    assert cloud.sh_degree == 0 and colors.min() >= 0 and colors.max() <= 1
    assert (colors.mean(1).diff() < 0).all()


def test_modes_show_what_they_are_called():
    output = RenderOutput(LEFT, torch.full((6, 10), 0.5), torch.ones(6, 10))
    assert torch.equal(compose.painted(output, "color"), LEFT)
    assert (compose.painted(output, "alpha") == 0.5).all()
    assert compose.painted(output, "depth").shape == LEFT.shape
