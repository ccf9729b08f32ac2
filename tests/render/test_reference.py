"""The reference against gsplat's torch twins, closed forms and hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gsplat.cuda import _torch_impl as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from exgs_viewer.render import ALPHA_MAX, ALPHA_MIN, DILATION, TRANSMITTANCE_MIN, open_renderer
from exgs_viewer.render.reference import ReferenceRenderer, draw, project, sh_basis, view_colors
from exgs_viewer.scene.camera import Camera, look_at
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.settings import RenderSettings
from tests.conftest import random_cloud

SIZE = (50, 38)
"""No multiple of the tile size in either direction."""
FRONT = Camera((0, 0, 0), (1, 0, 0, 0), fov_y=0.8)
"""Looks along +z from the origin."""
EXACT = ReferenceRenderer(torch.float64)


def cloud_of(*gaussians: tuple) -> GaussianCloud:
    """Round Gaussians from (position, standard deviation, opacity, colour)."""
    positions, sigmas, opacities, colors = zip(*gaussians, strict=True)
    n = len(gaussians)
    return GaussianCloud(
        means=torch.tensor(positions, dtype=torch.float32),
        scales=torch.tensor(sigmas, dtype=torch.float32)[:, None].expand(n, 3).contiguous(),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4).contiguous(),
        opacities=torch.tensor(opacities, dtype=torch.float32),
        sh=(torch.tensor(colors, dtype=torch.float32)[:, None] - 0.5) / SH_C0,
    )


def gsplat_projection(cloud: GaussianCloud, camera: Camera, size: tuple[int, int]):
    """radii, means2d, depths, conics as gsplat's torch twin projects them."""
    covariances, _ = twin._quat_scale_to_covar_preci(cloud.quats, cloud.scales, compute_preci=False)
    matrices = camera.world_to_camera()[None], camera.intrinsics(size)[None]
    return [
        part if part is None else part[0]
        for part in twin._fully_fused_projection(cloud.means, covariances, *matrices, *size, eps2d=DILATION)
    ]


@pytest.mark.parametrize("distance", [2.5, 0.9])
def test_projection_is_that_of_gsplat(distance):
    cloud = random_cloud(3000, seed=1)
    camera = look_at((0.2, -0.5 * distance, -distance), (0, 0, 0), up=(0.1, -1, 0))
    _, means2d, depths, conics, _ = gsplat_projection(cloud, camera, (640, 360))
    splats = project(cloud, camera, (640, 360), near=0.05)
    assert len(splats.index) > 1500
    assert_close(splats.means2d, means2d[splats.index], rtol=1e-4, atol=2e-3)
    assert_close(splats.depths, depths[splats.index], rtol=1e-5, atol=1e-5)
    assert_close(splats.conics, conics[splats.index], rtol=2e-3, atol=1e-5)


def test_antialiased_opacities_are_compensated_as_in_gsplat():
    cloud, camera = random_cloud(3000, seed=1), look_at((0.2, -1, -9), (0, 0, 0), up=(0.1, -1, 0))
    covariances, _ = twin._quat_scale_to_covar_preci(cloud.quats, cloud.scales, compute_preci=False)
    matrices = camera.world_to_camera()[None], camera.intrinsics((320, 180))[None]
    *_, factors = twin._fully_fused_projection(
        cloud.means, covariances, *matrices, 320, 180, eps2d=DILATION, calc_compensations=True
    )
    expected = cloud.opacities * factors[0]
    splats = project(cloud, camera, (320, 180), near=0.05, antialiased=True)
    assert_close(splats.opacities, expected[splats.index], rtol=2e-3, atol=1e-4)
    assert factors[0, splats.index].min() < 0.5 and set(splats.index.tolist()) == set(
        ((expected >= ALPHA_MIN) & (cloud.opacities >= ALPHA_MIN)).nonzero()[:, 0].tolist()
    )


def test_a_gaussian_thinner_than_a_pixel_covers_as_much_as_it_is_large_only_where_antialiased():
    cloud = cloud_of(((0.0, 0.0, 1.0), 0.3 / FRONT.focal(SIZE), 0.9, (1, 1, 1)))  # 0.3 pixels
    covered = [
        float(EXACT.render(cloud, FRONT, SIZE, RenderSettings(antialiased=on)).alpha.sum()) for on in (True, False)
    ]
    assert covered == pytest.approx([0.9 * 2 * math.pi * 0.3**2, 0.9 * 2 * math.pi * (0.3**2 + DILATION)], rel=0.03)


def test_projection_far_outside_the_picture_is_clamped_as_in_gsplat():
    cloud = cloud_of(*(((x, 0.3, 0.2), 0.1, 0.9, (1, 1, 1)) for x in (-3.0, -0.5, 0.5, 3.0)))
    _, _, _, conics, _ = gsplat_projection(cloud, FRONT, SIZE)
    splats = project(cloud, FRONT, SIZE, near=0.02)
    assert_close(splats.conics, conics[splats.index], rtol=1e-4, atol=1e-7)


def test_nothing_visible_is_left_out_of_a_splats_reach():
    splats = project(random_cloud(400), look_at((0, 0, -2), (0, 0, 0), (0, -1, 0)), (64, 48), near=0.02)
    x = torch.arange(-40, 104) + 0.5
    pixels = torch.stack(torch.meshgrid(x, x, indexing="xy"), dim=2).reshape(-1, 2)
    offset = pixels[None] - splats.means2d[:, None]
    a, b, c = splats.conics[:, :, None].unbind(1)
    power = 0.5 * (a * offset[..., 0] ** 2 + c * offset[..., 1] ** 2) + b * offset[..., 0] * offset[..., 1]
    visible = splats.opacities[:, None] * torch.exp(-power) >= ALPHA_MIN
    outside = (offset.abs() > splats.reach[:, None]).any(2)
    assert visible.any() and not (visible & outside).any()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_are_those_of_gsplat(degree, cloud, camera):
    directions = cloud.means - torch.tensor(camera.position)
    expected = (twin._spherical_harmonics(degree, directions, cloud.sh) + 0.5).clamp(min=0)
    assert_close(view_colors(cloud, camera, degree), expected, rtol=1e-5, atol=1e-5)


def test_harmonics_are_orthonormal_on_the_sphere():
    height, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(8))
    angle = torch.arange(16, dtype=torch.float64) * math.tau / 16
    ring = torch.sqrt(1 - height**2)
    directions = torch.stack(
        [ring[:, None] * angle.cos(), ring[:, None] * angle.sin(), height[:, None].expand(-1, 16)], dim=2
    )
    basis = sh_basis(directions.reshape(-1, 3))
    area = (weight[:, None] * math.tau / 16).expand(-1, 16).reshape(-1)
    assert_close(basis.T @ (area[:, None] * basis), torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-7)


def test_a_lower_degree_in_the_settings_drops_the_higher_coefficients(cloud, camera):
    limited = EXACT.render(cloud, camera, SIZE, RenderSettings(sh_degree=1))
    dropped = EXACT.render(cloud.with_sh_degree(1), camera, SIZE, RenderSettings())
    assert torch.equal(limited.color, dropped.color)
    assert not torch.equal(limited.color, EXACT.render(cloud, camera, SIZE, RenderSettings()).color)


@settings(max_examples=25, deadline=None)
@given(
    across=st.floats(-0.6, 0.6),
    down=st.floats(-0.45, 0.45),
    z=st.floats(0.5, 4),
    sigma=st.floats(0.01, 0.3),
    opacity=st.floats(0.02, 1),
)
def test_one_round_gaussian_is_the_closed_form(across, down, z, sigma, opacity):
    """Centres stay where the Jacobian is not clamped yet."""
    cloud = cloud_of(((across * z, down * z, z), sigma, opacity, (0.9, 0.5, 0.1)))
    x, y, z = cloud.means[0].double().tolist()
    focal = FRONT.focal(SIZE)
    jacobian = torch.tensor([[focal / z, 0, -focal * x / z**2], [0, focal / z, -focal * y / z**2]]).double()
    covariance = cloud.scales[0, 0].double() ** 2 * jacobian @ jacobian.T + DILATION * torch.eye(2).double()
    rows, columns = torch.meshgrid(torch.arange(SIZE[1]) + 0.5, torch.arange(SIZE[0]) + 0.5, indexing="ij")
    offset = torch.stack([columns - SIZE[0] / 2 - focal * x / z, rows - SIZE[1] / 2 - focal * y / z], dim=2).double()
    power = 0.5 * torch.einsum("hwi,ij,hwj->hw", offset, torch.linalg.inv(covariance), offset)
    alpha = (cloud.opacities[0].double() * torch.exp(-power)).clamp(max=ALPHA_MAX)
    clear = (alpha - ALPHA_MIN).abs() > 1e-6  # at the very threshold float32 inputs decide
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    drawn = EXACT.render(cloud, FRONT, SIZE, RenderSettings(background=(0.2, 0.3, 0.4)))
    expected = alpha[..., None] * torch.tensor([0.9, 0.5, 0.1]) + (1 - alpha)[..., None] * torch.tensor([0.2, 0.3, 0.4])
    assert_close(drawn.alpha[clear], alpha[clear], rtol=0, atol=1e-6)
    assert_close(drawn.color[clear], expected[clear], rtol=0, atol=1e-6)
    assert_close(drawn.depth[clear], z * (alpha > 0).double()[clear], rtol=0, atol=1e-6)


def test_the_picture_does_not_depend_on_the_order_of_the_gaussians(cloud, camera):
    shuffled = cloud.take(torch.randperm(len(cloud), generator=torch.Generator().manual_seed(3)))
    straight, mixed = (EXACT.render(each, camera, SIZE, RenderSettings()) for each in (cloud, shuffled))
    for name in ("color", "alpha", "depth"):
        assert_close(getattr(straight, name), getattr(mixed, name), rtol=0, atol=1e-12)


def test_an_opaque_wall_hides_what_is_behind():
    wall = [((0, 0, 1 + 0.01 * i), 2.0, 1.0, (0, 1, 0)) for i in range(3)]
    hidden = ((0, 0, 3), 0.5, 1.0, (1, 0, 0))
    with_hidden = EXACT.render(cloud_of(*wall, hidden), FRONT, SIZE, RenderSettings())
    assert_close(with_hidden.color, EXACT.render(cloud_of(*wall), FRONT, SIZE, RenderSettings()).color)
    assert EXACT.render(cloud_of(hidden), FRONT, SIZE, RenderSettings()).color[..., 0].max() > 0.9
    assert EXACT.significance(cloud_of(*wall, hidden), [FRONT], SIZE).hits[3] == 0


def test_the_gaussian_that_ends_a_ray_is_not_counted():
    """0.9, 0.99 and 0.95 leave 1e-3, 1e-5, 5e-5 in turn: the second is too much, and the ray ends before it."""
    cloud = cloud_of(*(((0, 0, 1 + i), 1000.0, o, (1, 1, 1)) for i, o in enumerate((0.999, 0.99, 0.5))))
    drawn = EXACT.render(cloud, FRONT, SIZE, RenderSettings())
    assert_close(drawn.alpha, torch.full_like(drawn.alpha, 0.999), rtol=0, atol=1e-4)
    assert TRANSMITTANCE_MIN >= 0.001 * (1 - 0.99)
    assert EXACT.significance(cloud, [FRONT], SIZE).weight[1:].tolist() == [0, 0]


def test_the_background_shows_through_what_is_not_covered(cloud, camera):
    black = EXACT.render(cloud, camera, SIZE, RenderSettings())
    red = EXACT.render(cloud, camera, SIZE, RenderSettings(background=(0.25, 0, 0)))
    unclamped = black.color[..., 0] < 0.75  # both pictures are clamped to 1
    assert_close((red.color - black.color)[..., 0][unclamped], 0.25 * (1 - black.alpha)[unclamped], rtol=0, atol=1e-9)
    assert torch.equal(red.color[..., 1:], black.color[..., 1:])


def test_gaussians_nearer_than_the_near_plane_are_not_drawn():
    cloud = cloud_of(((0, 0, 0.3), 0.1, 0.9, (1, 1, 1)))
    assert EXACT.render(cloud, FRONT, SIZE, RenderSettings(near=0.29)).alpha.max() > 0.5
    assert EXACT.render(cloud, FRONT, SIZE, RenderSettings(near=0.31)).alpha.max() == 0
    assert EXACT.render(cloud, Camera((0, 0, 1), (1, 0, 0, 0)), SIZE, RenderSettings()).alpha.max() == 0


def test_a_crop_is_the_same_picture_cut_out(cloud, camera):
    whole = EXACT.render(cloud, camera, SIZE, RenderSettings())
    splats = project(cloud, camera, SIZE, RenderSettings().near, torch.float64)
    colors = view_colors(cloud.take(splats.index), camera, 3, torch.float64)
    crop = draw(splats, colors, (7, 5, 40, 30))
    assert_close(crop.color, whole.color[5:30, 7:40])
    assert_close(crop.depth, whole.depth[5:30, 7:40])


def test_chunks_of_gaussians_composite_like_one(monkeypatch, cloud, camera):
    whole = EXACT.render(cloud, camera, SIZE, RenderSettings())
    scores = EXACT.significance(cloud, [camera], SIZE)
    monkeypatch.setattr("exgs_viewer.render.reference.CHUNK", 7)
    assert_close(EXACT.render(cloud, camera, SIZE, RenderSettings()).color, whole.color)
    assert_close(EXACT.significance(cloud, [camera], SIZE).hits, scores.hits)


def test_one_gaussian_scores_its_pixels_times_its_opacity():
    cloud = cloud_of(((0, 0, 2), 0.2, 0.6, (1, 1, 1)))
    scores, drawn = EXACT.significance(cloud, [FRONT], SIZE), EXACT.render(cloud, FRONT, SIZE, RenderSettings())
    pixels = int((drawn.alpha > 0).sum())
    assert pixels > 50
    assert_close(scores.hits, torch.tensor([pixels * 0.6]), rtol=1e-6, atol=0)
    assert_close(scores.weight[0].double(), drawn.alpha.sum(), rtol=1e-6, atol=0)
    assert_close(scores.peak[0].double(), drawn.alpha.max(), rtol=1e-6, atol=0)


def test_a_gaussian_behind_another_is_scaled_by_what_the_first_lets_through():
    """The front one covers the whole picture with alpha 0.75 everywhere."""
    veil, behind = ((0, 0, 1), 1000.0, 0.75, (1, 1, 1)), ((0, 0, 2), 0.2, 0.6, (1, 1, 1))
    alone = EXACT.significance(cloud_of(behind), [FRONT], SIZE)
    veiled = EXACT.significance(cloud_of(behind, veil), [FRONT], SIZE)
    for name in ("hits", "weight", "peak"):
        assert_close(getattr(veiled, name)[0], 0.25 * getattr(alone, name)[0], rtol=1e-4, atol=0)
    assert_close(veiled.hits[1], torch.tensor(0.75 * SIZE[0] * SIZE[1]), rtol=1e-5, atol=0)


def test_views_add_up_and_the_peak_is_the_largest(cloud, camera):
    other = look_at((1.5, 0.2, -1.5), (0, 0, 0), up=(0, -1, 0))
    one, two = (EXACT.significance(cloud, [each], SIZE) for each in (camera, other))
    both = EXACT.significance(cloud, [camera, other], SIZE)
    assert_close(both.hits, one.hits + two.hits, rtol=1e-6, atol=1e-6)
    assert_close(both.weight, one.weight + two.weight, rtol=1e-6, atol=1e-6)
    assert torch.equal(both.peak, torch.maximum(one.peak, two.peak))


def test_all_weights_together_are_the_coverage_of_the_picture(cloud, camera):
    drawn = EXACT.render(cloud, camera, SIZE, RenderSettings())
    weights = EXACT.significance(cloud, [camera], SIZE).weight
    assert_close(weights.double().sum(), drawn.alpha.sum(), rtol=1e-6, atol=0)


def test_the_weight_is_the_gradient_of_the_picture_with_respect_to_the_colour(cloud, camera):
    splats = project(cloud, camera, SIZE, RenderSettings().near, torch.float64)
    colors = torch.full((len(splats.index), 3), 0.3, dtype=torch.float64, requires_grad=True)
    draw(splats, colors, (0, 0, *SIZE)).color[..., 0].sum().backward()
    weights = EXACT.significance(cloud, [camera], SIZE).weight[splats.index]
    assert_close(colors.grad[:, 0].float(), weights, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_field_of_the_cloud(camera):
    cloud = random_cloud(40)
    names = ("means", "scales", "quats", "opacities", "sh")
    for name in names:
        getattr(cloud, name).requires_grad_()
    ReferenceRenderer().render(cloud, camera, SIZE, RenderSettings()).color.square().sum().backward()
    for name in names:
        gradient = getattr(cloud, name).grad
        assert gradient.isfinite().all() and gradient.abs().sum() > 0, name


def test_single_precision_is_close_to_double(cloud, camera):
    single = ReferenceRenderer().render(cloud, camera, SIZE, RenderSettings())
    double = EXACT.render(cloud, camera, SIZE, RenderSettings())
    assert single.color.dtype == torch.float32 and double.color.dtype == torch.float64
    assert (single.color - double.color).abs().max() < 2e-3


def test_the_reference_opens_by_name_and_reports_while_it_scores(cloud, camera):
    renderer, heard = open_renderer("reference"), []
    renderer.significance(cloud, [camera, camera], SIZE, lambda share, text: heard.append(share))
    assert renderer.name == "reference" and heard == sorted(heard)
    assert heard[0] == 0 and 0.5 in heard and heard[-1] < 1


def test_a_cloud_nobody_can_see_gives_the_background(camera):
    cloud = cloud_of(((0, 0, 1), 0.2, 0.001, (1, 1, 1)))
    drawn = EXACT.render(cloud, FRONT, SIZE, RenderSettings(background=(0.1, 0.2, 0.3)))
    assert drawn.color.shape == (SIZE[1], SIZE[0], 3) and drawn.alpha.max() == 0 and drawn.depth.max() == 0
    assert_close(drawn.color[3, 4], torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
