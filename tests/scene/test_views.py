"""Views are judged on places whose inside and outside are known: a furnished box, a ball, a field, the demo room."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exgs_viewer.scene import demo, open_scene
from exgs_viewer.scene.camera import Camera, look_at
from exgs_viewer.scene.cloud import GaussianCloud, join
from exgs_viewer.scene.space import cast, occupancy, quantile_box, sphere
from exgs_viewer.scene.standpoints import survey
from exgs_viewer.scene.views import VIEWS, bounds, extent, first_view, guess_up, scoring_views
from tests.conftest import random_cloud

Y_UP, Z_UP = (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)


def panel(corner, along_u, along_v, count: int = 4000, seed: int = 0) -> GaussianCloud:
    """Flat opaque discs all over a parallelogram; `along_u` and `along_v` are its edges, along the axes."""
    corner, along_u, along_v = (torch.tensor(value, dtype=torch.float32) for value in (corner, along_u, along_v))
    share = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    size = math.sqrt(float(along_u.norm() * along_v.norm()) / count)
    scales = torch.full((count, 3), size)
    scales[:, int(torch.linalg.cross(along_u, along_v).abs().argmax())] = 0.05 * size
    return GaussianCloud(
        means=corner + share[:, :1] * along_u + share[:, 1:] * along_v,
        scales=scales,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=torch.full((count,), 0.95),
        sh=torch.zeros(count, 1, 3),
    )


def box(low, high, seed: int = 0, count: int = 4000) -> GaussianCloud:
    """The six faces of a box."""
    (a, b, c), (x, y, z) = low, [h - w for h, w in zip(high, low, strict=True)]
    pairs = [((x, 0, 0), (0, y, 0), (0, 0, z)), ((0, y, 0), (0, 0, z), (x, 0, 0)), ((0, 0, z), (x, 0, 0), (0, y, 0))]
    faces = []
    for number, (off, u, v) in enumerate(pairs):
        faces.append(panel(low, u, v, count, seed + number))
        faces.append(panel((a + off[0], b + off[1], c + off[2]), u, v, count, seed + number + 3))
    return join(faces)


def furnished_room() -> GaussianCloud:
    """A room of 6 x 2.6 x 5, y down, with three blocks of furniture on its floor."""
    tables = [((-2.5, -0.9, -2), (-1.2, 0, -1)), ((0.5, -0.8, 0.2), (2.2, 0, 1.4)), ((-2.6, -1.9, 1.6), (-2.0, 0, 2.4))]
    return join([box((-3, -2.6, -2.5), (3, 0, 2.5)), *(box(*table, seed=9, count=1500) for table in tables)])


def ball(count: int = 20_000) -> GaussianCloud:
    """A sphere of radius 1 full of Gaussians."""
    generator = torch.Generator().manual_seed(2)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    means = means * torch.rand(count, 1, generator=generator) ** (1 / 3)
    return random_cloud(count, sh_degree=0).replaced(
        means=means, scales=torch.full((count, 3), 0.03), opacities=torch.full((count,), 0.9)
    )


def rolled(cloud: GaussianCloud) -> GaussianCloud:
    """The same place with z up instead of -y: (x, y, z) -> (x, z, -y), for clouds of unturned Gaussians."""
    swap = [0, 2, 1]
    return cloud.replaced(
        means=cloud.means[:, swap] * torch.tensor([1.0, 1.0, -1.0]), scales=cloud.scales[:, swap].contiguous()
    )


@pytest.fixture(scope="module")
def room() -> GaussianCloud:
    return furnished_room()


@pytest.fixture(scope="module")
def demo_room() -> GaussianCloud:
    return demo.read().cloud


def test_bounds_ignore_strays():
    strays = random_cloud(50).replaced(means=torch.full((50, 3), 500.0))
    size = bounds(join([ball(), strays])).size
    assert max(size) < 2.0


def test_bounds_ignore_a_haze_of_invisible_gaussians():
    haze = random_cloud(20_000, sh_degree=0)
    haze = haze.replaced(means=haze.means * 100, opacities=torch.full((20_000,), 0.004))
    assert extent(join([ball(), haze])) == pytest.approx(extent(ball()), rel=0.15)


def test_extent_of_one_gaussian_is_not_zero():
    assert extent(random_cloud(1)) > 0


def test_extent_is_the_longest_side():
    assert extent(panel((0, 0, 0), (10, 0, 0), (0, 2, 0))) == pytest.approx(9.0, rel=0.02)


def test_a_ray_ends_at_the_wall(room):
    space = occupancy(room, quantile_box(room, 0.0))
    hits = cast(space, torch.tensor([[0.0, -2.0, 0.0]]), torch.tensor([[1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]]))
    assert (hits.cell >= 0).all()
    assert torch.allclose(hits.distance[0], torch.tensor([3.0, 2.5, 0.6]), atol=2 * space.cell)


def test_a_ray_from_outside_ends_at_the_near_face_and_one_that_misses_nowhere():
    cloud = box((-1, -1, -1), (1, 1, 1))
    space = occupancy(cloud, quantile_box(cloud, 0.0))
    hits = cast(space, torch.tensor([[0.0, 0.0, -5.0]]), torch.tensor([[0, 0, 1.0], [0, 1.0, 0]]))
    assert hits.distance[0, 0] == pytest.approx(4.0, abs=2 * space.cell)
    assert hits.cell[0, 1] == -1


def test_a_furnished_box_is_a_room_and_a_ball_is_an_object(room):
    assert survey(room, Y_UP).kind == "room"
    assert survey(ball(), Y_UP).kind == "object"


def test_a_hollow_object_is_no_room():
    """Its hide is thick, and shows outside what it hides inside."""
    depths = {0: 1500, 0.15: 3000, 0.3: 9000}
    shells = [box((-1 - d, -1 - d, -1 - d), (1 + d, 1 + d, 1 + d), count=count) for d, count in depths.items()]
    assert survey(join(shells), Y_UP).kind == "object"


def test_a_field_is_outdoor():
    field = panel((-10, 0, -10), (20, 0, 0), (0, 0, 20), 20_000)
    stones = [box((x, -0.5, z), (x + 0.6, 0, z + 0.6), count=300) for x, z in ((-4, 2), (3, 5), (1, -6))]
    assert survey(join([field, *stones]), Y_UP).kind == "outdoor"


def test_scoring_views_are_many_and_the_same_every_time(room):
    views = scoring_views(room, Y_UP)
    assert len(views) == VIEWS
    assert len(set(views)) == VIEWS
    assert views == scoring_views(room, Y_UP)


@pytest.mark.parametrize("make", [furnished_room, ball], ids=["room", "ball"])
def test_views_are_upright_unit_and_finite(make):
    for camera in [*scoring_views(make(), Y_UP), first_view(make(), Y_UP)]:
        assert all(map(math.isfinite, camera.position))
        assert math.hypot(*camera.rotation) == pytest.approx(1, abs=1e-5)
        # The picture's down is the world's down, and its horizon is level.
        assert camera.down[1] > 0.3
        assert abs(camera.right[1]) < 1e-4


def test_room_views_stand_in_free_space_inside(room):
    space = occupancy(room, quantile_box(room, 0.0))
    blocks = [((-2.5, -0.9, -2), (-1.2, 0, -1)), ((0.5, -0.8, 0.2), (2.2, 0, 1.4)), ((-2.6, -1.9, 1.6), (-2.0, 0, 2.4))]
    for camera in [*scoring_views(room, Y_UP), first_view(room, Y_UP)]:
        x, y, z = camera.position
        assert -3 < x < 3 and -2.6 < y < 0 and -2.5 < z < 2.5
        assert not any(all(a < p < b for a, p, b in zip(low, (x, y, z), high, strict=True)) for low, high in blocks)
        nearest = cast(space, torch.tensor([camera.position]), sphere(200)).distance.min()
        assert float(nearest) >= 0.05


def test_a_room_amid_much_else_is_seen_from_all_over_it(room):
    # What a capture has outside its windows: most of the free space lies around it then, and few places in the room.
    corners = [(x, y, z) for x in (-4.5, 4.5) for y in (-5, 2) for z in (-4.5, 4.5)]
    outside = [ball(3000).replaced(means=ball(3000).means + torch.tensor(corner)) for corner in corners]
    cameras = scoring_views(join([room, *outside]), Y_UP)
    inside = {c.position for c in cameras if abs(c.position[0]) < 3 and abs(c.position[2]) < 2.5}
    assert len(inside) > 30


def test_what_stands_in_a_room_is_looked_at_from_every_side(room):
    # Behind a screen near one wall there are few places to stand, and all that is seen there has been seen from before.
    screen = join([panel((x, -2.6, -1), (0, 2.6, 0), (0, 0, 2), 20_000) for x in (1.5, 1.55)])
    space = occupancy(whole := join([room, screen]), quantile_box(room, 0.0))
    behind = []
    for camera in scoring_views(whole, Y_UP):
        hits = cast(space, torch.tensor([camera.position]), _rays(camera))
        ends = space.centers(hits.cell[hits.cell >= 0])
        on_screen = ((ends - torch.tensor([1.5, -1.3, 0])).abs() < torch.tensor([0.2, 1.3, 1])).all(1)
        if float(on_screen.float().mean()) > 0.05:
            behind.append(camera.position[0] > 1.5)
    assert sum(behind) > 0.2 * len(behind)


def test_object_views_see_it_whole():
    for camera in scoring_views(ball(), Y_UP):
        assert math.dist(camera.position, (0, 0, 0)) > 1.3
        offset = torch.tensor([-value for value in camera.position])
        ahead = torch.dot(offset, torch.tensor(camera.forward)) / offset.norm()
        assert ahead > 0.999
    first = first_view(ball(), Y_UP)
    apparent = math.asin(1.0 / math.dist(first.position, (0, 0, 0)))
    assert apparent < 0.5 * first.fov_y


def test_object_views_come_from_all_around_and_several_heights():
    places = torch.tensor([camera.position for camera in scoring_views(ball(), Y_UP)])
    turns = torch.atan2(places[:, 2], places[:, 0])
    assert len(set((turns // (math.pi / 4)).int().tolist())) == 8
    heights = (-places[:, 1] / places.norm(dim=1)).asin()
    assert heights.max() > 0.8 and heights.min() < -0.2


def test_together_the_room_views_see_nearly_every_place(room):
    space = occupancy(room, quantile_box(room, 0.0))
    seen = torch.zeros(space.depth.numel())
    for camera in scoring_views(room, Y_UP):
        hits = cast(space, torch.tensor([camera.position]), _rays(camera))
        seen[hits.cell[hits.cell >= 0]] = 1
    flat, inside = space.index(room.means)
    near = torch.nn.functional.max_pool3d(seen.view(1, 1, *space.depth.shape), 5, 1, 2).flatten()
    # The undersides of the furniture, a tenth of all Gaussians, lie on the floor; nobody sees them.
    assert float((near[flat] * inside).mean()) > 0.8


def test_the_files_own_camera_opens_the_scene(room):
    own = look_at((0, -1.5, 0), (2, -1, 2), Y_UP, 0.7)
    assert first_view(room, Y_UP, [own]) == own


def test_a_camera_that_sees_nothing_is_passed_over(room):
    away = look_at((0, -1.5, -40), (0, -1.5, -80), Y_UP)
    own = look_at((0, -1.5, 0), (2, -1, 2), Y_UP, 0.7)
    assert first_view(room, Y_UP, [away, own]) == own
    assert first_view(room, Y_UP, [away]) == first_view(room, Y_UP)


@pytest.mark.parametrize("x", [-2.7, 2.0])
@pytest.mark.parametrize("z", [-2.3, 1.6])
def test_the_first_view_of_a_room_shows_what_stands_in_it(room, x, z):
    """A coloured heap in one corner, all the rest of one grey."""
    heap = box((x, -0.7, z), (x + 0.7, 0, z + 0.7), seed=30, count=1500)
    heap = heap.replaced(sh=torch.rand(heap.sh.shape, generator=torch.Generator().manual_seed(3)) * 3 - 1.5)
    camera = first_view(join([room, heap]), Y_UP)
    ahead = torch.tensor([x + 0.35, -0.4, z + 0.35]) - torch.tensor(camera.position)
    right, down, forward = (camera.world_to_camera()[:3, :3] @ ahead).tolist()
    assert forward > 0 and abs(right) < forward * math.tan(0.45) * 4 / 3 and abs(down) < forward * math.tan(0.45)


def test_up_is_minus_y_for_a_room_that_lies_in_y_and_z_for_one_that_lies_in_z(room):
    assert guess_up(room) == Y_UP
    assert guess_up(rolled(room)) == Z_UP


def test_an_object_never_turns_up_to_z():
    assert guess_up(ball().replaced(means=ball().means * torch.tensor([2.0, 2.0, 0.2]))) == Y_UP


def test_the_demo_is_a_room_with_minus_y_up(demo_room):
    assert guess_up(demo_room) == Y_UP
    assert survey(demo_room, Y_UP).kind == "room"
    for camera in [*scoring_views(demo_room, Y_UP), first_view(demo_room, Y_UP)]:
        x, y, z = camera.position
        assert -2.7 < x < 2.7 and -2.7 < y < 0 and -2.3 < z < 2.3


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.sampled_from([0.0, 1e-3, 1.0, 1e4]), st.sampled_from([0.0, 1.0]), st.integers(0, 9))
def test_any_cloud_has_views(count, size, opacity, seed):
    cloud = random_cloud(count, seed)
    cloud = cloud.replaced(means=cloud.means * size, opacities=cloud.opacities * opacity)
    views = [*scoring_views(cloud, Y_UP), first_view(cloud, Y_UP)]
    assert len(views) > 1
    assert all(math.isfinite(value) for camera in views for value in (*camera.position, *camera.rotation))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["showroom", "lab_corner", "fungi_room", "park", "rock", "logo", "truck", "flowers"])
def test_up_is_right_on_real_scenes(scenes, name):
    entry = json.loads((scenes / "index.json").read_text())["scenes"][name]
    paths = sorted(path for pattern in entry["files"] for path in scenes.glob(pattern))
    cloud = join([_thinned(open_scene(path).cloud, len(paths)) for path in paths])
    assert guess_up(cloud) == pytest.approx(tuple(entry["up"]))


def _thinned(cloud: GaussianCloud, parts: int) -> GaussianCloud:
    """At most 150 000 Gaussians in `parts` parts of one scene; more are not looked at anyway."""
    index = torch.randperm(len(cloud), generator=torch.Generator().manual_seed(0))
    return cloud.take(index[: max(150_000 // parts, len(cloud) // 4)])


def _rays(camera: Camera) -> torch.Tensor:
    """[N, 3] unit directions that fill the picture of a camera, 4 : 3."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 30), torch.linspace(-4 / 3, 4 / 3, 40), indexing="ij")
    tall = math.tan(0.5 * camera.fov_y)
    rays = torch.stack([x.flatten() * tall, y.flatten() * tall, torch.ones(x.numel())], 1)
    return torch.nn.functional.normalize(rays @ camera.camera_to_world()[:3, :3].T, dim=1)
