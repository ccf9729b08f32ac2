"""The window: Dear PyGui's context and the main loop. Every call of Dear PyGui is made on this one thread."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dearpygui.dearpygui as dpg

from exgs_viewer.app import theme
from exgs_viewer.app.glfw import Glfw
from exgs_viewer.app.theme import Fonts
from exgs_viewer.errors import BackendError
from exgs_viewer.settings import Settings, resource

FRAME = 1 / 60
"""Seconds between two frames while something moves."""
LONGEST = 0.04
"""Seconds between two frames while something moves, where drawing the window itself is slow."""
LINGER = 0.35
"""Seconds the window goes on drawing after the last input: tooltips and hover colours want some frames."""
NAP = 0.05
"""Longest sleep, seconds: the engine's clocks (rest, settle) are looked at this often."""
HEARTBEAT = 1.0
"""Seconds after which a frame is drawn although nothing happened."""


class Shell:
    """Opens the window and draws frames; closes it again as a context manager."""

    def __init__(self, settings: Settings):
        window = settings.window
        dpg.create_context()
        dpg.configure_app(manual_callback_management=True)
        icon = resource("assets", "icon.png")
        icons = {"small_icon": str(icon), "large_icon": str(icon)} if icon.is_file() else {}
        dpg.create_viewport(
            title="exgs viewer",
            width=window.width,
            height=window.height,
            min_width=640,
            min_height=480,
            clear_color=(*theme.BACK, 255),
            **icons,
        )
        dpg.setup_dearpygui()
        dpg.show_viewport()
        self.draw()
        self.glfw = Glfw()
        self.fonts: Fonts = theme.load_fonts(self.glfw.scale())
        theme.bind_theme(self.fonts.scale)
        self.frames = 0
        self.waited = 0.0
        self._active_at = time.perf_counter()
        self._drawn_at = 0.0
        self._news = threading.Event()

    def wake(self) -> None:
        """From any thread: there is something to show."""
        self._news.set()
        self.glfw.wake()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *error: Any) -> None:
        dpg.destroy_context()

    def draw(self) -> None:
        """Run the callbacks that are due, then draw one frame."""
        dpg.run_callbacks(dpg.get_callback_queue())
        dpg.render_dearpygui_frame()

    def size(self) -> tuple[int, int]:
        """Pixels of the inside of the window."""
        return dpg.get_viewport_client_width(), dpg.get_viewport_client_height()

    def import_while_drawing(self, *modules: str) -> None:
        """Load heavy modules in another thread while the window says so. Raises what the import raised."""
        error: list[BaseException] = []

        def work() -> None:
            try:
                for module in modules:
                    importlib.import_module(module)
            except BaseException as failure:  # Told on the main thread.
                error.append(failure)

        thread = threading.Thread(target=work, name="exgs-import", daemon=True)
        thread.start()
        with dpg.window(no_title_bar=True, no_move=True, no_resize=True) as splash:
            text = dpg.add_text("Starting exgs viewer …")
        dpg.bind_item_theme(splash, theme.flat_window())
        while thread.is_alive() and dpg.is_dearpygui_running():
            width, height = self.size()
            dpg.configure_item(splash, pos=(0, 0), width=width, height=height)
            dpg.configure_item(text, pos=(width // 2 - self.fonts.px(70), height // 2))
            self.draw()
            thread.join(NAP)
        thread.join()
        dpg.delete_item(splash)
        if error:
            raise error[0]

    def pause(self, awake: bool, changed: bool) -> None:
        """Draw a frame if there is a reason to, then sleep: till the next frame, or till something happens.

        `frames` counts what was drawn, `waited` the seconds slept.
        """
        now = time.perf_counter()
        if awake or changed:
            self._active_at = max(self._active_at, now - (0.0 if awake else LINGER - 2 * FRAME))
        active = now - self._active_at < LINGER
        if active or changed or now - self._drawn_at > HEARTBEAT:
            dpg.render_dearpygui_frame()
            self.frames += 1
            self._drawn_at = now
            if active:
                # Where OpenGL is software, a frame costs what a picture needs: leave it most of the time.
                spent = time.perf_counter() - now
                began = time.perf_counter()
                self._news.wait(FRAME - spent if spent < FRAME / 2 else min(2 * spent, LONGEST))
                self._news.clear()
                self.waited += time.perf_counter() - began
                return
        began = time.perf_counter()
        if self.glfw.wait(NAP):
            self._active_at = time.perf_counter()
        self.waited += time.perf_counter() - began


def run(settings: Settings, scene: str | None, screenshot: Path | None = None, frames: int = 0) -> int:
    """Open the window on `scene` and stay until it is closed; the exit code.

    With `screenshot`, the whole window is saved there after at least `frames` frames, once the scene is open, scored
    and drawn in full; then the window closes. Raises BackendError without a display, and then what kept it from that.
    """
    from exgs_viewer.doctor import display_problem

    problem = display_problem()
    if problem:
        raise BackendError(problem)
    with Shell(settings) as shell:
        shell.import_while_drawing("exgs_viewer.app.desk")
        from exgs_viewer.app.desk import Desk

        desk = Desk(settings, shell.fonts, shell.glfw, shell.wake, remember=screenshot is None)
        try:
            if scene:
                desk.session.open(scene)
            return _loop(shell, desk, screenshot, frames)
        finally:
            desk.close()


def _loop(shell: Shell, desk: Any, screenshot: Path | None, frames: int) -> int:
    taking: Callable[[], bool] | None = None
    while dpg.is_dearpygui_running():
        changed = turn(shell, desk)
        if screenshot is not None and taking is None:
            if desk.session.failed is not None:
                raise desk.session.failed
            if desk.session.engine.settled:
                changed = True  # An idle window draws one frame a second; whoever waits for N frames wants them now.
                if shell.frames >= frames:
                    taking = _window_picture(screenshot)
        if taking is not None:
            changed = True
            if taking():
                return 0
        shell.pause(desk.awake, changed)
    return 0


def turn(shell: Shell, desk: Any) -> bool:
    """What the main loop does between two pauses; whether anything on the screen changed."""
    dpg.run_callbacks(dpg.get_callback_queue())
    return desk.step(shell.size())


def _window_picture(path: Path) -> Callable[[], bool]:
    """Save the whole window to `path`; asked once per frame, the answer is whether the file is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    left = 6

    def done() -> bool:
        nonlocal left
        left -= 1
        if left == 3:  # The picture has reached the screen by now, also where textures arrive one frame late.
            dpg.output_frame_buffer(str(path))
        if left < -600:
            raise BackendError(f"{path}: the window could not be saved; is the folder writable?")
        return left < 0 and path.is_file() and path.stat().st_size > 0

    return done
