"""The picture and what lies over it; mouse and keys become movements of the Navigator and commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import dearpygui.dearpygui as dpg

from exgs_viewer.app import dividers
from exgs_viewer.app import navigation as nav_
from exgs_viewer.app.frames import dividers_of
from exgs_viewer.app.navigation import Navigator
from exgs_viewer.app.overlay import Overlay
from exgs_viewer.app.readout import OverlayState
from exgs_viewer.app.sinks import ImageSink
from exgs_viewer.app.state import Frame, ViewState, sides_of
from exgs_viewer.app.theme import Fonts, flat_window
from exgs_viewer.app.travel import Travel

GRAB = 10
"""Design pixels around the divider in which it is taken."""
LEFT, RIGHT, MIDDLE = 0, 1, 2
CTRL = (dpg.mvKey_LControl, dpg.mvKey_RControl)
SHIFT = (dpg.mvKey_LShift, dpg.mvKey_RShift)
ALT = (dpg.mvKey_LAlt, dpg.mvKey_RAlt)


class Commands(Protocol):
    """What the mouse and held keys ask for, beside moving."""

    travel: Travel

    def other_side(self, held: bool) -> None: ...
    def hold(self, held: bool) -> None: ...
    def set_view(self, **values: Any) -> None: ...


class Keys(Protocol):
    """Who says whether keys are for the picture, and hears those that do something once."""

    def blocked(self) -> bool: ...
    def press(self, name: str, ctrl: bool) -> None: ...


@dataclass(frozen=True)
class Drag:
    """A button held over the picture."""

    button: int
    last: tuple[float, float]
    divider: int | None = None
    """Number of the divider that is dragged."""


def _keys() -> dict[int, str]:
    """Dear PyGui's key numbers -> the names used here, for keys that do something once when pressed."""
    letters = {getattr(dpg, f"mvKey_{letter}"): letter for letter in "CFGHORTUVYZSX"}
    digits = {getattr(dpg, f"mvKey_{digit}"): str(digit) for digit in range(1, 10)}
    named = {
        dpg.mvKey_Home: "Home",
        dpg.mvKey_F1: "F1",
        dpg.mvKey_F12: "F12",
        dpg.mvKey_P: "P",
        dpg.mvKey_Escape: "Escape",
        dpg.mvKey_Return: "Enter",
        dpg.mvKey_NumPadEnter: "Enter",
        dpg.mvKey_Open_Brace: "[",
        dpg.mvKey_Close_Brace: "]",
        dpg.mvKey_Left: "Left",
        dpg.mvKey_Right: "Right",
        dpg.mvKey_Comma: ",",
        dpg.mvKey_Period: ".",
    }
    return {**letters, **digits, **named}


class Viewport:
    """The window with the picture. `step` reads the input of one frame."""

    def __init__(self, fonts: Fonts, sink: ImageSink, commands: Commands, keys: Keys):
        self._fonts, self._sink, self._do = fonts, sink, commands
        self._blocked, self._press = keys.blocked, keys.press
        self._rect = (0, 0, 64, 64)
        self._drag: Drag | None = None
        self._free = True
        self._over = False
        self._wheel = 0.0
        self._double = False
        self._down: set[int] = set()
        self._taken: set[int] = set()
        self._ctrl = False
        self._names = _keys()
        with dpg.window(
            no_title_bar=True,
            no_move=True,
            no_resize=True,
            no_close=True,
            no_scrollbar=True,
            no_scroll_with_mouse=True,
            no_bring_to_front_on_focus=True,
        ) as self.window:
            self._canvas = dpg.add_drawlist(64, 64)
            self._layer = dpg.add_draw_layer(parent=self._canvas)
            self._image = dpg.draw_image(sink.texture, (0, 0), (64, 64), parent=self._layer, show=False)
            self._overlay = Overlay(fonts, self._canvas)
        dpg.bind_item_theme(self.window, flat_window())
        with dpg.handler_registry():
            dpg.add_mouse_wheel_handler(callback=self._wheeled)
            dpg.add_mouse_double_click_handler(button=dpg.mvMouseButton_Left, callback=self._double_clicked)
            dpg.add_key_press_handler(callback=self._pressed)

    # Showing.

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of the picture."""
        return self._rect[2], self._rect[3]

    def place(self, rect: tuple[int, int, int, int]) -> None:
        """Fill a rectangle (x, y, width, height) of the window."""
        self._rect = rect
        x, y, width, height = rect
        dpg.configure_item(self.window, pos=(x, y), width=width, height=height)
        dpg.configure_item(self._canvas, width=width, height=height)
        dpg.configure_item(self._image, pmin=(0, 0), pmax=(width, height))

    def show(self, frame: Frame) -> None:
        """Put a finished picture on the screen."""
        self._sink.show(frame.pixels)
        dpg.configure_item(self._image, texture_tag=self._sink.texture, show=True)
        self._sink.release()

    def overlay(self, state: OverlayState) -> None:
        """Draw labels, divider and messages over the picture."""
        hot = self._over_divider(state.view) if self._drag is None else self._drag.divider
        self._overlay.show(replace(state, size=self.size, divider_hot=hot))

    def focus(self) -> None:
        """Take the keyboard."""
        dpg.focus_item(self.window)

    # Input.

    def _wheeled(self, sender: Any, notches: float) -> None:
        self._wheel += notches

    def _double_clicked(self) -> None:
        self._double = True

    def _pressed(self, sender: Any, key: int) -> None:
        """A key went down; held keys repeat, which is not wanted here."""
        if key in self._down:
            return
        self._down.add(key)
        # A quick Ctrl+S on a slow machine: the S is told in the frame in which Ctrl is up already.
        ctrl = self._ctrl or _held(*CTRL)
        name = self._names.get(key, "")
        if ctrl and name in ("S", "O", "Y", "Z"):
            self._taken.add(key)
        if name:
            self._press(name, ctrl)

    def step(self, nav: Navigator | None, view: ViewState, seconds: float, focused: bool) -> Navigator | None:
        """Read the input since the last frame; where that leads."""
        self._down = {key for key in self._down if dpg.is_key_down(key)} if focused else set()
        self._taken &= self._down
        self._ctrl = _held(*CTRL)
        wheel, self._wheel, double, self._double = self._wheel, 0.0, self._double, False
        if nav is None:
            return None
        if not any(dpg.is_mouse_button_down(button) for button in (LEFT, RIGHT, MIDDLE)):
            self._over = self._hovered()  # While a button is held, Dear PyGui calls nothing hovered.
        over = self._over
        if over and not self._blocked() and not dpg.is_item_focused(self.window):
            self.focus()
        nav = self._mouse(nav, view, over)
        if over and double:
            self._do.travel.focus_at(*self._share(self._mouse_place()))
        if over and wheel:
            nav = self._turned_wheel(nav, wheel)
        return self._fly(nav, seconds, focused)

    @property
    def dragging(self) -> bool:
        """Whether a mouse button is held that began over the picture."""
        return self._drag is not None

    def _mouse(self, nav: Navigator, view: ViewState, over: bool) -> Navigator:
        place = self._mouse_place()
        if self._drag is None:
            button = next((b for b in (LEFT, RIGHT, MIDDLE) if dpg.is_mouse_button_down(b)), None)
            if button is None:
                self._free = True
                return nav
            # `over` tells of the last frame: a quick hand has left the picture since, where frames take long.
            if not (over and self._inside(place) and self._free):
                self._free = False  # It began elsewhere, so it is none of ours until it is let go.
                return nav
            self._drag = Drag(button, place, self._over_divider(view) if button == LEFT else None)
            self._do.hold(self._drag.divider is None)
            return nav
        if not dpg.is_mouse_button_down(self._drag.button):
            self._drag = None
            self._do.hold(False)
            return nav
        return self._dragged(nav, view, place)

    def _dragged(self, nav: Navigator, view: ViewState, place: tuple[float, float]) -> Navigator:
        right, down = ((now - last) / self.size[1] for now, last in zip(place, self._drag.last, strict=True))
        if right == down == 0.0:
            return nav
        self._drag = replace(self._drag, last=place)
        if self._drag.divider is not None:
            self._drag_divider(view, self._share(place)[0])
            return nav
        if self._drag.button == LEFT:
            return nav_.dragged(nav, right, down)
        if self._drag.button == RIGHT and self._wish() != (0.0, 0.0, 0.0):
            return nav_.looked(nav, right, down)
        return nav_.panned(nav, right, down)

    def _drag_divider(self, view: ViewState, to: float) -> None:
        places = _dividers(view)
        if self._drag.divider < len(places):  # A key may have changed the layout meanwhile.
            moved = dividers.dragged(places, self._drag.divider, to)
            self._do.set_view(**({"wipe": moved[0]} if len(moved) == 1 else {"wipes": moved}))

    def _turned_wheel(self, nav: Navigator, notches: float) -> Navigator:
        right_held = self._drag is not None and self._drag.button == RIGHT
        if right_held or _held(*CTRL):
            nav = nav_.sped(nav, notches)
            self._do.travel.tell_speed(nav.speed)
            return nav
        return nav_.wheeled(nav, notches)

    def _fly(self, nav: Navigator, seconds: float, focused: bool) -> Navigator:
        free = focused and not self._blocked()
        self._do.other_side(free and _held(dpg.mvKey_Tab))
        wish = self._wish() if free else (0.0, 0.0, 0.0)
        if wish == (0.0, 0.0, 0.0) and nav.velocity == wish:
            return nav
        boost = (nav_.FAST if _held(*SHIFT) else 1.0) * (nav_.SLOW if _held(*CTRL, *ALT) else 1.0)
        return nav_.flown(nav, wish, boost, seconds)

    def _wish(self) -> tuple[float, float, float]:
        """Where the held keys want to fly: right, down, forward."""

        def held(key: int) -> bool:
            return key not in self._taken and _held(key)  # Ctrl+S saves.

        def axis(positive: int, negative: int) -> float:
            return float(held(positive)) - float(held(negative))

        return (
            axis(dpg.mvKey_D, dpg.mvKey_A),
            axis(dpg.mvKey_Q, dpg.mvKey_E),
            axis(dpg.mvKey_W, dpg.mvKey_S),
        )

    @property
    def flying_keys(self) -> bool:
        """Whether a key that flies is held."""
        return not self._blocked() and self._wish() != (0.0, 0.0, 0.0)

    # Places.

    def _mouse_place(self) -> tuple[float, float]:
        x, y = dpg.get_mouse_pos(local=False)
        return x - self._rect[0], y - self._rect[1]

    def _share(self, place: tuple[float, float]) -> tuple[float, float]:
        return place[0] / self.size[0], place[1] / self.size[1]

    def _inside(self, place: tuple[float, float]) -> bool:
        return all(0 <= at < length for at, length in zip(place, self.size, strict=True))

    def _hovered(self) -> bool:
        return self._inside(self._mouse_place()) and dpg.is_item_hovered(self.window)

    def _over_divider(self, view: ViewState) -> int | None:
        if not self._over:
            return None
        width = self.size[0]
        return dividers.taken(_dividers(view), self._mouse_place()[0] / width, self._fonts.px(GRAB) / width)


def _dividers(view: ViewState) -> tuple[float, ...]:
    return dividers_of(view, len(sides_of(view)))


def _held(*keys: int) -> bool:
    return any(dpg.is_key_down(key) for key in keys)
