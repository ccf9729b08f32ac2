"""What the window remembers beside the settings: recent files, and for each scene its up axis and bookmarks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.settings import user_folder, write_atomically

RECENT = 8
SCENES = 200
"""Scenes whose up axis and bookmarks are kept; the oldest go first."""


@dataclass(frozen=True)
class Memory:
    """Plain values; every change makes a new one."""

    recent: tuple[str, ...] = ()
    """Paths, newest first."""
    scenes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per path: `up` and `bookmarks`, as JSON values."""

    def opened(self, path: str) -> Memory:
        """`path` was opened just now."""
        rest = [other for other in self.recent if other != path]
        return replace(self, recent=(path, *rest)[:RECENT])

    def up_of(self, path: str) -> Vector | None:
        """The up axis the user chose for a scene."""
        up = self.scenes.get(path, {}).get("up")
        return tuple(up) if up else None

    def with_up(self, path: str, up: Vector) -> Memory:
        return self._with(path, "up", list(up))

    def bookmark(self, path: str, number: int) -> Camera | None:
        """The camera stored under a number, 1 to 9."""
        stored = self.scenes.get(path, {}).get("bookmarks", {}).get(str(number))
        return camera_from(stored) if stored else None

    def bookmarks(self, path: str) -> list[Camera]:
        """All cameras stored for a scene, by their numbers."""
        cameras = (self.bookmark(path, number) for number in range(1, 10))
        return [camera for camera in cameras if camera is not None]

    def with_bookmark(self, path: str, number: int, camera: Camera) -> Memory:
        marks = {**self.scenes.get(path, {}).get("bookmarks", {}), str(number): asdict(camera)}
        return self._with(path, "bookmarks", marks)

    def _with(self, path: str, name: str, value: Any) -> Memory:
        scenes = {other: known for other, known in self.scenes.items() if other != path}
        scenes[path] = {**self.scenes.get(path, {}), name: value}
        return replace(self, scenes=dict(list(scenes.items())[-SCENES:]))


def camera_from(stored: dict[str, Any]) -> Camera | None:
    """A camera from its JSON form; None where the values make none."""
    try:
        position, rotation = map(float, stored["position"]), map(float, stored["rotation"])
        camera = Camera(tuple(position), tuple(rotation), float(stored["fov_y"]))
    except (KeyError, TypeError, ValueError):
        return None
    return camera if len(camera.position) == 3 and len(camera.rotation) == 4 and 0 < camera.fov_y < 3.14 else None


def load_memory() -> Memory:
    """What was remembered last time; nothing where the file is missing or damaged."""
    try:
        stored = json.loads((user_folder() / "memory.json").read_text())
        recent = tuple(path for path in stored["recent"] if isinstance(path, str))
        scenes = {path: known for path, known in stored["scenes"].items() if isinstance(known, dict)}
        return Memory(recent[:RECENT], scenes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Memory()


def save_memory(memory: Memory) -> None:
    """Remember for the next session."""
    write_atomically(user_folder() / "memory.json", json.dumps(asdict(memory), indent=1).encode())


def key_of(path: Path | None) -> str:
    """How a scene is called here: its absolute path, or `demo`."""
    return str(Path(path).resolve()) if path else "demo"


def changed_since(given: Any, now: Any, base: Any) -> Any:
    """`base` with the fields in which `now` differs from `given`, nested values field by field."""
    changes = {}
    for item in fields(given):
        before, after, old = (getattr(value, item.name) for value in (given, now, base))
        if is_dataclass(before):
            changes[item.name] = changed_since(before, after, old)
        elif after != before:
            changes[item.name] = after
    return replace(base, **changes)
