"""The classical fill closes the holes of thinned pictures and leaves everything else alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from exgs_viewer.errors import WeightsError
from exgs_viewer.pipeline import cut
from exgs_viewer.render import open_renderer
from exgs_viewer.restore import open_restorer
from exgs_viewer.restore.inpaint import InpaintRestorer
from exgs_viewer.scene import open_scene
from exgs_viewer.scene.camera import read_cameras
from exgs_viewer.settings import CompressionSettings, RenderSettings, RestoreSettings
from tests.conftest import drawn, random_cloud

FILL = InpaintRestorer()
FULL = RestoreSettings()


def gradient(height: int, width: int) -> Tensor:
    """[H, W, 3]. A smooth picture in which each place has its own colour."""
    y, x = torch.meshgrid(torch.linspace(0.1, 0.9, height), torch.linspace(0.2, 0.8, width), indexing="ij")
    return torch.stack([x, y, 1 - x], dim=2)


def specks(height: int, width: int, share: float, seed: int = 0) -> Tensor:
    """[H, W]. 1 but for 0 at a random `share` of 2 x 2 blocks."""
    kept = torch.rand(-(-height // 2), -(-width // 2), generator=torch.Generator().manual_seed(seed)) >= share
    return kept.float().repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width]


def disc(height: int, width: int, radius: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    return (radius - torch.sqrt(x * x + y * y)).clamp(0, 1)


def psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


def test_a_picture_without_holes_comes_back_bit_by_bit():
    image = gradient(90, 160)
    assert torch.equal(FILL.restore(drawn(image, torch.ones(90, 160)), FULL), image)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.6])
def test_the_holes_of_a_thinned_room_are_filled_with_their_surroundings(share):
    whole, alpha = gradient(135, 240), specks(135, 240, share)
    torn = whole * alpha[..., None]
    restored = FILL.restore(drawn(torn, alpha), FULL)
    assert psnr(restored, whole) > max(30, psnr(torn, whole) + 10)
    assert torch.equal(restored[alpha == 1], torn[alpha == 1])


def test_half_covered_holes_get_only_the_missing_half():
    whole, alpha = gradient(135, 240), 0.5 + 0.5 * specks(135, 240, 0.3)
    restored = FILL.restore(drawn(whole * alpha[..., None], alpha), FULL)
    assert psnr(restored, whole) > 35


@pytest.mark.parametrize("size", [(135, 240), (540, 960)])
def test_an_uncut_object_on_an_open_background_comes_back_bit_by_bit(size):
    alpha = disc(*size, radius=size[0] / 3)
    image = gradient(*size) * alpha[..., None]
    assert torch.equal(FILL.restore(drawn(image, alpha), FULL), image)


def test_a_thinned_object_is_filled_but_not_smeared_over_the_open_background():
    outline = disc(540, 960, radius=150)
    alpha, whole = outline * specks(540, 960, 0.4), gradient(540, 960) * outline[..., None]
    torn = gradient(540, 960) * alpha[..., None]
    restored = FILL.restore(drawn(torn, alpha), FULL)
    assert psnr(restored, whole) > psnr(torn, whole) + 10
    assert restored[disc(540, 960, radius=150 + 16) == 0].max() < 1e-3
    assert restored[disc(540, 960, radius=150 + 48) == 0].max() == 0


def test_two_objects_are_not_joined_across_a_wide_gap():
    alpha = torch.zeros(540, 960)
    alpha[200:340, 200:400] = alpha[200:340, 520:720] = 1
    alpha = alpha * specks(540, 960, 0.4)
    restored = FILL.restore(drawn(gradient(540, 960) * alpha[..., None], alpha), FULL)
    assert restored[:, 416:504].max() == 0 and restored[210:330, 210:390].min() > 0.05


def test_the_background_behind_the_picture_is_taken_out_of_the_fill():
    whole, alpha = gradient(135, 240), specks(135, 240, 0.2)
    white = whole * alpha[..., None] + (1 - alpha)[..., None]
    restored = FILL.restore(drawn(white, alpha, (1.0, 1.0, 1.0)), FULL)
    assert psnr(restored, whole) > 30
    open_sky = FILL.restore(drawn(torch.ones(135, 240, 3), torch.zeros(135, 240), (1.0, 1.0, 1.0)), FULL)
    assert torch.equal(open_sky, torch.ones(135, 240, 3))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_thinned_cloud_is_restored_alike_before_any_background(backend, camera):
    """Where holes are filled the background must not show; where nothing is it must."""
    cloud, settings = random_cloud(600).replaced(opacities=torch.full((600,), 0.99)), RestoreSettings()
    over = [
        open_renderer(backend).render(cloud, camera, (120, 80), RenderSettings(background=color))
        for color in ((0.0, 0.0, 0.0), (0.2, 0.4, 0.6))
    ]
    black, colored = (open_restorer("inpaint").restore(each, settings) for each in over)
    shown = (colored - black)[..., 2] / 0.6  # share of the background that is left
    assert shown.max() > 0.99 and (shown <= 1 - over[0].alpha + 1e-3).all()
    assert (shown < 0.9 * (1 - over[0].alpha) - 0.05).any()


def test_strength_blends_between_the_picture_and_its_restoration():
    whole, alpha = gradient(135, 240), specks(135, 240, 0.2)
    torn = whole * alpha[..., None]
    none, half, full = (FILL.restore(drawn(torn, alpha), RestoreSettings(strength=share)) for share in (0.0, 0.5, 1.0))
    assert torch.equal(none, torn)
    assert_close(half, (torn + full) / 2, rtol=0, atol=1e-6)
    assert not torch.equal(full, torn)


def test_a_stale_request_ends_on_the_way():
    image, alpha = gradient(135, 240), specks(135, 240, 0.3)
    asked = []
    assert FILL.restore(drawn(image, alpha), FULL, lambda: bool(asked.append(1))) is not None
    questions = len(asked)
    assert questions > 8
    for patience in (0, 1, questions // 2, questions - 1):
        asked.clear()
        assert FILL.restore(drawn(image, alpha), FULL, lambda p=patience: asked.append(1) or len(asked) > p) is None
        assert len(asked) == patience + 1


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_any_size_gives_a_picture_and_leaves_covered_pixels_and_inputs_alone(height, width, share, seed):
    alpha = specks(height, width, share, seed)
    image = gradient(height, width) * alpha[..., None]
    given_image, given_alpha = image.clone(), alpha.clone()
    restored = FILL.restore(drawn(image, alpha), FULL)
    assert restored.shape == image.shape and restored.isfinite().all()
    assert restored.min() >= 0 and restored.max() <= 1
    assert torch.equal(restored[alpha == 1], image[alpha == 1])
    assert torch.equal(image, given_image) and torch.equal(alpha, given_alpha)


def test_a_mirrored_picture_is_restored_mirrored():
    image, alpha = gradient(128, 256), specks(128, 256, 0.3)
    torn = image * alpha[..., None]
    mirrored = FILL.restore(drawn(torn.flip(1), alpha.flip(1)), FULL)
    assert_close(mirrored.flip(1), FILL.restore(drawn(torn, alpha), FULL), rtol=0, atol=1e-5)


def test_a_narrow_pane_is_filled_like_the_picture_it_shows_a_part_of():
    """Side by side, a pane keeps its height and so the size of its splats and holes."""
    whole, alpha = gradient(1080, 1440), specks(270, 360, 0.2).repeat_interleave(4, 0).repeat_interleave(4, 1)
    torn, middle = whole * alpha[..., None], slice(540, 900)
    wide = FILL.restore(drawn(torn, alpha), FULL)[:, middle]
    narrow = FILL.restore(drawn(torn[:, middle], alpha[:, middle]), FULL)
    assert psnr(narrow, whole[:, middle]) > psnr(wide, whole[:, middle]) - 1 > psnr(torn, whole) + 10


def test_the_restorer_opens_by_name_and_says_what_it_is():
    restorer = open_restorer("inpaint")
    assert restorer.name == "inpaint" and "push-pull" in restorer.label
    with pytest.raises(WeightsError, match="no restorer named 'magic'"):
        open_restorer("magic")


@pytest.mark.shared
def test_a_compressed_real_room_comes_nearer_to_the_uncut_one(scenes):
    cloud = open_scene(scenes / "lab_corner").cloud
    renderer, cameras = open_renderer("cpu"), read_cameras(scenes / "cameras" / "lab_corner.json")
    significance = renderer.significance(cloud, cameras, (240, 160)).hits
    ranked = cloud.take(torch.argsort(significance, descending=True, stable=True)).with_sh_degree(0)
    for keep, least in ((0.03, 1.0), (0.1, 0.2), (1.0, 0.0)):
        gains = []
        for camera in (cameras[0], cameras[2], cameras[4], cameras[8]):
            uncut, thinned = (
                renderer.render(each, camera, (480, 270), RenderSettings())
                for each in (ranked, cut(ranked, CompressionSettings(keep=keep)))
            )
            restored = FILL.restore(thinned, FULL)
            assert keep < 1 or torch.equal(restored, uncut.color)
            gains.append(psnr(restored, uncut.color) - psnr(thinned.color, uncut.color) if keep < 1 else 0.0)
        assert min(gains) >= -0.05 and sum(gains) / len(gains) >= least


@pytest.mark.shared
def test_an_uncut_real_object_comes_back_bit_by_bit(scenes):
    cloud = open_scene(scenes / "statues" / "angel.sog").cloud
    for camera in read_cameras(scenes / "cameras" / "statue_angel.json")[:4]:
        output = open_renderer("cpu").render(cloud, camera, (960, 540), RenderSettings())
        assert torch.equal(FILL.restore(output, FULL), output.color)
