"""What several commands share: the types of their flags, checks before the long work, opening and compressing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_type_hints

from exgs_viewer.errors import ExgsError
from exgs_viewer.settings import PRESETS, CompressionSettings, RestoreSettings, Settings, part
from exgs_viewer.terminal import progress, timed

if TYPE_CHECKING:  # torch takes a second to import; `exgs --help` must not wait for it.
    from exgs_viewer.pipeline import Stage
    from exgs_viewer.render import Renderer
    from exgs_viewer.restore.scene_filter import SceneFilter
    from exgs_viewer.scene import Scene
    from exgs_viewer.scene.camera import Camera

Backend = get_type_hints(Settings)["backend"]
Restorer = get_type_hints(RestoreSettings)["restorer"]
Preset = Literal[tuple(PRESETS)]
DEMO = "demo"
"""The built-in room: scene.DEMO, whose import would bring torch."""


def check_there(scene: str) -> None:
    if scene != DEMO and not Path(scene).exists():
        raise ExgsError(f"{scene}: there is no such file.")


def check_output(path: Path, suffix: str) -> None:
    """Tell before the long work what would be told after it."""
    if path.suffix.lower() != suffix:
        raise ExgsError(f"{path}: the file to write must end in {suffix}.")
    check_file(path)


def check_file(path: Path) -> None:
    if path.is_dir():
        raise ExgsError(f"{path}: this is a folder; name a file in it.")


def opened(name: str) -> Scene:
    """The scene, its way up guessed where the file says nothing."""
    from exgs_viewer.scene import open_scene
    from exgs_viewer.scene.views import guess_up

    with progress() as report:
        scene = open_scene(name, report)
    warn(scene.warnings)
    return replace(scene, up=scene.up or guess_up(scene.cloud))


def warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        print(f"exgs: warning: {warning}", file=sys.stderr)


def first_view(scene: Scene) -> Camera:
    from exgs_viewer.scene import views

    return views.first_view(scene.cloud, scene.up, scene.cameras)


def compressed(
    scene: Scene,
    settings: CompressionSettings,
    renderer: Renderer,
    seconds: dict[str, float],
    with_filter: bool = False,
    limit: int | None = None,
) -> tuple[Stage, SceneFilter | None]:
    """pipeline.compress with views made of the scene, scores and tree remembered from the last time.

    On request with the filter that is fitted to it (None where none helps), and with as many Gaussians as fit into a
    file of `limit` bytes.
    """
    from exgs_viewer import pipeline
    from exgs_viewer.restore import scene_filter
    from exgs_viewer.scene import exgs
    from exgs_viewer.scene.views import scoring_views

    def size(stage: Stage) -> int:
        extra = scene_filter.most_bytes() if with_filter else 0
        return extra + len(exgs.encode(stage.cloud, exgs.metadata(scene, stage.settings), settings=stage.settings))

    with timed(seconds, "compress"), progress() as report:
        report(0.0, "Choosing views to judge the scene from")
        cloud = scene.cloud.to(renderer.device)
        views = scoring_views(cloud, scene.up)
        uncut = pipeline.pictures(cloud, views, settings, renderer, report) if with_filter else None
        if limit is None:
            last = pipeline.compress(cloud, settings, renderer, views, report, uncut)
        else:
            compressor = pipeline.prepare_compressor(cloud, settings, renderer, views, part(report, 0.0, 0.3), uncut)
            last = pipeline.compress_within(limit, size, compressor, settings.keep, part(report, 0.3, 0.7))
    if uncut is None:
        return last, None
    with timed(seconds, "filter"), progress() as report:
        fitted = pipeline.tune(last.shown, uncut, renderer, report)
    if fitted is None:
        warn(("no filter brings this scene's pictures nearer to the uncut ones, so it does without.",))
    return last, fitted
