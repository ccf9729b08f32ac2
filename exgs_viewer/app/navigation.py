"""Mouse and keys as movements of a camera: pure, in seconds and shares of the picture, whatever the frame rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pyglm import glm

from exgs_viewer.scene.camera import Camera, Vector, ahead, blend, distance, dolly, fly, look, look_at, orbit

TURN = math.pi
"""Radians that a drag over the whole picture height turns the view."""
WHEEL = 0.88
"""Factor on the distance to the focus for one notch of the wheel."""
SPEED_STEP = 1.25
"""Factor on the flying speed for one notch."""
PACE = 0.25
"""Flying speed at setting 1: share of the scene's extent per second."""
INERTIA = 0.09
"""Seconds in which flying takes up or loses most of its speed: soft, but without drifting."""
GLIDE = 0.45
"""Seconds that an animated change of view takes."""
FAST, SLOW = 4.0, 0.25
SPEEDS = (0.01, 100.0)


@dataclass(frozen=True)
class Glide:
    """A view change under way."""

    start: Camera
    end: Camera
    began: float
    """Seconds, on the clock of whoever calls `glided`."""


@dataclass(frozen=True)
class Navigator:
    """Where we are, what we turn around and how we move."""

    camera: Camera
    focus: Vector
    """Point that orbiting turns around, on the line of sight after every pan."""
    up: Vector
    extent: float
    """World units; makes speed and limits fit the scene."""
    home: Camera
    """The first view."""
    flying: bool = False
    """Whether dragging turns the head instead of orbiting."""
    speed: float = 1.0
    """Factor on the flying speed."""
    velocity: Vector = (0.0, 0.0, 0.0)
    """World units per second along the camera's right, down and forward."""
    glide: Glide | None = None

    @property
    def moving(self) -> bool:
        """Whether the camera goes on by itself."""
        return self.glide is not None or self.velocity != (0.0, 0.0, 0.0)


def started(camera: Camera, up: Vector, extent: float, speed: float = 1.0) -> Navigator:
    """Stand at `camera`; the focus lies a third of the scene ahead until the picture tells what is there."""
    return Navigator(camera, ahead(camera, 0.35 * extent), up, extent, home=camera, speed=speed)


def dragged(nav: Navigator, right: float, down: float) -> Navigator:
    """Orbit, or look around when flying; `right` and `down` are shares of the picture's height."""
    if nav.flying:
        # The scene follows the hand, so the head turns against it.
        camera = look(nav.camera, right * TURN / 2, down * TURN / 2, nav.up)
        return _at(nav, camera, ahead(camera, distance(nav.camera, nav.focus)))
    return _at(nav, orbit(nav.camera, nav.focus, -right * TURN, -down * TURN, nav.up), nav.focus)


def looked(nav: Navigator, right: float, down: float) -> Navigator:
    """Turn the head with the hand (right button while flying): the view goes where the mouse goes."""
    camera = look(nav.camera, -right * TURN / 2, -down * TURN / 2, nav.up)
    return _at(nav, camera, ahead(camera, distance(nav.camera, nav.focus)))


def panned(nav: Navigator, right: float, down: float) -> Navigator:
    """Shift the scene with the hand: what lies at the focus stays under the mouse."""
    reach = 2 * distance(nav.camera, nav.focus) * math.tan(nav.camera.fov_y / 2)
    camera = fly(nav.camera, -right * reach, -down * reach, 0.0)
    return _at(nav, camera, ahead(camera, distance(nav.camera, nav.focus)))


def wheeled(nav: Navigator, notches: float) -> Navigator:
    """Come nearer (positive) or go back, in proportion to the distance; close to the focus, push it ahead."""
    away = distance(nav.camera, nav.focus)
    least = 0.02 * nav.extent
    if notches > 0 and away < 1.5 * least:
        camera = fly(nav.camera, 0.0, 0.0, (1 - WHEEL**notches) * 1.5 * least)
        return _at(nav, camera, ahead(camera, away))
    factor = max(WHEEL**notches, least / max(away, 1e-9))
    farthest = 20 * nav.extent
    if away * factor > farthest:
        factor = max(1.0, farthest / max(away, 1e-9))
    return _at(nav, dolly(nav.camera, nav.focus, factor), nav.focus)


def sped(nav: Navigator, notches: float) -> Navigator:
    """Fly faster or slower."""
    return replace(nav, speed=min(max(nav.speed * SPEED_STEP**notches, SPEEDS[0]), SPEEDS[1]))


def flown(nav: Navigator, wish: Vector, boost: float, seconds: float) -> Navigator:
    """Fly for `seconds` towards `wish` (right, down, forward, each -1..1); the speed follows softly."""
    goal = nav.speed * PACE * nav.extent * boost
    share = 1 - math.exp(-seconds / INERTIA)
    velocity = tuple(have + (want * goal - have) * share for have, want in zip(nav.velocity, wish, strict=True))
    if wish == (0.0, 0.0, 0.0) and max(map(abs, velocity)) < 1e-3 * PACE * nav.extent * nav.speed:
        return replace(nav, velocity=(0.0, 0.0, 0.0))
    camera = fly(nav.camera, *(part * seconds for part in velocity))
    moved = replace(_at(nav, camera, ahead(camera, distance(nav.camera, nav.focus))), velocity=velocity)
    return replace(moved, flying=True) if wish != (0.0, 0.0, 0.0) else moved


def rolled(nav: Navigator, radians: float) -> Navigator:
    """Lean the head to one side; the up axis goes along, so that turning stays level with it."""
    axis = glm.vec3(nav.camera.forward)
    turned = orbit(nav.camera, nav.camera.position, radians, 0.0, nav.camera.forward)
    return replace(_at(nav, turned, nav.focus), up=tuple(glm.angleAxis(radians, axis) * glm.vec3(nav.up)))


def glided(nav: Navigator, now: float) -> Navigator:
    """Where the animated view change stands at time `now`."""
    if nav.glide is None:
        return nav
    share = min(max((now - nav.glide.began) / GLIDE, 0.0), 1.0)
    camera = blend(nav.glide.start, nav.glide.end, share * share * (3 - 2 * share))
    if share >= 1.0:
        return replace(nav, camera=nav.glide.end, glide=None)
    return replace(nav, camera=camera)


def gone_to(nav: Navigator, camera: Camera, now: float, focus: Vector | None = None) -> Navigator:
    """Glide to another camera."""
    focus = focus or ahead(camera, distance(nav.camera, nav.focus))
    glide = Glide(nav.camera, camera, now)
    return replace(nav, focus=focus, glide=glide, velocity=(0.0, 0.0, 0.0))


def focused(nav: Navigator, point: Vector, now: float) -> Navigator:
    """Glide so that `point` lies in the middle, and turn around it from now on."""
    away = max(distance(nav.camera, point), 0.05 * nav.extent)
    turned = look_at(nav.camera.position, point, nav.up, nav.camera.fov_y)
    nearer = dolly(turned, point, max(0.6, 0.3 * nav.extent / away) if away > 0.3 * nav.extent else 1.0)
    return replace(gone_to(nav, nearer, now, focus=point), flying=False)


def homed(nav: Navigator, now: float) -> Navigator:
    """Glide back to the first view."""
    return replace(gone_to(nav, replace(nav.home, fov_y=nav.camera.fov_y), now, ahead(nav.home, 0.35 * nav.extent)))


def framed(nav: Navigator, centre: Vector, radius: float, now: float) -> Navigator:
    """Glide back along the line of sight until a ball around `centre` fills the picture."""
    away = radius / math.sin(nav.camera.fov_y / 2)
    forward = nav.camera.forward
    position = tuple(middle - away * axis for middle, axis in zip(centre, forward, strict=True))
    camera = look_at(position, centre, nav.up, nav.camera.fov_y)
    return replace(gone_to(nav, camera, now, focus=centre), flying=False)


def turned_over(nav: Navigator) -> Navigator:
    """What was up is down: the camera is turned about its line of sight, and so is home."""
    up = tuple(-part for part in nav.up)

    def over(camera: Camera) -> Camera:
        return orbit(camera, camera.position, math.pi, 0.0, camera.forward)

    return replace(nav, up=up, camera=over(nav.camera), home=over(nav.home), glide=None)


def refocused(nav: Navigator, depth: float) -> Navigator:
    """Turn around what lies `depth` ahead in the middle of the picture; the view does not change."""
    if not 0.01 * nav.extent < depth < 5 * nav.extent:
        return nav
    return replace(nav, focus=ahead(nav.camera, depth))


def with_fov(nav: Navigator, fov_y: float) -> Navigator:
    """The same place with another field of view, radians."""
    return replace(nav, camera=replace(nav.camera, fov_y=fov_y), glide=None)


def _at(nav: Navigator, camera: Camera, focus: Vector) -> Navigator:
    return replace(nav, camera=camera, focus=focus, glide=None)
