"""How steady pictures are while the camera moves: what changes from one to the next beyond what the movement explains.

Each picture of a short, slow path is warped to its successor by the uncut scene's depth; where both see the same
surface, the mean absolute difference that is left is the flicker (the short-term warping error of Lai et al. 2018).
The warp's own blur is in it too, so figures are meant to be compared, above all that of restored pictures with that of
the pictures which the restorer was given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.scene.camera import Camera, blend, fly

FRAMES = 10
"""Pictures of the path."""
TURN = math.radians(0.25)
"""How far the camera turns from one picture to the next at most, radians."""
MOVE = 0.003
"""How far it moves at most, shares of the distance of what it looks at: about two pixels at 960 x 640."""
SAME_DEPTH = 0.04
"""Relative difference of depths up to which two pixels are taken to see the same surface."""
SOLID = 0.5
"""Coverage from which a pixel has a surface at all."""


@dataclass(frozen=True, eq=False)
class Warp:
    """Where each pixel of a picture lies in the picture before."""

    grid: Tensor
    """[1, H, W, 2] in [-1, 1] where inside, as grid_sample takes it."""
    seen: Tensor
    """[H, W] bool. Whether both pictures see the same surface there."""

    def applied(self, picture: Tensor) -> Tensor:
        """[H, W, C] of the picture before, as it would look now."""
        moved = F.grid_sample(picture.movedim(2, 0)[None], self.grid, mode="bilinear", align_corners=False)
        return moved[0].movedim(0, 2)


def path(cameras: Sequence[Camera], distance: float) -> list[Camera]:
    """FRAMES cameras in small steps from the first of `cameras` towards its nearest neighbour, or sideways without one.

    `distance` is that of what the first camera looks at, world units.
    """
    start, others = cameras[0], [camera for camera in cameras[1:] if _apart(cameras[0], camera) != (0, 0)]
    end = min(others, key=lambda camera: _apart(start, camera), default=fly(start, distance, 0, 0))
    moved, turned = _apart(start, end)
    step = min(1 / (FRAMES - 1), MOVE * distance / max(moved, 1e-9), TURN / max(turned, 1e-9))
    return [blend(start, end, number * step) for number in range(FRAMES)]


def _apart(first: Camera, second: Camera) -> tuple[float, float]:
    """Distance, world units, and angle, radians."""
    cosine = abs(sum(a * b for a, b in zip(first.rotation, second.rotation, strict=True)))
    angle = 2 * math.acos(min(cosine, 1.0)) if first.rotation != second.rotation else 0.0
    return math.dist(first.position, second.position), angle


def distance_of(output: RenderOutput) -> float:
    """Median depth of what is solid, world units; 1 where nothing is."""
    depth = output.depth[output.alpha > SOLID]
    return float(depth.median()) if len(depth) else 1.0


def warps(outputs: Sequence[RenderOutput], cameras: Sequence[Camera]) -> list[Warp]:
    """From each picture of the uncut scene to its successor."""
    return [warp(*now, *before) for before, now in pairwise(zip(outputs, cameras, strict=True))]


def warp(now: RenderOutput, camera: Camera, before: RenderOutput, camera_before: Camera) -> Warp:
    """Where the surfaces in the picture `now` were in the one `before`."""
    height, width = now.depth.shape
    size = torch.tensor([width, height], dtype=torch.float64, device=now.depth.device)
    focal, focal_before = (each.focal((width, height)) for each in (camera, camera_before))
    rows, columns = torch.meshgrid(*(torch.arange(n, device=size.device) + 0.5 for n in (height, width)), indexing="ij")
    rays = (torch.stack([columns, rows], 2) - size / 2) / focal  # [H, W, 2]
    here = torch.cat([rays, torch.ones_like(rays[..., :1])], 2) * now.depth.double()[..., None]
    move = (camera_before.world_to_camera().double() @ camera.camera_to_world().double()).to(size.device)
    there = here @ move[:3, :3].T + move[:3, 3]
    depth = there[..., 2]
    grid = 2 * focal_before * there[..., :2] / depth.clamp_min(1e-6)[..., None] / size
    result = Warp(grid[None].float(), torch.ones_like(now.alpha, dtype=torch.bool))
    seen_before = result.applied(torch.stack([before.depth, before.alpha], 2))
    same = (seen_before[..., 0] - depth).abs() < SAME_DEPTH * depth
    solid = (now.alpha > SOLID) & (seen_before[..., 1] > SOLID) & (depth > 0)
    return Warp(result.grid, same & solid & (grid.abs() < 1 - 1 / size).all(2))


def flicker(pictures: Sequence[Tensor], steps: Sequence[Warp]) -> float | None:
    """Mean absolute difference, in [0, 1], of each picture [H, W, 3] to its warped predecessor; None for no overlap."""
    total = count = 0.0
    for (before, now), step in zip(pairwise(pictures), steps, strict=True):
        total += float((now - step.applied(before)).abs().mean(2)[step.seen].sum(dtype=torch.float64))
        count += int(step.seen.sum())
    return total / count if count else None
