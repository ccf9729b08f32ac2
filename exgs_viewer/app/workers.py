"""LatestWorker and JobWorker: the only threading code of the program."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from exgs_viewer.errors import Cancelled
from exgs_viewer.settings import Report

Request = TypeVar("Request")
Result = TypeVar("Result")
Notify = Callable[[], None]
"""Called from the worker's thread whenever there is something to poll, e.g. to wake a sleeping window."""
Submit = Callable[[str, Callable[[Report], Any]], None]
"""Adds a job by its name, as JobWorker.submit does."""

NICE = 10
"""How far workers stand back behind the window, on the scale of Unix; 19 is farthest."""


def nothing() -> None:
    """A Notify that tells nobody."""


@dataclass(frozen=True, eq=False)
class Outcome(Generic[Request, Result]):
    """What became of one request: a result or the error that ended it."""

    request: Request
    result: Result | None
    error: Exception | None
    seconds: float
    """Time the work took."""


class LatestWorker(Generic[Request, Result]):
    """One thread with one pending slot: the newest request wins, and work that has begun is finished.

    `work(request, stale)` runs in the thread; `stale()` turns true once a newer request waits or `drop` was called.
    Long work that nobody would look at any more may give up on it; a render should not, or the picture starves.
    """

    def __init__(self, name: str, work: Callable[[Request, Callable[[], bool]], Result], notify: Notify = nothing):
        self._work, self._notify = work, notify
        self._changed = threading.Condition()
        self._pending: Request | None = None
        self._running = False
        self._stale = threading.Event()
        self._closed = False
        self._outcomes: deque[Outcome[Request, Result]] = deque()
        self._thread = threading.Thread(target=self._run, name=f"exgs-{name}", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether something runs or waits."""
        with self._changed:
            return self._running or self._pending is not None

    def submit(self, request: Request) -> None:
        """Ask for `request`; one that still waits is forgotten."""
        with self._changed:
            self._pending = request
            self._stale.set()
            self._changed.notify_all()

    def drop(self) -> None:
        """Nobody wants what waits or runs any more."""
        with self._changed:
            self._pending = None
            self._stale.set()

    def poll(self) -> list[Outcome[Request, Result]]:
        """Everything finished since the last call, oldest first."""
        with self._changed:
            outcomes = list(self._outcomes)
            self._outcomes.clear()
        return outcomes

    def close(self, seconds: float = 5.0) -> None:
        """Take no more work and wait up to `seconds` for what runs."""
        with self._changed:
            self._closed, self._pending = True, None
            self._stale.set()
            self._changed.notify_all()
        self._thread.join(seconds)

    def _run(self) -> None:
        step_back()
        with own_stream():
            while (request := self._next()) is not None:
                outcome = _tried(request, lambda: self._work(request, self._stale.is_set))
                with self._changed:
                    self._outcomes.append(outcome)
                    self._running = False
                self._notify()

    def _next(self) -> Request | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._pending is not None)
            request, self._pending = self._pending, None
            self._running = request is not None
            self._stale.clear()
            return request


def _tried(request: Any, work: Callable[[], Any]) -> Outcome:
    """Run `work`; publish only after this thread's stream has finished, so that nobody else needs events or locks."""
    began = time.perf_counter()
    try:
        result, error = work(), None
        synchronise()
    except Exception as failure:  # Handed over by poll: a worker never dies of its work.
        result, error = None, failure
    return Outcome(request, result, error, time.perf_counter() - began)


def step_back() -> None:
    """Let the window go first where cores are few: on Linux, lower this thread's priority and that of those it starts.

    With two cores that also draw the window (software OpenGL), its frame takes 17 instead of 35 ms while a scene of
    three million Gaussians is scored, and the work takes no longer.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


@contextmanager
def own_stream() -> Iterator[None]:
    """Enter a CUDA stream of this thread's own where there is a GPU, and switch gradients off in it."""
    with torch.no_grad():
        if torch.cuda.is_available():
            with torch.cuda.stream(torch.cuda.Stream()):
                yield
        else:
            yield


def synchronise() -> None:
    """Wait until what this thread has asked of the GPU is done: before anything is handed over."""
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()


@dataclass(frozen=True)
class Progressed:
    """A job is under way."""

    name: str
    fraction: float
    text: str


@dataclass(frozen=True, eq=False)
class Done:
    """A job has finished."""

    name: str
    result: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class Broke:
    """A job has failed."""

    name: str
    error: Exception


@dataclass(frozen=True)
class Dropped:
    """A job was cancelled, before or while it ran."""

    name: str


@dataclass(eq=False)
class _Job:
    name: str
    work: Callable[[Report], Any]
    unwanted: bool = False


class JobWorker:
    """One thread that does named jobs one after another, with progress and cancel; a failed job hurts no other."""

    def __init__(self, name: str = "jobs", notify: Notify = nothing):
        self._notify = notify
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._current: _Job | None = None
        self._closed = False
        self._news: deque[Progressed | Done | Broke | Dropped] = deque()
        self._thread = threading.Thread(target=self._run, name=f"exgs-{name}", daemon=True)
        self._thread.start()

    def names(self) -> list[str]:
        """The wanted job that runs, then those that wait."""
        with self._changed:
            current = [self._current] if self._current and not self._current.unwanted else []
            return [job.name for job in [*current, *self._waiting]]

    def busy(self, *but: str) -> bool:
        """Whether a job runs or waits, or has ended without `poll` having told of it; those named count nothing."""
        with self._changed:
            ended = [news.name for news in self._news if not isinstance(news, Progressed)]
            jobs = [self._current, *self._waiting] if self._current else self._waiting
            return any(name not in but for name in (*ended, *(job.name for job in jobs)))

    def submit(self, name: str, work: Callable[[Report], Any]) -> None:
        """Add a job to the end of the queue. `work(report)` ends with Cancelled, out of `report`, once unwanted."""
        with self._changed:
            self._waiting.append(_Job(name, work))
            self._changed.notify_all()

    def cancel(self, *names: str) -> None:
        """Make every job of these names unwanted, whether it runs or waits."""
        with self._changed:
            dropped = [job for job in self._waiting if job.name in names]
            self._waiting = deque(job for job in self._waiting if job.name not in names)
            self._news.extend(Dropped(job.name) for job in dropped)
            if self._current and self._current.name in names:
                self._current.unwanted = True

    def poll(self) -> list[Progressed | Done | Broke | Dropped]:
        """What happened since the last call, oldest first."""
        with self._changed:
            news = list(self._news)
            self._news.clear()
        return news

    def close(self, finish: tuple[str, ...] = (), seconds: float = 5.0) -> None:
        """Cancel every job but those named in `finish`, which are waited for; the others get up to `seconds`."""
        with self._changed:
            self._closed = True
            self._waiting = deque(job for job in self._waiting if job.name in finish)
            kept = len(self._waiting)
            if self._current and self._current.name not in finish:
                self._current.unwanted = True
            elif self._current:
                kept += 1
            self._changed.notify_all()
        self._thread.join(None if kept else seconds)

    def _run(self) -> None:
        step_back()
        with own_stream():
            while (job := self._next()) is not None:
                news = self._do(job)
                with self._changed:
                    self._current = None
                    self._news.append(news)
                self._notify()

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            self._current = self._waiting.popleft() if self._waiting else None
            return self._current

    def _do(self, job: _Job) -> Done | Broke | Dropped:
        outcome = _tried(job, lambda: job.work(lambda fraction, text: self._report(job, fraction, text)))
        if isinstance(outcome.error, Cancelled):
            return Dropped(job.name)
        if outcome.error is not None:
            return Broke(job.name, outcome.error)
        return Dropped(job.name) if job.unwanted else Done(job.name, outcome.result, outcome.seconds)

    def _report(self, job: _Job, fraction: float, text: str) -> None:
        if job.unwanted:
            raise Cancelled(job.name)
        with self._changed:
            if self._news and isinstance(self._news[-1], Progressed) and self._news[-1].name == job.name:
                self._news.pop()
            self._news.append(Progressed(job.name, fraction, text))
        self._notify()
