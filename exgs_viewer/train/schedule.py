"""How a run goes along: its learning rate step by step, and its end before its time."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from exgs_viewer.train.options import Schedule


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
