"""From a path to a scene: pictures made here lead to the scene they show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from exgs_viewer.app.diary import Diary
from exgs_viewer.app.notices import Notices
from exgs_viewer.app.opener import Opener
from exgs_viewer.app.snapshot import snapshot_meta
from exgs_viewer.errors import ExgsError
from exgs_viewer.images import write_png
from exgs_viewer.settings import Settings


class FakeEngine:
    """Remembers what was opened."""

    def __init__(self):
        self.scene, self.opened = None, []

    def open(self, path, up):
        self.opened.append((path, up))


@pytest.fixture
def opener(stand):
    notices = Notices(stand.clock)
    return Opener(FakeEngine(), notices, Diary(Settings(), notices, writes=False))


@pytest.fixture
def picture(tmp_path, view):
    """A picture of a named scene, taken while its z axis was up."""

    def make(scene):
        path = tmp_path / "picture.png"
        write_png(path, torch.zeros(4, 4, 3), snapshot_meta(replace(view, gain=8.0), str(scene), (0.0, 0.0, 1.0)))
        return str(path)

    return make


def test_a_picture_opens_its_scene_with_its_up_axis_and_its_view_waits_for_that(opener, picture, tmp_path, view):
    scene = tmp_path / "room.ply"
    scene.touch()
    assert opener.open(picture(scene)) is None
    assert opener._engine.opened == [(str(scene), (0.0, 0.0, 1.0))]
    waiting = opener.taken()
    assert waiting.applied(view).gain == 8.0
    assert opener.taken() is None, "it waits for one scene only"


def test_a_picture_of_the_open_scene_only_brings_its_view(opener, picture, stand):
    stand.open()
    opener._engine.scene = stand.engine.scene
    snapshot = opener.open(picture("demo"))
    assert snapshot.scene == "demo" and opener._engine.opened == []


def test_a_picture_whose_scene_is_gone_takes_the_open_one_or_says_so(opener, picture, stand, tmp_path):
    path = picture(tmp_path / "gone.ply")
    with pytest.raises(ExgsError, match=r"gone\.ply\) is not there"):
        opener.open(path)
    stand.open()
    opener._engine.scene = stand.engine.scene
    assert opener.open(path) is not None and "gone" in opener._notices.told.text


def test_another_scene_forgets_the_view_that_waited(opener, picture):
    opener.open(picture("demo"))
    opener.open("other.ply")
    assert opener.taken() is None
