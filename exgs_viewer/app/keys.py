"""What the keys do that are pressed once; those that are held (flying, the other side) are polled by the viewport."""

from __future__ import annotations

from collections.abc import Callable

from exgs_viewer.app import files, words
from exgs_viewer.app.memory import key_of
from exgs_viewer.app.readout import BESIDE_WORDS
from exgs_viewer.app.session import Session
from exgs_viewer.app.state import BESIDE, LAYOUTS
from exgs_viewer.settings import knob_range

KEEP_STEP = 1.1
"""Factor on the retention of the keys [ and ]."""


def press(session: Session, name: str, ctrl: bool) -> None:
    """A key was pressed over the picture, by its name in the tables below; digits are bookmarks."""
    if name.isdigit():
        _bookmark(session, int(name), store=ctrl)
        return
    command = (WITH_CTRL if ctrl else PLAIN).get(name)
    if command:
        command(session)


def _next_layout(session: Session) -> None:
    place = LAYOUTS.index(session.view.layout)
    session.set_view(layout=LAYOUTS[(place + 1) % len(LAYOUTS)])


def _next_beside(session: Session) -> None:
    """Show the restored picture beside something else."""
    if not session.view.restoring:
        session.notices.toast("Press R first: nothing is restored")
        return
    beside = BESIDE[(BESIDE.index(session.view.beside) + 1) % len(BESIDE)]
    session.set_view(beside=beside)
    session.notices.toast(f"Restored beside {BESIDE_WORDS[beside].lower()}")


def _toggle_trust(session: Session) -> None:
    """Show where the picture was repaired and by how much, or the colours again."""
    session.set_view(mode="color" if session.view.mode == "trust" else "trust")


def _step_keep(session: Session, factor: float) -> None:
    limits = knob_range(type(session.view.compression), "keep")
    keep = min(max(session.view.compression.keep * factor, limits.low), limits.high)
    session.set_compression(keep=float(f"{keep:.3g}"))
    session.notices.toast(f"Retention {words.share(session.view.compression.keep)}")


def _shoot(session: Session) -> None:
    """Save the picture as it is, at once."""
    if session.engine.scene is not None:
        session.capture(files.picture_path(session.engine.scene), session.view.size)


def _bookmark(session: Session, number: int, store: bool) -> None:
    """Keep the camera under a number, or go back to it."""
    if session.nav is None or session.engine.scene is None:
        return
    key, memory = key_of(session.engine.scene.path), session.diary.memory
    if store:
        session.diary.note(memory.with_bookmark(key, number, session.nav.camera))
        session.notices.toast(f"Bookmark {number} stored")
        return
    camera = memory.bookmark(key, number)
    if camera is None:
        session.notices.toast(f"Bookmark {number} is empty; Ctrl + {number} stores this view")
        return
    session.travel.go(camera)


def _file_camera(session: Session, step: int) -> None:
    scene = session.engine.scene
    session.travel.go_to_camera_of(scene.cameras if scene else (), step)


WITH_CTRL: dict[str, Callable[[Session], None]] = {
    "Z": Session.undo,
    "Y": Session.redo,
    "O": Session.ask_open,
    "S": Session.ask_save,
    "X": Session.ask_export,
}
"""What a key does while Ctrl is held."""

PLAIN: dict[str, Callable[[Session], None]] = {
    "C": _next_layout,
    "F": Session.frame_all,
    "Home": lambda session: session.travel.home(),
    "H": Session.toggle_help,
    "F1": Session.toggle_help,
    "Escape": Session.close_help,
    "O": Session.ask_open,
    "P": _shoot,
    "F12": _shoot,
    "R": lambda session: session.set_view(restoring=not session.view.restoring),
    "T": _toggle_trust,
    "U": Session.turn_over,
    "X": _next_beside,
    "V": lambda session: session.travel.set_flying(not (session.nav and session.nav.flying)),
    "[": lambda session: _step_keep(session, 1 / KEEP_STEP),
    "]": lambda session: _step_keep(session, KEEP_STEP),
    ",": lambda session: session.travel.roll(-1),
    ".": lambda session: session.travel.roll(1),
    "Left": lambda session: _file_camera(session, -1),
    "Right": lambda session: _file_camera(session, 1),
}
"""What a key does by itself."""
