"""The desk: engine, session, picture and panels put together; loaded while the window already stands."""

from __future__ import annotations

import time

import dearpygui.dearpygui as dpg

from exgs_viewer.app import keys
from exgs_viewer.app.dialogs import Chooser
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.glfw import Glfw
from exgs_viewer.app.modals import Modals
from exgs_viewer.app.panels import Panels
from exgs_viewer.app.session import Session
from exgs_viewer.app.sinks import open_sink
from exgs_viewer.app.state import Frame
from exgs_viewer.app.theme import Fonts
from exgs_viewer.app.viewport import Viewport
from exgs_viewer.app.workers import Notify
from exgs_viewer.settings import Settings

LONGEST_STEP = 0.1
"""Seconds of movement per frame at most: after a hitch nobody wants to land behind a wall."""


class Desk:
    """Everything inside the window. `step` once per turn of the main loop."""

    def __init__(self, settings: Settings, fonts: Fonts, glfw: Glfw, wake: Notify, remember: bool = True):
        self._glfw = glfw
        sink = open_sink(dpg.add_texture_registry())
        engine = Engine(settings.backend, notify=wake, as_bytes=sink.as_bytes)
        self.session = Session(settings, engine, remember)
        self._chooser = Chooser(wake)
        self._modals = Modals(fonts, self.session, self._chooser)
        self.session.asker = self._modals
        self._viewport = Viewport(fonts, sink, self.session, self)
        self._panels = Panels(fonts, self.session)
        self._dropped: list[str] = []
        glfw.on_drop(self._receive)
        self._size = (0, 0)
        self._at = time.perf_counter()
        self._shown: tuple = ()
        self._was_typing = False
        self._title = ""

    def blocked(self) -> bool:
        """Whether keys belong to a widget or a question."""
        return self._panels.typing or self._modals.open

    def press(self, name: str, ctrl: bool) -> None:
        """A key went down: for the question that is open, else for the picture unless a widget has it."""
        if self._modals.open:
            self._modals.key(name)
        elif not self._panels.typing:
            keys.press(self.session, name, ctrl)

    def _receive(self, paths: list[str]) -> None:
        self._dropped = paths

    def _take_dropped(self) -> None:
        """Open what was dropped; here, since the drop itself arrives in the middle of drawing a frame."""
        paths, self._dropped = self._dropped, []
        if paths:
            self.session.open(paths[0])

    def step(self, size: tuple[int, int]) -> bool:
        """Read input, move, show what is new; whether anything on the screen changed."""
        now = time.perf_counter()
        seconds, self._at = min(now - self._at, LONGEST_STEP), now
        if size != self._size and min(size) > 0:
            self._size = size
            self._viewport.place(self._panels.place(*size))
            self.session.set_window_size(size)
        session = self.session
        session.set_size(self._viewport.size)
        session.nav = self._viewport.step(session.nav, session.view, seconds, self._glfw.focused())
        self._give_back_keys()
        self._take_dropped()
        self._chooser.poll()
        frame = session.step()
        if frame is not None:
            self.show(frame)
        shown = (session.panel(), session.overlay())
        if shown[0].scene != self._title:
            self._title = shown[0].scene
            dpg.set_viewport_title(f"{self._title} – exgs viewer" if self._title else "exgs viewer")
        self._panels.show(shown[0])
        self._viewport.overlay(shown[1])
        changed = frame is not None or shown != self._shown
        self._shown = shown
        return changed

    def show(self, frame: Frame) -> None:
        """Bring a picture to the screen."""
        self._viewport.show(frame)

    def _give_back_keys(self) -> None:
        """Once a widget is done with, keys go to the picture again; else Tab would jump into the next field."""
        typing = self._panels.typing
        if not self._modals.open and ((self._was_typing and not typing) or self._panels.take_clicked()):
            self._viewport.focus()
        self._was_typing = typing

    @property
    def awake(self) -> bool:
        """Whether frames must go on without input."""
        return self.session.awake or self._viewport.flying_keys or self._viewport.dragging

    def close(self) -> None:
        """Stop the workers and remember the settings."""
        self.session.close()
