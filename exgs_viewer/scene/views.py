"""Views: from where to judge and first see a cloud, which way is up, how large it is. All from geometry alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from exgs_viewer.scene.camera import Camera, Vector, look_at
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.space import Bounds, Hits, axes, cast, contrast, quantile_box, subset
from exgs_viewer.scene.standpoints import (
    DIRECTIONS,
    FOV,
    USUAL_HEIGHTS,
    Candidates,
    Survey,
    at_height,
    candidates,
    in_frame,
    looking_about,
    orbits,
    rays_through,
    survey,
)

VIEWS = 120
"""Scoring views of a scene. What none of them sees is lost."""
DETAIL = 0.25
"""How much more a detailed place is worth looking at than a plain one: the power of its number of Gaussians."""
SIDES = 8
"""From how many sides a place in a room is looked at, each on its own account: what one side shows says little of the
others. From cameras of their own: flat +1.3 and +2.2 dB (a tenth and a third kept), exhibition room +0.4 and +0.2,
small room and demo as before. Elsewhere it is taken for one: there most is seen from outside, and the candidates see to
the sides (with eight a park gains 0.1 dB; a truck, a rock and a robot lose 0.4)."""
Y_UP, Z_UP = (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)


def bounds(cloud: GaussianCloud) -> Bounds:
    """The 5-95 % box of the centres, weighted by opacity: stray Gaussians do not stretch it."""
    return quantile_box(subset(cloud)[0], 0.05)


def extent(cloud: GaussianCloud) -> float:
    """Longest side of `bounds`, world units; where all centres are one, the size of the largest Gaussian. Never 0."""
    return max(bounds(cloud).size) or float(cloud.scales.max())


def guess_up(cloud: GaussianCloud) -> Vector:
    """Which way is up: -y, as training tools write, unless the cloud is plainly a room that lies in z.

    A room is wider than high, and floor, ceiling, tables and seats offer more level surface than any pair of walls:
    where z is the shortest side and the area facing z is half again that facing y, z is up. An object on its own
    cannot tell (a lying slab is a standing one, turned), so it never overrules the custom.
    """
    some, _ = subset(cloud)
    size = quantile_box(some, 0.05).size
    if size[2] > min(size):
        return Y_UP
    facing = area_facing(some, quantile_box(some, 0.02))
    return Z_UP if facing[2] > 1.5 * facing[1] and survey(cloud, Z_UP).kind == "room" else Y_UP


def area_facing(cloud: GaussianCloud, box: Bounds) -> Tensor:
    """[3] float32: opaque area of flat Gaussians in `box` that faces along x, y, z within 18 degrees.

    No Gaussian counts for more than the largest but 0.5 %, so that sky and haze do not decide.
    """
    inside = ((cloud.means >= torch.tensor(box.low)) & (cloud.means <= torch.tensor(box.high))).all(1)
    scales, order = cloud.scales.sort(1)
    thin = order[:, :1, None].expand(-1, 3, 1)
    normal = axes(cloud.quats).gather(2, thin)[:, :, 0]
    area = scales[:, 1] * scales[:, 2] * cloud.opacities * inside * (scales[:, 0] < 0.5 * scales[:, 1])
    area = area.minimum(area.sort().values[int(0.995 * (len(area) - 1))])
    return (area[:, None] * (normal.abs() > 0.95)).sum(0)


def scoring_views(cloud: GaussianCloud, up: Vector) -> list[Camera]:
    """VIEWS cameras that together see the scene as its visitors would; the same ones every time.

    Of many candidates (standpoints in free space, orbits around what is no room) each next camera is the one whose
    rays end on the surfaces that those before it saw least.
    """
    place = survey(cloud, up)
    offered = candidates(place)
    return [_camera(place, offered, view) for view in _cover(place, offered, VIEWS)]


def first_view(cloud: GaussianCloud, up: Vector, cameras: Sequence[Camera] = ()) -> Camera:
    """The view to open a scene with: the first of its own cameras that sees something, else the most telling one."""
    place = survey(cloud, up)
    for camera in cameras:
        if sees_something(place, camera):
            return camera
    offered = _openings(place)
    hits = cast(place.space, offered.places, DIRECTIONS)
    if place.kind == "room":
        # It shows itself by its depth, and by what stands in it rather than by a bare wall.
        colorful = contrast(subset(cloud)[0], place.space)[place.space.patches(hits.cell)]
        worth = _detail(place, hits, far=3.0) * colorful**2
    else:
        worth = _detail(place, hits, 1.0, 2 * DETAIL)  # the side with the most detail is usually the front
    value = worth @ in_frame(offered.aims, place.up).T  # [P, A]
    return _camera(place, offered, int(value[offered.place, offered.aim].argmax()))


def sees_something(place: Survey, camera: Camera) -> bool:
    """Whether a tenth of the picture shows matter, and not all of it right before the eyes."""
    hits = cast(place.space, torch.tensor(camera.position)[None], rays_through(camera))
    struck = hits.cell >= 0
    if float(struck.float().mean()) < 0.1:
        return False
    return float(hits.distance[struck].median()) > 3 * place.space.cell


def _openings(place: Survey) -> Candidates:
    """Views that may open a scene: level from inside a room, else around it a little from above."""
    inside = at_height(place, USUAL_HEIGHTS)
    if place.kind == "room" and len(inside):
        return looking_about(inside, place.up, pitches=(-0.15,), turns=24)
    return orbits(place, (0.35,), (1.0,) if place.kind == "object" else (0.5, 0.7), turns=24)


def _camera(place: Survey, offered: Candidates, view: int) -> Camera:
    here = offered.places[offered.place[view]]
    ahead = here + offered.aims[offered.aim[view]] * place.space.cell * 100
    return look_at(tuple(here.tolist()), tuple(ahead.tolist()), tuple(place.up.tolist()), FOV)


def _cover(place: Survey, offered: Candidates, count: int) -> list[int]:
    """`count` views, greedily: a ray is worth its surface's detail / (1 + views that saw that surface from there)."""
    hits = cast(place.space, offered.places, DIRECTIONS)
    worth, patch = _detail(place, hits), place.space.patches(hits.cell)  # [P, D]
    if place.kind == "room":
        patch = torch.where(patch >= 0, SIDES * patch + _side(DIRECTIONS), patch)
    framed = in_frame(offered.aims, place.up)  # [A, D]
    seen = torch.zeros(int(patch.max()) + 2)
    chosen: list[int] = []
    for _ in range(min(count, len(offered.place))):
        value = ((worth / (1 + seen[patch])) @ framed.T)[offered.place, offered.aim]
        value[chosen] = -1
        best = int(value.argmax())
        chosen.append(best)
        shown = patch[offered.place[best]][framed[offered.aim[best]] > 0]
        seen[shown[shown >= 0].unique()] += 1
    return chosen


def _side(directions: Tensor) -> Tensor:
    """[D] int64 below SIDES. The octant of space that `directions` [D, 3] lead into."""
    return ((directions > 0) * torch.tensor([1, 2, 4])).sum(1)


def _detail(place: Survey, hits: Hits, far: float = 1.5, power: float = DETAIL) -> Tensor:
    """[P, D] float32: how much there is to see along each ray.

    A `power` of the number of Gaussians in the ray's footprint, which grows with the square of the distance; what is
    farther than `far` times the usual distance counts as if it were there, and what is very near counts nothing.
    """
    struck = hits.cell >= 0
    usual = hits.distance[struck].median() if struck.any() else 1.0
    reach = (hits.distance / usual).clamp_max(far)
    # A large Gaussian fills cells in which no centre lies; they are worth a look too.
    detail = place.mass[hits.cell].clamp_min(0.25) ** power
    return struck * detail * reach * (reach > 0.15)
