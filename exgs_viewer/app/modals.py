"""Questions: which file to open, where to save, how large a picture. The desktop's dialog where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import dearpygui.dearpygui as dpg

from exgs_viewer.app import words
from exgs_viewer.app.dialogs import Chooser, open_command, save_command
from exgs_viewer.app.files import with_suffix
from exgs_viewer.app.theme import Fonts
from exgs_viewer.app.travel import Way
from exgs_viewer.restore.download import BYTES, LICENCE, PARTS, TERMS

FORMAT_WORDS = {
    ".ply": "float32, read by everything that knows 3DGS; large",
    ".compressed.ply": "PlayCanvas and SuperSplat, 16 bytes a Gaussian",
    ".spz": "Niantic and many others, 16 bytes a Gaussian",
    ".splat": "antimatter15 and web viewers, 32 bytes, one colour from all sides",
    ".sog": "PlayCanvas and SuperSplat, 13 bytes, pictures in a zip",
    ".exgs": "this program: smallest, with cameras and checksums",
}
"""The formats of scene.WRITERS, and who reads them."""
SIZES = {"Window": None, "1920 × 1080": (1920, 1080), "3840 × 2160": (3840, 2160)}
FILM_SIZES = {"Window": None, "1280 × 720": (1280, 720), "1920 × 1080": (1920, 1080)}
LARGEST = 16384
WAY_WORDS: dict[Way, str] = {
    "bookmarks": "Through the bookmarks",
    "sway": "Swaying",
    "around": "Once around",
}
LENGTH, LONGEST = 8, 600
"""Seconds of a video: at first, and at most."""


class Answers(Protocol):
    """Who hears what the user chose."""

    def open(self, path: str) -> None: ...
    def save(self, path: Path) -> None: ...
    def fetch_weights(self) -> None: ...
    def export(self, path: Path) -> None: ...
    def capture(self, path: Path, size: tuple[int, int]) -> None: ...
    def film(self, path: Path, size: tuple[int, int], way: Way, seconds: float) -> None: ...


class Modals:
    """Small windows over everything; at most one is open."""

    def __init__(self, fonts: Fonts, answers: Answers, chooser: Chooser):
        self._fonts, self._answers, self._chooser = fonts, answers, chooser
        self._window: int | str | None = None
        self._confirm: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether a question is on the screen, so that keys belong to it."""
        return self._window is not None and dpg.does_item_exist(self._window) and dpg.is_item_shown(self._window)

    def ask_open(self, folder: Path) -> None:
        """Let the user choose a scene."""
        command = open_command("Open a scene", folder)
        if command:
            self._chooser.ask(command, self._answers.open)
            return
        self._close()
        with dpg.file_dialog(
            label="Open a scene", modal=True, width=self._fonts.px(760), height=self._fonts.px(480),
            default_path=str(folder), callback=self._file_chosen, cancel_callback=lambda: self._close(),
        ) as self._window:  # fmt: skip
            for ending in (".*", ".ply", ".splat", ".sog", ".exgs", ".json", ".png"):
                dpg.add_file_extension(ending)

    def _file_chosen(self, sender: int, chosen: dict) -> None:
        paths = list(chosen.get("selections", {}).values()) or [chosen.get("file_path_name", "")]
        self._close()
        if paths[0]:
            self._answers.open(paths[0])

    def ask_save(self, path: Path) -> None:
        """Ask where the compressed scene shall go."""
        field = self._begin("Save the compressed scene", path)
        self._finish("Save", lambda: self._answers.save(Path(dpg.get_value(field)).expanduser()), field)

    def ask_export(self, path: Path) -> None:
        """Ask where the compressed scene shall go, and in which format; the path's suffix is what counts."""
        field = self._begin("Export the compressed scene", path)
        px = self._fonts.px

        def choose(suffix: str) -> None:
            dpg.set_value(field, with_suffix(dpg.get_value(field), suffix))

        with dpg.table(header_row=False, parent=self._window, policy=dpg.mvTable_SizingFixedFit):
            dpg.add_table_column(init_width_or_weight=px(120), width_fixed=True)
            dpg.add_table_column(width_stretch=True)
            for suffix, sentence in FORMAT_WORDS.items():
                with dpg.table_row():
                    dpg.add_button(
                        label=suffix, width=px(116), user_data=suffix,
                        callback=lambda sender, data, chosen: choose(chosen),
                    )  # fmt: skip
                    dpg.add_text(sentence)
        self._finish("Export", lambda: self._answers.export(Path(dpg.get_value(field)).expanduser()), field)

    def ask_screenshot(self, path: Path, size: tuple[int, int]) -> None:
        """Ask where the picture shall go, and how large it shall be."""
        field = self._begin("Save the picture", path)
        wanted = self._size_row(size, SIZES)
        self._finish("Save", lambda: self._answers.capture(Path(dpg.get_value(field)).expanduser(), wanted()), field)

    def ask_video(self, path: Path, size: tuple[int, int], bookmarks: int) -> None:
        """Ask where the video shall go, how large and long it shall be, and which way the camera goes."""
        field, px = self._begin("Save a video", path), self._fonts.px
        wanted = self._size_row(size, FILM_SIZES)
        ways = {word: way for way, word in WAY_WORDS.items() if way != "bookmarks" or bookmarks > 1}
        with dpg.group(horizontal=True, parent=self._window):
            way = dpg.add_radio_button(list(ways), default_value=next(iter(ways)), horizontal=True)
        if bookmarks < 2:
            hint = "Ctrl + 1 … 9 store views; with two of them, a video can fly through them."
            dpg.add_text(hint, parent=self._window, wrap=px(570))
        with dpg.group(horizontal=True, parent=self._window):
            seconds = dpg.add_input_int(width=px(90), step=0, default_value=LENGTH)
            dpg.add_text("seconds")

        def done() -> None:
            length = min(max(dpg.get_value(seconds), 1), LONGEST)
            chosen = ways[dpg.get_value(way)]
            self._answers.film(Path(dpg.get_value(field)).expanduser(), wanted(), chosen, length)

        self._finish("Save", done, field)

    def _size_row(
        self, size: tuple[int, int], presets: dict[str, tuple[int, int] | None]
    ) -> Callable[[], tuple[int, int]]:
        """Ask for a size, `size` if nothing is changed; what answers the one that stands there in the end."""
        with dpg.group(horizontal=True, parent=self._window):
            width = dpg.add_input_int(width=self._fonts.px(90), step=0, default_value=size[0])
            dpg.add_text("×")
            height = dpg.add_input_int(width=self._fonts.px(90), step=0, default_value=size[1])
            dpg.add_text("pixels")
            for label, preset in presets.items():
                dpg.add_button(label=label, user_data=preset or size, callback=lambda sender, data, chosen: (
                    dpg.set_value(width, chosen[0]), dpg.set_value(height, chosen[1])))  # fmt: skip
        return lambda: tuple(min(max(dpg.get_value(side), 16), LARGEST) for side in (width, height))

    def ask_weights(self) -> None:
        """Show what would be fetched under which licence; nothing is, unless the user agrees."""
        self._close()
        px = self._fonts.px
        middle = dpg.get_viewport_client_width() // 2 - px(280), dpg.get_viewport_client_height() // 3
        with dpg.window(
            label="Weights for SD-Turbo", modal=True, no_resize=True, no_collapse=True, pos=middle, width=px(560)
        ) as self._window:
            for repository, files in PARTS.items():
                dpg.add_text(f"{repository}: {', '.join(files)}", wrap=px(530))
            dpg.add_text(f"About {words.size(BYTES)}, into Hugging Face's cache.", wrap=px(530))
            dpg.add_separator()
            dpg.add_text(TERMS, wrap=px(530))
            dpg.add_text(
                "Nothing of them is trained to restore scenes yet; `exgs train painter` does that.", wrap=px(530)
            )

            def confirm() -> None:
                if dpg.get_value(agreed):
                    self._close()
                    self._answers.fetch_weights()

            agreed = dpg.add_checkbox(
                label=f"I agree to the {LICENCE}",
                callback=lambda sender, value: dpg.configure_item(start, enabled=value, show=value),
            )
            with dpg.group(horizontal=True):
                start = dpg.add_button(label="Download", width=px(110), show=False, callback=confirm)
                dpg.add_button(label="Cancel", width=px(110), callback=lambda: self._close())
        self._confirm = confirm

    def _begin(self, title: str, path: Path) -> int | str:
        self._close()
        px = self._fonts.px
        middle = dpg.get_viewport_client_width() // 2 - px(300), dpg.get_viewport_client_height() // 3
        self._window = dpg.add_window(
            label=title, modal=True, no_resize=True, no_collapse=True, pos=middle, width=px(600)
        )
        with dpg.group(horizontal=True, parent=self._window):
            native = save_command(title, path)
            field = dpg.add_input_text(width=px(-1 if native is None else -100), default_value=str(path))
            if native:
                dpg.add_button(
                    label="Browse…",
                    width=-1,
                    callback=lambda: self._chooser.ask(
                        save_command(title, Path(dpg.get_value(field))), lambda chosen: dpg.set_value(field, chosen)
                    ),
                )
        return field

    def _finish(self, label: str, done: Callable[[], None], field: int | str) -> None:
        def confirm() -> None:
            if dpg.get_value(field).strip():
                done()
                self._close()

        dpg.add_spacer(height=self._fonts.px(4), parent=self._window)
        with dpg.group(horizontal=True, parent=self._window):
            dpg.add_button(label=label, width=self._fonts.px(110), callback=confirm)
            dpg.add_button(label="Cancel", width=self._fonts.px(110), callback=lambda: self._close())
        self._confirm = confirm

    def key(self, name: str) -> None:
        """Enter confirms, Escape closes."""
        if name == "Enter" and self._confirm:
            self._confirm()
        elif name == "Escape":
            self._close()

    def _close(self) -> None:
        if self._window is not None and dpg.does_item_exist(self._window):
            dpg.delete_item(self._window)
        self._window = self._confirm = None
