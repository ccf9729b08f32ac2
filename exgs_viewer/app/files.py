"""Names for new files: beside the scene where one may write there, else in the current folder."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from exgs_viewer.scene import WRITERS, Scene


def beside(scene: Scene | None, ending: str) -> Path:
    """The scene's own name with another ending."""
    path = scene.path.resolve() if scene and scene.path else Path.cwd() / "demo"
    name = path.parent.name if path.name == "meta.json" else path.stem
    folder = path.parent if os.access(path.parent, os.W_OK) else Path.cwd()
    return folder / f"{name}{ending}"


def ended(path: Path, ending: str) -> Path:
    """`path`, with `ending` added where it does not end so."""
    return path if path.suffix.lower() == ending else path.with_name(path.name + ending)


def with_suffix(name: str, suffix: str) -> str:
    """A file's name with the end that asks for another format; longer ends go before those they end in."""
    known = next((end for end in WRITERS if name.lower().endswith(end)), "")
    return name[: len(name) - len(known)] + suffix


def picture_path(scene: Scene | None, ending: str = ".png") -> Path:
    """A name for a picture, or a video, taken now."""
    return beside(scene, f"_{datetime.now():%Y%m%d_%H%M%S}{ending}")
