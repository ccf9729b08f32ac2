"""Whatever the format: what is written comes back within the format's steps, and what cannot be is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import WRITERS, Scene, open_scene, save_scene, written_suffix
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.space import axes
from tests.conftest import random_cloud


@dataclass(frozen=True)
class Steps:
    """The largest difference that a format may make to a cloud of `random_cloud`."""

    place: float
    """Share of the scene's extent."""
    shape: float
    """Share of the covariance, which is the same however a format names the axes of a Gaussian."""
    opacity: float
    colour: float
    """Of the constant coefficient."""
    rest: float
    """Of the higher ones; 0 where the format has none."""


STEPS = {
    ".ply": Steps(0, 1e-5, 1e-6, 0, 1e-9),
    ".compressed.ply": Steps(0.51 / 1023, 0.015, 0.51 / 255, 0.01, 8.1 / 256),
    ".spz": Steps(0.51 / 4096, 0.08, 0.51 / 255, 0.51 / 255 / 0.15, 0.51 / 128),
    ".splat": Steps(0, 0.03, 0.51 / 255, 0.51 / 255 / 0.28, 0),
    ".sog": Steps(0.6 / 32768, 0.08, 0.51 / 255, 0.02, 0.02),
    ".exgs": Steps(0.003, 0.15, 0.02, 0.05, 0.1),  # Of the faintest, whose colours are rounded most coarsely.
}


def test_every_format_that_is_written_is_tried_here():
    assert set(STEPS) == set(WRITERS)


def tame(count: int, degree: int = 0) -> GaussianCloud:
    """Random Gaussians that every format can hold."""
    cloud = random_cloud(count, sh_degree=degree)
    sh = torch.cat([cloud.sh[:, :1].clamp(-1.7, 1.7), cloud.sh[:, 1:].clamp(-0.99, 0.99)], dim=1)
    return cloud.replaced(sh=sh, scales=cloud.scales.clamp(0.003, 0.5))


def covariances(cloud: GaussianCloud) -> torch.Tensor:
    """[N, 3, 3] float64: R S S^T R^T."""
    rooted = axes(cloud.quats.double()) * cloud.scales.double()[:, None]
    return rooted @ rooted.transpose(1, 2)


def assert_close(found: GaussianCloud, cloud: GaussianCloud, steps: Steps) -> None:
    """Equal within `steps`, in whatever order: the places say which Gaussian is which."""
    assert len(found) == len(cloud)
    found = found.take(torch.cdist(cloud.means.double(), found.means.double()).argmin(dim=1))
    extent = max(float((cloud.means.amax(0) - cloud.means.amin(0)).max()), 1.0)
    assert (found.means - cloud.means).abs().max() <= steps.place * extent
    shapes, wanted = covariances(found), covariances(cloud)
    assert ((shapes - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)).max() <= steps.shape
    assert (found.opacities - cloud.opacities).abs().max() <= steps.opacity
    assert (found.sh[:, 0] - cloud.sh[:, 0]).abs().max() <= steps.colour
    assert found.sh_degree == (cloud.sh_degree if steps.rest else 0)
    if found.sh_degree:
        assert (found.sh[:, 1:] - cloud.sh[:, 1:]).abs().max() <= steps.rest


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_cloud_comes_back_within_the_steps_of_the_format(tmp_path, suffix, degree):
    cloud = tame(600, degree)
    written = save_scene(tmp_path / f"a{suffix}", cloud)
    scene = open_scene(tmp_path / f"a{suffix}")
    assert (f".{scene.format}", (tmp_path / f"a{suffix}").stat().st_size) == (suffix, written.bytes)
    assert len(written.warnings) == (suffix == ".splat" and degree > 0)
    assert_close(scene.cloud, cloud, STEPS[suffix])


@pytest.mark.parametrize("count", [1, 2, 257])
@pytest.mark.parametrize("suffix", WRITERS)
def test_few_gaussians_and_one_more_than_a_chunk_come_back(tmp_path, suffix, count):
    cloud = tame(count, 1)
    save_scene(tmp_path / f"a{suffix}", cloud)
    assert_close(open_scene(tmp_path / f"a{suffix}").cloud, cloud, STEPS[suffix])


@pytest.mark.parametrize("suffix", WRITERS)
def test_opacities_of_nothing_and_of_all_come_back(tmp_path, suffix):
    cloud = tame(300)
    cloud = cloud.replaced(opacities=(torch.arange(300) % 2).float())
    save_scene(tmp_path / f"a{suffix}", cloud)
    assert_close(open_scene(tmp_path / f"a{suffix}").cloud, cloud, STEPS[suffix])


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_scene_far_from_the_origin_and_wide_stays_where_it_is(tmp_path, suffix):
    cloud = tame(300)
    factor = 1000.0
    wide = cloud.replaced(
        means=cloud.means * factor + torch.tensor([5e4, -2e4, 0.0]),
        scales=cloud.scales.clamp(max=0.3) * factor,
    )
    save_scene(tmp_path / f"a{suffix}", wide)
    found = open_scene(tmp_path / f"a{suffix}").cloud
    assert_close(found, wide, replace(STEPS[suffix], place=max(STEPS[suffix].place, 1e-3)))


@pytest.mark.parametrize("suffix", WRITERS)
def test_gaussians_that_are_all_alike_come_back(tmp_path, suffix):
    cloud = tame(1).take(torch.zeros(300, dtype=torch.int64))
    save_scene(tmp_path / f"a{suffix}", cloud)
    assert_close(open_scene(tmp_path / f"a{suffix}").cloud, cloud, STEPS[suffix])


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_failed_write_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_scene(path, tame(10))
    old = path.read_bytes()

    def stop(fraction: float, words: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        save_scene(path, tame(20), stop)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_place_that_cannot_be_written_to_gives_one_sentence(tmp_path, suffix):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SceneError, match=r"scene.*: cannot be written"):
        save_scene(tmp_path / "file" / f"scene{suffix}", tame(5))


@pytest.mark.parametrize("suffix", WRITERS)
def test_nothing_is_not_written(tmp_path, suffix):
    with pytest.raises(SceneError, match="nothing to write"):
        save_scene(tmp_path / f"a{suffix}", tame(5).take(slice(0, 0)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["scene.json", "scene.obj", "scene", "scene.compressed", "ply"])
def test_formats_that_cannot_be_written_are_refused_with_those_that_can(tmp_path, name):
    with pytest.raises(SceneError) as caught:
        save_scene(tmp_path / name, tame(5))
    assert str(tmp_path / name) in str(caught.value) and all(suffix in str(caught.value) for suffix in WRITERS)
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_the_name_chooses_the_format_whatever_its_case():
    found = {name: written_suffix(name) for name in ("a.ply", "A.Compressed.PLY", "x.y.SOG", "a b.compressed.ply")}
    assert list(found.values()) == [".ply", ".compressed.ply", ".sog", ".compressed.ply"]


@pytest.mark.parametrize("suffix", WRITERS)
def test_cameras_and_the_way_up_are_kept_or_their_loss_is_said(tmp_path, camera, suffix):
    scene = Scene(tame(50), None, "test", 0, up=(0.0, 0.0, -1.0), cameras=(camera, camera))
    said = " ".join(save_scene(tmp_path / f"a{suffix}", scene).warnings)
    found = open_scene(tmp_path / f"a{suffix}")
    assert len(found.cameras) == (0 if "2 cameras were left out" in said else 2)
    assert found.up == (None if "Which way is up was left out" in said else (0, 0, -1))
