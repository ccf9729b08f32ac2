"""What is drawn over the picture: a label on each pane, the divider, messages, progress, the table of keys."""

from __future__ import annotations

import dearpygui.dearpygui as dpg

from exgs_viewer.app import theme
from exgs_viewer.app.readout import Label, OverlayState
from exgs_viewer.app.theme import Fonts

SHADE = (12, 14, 17, 205)
KEYS = (
    ("Left drag", "orbit (fly: look around)"),
    ("Right / middle drag", "pan; right + W A S D: look and fly"),
    ("Wheel", "nearer, farther; Ctrl + wheel: flying speed"),
    ("Double-click", "turn around this point"),
    ("W A S D  Q E", "fly; Shift fast, Ctrl or Alt slow"),
    ("F  Home  V", "show all · first view · orbit or fly"),
    ("U   ,  .", "turn upside down · lean"),
    ("1 … 9", "go to a bookmark; Ctrl + digit stores it"),
    ("←  →", "cameras that came with the file"),
    ("C   Tab (hold)", "next layout · the other side"),
    ("R", "repair the compressed picture"),
    ("[   ]", "keep fewer, keep more"),
    ("Ctrl + Z   Ctrl + Y", "undo, redo settings"),
    ("Ctrl + O   Ctrl + S", "open, save .exgs"),
    ("F12 or P", "save the picture"),
    ("H or F1", "this table"),
)


class Overlay:
    """Draws an OverlayState into a drawlist, anew only where it differs from the last one."""

    def __init__(self, fonts: Fonts, canvas: int | str):
        self._fonts = fonts
        self._layer = dpg.add_draw_layer(parent=canvas)
        self._state: tuple | None = None

    def show(self, state: OverlayState) -> None:
        """Draw `state`."""
        view = state.view
        drawn = (state.labels, state.toast, state.centre, state.help, state.size, state.divider_hot)
        drawn += (view.layout, view.wipe)
        if drawn == self._state:
            return
        self._state = drawn
        dpg.delete_item(self._layer, children_only=True)
        if state.centre:
            self._centre(*state.centre, state.size)
        if len(state.labels) > 1 and view.layout == "wipe":
            self._divider(view.wipe, state.size, state.divider_hot)
        if len(state.labels) > 1 and view.layout == "side":
            for label in state.labels[1:]:
                x = label.left * state.size[0]
                dpg.draw_line((x, 0), (x, state.size[1]), color=(0, 0, 0, 255), thickness=2, parent=self._layer)
        for number, label in enumerate(state.labels):
            self._label(label, state.size, wipe_right=view.layout == "wipe" and number == 1)
        if state.toast:
            self._toast(state.toast, state.size)
        if state.help:
            self._help(state.size)

    def _width(self, text: str, size: float | None = None) -> float:
        """Pixels of a line; the font's own measure, scaled."""
        measured = dpg.get_text_size(text)
        natural = self._fonts.px(16)
        width = measured[0] if measured else 0.56 * natural * len(text)
        return width * (size or natural) / natural

    def _text(self, place: tuple[float, float], text: str, color: tuple[int, ...], size: float) -> None:
        dpg.draw_text(place, text, color=color, size=size, parent=self._layer)

    def _plate(self, left: float, top: float, right: float, bottom: float) -> None:
        dpg.draw_rectangle(
            (left, top), (right, bottom), color=(0, 0, 0, 0), fill=SHADE, rounding=self._fonts.px(6), parent=self._layer
        )

    def _label(self, label: Label, size: tuple[int, int], wipe_right: bool) -> None:
        px = self._fonts.px
        big, small, pad, margin = px(16), px(14), px(10), px(12)
        left, right = label.left * size[0], label.right * size[0]
        lines = [(label.title, theme.TEXT, big)]
        lines += [(label.detail, (190, 197, 207), small)] if label.detail else []
        lines += [(label.note, theme.WARN if label.waiting else theme.GOOD, small)] if label.note else []
        width = max(self._width(text, height) for text, _, height in lines) + 2 * pad
        height = sum(height + px(5) for _, _, height in lines) + 2 * px(6)
        # The right pane of a wipe is labelled at its far end, out of the divider's way.
        x = right - margin - width if wipe_right else left + margin
        self._plate(x, margin, x + width, margin + height)
        y = margin + px(7)
        for text, color, line in lines:
            self._text((x + pad, y), text, (*color, 255), line)
            y += line + px(5)

    def _divider(self, share: float, size: tuple[int, int], hot: bool) -> None:
        x, middle, px = share * size[0], size[1] / 2, self._fonts.px
        color = (*theme.ACCENT, 255) if hot else (255, 255, 255, 220)
        dpg.draw_line((x, 0), (x, size[1]), color=(0, 0, 0, 120), thickness=px(4), parent=self._layer)
        dpg.draw_line((x, 0), (x, size[1]), color=color, thickness=px(2), parent=self._layer)
        dpg.draw_circle((x, middle), px(15), color=color, fill=SHADE, thickness=px(2), parent=self._layer)
        for side in (-1, 1):
            tip = (x + side * px(9), middle)
            base = [(x + side * px(4), middle + offset * px(5)) for offset in (-1, 1)]
            dpg.draw_triangle(tip, *base, color=color, fill=color, parent=self._layer)

    def _toast(self, text: str, size: tuple[int, int]) -> None:
        px = self._fonts.px
        width = self._width(text) + 2 * px(16)
        left, top = (size[0] - width) / 2, size[1] - px(64)
        self._plate(left, top, left + width, top + px(36))
        self._text((left + px(16), top + px(9)), text, (*theme.TEXT, 255), px(16))

    def _centre(self, title: str, text: str, share: float, size: tuple[int, int]) -> None:
        px = self._fonts.px
        x, y = size[0] / 2, size[1] / 2
        self._text((x - self._width(title, px(22)) / 2, y - px(44)), title, (*theme.TEXT, 255), px(22))
        self._text((x - self._width(text, px(15)) / 2, y - px(8)), text, (190, 197, 207, 255), px(15))
        if share >= 0:
            half, top = px(150), y + px(24)
            for right, color in ((x + half, theme.FIELD), (x - half + 2 * half * min(share, 1.0), theme.ACCENT)):
                dpg.draw_rectangle(
                    (x - half, top), (right, top + px(5)), color=(0, 0, 0, 0), fill=(*color, 255), rounding=px(2),
                    parent=self._layer,
                )  # fmt: skip

    def _help(self, size: tuple[int, int]) -> None:
        px = self._fonts.px
        line, keys = px(25), max(self._width(key) for key, _ in KEYS)
        words = max(self._width(text) for _, text in KEYS)
        width, height = keys + words + px(76), len(KEYS) * line + px(40)
        left, top = (size[0] - width) / 2, max(px(8), (size[1] - height) / 2)
        dpg.draw_rectangle(
            (left, top), (left + width, top + height), color=(*theme.LINE, 255), fill=(16, 18, 22, 240),
            rounding=px(10), parent=self._layer,
        )  # fmt: skip
        for number, (key, text) in enumerate(KEYS):
            y = top + px(20) + number * line
            self._text((left + px(26), y), key, (*theme.ACCENT, 255), px(16))
            self._text((left + px(50) + keys, y), text, (*theme.TEXT, 255), px(16))
