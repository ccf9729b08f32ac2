"""Widgets derived from the fields of settings.py: name, type, range, unit and sentence come from there."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_type_hints

import dearpygui.dearpygui as dpg

from exgs_viewer.app.theme import Fonts
from exgs_viewer.settings import Range, knob_range

LABELS = {"keep": "Retention", "sh_degree": "SH degree", "fov_degrees": "Field of view", "near": "Near plane"}
"""Names that differ from the field's own words."""


def label_of(name: str) -> str:
    """What a field is called in the window."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


@functools.cache
def sentence_of(settings_type: type, name: str) -> str:
    """The sentence that stands under a field in settings.py."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(settings_type))).body
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        named = isinstance(statement, ast.AnnAssign) and getattr(statement.target, "id", "") == name
        if named and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            return " ".join(str(following.value.value).split())
    return ""


@dataclass(frozen=True)
class Scale:
    """How a number stands on a slider and in a field: both may differ from the value itself."""

    limits: Range
    whole: bool = False

    @property
    def factor(self) -> float:
        """Shown number per value: shares are shown in per cent."""
        return 100.0 if self.limits.unit == "share" else 1.0

    @property
    def format(self) -> str:
        """printf format of the field."""
        if self.whole:
            return "%d"
        return {"share": "%.4g %%", "degrees": "%.0f°", "x": "%.2f×", "world units": "%.3g", "voxels": "%.0f"}.get(
            self.limits.unit, "%.2f"
        )

    def place(self, value: float) -> float:
        """Place on the slider, 0..1."""
        low, high = self.limits.low, self.limits.high
        value = min(max(value, low), high)
        if self.limits.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def value(self, place: float) -> float:
        """The value at a place; logarithmic ones have three significant digits, so that they read well."""
        low, high = self.limits.low, self.limits.high
        if not self.limits.log:
            return low + place * (high - low)
        value = low * (high / low) ** min(max(place, 0.0), 1.0)
        digits = 2 - math.floor(math.log10(value))
        return min(max(round(value, digits), low), high)

    def clamped(self, value: float) -> float:
        """`value` within the limits."""
        return min(max(value, self.limits.low), self.limits.high)


@contextmanager
def knob_table(fonts: Fonts) -> Iterator[None]:
    """A block of knobs: labels, sliders and fields in three columns."""
    with dpg.table(header_row=False, borders_innerV=False, pad_outerX=False, policy=dpg.mvTable_SizingStretchProp):
        dpg.add_table_column(width_fixed=True, init_width_or_weight=fonts.px(100))
        dpg.add_table_column(width_stretch=True)
        dpg.add_table_column(width_fixed=True, init_width_or_weight=fonts.px(72))
        yield


class Knob:
    """A slider with a field for exact typing, for one number; stands in a `knob_table`."""

    def __init__(self, label: str, scale: Scale, tip: str, change: Callable[[Any], None]):
        self._scale, self._change = scale, change
        self._value: float | None = None
        with dpg.table_row():
            dpg.add_text(label)
            explain(dpg.last_item(), tip)
            self.slider = self._slider()
            self.field = self._field()
        with dpg.item_handler_registry() as handlers:
            # Not at every keystroke: 12 must not pass through 1.
            dpg.add_item_deactivated_after_edit_handler(callback=self._typed)
        dpg.bind_item_handler_registry(self.field, handlers)

    def _slider(self) -> int | str:
        if self._scale.whole:
            low, high = int(self._scale.limits.low), int(self._scale.limits.high)
            return dpg.add_slider_int(
                width=-1, min_value=low, max_value=high, format="", no_input=True, callback=self._slid
            )
        return dpg.add_slider_float(width=-1, min_value=0, max_value=1, format="", no_input=True, callback=self._slid)

    def _field(self) -> int | str:
        if self._scale.whole:
            return dpg.add_input_int(width=-1, step=0)
        return dpg.add_input_float(width=-1, step=0, format=self._scale.format)

    def _slid(self, sender: Any, place: float) -> None:
        self._tell(place if self._scale.whole else self._scale.value(place))

    def _typed(self) -> None:
        value = self._scale.clamped(dpg.get_value(self.field) / self._scale.factor)
        self._value = None  # What was typed may have been out of range: show what it became.
        self._tell(value)

    def _tell(self, value: float) -> None:
        value = round(value) if self._scale.whole else value
        self.show(value)
        self._change(value)

    def show(self, value: float) -> None:
        """Show `value`; what the user holds at this moment is left alone."""
        if value == self._value:
            return
        self._value = value
        if not dpg.is_item_active(self.slider):
            dpg.set_value(self.slider, value if self._scale.whole else self._scale.place(value))
        if not dpg.is_item_active(self.field):
            dpg.set_value(self.field, value if self._scale.whole else value * self._scale.factor)

    @property
    def active(self) -> bool:
        """Whether the user holds the slider or types."""
        return dpg.is_item_active(self.slider) or dpg.is_item_active(self.field)


class Entry:
    """A field for words that are typed, empty but for a hint."""

    def __init__(self, tip: str, hint: str, take: Callable[[str], None]):
        self._take = take
        self.field = dpg.add_input_text(width=-1, hint=hint)
        explain(self.field, tip)
        with dpg.item_handler_registry() as handlers:
            dpg.add_item_deactivated_after_edit_handler(callback=self._typed)
        dpg.bind_item_handler_registry(self.field, handlers)

    def _typed(self) -> None:
        text = dpg.get_value(self.field).strip()
        dpg.set_value(self.field, "")
        if text:
            self._take(text)

    @property
    def active(self) -> bool:
        """Whether the user types."""
        return dpg.is_item_active(self.field)


def scale_of(settings_type: type, name: str) -> Scale:
    """The scale a field of settings.py asks for."""
    limits = knob_range(settings_type, name)
    assert limits is not None, f"{settings_type.__name__}.{name} has no Range"
    return Scale(limits, whole=get_type_hints(settings_type)[name] is int)


def knob_of(settings_type: type, name: str, change: Callable[[Any], None]) -> Knob:
    """The knob of one field of settings.py."""
    return Knob(label_of(name), scale_of(settings_type, name), sentence_of(settings_type, name), change)


def explain(item: int | str, text: str, wrap: int = 340) -> None:
    """A tooltip, shown after a moment."""
    with dpg.tooltip(item, delay=0.5):
        dpg.add_text(text, wrap=wrap)


class Choice:
    """Buttons beside each other of which one is lit."""

    def __init__(
        self,
        options: dict[str, str],
        themes: tuple[int | str, int | str],
        change: Callable[[str], None],
        tips: dict[str, str] | None = None,
    ):
        self._lit, self._plain = themes
        self._value: str | None = None
        self._buttons = {}
        # A table shares out the width; a group would need pixels.
        with dpg.table(header_row=False, pad_outerX=False, policy=dpg.mvTable_SizingStretchSame) as self.item:
            for _ in options:
                dpg.add_table_column()
            with dpg.table_row():
                for value, label in options.items():
                    self._buttons[value] = dpg.add_button(
                        label=label, width=-1, user_data=value, callback=lambda sender, data, chosen: change(chosen)
                    )
                    dpg.bind_item_theme(self._buttons[value], self._plain)
        for value, tip in (tips or {}).items():
            explain(self._buttons[value], tip)

    def show(self, value: str | None) -> None:
        """Light the button of `value`."""
        if value == self._value:
            return
        for name, button in self._buttons.items():
            dpg.bind_item_theme(button, self._lit if name == value else self._plain)
        self._value = value
