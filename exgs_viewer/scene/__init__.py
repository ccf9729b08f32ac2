"""What we look at, and from where. open_scene / save_scene: a table from a file's suffix to its format module."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.camera import Camera, Vector, read_cameras
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import Report, quiet


@dataclass(frozen=True, eq=False)
class Scene:
    """A cloud with what its file said about it."""

    cloud: GaussianCloud
    """The splats."""
    path: Path | None
    """Where it came from; None for the built-in demo."""
    format: str
    """`ply`, `splat`, `sog`, `exgs`, `demo` ..."""
    bytes: int
    """Size of everything that was read; for the demo, its size as a .ply."""
    up: Vector | None = None
    """Unit vector that points up, where the file says so."""
    cameras: tuple[Camera, ...] = ()
    """Views that came with the file (cameras.json beside it, or stored inside)."""
    warnings: tuple[str, ...] = ()
    """One sentence for each thing that was dropped, cut or guessed."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Whatever else the file says, plain JSON values."""


FORMATS = {
    ".ply": "exgs_viewer.scene.ply",
    ".splat": "exgs_viewer.scene.splat",
    ".spz": "exgs_viewer.scene.spz",
    ".sog": "exgs_viewer.scene.sog",
    ".json": "exgs_viewer.scene.sog",
    ".exgs": "exgs_viewer.scene.exgs",
}
"""Every format: a module with `read(path, report) -> Scene` and, where it can be written, `write(path, cloud, ...)`."""

DEMO = "demo"
"""The name under which the built-in demo room is opened."""


def open_scene(path: str | Path, report: Report = quiet) -> Scene:
    """Read a scene file, a folder of SOG chunks, or the built-in `demo`.

    A cameras.json beside the file fills `cameras`; where it is broken, that is a warning.
    Raises SceneError with one sentence that names file and problem.
    """
    if str(path) == DEMO and not Path(path).exists():
        return import_module("exgs_viewer.scene.demo").read(report)
    path = Path(path)
    if not path.exists():
        raise SceneError(f"{path}: there is no such file.")
    module = "exgs_viewer.scene.sog" if path.is_dir() else FORMATS.get(path.suffix.lower())
    if module is None:
        raise SceneError(f"{path}: '{path.suffix}' is no scene format known here; use {', '.join(FORMATS)}.")
    scene = import_module(module).read(path, report)
    beside = (path if path.is_dir() else path.parent) / "cameras.json"
    if scene.cameras or not beside.is_file():
        return scene
    try:
        return replace(scene, cameras=tuple(read_cameras(beside)))
    except SceneError as error:
        return replace(scene, warnings=(*scene.warnings, str(error)))


def save_scene(
    path: str | Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet
) -> int:
    """Write a cloud in the format of the path's suffix, atomically; returns the bytes written.

    Raises SceneError where that format cannot be written or the disk refuses.
    """
    path = Path(path)
    module = import_module(FORMATS[path.suffix.lower()]) if path.suffix.lower() in FORMATS else None
    if not hasattr(module, "write"):
        raise SceneError(f"{path}: '{path.suffix}' cannot be written; use .exgs, .ply or .splat.")
    try:
        return module.write(path, cloud, meta or {}, report)
    except OSError as error:
        raise SceneError(f"{path}: cannot be written ({error.strerror or error}).") from error
