"""Standpoints: what kind of scene a cloud is, and the places and directions from which one may look at it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.space import Bounds, Space, cast, grown, mass, occupancy, quantile_box, sphere, spread, subset

FOV = 0.9
"""Vertical field of view of every view made here, radians."""
ASPECT = 4 / 3
"""Width over height of the pictures that views are made for."""
DIRECTIONS = sphere(512)
"""[D, 3] unit vectors in which every standpoint looks around."""
SURROUNDED = 0.6
"""Share of all directions that must end on matter in a room; a floor alone fills half of them."""

FREE = 1000
"""Free places of a survey. Many: few may lie in the room itself (measured: of 200 only 40, and 18 to stand at)."""
STANDPOINTS = 160
"""Of those, at most so many that views are looked for from."""
HEIGHTS = (0.2, 0.85)
"""Where eyes may be on the way from what is below to what is above: those of a child, and of a camera held up high."""
USUAL_HEIGHTS = (0.3, 0.7)
"""Where they usually are."""

Kind = Literal["room", "object", "outdoor"]


@dataclass(frozen=True, eq=False)
class Survey:
    """A cloud on its grid, and what is known about the place."""

    space: Space
    mass: Tensor
    """[cells] float32. Opacity in each cell: how much there is to see."""
    box: Bounds
    """The 5-95 % box of the centres."""
    whole: Bounds
    """The 2-98 % box: what to frame."""
    up: Tensor
    """[3] float32 unit vector."""
    free: Tensor
    """[P, 3] float32. Random places inside `box`, some steps away from all matter."""
    kind: Kind


@dataclass(frozen=True, eq=False)
class Candidates:
    """Views that may be chosen: several directions from each of a few places."""

    places: Tensor
    """[P, 3] float32. Standpoints, world units."""
    place: Tensor
    """[V] int64. Which standpoint each view has."""
    aims: Tensor
    """[A, 3] float32. Unit viewing directions."""
    aim: Tensor
    """[V] int64. Which viewing direction each view has."""


def survey(cloud: GaussianCloud, up: Vector) -> Survey:
    """Look the place over."""
    some, stands_for = subset(cloud)
    space = occupancy(some, quantile_box(some, 0.01), stands_for)
    box, whole = quantile_box(some, 0.05), grown(quantile_box(some, 0.02), float(some.scales.median()))
    up = torch.nn.functional.normalize(torch.tensor(up, dtype=torch.float32), dim=0)
    found = Survey(space, mass(some, space), box, whole, up, free_places(space, box), "object")
    return replace(found, kind=kind_of(found))


def free_places(space: Space, box: Bounds, count: int = FREE) -> Tensor:
    """[P, 3] random places in `box`, at most `count`, that keep 2 % of its longest side away from all matter.

    Places from which everything is near are left out: the insides of cupboards and of other hollow things.
    """
    clearance = max(2, round(0.02 * max(box.size) / space.cell))
    centers = space.centers((~space.near_solid(clearance).flatten()).nonzero()[:, 0])
    low, high = torch.tensor(box.low), torch.tensor(box.high)
    centers = centers[((centers > low) & (centers < high)).all(1)]
    centers = centers[torch.randperm(len(centers), generator=torch.Generator().manual_seed(2))[:count]]
    if not len(centers):
        return centers
    sight = cast(space, centers, DIRECTIONS[::8]).distance.median(1).values
    return centers[sight >= 0.45 * sight.median()]


def kind_of(place: Survey) -> Kind:
    """A room shows those whom it surrounds nearly as much of itself as it shows from outside, or more.

    Hollow objects surround too, but hide their outside from within (measured: rooms 0.89 and more, others at most
    0.62). What is no room is outdoor where it is wide and flat.
    """
    ends = cast(place.space, place.free, DIRECTIONS[::4]).cell  # [P, D / 4]
    surrounded = (ends >= 0).float().mean(1) > SURROUNDED
    if surrounded.any() and _seen(place, ends[surrounded]) > 0.75 * _seen_from_outside(place):
        return "room"
    width, height = width_and_height(place)
    return "outdoor" if width > 3 * height else "object"


def candidates(place: Survey) -> Candidates:
    """Where a visitor may stand and look: inside rooms, around objects; around, above and within the outdoors."""
    if place.kind == "object":
        # The underside of what stands on ground is seen by nobody.
        return orbits(place) if on_ground(place) else orbits(place, (-0.35, 0.08, 0.35, 0.7, 1.15))
    inside = looking_about(at_height(place, HEIGHTS)[:STANDPOINTS], place.up, pitches=(-0.45, -0.1, 0.2))
    if place.kind == "room":
        return inside if len(inside.place) else orbits(place)
    above = looking_about(above_ground(place), place.up, pitches=(-0.75, -0.4, -0.15))
    return join([orbits(place, (0.2, 0.45, 0.8), (0.8, 0.5)), inside, above])


def join(parts: list[Candidates]) -> Candidates:
    """All the candidates of all the parts."""
    first, *others = parts
    if not others:
        return first
    rest = join(others)
    return Candidates(
        torch.cat([first.places, rest.places]),
        torch.cat([first.place, rest.place + len(first.places)]),
        torch.cat([first.aims, rest.aims]),
        torch.cat([first.aim, rest.aim + len(first.aims)]),
    )


def looking_about(places: Tensor, up: Tensor, pitches: tuple[float, ...], turns: int = 12) -> Candidates:
    """From each of `places` [P, 3] in `turns` directions at each of `pitches` (radians, upwards)."""
    east, north = level_axes(up)
    yaw = torch.arange(turns) * (2 * math.pi / turns)
    level = yaw.cos()[:, None] * east + yaw.sin()[:, None] * north  # [turns, 3]
    aims = torch.cat([level * math.cos(pitch) + up * math.sin(pitch) for pitch in pitches])
    place, aim = torch.meshgrid(torch.arange(len(places)), torch.arange(len(aims)), indexing="ij")
    return Candidates(places, place.flatten(), aims, aim.flatten())


def above_ground(place: Survey, count: int = 60) -> Tensor:
    """[P, 3] open places over the scene, between its top and half its width higher, where a drone would fly."""
    share = torch.rand(count, 3, generator=torch.Generator().manual_seed(4))
    low, size = torch.tensor(place.box.low), torch.tensor(place.box.size)
    upright, (width, height) = place.up.abs(), width_and_height(place)
    level = low + share * size * (1 - upright) + 0.5 * size * upright
    lift = 0.5 * height + 0.5 * width * share @ upright**2
    places = level + lift[:, None] * place.up
    return places[_clear(place, places)]


def at_height(place: Survey, heights: tuple[float, float]) -> Tensor:
    """[P, 3] free places whose share of the way from what is below to what is above lies between two `heights`.

    Where nothing is below there is no ground to stand on; where nothing is above, the scene's height counts.
    """
    hits = cast(place.space, place.free, torch.stack([-place.up, place.up]))
    below, above = hits.distance.unbind(1)
    _, height = width_and_height(place)
    above = torch.where(hits.cell[:, 1] >= 0, above, (height - below).clamp_min(0))
    share = below / (below + above)
    return place.free[(hits.cell[:, 0] >= 0) & (share > heights[0]) & (share < heights[1])]


def orbits(
    place: Survey,
    elevations: tuple[float, ...] = (0.08, 0.35, 0.7, 1.15),
    shares: tuple[float, ...] = (1.0, 0.7),
    turns: int = 16,
) -> Candidates:
    """Rings around the middle at some elevations (radians) and shares of the framing distance, none inside matter."""
    aims = torch.cat([-ring(place.up, elevation, turns) for elevation in elevations])
    distance = framing_distance(place.whole)
    places = torch.cat([torch.tensor(place.whole.center) - aims * distance * share for share in shares])
    clear = _clear(place, places)
    # Where matter is all around there is no better place than these.
    clear = clear if clear.any() else torch.ones_like(clear)
    aim = torch.arange(len(aims)).repeat(len(shares))
    return Candidates(places[clear], torch.arange(int(clear.sum())), aims, aim[clear])


def ring(up: Tensor, elevation: float, turns: int) -> Tensor:
    """[turns, 3] unit vectors all around, `elevation` radians above the horizon."""
    east, north = level_axes(up)
    yaw = (torch.arange(turns) + elevation) * (2 * math.pi / turns)
    level = yaw.cos()[:, None] * east + yaw.sin()[:, None] * north
    return level * math.cos(elevation) + up * math.sin(elevation)


def on_ground(place: Survey) -> bool:
    """Whether the lowest tenth of the scene spreads more than 0.7 as wide as the whole: ground, or a plinth."""
    solid = place.space.centers((place.space.depth.flatten() > 0.3).nonzero()[:, 0])
    if not len(solid):
        return False
    height = solid @ place.up
    low, high = torch.quantile(height[:: max(1, len(height) // 100_000)], torch.tensor([0.02, 0.98])).tolist()
    lowest = solid[height < low + (high - low) / 10]
    return _footprint(place, lowest) > 0.7 * _footprint(place, solid)


def framing_distance(box: Bounds) -> float:
    """From how far away the sphere around `box` just fills the height of the picture, world units."""
    return 0.5 * math.dist(box.low, box.high) / math.sin(0.5 * FOV)


def width_and_height(place: Survey) -> tuple[float, float]:
    """Longest level side and height of the 5-95 % box, world units."""
    size, upright = torch.tensor(place.box.size), place.up.abs()
    return float((size * (1 - upright)).max()), float(size @ upright)


def level_axes(up: Tensor) -> tuple[Tensor, Tensor]:
    """Two level unit vectors at a right angle."""
    other = torch.eye(3)[int(up.abs().argmin())]
    east = torch.nn.functional.normalize(torch.linalg.cross(up, other), dim=0)
    return east, torch.linalg.cross(up, east)


def in_frame(forward: Tensor, up: Tensor) -> Tensor:
    """[A, D] float32: 1 where DIRECTIONS lie in the picture of a camera that looks along each of `forward` [A, 3]."""
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=1)
    down = torch.linalg.cross(forward, right)
    ahead = forward @ DIRECTIONS.T
    tall = math.tan(0.5 * FOV)
    wide = (right @ DIRECTIONS.T).abs() < ahead * tall * ASPECT
    return (wide & ((down @ DIRECTIONS.T).abs() < ahead * tall)).float()


def rays_through(camera: Camera, columns: int = 16, rows: int = 12) -> Tensor:
    """[rows * columns, 3] unit directions evenly through the picture of a camera."""
    tall = math.tan(0.5 * camera.fov_y)
    y = ((torch.arange(rows) + 0.5) / rows * 2 - 1) * tall
    x = ((torch.arange(columns) + 0.5) / columns * 2 - 1) * tall * ASPECT
    rays = torch.stack([x.repeat(rows), y.repeat_interleave(columns), torch.ones(rows * columns)], 1)
    return torch.nn.functional.normalize(rays @ camera.camera_to_world()[:3, :3].T, dim=1)


def _clear(place: Survey, points: Tensor) -> Tensor:
    """[P] bool: no matter lies within two cells."""
    flat, inside = place.space.index(points)
    return ~(place.space.near_solid(2).flatten()[flat] & inside)


def _seen_from_outside(place: Survey) -> float:
    """As many rays as all free places cast, begun all over the faces of the grid."""
    generator = torch.Generator().manual_seed(3)
    count = 4 * len(place.free)
    share = torch.rand(count, 3, generator=generator)
    face = torch.arange(count)
    share[face, face % 3] = (face // 3 % 2).float()
    starts = place.space.origin + share * (place.space.high - place.space.origin)
    return _seen(place, cast(place.space, starts, sphere(32)).cell)


def _seen(place: Survey, cells: Tensor) -> float:
    """Share of the mass in and right beside the cells at which rays ended."""
    ends = torch.zeros_like(place.mass)
    ends[cells[cells >= 0]] = 1
    ends = spread(ends.view(place.space.depth.shape), 1).flatten()
    return float((place.mass * ends).sum() / place.mass.sum())


def _footprint(place: Survey, points: Tensor) -> int:
    """Number of cells that `points` cover seen from above."""
    east, north = level_axes(place.up)
    flat = torch.stack([points @ east, points @ north], 1) / place.space.cell
    return len(torch.unique(flat.round().long(), dim=0))
