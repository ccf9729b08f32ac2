"""The engine: owns the open scene, renderer, restorer and workers; takes requests, answers with events; no GUI."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from exgs_viewer.app import state as said
from exgs_viewer.app import work
from exgs_viewer.app.frames import Frames, request_for
from exgs_viewer.app.pace import FULL, Draft
from exgs_viewer.app.reducer import Reducer, Source
from exgs_viewer.app.repairer import Repairer
from exgs_viewer.app.screen import Screen
from exgs_viewer.app.sizer import JOBS, LEISURE, Sizer
from exgs_viewer.app.stages import Stages, real_stages
from exgs_viewer.app.state import Event, Frame, FrameRequest, Ranked, Reduced, Repairs, Saved, ViewState
from exgs_viewer.app.stillness import MEASURE, REST, SETTLE, Stillness
from exgs_viewer.app.workers import Broke, Done, JobWorker, Notify, Progressed, nothing
from exgs_viewer.errors import BackendError
from exgs_viewer.render import Renderer
from exgs_viewer.restore import scene_filter
from exgs_viewer.restore.scene_filter import SceneRestorer
from exgs_viewer.scene import Scene, written_suffix
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.settings import CompressionSettings, Report


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
        self._backend, self._as_bytes = backend, as_bytes
        self._renderer: Renderer | None = None
        self._events: list[Event] = []
        self._view: ViewState | None = None
        self._still = Stillness(clock)
        self._jobs = JobWorker("jobs", notify)
        self._fetching = JobWorker("fetch", notify)  # Takes minutes of waiting, which hold up nothing else.
        self._reducer = Reducer(self._stages, self._jobs, self._submit, notify)
        self._sizes = Sizer(self._stages, self._jobs, self._submit)
        self._repairer = Repairer(self._stages, clock, notify)
        self._screen = Screen(self._still, notify)
        self._take_scene(None)
        self._jobs.submit("renderer", self._ready)

    def _take_scene(self, opened: work.Opened | None) -> None:
        """Start anew with another scene."""
        self._opened = opened
        self._reducer.forget()
        self._repairer.forget(scene_filter.from_meta(opened.scene.meta) if opened else None)
        self._sizes.forget()
        self._screen.forget()
        self._refused_ranking: CompressionSettings | None = None

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
        return self._screen.frame

    @property
    def repairs(self) -> Repairs:
        """What there is to say about restoring."""
        return self._repairer.told(self._view.restore) if self._view else Repairs()

    @property
    def fading(self) -> bool:
        """Whether the picture changes by itself."""
        return self._repairer.fading

    def share_within(self, limit: int, compression: CompressionSettings) -> float | None:
        """The largest share whose file should take at most `limit` bytes; None as long as that is not known."""
        return self._sizes.share_within(limit, compression)

    @property
    def jobs(self) -> list[str]:
        """Names of the jobs that run or wait."""
        return [*self._jobs.names(), *self._fetching.names()]

    @property
    def working(self) -> bool:
        """Whether anything runs or waits that the user may be waiting for."""
        return self._screen.busy or self._repairer.busy or self._reducer.busy or self._jobs.busy(*LEISURE)

    @property
    def busy(self) -> bool:
        """Whether anything runs, waits or becomes due within a moment."""
        return self._still.of_view < MEASURE + 0.05 or self.fading or self.working

    @property
    def settled(self) -> bool:
        """Whether the full, measured picture of the last view is there, its size exact, and nothing remains to do."""
        if not self._screen.whole or self.busy:
            return False
        if not self.ready:
            return True
        compression = self._view.compression
        improving = self._reducer.missing(compression) or self._sizes.missing(compression)
        return self._screen.measured and not improving

    # Commands.

    def open(self, path: str, up: Vector | None = None) -> None:
        """Open a scene in the background; `up` overrides what the file says. The open one stays until it is there."""
        self._jobs.cancel("open", "score", "rank", "tree", "polish", "tune", *JOBS)
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

        self._order("save", job)

    def capture(self, path: Path, view: ViewState, meta: dict[str, Any]) -> None:
        """Draw `view` at its size in the background and write it as PNG with `meta` inside."""
        request, tools = self._shot(view, "picture to save")
        self._order("capture", lambda report: work.capture(tools, request, view.restore, path, meta, report))

    def film(self, path: Path, view: ViewState, flight: work.Flight) -> None:
        """Draw `view` from every camera of a flight in the background and write it as a video."""
        request, tools = self._shot(view, "video to make")
        self._submit("film", lambda report: work.film(tools, request, view.restore, path, flight, report))

    def _shot(self, view: ViewState, what: str) -> tuple[FrameRequest, work.Tools]:
        """What a job draws `view` from, and with. Raises BackendError where there is no scene."""
        if self._opened is None or self._renderer is None or view.camera is None:
            raise BackendError(f"There is no {what} yet; open a scene first.")
        request = self._request(view, FULL)
        fitted = self._repairer.fitted(request)
        return request, work.Tools(self._stages, self._renderer, lambda: self._repairer.open(view.restore, fitted))

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
        self._screen.close()
        self._reducer.close()
        self._fetching.close(seconds=0.5)
        self._jobs.close(finish=("save", "capture"))

    # The picture.

    def show(self, view: ViewState) -> None:
        """Make the screen show `view`; asks for a picture only where that needs another one."""
        if self._opened is None or view.camera is None or self._renderer is None:
            return
        self._notice(view)
        draft = self._screen.draft(view, len(self.scene.cloud), self.ready, self._repairer.live)
        request = self._screen.ask(self._request(view, draft), self.ready)
        self._repairer.follow(request, self._screen.frame, view, self._renderer)
        if self.ready:
            self._rank_again(view.compression)
            self._sizes.estimate(view.compression)
            self._reducer.follow(self._ranked, view.compression, self._renderer)
            if self._still.of_picture >= SETTLE:
                self._reducer.improve(view.compression, self._renderer)
                if view.restoring and view.restore.restorer == SceneRestorer.name:
                    self._reducer.tune(view.compression, self._renderer)
                self._encode(view)
                self._anchor()

    def _notice(self, view: ViewState) -> None:
        """What was under way for another compression is left."""
        last, self._view = self._view, view
        self._still.notice(last, view)
        if last is None or last.compression != view.compression:
            self._sizes.stop()
            self._reducer.stop()
            self._tell_size()

    def _request(self, view: ViewState, draft: Draft) -> FrameRequest:
        reduced = self._reducer.best(view.compression) if self.ready else None
        request = request_for(self._opened.scene.cloud, self._ranked, view, reduced, draft)
        return self._repairer.applied(request, view.restore, moving=self._still.of_camera < REST)

    # Ranking and sizes.

    def _rank_again(self, compression: CompressionSettings) -> None:
        """Follow the voxel slider: rank anew as often as that can be done, the newest value each time."""
        ranked, stages = self._ranked, self._stages
        if ranked.fits(compression) or compression == self._refused_ranking or "rank" in self._jobs.names():
            return
        self._sizes.leave()
        scene = self._opened.scene
        self._jobs.submit("rank", lambda report: work.rank_again(stages, ranked, scene, compression, report))

    def _encode(self, view: ViewState) -> None:
        """Once the sliders have come to rest, the exact size is due."""
        wanted = view.compression
        if self._ranked.fits(wanted) and self._sizes.due(wanted) and not self._reducer.missing(wanted):
            self._sizes.encode(self._compressed(view))

    def _anchor(self) -> None:
        """Then better estimates, once nothing else is to be done: polishing would have to wait for them."""
        wanted, camera = self._view.compression, self._view.camera
        if self.working or self._reducer.missing(wanted):
            return

        def describe(compression: CompressionSettings) -> dict[str, Any]:
            return self._meta(compression, camera)

        self._sizes.anchor(self._reducer.prepared, describe)
        self._sizes.finish(wanted, self._reducer.elsewhere(self._renderer), describe)

    def _compressed(self, view: ViewState) -> work.Compressed:
        """What is to be encoded: the merged scene as far as it is, or the ranking that is to be cut."""
        wanted = view.compression
        return work.Compressed(self._ranked, self._reducer.exact(wanted), wanted, self._meta(wanted, view.camera))

    def _meta(self, compression: CompressionSettings, camera: Camera) -> dict[str, Any]:
        return work.saved_meta(self._stages, self._opened, compression, camera)

    def _submit(self, name: str, job: Callable[[Report], Any]) -> None:
        """Add a job of ours, which makes way for whatever the user moves."""
        self._order(name, lambda report: job(self._still.making_way(report)))

    def _order(self, name: str, job: Callable[[Report], Any]) -> None:
        """Add a job, for which those at leisure are left."""
        if name not in LEISURE:
            self._jobs.cancel(*LEISURE)
        self._jobs.submit(name, job)

    @property
    def _ranked(self) -> Ranked | None:
        return self._sizes.ranked

    def _tell_size(self) -> None:
        """Announce what is known about the size of the present view."""
        known = self._sizes.of(self._view.compression) if self._view else None
        if known:
            self._events.append(known)

    # Answers.

    def poll(self) -> list[Event]:
        """Everything that happened since the last call, oldest first."""
        first = self._screen.frame is None
        self._events += self._screen.poll(self.scene.cloud if self.scene else None)
        if first and self._screen.frame is not None:
            self.score()  # Not before: the first picture shall have the processor to itself.
        self._events += [said.Failed("restore", error) for error in self._repairer.poll()]
        self._events += [said.Failed("fold", work.in_words(error)) for error in self._reducer.poll()]
        for news in (*self._jobs.poll(), *self._fetching.poll()):
            if isinstance(news, Progressed):
                self._events.append(said.Progress(news.name, news.fraction, news.text))
                continue
            if isinstance(news, Done):
                self._done(news)
            elif isinstance(news, Broke):
                self._broke(news)
            else:
                self._reducer.dropped(news.name)
            self._events.append(said.Finished(news.name))
            if news.name == "open" and not isinstance(news, Done) and "open" not in self._jobs.names():
                self.score()  # Of the scene that stays open: the attempt had stopped it.
        events, self._events = self._events, []
        return events

    def _done(self, done: Done) -> None:
        match done.name, done.result:
            case "renderer", renderer:
                self._events.append(said.RendererReady(renderer.label))
            case "open", opened:
                self._take_scene(opened)
                self._events.append(
                    said.SceneOpened(opened.scene, opened.camera, opened.up, opened.extent, done.seconds)
                )
            case "score" | "rank", ranking:
                self._take_ranking(ranking, done)
            case "tree", treed if treed.ranked.cloud is self._opened.scene.cloud:
                self._reducer.take_tree(treed)
                self._sizes.settle(self._reducer.prepared)
                self._tell_size()
            case "tune", tuned:
                self._take_tuned(tuned)
            case "model" | "anchors" | "finish" | "size", found:
                if self._sizes.take(done.name, found, self._reducer.prepared):
                    self._tell_size()
            case "download", _:
                self._repairer.again()
                self._events.append(said.Fetched())
            case _, Saved() as saved:
                self._events.append(saved)

    def _take_ranking(self, ranking: work.Ranking, done: Done) -> None:
        """From now on the scene's cloud is its own permutation: the picture is the same, and no memory is doubled."""
        current = self._ranked.cloud if self._ranked else self._opened.scene.cloud
        if ranking.scene.cloud is not current:
            return  # Made for a scene that is no longer the open one.
        self._opened = replace(self._opened, scene=replace(self._opened.scene, cloud=ranking.ranked.cloud))
        self._sizes.take_ranking(ranking.ranked)
        if done.name == "score":
            self._events.append(said.Scored(done.seconds))
        if self._view and self._view.camera and not self._reducer.missing(self._view.compression):
            # Before the model: it takes less time, and is the figure to be seen first.
            self._sizes.encode(self._compressed(self._view))
        if self._view:
            self._sizes.estimate(self._view.compression)

    def _take_tuned(self, tuned: tuple[Source, Reduced]) -> None:
        """The filter takes some kilobytes of the file."""
        self._reducer.take_tuned(tuned)
        if self.ready and self._view and tuned[1].fitted:
            self._sizes.encode(self._compressed(self._view))

    def _broke(self, broke: Broke) -> None:
        if self._view and broke.name == "size":
            self._sizes.refuse(self._view.compression)
        if broke.name == "finish":
            self._sizes.finished_enough()
        if self._view and broke.name == "rank":
            self._refused_ranking = self._view.compression
        if self._view and broke.name in ("tree", "polish"):
            self._reducer.refuse(self._view.compression)
        if broke.name == "tune":
            self._reducer.untuned()
        self._events.append(said.Failed(broke.name, work.in_words(broke.error)))

    # What runs in the workers' threads.

    def _ready(self, report: Report) -> Renderer:
        """The renderer; opened by the first job that needs it, since that may compile."""
        if self._renderer is None:
            report(0.0, "Preparing the renderer")
            renderer = self._stages.open_renderer(self._backend, report)
            self._screen.open(Frames(renderer, self._as_bytes))
            self._renderer = renderer
        return self._renderer
