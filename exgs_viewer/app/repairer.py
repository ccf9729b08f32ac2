"""Restoring beside the drawing: asked for at rest, dropped when the view changes, faded in when it is there."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from exgs_viewer.app import work
from exgs_viewer.app.frames import pane_size
from exgs_viewer.app.stages import Stages
from exgs_viewer.app.state import Frame, FrameRequest, Live, Repaired, Repairs, ViewState
from exgs_viewer.app.workers import LatestWorker, Notify, synchronise
from exgs_viewer.render import Renderer
from exgs_viewer.restore import Averaging, Restorer
from exgs_viewer.restore.scene_filter import SceneFilter, SceneRestorer
from exgs_viewer.settings import RestoreSettings

FADE = 0.2
"""Seconds in which a restored picture comes out of the one before it."""
FADE_STEPS = 8
FILL = "inpaint"
"""The restorer that stands in while another one works."""
LONG = 0.15
"""Seconds from which a restorer is stood in for; a quicker one is not waited for."""
QUICK = 0.02
"""Seconds up to which a restorer keeps up with the drawing, and ..."""
LINGER = 1.5
"""... how many times as long it may take before that ends: it shall not come and go."""
NEARBY = ((0.125, -0.375), (-0.375, -0.125), (-0.125, 0.375), (0.375, 0.125))
"""Parts of a pixel, right and down, by which pictures are moved whose latents are averaged at rest: a turned square, so
that no two of them share a row or a column."""
LIVE_ON = ("cuda",)
"""Where pictures are restored while they move. On the CPU drawing and restoring would take turns, at half the rate."""


class Repairer:
    """Owned by the engine, from whose thread all methods are called; holds the restorer that was used last.

    Pictures are restored at full strength: how much of that is shown is decided when they are put together, so that
    the slider for it needs no restorer.
    """

    def __init__(self, stages: Stages, clock: Callable[[], float], notify: Notify):
        self._stages, self._clock, self._notify = stages, clock, notify
        self._restorer: Restorer | None = None
        self._fill: Restorer | None = None
        self._seconds: dict[str, float] = {}
        self._paces: dict[str, tuple[float, str]] = {}
        """Of each restorer: seconds a pixel, and the kind of device its pictures were on."""
        self._unlively: set[str] = set()
        self._live: tuple[tuple, Live] | None = None
        self._arrived: deque[Repaired] = deque()
        self._worker = LatestWorker[work.RestoreRequest, Repaired | None]("restore", self._repair, notify)
        self.forget()

    def forget(self, stored: SceneFilter | None = None) -> None:
        """Another scene comes; `stored` is the filter that its file holds, if it is a compressed one."""
        self._worker.drop()
        self._stored = stored
        self._repaired: Repaired | None = None
        self._since = 0.0
        self._asked: tuple | None = None
        self._failed: tuple[RestoreSettings, str] | None = None
        self._fade = 1.0
        self._moving = False

    def close(self) -> None:
        """Stop the worker."""
        self._worker.close(1.0)

    @property
    def busy(self) -> bool:
        """Whether a picture is being restored."""
        return self._worker.busy

    @property
    def fading(self) -> bool:
        """Whether the picture on the screen is on its way to the restored one."""
        return self._fade < 1

    def told(self, settings: RestoreSettings) -> Repairs:
        """What there is to say about it."""
        name, same = settings.restorer, self._restorer is not None and self._restorer.name == settings.restorer
        trouble = self._failed[1] if self._failed and self._failed[0].restorer == name else ""
        return Repairs(name, self._restorer.label if same else "", self._seconds.get(name), trouble)

    def fitted(self, request: FrameRequest) -> SceneFilter | None:
        """The filter of what `request` shows compressed: made here, or out of the file that is shown as it is."""
        if request.reduced is not None and request.reduced.fitted is not None:
            return request.reduced.fitted
        return self._stored if request.compression.keep == 1 else None

    @property
    def live(self) -> bool:
        """Whether pictures are restored as they are drawn."""
        return self._live is not None

    def applied(self, request: FrameRequest, settings: RestoreSettings, moving: bool = False) -> FrameRequest:
        """`request` with the restored picture in it, where that is there, or with what restores it on the spot."""
        repaired, self._fade, self._moving = self._repaired, 1.0, moving
        if "restored" not in request.sides:
            return request
        fits = request.draft.whole and repaired is not None
        if not fits or repaired.key != work.repair_key(request, settings, self.fitted(request)):
            live = self._lively(request, settings)
            moving = moving and live is not None and settings.steady
            return request if live is None else replace(request, live=live, strength=settings.strength, moving=moving)
        self._fade = min(1.0, round(FADE_STEPS * (self._clock() - self._since) / FADE) / FADE_STEPS)
        return replace(request, repaired=repaired, strength=settings.strength, fade=self._fade)

    def _lively(self, request: FrameRequest, settings: RestoreSettings) -> Live | None:
        """The restorer itself, where it is known to keep up with the drawing of such a picture."""
        name, by_filter = settings.restorer, settings.restorer == SceneRestorer.name
        opened = self._restorer if self._restorer is not None and self._restorer.name == name else None
        by = self.fitted(request) if by_filter else opened
        seconds, device = self._paces.get(name, (math.inf, ""))
        width, height = pane_size(request, "restored")
        limit = QUICK if self._live is None else LINGER * QUICK
        lively = device in LIVE_ON and name not in self._unlively and by is not None
        if not lively or seconds * width * height > limit:
            self._live = None
        elif self._live is None or self._live[0] != (by, settings.steady):
            restorer = SceneRestorer(by) if by_filter else by
            self._live = ((by, settings.steady), Live(restorer, replace(settings, strength=1.0)))
        return self._live and self._live[1]

    def _heed(self, frame: Frame) -> None:
        """Learn from a picture that was restored on the spot."""
        name = frame.request.live.settings.restorer
        if frame.trouble is not None:
            self._unlively.add(name)  # At rest it is tried again, and told where it still cannot work.
        elif frame.restoring is not None and frame.request.draft.whole:
            self._time(name, frame.restoring, frame.outputs["restored"].color)

    def _time(self, name: str, seconds: float, picture: Tensor) -> None:
        """A restorer took so long for a picture [H, W, 3]."""
        self._seconds[name] = seconds
        self._paces[name] = (seconds / picture[..., 0].numel(), picture.device.type)

    def follow(
        self, request: FrameRequest, frame: Frame | None, view: ViewState, renderer: Renderer | None = None
    ) -> None:
        """Restore what is on the screen (`frame`) where that is the wanted picture; stop what nobody waits for."""
        if frame is not None and frame.request.live is not None:
            self._heed(frame)
        wanted = None
        live = request.live and request.live.restorer
        due = live is None or (isinstance(live, Averaging) and not self._moving)
        if "restored" in request.sides and request.draft.whole and not view.held and due:
            wanted = work.repair_key(request, view.restore, self.fitted(request))
        if wanted != self._asked and self._asked is not None:
            self._worker.drop()
            self._asked = None
            if self._repaired is not None and not self._repaired.final:
                self._repaired = None
        have = self._repaired is not None and self._repaired.final and self._repaired.key == wanted
        if wanted is None or have or self._asked == wanted or frame is None:
            return
        fitted = self.fitted(frame.request)
        if "restored" not in frame.outputs or work.repair_key(frame.request, view.restore, fitted) != wanted:
            return
        if not frame.request.draft.whole or frame.request.repaired is not None or frame.trouble is not None:
            return
        self._asked, self._failed = wanted, None
        output = frame.outputs["restored"] if frame.request.live is None else None
        kept, draw = frame.request.compression.keep, partial(work.moved, renderer, frame.request)
        self._worker.submit(work.RestoreRequest(wanted, output, view.restore, kept, fitted, draw))

    def again(self) -> None:
        """What could not be restored may be now."""
        self._asked = self._failed = self._restorer = None
        if self._repaired is not None and not self._repaired.final:
            self._repaired = None

    def poll(self) -> list[Exception]:
        """Take in what was restored since the last call; what went wrong."""
        errors = []
        while self._arrived:
            early = self._arrived.popleft()
            if early.key == self._asked:  # Else it stands in for something that does not come any more.
                self._take(early)
        for outcome in self._worker.poll():
            if outcome.error is not None:
                error = work.in_words(outcome.error)
                self._failed = (outcome.request.settings, str(error))
                errors.append(error)
            elif outcome.result is not None:
                self._time(outcome.request.settings.restorer, outcome.result.seconds, outcome.result.picture)
                self._take(outcome.result)
            elif outcome.request.key == self._asked:
                self._asked = None  # Given up on; if the view is the wanted one again, ask again.
        return errors

    def _take(self, repaired: Repaired) -> None:
        """From now on it is shown, by requests of the same key only: one that is stale is never seen."""
        self._repaired, self._since = repaired, self._clock()
        if repaired.key == self._asked:
            self._fade = 0.0  # Whoever asks before the next picture is asked for shall know that one comes.

    def open(self, settings: RestoreSettings, fitted: SceneFilter | None) -> Restorer:
        """The restorer that `settings` name; runs in a worker's thread. Raises WeightsError."""
        if settings.restorer == SceneRestorer.name:
            self._restorer = SceneRestorer(fitted)
        elif self._restorer is None or self._restorer.name != settings.restorer:
            self._restorer = self._stages.open_restorer(settings.restorer)
        return self._restorer

    def _repair(self, request: work.RestoreRequest, stale: Callable[[], bool]) -> Repaired | None:
        settings, output, fill = replace(request.settings, strength=1.0), request.output, None
        slow = self._seconds.get(settings.restorer, LONG) >= LONG
        if output is not None and settings.restorer != FILL and slow:
            self._fill = self._fill or self._stages.open_restorer(FILL)
            fill = self._fill.restore(output, settings, stale, request.retention)
            if fill is None:
                return None
            self._show_early(Repaired(request.key, fill, 0.0, final=False))
        restorer, output = self.open(settings, request.fitted), output or request.draw(0.0, 0.0)
        began = time.perf_counter()
        picture = restorer.restore(output, settings, stale, request.retention)
        if picture is None:
            return None
        synchronise()
        repaired = Repaired(request.key, picture, time.perf_counter() - began, fill)
        if not isinstance(restorer, Averaging) or stale():
            return repaired
        if request.output is not None:
            self._show_early(repaired)
        outputs = [output, *(request.draw(*move) for move in NEARBY)]
        calmer = restorer.averaged(outputs, settings, stale, request.retention)
        return None if calmer is None else replace(repaired, picture=calmer, before=picture)

    def _show_early(self, repaired: Repaired) -> None:
        """Hand over what is there while the worker goes on."""
        synchronise()
        self._arrived.append(repaired)
        self._notify()
