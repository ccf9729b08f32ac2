"""The way through the scene: the navigator with its goals — home, focus, bookmarks, the file's cameras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from exgs_viewer.app import navigation as nav_
from exgs_viewer.app import words
from exgs_viewer.app.frames import surface_at
from exgs_viewer.app.navigation import Navigator
from exgs_viewer.app.state import Frame
from exgs_viewer.errors import ExgsError
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.flight import around, sway, through
from exgs_viewer.scene.views import bounds

LEAN = math.radians(3)
Way = Literal["bookmarks", "sway", "around"]
"""How the camera of a video goes: through the bookmarks, before what lies in the middle, or once around it."""


def flight(nav: Navigator, way: Way, bookmarks: Sequence[Camera], count: int) -> list[Camera]:
    """The cameras of a video of `count` pictures. Raises ExgsError where there is nothing to go through."""
    if way == "bookmarks":
        if len(bookmarks) < 2:
            raise ExgsError("A flight through bookmarks needs two; Ctrl + 1 … 9 store the view.")
        return through(bookmarks, count)
    return (sway if way == "sway" else around)(nav.camera, nav.focus, nav.up, count)


class Travel:
    """Where we are. Without a scene `nav` is None and every way leads nowhere."""

    def __init__(self, clock: Callable[[], float], toast: Callable[[str], None]):
        self._clock, self._toast = clock, toast
        self.nav: Navigator | None = None
        self._frame: Frame | None = None
        """What is on the screen."""
        self._wants_focus = False
        self._number = -1

    def start(self, camera: Camera, up: Vector, extent: float, speed: float) -> None:
        """Stand at the first view of a scene."""
        self.nav = nav_.started(camera, up, extent, speed)
        self._frame, self._wants_focus, self._number = None, True, -1

    def step(self) -> None:
        """Let a gliding camera glide on."""
        if self.nav is not None:
            self.nav = nav_.glided(self.nav, self._clock())

    def seen(self, frame: Frame) -> None:
        """A new picture: where the focus is only guessed, put it on what lies in the middle."""
        self._frame = frame
        if self._wants_focus and self.nav is not None and frame.request.draft.whole and not self.nav.moving:
            self._wants_focus = False
            self._refocus(frame)

    def _refocus(self, frame: Frame) -> None:
        point, camera = surface_at(frame, 0.5, 0.5), frame.request.camera
        if point is not None and camera == self.nav.camera:
            depth = sum((p - c) * f for p, c, f in zip(point, camera.position, camera.forward, strict=True))
            self.nav = nav_.refocused(self.nav, depth)

    def stand(self, camera: Camera) -> None:
        """Be at another camera at once."""
        if self.nav is not None:
            self.nav = replace(self.nav, camera=camera, glide=None)
            self._wants_focus = True

    def go(self, camera: Camera) -> None:
        """Glide to another camera."""
        if self.nav is not None:
            self.nav = nav_.gone_to(self.nav, camera, self._clock())
            self._wants_focus = True

    def home(self) -> None:
        """Glide back to the first view."""
        if self.nav is not None:
            self.nav = nav_.homed(self.nav, self._clock())
            self._wants_focus = True

    def frame_all(self, cloud: GaussianCloud) -> None:
        """See all of the scene."""
        if self.nav is not None:
            box = bounds(cloud)
            centre = tuple((low + high) / 2 for low, high in zip(box.low, box.high, strict=True))
            self.nav = nav_.framed(self.nav, centre, 0.5 * math.dist(box.low, box.high), self._clock())

    def focus_at(self, u: float, v: float) -> None:
        """Turn around the surface at a place of the picture."""
        if self.nav is None or self._frame is None:
            return
        point = surface_at(self._frame, u, v)
        if point is None:
            self._toast("Nothing is there to turn around")
        else:
            self.nav = nav_.focused(self.nav, point, self._clock())

    def turn_over(self) -> None:
        """What was up is down."""
        if self.nav is not None:
            self.nav = nav_.turned_over(self.nav)

    def roll(self, direction: int) -> None:
        """Lean to one side."""
        if self.nav is not None:
            self.nav = nav_.rolled(self.nav, direction * LEAN)

    def set_fov(self, degrees: float) -> None:
        """See more or less at once."""
        if self.nav is not None:
            self.nav = nav_.with_fov(self.nav, math.radians(degrees))

    def set_speed(self, speed: float) -> None:
        """Fly so fast."""
        if self.nav is not None:
            self.nav = replace(self.nav, speed=speed)

    def set_flying(self, flying: bool) -> None:
        """Dragging looks around, or turns around what lies in the middle now."""
        if self.nav is None:
            return
        self.nav = replace(self.nav, flying=flying)
        if not flying and self._frame is not None:
            self._refocus(self._frame)
        self._toast("Fly: drag looks around" if flying else "Orbit: drag turns around the middle")

    def go_to_camera_of(self, cameras: Sequence[Camera], step: int) -> None:
        """Glide to the next (or previous) camera that came with the file."""
        if not cameras:
            self._toast("This file brought no cameras")
            return
        self._number = (self._number + step) % len(cameras)
        self.go(cameras[self._number])
        self._toast(f"Camera {self._number + 1} of {len(cameras)}")

    def tell_speed(self, speed: float) -> None:
        """Show a flying speed that will be taken with the rest of a frame's movements."""
        self._toast(f"Flying speed {words.factor(speed)}")
