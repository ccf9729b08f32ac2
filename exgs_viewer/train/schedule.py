"""How a run goes along: its learning rate step by step, and its end before its time."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from exgs_viewer.settings import Report
from exgs_viewer.train.options import Schedule
from exgs_viewer.train.state import CURVE, append_row
from exgs_viewer.train.team import Team


class Painting(Protocol):
    """A run of training in which a painter learns, with or without others."""

    folder: Path
    options: Schedule
    team: Team
    step: int
    seconds: float

    def advance(self) -> dict[str, float]:
        """One step; what is to be told of it, `psnr_in` and `psnr_out` among that."""
        ...

    def line(self, means: dict[str, float]) -> dict[str, float]: ...

    def look(self) -> None: ...

    def save(self) -> None: ...


R = TypeVar("R", bound=Painting)


def go_on(run: R, report: Report) -> R:
    """Up to the last step, or until a polite signal; then save and end."""
    rows: list[dict[str, float]] = []
    saved, before = time.monotonic(), time.monotonic() - run.seconds
    with asked_to_end() as asked:
        while run.step < run.options.steps and not run.team.any(bool(asked)):
            rows.append(run.advance())
            run.seconds = time.monotonic() - before
            if run.step % run.options.tell_every == 0:
                _tell(run, rows, report)
                rows = []
            if run.step % run.options.judge_every == 0 or run.step == run.options.steps:
                run.look()
            if run.team.leads and time.monotonic() - saved > run.options.save_every:
                run.save()
                saved = time.monotonic()
    if run.team.leads:
        run.save()
    run.team.part()
    return run


def _tell(run: Painting, rows: list[dict[str, float]], report: Report) -> None:
    """One line of the curve: the means of some steps."""
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    report(run.step / run.options.steps, f"step {run.step}: {means['psnr_in']:.2f} -> {means['psnr_out']:.2f} dB")
    if run.team.leads:
        append_row(run.folder / CURVE, run.line(means))


def rate_at(step: int, options: Schedule) -> float:
    """Learning rate: a linear warm-up, a plateau, then a cosine down to a hundredth."""
    if step < options.warm_up:
        return options.rate * (step + 1) / options.warm_up
    fall = options.plateau * options.steps
    done = min(1.0, max(0.0, (step - fall) / max(1.0, options.steps - fall)))
    return options.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


@contextmanager
def asked_to_end() -> Iterator[list[int]]:
    """A list that SIGTERM and SIGINT enter, so that the step at hand is finished and saved first."""
    came: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda caught, _: came.append(caught)) for number in numbers]
    try:
        yield came
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
