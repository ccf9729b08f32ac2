"""The demo room is the first thing a user sees: always the same, without holes, and lit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exgs_viewer.errors import Cancelled
from exgs_viewer.render import Renderer, open_renderer
from exgs_viewer.render.reference import sh_basis
from exgs_viewer.scene import Scene, demo, open_scene
from exgs_viewer.scene.camera import fly, look_at
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.demo import quaternions
from exgs_viewer.scene.demo.light import LOBE, Lights, harmonics, highlight, soft_light, sunlight
from exgs_viewer.scene.demo.sheets import Sheet, faces, flat, splats
from exgs_viewer.settings import RenderSettings

FIELDS = ("means", "scales", "quats", "opacities", "sh")


@pytest.fixture(scope="module")
def room() -> Scene:
    return open_scene("demo")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return open_renderer("cpu")


def test_the_demo_is_the_same_every_time(room):
    again = demo.read()
    for name in FIELDS:
        assert torch.equal(getattr(room.cloud, name), getattr(again.cloud, name)), name
    assert again.cameras == room.cameras


def test_it_has_between_300_and_500_thousand_gaussians(room):
    assert 300_000 <= len(room.cloud) <= 500_000


def test_its_scene_says_what_it_is(room):
    assert (room.format, room.path, room.up) == ("demo", None, (0.0, -1.0, 0.0))
    assert room.bytes == room.cloud.ply_bytes
    assert len(room.cameras) >= 5


def test_every_value_is_valid(room):
    cloud = room.cloud
    for name in FIELDS:
        assert torch.isfinite(getattr(cloud, name)).all(), name
    assert torch.allclose(cloud.quats.norm(dim=1), torch.ones(len(cloud)), atol=1e-5)
    assert cloud.scales.min() > 0
    assert cloud.opacities.min() > 0 and cloud.opacities.max() <= 1


def test_surfaces_are_flat_discs_and_some_things_are_translucent(room):
    thickness = room.cloud.scales.min(dim=1).values
    width = room.cloud.scales.max(dim=1).values
    assert (thickness < 0.5 * width).float().mean() > 0.99
    assert (room.cloud.opacities < 0.4).float().mean() > 0.01


def test_few_large_splats_carry_the_surfaces(room):
    """A tenth of the Gaussians, the largest, has to be able to hold the room together."""
    scales = room.cloud.scales.sort(dim=1).values
    area = scales[:, 1] * scales[:, 2] * room.cloud.opacities
    largest = area.sort(descending=True).values[: len(area) // 10]
    assert largest.sum() > 0.6 * area.sum()


@pytest.mark.parametrize("number", range(7))
def test_no_bookmark_sees_a_hole(room, renderer, number):
    alpha = renderer.render(room.cloud, room.cameras[number], (240, 150), RenderSettings()).alpha
    assert (alpha > 0.99).float().mean() > 0.97
    assert alpha.min() > 0.85


def test_the_first_view_is_bright_dark_and_colourful(room, renderer):
    color = renderer.render(room.cloud, room.cameras[0], (240, 150), RenderSettings()).color
    luma = color.mean(dim=2)
    assert 0.35 < float(luma.mean()) < 0.65
    assert (luma < 0.15).float().mean() > 0.01
    assert (luma > 0.85).float().mean() > 0.01
    saturation = color.max(dim=2).values - color.min(dim=2).values
    assert float(saturation.mean()) > 0.15


def test_its_colours_depend_on_the_view(room, renderer):
    cloud = room.cloud
    assert cloud.sh_degree == 3
    rest = cloud.sh[:, 1:].abs().amax(dim=(1, 2))
    assert 0.1 < float((rest > 0.02).float().mean()) < 0.8
    side_step = fly(room.cameras[3], 0.25, 0.0, 0.0)
    full = renderer.render(cloud, side_step, (240, 150), RenderSettings()).color
    constant = renderer.render(cloud, side_step, (240, 150), RenderSettings(sh_degree=0)).color
    assert float((full - constant).abs().max()) > 0.1


def test_building_can_be_cancelled():
    def report(fraction: float, text: str) -> None:
        if fraction > 0.1:
            raise Cancelled

    with pytest.raises(Cancelled):
        demo.read(report)


def test_progress_never_goes_back():
    told = []
    demo.read(lambda fraction, text: told.append(fraction))
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1


def test_quaternions_turn_the_axes_as_their_matrices_do():
    generator = torch.Generator().manual_seed(4)
    matrices = torch.linalg.qr(torch.randn(200, 3, 3, generator=generator)).Q
    matrices = matrices * torch.linalg.det(matrices)[:, None, None]
    w, x, y, z = quaternions(matrices.numpy()).T
    third = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1)
    first = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], 1)
    assert np.allclose(third, matrices[:, :, 2], atol=1e-5)
    assert np.allclose(first, matrices[:, :, 0], atol=1e-5)


def test_frames_are_proper_rotations(room):
    parts = [layer for shape, size in faces((0, 0, 0), (1, 2, 3)).values() for layer in splats(_sheet(shape, size), 0)]
    for part in parts:
        assert np.allclose(np.linalg.det(part.frame), 1, atol=1e-5)


def test_the_front_of_every_face_of_a_box_looks_outwards():
    for name, (shape, size) in faces((0, 0, 0), (1, 2, 3)).items():
        (layer,) = splats(_sheet(shape, size), 0)
        axis, sign = "xyz".index(name[1]), 1 if name[0] == "+" else -1
        assert np.allclose(layer.frame[:, axis, 2], sign, atol=1e-5), name
        assert np.allclose(layer.place[:, axis], sign * (axis + 1), atol=1e-4), name


def test_a_sheet_is_covered_without_gaps(renderer):
    """Seen straight on, a wall of one layer hides what is behind it."""
    (layer,) = splats(_sheet(flat((-1, -1, 1), (1, 0, 0), (0, 1, 0)), (2, 2), cell=0.02), 0)
    cloud = _bare(layer)
    camera = look_at((0, 0, 0), (0, 0, 1), (0, -1, 0), 0.9)
    assert renderer.render(cloud, camera, (200, 200), RenderSettings()).alpha.min() > 0.98


def test_harmonics_are_orthonormal():
    """Their mean products over the sphere, from very many directions, are those of real spherical harmonics."""
    points = np.random.default_rng(0).normal(size=(200_000, 3)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    values = harmonics(points)
    products = 4 * np.pi * values.T @ values / len(points)
    assert np.allclose(products, np.eye(16), atol=0.05)


def test_harmonics_are_those_the_renderers_use():
    points = torch.nn.functional.normalize(torch.randn(100, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert np.allclose(harmonics(points.numpy()), sh_basis(points).numpy(), atol=1e-5)


def test_a_highlight_is_brightest_where_the_eye_meets_the_mirrored_light():
    lights = Lights(((0, 0, 0), (9, 9, 9)), (-3, -2, -1, -0.5, 0.5), (1, 1), (0.8, 0.6, 0), (0, -50, 0), ())
    place, up = np.zeros((1, 3), np.float32), np.array([[0, -1, 0]], np.float32)
    lobe = highlight(place, up, np.array([[1, 0]], np.float32), lights)[0, :, 1]
    angles = np.linspace(0, np.pi, 181)
    # From the eye, on the other side of the upright than the window and above the floor, down to the place.
    ways = np.stack([-np.cos(angles), np.sin(angles), 0 * angles], 1).astype(np.float32)
    brightest = ways[int((harmonics(ways) @ lobe).argmax())]
    light = np.array([-3, -1.5, 0]) / np.hypot(3, 1.5)
    mirrored = light - 2 * light[1] * np.array([0, 1, 0])
    assert brightest @ mirrored > 0.999
    assert LOBE.shape == (16,)


def test_boxes_throw_shade():
    window, box = (-3, -2, -1, -1, 1), ((-1.5, -0.7, 0), (0.1, 0.3, 2.0))
    lights = Lights(((0, -1.5, 0), (3, 1.5, 3)), window, (1, 1), (0.8944, 0.4472, 0), (2.9, -2.9, 2.9), ())
    shaded = Lights(lights.room, window, (1, 1), lights.sun, lights.lamp, (box,))
    place, up, thin = np.array([[0, 0, 0]], np.float32), np.array([[0, -1, 0]], np.float32), np.zeros(1, np.float32)
    assert sunlight(place, up, thin, lights)[0] == pytest.approx(0.4472, abs=1e-3)
    assert sunlight(place, up, thin, shaded)[0] == 0
    assert soft_light(place, up, thin, shaded)[0, 0] < soft_light(place, up, thin, lights)[0, 0]


def test_the_suns_patch_has_the_shape_of_the_window():
    """Under 45 degrees the panes appear on the floor as far from the wall as they lie above it."""
    half = float(np.sqrt(0.5))
    lights = Lights(((0, -1.5, 0), (3, 1.5, 3)), (-3, -2, -1, -1, 1), (1, 1), (half, half, 0), (2.9, -2.9, 2.9), ())
    x = np.array([-2.1, -1.9, -1.1, -0.9], np.float32)
    place = np.stack([x, 0 * x, 0 * x], 1)
    up = np.tile(np.array([0, -1, 0], np.float32), (4, 1))
    assert (sunlight(place, up, np.zeros(4, np.float32), lights) > 0.5).tolist() == [False, True, True, False]


def _sheet(shape, size, cell: float = 0.2) -> Sheet:
    return Sheet(shape, size, lambda u, v: np.full((len(u), 3), 0.5, np.float32), (cell, cell))


def _bare(layer) -> GaussianCloud:
    sh = torch.zeros(len(layer.place), 1, 3)
    fields = (layer.place, layer.scale, quaternions(layer.frame), layer.traits[:, 1])
    return GaussianCloud(*(torch.tensor(np.array(values, np.float32)) for values in fields), sh)
