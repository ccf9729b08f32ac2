"""Space: where a cloud is solid and where one can stand, on a coarse grid. No renderer is needed to ask it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from exgs_viewer.scene.cloud import SH_C0, GaussianCloud

SAMPLE = 150_000
"""Gaussians that are looked at, at most; the rest is like them."""
CELLS = 600_000
"""Cells of a grid, about."""
SOLID = 0.7
"""Optical depth at which a ray ends: half of it is blocked."""


@dataclass(frozen=True)
class Bounds:
    """A box along the axes of the world."""

    low: tuple[float, float, float]
    """World units."""
    high: tuple[float, float, float]
    """World units, >= low."""

    @property
    def center(self) -> tuple[float, float, float]:
        return tuple(0.5 * (a + b) for a, b in zip(self.low, self.high, strict=True))

    @property
    def size(self) -> tuple[float, float, float]:
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))


@dataclass(frozen=True, eq=False)
class Space:
    """Optical depth per cell of a box around a cloud."""

    origin: Tensor
    """[3] float32. Low corner of the grid, world units."""
    cell: float
    """Edge of the cubic cells, world units."""
    depth: Tensor
    """[X, Y, Z] float32, >= 0. Opacity x area of the Gaussians in the cell over the area of a cell's face."""

    @property
    def shape(self) -> Tensor:
        return torch.tensor(self.depth.shape)

    @property
    def high(self) -> Tensor:
        """[3] float32. High corner of the grid, world units."""
        return self.origin + self.shape * self.cell

    def index(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Flat cell index [...] int64 of `points` [..., 3], and whether each lies in the grid [...] bool."""
        where = ((points - self.origin) / self.cell).floor().long()
        inside = ((where >= 0) & (where < self.shape)).all(-1)
        where = where.clamp_min(0).minimum(self.shape - 1)
        return (where[..., 0] * self.shape[1] + where[..., 1]) * self.shape[2] + where[..., 2], inside

    def centers(self, flat: Tensor) -> Tensor:
        """[M, 3] float32 world positions of the centres of cells `flat` [M]."""
        _, y, z = self.depth.shape
        where = torch.stack([flat // (y * z), flat // z % y, flat % z], 1)
        return self.origin + (where + 0.5) * self.cell

    def patches(self, flat: Tensor) -> Tensor:
        """The coarse cell (4 x 4 x 4) of each of the cells `flat` [...]; -1 stays -1."""
        _, y, z = self.depth.shape
        coarse = (flat // (y * z) // 4 * (y // 4 + 1) + flat // z % y // 4) * (z // 4 + 1) + flat % z // 4
        return torch.where(flat >= 0, coarse, flat)

    def near_solid(self, cells: int) -> Tensor:
        """[X, Y, Z] bool: matter lies within `cells` cells (in a cube around the cell)."""
        return spread((self.depth > 0.5 * SOLID).float(), cells) > 0


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays ended."""

    cell: Tensor
    """[P, D] int64. Flat index of the cell that stopped the ray; -1 where it left the grid."""
    distance: Tensor
    """[P, D] float32. World units to that cell, or to where the ray left the grid."""


def subset(cloud: GaussianCloud, count: int = SAMPLE) -> tuple[GaussianCloud, float]:
    """About `count` Gaussians evenly from the whole cloud on the CPU, and how many each one stands for.

    A seeded draw rather than a stride: files keep neighbours and levels of detail in regular patterns.
    """
    if len(cloud) <= count:
        return cloud.to("cpu"), 1.0
    index = torch.randint(len(cloud), (count,), generator=torch.Generator().manual_seed(0))
    return cloud.take(index.to(cloud.device)).to("cpu"), len(cloud) / count


def quantile_box(cloud: GaussianCloud, share: float) -> Bounds:
    """The box between the `share` and 1 - `share` quantiles of the centres along each axis, weighted by opacity.

    Opacity as weight, so that the haze of nearly invisible Gaussians around a capture does not count.
    """
    low, high = [], []
    for axis in range(3):
        values, order = cloud.means[:, axis].sort()
        weight = cloud.opacities[order].double().clamp_min(1e-6).cumsum(0)
        ends = torch.searchsorted(weight, weight[-1] * torch.tensor([share, 1 - share], dtype=torch.float64))
        ends = values[ends.clamp_max(len(values) - 1)]
        low.append(float(ends[0]))
        high.append(float(ends[1]))
    return Bounds(tuple(low), tuple(high))


def grown(box: Bounds, margin: float) -> Bounds:
    """The box with `margin` world units more on every side: the Gaussians at its borders have a size too."""
    return Bounds(tuple(value - margin for value in box.low), tuple(value + margin for value in box.high))


def spread(grid: Tensor, cells: int) -> Tensor:
    """[X, Y, Z] the largest value within `cells` cells, in a cube; one axis after the other, which is much cheaper."""
    for axis in range(3):
        lines = grid.movedim(axis, 2)
        flat = lines.reshape(1, -1, lines.shape[2])
        grid = torch.nn.functional.max_pool1d(flat, 2 * cells + 1, 1, cells).view(lines.shape).movedim(2, axis)
    return grid


def axes(quats: Tensor) -> Tensor:
    """[N, 3, 3] rotation matrices of unit quaternions [N, 4]; column k is the k-th local axis in the world."""
    w, x, y, z = quats.unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, 1).view(-1, 3, 3)


def occupancy(cloud: GaussianCloud, box: Bounds, stands_for: float = 1.0) -> Space:
    """A cloud, of which each Gaussian stands for so many, on a grid of about CELLS cubic cells over `box`.

    A Gaussian larger than a cell is spread over as many random points of itself as it covers cells, at most 32.
    """
    size = torch.tensor(box.size).clamp_min(1e-6)
    cell = float(max((size.prod() / CELLS) ** (1 / 3), size.max() / 512))
    shape = (size / cell).ceil().long().clamp_min(1)
    space = Space(torch.tensor(box.low), cell, torch.zeros(tuple(shape.tolist())))
    some = cloud.take(space.index(cloud.means)[1])
    widest = some.scales.sort(1, descending=True).values
    area = 2 * math.pi * widest[:, 0] * widest[:, 1] * some.opacities / cell**2
    copies = area.ceil().clamp(1, 32).long()
    owner = torch.repeat_interleave(torch.arange(len(some)), copies)
    noise = torch.randn(len(owner), 3, generator=torch.Generator().manual_seed(1)) * some.scales[owner]
    noise[copies[owner] == 1] = 0
    points = some.means[owner] + (axes(some.quats)[owner] @ noise[:, :, None])[:, :, 0]
    flat, inside = space.index(points)
    mass = (stands_for * area / copies)[owner] * inside
    depth = torch.zeros(space.depth.numel()).index_add_(0, flat, mass)
    return Space(space.origin, cell, depth.view(space.depth.shape))


def mass(cloud: GaussianCloud, space: Space) -> Tensor:
    """[cells] float32: the sum of opacities in each cell of a grid: how much there is to see."""
    flat, inside = space.index(cloud.means)
    return torch.zeros(space.depth.numel()).index_add_(0, flat, cloud.opacities * inside)


def contrast(cloud: GaussianCloud, space: Space) -> Tensor:
    """[patches + 1] float32 in [0, 1]: how much the colours in each patch of a grid differ, their standard deviation.

    Weighted by opacity. The last is 0, so that -1, no patch, has none.
    """
    flat, inside = space.index(cloud.means)
    patch, opacity = space.patches(flat), cloud.opacities * inside
    color = (cloud.sh[:, 0] * SH_C0 + 0.5).clamp(0, 1)
    total = torch.zeros(int(space.patches(torch.tensor(space.depth.numel() - 1))) + 2, 7)
    total.index_add_(0, patch, opacity[:, None] * torch.cat([torch.ones_like(color[:, :1]), color, color**2], 1))
    mean, square = (total[:, 1:] / total[:, :1].clamp_min(1e-6)).split(3, 1)
    return (square - mean**2).clamp_min(0).mean(1).sqrt()


def cast(space: Space, starts: Tensor, directions: Tensor) -> Hits:
    """Follow rays from `starts` [P, 3], in the grid or out of it, along unit `directions` [D, 3]: [P, D] hits."""
    rays = (len(starts), len(directions))
    cell, distance = torch.empty(rays, dtype=torch.int64), torch.empty(rays)
    grid = (space.depth.numpy(), space.origin.numpy(), np.float32(space.cell))
    _march(*grid, starts.contiguous().numpy(), directions.contiguous().numpy(), cell.numpy(), distance.numpy())
    return Hits(cell, distance)


# Compiled, although numba else stays with renderer and compression: in torch these steps took 12 of the 13 seconds
# that choosing the views of a room took. Serial, since parallel kernels must not meet those of the renderer.
@njit(cache=True, nogil=True)
def _march(depth, origin, edge, starts, directions, cell, distance):  # noqa: PLR0913 - arrays, one by one
    """Fill cell [P, D] and distance [P, D]: every ray goes cell by cell until it has passed SOLID optical depth."""
    shape = depth.shape
    place, low, high = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
    for axis in range(3):
        low[axis], high[axis] = origin[axis], origin[axis] + shape[axis] * edge
    for p in range(starts.shape[0]):
        for d in range(directions.shape[0]):
            course = directions[d]
            walked = _entry(low, high, starts[p], course)
            cell[p, d], distance[p, d] = -1, min(walked, np.float32(1e9))
            if walked == np.inf:
                continue
            # Half a step back, so that the first look falls into the middle of the first cell.
            distance[p, d] -= np.float32(0.5) * edge
            for axis in range(3):
                place[axis] = starts[p, axis] + course[axis] * distance[p, d]
            passed = np.float32(0)
            while True:
                for axis in range(3):
                    place[axis] += course[axis] * edge
                distance[p, d] += edge
                x = int(np.floor((place[0] - low[0]) / edge))
                y = int(np.floor((place[1] - low[1]) / edge))
                z = int(np.floor((place[2] - low[2]) / edge))
                if x < 0 or y < 0 or z < 0 or x >= shape[0] or y >= shape[1] or z >= shape[2]:
                    break
                passed += depth[x, y, z]
                if passed > SOLID:
                    cell[p, d] = (x * shape[1] + y) * shape[2] + z
                    break


@njit(cache=True, nogil=True)
def _entry(low, high, start, course):
    """World units until a ray is in the box: 0 where it begins there, infinite where it passes by."""
    enter, leave = np.float32(0), np.float32(np.inf)
    for axis in range(3):
        along = course[axis] if abs(course[axis]) >= 1e-9 else np.float32(1e-9)
        first, second = (low[axis] - start[axis]) / along, (high[axis] - start[axis]) / along
        enter, leave = max(enter, min(first, second)), min(leave, max(first, second))
    return enter if leave > enter else np.float32(np.inf)


def sphere(count: int) -> Tensor:
    """[count, 3] unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    turn = torch.arange(count) * (math.pi * (3 - math.sqrt(5)))
    height = 1 - 2 * (torch.arange(count) + 0.5) / count
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * turn.cos(), height, radius * turn.sin()], 1)
