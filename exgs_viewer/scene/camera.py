"""Camera: where we look from. Poses are plain floats; every movement is a function from camera to camera."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pyglm import glm
from torch import Tensor

from exgs_viewer.errors import SceneError

Vector = tuple[float, float, float]
Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels and a central principal point.

    The world is right-handed; camera x points right, y down, z forward (OpenCV, as gsplat).
    """

    position: Vector
    """World units."""
    rotation: tuple[float, float, float, float]
    """Unit quaternion (w, x, y, z), camera to world."""
    fov_y: float = 0.9
    """Vertical field of view, radians."""

    @property
    def right(self) -> Vector:
        return _plain(glm.quat(*self.rotation) * glm.vec3(1, 0, 0))

    @property
    def down(self) -> Vector:
        return _plain(glm.quat(*self.rotation) * glm.vec3(0, 1, 0))

    @property
    def forward(self) -> Vector:
        return _plain(glm.quat(*self.rotation) * glm.vec3(0, 0, 1))

    def focal(self, size: Size) -> float:
        """Focal length in pixels for a picture of `size`; the same in x and y."""
        return 0.5 * size[1] / math.tan(0.5 * self.fov_y)

    def camera_to_world(self) -> Tensor:
        """[4, 4] float32, rows: camera coordinates -> world coordinates."""
        matrix = torch.eye(4)
        for column, axis in enumerate((self.right, self.down, self.forward, self.position)):
            matrix[:3, column] = torch.tensor(axis)
        return matrix

    def world_to_camera(self) -> Tensor:
        """[4, 4] float32, rows: world coordinates -> camera coordinates (gsplat's viewmat)."""
        matrix = torch.eye(4, dtype=torch.float64)
        rotation = self.camera_to_world()[:3, :3].double()
        matrix[:3, :3] = rotation.T
        matrix[:3, 3] = -rotation.T @ torch.tensor(self.position, dtype=torch.float64)
        return matrix.float()

    def intrinsics(self, size: Size) -> Tensor:
        """[3, 3] float32 pinhole matrix K for a picture of `size`."""
        focal, (width, height) = self.focal(size), size
        return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def look_at(position: Vector, target: Vector, up: Vector, fov_y: float = 0.9) -> Camera:
    """A camera at `position` that sees `target` in its middle with `up` upwards in the picture."""
    forward = glm.vec3(target) - glm.vec3(position)
    forward = glm.normalize(forward) if glm.length(forward) > 1e-12 else _any_across(up)
    right = glm.cross(forward, glm.vec3(up))
    right = glm.normalize(right) if glm.length(right) > 1e-6 else _any_across(_plain(forward))
    basis = glm.mat3(right, glm.cross(forward, right), forward)
    return _posed(Camera(tuple(map(float, position)), (1, 0, 0, 0), fov_y), basis=basis)


def orbit(camera: Camera, focus: Vector, yaw: float, pitch: float, up: Vector) -> Camera:
    """Turn around `focus`: `yaw` radians about `up`; `pitch` radians lifts the view, stopping short of the poles."""
    turn = _turn(camera, yaw, pitch, up)
    offset = turn * (glm.vec3(camera.position) - glm.vec3(focus))
    return _posed(camera, position=glm.vec3(focus) + offset, rotation=turn * glm.quat(*camera.rotation))


def look(camera: Camera, yaw: float, pitch: float, up: Vector) -> Camera:
    """Turn the head in place: `yaw` radians about `up`, `pitch` radians lifts the view."""
    return _posed(camera, rotation=_turn(camera, yaw, pitch, up) * glm.quat(*camera.rotation))


def fly(camera: Camera, right: float, down: float, forward: float) -> Camera:
    """Move along the camera's own axes, world units. Panning is flying with `forward` 0."""
    step = glm.quat(*camera.rotation) * glm.vec3(right, down, forward)
    return _posed(camera, position=glm.vec3(camera.position) + step)


def dolly(camera: Camera, focus: Vector, factor: float) -> Camera:
    """Scale the distance to `focus` by `factor` (0.9 comes nearer)."""
    offset = (glm.vec3(camera.position) - glm.vec3(focus)) * factor
    return _posed(camera, position=glm.vec3(focus) + offset)


def blend(first: Camera, second: Camera, share: float) -> Camera:
    """The camera `share` (0..1) of the way between two: positions linear, rotations spherical."""
    return Camera(
        position=_plain(glm.mix(glm.vec3(first.position), glm.vec3(second.position), share)),
        rotation=_quaternion(glm.slerp(glm.quat(*first.rotation), glm.quat(*second.rotation), share)),
        fov_y=(1 - share) * first.fov_y + share * second.fov_y,
    )


def ahead(camera: Camera, away: float) -> Vector:
    """The point `away` world units in front of a camera, in the middle of its picture."""
    return tuple(place + away * axis for place, axis in zip(camera.position, camera.forward, strict=True))


def distance(camera: Camera, point: Vector) -> float:
    """World units between the camera and a point."""
    return float(glm.distance(glm.vec3(camera.position), glm.vec3(point)))


def read_cameras(path: Path) -> list[Camera]:
    """Cameras of a cameras.json as the original 3DGS code writes it.

    Raises SceneError where the file is missing, is no such list or holds values that make no camera.
    """
    try:
        entries = json.loads(Path(path).read_text())
        return [_from_entry(entry) for entry in entries]
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        message = f"{path}: not a cameras.json ({error}); expected a list of position, rotation, fy, height."
        raise SceneError(message) from error


def write_cameras(path: Path, cameras: Sequence[Camera], size: Size) -> None:
    """Write `cameras` for pictures of `size` as the original 3DGS code does."""
    entries = [_to_entry(number, camera, size) for number, camera in enumerate(cameras)]
    Path(path).write_text(json.dumps(entries, indent=1))


def _from_entry(entry: dict) -> Camera:
    rows = [[float(value) for value in row] for row in entry["rotation"]]
    position = tuple(float(value) for value in entry["position"])
    fov_y = 2 * math.atan(0.5 * float(entry["height"]) / float(entry["fy"]))
    numbers = [*position, fov_y, *(value for row in rows for value in row)]
    if len(position) != 3 or [len(row) for row in rows] != [3, 3, 3] or not all(map(math.isfinite, numbers)):
        raise ValueError(f"camera {entry.get('id', '?')} has a position or rotation of the wrong shape")
    basis = glm.mat3(*(glm.vec3(*column) for column in zip(*rows, strict=True)))
    if abs(glm.determinant(basis) - 1) > 1e-2 or not 0 < fov_y < math.pi:
        raise ValueError(f"camera {entry.get('id', '?')} has a rotation that is none, or no field of view")
    return _posed(Camera(position, (1, 0, 0, 0), fov_y), basis=basis)


def _to_entry(number: int, camera: Camera, size: Size) -> dict:
    focal = camera.focal(size)
    return {
        "id": number,
        "img_name": f"{number:03d}",
        "width": size[0],
        "height": size[1],
        "position": list(camera.position),
        "rotation": camera.camera_to_world()[:3, :3].tolist(),
        "fx": focal,
        "fy": focal,
    }


def _turn(camera: Camera, yaw: float, pitch: float, up: Vector) -> glm.quat:
    """World rotation for yaw about `up` and pitch about the camera's right, kept 2 degrees off the poles."""
    up_axis, forward = glm.normalize(glm.vec3(up)), glm.vec3(camera.forward)
    height = math.asin(max(-1.0, min(1.0, glm.dot(forward, up_axis))))
    limit = math.pi / 2 - 0.035
    pitch = max(min(pitch, max(limit - height, 0.0)), min(-limit - height, 0.0))
    right = glm.cross(forward, up_axis)
    # A camera that looks along `up` has no horizon; its own right hand serves.
    right = glm.normalize(right) if glm.length(right) > 1e-4 else glm.vec3(camera.right)
    return glm.angleAxis(yaw, up_axis) * glm.angleAxis(pitch, right)


def _posed(camera: Camera, position=None, rotation=None, basis=None) -> Camera:
    if basis is not None:
        rotation = glm.quat_cast(basis)
    changes = {}
    if position is not None:
        changes["position"] = _plain(position)
    if rotation is not None:
        changes["rotation"] = _quaternion(rotation)
    return replace(camera, **changes)


def _any_across(axis: Vector) -> glm.vec3:
    """Some unit vector perpendicular to `axis`."""
    axis = glm.vec3(axis)
    other = glm.vec3(1, 0, 0) if abs(axis.x) < 0.9 * glm.length(axis) else glm.vec3(0, 1, 0)
    return glm.normalize(glm.cross(axis, other))


def _plain(vector: glm.vec3) -> Vector:
    return float(vector.x), float(vector.y), float(vector.z)


def _quaternion(rotation: glm.quat) -> tuple[float, float, float, float]:
    unit = glm.normalize(rotation)
    return float(unit.w), float(unit.x), float(unit.y), float(unit.z)
