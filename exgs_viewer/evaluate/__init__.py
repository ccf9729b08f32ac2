"""Compression methods held against each other on any scenes: pictures and bytes -> tables, plots, one report.

The protocol is that of ExGS, section 5: every method keeps the same share of the Gaussians, its file is decoded, drawn
from test cameras that it never saw, and compared with the uncut scene drawn from there.

    plan.py     what is to be measured, and from where each scene is looked at
    measure.py  one scene -> its rows
    flicker.py  how steady the pictures are while the camera moves
    store.py    finished rows on the disk: a run that was killed goes on where it stopped
    tables.py   rows -> means and tables as the paper has them
    plots.py    rows -> rate-distortion curves (SVG)
    page.py     all of it with the pictures side by side, in one HTML file
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager

from exgs_viewer.compress.recovery import Recovery
from exgs_viewer.evaluate.measure import measure_scene
from exgs_viewer.evaluate.page import write_page
from exgs_viewer.evaluate.plan import Case, Plan, Row, cases
from exgs_viewer.evaluate.plots import write_plots
from exgs_viewer.evaluate.store import Store
from exgs_viewer.evaluate.tables import write_tables
from exgs_viewer.settings import Report, part, quiet

__all__ = ["Plan", "Recovery", "Row", "run"]
POLL = 0.5
"""Seconds between two looks at how far the processes are."""


def run(plan: Plan, report: Report = quiet) -> list[Row]:
    """Measure what is not measured yet, write the report into the plan's folder, return all rows of the plan.

    Raises ExgsError before any work where a scene, camera file, method or restorer is not there.
    """
    todo = cases(plan)
    if plan.jobs > 1 and len(todo) > 1:
        _in_processes(plan, todo, report)
    else:
        for number, case in enumerate(todo):
            measure_scene(plan, case, part(report, number / len(todo), 1 / len(todo)))
    report(0.99, "writing the report")
    store = Store(plan.folder)
    rows = [row for case in todo for row in store.rows(plan, case)]
    write_tables(plan, rows)
    write_plots(plan, rows)
    write_page(plan, todo, rows)
    return rows


def _in_processes(plan: Plan, todo: list[Case], report: Report) -> None:
    """One process for each of several scenes at a time, each with its share of the cores."""
    jobs, store = min(plan.jobs, len(todo)), Store(plan.folder)
    expected = sum(len(store.keys(plan, case)) for case in todo)
    # Fresh interpreters: numba and torch do not survive a fork once they have started threads.
    context = multiprocessing.get_context("spawn")
    with _threads_each(max(1, (os.cpu_count() or 1) // jobs)), ProcessPoolExecutor(jobs, context) as pool:
        futures = [pool.submit(measure_scene, plan, case) for case in todo]
        try:
            while wait(futures, POLL).not_done:
                done = sum(store.has(key) for case in todo for key in store.keys(plan, case).values())
                report(done / expected, f"{done} of {expected} measured, {jobs} scenes at a time")
                _raise_first(futures)
            _raise_first(futures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _raise_first(futures: list) -> None:
    for future in futures:
        if future.done():
            future.result()


@contextmanager
def _threads_each(count: int) -> Iterator[None]:
    """Processes started meanwhile use `count` threads each."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
