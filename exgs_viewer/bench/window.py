"""How fluid the window is: its main loop, timed on a real screen while a scene is opened, scored, encoded,
restored and flown through.

A frame's time is what the loop works between two pauses, callbacks, engine, panels and drawing: while it lasts nobody's
mouse is heard.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from exgs_viewer.app.navigation import dragged
from exgs_viewer.app.window import Shell, turn
from exgs_viewer.errors import BackendError
from exgs_viewer.settings import CompressionSettings, Settings

FLIGHT = 4.0
"""Seconds that the camera is kept moving."""
UPLOADS = 20
PATIENCE = 600.0
"""Seconds after which an engine that does not come to rest is given up on."""


@dataclass(frozen=True)
class Watched:
    """The frames of one phase."""

    during: str
    stage: str
    seconds: tuple[float, ...]
    """Of each frame that was drawn."""


def watch(scene: str, backend: str, keep: float) -> list[Watched]:
    """The phases of a window in a fresh process, as a user's is. Raises BackendError if that fails."""
    command = [sys.executable, "-c", f"from {__name__} import main; main()", scene, backend, str(keep), str(FLIGHT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BackendError(f"The window could not be measured: {done.stderr.strip()[-500:]}")
    return [Watched(*values) for values in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """What the fresh process does; the phases go to standard output as JSON."""
    scene, backend, keep, flight = sys.argv[1:]
    settings = Settings(backend=backend, compression=CompressionSettings(keep=float(keep)))
    phases = [(one.during, one.stage, one.seconds) for one in phases_of(scene, settings, float(flight))]
    sys.stdout.write(json.dumps(phases) + "\n")


def phases_of(scene: str, settings: Settings, flight: float = FLIGHT) -> Iterator[Watched]:
    """Open the window on `scene` and yield what its frames took, phase by phase. Raises what opening raises."""
    with Shell(settings) as shell:
        shell.import_while_drawing("exgs_viewer.app.desk")
        from exgs_viewer.app.desk import Desk

        desk = Desk(settings, shell.fonts, shell.glfw, shell.wake, remember=False)
        try:
            desk.session.open(scene)
            engine = desk.session.engine
            yield Watched("opening and scoring", "ui_loop", _frames(shell, desk, lambda: engine.ready))
            yield Watched("encoding", "ui_loop", _frames(shell, desk, lambda: engine.settled))
            desk.session.set_view(restoring=True)
            turn(shell, desk)  # From here on the engine knows that it is not settled.
            yield Watched("restoring", "ui_loop", _frames(shell, desk, lambda: engine.settled))
            desk.session.set_view(restoring=False)
            yield Watched("flying", "ui_loop", _flight(shell, desk, flight))
            _frames(shell, desk, lambda: engine.settled)
            yield Watched("", "upload", tuple(_timed(lambda: desk.show(engine.frame)) for _ in range(UPLOADS)))
        finally:
            desk.close()


def _flight(shell: Shell, desk: Any, seconds: float) -> tuple[float, ...]:
    """Around the focus at a steady pace, as a dragging mouse would."""
    began = last = time.perf_counter()

    def over() -> bool:
        nonlocal last
        now, nav = time.perf_counter(), desk.session.nav
        desk.session.nav = dragged(nav, 0.15 * (now - last), 0.0)
        last = now
        return now - began > seconds

    return _frames(shell, desk, over)


def _frames(shell: Shell, desk: Any, done: Callable[[], bool]) -> tuple[float, ...]:
    """Run the main loop until `done`; the seconds of every turn that drew."""
    seconds, began = [], time.perf_counter()
    while not done():
        if desk.session.failed is not None:
            raise desk.session.failed
        if time.perf_counter() - began > PATIENCE:
            raise BackendError(f"The window did not come to rest within {PATIENCE:.0f} s.")
        start, waited, frames = time.perf_counter(), shell.waited, shell.frames
        changed = turn(shell, desk)
        shell.pause(desk.awake, changed)
        if shell.frames > frames:
            seconds.append(time.perf_counter() - start - (shell.waited - waited))
    return tuple(seconds)


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
