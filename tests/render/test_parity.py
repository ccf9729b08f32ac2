"""The fast CPU renderer draws and scores what the reference does."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.render import RenderOutput, open_renderer
from exgs_viewer.scene import open_scene
from exgs_viewer.scene.camera import Camera, look_at, read_cameras
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import RenderSettings
from tests.conftest import random_cloud

STEP = 1 / 255
SIZES = [(96, 64), (77, 53), (16, 16), (1, 1), (200, 3)]


@pytest.fixture(scope="module")
def cpu():
    return open_renderer("cpu")


@pytest.fixture(scope="module")
def reference():
    return open_renderer("reference")


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


def assert_same_picture(drawn: RenderOutput, expected: RenderOutput) -> None:
    assert_close(drawn.color, expected.color, rtol=0, atol=2 * STEP)
    assert_close(drawn.alpha, expected.alpha, rtol=0, atol=2 * STEP)
    covered = expected.alpha > 0.1  # where hardly anything is, one skipped contribution changes the mean depth
    assert_close(drawn.depth[covered], expected.depth[covered], rtol=2e-2, atol=2e-2)
    assert (drawn.depth[drawn.alpha == 0] == 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_cpu_draws_any_size_as_the_reference(size, cpu, reference, cloud, camera):
    settings = RenderSettings(background=(0.1, 0.5, 0.9))
    assert_same_picture(*(each.render(cloud, camera, size, settings) for each in (cpu, reference)))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("stored", [0, 1, 2, 3])
def test_cpu_draws_every_sh_degree_as_the_reference(degree, stored, cpu, reference, camera):
    cloud, settings = random_cloud(400, seed=degree, sh_degree=stored), RenderSettings(sh_degree=degree)
    assert_same_picture(*(each.render(cloud, camera, (80, 60), settings) for each in (cpu, reference)))


@pytest.mark.parametrize("seed", range(4))
def test_cpu_draws_random_clouds_from_inside_as_the_reference(seed, cpu, reference):
    """Splats on all sides, some across the near plane, some covering the whole picture."""
    cloud = random_cloud(3000, seed=seed)
    camera = look_at((0.1 * seed, 0.05, -0.2), (0.3, 0.2, 1), up=(0, -1, 0.2), fov_y=0.7 + 0.3 * seed)
    assert_same_picture(*(each.render(cloud, camera, (128, 72), RenderSettings()) for each in (cpu, reference)))


def test_cpu_draws_needles_and_giants_as_the_reference(cpu, reference, camera):
    cloud = random_cloud(500, seed=9)
    stretched = cloud.replaced(scales=cloud.scales * torch.tensor([30.0, 0.05, 1.0]))
    assert_same_picture(*(each.render(stretched, camera, (96, 64), RenderSettings()) for each in (cpu, reference)))


@pytest.mark.parametrize("near", [0.02, 1.5, 2.5])
def test_cpu_culls_at_the_near_plane_as_the_reference(near, cpu, reference, cloud, camera):
    settings = RenderSettings(near=near)
    assert_same_picture(*(each.render(cloud, camera, (80, 60), settings) for each in (cpu, reference)))


def test_cpu_scores_as_the_reference(cpu, reference):
    cloud = random_cloud(2000, seed=5)
    cameras = [look_at((x, -0.3, -2.2), (0, 0, 0), up=(0, -1, 0)) for x in (-1.0, 0.2, 1.4)]
    scored, expected = (each.significance(cloud, cameras, (120, 80)) for each in (cpu, reference))
    # A pixel at the very threshold may be hit by one and missed by the other: one pixel is at most `opacity`.
    assert_close(scored.hits, expected.hits, rtol=1e-3, atol=1.0)
    assert_close(scored.hits.sum(), expected.hits.sum(), rtol=1e-4, atol=0)
    assert_close(scored.weight, expected.weight, rtol=1e-3, atol=2 * STEP)
    assert_close(scored.peak, expected.peak, rtol=1e-3, atol=2 * STEP)


@pytest.mark.shared
def test_cpu_draws_a_real_scene_as_the_reference(cpu, reference, scenes):
    cloud = open_scene(scenes / "truck" / "truck.splat").cloud
    cameras = read_cameras(scenes / "cameras" / "truck.json")
    for camera in (cameras[0], cameras[7]):
        drawn, expected = (each.render(cloud, camera, (384, 256), RenderSettings()) for each in (cpu, reference))
        assert expected.alpha.mean() > 0.2
        assert psnr(drawn.color, expected.color) >= 50
        assert psnr(drawn.alpha, expected.alpha) >= 50


def test_a_cloud_behind_the_camera_is_not_drawn_by_either(cpu, reference):
    cloud: GaussianCloud = random_cloud(50)
    behind = Camera((0, 0, 9), (1, 0, 0, 0))
    for renderer in (cpu, reference):
        drawn = renderer.render(cloud, behind, (40, 30), RenderSettings(background=(0.2, 0.2, 0.2)))
        assert drawn.alpha.max() == 0 and drawn.depth.max() == 0
        assert_close(drawn.color, torch.full((30, 40, 3), 0.2))
        assert renderer.significance(cloud, [behind], (40, 30)).hits.max() == 0
