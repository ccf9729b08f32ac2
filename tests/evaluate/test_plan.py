"""What is told before the work begins, and from where scenes are looked at."""

from __future__ import annotations

import json
import shutil

import pytest

from exgs_viewer.errors import ExgsError, SceneError
from exgs_viewer.evaluate.plan import Plan, cases


@pytest.fixture
def scene(scene, tmp_path):
    """A copy that a test may do with as it likes."""
    shutil.copytree(scene.parent, tmp_path / "scenes")
    return tmp_path / "scenes" / scene.name


@pytest.fixture
def plan(scene, tmp_path):
    def make(scenes=(scene,), cameras=scene.parent / "cameras", **settings) -> Plan:
        return Plan(tuple(map(str, scenes)), tmp_path / "report", cameras, **settings)

    return make


def test_pictures_have_the_shape_of_the_cameras(plan):
    (case,) = cases(plan())
    assert case.name == "ball"
    assert [view.size for view in case.views] == [(960, 640)] * 3


def test_a_size_that_is_named_is_kept(plan):
    (case,) = cases(plan(size=(48, 48)))
    assert {view.size for view in case.views} == {(48, 48)}


def test_one_file_of_cameras_serves_all_scenes(plan, scene):
    shutil.copy(scene, scene.with_name("other.ply"))
    found = cases(plan((scene, scene.with_name("other.ply")), scene.parent / "cameras" / "ball.json"))
    assert [case.name for case in found] == ["ball", "other"]
    assert found[0].views == found[1].views


def test_cameras_beside_the_scene_need_no_flag(plan, scene):
    shutil.copy(scene.parent / "cameras" / "ball.json", scene.parent / "cameras.json")
    assert cases(plan(cameras=None)) == cases(plan())


def test_scenes_called_alike_are_told_apart_by_their_folders(plan, scene, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(scene, tmp_path / folder / "point_cloud.ply")
        shutil.copy(scene.parent / "cameras" / "ball.json", scene.parent / "cameras" / f"{folder}.json")
    found = cases(plan([tmp_path / folder / "point_cloud.ply" for folder in ("one", "two")]))
    assert [case.name for case in found] == ["one-point_cloud", "two-point_cloud"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"methods": ("paper", "papre")}, "no method 'papre'; did you mean 'paper'"),
        ({"methods": ("zip",)}, "prune-hits"),
        ({"restorers": ("nothing",)}, "none, inpaint"),
        ({"keeps": (0.1, 1.5)}, "--keep 1.5"),
        ({"scenes": ("nowhere.ply",)}, "nowhere.ply: there is no such file"),
        ({"scenes": ()}, "at least one scene"),
        ({"methods": ("paper",), "match": "best"}, "--match best: name this method among --methods too"),
        ({"cameras": None}, "no cameras to look from; give --cameras"),
    ],
)
def test_mistakes_are_told_with_what_to_do(plan, settings, words):
    with pytest.raises(ExgsError, match=words):
        cases(plan(**settings))


def test_a_folder_without_the_scenes_cameras_says_which_there_are(plan, scene):
    shutil.copy(scene, scene.with_name("chair.ply"))
    with pytest.raises(SceneError, match=r"no chair\.json .* there are ball"):
        cases(plan([scene.with_name("chair.ply")]))


def test_cameras_without_a_shape_are_told(plan, scene):
    file = scene.parent / "cameras" / "ball.json"
    entries = [{key: value for key, value in entry.items() if key != "width"} for entry in json.loads(file.read_text())]
    file.write_text(json.dumps(entries))
    with pytest.raises(SceneError, match="width"):
        cases(plan())


def test_the_same_scene_twice_is_a_mistake(plan, scene):
    with pytest.raises(ExgsError, match="name each scene once"):
        cases(plan((scene, scene)))
