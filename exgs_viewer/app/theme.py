"""Colours, fonts and spacing of the window."""

from __future__ import annotations

from dataclasses import dataclass

import dearpygui.dearpygui as dpg

from exgs_viewer.settings import resource

BACK, PANEL, FIELD, HOVER, PRESSED = (15, 17, 20), (24, 27, 32), (38, 43, 51), (50, 57, 68), (62, 71, 85)
TEXT, DIM, LINE = (230, 233, 238), (146, 155, 168), (44, 49, 58)
ACCENT, ACCENT_DARK = (86, 160, 255), (38, 92, 168)
GOOD, WARN, BAD = (110, 214, 152), (245, 190, 96), (255, 118, 118)
FONTS = ("inter-ui-regular.ttf", "inter-ui-semibold.ttf")
"""The fonts in assets/: for text, and for the one large figure."""


@dataclass(frozen=True)
class Fonts:
    """Fonts in the sizes used, 0 where Dear PyGui's own stands in."""

    normal: int | str
    small: int | str
    large: int | str
    """For the size of the compressed scene."""
    scale: float
    """Pixels per design pixel."""

    def px(self, design: float) -> int:
        """Pixels for a length designed at scale 1."""
        return round(design * self.scale)


def load_fonts(scale: float) -> Fonts:
    """The fonts of assets/ in the sizes used; Dear PyGui's own where they are missing."""
    regular, bold = (resource("assets", name) for name in FONTS)
    if not (regular.is_file() and bold.is_file()):
        dpg.set_global_font_scale(scale)
        return Fonts(0, 0, 0, scale)
    with dpg.font_registry():
        normal, small = (dpg.add_font(str(regular), round(size * scale)) for size in (16, 14))
        large = dpg.add_font(str(bold), round(34 * scale))
    dpg.bind_font(normal)
    return Fonts(normal, small, large, scale)


def bind_theme(scale: float) -> None:
    """The look of everything that has no theme of its own."""
    colors = {
        "WindowBg": PANEL,
        "ChildBg": PANEL,
        "PopupBg": (30, 34, 40),
        "Border": LINE,
        "Text": TEXT,
        "TextDisabled": DIM,
        "FrameBg": FIELD,
        "FrameBgHovered": HOVER,
        "FrameBgActive": PRESSED,
        "Button": FIELD,
        "ButtonHovered": HOVER,
        "ButtonActive": PRESSED,
        "Header": FIELD,
        "HeaderHovered": HOVER,
        "HeaderActive": PRESSED,
        "CheckMark": ACCENT,
        "SliderGrab": ACCENT,
        "SliderGrabActive": (140, 190, 255),
        "TitleBg": PANEL,
        "TitleBgActive": (30, 34, 40),
        "ScrollbarBg": PANEL,
        "ScrollbarGrab": HOVER,
        "Separator": LINE,
        "PlotHistogram": ACCENT,
        "TextSelectedBg": ACCENT_DARK,
        "ModalWindowDimBg": (0, 0, 0, 140),
        "TableBorderLight": LINE,
    }
    styles = {
        "WindowPadding": (14, 12),
        "FramePadding": (8, 4),
        "ItemSpacing": (8, 5),
        "ItemInnerSpacing": (6, 4),
        "CellPadding": (4, 2),
        "SeparatorTextPadding": (0, 3),
        "SeparatorTextBorderSize": (1,),
        "FrameRounding": (5,),
        "GrabRounding": (5,),
        "WindowRounding": (0,),
        "ChildRounding": (6,),
        "PopupRounding": (6,),
        "WindowBorderSize": (0,),
        "ScrollbarSize": (10,),
        "GrabMinSize": (12,),
    }
    with dpg.theme() as theme, dpg.theme_component(dpg.mvAll):
        for name, color in colors.items():
            dpg.add_theme_color(getattr(dpg, f"mvThemeCol_{name}"), color)
        for name, values in styles.items():
            dpg.add_theme_style(getattr(dpg, f"mvStyleVar_{name}"), *(round(value * scale) for value in values))
    dpg.bind_theme(theme)


def text_color(color: tuple[int, ...]) -> int | str:
    """A theme that only colours text."""
    with dpg.theme() as theme, dpg.theme_component(dpg.mvAll):
        dpg.add_theme_color(dpg.mvThemeCol_Text, color)
    return theme


def button_theme(back: tuple[int, ...], hover: tuple[int, ...], text: tuple[int, ...] = TEXT) -> int | str:
    """A theme for one kind of button."""
    with dpg.theme() as theme, dpg.theme_component(dpg.mvAll):
        dpg.add_theme_color(dpg.mvThemeCol_Button, back)
        dpg.add_theme_color(dpg.mvThemeCol_ButtonHovered, hover)
        dpg.add_theme_color(dpg.mvThemeCol_ButtonActive, hover)
        dpg.add_theme_color(dpg.mvThemeCol_Text, text)
    return theme


def flat_window(padding: tuple[int, int] = (0, 0), back: tuple[int, ...] = BACK) -> int | str:
    """A theme for windows that are part of the frame."""
    with dpg.theme() as theme, dpg.theme_component(dpg.mvAll):
        dpg.add_theme_color(dpg.mvThemeCol_WindowBg, back)
        dpg.add_theme_color(dpg.mvThemeCol_ChildBg, back)
        dpg.add_theme_style(dpg.mvStyleVar_WindowPadding, *padding)
        dpg.add_theme_style(dpg.mvStyleVar_WindowBorderSize, 0)
    return theme


def spaced(between: int) -> int | str:
    """A theme that only sets the space between lines, those of tables included."""
    with dpg.theme() as theme, dpg.theme_component(dpg.mvAll):
        dpg.add_theme_style(dpg.mvStyleVar_ItemSpacing, 8, between)
        dpg.add_theme_style(dpg.mvStyleVar_CellPadding, 4, between / 2)
    return theme
