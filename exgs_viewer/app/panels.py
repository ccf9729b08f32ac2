"""The panel of forms at the left, with the status line below it; drawn from one frozen state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import dearpygui.dearpygui as dpg

from exgs_viewer.app import theme
from exgs_viewer.app.readout import BESIDE_WORDS, PanelState, restoring_text
from exgs_viewer.app.state import LAYOUTS, MODES
from exgs_viewer.app.status import StatusLine
from exgs_viewer.app.theme import Fonts
from exgs_viewer.app.travel import Travel
from exgs_viewer.app.widgets import Choice, Entry, Knob, Scale, explain, knob_of, knob_table, sentence_of
from exgs_viewer.settings import (
    PRESETS,
    CompressionSettings,
    Range,
    RenderSettings,
    RestoreSettings,
    WindowSettings,
    preset_of,
)

WIDTH = 348
"""Design pixels of the panel."""
LAYOUT_WORDS = {"single": "Single", "wipe": "Wipe", "side": "Side", "difference": "Diff"}
MODE_WORDS = {"color": "Colour", "depth": "Depth", "alpha": "Alpha", "significance": "Score", "trust": "Trust"}

FETCHED = "sd-turbo"
"""The restorer whose weights can be fetched from here."""
PRESET_TIPS = {
    "paper": "ExGS as published: what is dropped is gone, and what is kept is amplified by a learned factor.",
    "default": "Gaussians merge instead of being dropped; opacities and colours follow once the slider rests.",
    "best": "As Default, then sizes and all parameters are fitted for some seconds, where that helps.",
}
"""What each preset does, for those who wonder."""
RESTORER_WORDS = {"inpaint": "Fill", "scene": "Scene", "lite": "Lite", "sd-turbo": "Turbo"}


class Actions(Protocol):
    """What the panel asks for."""

    travel: Travel

    def set_compression(self, **values: Any) -> None: ...
    def set_preset(self, name: str) -> None: ...
    def fit(self, size: str) -> None: ...
    def set_render(self, **values: Any) -> None: ...
    def set_restore(self, **values: Any) -> None: ...
    def set_view(self, **values: Any) -> None: ...
    def set_fov(self, degrees: float) -> None: ...
    def open(self, path: str) -> None: ...
    def ask_open(self) -> None: ...
    def ask_save(self) -> None: ...
    def ask_export(self) -> None: ...
    def ask_screenshot(self) -> None: ...
    def ask_video(self) -> None: ...
    def ask_weights(self) -> None: ...
    def score(self) -> None: ...
    def cancel(self, job: str) -> None: ...
    def frame_all(self) -> None: ...
    def turn_over(self) -> None: ...
    def toggle_help(self) -> None: ...


class Panels:
    """The items of the panel and the status line. `show(state)` changes what differs from the last state."""

    def __init__(self, fonts: Fonts, actions: Actions):
        self._fonts, self._do = fonts, actions
        self._state: PanelState | None = None
        self._clicked = False
        self._themes()
        self._knobs: dict[str, Knob] = {}
        side = theme.flat_window((fonts.px(14), fonts.px(9)), theme.PANEL)
        with dpg.window(no_title_bar=True, no_move=True, no_resize=True, no_close=True, no_collapse=True) as self.panel:
            self._scene_section()
            self._size_section()
            self._compression_section()
            self._compare_section()
            self._restore_section()
            self._view_section()
        dpg.bind_item_theme(self.panel, side)
        self._status = StatusLine(fonts, actions.cancel)

    def _themes(self) -> None:
        self._lit = theme.button_theme(theme.ACCENT_DARK, theme.ACCENT_DARK, (255, 255, 255))
        self._plain = theme.button_theme(theme.FIELD, theme.HOVER)
        self._main = theme.button_theme(theme.ACCENT_DARK, (52, 112, 196), (255, 255, 255))
        self._tight = theme.spaced(round(2 * self._fonts.scale))
        self._dim, self._warn = theme.text_color(theme.DIM), theme.text_color(theme.WARN)

    # Building.

    def _title(self, text: str) -> None:
        dpg.add_spacer(height=0)
        item = dpg.add_separator(label=text)
        dpg.bind_item_theme(item, self._dim)

    def _small(self, text: str = "", **options: Any) -> int | str:
        item = dpg.add_text(text, **options)
        dpg.bind_item_theme(item, self._dim)
        if self._fonts.small:
            dpg.bind_item_font(item, self._fonts.small)
        return item

    def _wide_button(self, label: str, act: Callable[[], None], tip: str) -> None:
        explain(dpg.add_button(label=label, width=-1, callback=act), tip)

    @contextmanager
    def _lines(self) -> Iterator[None]:
        """Lines of text that belong together stand close together."""
        with dpg.group() as group:
            yield
        dpg.bind_item_theme(group, self._tight)

    def _scene_section(self) -> None:
        px = self._fonts.px
        with dpg.group(horizontal=True):
            opener = dpg.add_button(label="Open…", width=px(92), callback=lambda: self._do.ask_open())
            explain(opener, "Open a scene: .ply, .splat, .sog, .exgs or a screenshot made here. Or drop it here.")
            with dpg.group():
                recent = dpg.add_button(label="Recent", width=px(80))
                with dpg.popup(recent, mousebutton=dpg.mvMouseButton_Left) as self._recent_popup:
                    pass
            keys = dpg.add_button(label="Keys", width=px(64), callback=lambda: self._do.toggle_help())
            explain(keys, "What the mouse and the keys do (H or F1).")
        with self._lines():
            self._scene = dpg.add_text("No scene open", wrap=px(WIDTH - 28))
            self._facts = self._small("Open one, or drop a file on the window.", wrap=px(WIDTH - 28))
        self._warnings = dpg.add_button(label="", small=True, show=False)
        dpg.bind_item_theme(self._warnings, self._warn)
        with dpg.popup(self._warnings, mousebutton=dpg.mvMouseButton_Left):
            self._warning_text = dpg.add_text("", wrap=px(420))

    def _size_section(self) -> None:
        half = self._fonts.px((WIDTH - 48) // 2)
        self._title("Compressed size")
        with self._lines():
            self._size_row()
            self._size_lines = [self._small(""), self._small("")]
        dpg.add_spacer(height=0)
        with dpg.group(horizontal=True):
            self._save = dpg.add_button(label="Save .exgs…", width=half, callback=lambda: self._do.ask_save())
            dpg.bind_item_theme(self._save, self._main)
            explain(self._save, "Write the compressed scene and read it back (Ctrl+S).")
            self._export = dpg.add_button(label="Export…", width=-1, callback=lambda: self._do.ask_export())
            explain(self._export, "Write the compressed scene as .ply, .spz, .sog … for other viewers (Ctrl+X).")
        with dpg.group(horizontal=True):
            shot = dpg.add_button(label="Screenshot…", width=half, callback=lambda: self._do.ask_screenshot())
            explain(shot, "Save the picture at any size, with camera and settings inside (F12 saves it at once).")
            film = dpg.add_button(label="Video…", width=-1, callback=lambda: self._do.ask_video())
            explain(film, "Save a flight as a video: through your bookmarks, around the middle, or swaying before it.")
        self._score = dpg.add_button(label="Score the scene", width=-1, show=False, callback=lambda: self._do.score())

    def _size_row(self) -> None:
        """The large figure, and a field for whoever has a size in mind."""
        px = self._fonts.px
        with dpg.table(header_row=False, pad_outerX=False, policy=dpg.mvTable_SizingStretchProp):
            dpg.add_table_column(width_stretch=True)
            dpg.add_table_column(width_fixed=True, init_width_or_weight=px(136))
            with dpg.table_row():
                self._size = dpg.add_text("–")
                if self._fonts.large:
                    dpg.bind_item_font(self._size, self._fonts.large)
                with dpg.group():
                    dpg.add_spacer(height=px(4))
                    with dpg.group(horizontal=True):
                        self._small("Fit into")
                        tip = (
                            "Type how large the file may be, 800 kB or 5 MB: as many Gaussians are kept as fit into it."
                        )
                        self._limit = Entry(tip, "5 MB", lambda size: self._do.fit(size))

    def _compression_section(self) -> None:
        self._title("Compression")
        presets = {name: name.capitalize() for name in PRESETS}
        self._way = Choice(presets, (self._lit, self._plain), lambda name: self._do.set_preset(name), PRESET_TIPS)
        change = self._do.set_compression
        with knob_table(self._fonts):
            self._add(CompressionSettings, "keep", lambda value: change(keep=value))
            self._add(CompressionSettings, "sh_degree", lambda value: change(sh_degree=value))
            self._add(CompressionSettings, "amplification", lambda value: change(amplification=value))
            # The range in settings.py is open-ended; the scene says what makes sense, so the slider counts in voxels.
            voxel = Scale(Range(8.0, 512.0, "voxels", log=True))
            tip = f"{sentence_of(CompressionSettings, 'voxel_size')} Counted here in voxels along the scene."
            self._knobs["voxels"] = Knob("Voxels across", voxel, tip, self._voxels)

    def _voxels(self, across: float) -> None:
        """64 across is what `auto` takes."""
        extent = self._state.extent if self._state else 1.0
        self._do.set_compression(voxel_size=0.0 if abs(across - 64) < 0.5 else extent / across)

    def _add(self, settings_type: type, name: str, change: Any) -> None:
        self._knobs[name] = knob_of(settings_type, name, change)

    def _compare_section(self) -> None:
        self._title("Compare")
        layouts = {layout: LAYOUT_WORDS[layout] for layout in LAYOUTS}
        self._layout = Choice(layouts, (self._lit, self._plain), lambda value: self._set_view(layout=value))
        sides = {"original": "Original", "compressed": "Compressed"}
        self._shown = Choice(sides, (self._lit, self._plain), lambda value: self._set_view(shown=value))
        with dpg.group() as self._beside_group:
            self._small("Restored beside (X)")
            self._beside = Choice(BESIDE_WORDS, (self._lit, self._plain), lambda value: self._set_view(beside=value))
        with dpg.group() as self._gain_group, knob_table(self._fonts):
            tip = "How much the difference of the two pictures is amplified."
            scale = Scale(Range(1.0, 32.0, "x", log=True))
            self._knobs["gain"] = Knob("Amplify", scale, tip, lambda value: self._do.set_view(gain=value))
        self._quality = self._small("")

    def _restore_section(self) -> None:
        self._title("Restore")
        self._restoring = dpg.add_checkbox(
            label="Restore the compressed picture (R)",
            callback=lambda sender, value: self._set_view(restoring=value),
        )
        with dpg.group() as self._restore_group:
            self._preset = Choice(
                RESTORER_WORDS, (self._lit, self._plain), lambda value: self._set_restore(restorer=value)
            )
            with knob_table(self._fonts):
                self._add(RestoreSettings, "strength", lambda value: self._do.set_restore(strength=value))
            self._steady = dpg.add_checkbox(
                label="Steadier while moving", callback=lambda sender, on: self._do.set_restore(steady=on)
            )
            explain(self._steady, sentence_of(RestoreSettings, "steady"))
            self._restorer = self._small("", wrap=self._fonts.px(WIDTH - 36))
            self._weights = dpg.add_button(label="Get the weights…", callback=lambda: self._do.ask_weights())
            explain(self._weights, "Shows the licence, and fetches them from Hugging Face once you agree.")

    def _view_section(self) -> None:
        px = self._fonts.px
        self._title("View")
        self._flying = Choice(
            {"orbit": "Orbit", "fly": "Fly"},
            (self._lit, self._plain),
            lambda how: self._do.travel.set_flying(how == "fly"),
        )
        with knob_table(self._fonts):
            self._add(WindowSettings, "fov_degrees", self._do.set_fov)
            self._add(WindowSettings, "fly_speed", self._do.travel.set_speed)
        with dpg.table(header_row=False, pad_outerX=False, policy=dpg.mvTable_SizingStretchSame):
            for _ in range(3):
                dpg.add_table_column()
            with dpg.table_row():
                self._wide_button("Home", lambda: self._do.travel.home(), "First view (Home)")
                self._wide_button("Frame", lambda: self._do.frame_all(), "All of it (F)")
                self._wide_button("Flip up", lambda: self._do.turn_over(), "Turn it over (U)")
        modes = {mode: MODE_WORDS[mode] for mode in MODES}
        self._mode = Choice(modes, (self._lit, self._plain), lambda value: self._set_view(mode=value))
        with dpg.tree_node(label="Drawing"):
            with knob_table(self._fonts):
                self._knobs["draw_sh"] = knob_of(
                    RenderSettings, "sh_degree", lambda value: self._do.set_render(sh_degree=value)
                )
                self._add(RenderSettings, "near", lambda value: self._do.set_render(near=value))
            self._antialiased = dpg.add_checkbox(
                label="Antialiased",
                callback=lambda sender, on: self._do.set_render(antialiased=on),
            )
            explain(self._antialiased, "How Mip-Splatting draws: on where a file says that it was trained so.")
            self._background = dpg.add_color_edit(
                label="Background",
                no_alpha=True,
                width=px(168),
                callback=lambda sender, color: self._do.set_render(background=tuple(part for part in color[:3])),
            )

    # Placing and showing.

    def place(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Lay the panel and the status line into a window; the rectangle (x, y, width, height) left for the picture."""
        panel, status = self._fonts.px(WIDTH), self._status.place(width, height)
        dpg.configure_item(self.panel, pos=(0, 0), width=panel, height=height - status)
        return panel, 0, max(64, width - panel), max(64, height - status)

    def take_clicked(self) -> bool:
        """Whether a button of the panel was clicked since the last call."""
        clicked, self._clicked = self._clicked, False
        return clicked

    def _set_view(self, **values: Any) -> None:
        self._clicked = True
        self._do.set_view(**values)

    def _set_restore(self, **values: Any) -> None:
        self._clicked = True
        self._do.set_restore(**values)

    @property
    def typing(self) -> bool:
        """Whether a key belongs to a widget now."""
        fields = (self._limit, *self._knobs.values())
        return any(field.active for field in fields) or dpg.is_item_active(self._background)

    def show(self, state: PanelState) -> None:
        """Show `state`."""
        last, self._state = self._state, state
        if state == last:
            return
        self._show_scene(state)
        self._show_compression(state)
        self._show_view(state)
        self._status.show(state)
        if last is None or last.recent != state.recent:
            self._show_recent(state.recent)

    def _show_scene(self, state: PanelState) -> None:
        dpg.set_value(self._scene, state.scene or "No scene open")
        dpg.set_value(self._facts, state.facts or "Open one, or drop a file on the window.")
        count = len(state.warnings)
        dpg.configure_item(self._warnings, show=count > 0, label=f"{count} warning{'s' * (count != 1)}")
        dpg.set_value(self._warning_text, "\n\n".join(state.warnings))

    def _show_recent(self, recent: tuple[str, ...]) -> None:
        dpg.delete_item(self._recent_popup, children_only=True)
        for path in recent or ("demo",):
            dpg.add_menu_item(
                label=path,
                parent=self._recent_popup,
                user_data=path,
                callback=lambda sender, data, chosen: self._do.open(chosen),
            )

    def _show_compression(self, state: PanelState) -> None:
        compression = state.view.compression
        self._way.show(preset_of(compression))
        dpg.set_value(self._size, state.size or "–")
        for item, text in zip(self._size_lines, state.size_lines, strict=True):
            dpg.set_value(item, text)
        for name in ("keep", "sh_degree", "amplification"):
            self._knobs[name].show(getattr(compression, name))
        across = 64.0 if compression.voxel_size == 0 else state.extent / compression.voxel_size
        self._knobs["voxels"].show(across)
        for button in (self._save, self._export):
            dpg.configure_item(button, enabled=state.scored)
        dpg.configure_item(self._score, show=state.can_score)

    def _show_view(self, state: PanelState) -> None:
        view = state.view
        self._layout.show(view.layout)
        self._shown.show(view.shown)
        dpg.configure_item(self._shown.item, show=view.layout == "single")
        dpg.configure_item(self._gain_group, show=view.layout == "difference")
        self._knobs["gain"].show(view.gain)
        dpg.set_value(self._quality, state.quality)
        dpg.set_value(self._restoring, view.restoring)
        dpg.set_value(self._steady, view.restore.steady)
        dpg.configure_item(self._restore_group, show=view.restoring)
        self._preset.show(view.restore.restorer)
        wanted = state.repairs.preset == FETCHED and bool(state.repairs.trouble)
        fetching = state.progress is not None and state.progress[0] == "download"
        dpg.configure_item(self._weights, show=wanted and not fetching)
        dpg.set_value(self._restorer, restoring_text(state.repairs))
        dpg.configure_item(self._beside_group, show=view.restoring and view.layout != "single")
        self._beside.show(view.beside)
        self._knobs["strength"].show(view.restore.strength)
        self._flying.show("fly" if state.flying else "orbit")
        self._knobs["fov_degrees"].show(state.fov_degrees)
        self._knobs["fly_speed"].show(state.speed)
        self._mode.show(view.mode)
        self._knobs["draw_sh"].show(view.render.sh_degree)
        self._knobs["near"].show(view.render.near)
        dpg.set_value(self._antialiased, view.render.antialiased)
        if not dpg.is_item_active(self._background):
            dpg.set_value(self._background, [round(255 * part) for part in view.render.background] + [255])
