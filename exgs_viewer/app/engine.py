"""The engine: owns the open scene, renderer, restorer and workers; takes requests, answers with events; no GUI."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from exgs_viewer.app import pace, work
from exgs_viewer.app.frames import Frames, Timing, request_for
from exgs_viewer.app.reducer import Reducer
from exgs_viewer.app.repairer import Repairer
from exgs_viewer.app.sizes import Coding, Sizes, coding_of
from exgs_viewer.app.stages import Stages, real_stages
from exgs_viewer.app.state import (
    Event,
    Failed,
    Fetched,
    Finished,
    Frame,
    FrameReady,
    FrameRequest,
    FrameRestored,
    Progress,
    Ranked,
    RendererReady,
    Repaired,
    Repairs,
    Saved,
    SceneOpened,
    Scored,
    Side,
    ViewState,
    sides_of,
)
from exgs_viewer.app.workers import Broke, Done, JobWorker, LatestWorker, Notify, Outcome, Progressed, nothing
from exgs_viewer.compress.select import keep_count
from exgs_viewer.errors import BackendError
from exgs_viewer.render import Renderer
from exgs_viewer.scene import Scene, written_suffix
from exgs_viewer.scene.camera import Vector
from exgs_viewer.settings import CompressionSettings, Report

REST = 0.15
"""Seconds without movement after which the full picture is drawn."""
SETTLE = 0.3
"""Seconds without a change of the compression after which the exact size is computed."""
MEASURE = 0.6
"""Seconds without any change after which the view is measured; that draws the original, which may take a while."""
LEISURE = ("anchors",)
"""Jobs that nobody waits for."""
LONG_AGO = -1e9


class Engine:
    """Answers `show(view)` with pictures, and commands with jobs. All methods are called from one thread.

    `notify` is called from worker threads when there is something to poll; `as_bytes` chooses uint8 pixels.
    """

    def __init__(
        self,
        backend: str = "auto",
        stages: Stages | None = None,
        notify: Notify = nothing,
        as_bytes: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._stages = stages or real_stages()
        self._backend, self._as_bytes, self._clock = backend, as_bytes, clock
        self._renderer: Renderer | None = None
        self._frames: Frames | None = None
        self._events: list[Event] = []
        self._costs: dict[Side, pace.Cost] = {}
        self._draft = pace.FULL
        self._view: ViewState | None = None
        self._moved_at = self._changed_at = self._touched_at = self._stirred_at = LONG_AGO
        self._jobs = JobWorker("jobs", notify)
        self._fetching = JobWorker("fetch", notify)  # Takes minutes of waiting, which hold up nothing else.
        self._reducer = Reducer(self._stages, self._jobs, self._submit, notify)
        self._repairer = Repairer(self._stages, clock, notify)
        self._take_scene(None)
        self._drawing = LatestWorker[FrameRequest, tuple[Frame, list[Timing]]]("render", self._draw, notify)
        self._jobs.submit("renderer", self._ready)

    def _take_scene(self, opened: work.Opened | None) -> None:
        """Start anew with another scene."""
        self._opened = opened
        self._reducer.forget()
        self._repairer.forget()
        self._sizes: Sizes | None = None
        self._requested: FrameRequest | None = None
        self._frame: Frame | None = None
        self._refused_ranking: CompressionSettings | None = None
        self._modelling: Coding | None = None
        self._rough: work.Modelled | None = None

    # What the window may read.

    @property
    def scene(self) -> Scene | None:
        """The open scene."""
        return self._opened.scene if self._opened else None

    @property
    def ready(self) -> bool:
        """Whether the open scene is scored, so that there is a compressed side."""
        return self._ranked is not None

    @property
    def frame(self) -> Frame | None:
        """The newest picture."""
        return self._frame

    @property
    def repairs(self) -> Repairs:
        """What there is to say about restoring."""
        return self._repairer.told(self._view.restore) if self._view else Repairs()

    @property
    def fading(self) -> bool:
        """Whether the picture changes by itself."""
        return self._repairer.fading

    @property
    def jobs(self) -> list[str]:
        """Names of the jobs that run or wait."""
        return [*self._jobs.names(), *self._fetching.names()]

    @property
    def working(self) -> bool:
        """Whether anything runs or waits that the user may be waiting for."""
        return self._drawing.busy or self._repairer.busy or self._reducer.busy or self._jobs.busy(*LEISURE)

    @property
    def busy(self) -> bool:
        """Whether anything runs, waits or becomes due within a moment."""
        due = self._clock() - max(self._moved_at, self._changed_at, self._touched_at) < MEASURE + 0.05
        return due or self.fading or self.working

    @property
    def settled(self) -> bool:
        """Whether the full, measured picture of the last view is there, its size exact, and nothing remains to do."""
        if (
            self._frame is None
            or self._frame.request != self._requested
            or not self._requested.draft.whole
            or self.busy
        ):
            return False
        if not self.ready:
            return True
        compression = self._view.compression
        improving = self._reducer.missing(compression) or self._sizes.missing(compression)
        return self._requested.measure and not improving

    # Commands.

    def open(self, path: str, up: Vector | None = None) -> None:
        """Open a scene in the background; `up` overrides what the file says. The open one stays until it is there."""
        self._jobs.cancel("open", "score", "rank", "tree", "polish", "model", "anchors", "size")
        self._jobs.submit("open", lambda report: work.open_scene(self._stages, self._ready(report), path, up, report))

    def score(self) -> None:
        """Judge the open scene's Gaussians in the background, where that is not done or under way."""
        if self._opened is None or self.ready or "score" in self._jobs.names():
            return
        opened, compression = self._opened, self._view.compression if self._view else CompressionSettings()
        self._submit("score", lambda report: work.score(self._stages, self._ready(report), opened, compression, report))

    def fetch(self) -> None:
        """Fetch the weights that the user has agreed to, in the background."""
        if "download" not in self._fetching.names():
            self._fetching.submit("download", self._stages.fetch)

    def save(self, path: Path, view: ViewState) -> None:
        """Write the compressed scene in the background, in the format of the path's suffix.

        Raises SceneError where there is no such format, and BackendError before the scene is scored.
        """
        written_suffix(path)
        if self._ranked is None or view.camera is None:
            raise BackendError("There is no compressed scene to save yet; wait until it is scored.")
        opened, subject = self._opened, self._compressed(view)
        finished = self._reducer.finished(view.compression, self._renderer)

        def job(report: Report) -> Saved:
            return work.save(self._stages, path, replace(subject, reduced=finished(report)), opened, report)

        self._jobs.submit("save", job)

    def capture(self, path: Path, view: ViewState, meta: dict[str, Any]) -> None:
        """Draw `view` at its size in the background and write it as PNG with `meta` inside."""
        if self._opened is None or self._renderer is None or view.camera is None:
            raise BackendError("There is no picture to save yet; open a scene first.")
        request = self._request(view, pace.FULL)
        tools = work.Tools(self._stages, self._renderer, lambda: self._repairer.open(view.restore))
        self._jobs.submit("capture", lambda report: work.capture(tools, request, view.restore, path, meta, report))

    def cancel(self, job: str) -> None:
        """Stop a job; what was there before stays."""
        self._jobs.cancel(job)
        self._fetching.cancel(job)

    def turn_up(self, up: Vector) -> None:
        """Take `up` for the open scene from now on."""
        if self._opened:
            self._opened = replace(self._opened, up=up)

    def close(self) -> None:
        """Stop the workers; a save under way is finished first."""
        self._repairer.close()
        self._drawing.close()
        self._reducer.close()
        self._fetching.close(seconds=0.5)
        self._jobs.close(finish=("save", "capture"))

    # The picture.

    def show(self, view: ViewState) -> None:
        """Make the screen show `view`; asks for a picture only where that needs another one."""
        if self._opened is None or view.camera is None or self._renderer is None:
            return
        now = self._clock()
        self._notice(view, now)
        request = self._wanted(view, now)
        if request != self._requested:
            self._requested = request
            self._drawing.submit(request)
        self._repairer.follow(request, self._frame, view)
        if self.ready:
            self._rank_again(view.compression)
            self._estimate(view.compression)
            self._reducer.follow(self._ranked, view.compression)
            if now - max(self._moved_at, self._changed_at) >= SETTLE:
                self._reducer.improve(view.compression, self._renderer)
                self._encode(view)
                self._anchor()

    def _notice(self, view: ViewState, now: float) -> None:
        """Stamp what moves: the camera, what changes the compressed picture, or anything at all."""
        last, self._view = self._view, view
        if view == last:
            return
        self._touched_at = now
        if last is None or (last.camera, last.size, last.render) != (view.camera, view.size, view.render):
            self._moved_at = now
        if last is None or last.compression != view.compression:
            self._changed_at = now
            self._jobs.cancel("size", "anchors")
            self._reducer.stop()
            self._tell_size()
        if max(self._moved_at, self._changed_at) == now:
            self._stirred_at = time.perf_counter()

    def _wanted(self, view: ViewState, now: float) -> FrameRequest:
        at_rest = now - max(self._moved_at, self._changed_at) >= REST
        request = self._request(view, pace.FULL if at_rest else self._affordable(view, now))
        due = self.ready and request.draft.whole and now - self._touched_at >= MEASURE
        measure = due and request.fade == 1 and self._on_screen(request)
        return replace(request, measure=measure)

    def _on_screen(self, request: FrameRequest) -> bool:
        """Whether the picture of `request` is there already, measured or not."""
        return self._frame is not None and replace(self._frame.request, measure=request.measure) == request

    def _request(self, view: ViewState, draft: pace.Draft) -> FrameRequest:
        reduced = self._reducer.best(view.compression) if self.ready else None
        request = request_for(self._opened.scene.cloud, self._ranked, view, reduced, draft)
        return self._repairer.applied(request, view.restore)

    def _affordable(self, view: ViewState, now: float) -> pace.Draft:
        """The draft that keeps up with what moves; the full picture where that is quick enough."""
        sides = sides_of(view, self.ready)
        drawn = {"compressed" if side == "restored" else side for side in sides}
        if now - self._moved_at >= REST:
            drawn.discard("original")  # Only the slider moves; the original's picture is still there.
        costs = [self._costs[side].at(self._count(side, view)) for side in drawn if side in self._costs]
        if not costs:
            return pace.FULL
        panes = len(sides) if view.layout == "side" else 1
        size, drafts = (max(1, view.size[0] // panes), view.size[1]), pace.DRAFTS if self.ready else pace.UNRANKED
        self._draft = pace.draft(costs, size, self._draft, drafts)
        return self._draft

    def _count(self, side: Side, view: ViewState) -> int:
        total = len(self._opened.scene.cloud)
        return total if side == "original" else keep_count(total, view.compression.keep)

    # Ranking and sizes.

    def _rank_again(self, compression: CompressionSettings) -> None:
        """Follow the voxel slider: rank anew as often as that can be done, the newest value each time."""
        ranked, stages = self._ranked, self._stages
        if ranked.fits(compression) or compression == self._refused_ranking or "rank" in self._jobs.names():
            return
        self._jobs.cancel(
            "model", "anchors", "size"
        )  # Of an order that is on its way out; and they would not make way.
        scene = self._opened.scene
        self._jobs.submit("rank", lambda report: work.rank_again(stages, ranked, scene, compression, report))

    def _encode(self, view: ViewState) -> None:
        """Once the sliders have come to rest, the exact size is due."""
        if not self._ranked.fits(view.compression) or "size" in self._jobs.names():
            return
        if self._sizes.missing(view.compression) and not self._reducer.missing(view.compression):
            self._submit_size(view)

    def _submit_size(self, view: ViewState) -> None:
        stages, subject = self._stages, self._compressed(view)
        self._submit("size", lambda report: work.measure_size(stages, subject, report))

    def _compressed(self, view: ViewState) -> work.Compressed:
        """What is to be encoded: the merged scene as far as it is, or the ranking that is to be cut."""
        meta = work.saved_meta(self._stages, self._opened, view.compression, view.camera)
        return work.Compressed(self._ranked, self._reducer.exact(view.compression), view.compression, meta)

    def _submit(self, name: str, job: Callable[[Report], Any]) -> None:
        """Add a job of ours, which makes way for whatever the user moves."""
        self._jobs.submit(name, lambda report: job(self._making_way(report)))

    def _making_way(self, report: Report) -> Report:
        """A report that holds the job up while pictures are drawn of something that moves."""

        def polite(fraction: float, text: str) -> None:
            report(fraction, text)
            while time.perf_counter() - self._stirred_at < REST:
                time.sleep(0.02)
                report(fraction, text)

        return polite

    @property
    def _ranked(self) -> Ranked | None:
        return self._sizes.ranked if self._sizes else None

    def _tell_size(self) -> None:
        """Announce what is known about the size of the present view."""
        known = self._sizes.of(self._view.compression) if self._sizes and self._view else None
        if known:
            self._events.append(known)

    # Answers.

    def poll(self) -> list[Event]:
        """Everything that happened since the last call, oldest first."""
        for outcome in self._drawing.poll():
            self._drawn(outcome)
        self._events += [Failed("restore", error) for error in self._repairer.poll()]
        self._events += [Failed("fold", work.in_words(error)) for error in self._reducer.poll()]
        for news in (*self._jobs.poll(), *self._fetching.poll()):
            if isinstance(news, Progressed):
                self._events.append(Progress(news.name, news.fraction, news.text))
                continue
            if isinstance(news, Done):
                self._done(news)
            elif isinstance(news, Broke):
                self._broke(news)
            else:
                self._reducer.dropped(news.name)
            self._events.append(Finished(news.name))
            if news.name == "open" and not isinstance(news, Done) and "open" not in self._jobs.names():
                self.score()  # Of the scene that stays open: the attempt had stopped it.
        events, self._events = self._events, []
        return events

    def _drawn(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._events.append(Failed("render", work.in_words(outcome.error)))
            return
        frame, timings = outcome.result
        if self._opened is None or frame.request.original is not self._opened.scene.cloud:
            return
        for timing in timings:
            cost = pace.learnt(self._costs.get(timing.side), timing.pixels, timing.seconds, timing.count)
            self._costs[timing.side] = cost
        if self._frame is None:
            self.score()  # Not before: the first picture shall have the processor to itself.
        whole = _restored_in(frame)
        fresh = whole is not None and (self._frame is None or _restored_in(self._frame) is not whole)
        self._frame = frame
        self._events.append(FrameRestored(frame, whole.seconds) if fresh else FrameReady(frame))

    def _done(self, done: Done) -> None:
        match done.name, done.result:
            case "renderer", renderer:
                self._events.append(RendererReady(renderer.label))
            case "open", opened:
                self._take_scene(opened)
                self._costs, self._draft = {}, pace.FULL
                self._events.append(SceneOpened(opened.scene, opened.camera, opened.up, opened.extent, done.seconds))
            case "score" | "rank", ranking:
                self._take_ranking(ranking, done)
            case "tree", treed if treed.ranked.cloud is self._opened.scene.cloud:
                self._reducer.take_tree(treed)
            case "model" | "anchors", modelled if modelled.ranked is self._ranked:
                self._sizes.take_model(modelled)
                self._tell_size()
                self._rough = modelled if done.name == "model" else None
            case "size", sized if sized.ranked is self._ranked:
                self._sizes.learn(sized)
                self._tell_size()
            case "download", _:
                self._repairer.again()
                self._events.append(Fetched())
            case _, Saved() as saved:
                self._events.append(saved)

    def _take_ranking(self, ranking: work.Ranking, done: Done) -> None:
        """From now on the scene's cloud is its own permutation: the picture is the same, and no memory is doubled."""
        current = self._ranked.cloud if self._ranked else self._opened.scene.cloud
        if ranking.scene.cloud is not current:
            return  # Made for a scene that is no longer the open one.
        self._opened = replace(self._opened, scene=replace(self._opened.scene, cloud=ranking.ranked.cloud))
        self._sizes = Sizes(ranking.ranked)
        if done.name == "score":
            self._events.append(Scored(done.seconds))
        self._jobs.cancel("model", "anchors", "size")
        if self._view and self._view.camera and not self._reducer.missing(self._view.compression):
            self._submit_size(self._view)  # Before the model: it takes less time, and is the figure to be seen first.
        self._modelling = None
        if self._view:
            self._estimate(self._view.compression)

    def _estimate(self, compression: CompressionSettings) -> None:
        """Have the sizes estimated for another codec, quality or reduction."""
        if not self._sizes.unknown(compression) or self._modelling == coding_of(compression):
            return
        self._modelling, ranked = coding_of(compression), self._ranked
        self._jobs.cancel("model", "anchors")
        self._submit("model", lambda report: work.model_sizes(self._stages, ranked, compression, report))

    def _anchor(self) -> None:
        """Then better, by encoding in the background once nothing else is to be done."""
        known = self._rough
        if known is None or known.ranked is not self._ranked or self.working or self._jobs.busy():
            return
        prepared = self._reducer.prepared if known.compression.reduction == "merge" else None
        meta = work.saved_meta(self._stages, self._opened, known.compression, self._view.camera)
        self._submit("anchors", lambda report: work.anchor_sizes(self._stages, known, prepared, meta, report))

    def _broke(self, broke: Broke) -> None:
        if self._view and self._sizes and broke.name == "size":
            self._sizes.refuse(self._view.compression)
        if self._view and broke.name == "rank":
            self._refused_ranking = self._view.compression
        if self._view and broke.name in ("tree", "polish"):
            self._reducer.refuse(self._view.compression)
        self._events.append(Failed(broke.name, work.in_words(broke.error)))

    # What runs in the workers' threads.

    def _ready(self, report: Report) -> Renderer:
        """The renderer; opened by the first job that needs it, since that may compile."""
        if self._renderer is None:
            report(0.0, "Preparing the renderer")
            renderer = self._stages.open_renderer(self._backend, report)
            self._frames = Frames(renderer, self._as_bytes)
            self._renderer = renderer
        return self._renderer

    def _draw(self, request: FrameRequest, stale: Callable[[], bool]) -> tuple[Frame, list[Timing]]:
        return self._frames.draw(request)


def _restored_in(frame: Frame) -> Repaired | None:
    """The restored picture that a frame shows in full: no fill, nothing half faded."""
    repaired = frame.request.repaired
    return repaired if repaired is not None and repaired.final and frame.request.fade == 1 else None
