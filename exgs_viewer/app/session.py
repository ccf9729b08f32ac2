"""The live session: what the user does becomes a view, a command or a job; what the engine says becomes words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from exgs_viewer.app import files, readout, words
from exgs_viewer.app import state as said
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.history import History
from exgs_viewer.app.memory import changed_since, key_of, load_memory, save_memory
from exgs_viewer.app.navigation import Navigator
from exgs_viewer.app.readout import OverlayState, PanelState, Told
from exgs_viewer.app.snapshot import Snapshot, read_snapshot, snapshot_meta
from exgs_viewer.app.state import BESIDE, LAYOUTS, THIRDS, Frame, ViewState
from exgs_viewer.app.stillness import SETTLE
from exgs_viewer.app.travel import Travel
from exgs_viewer.errors import ExgsError
from exgs_viewer.settings import Settings, knob_range, load_settings, save_settings

TOAST = 1.8
"""Seconds a message stands over the picture."""
KEEP_STEP = 1.1
"""Factor on the retention of the keys [ and ]."""
STORE_AFTER = 1.0
"""Seconds after a change of the settings until they are remembered."""


class Asker(Protocol):
    """Questions to the user; the answers come later, as calls."""

    def ask_open(self, folder: Path) -> None: ...
    def ask_save(self, path: Path) -> None: ...
    def ask_export(self, path: Path) -> None: ...
    def ask_screenshot(self, path: Path, size: tuple[int, int]) -> None: ...
    def ask_weights(self) -> None: ...


class Session:
    """Holds the view and everything the window shows; owns no GUI. All methods run on the main thread."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        remember: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.engine, self._clock = engine, clock
        # Scripts that take pictures leave no trace, and flags of the command line hold for this session only.
        self._remembers = remember
        self._given, self._base = settings, load_settings()
        self.asker: Asker | None = None
        self.settings = settings
        # The wipe says at first sight what this program is about; looking at one side alone is one key away.
        self.view = ViewState(
            layout="wipe", compression=settings.compression, render=settings.render, restore=settings.restore
        )
        self.travel = Travel(clock, self.toast)
        self.frame: Frame | None = None
        self.failed: ExgsError | None = None
        self.memory = load_memory()
        self._history = History(self._parameters())
        self._known: said.SizeKnown | None = None
        self._renderer = ""
        self._told = Told("Starting …")
        self._progress: dict[str, tuple[float, str]] = {}
        self._help = False
        self._toast = ("", 0.0)
        self._opening: Snapshot | None = None
        self._changed_at = 0.0
        self._stored = self._base

    # What is shown.

    def panel(self) -> PanelState:
        """What the panel and the status line show now."""
        engine, nav, window = self.engine, self.nav, self.settings.window
        at_work = {*engine.jobs} & {"open", "score"}
        state = PanelState(
            view=replace(self.view, camera=None, size=(0, 0), swapped=False, held=False, wipe=0.5, wipes=THIRDS),
            recent=self.memory.recent,
            scored=engine.ready,
            can_score=engine.scene is not None and not engine.ready and not at_work,
            extent=nav.extent if nav else 1.0,
            flying=bool(nav and nav.flying),
            speed=nav.speed if nav else window.fly_speed,
            fov_degrees=round(math.degrees(nav.camera.fov_y), 1) if nav else window.fov_degrees,
            repairs=engine.repairs,
            drawn_by=readout.drawn_text(self._renderer, self.frame),
            told=self._told,
            progress=self._shown_progress(),
        )
        if engine.scene is None:
            return state
        return readout.with_scene(state, engine.scene, self.frame, self._known, "score" in at_work)

    def overlay(self) -> OverlayState:
        """What is drawn over the picture now."""
        toast, until = self._toast
        scene, labels, centre, legend = self.engine.scene, (), None, None
        if scene is not None and self.frame is not None:
            waiting = "" if self.engine.ready else "scoring …" if "score" in self.engine.jobs else "not scored"
            labels = readout.labels_of(scene, self.frame, self._known, waiting, self.engine.repairs)
            legend = readout.legend_of(self.frame, labels)
        else:
            centre = self._centre()
        toast = toast if self._clock() < until else ""
        return OverlayState(self.view, labels, toast, centre, self._help, legend)

    def _centre(self) -> tuple[str, str, float]:
        at_work = self._shown_progress()
        if at_work:
            return "Opening", at_work[2], at_work[1]
        if self._told.kind == "bad":
            return "Nothing is open", self._told.text, -1.0
        return "Drop a scene here", "or press O: .ply, .splat, .sog, .exgs, or a screenshot made here", -1.0

    def _shown_progress(self) -> tuple[str, float, str] | None:
        for job in ("open", "renderer", "save", "download", "capture", "score", "rank", "tree", "polish"):
            if job in self._progress:
                return (job, *self._progress[job])
        return None

    # One step of the loop.

    def step(self) -> Frame | None:
        """Show the view, hear what the engine says; the picture to put on the screen, if there is a new one."""
        now = self._clock()
        self.travel.step()
        if self.nav is not None:
            self.view = replace(self.view, camera=self.nav.camera)
        self.engine.show(self.view)
        before = self.frame
        for event in self.engine.poll():
            self._hear(event)
        self._remember(now)
        return self.frame if self.frame is not before else None

    @property
    def awake(self) -> bool:
        """Whether something on the screen changes by itself."""
        toast_due = self._toast[1] > 0 and self._clock() < self._toast[1] + 0.1
        return bool(self.nav and self.nav.moving) or toast_due or self.engine.fading

    def _hear(self, event: said.Event) -> None:
        match event:
            case said.FrameReady(frame) | said.FrameRestored(frame):
                self._take_frame(frame)
            case said.SizeKnown():
                self._known = event
            case said.SceneOpened():
                self._take_scene(event)
            case said.Scored(seconds):
                self._say(f"Scored in {words.seconds(seconds)}: drag Retention.", "good")
            case said.RendererReady(label):
                self._renderer = label
                self._say("")
            case said.Progress(job, fraction, text):
                self._progress[job] = (fraction, text)
            case said.Finished(job):
                self._progress.pop(job, None)
            case said.Saved() | said.Fetched():
                self._succeed(event)
            case said.Failed(_, error):
                self.fail(error)

    def _succeed(self, done: said.Saved | said.Fetched) -> None:
        if isinstance(done, said.Fetched):
            self._say("The weights are here. They are not fine-tuned for scenes, as the label says.", "good")
            return
        self._say(" ".join([f"Saved {done.path} ({words.size(done.bytes)}).", *done.warnings]), "good")
        self.toast(f"Saved {done.path.name}, {words.size(done.bytes)}")

    def _take_frame(self, frame: Frame) -> None:
        self.frame = frame
        self.travel.seen(frame)

    def _take_scene(self, opened: said.SceneOpened) -> None:
        scene, snapshot, self._opening = opened.scene, self._opening, None
        self._known = self.frame = None
        key = key_of(scene.path)
        fov = math.radians(self.settings.window.fov_degrees)
        camera = opened.camera if scene.cameras else replace(opened.camera, fov_y=fov)
        self.travel.start(camera, opened.up, opened.extent, self.settings.window.fly_speed)
        self.memory = self.memory.opened(key)
        self._keep_memory()
        count = words.amount(len(scene.cloud))
        self._say(f"Opened {count} Gaussians in {words.seconds(opened.seconds)}.", "good")
        if snapshot is not None:
            self._apply(snapshot)

    def _apply(self, snapshot: Snapshot) -> None:
        self.travel.stand(snapshot.camera)
        self.view = replace(snapshot.applied(self.view), camera=snapshot.camera)

    def _remember(self, now: float) -> None:
        """Take changed parameters into the history and, a moment later, into the settings file."""
        parameters = self._parameters()
        if parameters != self._history.now and now - self._changed_at > SETTLE:
            self._history = self._history.changed(parameters)
        if now - self._changed_at > STORE_AFTER:
            self._store()

    def _store(self) -> None:
        """Write down the settings that were changed in this session."""
        settings = changed_since(self._given, self._current_settings(), self._base)
        if self._remembers and settings != self._stored:
            self._stored = settings
            self._try(lambda: save_settings(settings))

    def _keep_memory(self) -> None:
        if self._remembers:
            self._try(lambda: save_memory(self.memory))

    def _current_settings(self) -> Settings:
        view, window = self.view, self.settings.window
        if self.nav is not None:
            window = replace(window, fly_speed=self.nav.speed)
        return replace(
            self.settings, compression=view.compression, render=view.render, restore=view.restore, window=window
        )

    def _parameters(self) -> tuple:
        view = self.view
        return view.compression, view.render, view.restore, view.layout, view.gain, view.mode

    # Words.

    def _say(self, text: str, kind: str = "plain") -> None:
        self._told = Told(text, kind)

    def toast(self, text: str) -> None:
        """A short message over the picture."""
        self._toast = (text, self._clock() + TOAST)

    def fail(self, error: Exception) -> None:
        """Tell an error; everything that is open stays open."""
        self.failed = error if isinstance(error, ExgsError) else ExgsError(str(error))
        self._say(str(error), "bad")

    def _try(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except ExgsError as error:
            self.fail(error)
        except OSError as error:
            self.fail(ExgsError(f"{error.filename}: cannot be written ({error.strerror})."))

    # Settings, from the panel.

    def set_view(self, **values: Any) -> None:
        """Change layout, sides, dividers, gain, mode or restoring."""
        if values.get("mode") == "trust":
            values = {"restoring": True, **values}  # What was repaired can be seen only where something is.
        elif values.get("restoring") is False and self.view.mode == "trust":
            values = {"mode": "color", **values}
        self.view = replace(self.view, **values)
        self._changed_at = self._clock()

    def set_size(self, size: tuple[int, int]) -> None:
        """The picture has so many pixels now."""
        if size != self.view.size:
            self.view = replace(self.view, size=size)

    def set_window_size(self, size: tuple[int, int]) -> None:
        """The window has so many pixels now."""
        window = replace(self.settings.window, width=size[0], height=size[1])
        if size[0] >= 640 and size[1] >= 480:
            self.settings = replace(self.settings, window=window)
            self._changed_at = self._clock()

    def set_compression(self, **values: Any) -> None:
        self.set_view(compression=replace(self.view.compression, **values))

    def set_render(self, **values: Any) -> None:
        self.set_view(render=replace(self.view.render, **values))

    def set_restore(self, **values: Any) -> None:
        self.set_view(restore=replace(self.view.restore, **values))

    def undo(self) -> None:
        self._take_back(self._history.undone(), "Undo")

    def redo(self) -> None:
        self._take_back(self._history.redone(), "Redo")

    def _take_back(self, history: History, word: str) -> None:
        if history is self._history:
            self.toast(f"Nothing to {word.lower()}")
            return
        self._history = history
        names = ("compression", "render", "restore", "layout", "gain", "mode")
        self.set_view(**dict(zip(names, history.now, strict=True)))
        self.toast(word)

    # Files.

    def open(self, path: str) -> None:
        """Open a scene, or the view of a screenshot."""
        path = str(path)
        if path.lower().endswith(".png"):
            self._try(lambda: self._open_snapshot(Path(path)))
            return
        self._opening = None
        self._open_scene(path)

    def _open_snapshot(self, path: Path) -> None:
        snapshot = read_snapshot(path)
        scene = self.engine.scene
        if scene is not None and (key_of(scene.path) == snapshot.scene or not _there(snapshot.scene)):
            self._apply(snapshot)
            known = key_of(scene.path) == snapshot.scene
            self._say(f"The view of {path.name}." if known else f"{snapshot.scene} is gone; its view, in this scene.")
            return
        if not _there(snapshot.scene):
            raise ExgsError(
                f"{path}: the scene it shows ({snapshot.scene}) is not there; open it, then drop this again."
            )
        self._opening = snapshot
        self._open_scene(snapshot.scene, snapshot)

    def _open_scene(self, path: str, snapshot: Snapshot | None = None) -> None:
        key = "demo" if path == "demo" and not Path(path).exists() else key_of(Path(path))
        up = snapshot.up if snapshot else self.memory.up_of(key)
        self._say(f"Opening {path} …")
        self._progress["open"] = (0.0, f"Opening {Path(path).name}")
        self.engine.open(path, up)

    def ask_open(self) -> None:
        scene = self.engine.scene
        self.asker.ask_open(scene.path.resolve().parent if scene and scene.path else Path.cwd())

    def ask_save(self) -> None:
        self._ask_where(self.asker.ask_save, ".exgs")

    def ask_export(self) -> None:
        self._ask_where(self.asker.ask_export, ".ply")

    def _ask_where(self, ask: Callable[[Path], None], suffix: str) -> None:
        if not self.engine.ready:
            self.fail(ExgsError("There is no compressed scene to save yet; wait until it is scored."))
            return
        ask(files.beside(self.engine.scene, f"_{words.plain_share(self.view.compression.keep)}{suffix}"))

    def ask_screenshot(self) -> None:
        if self.engine.scene is None:
            self.fail(ExgsError("There is no picture to save yet; open a scene first."))
            return
        self.asker.ask_screenshot(files.picture_path(self.engine.scene), self.view.size)

    def save(self, path: Path) -> None:
        """Save the compressed scene as .exgs."""
        path = path if path.suffix.lower() == ".exgs" else path.with_name(path.name + ".exgs")
        self.export(path)

    def export(self, path: Path) -> None:
        """Save the compressed scene in the format of the path's suffix."""
        self._try(lambda: self.engine.save(path, self.view))

    def capture(self, path: Path, size: tuple[int, int]) -> None:
        """Save the picture at `size`."""
        path = path if path.suffix.lower() == ".png" else path.with_name(path.name + ".png")
        view = replace(self.view, size=size)
        scene = self.engine.scene
        meta = snapshot_meta(view, key_of(scene.path) if scene else "", self.nav.up if self.nav else (0, -1, 0))
        self._try(lambda: self.engine.capture(path, view, meta))

    def ask_weights(self) -> None:
        self.asker.ask_weights()

    def fetch_weights(self) -> None:
        """Fetch the weights; the user has agreed to their licence."""
        self.engine.fetch()

    def score(self) -> None:
        self.engine.score()

    def cancel(self, job: str) -> None:
        self.engine.cancel(job)
        self._say("Cancelled.")

    # Moving.

    @property
    def nav(self) -> Navigator | None:
        """Where we are; None without a scene."""
        return self.travel.nav

    @nav.setter
    def nav(self, nav: Navigator | None) -> None:
        self.travel.nav = nav

    def home(self) -> None:
        self.travel.home()

    def frame_all(self) -> None:
        if self.engine.scene is not None:
            self.travel.frame_all(self.engine.scene.cloud)

    def turn_over(self) -> None:
        """Flip the up axis, and remember it for this file."""
        if self.nav is not None and self.engine.scene is not None:
            self.travel.turn_over()
            self.engine.turn_up(self.nav.up)
            self.memory = self.memory.with_up(key_of(self.engine.scene.path), self.nav.up)
            self._keep_memory()
            self.toast("Turned over; remembered for this file")

    def focus_at(self, u: float, v: float) -> None:
        self.travel.focus_at(self.frame, u, v)

    def set_flying(self, flying: bool) -> None:
        self.travel.set_flying(flying, self.frame)

    def set_fov(self, degrees: float) -> None:
        self.settings = replace(self.settings, window=replace(self.settings.window, fov_degrees=degrees))
        self._changed_at = self._clock()
        self.travel.set_fov(degrees)

    def set_speed(self, speed: float) -> None:
        self._changed_at = self._clock()
        self.travel.set_speed(speed)

    def speed_changed(self) -> None:
        self._changed_at = self._clock()
        self.travel.tell_speed()

    def other_side(self, held: bool) -> None:
        """Show the other side while `held`."""
        if self.view.swapped != held:
            self.view = replace(self.view, swapped=held)

    def hold(self, held: bool) -> None:
        """A mouse button moves the camera, or no longer."""
        if self.view.held != held:
            self.view = replace(self.view, held=held)

    def toggle_help(self) -> None:
        self._help = not self._help

    # Keys.

    def key(self, name: str, ctrl: bool) -> None:
        """A key was pressed over the picture."""
        if name.isdigit():
            self._bookmark(int(name), ctrl)
            return
        command = (WITH_CTRL if ctrl else PLAIN).get(name)
        if command:
            command(self)

    def escape(self) -> None:
        self._help = False

    def next_layout(self) -> None:
        place = LAYOUTS.index(self.view.layout)
        self.set_view(layout=LAYOUTS[(place + 1) % len(LAYOUTS)])

    def next_beside(self) -> None:
        """Show the restored picture beside something else."""
        if not self.view.restoring:
            self.toast("Press R first: nothing is restored")
            return
        self.set_view(beside=BESIDE[(BESIDE.index(self.view.beside) + 1) % len(BESIDE)])
        self.toast(f"Restored beside {readout.BESIDE_WORDS[self.view.beside].lower()}")

    def toggle_trust(self) -> None:
        """Show where the picture was repaired and by how much, or the colours again."""
        self.set_view(mode="color" if self.view.mode == "trust" else "trust")

    def step_keep(self, factor: float) -> None:
        limits = knob_range(type(self.view.compression), "keep")
        keep = min(max(self.view.compression.keep * factor, limits.low), limits.high)
        self.set_compression(keep=float(f"{keep:.3g}"))
        self.toast(f"Retention {words.share(self.view.compression.keep)}")

    def shoot(self) -> None:
        """Save the picture as it is, at once."""
        if self.engine.scene is not None:
            self.capture(files.picture_path(self.engine.scene), self.view.size)

    def _bookmark(self, number: int, store: bool) -> None:
        if self.nav is None or self.engine.scene is None:
            return
        key = key_of(self.engine.scene.path)
        if store:
            self.memory = self.memory.with_bookmark(key, number, self.nav.camera)
            self._keep_memory()
            self.toast(f"Bookmark {number} stored")
            return
        camera = self.memory.bookmark(key, number)
        if camera is None:
            self.toast(f"Bookmark {number} is empty; Ctrl + {number} stores this view")
            return
        self.travel.go(camera)

    def file_camera(self, step: int) -> None:
        self.travel.go_to_camera_of(self.engine.scene.cameras if self.engine.scene else (), step)

    def close(self) -> None:
        """Stop the workers and remember the settings."""
        self.engine.close()
        self._store()


def _there(path: str) -> bool:
    return path == "demo" or Path(path).exists()


WITH_CTRL: dict[str, Callable[[Session], None]] = {
    "Z": Session.undo,
    "Y": Session.redo,
    "O": Session.ask_open,
    "S": Session.ask_save,
    "X": Session.ask_export,
}
"""What a key does while Ctrl is held."""

PLAIN: dict[str, Callable[[Session], None]] = {
    "C": Session.next_layout,
    "F": Session.frame_all,
    "Home": Session.home,
    "H": Session.toggle_help,
    "F1": Session.toggle_help,
    "Escape": Session.escape,
    "O": Session.ask_open,
    "P": Session.shoot,
    "F12": Session.shoot,
    "R": lambda session: session.set_view(restoring=not session.view.restoring),
    "T": Session.toggle_trust,
    "U": Session.turn_over,
    "X": Session.next_beside,
    "V": lambda session: session.set_flying(not (session.nav and session.nav.flying)),
    "[": lambda session: session.step_keep(1 / KEEP_STEP),
    "]": lambda session: session.step_keep(KEEP_STEP),
    ",": lambda session: session.travel.roll(-1),
    ".": lambda session: session.travel.roll(1),
    "Left": lambda session: session.file_camera(-1),
    "Right": lambda session: session.file_camera(1),
}
"""What a key does once when it is pressed; flying is polled by the viewport."""
