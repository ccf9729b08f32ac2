"""What is to be measured, and from where each scene is looked at. All that can be wrong is told here, at once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from exgs_viewer import methods
from exgs_viewer.compress.recovery import Recovery
from exgs_viewer.errors import ExgsError, SceneError
from exgs_viewer.restore import RESTORERS, RIVALS
from exgs_viewer.scene import DEMO, open_scene
from exgs_viewer.scene.camera import Camera, Size, read_cameras

NO_RESTORER = "none"
LONG_SIDE = 960
"""Pixels of the longer side of a picture where the user names no size."""
DEFAULT_ASPECT: Size = (3, 2)
"""Shape of the pictures where the cameras come without one."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    scenes: tuple[str, ...]
    """Scene files, folders, `demo`."""
    folder: Path
    """Where report and results go."""
    cameras: Path | None = None
    """cameras.json for all scenes, or a folder of NAME.json; None takes the cameras that each scene brings."""
    keeps: tuple[float, ...] = (0.1,)
    """Shares of the Gaussians that are kept, in (0, 1]."""
    methods: tuple[str, ...] = ("paper",)
    """Names in methods.METHODS."""
    restorers: tuple[str, ...] = (NO_RESTORER,)
    """Names in restore.RESTORERS or RIVALS, or NO_RESTORER for the compressed picture as it is."""
    reference: Literal["full", "kept"] = "full"
    """The uncut scene with all its SH, or with no more of them than the compressed one has."""
    size: Size | None = None
    """Pixels of each picture; None takes the cameras' shape at LONG_SIDE."""
    backend: str = "auto"
    jobs: int = 1
    """Scenes that are measured at the same time."""
    recovery: Recovery = field(default_factory=Recovery)
    """How `lightgs-refined` trains."""
    temporal: bool = False
    """Whether flicker is measured too."""
    match: str | None = None
    """Method whose bytes at each of `keeps` are the limit for the others; None compares at equal shares."""

    def match_of(self, method: str) -> str | None:
        """The method whose bytes limit those of this one."""
        return None if method == self.match else self.match


@dataclass(frozen=True)
class View:
    """One test camera and the picture that it takes."""

    camera: Camera
    size: Size


@dataclass(frozen=True)
class Case:
    """One scene and from where it is looked at."""

    name: str
    path: str
    """What open_scene takes."""
    views: tuple[View, ...]


@dataclass(frozen=True)
class Row:
    """One figure of the tables: means over the views of a scene."""

    scene: str
    method: str
    restorer: str
    keep: float
    """As in the plan; where bytes are matched, the share that the method keeps which they are matched to."""
    gaussians: int
    bytes: int
    ratio: float
    """Bytes of the uncut scene as a float32 .ply, over `bytes`."""
    psnr: float
    ssim: float
    lpips: float | None
    """None where its weights are not there."""
    flip: float
    seconds: float
    """What compressing took, from the scored scene to the bytes."""
    flicker: float | None = None
    """In [0, 1], see flicker.py; None where it was not measured."""
    flicker_steadied: float | None = None
    """The same with the picture before blended in, as `--steady` does (restore/steady.py)."""
    flicker_before: float | None = None
    """That of the pictures that the restorer was given."""


ROW_FIELDS = tuple(column.name for column in fields(Row))


def cases(plan: Plan) -> list[Case]:
    """The scenes with their views. Raises ExgsError that names the first thing that is wrong."""
    for method in plan.methods:
        methods.find(method)
    if plan.match not in (None, *plan.methods):
        raise ExgsError(
            f"--match {plan.match}: name this method among --methods too, for the others to be compared with."
        )
    for restorer in plan.restorers:
        if restorer not in (known := (NO_RESTORER, *RESTORERS, *RIVALS)):
            raise ExgsError(f"There is no restorer '{restorer}'; there are {', '.join(known)}.")
    for keep in plan.keeps:
        if not 0 < keep <= 1:
            raise ExgsError(f"--keep {keep:g}: a share of the Gaussians lies above 0 and is at most 1.")
    if not plan.scenes:
        raise ExgsError("Name at least one scene to evaluate, or 'demo'.")
    for scene in plan.scenes:
        if scene != DEMO and not Path(scene).exists():
            raise SceneError(f"{scene}: there is no such file.")
    names = _names(plan.scenes)
    return [
        Case(name, scene, views_of(scene, name, plan.cameras, plan.size))
        for name, scene in zip(names, plan.scenes, strict=True)
    ]


def views_of(scene: str, name: str, cameras: Path | None, size: Size | None) -> tuple[View, ...]:
    """The test views of a scene. Raises SceneError where it has none or their file is broken."""
    file = _camera_file(scene, name, cameras)
    if file:
        views = tuple(
            View(camera, size or _fitted(*shape))
            for camera, shape in zip(read_cameras(file), _shapes(file), strict=True)
        )
    else:
        views = tuple(View(camera, size or _fitted(*DEFAULT_ASPECT)) for camera in open_scene(scene).cameras)
    if not views:
        raise SceneError(
            f"{scene}: there are no cameras to look from; give --cameras a cameras.json or a folder with {name}.json."
        )
    return views


def _names(scenes: tuple[str, ...]) -> list[str]:
    """A short name for each scene: its file without suffixes, with the folder before it where two would be alike."""
    paths = [Path(scene) for scene in scenes]
    short = [path.name.partition(".")[0] or path.name for path in paths]
    counts = Counter(short)
    long = [f"{path.resolve().parent.name}-{name}" for path, name in zip(paths, short, strict=True)]
    names = [name if counts[name] == 1 else longer for name, longer in zip(short, long, strict=True)]
    for name, count in Counter(names).items():
        if count > 1:
            raise ExgsError(f"{count} of the scenes are called {name}; name each scene once, or rename a file.")
    return names


def _camera_file(scene: str, name: str, cameras: Path | None) -> Path | None:
    """Where the cameras of a scene are written; None where the scene itself has to say."""
    if cameras is None:
        path = Path(scene)
        beside = (path if path.is_dir() else path.parent) / "cameras.json"
        return beside if scene != DEMO and beside.is_file() else None
    if not cameras.is_dir():
        return cameras
    for candidate in (name, Path(scene).resolve().parent.name):
        if (cameras / f"{candidate}.json").is_file():
            return cameras / f"{candidate}.json"
    there = ", ".join(sorted(path.stem for path in cameras.glob("*.json"))) or "none"
    raise SceneError(f"{cameras}: there is no {name}.json for {scene} in this folder; there are {there}.")


def _shapes(file: Path) -> list[Size]:
    """Width and height of each camera of a cameras.json that has been read once already."""
    entries = json.loads(file.read_text())
    try:
        return [(int(entry["width"]), int(entry["height"])) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{file}: its cameras do not say the width and height of their pictures ({error}).") from error


def _fitted(width: int, height: int) -> Size:
    """The same shape with LONG_SIDE pixels along the longer side."""
    longer = max(width, height)
    return max(1, round(width * LONG_SIDE / longer)), max(1, round(height * LONG_SIDE / longer))
