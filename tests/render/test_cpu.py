"""What is particular to the CPU renderer; its parity with the reference is in test_parity.py."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from exgs_viewer.errors import Cancelled
from exgs_viewer.render import cpu
from exgs_viewer.render.cpu_raster import exp_minus
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import RenderSettings
from tests.conftest import random_cloud

SETTINGS = RenderSettings()


@pytest.fixture(scope="module")
def renderer():
    return cpu.open()


def same(first, second):
    return first.color.equal(second.color) and first.alpha.equal(second.alpha) and first.depth.equal(second.depth)


def test_a_prefix_view_draws_like_a_copy_of_it(renderer, cloud, camera):
    prefix = cloud.take(slice(0, 200))
    copy = cloud.take(torch.arange(200))
    assert same(renderer.render(prefix, camera, (96, 64), SETTINGS), renderer.render(copy, camera, (96, 64), SETTINGS))


def test_a_cloud_cut_to_degree_0_draws_like_degree_0_settings(renderer, cloud, camera):
    cut = cloud.with_sh_degree(0)
    assert not cut.sh.is_contiguous()
    flat = RenderSettings(sh_degree=0)
    assert same(renderer.render(cut, camera, (96, 64), SETTINGS), renderer.render(cloud, camera, (96, 64), flat))


def test_view_dependent_colour_is_drawn(renderer, cloud, camera):
    full, flat = (renderer.render(cloud, camera, (96, 64), RenderSettings(sh_degree=d)) for d in (3, 0))
    assert (full.color - flat.color).abs().max() > 0.05
    assert full.alpha.equal(flat.alpha)


def test_the_order_of_the_gaussians_does_not_matter(renderer, cloud, camera):
    shuffled = cloud.take(torch.randperm(len(cloud), generator=torch.Generator().manual_seed(1)))
    first, second = (renderer.render(c, camera, (96, 64), SETTINGS) for c in (cloud, shuffled))
    assert (first.color - second.color).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 15), (333, 7)])
def test_any_size_is_drawn(renderer, cloud, camera, size):
    output = renderer.render(cloud, camera, size, SETTINGS)
    assert output.color.shape == (size[1], size[0], 3)
    assert torch.isfinite(output.color).all() and output.color.min() >= 0 and output.color.max() <= 1


def test_a_large_picture_shrunk_is_the_small_picture_of_smooth_splats(renderer, camera):
    cloud = random_cloud(100)
    cloud = cloud.replaced(scales=cloud.scales + 0.2)
    small = renderer.render(cloud, camera, (60, 40), SETTINGS).color
    large = renderer.render(cloud, camera, (240, 160), SETTINGS).color
    shrunk = torch.nn.functional.avg_pool2d(large.permute(2, 0, 1), 4).permute(1, 2, 0)
    assert (small - shrunk).abs().mean() < 0.01


def test_nothing_in_view_is_the_background(renderer, cloud):
    away = look_at((0, 0, -50), (0, 0, -100), (0, -1, 0))
    output = renderer.render(cloud, away, (40, 30), RenderSettings(background=(0.25, 0.5, 1.0)))
    assert output.color.reshape(-1, 3).unique(dim=0).tolist() == [[0.25, 0.5, 1.0]]
    assert output.alpha.max() == 0 and output.depth.max() == 0


def test_two_threads_draw_what_one_draws(renderer, cloud, camera):
    alone = renderer.render(cloud, camera, (96, 64), SETTINGS)
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(lambda _: renderer.render(cloud, camera, (96, 64), SETTINGS), range(8)))
    assert all(same(alone, picture) for picture in pictures)


def test_a_picture_keeps_its_pixels_when_the_next_is_drawn(renderer, cloud, camera):
    first = renderer.render(cloud, camera, (96, 64), SETTINGS)
    before = first.color.clone()
    renderer.render(cloud, look_at((2, 0, 0), (0, 0, 0), (0, -1, 0)), (96, 64), SETTINGS)
    assert first.color.equal(before)


def test_scoring_can_be_cancelled(renderer, cloud, camera):
    def report(fraction, text):
        if fraction > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        renderer.significance(cloud, [camera] * 4, (32, 32), report)


def test_huge_and_tiny_gaussians_are_survived(renderer, camera):
    cloud = random_cloud(200)
    scales = cloud.scales.clone()
    scales[:50], scales[50:100] = 1e6, 1e-12
    means = cloud.means.clone()
    means[100:120] = 1e7
    output = renderer.render(cloud.replaced(scales=scales, means=means), camera, (96, 64), SETTINGS)
    assert torch.isfinite(output.color).all() and torch.isfinite(output.depth).all()


def test_what_a_tile_never_reaches_counts_as_unseen(renderer):
    """Forty opaque sheets end every ray; the splats behind them are listed but never looked at."""
    n = 200
    means = torch.zeros(n, 3)
    means[:, 2] = torch.linspace(0, 1, n)
    flat = random_cloud(n, sh_degree=0).replaced(
        means=means, scales=torch.full((n, 3), 5.0), opacities=torch.ones(n), quats=torch.tensor([[1.0, 0, 0, 0]] * n)
    )
    for _ in range(2):  # The second time the scratch memory holds the numbers of the first.
        camera = look_at((0, 0, -30), (0, 0, 0), (0, -1, 0), fov_y=0.1)
        seen = renderer.significance(flat, [camera], (64, 64))
        assert (seen.hits[100:] == 0).all() and (seen.weight[100:] == 0).all() and (seen.peak[100:] == 0).all()
        assert seen.weight[0] > 0.9 * 64 * 64


def test_opening_tells_of_kernels_that_are_compiled():
    told = []
    cpu.open(lambda fraction, words: told.append((fraction, words)))
    assert len(told) >= 2 and told == sorted(told) and all("compile" in words for _, words in told)


def test_the_exponential_of_the_kernels_is_that_of_float64():
    x = np.linspace(0, 8, 20_001, dtype=np.float32)
    found = np.array([exp_minus(value) for value in x])
    assert np.abs(found / np.exp(-x.astype(np.float64)) - 1).max() < 8e-5
