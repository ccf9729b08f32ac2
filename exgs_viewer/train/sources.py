"""Where training scenes come from: a folder of trained ones, the demo room, and numbers (scenes.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import DEMO, FORMATS, open_scene
from exgs_viewer.scene.camera import Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import guess_up
from exgs_viewer.train.scenes import UP, gathered, make_scene
from exgs_viewer.train.textures import Palette

MADE, GATHERED = "made-", "gathered-"
"""`made-17` is scene number 17 made by code, `gathered-4` the fourth gathering of trained objects."""


@dataclass(frozen=True, eq=False)
class Source:
    """One scene to take pictures of."""

    name: str
    cloud: GaussianCloud
    up: Vector


class Sources:
    """Opens training scenes by name."""

    def __init__(self, scenes: Path | None, photos: Path | None) -> None:
        """`scenes` is a folder of scene files. Where it has an index.json, only entries with `"use": "train"` count,
        so that scenes kept for measuring are never trained on. `photos` as in Palette. Raises SceneError."""
        self.trained = _trained(Path(scenes)) if scenes else {}
        self.palette = Palette(photos)

    def names(self, made: int, gatherings: int) -> list[str]:
        """All names: real scenes and the demo, mixed with `made` made ones and `gatherings` of objects."""
        groups = (
            [*self.trained, DEMO],
            [f"{MADE}{number}" for number in range(made)],
            [f"{GATHERED}{number}" for number in range(gatherings if self.trained else 0)],
        )
        places = sorted((i / len(group), name) for group in groups for i, name in enumerate(group))
        return [name for _, name in places]

    def is_made(self, name: str) -> bool:
        """Whether it comes out of scenes.py."""
        return name.startswith((MADE, GATHERED))

    def open(self, name: str) -> Source:
        """Raises SceneError where there is none of that name."""
        if name.startswith(MADE):
            return Source(name, make_scene(int(name.removeprefix(MADE)), self.palette), UP)
        if name.startswith(GATHERED):
            return self._gather(int(name.removeprefix(GATHERED)))
        if name == DEMO:
            scene = open_scene(DEMO)
        elif name in self.trained:
            scene = open_scene(self.trained[name])
        else:
            raise SceneError(f"There is no training scene named '{name}'; choose of {', '.join(self.trained)}.")
        return Source(name, scene.cloud, scene.up or guess_up(scene.cloud))

    def _gather(self, number: int) -> Source:
        """One to three trained objects, two times of three with a made scene around them."""
        random = np.random.default_rng([number, 777])
        chosen = random.choice(sorted(self.trained), min(len(self.trained), int(random.integers(1, 4))), replace=False)
        objects = [open_scene(self.trained[str(name)]).cloud for name in chosen]
        around = make_scene(10_000 + number, self.palette) if number % 3 else None
        return Source(f"{GATHERED}{number}", gathered(objects, around, number), UP)


def _trained(folder: Path) -> dict[str, Path]:
    """Name -> file or folder of every scene that may be trained on."""
    try:
        index = json.loads((folder / "index.json").read_text())["scenes"]
    except FileNotFoundError:
        found = {path.name.partition(".")[0]: path for path in sorted(folder.glob("*")) if path.suffix in FORMATS}
    except (OSError, ValueError, KeyError) as error:
        raise SceneError(f"{folder / 'index.json'}: cannot be read as a list of scenes ({error}).") from error
    else:
        usable = {name: entry["files"][0] for name, entry in index.items() if entry.get("use") == "train"}
        # Chunks of one scene are `name/*/meta.json`; open_scene joins them when given the folder.
        found = {name: folder / file.partition("/*")[0] for name, file in usable.items()}
    if not found:
        raise SceneError(f"{folder}: there is no scene in it that may be trained on.")
    return found
