"""What is drawn over the picture: a label on each pane, the divider, messages, progress, the table of keys."""

from __future__ import annotations

import dearpygui.dearpygui as dpg
import torch

from exgs_viewer.app import theme
from exgs_viewer.app.compose import TRUST_TOP, trust_color
from exgs_viewer.app.frames import dividers_of
from exgs_viewer.app.readout import Label, Legend, OverlayState
from exgs_viewer.app.theme import Fonts

SHADE = (12, 14, 17, 205)
LEGEND_STEPS = 32
NARROW = 24
"""Design pixels: a pane of a wipe narrower than this has no label."""
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
    ("R   X", "restore the picture · what it is shown beside"),
    ("T", "where it was changed, and by how much"),
    ("[   ]", "keep fewer, keep more"),
    ("Ctrl + Z   Ctrl + Y", "undo, redo settings"),
    ("Ctrl + O  S  X", "open, save .exgs, export for other viewers"),
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
        drawn += (view.layout, view.wipe, view.wipes, state.legend)
        if drawn == self._state:
            return
        self._state = drawn
        dpg.delete_item(self._layer, children_only=True)
        if state.centre:
            self._centre(*state.centre, state.size)
        places = dividers_of(view, len(state.labels))
        for number, place in enumerate(places):
            lifted = _lift(places, number, self._fonts.px(34) / state.size[0])
            self._divider(place, state.size, number == state.divider_hot, lifted * self._fonts.px(17))
        if len(state.labels) > 1 and view.layout == "side":
            for label in state.labels[1:]:
                x = label.left * state.size[0]
                dpg.draw_line((x, 0), (x, state.size[1]), color=(0, 0, 0, 255), thickness=2, parent=self._layer)
        self._labels(state.labels, state.size, wiped=bool(places))
        if state.legend:
            self._legend(state.legend, state.size)
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

    def _labels(self, labels: tuple[Label, ...], size: tuple[int, int], wiped: bool) -> None:
        """A plate for each pane; in a wipe the outer ones stand at the ends, out of the dividers' way."""
        margin, wide = self._fonts.px(12), [self._label_size(label) for label in labels]
        first, last = 0, len(labels) - 1
        for number, (label, (width, height)) in enumerate(zip(labels, wide, strict=True)):
            left, right, top = label.left * size[0], label.right * size[0], margin
            x = left + margin
            if wiped and right - left < self._fonts.px(NARROW):
                continue
            if wiped and number == last:
                x = size[0] - margin - width
            elif wiped and number != first:
                x = min(max((left + right - width) / 2, margin), size[0] - margin - width)
                if x < wide[first][0] + 2 * margin or x + width > size[0] - wide[last][0] - 2 * margin:
                    top += max(wide[first][1], wide[last][1]) + margin
            self._label(label, (x, top), (width, height))

    def _lines(self, label: Label) -> list[tuple[str, tuple[int, ...], int]]:
        """(text, colour, height) of each line of a label."""
        big, small = self._fonts.px(16), self._fonts.px(14)
        lines = [(label.title, theme.TEXT, big)]
        lines += [(label.detail, (190, 197, 207), small)] if label.detail else []
        return lines + ([(label.note, theme.WARN if label.waiting else theme.GOOD, small)] if label.note else [])

    def _label_size(self, label: Label) -> tuple[float, float]:
        px, lines = self._fonts.px, self._lines(label)
        width = max(self._width(text, height) for text, _, height in lines) + 2 * px(10)
        return width, sum(height + px(5) for _, _, height in lines) + 2 * px(6)

    def _label(self, label: Label, place: tuple[float, float], size: tuple[float, float]) -> None:
        px, (x, y) = self._fonts.px, place
        self._plate(x, y, x + size[0], y + size[1])
        y += px(7)
        for text, color, line in self._lines(label):
            self._text((x + px(10), y), text, (*color, 255), line)
            y += line + px(5)

    def _legend(self, legend: Legend, size: tuple[int, int]) -> None:
        """A bar of the map's colours at the foot of its pane."""
        px, color = self._fonts.px, (190, 197, 207, 255)
        width, bar, small = px(250), px(10), px(14)
        left = max(legend.left * size[0], legend.right * size[0] - width - px(44)) + px(12)
        top = size[1] - px(86)
        self._plate(left, top, left + width + 2 * px(10), top + px(72))
        self._text((left + px(10), top + px(8)), legend.title, color, small)
        colors = (255 * trust_color(torch.linspace(0, TRUST_TOP, LEGEND_STEPS))).round().int().tolist()
        step, y = width / LEGEND_STEPS, top + px(30)
        for number, shade in enumerate(colors):
            x = left + px(10) + number * step
            dpg.draw_rectangle(
                (x, y), (x + step, y + bar), color=(0, 0, 0, 0), fill=(*shade, 255), thickness=0, parent=self._layer
            )
        low, high = legend.ends
        self._text((left + px(10), y + px(16)), low, color, small)
        self._text((left + px(10) + width - self._width(high, small), y + px(16)), high, color, small)

    def _divider(self, share: float, size: tuple[int, int], hot: bool, lift: float) -> None:
        x, middle, px = share * size[0], size[1] / 2 + lift, self._fonts.px
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


def _lift(places: tuple[float, ...], number: int, near: float) -> int:
    """Whether the handle of a divider gives way to its neighbour's: up (-1), down (1) or not."""
    if number and places[number] - places[number - 1] < near:
        return 1
    return -1 if number + 1 < len(places) and places[number + 1] - places[number] < near else 0
