"""The fast CPU renderer draws and scores what the reference does."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.compress.polish import with_constant_colors
from exgs_viewer.render import RenderOutput, open_renderer
from exgs_viewer.render.reference import ReferenceRenderer
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


@pytest.mark.parametrize("distance", [3, 9, 25])
def test_cpu_draws_antialiased_as_the_reference(distance, cpu, reference):
    cloud, camera = random_cloud(2000), look_at((0, 0, -distance), (0, 0, 0), (0, -1, 0))
    drawn, expected = (
        each.render(cloud, camera, (96, 64), RenderSettings(antialiased=True)) for each in (cpu, reference)
    )
    assert_same_picture(drawn, expected)
    plain = cpu.render(cloud, camera, (96, 64), RenderSettings())
    assert plain.alpha.sum() > 1.01 * drawn.alpha.sum()


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
    assert_close(scored.coverage, expected.coverage, rtol=1e-3, atol=0.1)
    assert_close(scored.pixels, expected.pixels, rtol=0, atol=1)
    assert_close(scored.pixels.sum(), expected.pixels.sum(), rtol=1e-4, atol=0)


def random_cotangent(size, seed=0):
    told = torch.randn(size[1], size[0], 3, generator=torch.Generator().manual_seed(seed))
    return lambda drawn: told.to(drawn.dtype)


@pytest.mark.parametrize(("degree", "size"), [(0, (96, 64)), (3, (77, 53)), (1, (16, 16))])
def test_cpu_gradients_are_those_of_torch_in_float64(degree, size, cpu, camera):
    cloud, told = random_cloud(500, seed=degree, sh_degree=degree), random_cotangent(size)
    found = cpu.gradients(cloud, camera, size, told)
    expected = ReferenceRenderer(torch.float64).gradients(cloud, camera, size, told)
    for name, wanted in vars(expected).items():
        assert wanted.norm() > 0 and (getattr(found, name) - wanted).norm() <= 1e-3 * wanted.norm(), name


def test_cpu_gradients_off_the_axis_and_of_giants_are_those_of_torch(cpu):
    """Where the perspective is linearised elsewhere than at the centre, and alpha is capped or the ray ends."""
    cloud = random_cloud(300, seed=3, sh_degree=0)
    scales, opacities = cloud.scales.clone(), cloud.opacities.clone()
    scales[:40] *= 10
    opacities[:20] = 1.0
    cloud = cloud.replaced(scales=scales, opacities=opacities)
    camera, size = look_at((0.1, 0.05, -0.3), (0.3, 0.2, 1), up=(0, -1, 0.2), fov_y=1.2), (64, 48)
    found, expected = (
        each.gradients(cloud, camera, size, random_cotangent(size)) for each in (cpu, ReferenceRenderer(torch.float64))
    )
    for name, wanted in vars(expected).items():
        # A pixel at the very threshold of a giant's alpha counts in one and not in the other.
        assert (getattr(found, name) - wanted).norm() <= 0.02 * wanted.norm(), name


@pytest.mark.parametrize("size", [(96, 64), (53, 37)])
@pytest.mark.parametrize("own_colors", [True, False])
def test_cpu_carries_pictures_back_to_colors_as_torch(own_colors, cpu, reference, camera, size):
    """Over tiles that end before their lists do, too: many Gaussians here are large and solid."""
    cloud = random_cloud(4000, seed=2, sh_degree=0)
    cloud = cloud.replaced(scales=cloud.scales * 2)
    seed = torch.Generator().manual_seed(1)
    colors = None if own_colors else torch.randn(len(cloud), 3, generator=seed)
    for wanted in (None, 2 * torch.rand(size[1], size[0], 3, generator=seed)):
        (found, weight), (expected, total) = (
            each.adjoint(cloud, camera, size, wanted, colors) for each in (cpu, reference)
        )
        assert expected.norm() > 0 and (found - expected).norm() <= 2e-3 * expected.norm()
        assert (weight - total).norm() <= 2e-3 * total.norm()


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_drawing_and_carrying_back_are_adjoint(name, cloud, camera):
    """<A x, y> = <x, A^T y>, and colours of any sign add to it what they draw, unless that is brighter than 1."""
    renderer, size, seed = open_renderer(name), (48, 32), torch.Generator().manual_seed(1)
    x, y = torch.rand(len(cloud), 3, generator=seed), torch.randn(32, 48, 3, generator=seed)
    drawn = renderer.render(with_constant_colors(cloud.with_sh_degree(0), x), camera, size, RenderSettings()).color
    back, _ = renderer.adjoint(cloud, camera, size, y, torch.zeros_like(x))
    assert_close((drawn * y).sum(), (x * back).sum(), rtol=1e-3, atol=1e-3)
    signed = torch.rand(len(cloud), 3, generator=seed) * 1.6 - 0.8
    lacking, itself = (renderer.adjoint(cloud, camera, size, wanted, signed)[0] for wanted in (y, None))
    assert_close(lacking + itself, back, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_what_is_not_seen_has_no_gradient(name, cloud):
    behind = Camera((0, 0, 9), (1, 0, 0, 0))
    found = open_renderer(name).gradients(cloud, behind, (40, 30), torch.ones_like)
    assert all(value.abs().max() == 0 for value in vars(found).values())


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


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_an_album_is_filled_in_passing_with_the_pictures_themselves(name):
    renderer, cloud = open_renderer(name), random_cloud(300, sh_degree=2)
    cameras = [look_at((math.sin(a), 0.2, -4 * math.cos(a)), (0, 0, 0), (0, -1, 0)) for a in (0.0, 0.5, 1.0)]
    album = dict.fromkeys((cameras[0], cameras[2]))
    seen = renderer.significance(cloud, cameras, (48, 36), album=album)
    for camera, picture in album.items():
        drawn = renderer.render(cloud, camera, (48, 36), RenderSettings(sh_degree=0)).color
        assert torch.equal(picture, drawn) and picture.max() > 0.1
    assert torch.equal(seen.hits, renderer.significance(cloud, cameras, (48, 36)).hits)
