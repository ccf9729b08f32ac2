"""The picture on the screen and the one that is asked for next: drafts while something moves, all of it at rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from exgs_viewer.app import work
from exgs_viewer.app.drafts import Drafts
from exgs_viewer.app.frames import Frames, Timing
from exgs_viewer.app.pace import FULL, Draft
from exgs_viewer.app.state import Event, Failed, Frame, FrameReady, FrameRequest, FrameRestored, Repaired, ViewState
from exgs_viewer.app.stillness import MEASURE, REST, Stillness
from exgs_viewer.app.workers import LatestWorker, Notify, Outcome
from exgs_viewer.scene.cloud import GaussianCloud

Drawn = tuple[Frame, Sequence[Timing]]


class Screen:
    """Owned by the engine, from whose thread all methods are called but `open`; draws on a worker of its own."""

    def __init__(self, still: Stillness, notify: Notify):
        self._still = still
        self._frames: Frames | None = None
        self._worker = LatestWorker[FrameRequest, Drawn]("render", self._draw, notify)
        self.forget()

    def open(self, frames: Frames) -> None:
        """There is a renderer now; called from whichever thread has opened it."""
        self._frames = frames

    def forget(self) -> None:
        """Another scene comes."""
        self.drafts = Drafts()
        self._requested: FrameRequest | None = None
        self._frame: Frame | None = None

    def close(self) -> None:
        """Stop the worker."""
        self._worker.close()

    @property
    def frame(self) -> Frame | None:
        """The newest picture."""
        return self._frame

    @property
    def busy(self) -> bool:
        """Whether a picture is being drawn."""
        return self._worker.busy

    @property
    def whole(self) -> bool:
        """Whether the picture that was asked for last is there, and in full."""
        return self._frame is not None and self._frame.request == self._requested and self._requested.draft.whole

    @property
    def measured(self) -> bool:
        """Whether the picture that was asked for last is one that is measured."""
        return self._requested is not None and self._requested.measure

    def draft(self, view: ViewState, total: int, ready: bool, live: bool = False) -> Draft:
        """How much of a scene of `total` Gaussians, ranked where it is `ready`, is to be drawn now.

        `live` says whether it is restored as well.
        """
        if self._still.of_picture >= REST:
            return FULL
        return self.drafts.affordable(view, total, ready, turning=self._still.of_camera < REST, live=live)

    def ask(self, request: FrameRequest, ready: bool) -> FrameRequest:
        """Have `request` drawn where another picture is on its way; measured, too, if nothing has happened for long."""
        due = ready and request.draft.whole and self._still.of_view >= MEASURE
        request = replace(request, measure=due and request.fade == 1 and self._shows(request))
        if request != self._requested:
            self._requested = request
            self._worker.submit(request)
        return request

    def _shows(self, request: FrameRequest) -> bool:
        """Whether the picture of `request` is there already, measured or not."""
        return self._frame is not None and replace(self._frame.request, measure=request.measure) == request

    def poll(self, original: GaussianCloud | None) -> list[Event]:
        """The pictures since the last call; those of another scene than the `original` are dropped."""
        return [event for outcome in self._worker.poll() for event in self._take(outcome, original)]

    def _take(self, outcome: Outcome[FrameRequest, Drawn], original: GaussianCloud | None) -> list[Event]:
        if outcome.error is not None:
            return [Failed("render", work.in_words(outcome.error))]
        frame, timings = outcome.result
        if frame.request.original is not original:
            return []
        self.drafts.learn(timings)
        restored, last = _restored_in(frame), self._frame
        fresh = restored is not None and (last is None or _restored_in(last) is not restored)
        self._frame = frame
        return [FrameRestored(frame, restored.seconds) if fresh else FrameReady(frame)]

    def _draw(self, request: FrameRequest, stale: Callable[[], bool]) -> Drawn:
        return self._frames.draw(request)


def _restored_in(frame: Frame) -> Repaired | None:
    """The restored picture that a frame shows in full: no fill, nothing half faded."""
    repaired = frame.request.repaired
    return repaired if repaired is not None and repaired.final and frame.request.fade == 1 else None
