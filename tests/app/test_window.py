"""The real window with real events from outside, under Xvfb or on a desktop."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from exgs_viewer.images import read_picture, read_png_metadata
from exgs_viewer.scene import open_scene, ply
from exgs_viewer.scene.camera import look_at, write_cameras
from exgs_viewer.scene.cloud import GaussianCloud

pytestmark = [
    pytest.mark.screen,
    pytest.mark.skipif(not shutil.which("xdotool"), reason="no xdotool; `python3 run_viewer.py test` installs it"),
]
LONG = 270
PROGRAM = """
import sys, pathlib
import dearpygui.dearpygui as dpg
from exgs_viewer.app import panels, session, window
from exgs_viewer.settings import Settings, WindowSettings

# What the window believes is told outside, line by line: the test waits for it instead of sleeping.
def told(function):
    def wrapper(self):
        state = function(self)
        line = repr((state.scored, state.view.compression.keep, state.view.layout, state.view.restoring,
                     state.told.text, state.size, self.engine.settled, self.view.swapped, self.nav and
                     tuple(round(part, 4) for part in self.nav.camera.position), self.view.wipes, self.view.mode))
        if line != getattr(self, "last_line", None):
            self.last_line = line
            print(line, flush=True)
        return state
    return wrapper

def placed(function):
    def wrapper(self, state):
        function(self, state)
        items = {"slider": self._knobs["keep"].slider, "field": self._knobs["keep"].field,
                 "limit": self._limit.field}
        corners = {name: (dpg.get_item_rect_min(item), dpg.get_item_rect_size(item)) for name, item in items.items()}
        middles = {name: [a + b / 2 for a, b in zip(*corner)] for name, corner in corners.items()}
        if middles["slider"][0] > 0:
            pathlib.Path("places.new").write_text(repr(middles))
            pathlib.Path("places.new").replace("places.txt")  # Never half-written for whoever reads it.
    return wrapper

panels.Panels.show = placed(panels.Panels.show)
session.Session.panel = told(session.Session.panel)
if "--raw" in sys.argv:
    sys.argv.remove("--raw")
    from exgs_viewer.app import desk, sinks
    desk.open_sink = sinks.RawTexture
shot = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
settings = Settings(window=WindowSettings(width=1000, height=780))
sys.exit(window.run(settings, sys.argv[1], shot, 5))
"""
PANEL, STATUS = 348, 30
"""Pixels of the panel and the status line at scale 1."""


class Running:
    """A window in a process of its own, told what to do by xdotool."""

    def __init__(self, folder: Path, *arguments: str):
        self._folder = folder
        self._out = (folder / "out.txt").open("w+")
        environment = {**os.environ, "EXGS_HOME": str(folder / "home"), "HOME": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            stdout=self._out,
            stderr=subprocess.STDOUT,
        )
        self.window = ""

    def lines(self) -> list[tuple]:
        whole = (self._folder / "out.txt").read_text().split("\n")[:-1]  # The last line may still be growing.
        return [ast.literal_eval(line) for line in whole if line.startswith("(")]

    def until(self, wanted, what: str, quiet: float = 0.0) -> tuple:
        """Wait until the newest state fulfils `wanted` and has been the newest for `quiet` seconds."""
        deadline, count, since = time.monotonic() + LONG, 0, 0.0
        while time.monotonic() < deadline:
            lines = self.lines()
            if len(lines) != count:
                count, since = len(lines), time.monotonic()
            if lines and wanted(lines[-1]) and time.monotonic() - since >= quiet:
                return lines[-1]
            assert self.process.poll() is None, (self._folder / "out.txt").read_text()[-2000:]
            time.sleep(0.05)
        raise AssertionError(f"waited for {what}; the last states were {self.lines()[-3:]}")

    def do(self, *words: object) -> str:
        done = subprocess.run(["xdotool", *map(str, words)], check=True, timeout=LONG, capture_output=True, text=True)
        return done.stdout

    def to(self, x: float, y: float) -> None:
        """Move the mouse to a place inside the window."""
        if not self.window:
            self.window = self.do("search", "--sync", "--name", "exgs viewer").split()[0]
        self.do("mousemove", "--window", self.window, round(x), round(y))

    def drag(self, start: tuple, end: tuple, button: int = 1, steps: int = 12) -> None:
        self.to(*start)
        time.sleep(0.2)
        self.do("mousedown", button)
        for step in range(1, steps + 1):
            self.to(*(a + (b - a) * step / steps for a, b in zip(start, end, strict=True)))
            time.sleep(0.03)
        time.sleep(0.2)
        self.do("mouseup", button)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(LONG)
        self._out.close()


SCORED, KEEP, LAYOUT, RESTORING, TOLD, SIZE, SETTLED, SWAPPED, PLACE, WIPES, MODE = range(11)


@pytest.fixture
def scene(tmp_path):
    """A .ply of a cube, red at the left and green at the right, with the camera that sees it so beside it."""
    n, generator = 6000, torch.Generator().manual_seed(1)
    means = torch.rand(n, 3, generator=generator) * 2 - 1
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1
    sh = torch.full((n, 1, 3), -1.7)
    sh[means[:, 0] < 0, 0, 0] = sh[means[:, 0] > 0, 0, 1] = 1.7
    cloud = GaussianCloud(means, torch.full((n, 3), 0.08), quats, torch.full((n,), 0.95), sh)
    ply.write(tmp_path / "box.ply", cloud)
    camera = look_at((0.0, 0.0, -4.0), (0.0, 0.0, 0.0), up=(0.0, -1.0, 0.0), fov_y=0.9)
    write_cameras(tmp_path / "cameras.json", [camera], (640, 480))
    return tmp_path / "box.ply"


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(*arguments) -> Running:
        running.append(Running(tmp_path, *map(str, arguments)))
        return running[-1]

    yield begin
    for one in running:
        one.close()


@pytest.mark.parametrize("sink", [[], ["--raw"]], ids=["fast texture", "raw texture"])
def test_the_screenshot_for_scripts_shows_panel_and_picture(start, scene, tmp_path, sink):
    window = start(scene, tmp_path / "shot.png", *sink)
    assert window.process.wait(LONG) == 0
    picture = read_picture(tmp_path / "shot.png").numpy()
    height, width = picture.shape[:2]
    assert (width, height) == (1000, 780)
    panel, view = picture[: height - STATUS, :PANEL], picture[: height - STATUS, PANEL:]
    assert panel.std() > 0.05 and np.median(panel) < 0.2, "a dark panel with writing"
    red, green = view[300:450, 220:290].mean((0, 1)), view[300:450, 360:430].mean((0, 1))
    assert red[0] > 0.3 > 0.1 > red[1], "the cube's left side, the right way round"
    assert green[1] > 0.3 > 0.1 > green[0], "its right side"
    assert view[-60:, :60].max() < 0.1 and view[-60:, -60:].max() < 0.1, "nothing in the corners"


def test_the_window_may_change_its_size(start, scene):
    window = start(scene, "--raw")
    window.until(lambda now: now[SCORED] and now[SETTLED], "the scored scene at rest")
    window.to(PANEL + 100, 100)
    for size in ((1300, 700), (700, 600), (1100, 800)):
        window.do("windowsize", window.window, *size)
        time.sleep(0.3)
    window.do("key", "c")
    window.until(lambda now: now[LAYOUT] == "side" and now[SETTLED], "a picture in the new size")


def test_what_glfw_offers_beside_dear_pygui_is_still_there(tmp_path):
    program = """
import dearpygui.dearpygui as dpg
from exgs_viewer.app.glfw import Glfw
from exgs_viewer.app.sinks import GlTexture

dpg.create_context()
dpg.create_viewport(title="pin", width=300, height=200)
dpg.setup_dearpygui()
dpg.show_viewport()
dpg.render_dearpygui_frame()
glfw = Glfw()
assert glfw.works and glfw.scale() > 0
glfw.wake()
assert glfw.wait(30), "waking ends waiting"
dropped = []
glfw.on_drop(dropped.extend)
import ctypes
glfw._drop(None, 2, (ctypes.c_char_p * 2)(b"/a b.ply", "/\u00fc.ply".encode()))
assert dropped == ["/a b.ply", "/\u00fc.ply"], dropped
GlTexture(dpg.add_texture_registry())
dpg.destroy_context()
"""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LONG,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_scene_ends_the_script_with_its_reason(start, tmp_path):
    window = start("nothing.ply", tmp_path / "shot.png")
    assert window.process.wait(LONG) == 1
    assert "SceneError: nothing.ply: there is no such file." in (tmp_path / "out.txt").read_text()


def test_dragging_typing_comparing_and_saving_with_real_events(start, scene, tmp_path):
    window = start(scene)
    state = window.until(lambda now: now[SCORED] and now[SETTLED], "the scored scene at rest")
    middle = (PANEL + 300, 350)

    # The picture turns when it is dragged.
    window.drag(middle, (middle[0] + 120, middle[1]))
    # A slow machine may rest between two of the drag's steps, too.
    turned = window.until(lambda now: now[PLACE] != state[PLACE] and now[SETTLED], "a turned camera", quiet=0.7)

    # The retention slider follows the mouse.
    x, y = knob(tmp_path, "slider")
    window.drag((x, y), (x + 25, y))
    dragged = window.until(lambda now: now[KEEP] != turned[KEEP] and now[SETTLED], "another retention")
    assert dragged[KEEP] > turned[KEEP] and dragged[PLACE] == turned[PLACE]
    assert re.fullmatch(r"[\d.]+ [kM]?B", dragged[SIZE]), "an exact size"

    # What is typed into a field does not fly, compare or recall bookmarks.
    x, y = knob(tmp_path, "field")
    window.to(x, y)
    window.do("click", 1)
    time.sleep(0.3)
    window.do("key", "--delay", 60, "ctrl+a", "2", "5", "c", "w", "r")
    window.do("key", "Return")
    typed = window.until(lambda now: now[KEEP] == 0.25 and now[SETTLED], "the typed retention")
    assert (typed[PLACE], typed[LAYOUT], typed[RESTORING]) == (dragged[PLACE], "wipe", False)

    # Keys over the picture do.
    window.to(*middle)
    time.sleep(0.3)
    for layout in ("side", "difference", "single", "wipe"):
        window.do("key", "c")
        window.until(lambda now, layout=layout: now[LAYOUT] == layout, layout)
    window.do("keydown", "Tab")
    window.until(lambda now: now[SWAPPED], "the other side")
    window.do("keyup", "Tab")
    window.until(lambda now: not now[SWAPPED], "this side again")
    window.do("keydown", "w")
    time.sleep(0.3)
    window.do("keyup", "w")
    window.until(lambda now: now[PLACE] != typed[PLACE] and now[SETTLED], "a flown camera")

    # F12 saves the picture with what it shows.
    window.do("key", "F12")
    window.until(lambda now: "Saved" in now[TOLD], "the saved picture")
    (png,) = tmp_path.glob("box_*.png")
    picture, meta = read_picture(png), read_png_metadata(png)
    assert tuple(picture.shape) == (780 - STATUS, 1000 - PANEL, 3)
    assert meta["view"]["compression"]["keep"] == 0.25 and meta["scene"] == str(scene)
    assert float(picture.std()) > 0.03


def test_whoever_has_a_size_in_mind_types_it(start, scene, tmp_path):
    window = start(scene)
    before = window.until(lambda now: now[SCORED] and now[SETTLED], "the scored scene at rest")
    window.to(*knob(tmp_path, "limit"))
    window.do("click", 1)
    time.sleep(0.3)
    window.do("key", "--delay", 60, "7", "k", "b", "Return")
    fitted = window.until(lambda now: now[KEEP] != before[KEEP] and now[SETTLED], "a size that fits", quiet=0.7)
    assert 6.85 <= float(fitted[SIZE].removesuffix(" kB")) <= 7.0 and fitted[PLACE] == before[PLACE]


def test_a_quick_hand_moves_the_slider_and_nothing_else(start, scene, tmp_path):
    """It comes from the picture and has pressed before the resting window draws another frame."""
    window = start(scene)
    window.until(lambda now: now[SCORED] and now[SETTLED], "the scored scene at rest")
    window.to(PANEL + 300, 350)
    before = window.until(lambda now: now[SETTLED], "the scene at rest", quiet=2.0)
    x, y = knob(tmp_path, "slider")
    window.do("mousemove", "--window", window.window, x, y, "mousedown", 1)
    time.sleep(0.3)
    window.to(x - 20, y)
    time.sleep(0.3)
    window.do("mouseup", 1)
    after = window.until(lambda now: now[KEEP] != before[KEEP] and now[SETTLED], "another retention", quiet=0.7)
    assert after[PLACE] == before[PLACE], "the camera stays where it is"


def test_three_sides_have_two_handles_and_t_shows_what_was_changed(start, scene):
    window = start(scene)
    window.until(lambda now: now[SCORED] and now[SETTLED], "the scored scene at rest")
    window.to(PANEL + 300, 350)
    time.sleep(0.3)
    width = 1000 - PANEL
    window.do("key", "r")
    three = window.until(lambda now: now[RESTORING] and now[SETTLED], "the restored picture")
    handle = (PANEL + width * three[WIPES][1], 600)
    window.drag(handle, (handle[0] + 80, handle[1]))
    dragged = window.until(lambda now: now[WIPES] != three[WIPES] and now[SETTLED], "a dragged handle")
    assert dragged[WIPES][0] == three[WIPES][0] and abs(dragged[WIPES][1] - three[WIPES][1] - 80 / width) < 0.02
    assert dragged[PLACE] == three[PLACE]
    window.do("key", "t")
    window.until(lambda now: now[MODE] == "trust" and now[SETTLED], "the trust map")
    window.do("key", "r")
    window.until(lambda now: now[MODE] == "color" and not now[RESTORING] and now[SETTLED], "the compressed picture")


def test_the_compressed_scene_is_exported_by_a_key(start, scene, tmp_path):
    window = start(scene)
    window.until(lambda now: now[SCORED] and now[SIZE] not in ("", "…"), "a compressed scene")
    window.to(PANEL + 300, 350)
    window.do("key", "ctrl+x")
    time.sleep(1)
    window.do("key", "Return")
    window.until(lambda now: "Saved" in now[TOLD], "the exported scene")
    assert len(open_scene(tmp_path / "box_10pct.ply").cloud) == 600


def knob(folder: Path, part: str) -> tuple[int, int]:
    """Where the retention slider or its field stands: the panel writes it down for the test."""
    places = ast.literal_eval((folder / "places.txt").read_text())
    return places[part]
