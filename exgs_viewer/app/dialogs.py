"""Choosing files with the desktop's own dialog, in a process of its own: zenity, kdialog or tkinter, what there is."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from exgs_viewer.app.workers import Notify, nothing

SCENES = "*.ply *.splat *.sog *.exgs *.json *.png"
TK = """
import json, sys, tkinter, tkinter.filedialog as ask
mode, title, start, patterns = json.loads(sys.argv[1])
root = tkinter.Tk(); root.withdraw(); root.attributes("-topmost", True)
types = [("Files", patterns), ("All files", "*")]
from pathlib import Path
start = Path(start)
if mode == "open":
    print(ask.askopenfilename(title=title, initialdir=str(start), filetypes=types) or "", end="")
else:
    print(ask.asksaveasfilename(title=title, initialdir=str(start.parent), initialfile=start.name) or "", end="")
"""


def open_command(title: str, folder: Path) -> list[str] | None:
    """The command that lets the user choose a scene and prints its path; None where there is no such program."""
    if shutil.which("zenity"):
        return ["zenity", "--file-selection", f"--title={title}", f"--filename={folder}/",
                f"--file-filter=Scenes | {SCENES}", "--file-filter=All files | *"]  # fmt: skip
    if shutil.which("kdialog"):
        return ["kdialog", "--title", title, "--getopenfilename", str(folder), f"Scenes ({SCENES})"]
    return _tk("open", title, folder)


def save_command(title: str, path: Path) -> list[str] | None:
    """The command that lets the user choose where to save and prints the path; None where there is none."""
    if shutil.which("zenity"):
        return ["zenity", "--file-selection", "--save", "--confirm-overwrite", f"--title={title}", f"--filename={path}"]
    if shutil.which("kdialog"):
        return ["kdialog", "--title", title, "--getsavefilename", str(path)]
    return _tk("save", title, path)


def _tk(mode: str, title: str, start: Path) -> list[str] | None:
    if find_spec("tkinter") is None or find_spec("_tkinter") is None:
        return None
    return [sys.executable, "-c", TK, json.dumps([mode, title, str(start), SCENES])]


class Chooser:
    """Runs one such command at a time and hands its answer to whoever asked, on the thread that polls."""

    def __init__(self, notify: Notify = nothing):
        self._notify = notify
        self._answers: queue.SimpleQueue[tuple[Callable[[str], None], str]] = queue.SimpleQueue()
        self._running: threading.Thread | None = None

    @property
    def open(self) -> bool:
        """Whether a dialog is on the screen."""
        return self._running is not None and self._running.is_alive()

    def ask(self, command: list[str], receive: Callable[[str], None]) -> None:
        """Run `command`; `receive(path)` is called by `poll` unless the user cancels."""
        if self.open:
            return

        def run() -> None:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip():
                self._answers.put((receive, done.stdout.strip()))
            self._notify()

        self._running = threading.Thread(target=run, name="exgs-dialog", daemon=True)
        self._running.start()

    def poll(self) -> None:
        """Deliver what was chosen."""
        while not self._answers.empty():
            receive, path = self._answers.get()
            receive(path)
