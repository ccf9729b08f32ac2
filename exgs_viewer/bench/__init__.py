"""Time and memory of every stage -> table. Every figure is a median of several runs after a warm-up."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from exgs_viewer.bench.stages import Plan, stage_rows
from exgs_viewer.bench.stopwatch import Row, Stopwatch, most_resident, quantile, resident
from exgs_viewer.doctor import display_problem
from exgs_viewer.render import Renderer, open_renderer
from exgs_viewer.settings import Report, quiet

__all__ = ["Plan", "run", "slowest", "table"]


def run(plan: Plan, report: Report = quiet) -> dict[str, Any]:
    """{machine, rows}: plain JSON values. Raises what opening the scene or the backend raises."""
    renderer = open_renderer(plan.backend, report)
    with _nothing_remembered():
        rows = [*stage_rows(plan, renderer, report), *_window(plan, renderer, report)]
    return {"machine": machine(renderer), "rows": [_plain(row) for row in rows]}


@contextmanager
def _nothing_remembered() -> Iterator[None]:
    """A user's folder that is empty: scores found there would make scoring look free."""
    before = os.environ.get("EXGS_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EXGS_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["EXGS_HOME"]
            if before is not None:
                os.environ["EXGS_HOME"] = before


def _plain(row: Row) -> dict[str, Any]:
    values = asdict(row) | {"size": list(row.size)}
    optional = ("percent", "restorer", "during", "p99_ms")
    return {name: value for name, value in values.items() if value is not None or name not in optional}


def machine(renderer: Renderer) -> dict[str, Any]:
    """What the figures depend on: processor, cores, versions, device."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "renderer": renderer.label,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "numba", "gsplat", "dearpygui")},
    }


def table(result: dict[str, Any]) -> str:
    """The result as Markdown, as it stands in the README."""
    about, rows = result["machine"], result["rows"]
    lines = [
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['renderer']}, torch {about['torch']}",
        "",
        "| stage | scene | size | keep | median ms | p90 ms | peak MB | runs |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        size = "x".join(map(str, row["size"]))
        note = f" ({row['percent']:+.2f} % off)" if "percent" in row else ""
        note += f" ({row['restorer']})" if "restorer" in row else ""
        note += f" ({row['during']}; 99 %: {row['p99_ms']:.4g} ms)" if "during" in row else ""
        times = " | ".join("" if row[name] is None else f"{row[name]:.4g}" for name in ("median_ms", "p90_ms"))
        numbers = f"{times} | {row['peak_mb']:.0f} | {row['runs']}"
        lines.append(f"| {row['stage']}{note} | {row['scene']} | {size} | {row['keep']:.0%} | {numbers} |")
    return "\n".join(lines)


def slowest(result: dict[str, Any], count: int = 5) -> list[str]:
    """The stages that take longest, one sentence each."""
    rows = sorted(result["rows"], key=lambda row: -(row["median_ms"] or 0))[:count]
    return [f"{row['stage']} at {row['keep']:.0%}: {row['median_ms']:.0f} ms" for row in rows]


def _window(plan: Plan, renderer: Renderer, report: Report) -> Iterator[Row]:
    """The real window and the memory of it all. Without a display its rows are left out, and that is said."""
    watch = Stopwatch(plan.scene, plan.size, renderer)
    problem = display_problem()
    if problem:
        report(1.0, f"The window is not measured. {problem}")
    else:
        report(0.95, "opening the window")
        from exgs_viewer.bench.window import watch as watch_window

        for watched in watch_window(plan.scene, plan.backend, plan.keep):
            row = watch.of(watched.stage, watched.seconds, resident(), plan.keep)
            if watched.during:
                row = replace(row, during=watched.during, p99_ms=1e3 * quantile(watched.seconds, 0.99))
            yield row
    yield replace(watch.of("memory", [0.0], most_resident()), median_ms=None, p90_ms=None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
