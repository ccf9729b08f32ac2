"""The stages, measured through the doors that the program itself uses: pipeline, codec, and the window's engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from exgs_viewer import pipeline
from exgs_viewer.app import compose
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.state import Failed, SceneOpened, ViewState
from exgs_viewer.bench.stopwatch import Row, Stopwatch
from exgs_viewer.compress.codec import anchor_counts, anchored, size_model
from exgs_viewer.compress.scores import SCORING_SIZE
from exgs_viewer.compress.select import rank
from exgs_viewer.errors import WeightsError
from exgs_viewer.render import Renderer, RenderOutput
from exgs_viewer.restore import RESTORERS, open_restorer, scene_filter
from exgs_viewer.restore.scene_filter import SceneRestorer
from exgs_viewer.scene import Scene, exgs, open_scene
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import first_view, guess_up, scoring_views
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, RestoreSettings

VIEWS = 12
"""Cameras over which drawing is measured."""
BETWEEN = (0.4, 0.8, 1.2, 1.7)
"""Shares of the retention at which the estimate is held against files: none of them is an anchor at a tenth."""
PAINTED: Size = (512, 512)
"""Pixels at which the painters are measured."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what."""

    scene: str
    backend: str = "auto"
    size: Size = (960, 540)
    keep: float = 0.1
    cameras: tuple[Camera, ...] = ()
    """Views to draw; the scene's own where empty."""


def stage_rows(plan: Plan, renderer: Renderer, report: Report) -> Iterator[Row]:
    """Every stage in the order of the data, one row or more each."""
    watch = Stopwatch(plan.scene, plan.size, renderer)
    report(0.0, "opening")
    yield watch.row("open", [lambda: open_scene(plan.scene)])
    scene = open_scene(plan.scene)
    scene = replace(scene, cloud=scene.cloud.to(renderer.device), up=scene.up or guess_up(scene.cloud))
    cameras = _cameras(plan, scene)
    report(0.1, "drawing")
    yield watch.row("render", _drawings(renderer, scene.cloud, cameras, plan.size))
    report(0.3, "scoring")
    ranked = yield from _ranking(watch, renderer, scene)
    report(0.5, "compressing")
    kept = yield from _cutting(watch, ranked, plan)
    yield watch.row("render", _drawings(renderer, kept, cameras, plan.size), plan.keep)
    yield from _coding(watch, ranked, kept, plan.keep)
    report(0.6, "merging")
    yield from _merging(watch, renderer, scene, plan)
    report(0.8, "restoring")
    outputs = [renderer.render(c, cameras[0], plan.size, RenderSettings()) for c in (ranked, kept)]
    yield from _pictures(watch, outputs, plan)
    square = renderer.render(kept, cameras[0], PAINTED, RenderSettings())
    yield from _painting(Stopwatch(plan.scene, PAINTED, renderer), square, plan)
    report(0.9, "moving the slider")
    yield from _engine(watch, plan)


def _ranking(watch: Stopwatch, renderer: Renderer, scene: Scene) -> Generator[Row, None, GaussianCloud]:
    """From views to the order of importance; returns the cloud in that order."""
    cloud = scene.cloud
    yield watch.row("views", [lambda: scoring_views(cloud, scene.up)], warm_up=False)
    views = scoring_views(cloud, scene.up)
    yield watch.row("score", [lambda: renderer.significance(cloud, views, SCORING_SIZE)], warm_up=False)
    significance = renderer.significance(cloud, views, SCORING_SIZE).hits.cpu()
    yield watch.row("rank", [lambda: rank(cloud, significance)])
    return cloud.take(rank(cloud, significance).to(cloud.device))


def _cutting(watch: Stopwatch, ranked: GaussianCloud, plan: Plan) -> Generator[Row, None, GaussianCloud]:
    """What a slider move does to the set; returns the kept cloud."""
    around = _around(plan)
    yield watch.row("select", [lambda s=s: pipeline.cut(ranked, s) for s in around], plan.keep)
    larger = [replace(s, amplification=1.2) for s in around]
    yield watch.row("amplify", [lambda s=s: pipeline.cut(ranked, s) for s in larger], plan.keep)
    return pipeline.cut(ranked, CompressionSettings(keep=plan.keep))


def _around(plan: Plan) -> list[CompressionSettings]:
    """Retentions a little below, at and above the plan's, as a moving slider asks for them."""
    return [CompressionSettings(keep=min(1.0, plan.keep * factor)) for factor in (0.9, 1.0, 1.1)]


def _merging(watch: Stopwatch, renderer: Renderer, scene: Scene, plan: Plan) -> Iterator[Row]:
    """The tree, built once for a scene; a cut through it; and what happens when the slider rests."""
    looked = pipeline.look(scene.cloud, scene.up, renderer)
    began = time.perf_counter()
    prepared = pipeline.prepare_again(scene.cloud, looked, renderer)
    yield watch.once("tree", time.perf_counter() - began)
    around = _around(plan)
    yield watch.row("fold", [lambda s=s: pipeline.fold(prepared, s) for s in around], plan.keep)
    began = time.perf_counter()
    list(pipeline.polish(prepared, around[1], renderer))
    yield replace(watch.once("polish", time.perf_counter() - began), keep=plan.keep)


def _coding(watch: Stopwatch, ranked: GaussianCloud, kept: GaussianCloud, keep: float) -> Iterator[Row]:
    settings = CompressionSettings(keep=keep)
    data = exgs.encode(kept, settings=settings)
    yield watch.row("encode", [lambda: exgs.encode(kept, settings=settings)], keep)
    yield watch.row("decode", [lambda: exgs.decode(data, "bench")], keep)
    flat = ranked.with_sh_degree(kept.sh_degree)
    yield watch.row("calibrate", [lambda: size_model(flat, settings=settings)], warm_up=False)

    def stored(count: int) -> int:
        share = replace(settings, keep=count / len(flat))
        return len(exgs.encode(flat.take(slice(0, count)), settings=share))

    began = time.perf_counter()
    degree, counts = kept.sh_degree, anchor_counts(len(flat))
    model = anchored(size_model(flat, settings=settings), lambda count, _: stored(count), counts, degree)
    yield watch.once("anchors", time.perf_counter() - began)
    between = [min(len(flat), round(len(kept) * factor)) for factor in BETWEEN]
    off = max((100 * (model.bytes(count, degree) / stored(count) - 1) for count in between), key=abs)
    yield replace(watch.row("estimate", [lambda: model.bytes(len(kept), degree)], keep), percent=round(off, 3))


def _pictures(watch: Stopwatch, outputs: list[RenderOutput], plan: Plan) -> Iterator[Row]:
    """Restoring, and what the window does with pictures."""
    original, small = outputs
    yield _restored(watch, "inpaint", small, plan.keep)
    layouts = [
        lambda: compose.rgba_bytes(compose.wipe([original.color, small.color], [0.5])),
        lambda: compose.rgba_bytes(compose.side_by_side([original.color, small.color])),
        lambda: compose.rgba_bytes(compose.difference(original.color, small.color, 4.0)),
    ]
    yield watch.row("compose", layouts, plan.keep)


def _painting(watch: Stopwatch, output: RenderOutput, plan: Plan) -> Iterator[Row]:
    """The painters whose weights are here, at the size that papers measure them at."""
    for name in (name for name in RESTORERS if name != "inpaint"):
        try:
            yield _restored(watch, name, output, plan.keep)
        except WeightsError:
            continue


def _restored(watch: Stopwatch, name: str, output: RenderOutput, keep: float) -> Row:
    # A filter takes as long whatever its weights are.
    filters = name == SceneRestorer.name
    restorer = SceneRestorer(scene_filter.silent()) if filters else open_restorer(name)
    settings = RestoreSettings()
    row = watch.row("restore", [lambda: restorer.restore(output, settings, retention=keep)], keep)
    return replace(row, restorer=name)


def _engine(watch: Stopwatch, plan: Plan) -> Iterator[Row]:
    """What the window's engine makes of it: the first picture, scores ready, and the way from slider to picture."""
    engine, view, began = Engine(plan.backend), ViewState(size=plan.size), time.perf_counter()
    view = replace(view, compression=CompressionSettings(keep=plan.keep))

    def until(done: Callable[[], bool]) -> float:
        nonlocal view
        start = time.perf_counter()
        while not done():
            for event in engine.poll():
                if isinstance(event, SceneOpened):
                    view = replace(view, camera=event.camera)
                elif isinstance(event, Failed):
                    raise event.error
            engine.show(view)
            time.sleep(0.0005)
        return time.perf_counter() - start

    def slide(keep: float) -> None:
        nonlocal view
        view = replace(view, compression=replace(view.compression, keep=keep))
        until(lambda: engine.frame.request.compression == view.compression)

    try:
        engine.open(plan.scene)
        first = until(lambda: engine.frame is not None)
        yield watch.once("first_picture", first)
        until(lambda: engine.ready)
        yield watch.once("scored", time.perf_counter() - began)
        until(lambda: engine.settled)
        # So far apart that no merged scene stands in for the next one, and none that was just drawn: it is the picture
        # of the new set that counts.
        apart = [min(1.0, plan.keep * 0.5 * 1.3 ** (step % 6) * (1 + step / 500)) for step in range(20)]
        yield watch.row("slider_to_picture", [lambda k=k: slide(k) for k in apart], plan.keep)
    finally:
        engine.close()


def _drawings(renderer: Renderer, cloud: GaussianCloud, cameras: Sequence[Camera], size: Size) -> list[Callable]:
    return [lambda c=camera: renderer.render(cloud, c, size, RenderSettings()) for camera in cameras]


def _cameras(plan: Plan, scene: Scene) -> Sequence[Camera]:
    """The plan's cameras, the scene's own, or an even choice of those it is scored from."""
    given = plan.cameras or scene.cameras
    if given:
        return given[:VIEWS]
    views = scoring_views(scene.cloud, scene.up)
    return [first_view(scene.cloud, scene.up), *views[:: max(1, len(views) // (VIEWS - 1))]][:VIEWS]
