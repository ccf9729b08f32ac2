"""What we look at, and from where. open_scene / save_scene: tables from a file's suffix to its format module."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.camera import Camera, Vector, read_cameras
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings, Report, quiet


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

    @property
    def antialiased(self) -> bool:
        """Whether the file says that it was trained to be drawn so (RenderSettings.antialiased)."""
        return bool(self.meta.get("antialias"))


FORMATS = {
    ".ply": "exgs_viewer.scene.ply",
    ".splat": "exgs_viewer.scene.splat",
    ".spz": "exgs_viewer.scene.spz",
    ".sog": "exgs_viewer.scene.sog",
    ".json": "exgs_viewer.scene.sog",
    ".exgs": "exgs_viewer.scene.exgs",
}
"""Every format that is read, by suffix: a module with `read(path, report) -> Scene`."""

WRITERS = {
    ".exgs": "exgs_viewer.scene.exgs",
    ".compressed.ply": "exgs_viewer.scene.compressed_ply",
    ".ply": "exgs_viewer.scene.ply",
    ".spz": "exgs_viewer.scene.spz",
    ".splat": "exgs_viewer.scene.splat",
    ".sog": "exgs_viewer.scene.sog_write",
}
"""Every format that is written, by the end of the file's name, longer ends before those they end in.

A module with `write(path, cloud, meta, report) -> bytes written` and, where the format cannot hold every scene,
`losses(scene) -> sentences`.
"""

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


@dataclass(frozen=True)
class Written:
    """What became of a scene that was saved."""

    bytes: int
    """Size of the file."""
    warnings: tuple[str, ...] = ()
    """One sentence for each thing that has no place in the format and was left out or brought to its limits."""


def save_scene(path: str | Path, scene: Scene | GaussianCloud, report: Report = quiet) -> Written:
    """Write a scene or a mere cloud in the format of the path's suffix, atomically.

    Raises SceneError where that format cannot be written, there is nothing to write, or the disk refuses.
    """
    path, suffix = Path(path), written_suffix(path)
    module = import_module(WRITERS[suffix])
    scene = scene if isinstance(scene, Scene) else Scene(scene, None, "cloud", scene.ply_bytes)
    if len(scene.cloud) == 0:
        raise SceneError(f"{path}: the scene holds no Gaussians, so there is nothing to write.")
    try:
        size = _write_exgs(path, scene, report) if suffix == ".exgs" else _write(module, path, scene, report)
    except OSError as error:
        raise SceneError(f"{path}: cannot be written ({error.strerror or error}).") from error
    losses = getattr(module, "losses", None)
    return Written(size, tuple(losses(scene)) if losses else ())


def written_suffix(path: str | Path) -> str:
    """The key of WRITERS that the path's name ends in. Raises SceneError that lists what can be written."""
    path = Path(path)
    for suffix in WRITERS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise SceneError(f"{path}: '{path.suffix}' cannot be written; use {', '.join(WRITERS)}.")


def _write(module: ModuleType, path: Path, scene: Scene, report: Report) -> int:
    # `Name: value` describes the splats; other comments name the program that wrote the file they come from.
    comments = [line for line in scene.meta.get("comments", ()) if ":" in line]
    return module.write(path, scene.cloud, {**scene.meta, "comments": comments, "up": scene.up}, report)


def _write_exgs(path: Path, scene: Scene, report: Report) -> int:
    """The only format of which there are several qualities: whoever keeps every Gaussian wants the best."""
    from exgs_viewer.scene import exgs

    settings = CompressionSettings(keep=1.0, sh_degree=scene.cloud.sh_degree, quality="high")
    return exgs.write(path, scene.cloud, exgs.metadata(scene, settings), report, settings)
