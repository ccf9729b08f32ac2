"""How long nothing has moved: what is drawn, computed and measured waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from exgs_viewer.app.state import ViewState
from exgs_viewer.settings import Report

REST = 0.15
"""Seconds without movement after which the full picture is drawn."""
SETTLE = 0.3
"""Seconds without a change of the compression after which the exact size is computed."""
MEASURE = 0.6
"""Seconds without any change after which the view is measured; that draws the original, which may take a while."""
LONG_AGO = -1e9


class Stillness:
    """Told of every view that is shown; all methods but the reports of `making_way` belong to the caller's thread."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._camera_at = self._compression_at = self._view_at = self._stirred_at = LONG_AGO

    def notice(self, last: ViewState | None, view: ViewState) -> None:
        """`view` follows on `last`."""
        if view == last:
            return
        now = self._view_at = self._clock()
        if last is None or (last.camera, last.size, last.render) != (view.camera, view.size, view.render):
            self._camera_at = now
        if last is None or last.compression != view.compression:
            self._compression_at = now
        if max(self._camera_at, self._compression_at) == now:
            self._stirred_at = time.perf_counter()

    @property
    def of_camera(self) -> float:
        """Seconds since the camera, the size or the way of drawing changed."""
        return self._clock() - self._camera_at

    @property
    def of_picture(self) -> float:
        """Seconds since anything changed that has to be drawn anew."""
        return self._clock() - max(self._camera_at, self._compression_at)

    @property
    def of_view(self) -> float:
        """Seconds since anything changed at all."""
        return self._clock() - self._view_at

    def making_way(self, report: Report) -> Report:
        """A report that holds its job up while pictures are drawn of something that moves."""

        def polite(fraction: float, text: str) -> None:
            report(fraction, text)
            while time.perf_counter() - self._stirred_at < REST:
                time.sleep(0.02)
                report(fraction, text)

        return polite
