"""`exgs train`: every command explains itself, and the whole way from scenes to a painter works."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exgs_viewer import cli
from exgs_viewer.restore import painter as network
from exgs_viewer.restore.painter import LITE
from exgs_viewer.scene import open_scene, save_scene
from exgs_viewer.train import pairs, scenes
from exgs_viewer.train.sources import Sources
from tests.conftest import random_cloud
from tests.restore.test_painter import SMALL_UNET


@pytest.mark.parametrize(("command", "flag"), [
    ("make-scenes", "--count"), ("make-pairs", "--variants"), ("painter", "--squeezenet"), ("validate", "--crops"),
])  # fmt: skip
def test_every_command_explains_its_flags(capsys, command, flag):
    with pytest.raises(SystemExit) as ending:
        cli.main(["train", command, "--help"])
    assert ending.value.code == 0 and flag in capsys.readouterr().out


def test_the_way_from_a_scene_to_a_judged_painter(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(network.PRESETS, "small", replace(LITE, unet={**LITE.unet, **SMALL_UNET}))
    monkeypatch.setattr(pairs, "JUDGES", 2)
    save_scene(tmp_path / "scenes" / "ball.ply", random_cloud(300, sh_degree=0))
    make = ["train", "make-pairs", "-o", str(tmp_path / "pairs"), "--scenes", str(tmp_path / "scenes"), "--made", "0"]
    make += ["--gatherings", "0", "--views", "2", "--variants", "paper", "random"]
    monkeypatch.setattr(Sources, "names", lambda *_: ["ball"])  # without the demo room, which would take seconds
    assert cli.main(make) == 0
    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["ball@paper+random.safetensors"]
    train = ["train", "painter", str(tmp_path / "run"), "--pairs", str(tmp_path / "pairs"), "--preset", "small"]
    train += ["--steps=2", "--autoencode=1", "--judge-every=2", "--crop=64", "--batch=1"]
    assert cli.main(train) == 0
    capsys.readouterr()
    judge = ["train", "validate", "--painter", str(tmp_path / "run" / "painter"), "--pairs", str(tmp_path / "pairs")]
    assert cli.main([*judge, "--sheet", str(tmp_path / "sheet.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["in"] > 5 and told["out"] > 5 and (tmp_path / "sheet.png").exists()
    assert cli.main([*make, "--variants", "melted"]) == 2
    assert "no variant 'melted'" in capsys.readouterr().err


def test_made_scenes_are_written_as_ply(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "MOST", 2000)
    assert cli.main(["train", "make-scenes", "-o", str(tmp_path), "--count", "1", "--first", "4"]) == 0
    assert len(open_scene(tmp_path / "made-4.ply").cloud) > 100
