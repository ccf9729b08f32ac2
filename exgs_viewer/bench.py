"""Time and memory of every stage -> table. Every figure is a median of several runs after a warm-up.

The stages are measured through the doors the program itself uses: pipeline, codec, and the window's engine.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from exgs_viewer import pipeline
from exgs_viewer.app import compose
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.state import Failed, SceneOpened, ViewState
from exgs_viewer.compress.codec import size_model
from exgs_viewer.compress.scores import SCORING_SIZE
from exgs_viewer.compress.select import rank
from exgs_viewer.doctor import display_problem
from exgs_viewer.render import Renderer, RenderOutput, open_renderer
from exgs_viewer.restore import open_restorer
from exgs_viewer.scene import Scene, exgs, open_scene
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import first_view, guess_up, scoring_views
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, RestoreSettings, quiet

PATIENCE = 4.0
"""Seconds after which a stage is not repeated again."""
RUNS = 7
"""Counted runs of a stage, at most."""
VIEWS = 12
"""Cameras over which drawing is measured."""


@dataclass(frozen=True)
class Row:
    """One stage, measured."""

    stage: str
    scene: str
    backend: str
    size: Size
    """Pixels, width and height."""
    keep: float
    """Share of the Gaussians in it."""
    median_ms: float | None
    """None where there is no time to tell (`memory`)."""
    p90_ms: float | None
    peak_mb: float
    """Largest resident memory of the process meanwhile, 10^6 bytes."""
    runs: int
    percent: float | None = None
    """For `estimate`: how far the size estimate is off, % of the encoded size."""
    during: str | None = None
    """For `ui_loop`: what went on meanwhile."""
    p99_ms: float | None = None
    """For `ui_loop`: only one frame in a hundred took longer."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what."""

    scene: str
    backend: str = "auto"
    size: Size = (960, 540)
    keep: float = 0.1
    cameras: tuple[Camera, ...] = ()
    """Views to draw; the scene's own where empty."""


def run(plan: Plan, report: Report = quiet) -> dict[str, Any]:
    """{machine, rows}: plain JSON values. Raises what opening the scene or the backend raises."""
    renderer = open_renderer(plan.backend, report)
    with _nothing_remembered():
        rows = [*_stages(plan, renderer, report), *_window(plan, renderer, report)]
    return {"machine": machine(renderer), "rows": [_plain(row) for row in rows]}


@contextmanager
def _nothing_remembered() -> Iterator[None]:
    """A user's folder that is empty: scores found there would make scoring look free."""
    before = os.environ.get("EXGS_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EXGS_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["EXGS_HOME"]
            if before is not None:
                os.environ["EXGS_HOME"] = before


def _plain(row: Row) -> dict[str, Any]:
    values = asdict(row) | {"size": list(row.size)}
    optional = ("percent", "during", "p99_ms")
    return {name: value for name, value in values.items() if value is not None or name not in optional}


def machine(renderer: Renderer) -> dict[str, Any]:
    """What the figures depend on: processor, cores, versions, device."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "renderer": renderer.label,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "numba", "gsplat", "dearpygui")},
    }


def table(result: dict[str, Any]) -> str:
    """The result as Markdown, as it stands in the README."""
    about, rows = result["machine"], result["rows"]
    lines = [
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['renderer']}, torch {about['torch']}",
        "",
        "| stage | scene | size | keep | median ms | p90 ms | peak MB | runs |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        size = "x".join(map(str, row["size"]))
        note = f" ({row['percent']:+.2f} % off)" if "percent" in row else ""
        note += f" ({row['during']}; 99 %: {row['p99_ms']:.4g} ms)" if "during" in row else ""
        times = " | ".join("" if row[name] is None else f"{row[name]:.4g}" for name in ("median_ms", "p90_ms"))
        numbers = f"{times} | {row['peak_mb']:.0f} | {row['runs']}"
        lines.append(f"| {row['stage']}{note} | {row['scene']} | {size} | {row['keep']:.0%} | {numbers} |")
    return "\n".join(lines)


def slowest(result: dict[str, Any], count: int = 5) -> list[str]:
    """The stages that take longest, one sentence each."""
    rows = sorted(result["rows"], key=lambda row: -(row["median_ms"] or 0))[:count]
    return [f"{row['stage']} at {row['keep']:.0%}: {row['median_ms']:.0f} ms" for row in rows]


class _Stopwatch:
    """Makes rows: the common part of all of them, and how a run is timed."""

    def __init__(self, plan: Plan, renderer: Renderer) -> None:
        self._common = Row("", Path(plan.scene).name, renderer.name, plan.size, 1.0, 0, 0, 0, 0)
        self._device = renderer.device

    def row(self, stage: str, works: Sequence[Callable[[], Any]], keep: float = 1.0, warm_up: bool = True) -> Row:
        """Run the works in turn, RUNS times or till PATIENCE is over; the median of single works."""
        if warm_up:
            works[0]()
        times, began = [], time.perf_counter()
        with _peak_memory() as peak:
            for _ in range(RUNS):
                times.extend(self._timed(work) for work in works)
                if time.perf_counter() - began > PATIENCE:
                    break
        return self.of(stage, times, peak[0], keep)

    def of(self, stage: str, times: Sequence[float], peak: int, keep: float = 1.0) -> Row:
        """A row of times taken elsewhere, seconds; `peak` in bytes."""
        median, p90 = 1e3 * statistics.median(times), 1e3 * _quantile(times, 0.9)
        row = replace(self._common, stage=stage, keep=keep, runs=len(times), median_ms=median, p90_ms=p90)
        return replace(row, peak_mb=peak / 1e6)

    def once(self, stage: str, seconds: float) -> Row:
        """A figure that happened once, by the way."""
        memory = _resident() / 1e6
        return replace(self._common, stage=stage, median_ms=1e3 * seconds, p90_ms=1e3 * seconds, peak_mb=memory, runs=1)

    def _timed(self, work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


def _stages(plan: Plan, renderer: Renderer, report: Report) -> Iterator[Row]:
    watch = _Stopwatch(plan, renderer)
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
    report(0.8, "restoring")
    yield from _pictures(
        watch, [renderer.render(c, cameras[0], plan.size, RenderSettings()) for c in (ranked, kept)], plan
    )
    report(0.9, "moving the slider")
    yield from _engine(watch, plan)


def _ranking(watch: _Stopwatch, renderer: Renderer, scene: Scene) -> Generator[Row, None, GaussianCloud]:
    """From views to the order of importance; returns the cloud in that order."""
    cloud = scene.cloud
    yield watch.row("views", [lambda: scoring_views(cloud, scene.up)], warm_up=False)
    views = scoring_views(cloud, scene.up)
    yield watch.row("score", [lambda: renderer.significance(cloud, views, SCORING_SIZE)], warm_up=False)
    significance = renderer.significance(cloud, views, SCORING_SIZE).hits.cpu()
    yield watch.row("rank", [lambda: rank(cloud, significance)])
    return cloud.take(rank(cloud, significance).to(cloud.device))


def _cutting(watch: _Stopwatch, ranked: GaussianCloud, plan: Plan) -> Generator[Row, None, GaussianCloud]:
    """What a slider move does to the set; returns the kept cloud."""
    around = [CompressionSettings(keep=min(1.0, plan.keep * factor)) for factor in (0.9, 1.0, 1.1)]
    yield watch.row("select", [lambda s=s: pipeline.cut(ranked, s) for s in around], plan.keep)
    larger = [replace(s, amplification=1.2) for s in around]
    yield watch.row("amplify", [lambda s=s: pipeline.cut(ranked, s) for s in larger], plan.keep)
    return pipeline.cut(ranked, CompressionSettings(keep=plan.keep))


def _coding(watch: _Stopwatch, ranked: GaussianCloud, kept: GaussianCloud, keep: float) -> Iterator[Row]:
    data = exgs.encode(kept)
    yield watch.row("encode", [lambda: exgs.encode(kept)], keep)
    yield watch.row("decode", [lambda: exgs.decode(data, "bench")], keep)
    flat = ranked.with_sh_degree(kept.sh_degree)
    yield watch.row("calibrate", [lambda: size_model(flat)], warm_up=False)
    model = size_model(flat)
    off = 100 * (model.bytes(len(kept), kept.sh_degree) / len(data) - 1)
    yield replace(watch.row("estimate", [lambda: model.bytes(len(kept), kept.sh_degree)], keep), percent=round(off, 3))


def _pictures(watch: _Stopwatch, outputs: list[RenderOutput], plan: Plan) -> Iterator[Row]:
    """Restoring, and what the window does with pictures."""
    restorer, (original, small) = open_restorer("inpaint"), outputs
    yield watch.row("restore", [lambda: pipeline.restore(small, restorer, RestoreSettings())], plan.keep)
    layouts = [
        lambda: compose.rgba_bytes(compose.wipe(original.color, small.color, 0.5)),
        lambda: compose.rgba_bytes(compose.side_by_side([original.color, small.color])),
        lambda: compose.rgba_bytes(compose.difference(original.color, small.color, 4.0)),
    ]
    yield watch.row("compose", layouts, plan.keep)


def _engine(watch: _Stopwatch, plan: Plan) -> Iterator[Row]:
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
        near = [plan.keep * (0.8 + 0.4 * step / 19) for step in range(20)]
        yield watch.row("slider_to_picture", [lambda k=k: slide(k) for k in near], plan.keep)
    finally:
        engine.close()


def _window(plan: Plan, renderer: Renderer, report: Report) -> Iterator[Row]:
    """The real window and the memory of it all. Without a display its rows are left out, and that is said."""
    watch = _Stopwatch(plan, renderer)
    problem = display_problem()
    if problem:
        report(1.0, f"The window is not measured. {problem}")
    else:
        report(0.95, "opening the window")
        from exgs_viewer.bench_window import watch as watch_window

        for watched in watch_window(plan.scene, plan.backend, plan.keep):
            row = watch.of(watched.stage, watched.seconds, _resident(), plan.keep)
            if watched.during:
                row = replace(row, during=watched.during, p99_ms=1e3 * _quantile(watched.seconds, 0.99))
            yield row
    yield replace(watch.of("memory", [0.0], _most_resident()), median_ms=None, p90_ms=None)


def _drawings(renderer: Renderer, cloud: GaussianCloud, cameras: Sequence[Camera], size: Size) -> list[Callable]:
    return [lambda c=camera: renderer.render(cloud, c, size, RenderSettings()) for camera in cameras]


def _cameras(plan: Plan, scene: Scene) -> Sequence[Camera]:
    """The plan's cameras, the scene's own, or an even choice of those it is scored from."""
    given = plan.cameras or scene.cameras
    if given:
        return given[:VIEWS]
    views = scoring_views(scene.cloud, scene.up)
    return [first_view(scene.cloud, scene.up), *views[:: max(1, len(views) // (VIEWS - 1))]][:VIEWS]


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """The largest resident memory while the block runs, looked at every 5 ms: [bytes], filled at its end."""
    most, done = [_resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], _resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield most
    done.set()
    thread.join()


def _quantile(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def _resident() -> int:
    """Resident memory of this process, bytes; elsewhere than on Linux the largest so far, which is all there is."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _most_resident()


def _most_resident() -> int:
    """Largest resident memory of this process so far, bytes; 0 on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
