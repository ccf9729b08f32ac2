"""How a stage is timed, and how much memory it takes meanwhile."""

from __future__ import annotations

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from exgs_viewer.render import Renderer
from exgs_viewer.scene.camera import Size

PATIENCE = 4.0
"""Seconds after which a stage is not repeated again."""
RUNS = 7
"""Counted runs of a stage, at most."""


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
    restorer: str | None = None
    """For `restore`: which one."""
    during: str | None = None
    """For `ui_loop`: what went on meanwhile."""
    p99_ms: float | None = None
    """For `ui_loop`: only one frame in a hundred took longer."""


class Stopwatch:
    """Makes rows: the common part of all of them, and how a run is timed."""

    def __init__(self, scene: str, size: Size, renderer: Renderer) -> None:
        self._common = Row("", Path(scene).name, renderer.name, size, 1.0, 0, 0, 0, 0)
        self._device = renderer.device

    def row(self, stage: str, works: Sequence[Callable[[], Any]], keep: float = 1.0, warm_up: bool = True) -> Row:
        """Run the works in turn, RUNS times or till PATIENCE is over; the median of single works."""
        if warm_up:
            works[0]()
        times, began = [], time.perf_counter()
        with peak_memory() as peak:
            for _ in range(RUNS):
                times.extend(self._timed(work) for work in works)
                if time.perf_counter() - began > PATIENCE:
                    break
        return self.of(stage, times, peak[0], keep)

    def of(self, stage: str, times: Sequence[float], peak: int, keep: float = 1.0) -> Row:
        """A row of times taken elsewhere, seconds; `peak` in bytes."""
        median, p90 = 1e3 * statistics.median(times), 1e3 * quantile(times, 0.9)
        row = replace(self._common, stage=stage, keep=keep, runs=len(times), median_ms=median, p90_ms=p90)
        return replace(row, peak_mb=peak / 1e6)

    def once(self, stage: str, seconds: float) -> Row:
        """A figure that happened once, by the way."""
        memory = resident() / 1e6
        return replace(self._common, stage=stage, median_ms=1e3 * seconds, p90_ms=1e3 * seconds, peak_mb=memory, runs=1)

    def _timed(self, work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The largest resident memory while the block runs, looked at every 5 ms: [bytes], filled at its end."""
    most, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield most
    done.set()
    thread.join()


def quantile(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def resident() -> int:
    """Resident memory of this process, bytes; elsewhere than on Linux the largest so far, which is all there is."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return most_resident()


def most_resident() -> int:
    """Largest resident memory of this process so far, bytes; 0 on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
