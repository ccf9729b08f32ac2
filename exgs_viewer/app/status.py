"""The status line at the bottom: who draws, the last sentence, and how far the job under way is."""

from __future__ import annotations

from collections.abc import Callable

import dearpygui.dearpygui as dpg

from exgs_viewer.app import theme
from exgs_viewer.app.readout import PanelState
from exgs_viewer.app.theme import Fonts

HEIGHT = 30
"""Design pixels of the line."""
EDGE = 14
"""Design pixels left of the words."""
BAR = 394
"""Design pixels that the bar and its button take at the right end."""
LONGEST = 48
"""Letters of a job's words that fit into its bar."""


class StatusLine:
    """Its items. `cancel(job)` is called when the user has had enough of a job."""

    def __init__(self, fonts: Fonts, cancel: Callable[[str], None]):
        self._fonts, self._cancel = fonts, cancel
        self._kind = ""
        self._job: str | None = None
        self._width = 0
        kinds = {"plain": theme.TEXT, "good": theme.GOOD, "bad": theme.BAD}
        self._themes = {kind: theme.text_color(color) for kind, color in kinds.items()}
        px = fonts.px
        with dpg.window(
            no_title_bar=True, no_move=True, no_resize=True, no_close=True, no_scrollbar=True
        ) as self.window:
            # A child, since that cuts off what is longer than it: a sentence must not run on under the bar.
            with dpg.child_window(border=False, no_scrollbar=True) as self._words, dpg.group(horizontal=True):
                self._drawn_by = dpg.add_text("Starting…")
                self._told = dpg.add_text("")
            self._bar = dpg.add_progress_bar(width=px(300), height=px(18), show=False)
            self._stop = dpg.add_button(label="Cancel", small=True, width=px(70), show=False, callback=self._stopped)
        for item in (self._bar, self._stop):
            if fonts.small:
                dpg.bind_item_font(item, fonts.small)
        dpg.bind_item_theme(self._drawn_by, theme.text_color(theme.DIM))
        dpg.bind_item_theme(self.window, theme.flat_window((px(EDGE), px(6)), (19, 21, 25)))

    def place(self, width: int, height: int) -> int:
        """Lie at the bottom of a window of this size; the pixels that takes."""
        px, self._width = self._fonts.px, width
        dpg.configure_item(self.window, pos=(0, height - px(HEIGHT)), width=width, height=px(HEIGHT))
        dpg.configure_item(self._bar, pos=(width - px(BAR), px(7)))
        dpg.configure_item(self._stop, pos=(width - px(84), px(7)))
        self._fit()
        return px(HEIGHT)

    def _fit(self) -> None:
        """Leave the words the room beside the bar, all of it where no job is under way."""
        taken = 2 * EDGE + (BAR if self._job is not None else 0)
        dpg.configure_item(self._words, width=max(1, self._width - self._fonts.px(taken)))

    def _stopped(self) -> None:
        if self._job is not None:
            self._cancel(self._job)

    def show(self, state: PanelState) -> None:
        """Show what `state` says at the bottom."""
        dpg.set_value(self._drawn_by, state.drawn_by)
        dpg.set_value(self._told, state.told.text)
        if state.told.kind != self._kind:
            self._kind = state.told.kind
            dpg.bind_item_theme(self._told, self._themes[self._kind])
        self._job = state.progress[0] if state.progress else None
        for item in (self._bar, self._stop):
            dpg.configure_item(item, show=self._job is not None)
        self._fit()
        if state.progress:
            dpg.set_value(self._bar, state.progress[1])
            dpg.configure_item(self._bar, overlay=state.progress[2][:LONGEST])
