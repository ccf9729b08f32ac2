"""Every file we write is opened by PlayCanvas' splat-transform, and shows the same picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exgs_viewer.render import open_renderer
from exgs_viewer.scene import WRITERS, open_scene, save_scene
from exgs_viewer.scene.camera import Camera, read_cameras
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import RenderSettings
from tests.conftest import SPLAT_TRANSFORM, random_cloud

pytestmark = pytest.mark.splat_transform

FOREIGN = [suffix for suffix in WRITERS if suffix != ".exgs"]
SIZE = (320, 180)


def reopened(path: Path) -> GaussianCloud:
    """What splat-transform makes of a file."""
    transform(path, path.with_name("reopened.ply"))
    return open_scene(path.with_name("reopened.ply")).cloud


def transform(source: Path, goal: Path, *options: str) -> None:
    command = ["node", str(SPLAT_TRANSFORM), "-q", "-w", str(source), str(goal), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def psnr(a: GaussianCloud, b: GaussianCloud, camera: Camera) -> float:
    renderer = open_renderer("cpu")
    pictures = [renderer.render(cloud, camera, SIZE, RenderSettings()).color.double() for cloud in (a, b)]
    return float(-10 * torch.log10(((pictures[0] - pictures[1]) ** 2).mean()))


def holdable(cloud: GaussianCloud, suffix: str) -> GaussianCloud:
    """Without what the format has no place for."""
    return cloud.with_sh_degree(0) if suffix == ".splat" else cloud


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("suffix", FOREIGN)
def test_a_random_cloud_shows_the_same_picture(tmp_path, camera, suffix, degree):
    cloud = random_cloud(700, sh_degree=degree)
    cloud = cloud.replaced(sh=cloud.sh.clamp(-1.0, 1.0))
    save_scene(tmp_path / f"a{suffix}", cloud)
    found = reopened(tmp_path / f"a{suffix}")
    assert (len(found), found.sh_degree) == (700, 0 if suffix == ".splat" else degree)
    assert psnr(found, holdable(cloud, suffix), camera) > 45


@pytest.mark.parametrize("suffix", FOREIGN)
def test_one_gaussian_is_opened(tmp_path, suffix):
    cloud = random_cloud(1, sh_degree=1)
    save_scene(tmp_path / f"a{suffix}", cloud)
    found = reopened(tmp_path / f"a{suffix}")
    assert found.means == pytest.approx(cloud.means, abs=1e-3)


@pytest.mark.parametrize("version", ["3", "4"])
def test_we_read_a_spz_as_splat_transform_does(tmp_path, version):
    if version == "4":
        pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    save_scene(tmp_path / "a.ply", random_cloud(300))
    transform(tmp_path / "a.ply", tmp_path / "a.spz", "--spz-version", version)
    ours, theirs = open_scene(tmp_path / "a.spz"), reopened(tmp_path / "a.spz")
    assert ours.meta["version"] == int(version)
    for name in ("means", "scales", "quats", "sh"):
        torch.testing.assert_close(getattr(ours.cloud, name), getattr(theirs, name), rtol=1e-5, atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("suffix", FOREIGN)
def test_a_real_scene_shows_the_same_picture(tmp_path, scenes, suffix):
    cloud = open_scene(scenes / "guitar" / "guitar.compressed.ply").cloud
    save_scene(tmp_path / f"a{suffix}", cloud)
    camera = read_cameras(scenes / "cameras" / "guitar.json")[0]
    assert psnr(reopened(tmp_path / f"a{suffix}"), cloud, camera) > 45
