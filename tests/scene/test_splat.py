"""Rows are packed here with struct, as antimatter15's convert.py packs them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import Scene, open_scene, save_scene, splat
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from tests.conftest import random_cloud


def row(mean=(1.0, 2.0, 3.0), scale=(0.1, 0.2, 0.3), rgba=(255, 0, 51, 204), quat=(1.0, 0.0, 0.0, 0.0)) -> bytes:
    turned = [min(int(part * 128 + 128), 255) for part in quat]
    return struct.pack("<3f3f4B4B", *mean, *scale, *rgba, *turned)


def test_each_byte_means_what_the_format_says(tmp_path):
    (tmp_path / "a.splat").write_bytes(row() + row(mean=(-4, 5, 6), quat=(0.5, -0.5, 0.5, 0.5)))
    scene = open_scene(tmp_path / "a.splat")
    cloud = scene.cloud
    assert (scene.format, scene.bytes, scene.warnings, cloud.sh_degree) == ("splat", 64, (), 0)
    assert cloud.means.tolist() == [[1, 2, 3], [-4, 5, 6]]
    assert cloud.scales[0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert (0.5 + SH_C0 * cloud.sh[0, 0]).tolist() == pytest.approx([1, 0, 0.2], abs=1e-6)
    assert cloud.opacities[0].item() == pytest.approx(0.8)
    torch.testing.assert_close(cloud.quats[0], torch.tensor([1.0, 0, 0, 0]), atol=0.007, rtol=0)
    torch.testing.assert_close(cloud.quats[1], torch.tensor([0.5, -0.5, 0.5, 0.5]), atol=0.007, rtol=0)


def test_writing_and_reading_returns_the_cloud_within_a_step(tmp_path):
    cloud = random_cloud(20_000, sh_degree=0)
    cloud = cloud.replaced(sh=cloud.sh.clamp(-1.7, 1.7))
    assert save_scene(tmp_path / "a.splat", cloud).bytes == 32 * len(cloud) == (tmp_path / "a.splat").stat().st_size
    again = open_scene(tmp_path / "a.splat").cloud
    assert torch.equal(again.means, cloud.means) and torch.equal(again.scales, cloud.scales)
    assert ((again.opacities - cloud.opacities).abs() <= 0.501 / 255).all()
    assert ((again.sh - cloud.sh).abs() <= 0.501 / 255 / SH_C0).all()
    assert ((again.quats - cloud.quats).abs() <= 1.1 / 128).all()


def test_each_byte_is_what_the_format_says(tmp_path):
    quat = torch.nn.functional.normalize(torch.tensor([[0.1, 0.5, -0.5, 0.7]]), dim=1)
    colour = torch.tensor([[[1.2, -0.3, 0.5]]])
    cloud = GaussianCloud(
        *(torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[0.1, 0.2, 0.3]]), quat),
        *(torch.tensor([0.25]), (colour - 0.5) / SH_C0),
    )
    save_scene(tmp_path / "a.splat", cloud)
    *numbers, r, g, b, alpha, w, x, y, z = struct.unpack("<6f8B", (tmp_path / "a.splat").read_bytes())
    assert numbers == pytest.approx([1, -2, 3, 0.1, 0.2, 0.3])
    assert (r, g, b, alpha) == (255, 0, 128, 72)  # 0.25 is 64; the rest makes up for the red that is cut
    assert [part / 255 * 2 - 1 for part in (w, x, y, z)] == pytest.approx(quat[0].tolist(), abs=1.01 / 255)


@pytest.mark.parametrize("brightness", [1.5, 3.0])
def test_what_is_brighter_than_white_lights_up_what_is_behind_it_as_much(tmp_path, brightness):
    cloud = random_cloud(3, sh_degree=0).replaced(opacities=torch.full((3,), 0.1))
    cloud = cloud.replaced(sh=torch.full((3, 1, 3), (brightness - 0.5) / SH_C0))
    save_scene(tmp_path / "a.splat", cloud)
    again = open_scene(tmp_path / "a.splat").cloud
    behind = 0.65
    added = again.opacities[:, None] * (0.5 + SH_C0 * again.sh[:, 0] - behind)
    assert added.numpy() == pytest.approx(0.1 * (brightness - behind), abs=0.003)
    assert again.opacities.max() < 0.8


def test_what_a_splat_cannot_hold_is_said(tmp_path, camera):
    plain = random_cloud(600, sh_degree=0)
    plain = plain.replaced(sh=plain.sh.clamp(-1.7, 1.7))
    assert save_scene(tmp_path / "a.splat", plain).warnings == ()
    bright = torch.cat([torch.full((7, 1, 3), 2.0), plain.sh[7:]])
    scene = Scene(plain.replaced(sh=bright), None, "test", 0, up=(0.0, 1.0, 0.0), cameras=(camera,) * 3)
    said = " ".join(save_scene(tmp_path / "a.splat", scene).warnings)
    assert "The 3 cameras" in said and "Which way is up" in said
    assert "7 of 600 Gaussians were brighter than white" in said
    colourful = plain.replaced(sh=torch.nn.functional.pad(plain.sh, (0, 0, 0, 8)))
    assert "spherical harmonics of degree 2 were left out" in save_scene(tmp_path / "a.splat", colourful).warnings[0]


def test_a_flat_disc_is_kept_with_a_scale_above_zero(tmp_path):
    (tmp_path / "a.splat").write_bytes(row(scale=(0.1, 0.0, 0.1)))
    scene = open_scene(tmp_path / "a.splat")
    assert scene.warnings == () and 0 < scene.cloud.scales[0, 1] < 1e-15


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"mean": (np.nan, 0, 0)}, "not finite"),
        ({"scale": (0.1, np.inf, 0.1)}, "not finite"),
        ({"scale": (0.1, -0.1, 0.1)}, "a negative size"),
        ({"scale": (0.1, 1e6, 0.1)}, "larger than any scene"),
        ({"mean": (0, 1e9, 0)}, "farther than"),
    ],
)
def test_rows_that_cannot_be_drawn_are_dropped_and_counted(tmp_path, bad, said):
    (tmp_path / "a.splat").write_bytes(row(**bad) + row() + row(**bad))
    scene = open_scene(tmp_path / "a.splat")
    assert len(scene.cloud) == 1 and scene.cloud.means.tolist() == [[1, 2, 3]]
    assert len(scene.warnings) == 1 and scene.warnings[0].startswith("2 of 3 Gaussians") and said in scene.warnings[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (row()[:-1], "31 bytes are no multiple of 32"),
        (row() * 3 + b"12345", "101 bytes are no multiple of 32"),
        (b"All work and no play makes Jack.\n" * 32, "this is a text file"),
        (b"ply\nformat binary_little_endian 1.0\n" + bytes(60), "this is a .ply"),
        (row(mean=(np.nan, 0, 0)) * 5, "nothing in it can be drawn; 5 of 5"),
    ],
)
def test_a_broken_file_gives_one_sentence_with_file_and_problem(tmp_path, data, said):
    (tmp_path / "a.splat").write_bytes(data)
    with pytest.raises(SceneError) as caught:
        open_scene(tmp_path / "a.splat")
    assert str(tmp_path / "a.splat") in str(caught.value) and said in str(caught.value)


def test_cancelling_passes_through(tmp_path):
    (tmp_path / "a.splat").write_bytes(row() * 9)

    def stop(fraction: float, text: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        splat.read(tmp_path / "a.splat", stop)


@pytest.mark.shared
def test_a_real_scene_is_decoded_as_splat_transform_decodes_it(scenes):
    cloud = open_scene(scenes / "truck" / "truck.splat").cloud
    assert len(cloud) == 116544
    # Row 12345 of the .ply that splat-transform 2.7.1 writes: x y z, log scales, rotation, logit, f_dc.
    oracle = [0.504934, 0.114696, -0.176538, -5.27764, -7.54971, -7.23502, 0.731922, 0.434456, -0.450112, 0.270068]
    oracle += [1.6524, 0.841047, 1.09128, 1.55003]
    parts = (cloud.means, cloud.scales.log(), cloud.quats, torch.logit(cloud.opacities)[:, None], cloud.sh[:, 0])
    assert torch.cat([part[12345] for part in parts]).tolist() == pytest.approx(oracle, rel=1e-5)
