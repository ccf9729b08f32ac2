"""With everything real: the bytes that the window tells and the scene that it shows are those of the saved file."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from exgs_viewer import pipeline
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.state import Failed, Saved, SceneOpened, ViewState
from exgs_viewer.scene import exgs, save_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import CompressionSettings
from tests.conftest import random_cloud

CAMERAS = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in ((0.4, 0, -3), (3, 0.2, 0), (-3, 0, 0.1))]


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr(pipeline, "scoring_views", lambda cloud, up: CAMERAS)
    engine = Engine("cpu")
    yield engine
    engine.close()


def until(engine, view, done):
    """Show `view` until `done()` or an event of a kind `done` comes; the view with its camera, and the last event."""
    began = time.monotonic()
    while time.monotonic() < began + 90:
        for event in engine.poll():
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, SceneOpened):
                view = replace(view, camera=event.camera)
            if isinstance(done, type) and isinstance(event, done):
                return view, event
        engine.show(view)
        if not isinstance(done, type) and done():
            return view, None
        time.sleep(0.005)
    raise AssertionError("it never came")


@pytest.mark.parametrize("keep", [0.03, 0.3])
def test_what_is_told_and_shown_is_what_is_saved(engine, tmp_path, keep):
    save_scene(tmp_path / "ball.ply", random_cloud(3000, sh_degree=1))
    compression = CompressionSettings(keep=keep)
    engine.open(str(tmp_path / "ball.ply"))
    view, _ = until(engine, ViewState(size=(96, 64), compression=compression), SceneOpened)
    view, _ = until(engine, view, lambda: engine.ready and engine.settled)
    told, reduced = engine._sizes.of(compression), engine._reducer.exact(compression)
    assert told.exact and reduced.final
    engine.save(tmp_path / "small.exgs", view)
    _, saved = until(engine, view, Saved)
    assert saved.bytes == told.bytes == (tmp_path / "small.exgs").stat().st_size
    found = exgs.read(tmp_path / "small.exgs")
    meant = pipeline.settled(engine._reducer.prepared, compression)
    assert found.meta["compression"]["coarser"] == meant.coarser != 0
    for name in ("means", "scales", "opacities", "sh"):
        one, other = (
            getattr(each, name).reshape(len(each), -1).sort(0).values for each in (found.cloud, reduced.shown)
        )
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-6), name
