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
from exgs_viewer.app.diary import Diary
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.fitting import Fitting
from exgs_viewer.app.history import History, parameters_of
from exgs_viewer.app.memory import key_of
from exgs_viewer.app.navigation import Navigator
from exgs_viewer.app.notices import Notices
from exgs_viewer.app.opener import Opener
from exgs_viewer.app.readout import OverlayState, PanelState
from exgs_viewer.app.sizes import Coding, coding_of
from exgs_viewer.app.snapshot import Snapshot, snapshot_meta
from exgs_viewer.app.state import THIRDS, Frame, ViewState
from exgs_viewer.app.stillness import SETTLE
from exgs_viewer.app.travel import Travel, Way, flight
from exgs_viewer.app.work import Flight
from exgs_viewer.errors import ExgsError
from exgs_viewer.images import VIDEO
from exgs_viewer.scene.camera import Camera
from exgs_viewer.settings import Settings, bytes_of, with_preset

FPS = 30.0
"""Pictures per second of a video."""
STORE_AFTER = 1.0
"""Seconds after a change of the settings until they are remembered."""


class Asker(Protocol):
    """Questions to the user; the answers come later, as calls."""

    def ask_open(self, folder: Path) -> None: ...
    def ask_save(self, path: Path) -> None: ...
    def ask_export(self, path: Path) -> None: ...
    def ask_screenshot(self, path: Path, size: tuple[int, int]) -> None: ...
    def ask_video(self, path: Path, size: tuple[int, int], bookmarks: int) -> None: ...
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
        self.notices = Notices(clock)
        self.diary = Diary(settings, self.notices, writes=remember)
        self._opener = Opener(engine, self.notices, self.diary)
        self.asker: Asker | None = None
        self.settings = settings
        # The wipe says at first sight what this program is about; looking at one side alone is one key away.
        self.view = ViewState(
            layout="wipe", compression=settings.compression, render=settings.render, restore=settings.restore
        )
        self.travel = Travel(clock, self.notices.toast)
        self.frame: Frame | None = None
        self._history = History(parameters_of(self.view))
        self._last = (self._history.now, settings)
        self._changed_at = 0.0
        self._known: tuple[Coding, said.SizeKnown] | None = None
        self._fitting = Fitting(engine, self.notices)
        self._renderer = ""
        self._help = False

    # What is shown.

    def panel(self) -> PanelState:
        """What the panel and the status line show now."""
        engine, nav, window = self.engine, self.nav, self.settings.window
        at_work = {*engine.jobs} & {"open", "score"}
        state = PanelState(
            view=replace(self.view, camera=None, size=(0, 0), swapped=False, held=False, wipe=0.5, wipes=THIRDS),
            recent=self.diary.memory.recent,
            scored=engine.ready,
            can_score=engine.scene is not None and not engine.ready and not at_work,
            extent=nav.extent if nav else 1.0,
            flying=bool(nav and nav.flying),
            speed=nav.speed if nav else window.fly_speed,
            fov_degrees=round(math.degrees(nav.camera.fov_y), 1) if nav else window.fov_degrees,
            repairs=engine.repairs,
            drawn_by=readout.drawn_text(self._renderer, self.frame),
            told=self.notices.told,
            progress=self.notices.under_way,
        )
        if engine.scene is None:
            return state
        return readout.with_scene(state, engine.scene, self.frame, self._size, "score" in at_work)

    def overlay(self) -> OverlayState:
        """What is drawn over the picture now."""
        scene, labels, centre, legend = self.engine.scene, (), None, None
        if scene is not None and self.frame is not None:
            waiting = "" if self.engine.ready else "scoring …" if "score" in self.engine.jobs else "not scored"
            labels = readout.labels_of(scene, self.frame, self._size, waiting, self.engine.repairs)
            legend = readout.legend_of(self.frame, labels)
        else:
            centre = self.notices.centre
        return OverlayState(self.view, labels, self.notices.over_picture, centre, self._help, legend)

    @property
    def _size(self) -> said.SizeKnown | None:
        """What is known of the size; nothing while that is the size which another codec would need."""
        coding, known = self._known or (None, None)
        return known if coding == coding_of(self.view.compression) else None

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
        return bool(self.nav and self.nav.moving) or self.notices.fading or self.engine.fading

    @property
    def failed(self) -> ExgsError | None:
        """The last error that was told."""
        return self.notices.failed

    def _hear(self, event: said.Event) -> None:
        match event:
            case said.FrameReady(frame) | said.FrameRestored(frame):
                self._take_frame(frame)
            case said.SizeKnown():
                self._known = coding_of(self.view.compression), event
                self.view = replace(self.view, compression=self._fitting.again(event, self.view.compression))
            case said.SceneOpened():
                self._take_scene(event)
            case said.Scored(seconds):
                self.notices.say(f"Scored in {words.seconds(seconds)}: drag Retention.", "good")
            case said.RendererReady(label):
                self._renderer = label
                self.notices.say("")
            case said.Progress(job, fraction, text):
                self.notices.progress(job, fraction, text)
            case said.Finished(job):
                self.notices.finished(job)
            case said.Saved() | said.Fetched():
                self._succeed(event)
            case said.Failed(_, error):
                self.notices.fail(error)

    def _succeed(self, done: said.Saved | said.Fetched) -> None:
        if isinstance(done, said.Fetched):
            self.notices.say("The weights are here. They are not fine-tuned for scenes, as the label says.", "good")
            return
        self.notices.say(" ".join([f"Saved {done.path} ({words.size(done.bytes)}).", *done.warnings]), "good")
        self.notices.toast(f"Saved {done.path.name}, {words.size(done.bytes)}")

    def _take_frame(self, frame: Frame) -> None:
        self.frame = frame
        self.travel.seen(frame)

    def _take_scene(self, opened: said.SceneOpened) -> None:
        scene = opened.scene
        self._known = self.frame = None
        key = key_of(scene.path)
        fov = math.radians(self.settings.window.fov_degrees)
        camera = opened.camera if scene.cameras else replace(opened.camera, fov_y=fov)
        self.travel.start(camera, opened.up, opened.extent, self.settings.window.fly_speed)
        self._draw_as_trained(scene.antialiased)
        self.diary.note(self.diary.memory.opened(key))
        count = words.amount(len(scene.cloud))
        self.notices.say(f"Opened {count} Gaussians in {words.seconds(opened.seconds)}.", "good")
        self._apply(self._opener.taken())

    def _draw_as_trained(self, antialiased: bool) -> None:
        """That is the scene's property and no step of the user's: undoing leaves it as it is."""
        self.set_render(antialiased=antialiased)
        self._history = self._history.adjusted(
            lambda values: {**values, "render": replace(values["render"], antialiased=antialiased)}
        )

    def _apply(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self.travel.stand(snapshot.camera)
            self.view = replace(snapshot.applied(self.view), camera=snapshot.camera)

    def _remember(self, now: float) -> None:
        """Take what has changed and come to rest into the history and, a moment later, into the settings file."""
        parameters, settings = current = parameters_of(self.view), self._current_settings()
        if current != self._last:
            self._last, self._changed_at = current, now
        if now - self._changed_at > SETTLE:
            self._history = self._history.changed(parameters)
        if now - self._changed_at > STORE_AFTER:
            self.diary.store(settings)

    def _current_settings(self) -> Settings:
        view, window = self.view, self.settings.window
        if self.nav is not None:
            window = replace(window, fly_speed=self.nav.speed)
        return replace(
            self.settings, compression=view.compression, render=view.render, restore=view.restore, window=window
        )

    # Settings, from the panel.

    def set_view(self, **values: Any) -> None:
        """Change layout, sides, dividers, gain, mode or restoring."""
        if values.get("mode") == "trust":
            values = {"restoring": True, **values}  # What was repaired can be seen only where something is.
        elif values.get("restoring") is False and self.view.mode == "trust":
            values = {"mode": "color", **values}
        self.view = replace(self.view, **values)

    def set_size(self, size: tuple[int, int]) -> None:
        """The picture has so many pixels now."""
        if size != self.view.size:
            self.view = replace(self.view, size=size)

    def set_window_size(self, size: tuple[int, int]) -> None:
        """The window has so many pixels now."""
        window = replace(self.settings.window, width=size[0], height=size[1])
        if size[0] >= 640 and size[1] >= 480:
            self.settings = replace(self.settings, window=window)

    def set_compression(self, **values: Any) -> None:
        self.set_view(compression=replace(self.view.compression, **values))

    def fit(self, size: str) -> None:
        """Keep as many Gaussians as fit into a file of this size, e.g. 800 kB."""
        limit = bytes_of(size)
        if limit is None:
            self.notices.fail(ExgsError(f"{size}: this is no size of a file; type one like 800 kB or 5 MB."))
            return
        self.set_view(compression=self._fitting.fit(limit, self.view.compression))

    def set_preset(self, name: str) -> None:
        """Compress as the preset `name` does, at the retention and with the knobs that are set."""
        self.set_view(compression=with_preset(self.view.compression, name))

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
            self.notices.toast(f"Nothing to {word.lower()}")
            return
        self._history = history
        self.set_view(**history.now)
        self.notices.toast(word)

    # Files.

    def open(self, path: str) -> None:
        """Open a scene, or the view of a screenshot."""
        self.notices.attempt(lambda: self._apply(self._opener.open(str(path))))

    def ask_open(self) -> None:
        scene = self.engine.scene
        self.asker.ask_open(scene.path.resolve().parent if scene and scene.path else Path.cwd())

    def ask_save(self) -> None:
        self._ask_where(self.asker.ask_save, ".exgs")

    def ask_export(self) -> None:
        self._ask_where(self.asker.ask_export, ".ply")

    def _ask_where(self, ask: Callable[[Path], None], suffix: str) -> None:
        if not self.engine.ready:
            self.notices.fail(ExgsError("There is no compressed scene to save yet; wait until it is scored."))
            return
        ask(files.beside(self.engine.scene, f"_{words.plain_share(self.view.compression.keep)}{suffix}"))

    def ask_screenshot(self) -> None:
        if self.engine.scene is None:
            self.notices.fail(ExgsError("There is no picture to save yet; open a scene first."))
            return
        self.asker.ask_screenshot(files.picture_path(self.engine.scene), self.view.size)

    def save(self, path: Path) -> None:
        """Save the compressed scene as .exgs."""
        self.export(files.ended(path, ".exgs"))

    def export(self, path: Path) -> None:
        """Save the compressed scene in the format of the path's suffix."""
        self.notices.attempt(lambda: self.engine.save(path, self.view))

    def capture(self, path: Path, size: tuple[int, int]) -> None:
        """Save the picture at `size`."""
        path, view = files.ended(path, ".png"), replace(self.view, size=size)
        scene = self.engine.scene
        meta = snapshot_meta(view, key_of(scene.path) if scene else "", self.nav.up if self.nav else (0, -1, 0))
        self.notices.attempt(lambda: self.engine.capture(path, view, meta))

    def ask_video(self) -> None:
        if self.engine.scene is None or self.nav is None:
            self.notices.fail(ExgsError("There is no video to make yet; open a scene first."))
            return
        path = files.picture_path(self.engine.scene, VIDEO)
        self.asker.ask_video(path, self.view.size, len(self._bookmarks()))

    def film(self, path: Path, size: tuple[int, int], way: Way, seconds: float) -> None:
        """Save a video of what is shown: of so many seconds, on one of the ways that a camera may go."""
        path, view = files.ended(path, VIDEO), replace(self.view, size=size)

        def order() -> None:
            cameras = flight(self.nav, way, self._bookmarks(), round(seconds * FPS))
            self.engine.film(path, view, Flight(cameras, FPS))

        self.notices.attempt(order)

    def _bookmarks(self) -> list[Camera]:
        return self.diary.memory.bookmarks(key_of(self.engine.scene.path))

    def ask_weights(self) -> None:
        self.asker.ask_weights()

    def fetch_weights(self) -> None:
        """Fetch the weights; the user has agreed to their licence."""
        self.engine.fetch()

    def score(self) -> None:
        self.engine.score()

    def cancel(self, job: str) -> None:
        self.engine.cancel(job)
        self.notices.say("Cancelled.")

    # Moving.

    @property
    def nav(self) -> Navigator | None:
        """Where we are; None without a scene."""
        return self.travel.nav

    @nav.setter
    def nav(self, nav: Navigator | None) -> None:
        self.travel.nav = nav

    def frame_all(self) -> None:
        if self.engine.scene is not None:
            self.travel.frame_all(self.engine.scene.cloud)

    def turn_over(self) -> None:
        """Flip the up axis, and remember it for this file."""
        if self.nav is not None and self.engine.scene is not None:
            self.travel.turn_over()
            self.engine.turn_up(self.nav.up)
            self.diary.note(self.diary.memory.with_up(key_of(self.engine.scene.path), self.nav.up))
            self.notices.toast("Turned over; remembered for this file")

    def set_fov(self, degrees: float) -> None:
        self.settings = replace(self.settings, window=replace(self.settings.window, fov_degrees=degrees))
        self.travel.set_fov(degrees)

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

    def close_help(self) -> None:
        self._help = False

    def close(self) -> None:
        """Stop the workers and remember the settings."""
        self.engine.close()
        self.diary.store(self._current_settings())
