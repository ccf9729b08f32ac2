from __future__ import annotations

import json

import pytest
import torch

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import open_scene, save_scene
from exgs_viewer.scene.camera import write_cameras
from tests.conftest import random_cloud


@pytest.mark.parametrize("suffix", [".ply", ".PLY", ".splat"])
def test_the_suffix_decides_the_format(tmp_path, suffix):
    path = tmp_path / f"scene{suffix}"
    size = save_scene(path, random_cloud(50)).bytes
    scene = open_scene(path)
    assert (scene.format, scene.path, scene.bytes) == (suffix[1:].lower(), path, size)
    assert len(scene.cloud) == 50


def test_a_path_may_be_given_as_text_and_hold_spaces_and_letters_of_any_script(tmp_path):
    path = tmp_path / "mein Flur – 走廊" / "größer.ply"
    save_scene(str(path), random_cloud(5))
    assert len(open_scene(str(path)).cloud) == 5


def test_cameras_beside_the_file_are_used(tmp_path, camera):
    save_scene(tmp_path / "a.ply", random_cloud(5))
    write_cameras(tmp_path / "cameras.json", [camera, camera], (640, 480))
    found = open_scene(tmp_path / "a.ply").cameras
    assert len(found) == 2
    assert found[1].position == pytest.approx(camera.position)
    assert found[1].fov_y == pytest.approx(camera.fov_y)


def test_broken_cameras_beside_the_file_do_not_keep_the_scene_closed(tmp_path):
    save_scene(tmp_path / "a.ply", random_cloud(5))
    (tmp_path / "cameras.json").write_text(json.dumps([{"position": [1, 2]}]))
    scene = open_scene(tmp_path / "a.ply")
    assert scene.cameras == ()
    assert len(scene.warnings) == 1 and "cameras.json" in scene.warnings[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.ply", "there is no such file"),
        ("song.mp3", "'.mp3' is no scene format known here"),
        ("noending", "'' is no scene format known here"),
        ("folder", "holds no scene"),
        ("folder.ply", "holds no scene"),
        ("cameras.json", "describes no SOG scene"),
    ],
)
def test_what_is_no_scene_gives_one_sentence_with_file_and_problem(tmp_path, name, said):
    (tmp_path / "song.mp3").write_bytes(b"la")
    (tmp_path / "noending").write_bytes(b"la")
    (tmp_path / "cameras.json").write_text("[]")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(SceneError) as caught:
        open_scene(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and said in str(caught.value)


def test_an_opened_cloud_can_be_trained(tmp_path):
    save_scene(tmp_path / "a.ply", random_cloud(5))
    cloud = open_scene(tmp_path / "a.ply").cloud
    scales = cloud.scales.clone().requires_grad_()
    (scales * cloud.opacities[:, None]).sum().backward()
    assert torch.isfinite(scales.grad).all()
