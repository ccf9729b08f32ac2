"""The long jobs behind the window, each one function from values to a value; they run in the workers' threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from exgs_viewer.app.frames import Frames, compose_layout, compressed_cloud, pane_size, picture_key
from exgs_viewer.app.stages import SizeModel, Stages
from exgs_viewer.app.state import FrameRequest, Live, Ranked, Reduced, Saved
from exgs_viewer.compress.select import keep_count
from exgs_viewer.errors import BackendError, ExgsError
from exgs_viewer.pipeline import Prepared, settled
from exgs_viewer.render import Renderer, RenderOutput
from exgs_viewer.restore import Restorer
from exgs_viewer.restore.scene_filter import SceneFilter, SceneRestorer
from exgs_viewer.scene import Scene, written_suffix
from exgs_viewer.scene.camera import Camera, Vector, look
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings, Report, RestoreSettings

_log = logging.getLogger(__name__)


Finish = Callable[[CompressionSettings, Report], Reduced]
"""Compresses the open scene to the end."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A scene with the view to start from."""

    scene: Scene
    up: Vector
    camera: Camera
    extent: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """A scene's cloud in order of importance."""

    scene: Scene
    """The scene it was made for."""
    ranked: Ranked


@dataclass(frozen=True, eq=False)
class Modelled:
    """The size estimate of a ranking."""

    ranked: Ranked
    compression: CompressionSettings
    """What it was made for; what sizes.coding_of names of it counts."""
    model: SizeModel


@dataclass(frozen=True, eq=False)
class Sized:
    """Exact bytes of one compression."""

    ranked: Ranked
    compression: CompressionSettings
    count: int
    bytes: int


@dataclass(frozen=True, eq=False)
class RestoreRequest:
    """A picture to repair, and the key it is known by."""

    key: tuple
    output: RenderOutput | None
    """None where it has been restored in flight: then it is drawn once more, and only made calmer."""
    settings: RestoreSettings
    retention: float
    """Share of the Gaussians that is left in it."""
    fitted: SceneFilter | None = None
    """The filter of the scene that it shows."""
    draw: Callable[[float, float], RenderOutput] | None = None
    """Draws it moved by parts of a pixel, right and down, for restorers that can make use of that."""


def moved(renderer: Renderer, request: FrameRequest, right: float, down: float) -> RenderOutput:
    """The compressed scene as the restored pane shows it, but for parts of a pixel by which the camera is turned."""
    size = pane_size(request, "restored")
    camera, focal = request.camera, request.camera.focal(size)
    upwards = tuple(-axis for axis in camera.down)
    turned = look(camera, -right / focal, -down / focal, upwards)
    return renderer.render(compressed_cloud(request), turned, size, request.render)


def repair_key(request: FrameRequest, settings: RestoreSettings, fitted: SceneFilter | None = None) -> tuple:
    """What a picture restored at full strength depends on; `fitted` is the filter of the scene, where it has one."""
    own = fitted if settings.restorer == SceneRestorer.name else None
    return (picture_key(request, "compressed", pane_size(request, "restored")), settings.restorer, own)


def open_scene(stages: Stages, renderer: Renderer, path: str, up: Vector | None, report: Report) -> Opened:
    """Read a scene, put it where the renderer can see it and choose a first view."""
    scene = stages.open_scene(path, report)
    report(0.95, "Looking for a good view")
    up = up or scene.up or stages.guess_up(scene.cloud)
    camera = stages.first_view(scene.cloud, up, scene.cameras)
    extent = stages.extent(scene.cloud)
    return Opened(replace(scene, cloud=scene.cloud.to(renderer.device)), up, camera, extent)


def score(
    stages: Stages, renderer: Renderer, opened: Opened, compression: CompressionSettings, report: Report
) -> Ranking:
    """Look at the scene from all sides, then put its Gaussians in order of importance for `compression`."""
    scene = opened.scene
    looked = stages.look(scene.cloud, opened.up, renderer, report)
    report(0.97, "Ranking the Gaussians")
    by_significance = stages.best_first(scene.cloud, stages.score(scene.cloud, looked, compression))
    order = stages.rank(by_significance, compression.voxel_size)
    cloud = scene.cloud.take(order.to(scene.cloud.device))
    return Ranking(scene, Ranked(cloud, by_significance.moved(order), compression, looked.moved(order)))


def rank_again(
    stages: Stages, ranked: Ranked, scene: Scene, compression: CompressionSettings, report: Report
) -> Ranking:
    """Another order for a ranked cloud, which itself stays as it is: quick enough to follow a slider."""
    report(0.5, "Ranking the Gaussians")
    by_significance = ranked.best_first
    if compression.score != ranked.compression.score:
        by_significance = stages.best_first(ranked.cloud, stages.score(ranked.cloud, ranked.looked, compression))
    order = stages.rank(by_significance, compression.voxel_size).to(ranked.cloud.device)
    return Ranking(scene, replace(ranked, best_first=by_significance, compression=compression, order=order))


def model_sizes(stages: Stages, ranked: Ranked, compression: CompressionSettings, report: Report) -> Modelled:
    """Sample what the bytes of a ranking will be."""
    report(0.0, "Estimating sizes")  # Waits here while a slider moves: what follows touches the whole scene.
    whole = ranked.cloud if ranked.order is None else ranked.cloud.take(ranked.order)
    return Modelled(ranked, compression, stages.size_model(whole, report, compression))


def anchor_sizes(
    stages: Stages,
    known: Modelled,
    prepared: Prepared | None,
    meta: dict[str, Any],
    found: dict[CompressionSettings, int],
    report: Report,
) -> Modelled:
    """The same estimate, corrected by encoding what some retentions leave, merged where there is a tree.

    `found` are bytes of such cuts that are known from an attempt that was stopped; those of this one join them.
    """
    ranked, compression, total = known.ranked, known.compression, len(known.ranked.cloud)

    def size_at(count: int, share: Report) -> int:
        asked = replace(compression, keep=count / total)
        settings = asked if prepared is None else settled(prepared, asked)
        if settings not in found:
            share(0.0, "Estimating sizes")  # Waits here while a slider moves, as in `model_sizes`.
            cloud = ranked.kept(asked) if prepared is None else stages.fold(prepared, asked)
            found[settings] = stages.encode(cloud, meta, settings, share)
        return found[settings]

    return replace(known, model=stages.anchored(known.model, size_at, total, compression.sh_degree, report))


@dataclass(frozen=True, eq=False)
class Compressed:
    """A compressed scene to be encoded."""

    ranked: Ranked
    reduced: Reduced | None
    """The merged scene; None where the ranking is cut."""
    compression: CompressionSettings
    """As it was asked for."""
    meta: dict[str, Any]

    @property
    def settings(self) -> CompressionSettings:
        """How it is to be encoded."""
        return self.compression if self.reduced is None else self.reduced.settings

    def cloud(self) -> GaussianCloud:
        """The Gaussians that are left."""
        return self.ranked.kept(self.compression) if self.reduced is None else self.reduced.cloud

    def shown(self) -> GaussianCloud:
        """The same as its .exgs shows them, for files that round on their own."""
        return self.cloud() if self.reduced is None else self.reduced.shown

    def about(self) -> dict[str, Any]:
        """Its metadata, with how it is encoded, and the filter of its pictures where there is one."""
        fitted = self.reduced.fitted if self.reduced else None
        return {**self.meta, "compression": asdict(self.settings), **(fitted.stored() if fitted else {})}


def measure_size(stages: Stages, subject: Compressed, report: Report) -> Sized:
    """Encode a compressed scene, only to know its bytes."""
    report(0.0, "Encoding")
    cloud = subject.cloud()
    size = stages.encode(cloud, subject.about(), subject.settings, report)
    return Sized(subject.ranked, subject.compression, len(cloud), size)


def finish_size(stages: Stages, subject: Compressed, finish: Finish, report: Report) -> Sized:
    """Let `finish` compress the subject to the end, only to know its bytes; they are remembered for the next time."""

    def told(fraction: float, _: str) -> None:
        report(fraction, "Estimating sizes")

    ranked, compression = subject.ranked, subject.compression

    def measure() -> int:
        return measure_size(stages, replace(subject, reduced=finish(compression, told)), told).bytes

    told(0.0, "")  # Waits here while a slider moves, as in `model_sizes`.
    size = stages.cached_size(ranked.cloud, ranked.looked, compression, measure)
    return Sized(ranked, compression, keep_count(len(ranked.cloud), compression.keep), size)


def saved_meta(stages: Stages, opened: Opened, compression: CompressionSettings, camera: Camera) -> dict[str, Any]:
    """What a saved .exgs says about itself; it opens with the view it was saved from, and the same side up."""
    scene = replace(opened.scene, up=opened.up, cameras=(camera, *opened.scene.cameras))
    return stages.metadata(scene, compression)


def save(stages: Stages, path: Path, subject: Compressed, opened: Opened, report: Report) -> Saved:
    """Write the compressed scene: as .exgs, which is read back, or in a format of other viewers."""
    if written_suffix(path) == ".exgs":
        return Saved(path, stages.write(path, subject.cloud(), subject.about(), subject.settings, report))
    # Not with the cameras of the scene: nobody expects them in such a file, so nobody is told that they are missing.
    scene = replace(opened.scene, cloud=subject.shown(), up=opened.up, cameras=())
    written = stages.export(path, scene, report)
    return Saved(path, written.bytes, written.warnings)


@dataclass(frozen=True, eq=False)
class Tools:
    """What a job draws with."""

    stages: Stages
    renderer: Renderer
    restorer: Callable[[], Restorer]


def capture(
    tools: Tools, request: FrameRequest, settings: RestoreSettings, path: Path, meta: dict[str, Any], report: Report
) -> Saved:
    """Draw a picture of any size, restoration included, and write it with what it shows."""
    report(0.1, f"Drawing {request.size[0]} x {request.size[1]} pixels")
    picture = _photographed(tools, Frames(tools.renderer), with_restorer(tools, request, settings))
    report(0.9, f"Writing {path.name}")
    tools.stages.write_png(path, picture, meta)
    return Saved(path, path.stat().st_size)


@dataclass(frozen=True)
class Flight:
    """A video to be made."""

    cameras: Sequence[Camera]
    """One for each picture."""
    fps: float


def film(
    tools: Tools, request: FrameRequest, settings: RestoreSettings, path: Path, flight: Flight, report: Report
) -> Saved:
    """Draw the picture of `request` from every camera of a flight, restoration included, into a video."""
    report(0.0, "Making the video")
    request, frames = with_restorer(tools, request, settings), Frames(tools.renderer)
    with tools.stages.video(path, flight.fps) as add:
        for number, camera in enumerate(flight.cameras):
            report(number / len(flight.cameras), f"Making the video, picture {number + 1} of {len(flight.cameras)}")
            add(_photographed(tools, frames, replace(request, camera=camera, moving=settings.steady)))
    return Saved(path, path.stat().st_size)


def with_restorer(tools: Tools, request: FrameRequest, settings: RestoreSettings) -> FrameRequest:
    """`request` so that its picture is restored as soon as it is drawn, however long that takes."""
    live = None
    if "restored" in request.sides:
        live = Live(tools.restorer(), replace(settings, strength=1.0))
    return replace(request, repaired=None, live=live, moving=False, strength=settings.strength, fade=1.0)


def _photographed(tools: Tools, frames: Frames, request: FrameRequest) -> Tensor:
    """[H, W, 3]: the layout as it is to be written. Raises what keeps its picture from being restored."""
    frame, _ = frames.draw(request)
    if frame.trouble is not None:
        raise frame.trouble
    return compose_layout(request, frame.outputs)


def in_words(error: Exception) -> Exception:
    """The error as the user should read it: memory that ran out gets a sentence, our own errors have one."""
    if isinstance(error, ExgsError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return BackendError("There is not enough memory for this; make the window smaller or open a smaller scene.")
    return BackendError(
        f"Something unexpected went wrong ({type(error).__name__}: {error}). What was open is still open."
    )
