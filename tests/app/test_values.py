"""The small values of the window: words, history, memory, pictures that remember their view."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer import images
from exgs_viewer.app import words
from exgs_viewer.app.history import History
from exgs_viewer.app.memory import Memory, changed_since, load_memory, save_memory
from exgs_viewer.app.snapshot import read_snapshot, snapshot_meta
from exgs_viewer.app.state import ViewState, sides_of
from exgs_viewer.errors import SceneError
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import CompressionSettings, Settings, WindowSettings, user_folder

CAMERA = look_at((1.0, 2.0, 3.0), (0.0, 0.0, 0.0), (0.0, -1.0, 0.0), fov_y=0.7)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (45_300, "45.3 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (2_529_478, "2.53 MB"),
        (101_700_000, "102 MB"),
        (7_390_000_000, "7.39 GB"),
    ],
)
def test_sizes_have_three_digits(count, text):
    assert words.size(count) == text


def test_shares_factors_and_times_read_well():
    assert [words.share(value) for value in (1.0, 0.1, 0.125, 0.0123)] == ["100 %", "10 %", "12.5 %", "1.23 %"]
    assert [words.factor(value) for value in (1.5, 39.96, 313.2, 1240.0)] == ["1.50×", "40.0×", "313×", "1,240×"]
    assert [words.seconds(value) for value in (0.042, 1.31)] == ["42 ms", "1.3 s"]
    assert words.decibels(float("inf")) == "identical"


@given(st.lists(st.integers(0, 5), max_size=12))
def test_undoing_everything_leads_to_the_beginning_and_redoing_to_the_end(values):
    history = History("start")
    for value in values:
        history = history.changed(value)
    end = history.now
    for _ in values:
        history = history.undone()
    assert history.now == "start"
    for _ in values:
        history = history.redone()
    assert history.now == end


def test_a_change_after_undo_forgets_what_was_undone():
    history = History(1).changed(2).undone().changed(3)
    assert history.redone() is history and history.undone().now == 1


def test_memory_survives_the_session_and_keeps_the_newest_first():
    memory = Memory().opened("a").opened("b").opened("a").with_up("a", (0.0, 0.0, 1.0)).with_bookmark("a", 3, CAMERA)
    save_memory(memory)
    again = load_memory()
    assert again.recent == ("a", "b") and again.up_of("a") == (0.0, 0.0, 1.0) and again.up_of("b") is None
    assert again.bookmark("a", 3) == CAMERA and again.bookmark("a", 4) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"recent": 5, "scenes": {}}', '{"recent": [], "scenes": 1}'])
def test_a_damaged_memory_is_an_empty_one(text):
    user_folder().mkdir(parents=True)
    (user_folder() / "memory.json").write_text(text)
    assert load_memory() == Memory()


def test_a_picture_brings_its_view_back(tmp_path):
    view = ViewState(
        camera=CAMERA, layout="wipe", wipe=0.3, wipes=(0.2, 0.9), beside="compressed", restoring=True, mode="trust",
        compression=CompressionSettings(keep=0.2),
    )  # fmt: skip
    meta = snapshot_meta(view, "/scenes/a.ply", (0.0, 0.0, 1.0))
    images.write_png(tmp_path / "x.png", torch.zeros(2, 2, 3), json.loads(json.dumps(meta)))
    snapshot = read_snapshot(tmp_path / "x.png")
    assert (snapshot.scene, snapshot.camera, snapshot.up) == ("/scenes/a.ply", CAMERA, (0.0, 0.0, 1.0))
    applied = snapshot.applied(ViewState(size=(7, 7)))
    assert applied == replace(view, camera=None, size=(7, 7))


def test_values_of_a_picture_that_no_longer_fit_are_left_out(tmp_path):
    meta = snapshot_meta(ViewState(camera=CAMERA), "demo", (0.0, -1.0, 0.0))
    meta["view"] |= {"layout": "spiral", "compression": {"keep": 7, "sh_degree": 1}, "wipe": "left", "mode": None}
    images.write_png(tmp_path / "x.png", torch.zeros(2, 2, 3), meta)
    applied = read_snapshot(tmp_path / "x.png").applied(ViewState())
    assert applied.layout == "single" and applied.wipe == 0.5 and applied.mode == "color"
    assert applied.compression == CompressionSettings(sh_degree=1)


def test_a_picture_of_somebody_else_is_refused_in_words(tmp_path):
    images.write_png(tmp_path / "x.png", torch.zeros(2, 2, 3))
    with pytest.raises(SceneError, match=r"x\.png.*no camera"):
        read_snapshot(tmp_path / "x.png")


def test_only_what_changed_in_this_session_is_remembered():
    base = Settings(compression=CompressionSettings(keep=0.3, amplification=1.2))
    given = replace(base, compression=replace(base.compression, keep=0.01))  # By a flag of the command line.
    now = replace(
        given,
        compression=replace(given.compression, amplification=2.0),
        window=replace(WindowSettings(), fly_speed=3.0),
    )
    stored = changed_since(given, now, base)
    assert stored.compression == CompressionSettings(keep=0.3, amplification=2.0)
    assert stored.window == WindowSettings(fly_speed=3.0)


@pytest.mark.parametrize(
    ("values", "sides"),
    [
        ({}, ("compressed",)),
        ({"swapped": True}, ("original",)),
        ({"shown": "original"}, ("original",)),
        ({"shown": "original", "swapped": True}, ("compressed",)),
        ({"restoring": True}, ("restored",)),
        ({"restoring": True, "mode": "depth"}, ("compressed",)),
        ({"layout": "wipe"}, ("original", "compressed")),
        ({"layout": "wipe", "restoring": True}, ("original", "compressed", "restored")),
        ({"layout": "wipe", "restoring": True, "swapped": True}, ("restored", "compressed", "original")),
        ({"layout": "wipe", "restoring": True, "beside": "original"}, ("original", "restored")),
        ({"layout": "side", "restoring": True, "beside": "compressed"}, ("compressed", "restored")),
        ({"layout": "difference", "restoring": True}, ("original", "restored")),
        ({"layout": "difference", "restoring": True, "beside": "compressed"}, ("compressed", "restored")),
        ({"layout": "wipe", "mode": "trust", "restoring": True}, ("original", "compressed", "restored")),
        ({"layout": "difference", "mode": "trust", "restoring": True}, ("restored",)),
        ({"layout": "side", "restoring": True}, ("original", "compressed", "restored")),
        ({"layout": "difference"}, ("original", "compressed")),
    ],
)
def test_every_layout_shows_its_sides(values, sides):
    assert sides_of(ViewState(**values)) == sides
    assert sides_of(ViewState(**values), ready=False) == ("original",)


def test_the_demo_file_name_is_plain():
    assert words.plain_share(0.1) == "10pct" and words.plain_share(0.015) == "1.5pct"
    assert Path(f"x_{words.plain_share(0.0123)}.exgs").suffix == ".exgs"
