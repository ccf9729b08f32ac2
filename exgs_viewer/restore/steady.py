"""Steadier pictures while the camera moves: a part of the picture before, moved to where its surfaces are now.

A picture is restored by itself, so what a restorer makes up may differ from one to the next. Where depth says that both
pictures see the same surface, the last one is blended in (reprojection, as in temporal antialiasing; Yang et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.scene.camera import Camera

KEPT = 0.3
"""Share of the picture before. At 0.3 two scenes lost no PSNR while a tenth to a sixth of what changes between pictures
went; at 0.5 and 0.8 the blur of moving them showed (restoration.md 6)."""
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


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture that was shown last."""

    output: RenderOutput
    """What it was made of."""
    camera: Camera
    color: Tensor
    """[H, W, 3] as it was shown."""


def steadied(output: RenderOutput, camera: Camera, color: Tensor, before: Shown | None) -> Shown:
    """What is to be shown of the restored picture `color` [H, W, 3] of `output`, KEPT of it from the picture `before`.

    Only where both see the same surface; a picture of another size has nothing to give.
    """
    if before is None or before.color.shape != color.shape:
        return Shown(output, camera, color)
    step = warp(output, camera, before.output, before.camera)
    share = KEPT * step.seen[..., None].to(color)
    return Shown(output, camera, torch.lerp(color, step.applied(before.color), share))
