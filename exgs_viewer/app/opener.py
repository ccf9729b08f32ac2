"""From a path to an open scene: a scene's own, or that of a picture made here, which brings its view along."""

from __future__ import annotations

from pathlib import Path

from exgs_viewer.app.diary import Diary
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.memory import key_of
from exgs_viewer.app.notices import Notices
from exgs_viewer.app.snapshot import Snapshot, read_snapshot
from exgs_viewer.errors import ExgsError


class Opener:
    """Holds the view of a picture until its scene is open."""

    def __init__(self, engine: Engine, notices: Notices, diary: Diary):
        self._engine, self._notices, self._diary = engine, notices, diary
        self._waiting: Snapshot | None = None

    def open(self, path: str) -> Snapshot | None:
        """Have the scene of `path` opened; where that is a picture of the open scene, only its view is to be taken.

        Raises ExgsError for a picture that brings none, or whose scene is gone.
        """
        if not path.lower().endswith(".png"):
            self._open(path, None)
            return None
        picture = Path(path)
        snapshot, scene = read_snapshot(picture), self._engine.scene
        opened = key_of(scene.path) if scene else None
        wanted = _scene_to_open(snapshot, picture, opened)
        if wanted is not None:
            self._open(wanted, snapshot)
            return None
        same = opened == snapshot.scene
        self._notices.say(
            f"The view of {picture.name}." if same else f"{snapshot.scene} is gone; its view, in this scene."
        )
        return snapshot

    def _open(self, path: str, snapshot: Snapshot | None) -> None:
        self._waiting = snapshot
        key = "demo" if path == "demo" and not Path(path).exists() else key_of(Path(path))
        up = snapshot.up if snapshot else self._diary.memory.up_of(key)
        self._notices.say(f"Opening {path} …")
        self._notices.progress("open", 0.0, f"Opening {Path(path).name}")
        self._engine.open(path, up)

    def taken(self) -> Snapshot | None:
        """A scene is open now: the view that has waited for it."""
        snapshot, self._waiting = self._waiting, None
        return snapshot


def _scene_to_open(snapshot: Snapshot, path: Path, opened: str | None) -> str | None:
    """The scene that the picture at `path` needs; None where the one that is `opened` has to do.

    That is so for the same scene, and where the right one is gone. Raises ExgsError where there is neither.
    """
    there = snapshot.scene == "demo" or Path(snapshot.scene).exists()
    if opened is not None and (opened == snapshot.scene or not there):
        return None
    if not there:
        raise ExgsError(f"{path}: the scene it shows ({snapshot.scene}) is not there; open it, then drop this again.")
    return snapshot.scene
