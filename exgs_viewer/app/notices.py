"""What the user is told: a sentence in the status line, a message over the picture, how far the jobs are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exgs_viewer.app.readout import Told
from exgs_viewer.errors import ExgsError

TOAST = 1.8
"""Seconds a message stands over the picture."""
LINGER = 0.1
"""Seconds after which it has certainly left the screen."""
SHOWN = ("open", "renderer", "save", "download", "capture", "film", "score", "rank", "tree", "polish", "tune")
"""Jobs whose progress is shown, the one that matters most first."""


class Notices:
    """The newest of each kind."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self.told = Told("Starting …")
        self.failed: ExgsError | None = None
        """The last error."""
        self._toast, self._until = "", 0.0
        self._progress: dict[str, tuple[float, str]] = {}

    def say(self, text: str, kind: str = "plain") -> None:
        """A sentence for the status line; `kind` as in Told."""
        self.told = Told(text, kind)

    def toast(self, text: str) -> None:
        """A short message over the picture."""
        self._toast, self._until = text, self._clock() + TOAST

    @property
    def over_picture(self) -> str:
        """The message that stands over the picture now."""
        return self._toast if self._clock() < self._until else ""

    @property
    def fading(self) -> bool:
        """Whether a message is about to leave the screen."""
        return self._until > 0 and self._clock() < self._until + LINGER

    def fail(self, error: Exception) -> None:
        """Tell an error; everything that is open stays open."""
        self.failed = error if isinstance(error, ExgsError) else ExgsError(str(error))
        self.say(str(error), "bad")

    def attempt(self, work: Callable[[], Any]) -> None:
        """Do `work`, and tell what keeps it from being done: the user's mistakes, and files."""
        try:
            work()
        except ExgsError as error:
            self.fail(error)
        except OSError as error:
            self.fail(ExgsError(f"{error.filename}: cannot be written ({error.strerror})."))

    def progress(self, job: str, fraction: float, text: str) -> None:
        """`job` is so far."""
        self._progress[job] = (fraction, text)

    def finished(self, job: str) -> None:
        """`job` is no longer under way."""
        self._progress.pop(job, None)

    @property
    def under_way(self) -> tuple[str, float, str] | None:
        """The job to be shown: its name, share done and words."""
        return next(((job, *self._progress[job]) for job in SHOWN if job in self._progress), None)

    @property
    def centre(self) -> tuple[str, str, float]:
        """Title, words and share done (negative: none), for the middle of a window in which nothing is open."""
        if self.under_way:
            _, fraction, text = self.under_way
            return "Opening", text, fraction
        if self.told.kind == "bad":
            return "Nothing is open", self.told.text, -1.0
        return "Drop a scene here", "or press O: .ply, .splat, .sog, .exgs, or a screenshot made here", -1.0
