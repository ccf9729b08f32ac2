"""What the commands print: progress and warnings on stderr, the answer on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exgs_viewer.settings import Report


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 3)


@contextmanager
def progress() -> Iterator[Report]:
    """Progress on stderr: one line that is written over on a terminal, a line every few seconds elsewhere."""
    terminal, told = sys.stderr.isatty(), [time.monotonic()]

    def report(fraction: float, text: str) -> None:
        now = time.monotonic()
        if now - told[0] < (0.05 if terminal else 3.0):
            return
        told[0] = now
        line = f"{fraction:4.0%}  {text}"
        print(f"\r\033[K{line[:78]}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    yield report
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def answer(as_json: bool, values: dict[str, Any]) -> int:
    """Print what a command found: one JSON object, or one line for each value."""
    if as_json:
        print(json.dumps(values))
        return 0
    for name, value in values.items():
        print(f"{name.replace('_', ' '):14}{_in_words(name, value)}")
    return 0


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return "   ".join(f"{key} {_in_words(key, part)}" for key, part in value.items())
    if name == "size":
        return " x ".join(map(str, value))
    if isinstance(value, list):
        return "  ".join(_in_words(name, part) for part in value) if value else "none"
    if "bytes" in name:
        return f"{value:,} ({value / 1e6:.2f} MB)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
