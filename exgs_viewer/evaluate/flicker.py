"""How steady pictures are while the camera moves: what changes from one to the next beyond what the movement explains.

Each picture of a short, slow path is warped to its successor by the uncut scene's depth; where both see the same
surface, the mean absolute difference that is left is the flicker (the short-term warping error of Lai et al. 2018).
The warp's own blur is in it too, so figures are meant to be compared, above all that of restored pictures with that of
the pictures which the restorer was given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.restore.steady import SOLID, Shown, Warp, steadied, warp
from exgs_viewer.scene.camera import Camera, blend, fly

FRAMES = 10
"""Pictures of the path."""
TURN = math.radians(0.25)
"""How far the camera turns from one picture to the next at most, radians."""
MOVE = 0.003
"""How far it moves at most, shares of the distance of what it looks at: about two pixels at 960 x 640."""


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


def steady(pictures: Sequence[Tensor], outputs: Sequence[RenderOutput], cameras: Sequence[Camera]) -> list[Tensor]:
    """`pictures` made of `outputs` as they are seen with the picture before blended in (restore/steady.py)."""
    shown: list[Shown] = []
    for picture, output, camera in zip(pictures, outputs, cameras, strict=True):
        shown.append(steadied(output, camera, picture, shown[-1] if shown else None))
    return [each.color for each in shown]


def flicker(pictures: Sequence[Tensor], steps: Sequence[Warp]) -> float | None:
    """Mean absolute difference, in [0, 1], of each picture [H, W, 3] to its warped predecessor; None for no overlap."""
    total = count = 0.0
    for (before, now), step in zip(pairwise(pictures), steps, strict=True):
        total += float((now - step.applied(before)).abs().mean(2)[step.seen].sum(dtype=torch.float64))
        count += int(step.seen.sum())
    return total / count if count else None
