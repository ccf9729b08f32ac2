"""Flicker: a world that stands still has none, however the camera moves; noise has as much as was added."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from exgs_viewer.evaluate.flicker import FRAMES, MOVE, TURN, distance_of, flicker, path, warp, warps
from exgs_viewer.render import RenderOutput
from exgs_viewer.scene.camera import Camera, look_at

SIZE = (96, 64)
VIEWS = [look_at(place, (0, 0, 3), (0, -1, 0)) for place in [(0, 0, 0), (2, 0, 0), (0.5, 0.1, 0)]]


def plane(camera: Camera, distance: float = 3.0) -> RenderOutput:
    """A smooth pattern painted on the plane z = distance, traced ray by ray."""
    width, height = SIZE
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([columns - width / 2, rows - height / 2], 2) / camera.focal(SIZE)
    matrix = camera.camera_to_world()
    directions = torch.cat([rays, torch.ones_like(rays[..., :1])], 2) @ matrix[:3, :3].T
    depth = (distance - matrix[2, 3]) / directions[..., 2]  # along the camera's own z, since the rays' z is 1
    places = matrix[:3, 3] + depth[..., None] * directions
    color = 0.5 + 0.4 * torch.sin(2 * places[..., [0, 1, 0]] + torch.tensor([0.0, 1.0, 2.0]))
    return RenderOutput(color, torch.ones_like(depth), depth)


@pytest.fixture(scope="module")
def walk():
    """Cameras, pictures of the plane and warps along a path."""
    cameras = path(VIEWS, 3.0)
    outputs = [plane(camera) for camera in cameras]
    return cameras, [output.color for output in outputs], warps(outputs, cameras)


def test_the_path_goes_in_small_steps_to_the_nearest_camera(walk):
    cameras, _, _ = walk
    assert len(cameras) == FRAMES and cameras[0] == VIEWS[0]
    steps = [math.dist(a.position, b.position) for a, b in pairwise(cameras)]
    assert max(steps) <= MOVE * 3.0 * 1.001 and min(steps) > 0
    assert cameras[-1].position[1] > 0, "towards the third camera, which is nearer than the second"
    turns = [2 * math.acos(min(1, abs(sum(x * y for x, y in zip(a.rotation, b.rotation, strict=True)))))
             for a, b in pairwise(cameras)]  # fmt: skip
    assert max(turns) <= TURN * 1.1


def test_a_single_camera_goes_sideways():
    cameras = path(VIEWS[:1] * 3, 3.0)
    assert cameras[-1].position[0] == pytest.approx((FRAMES - 1) * MOVE * 3.0, rel=1e-4)


def test_a_world_that_stands_still_has_no_flicker(walk):
    _, pictures, steps = walk
    assert all(step.seen.float().mean() > 0.9 for step in steps)
    assert flicker(pictures, steps) < 2e-4
    unmoved = torch.stack([b - a for a, b in pairwise(pictures)]).abs().mean()
    assert unmoved > 10 * flicker(pictures, steps), "the movement itself would have been seen"


def test_a_still_camera_has_exactly_none():
    output = plane(VIEWS[0])
    assert flicker([output.color] * 3, [warp(output, VIEWS[0], output, VIEWS[0])] * 2) < 1e-6


def test_noise_is_flicker_and_more_noise_more(walk):
    _, pictures, steps = walk
    noise = torch.randn(len(pictures), *pictures[0].shape, generator=torch.Generator().manual_seed(3))
    little, much = (
        flicker([picture + size * n for picture, n in zip(pictures, noise, strict=True)], steps)
        for size in (0.01, 0.04)
    )
    # |a - b| of two Gaussians has the mean 2 sigma / sqrt(pi); the warp averages one of them, which takes some of it.
    assert 0.7 * 2 * 0.01 / math.sqrt(math.pi) < little <= 1.05 * 2 * 0.01 / math.sqrt(math.pi)
    assert much == pytest.approx(4 * little, rel=0.05)


def test_what_was_hidden_before_does_not_count():
    near, far = plane(VIEWS[0], 1.5), plane(VIEWS[0], 3.0)
    half = torch.arange(SIZE[0])[None].expand(SIZE[1], -1) < 48
    before = RenderOutput(far.color, far.alpha, torch.where(half, near.depth, far.depth))
    seen = warp(far, VIEWS[0], before, VIEWS[0]).seen
    assert not seen[:, 1:46].any() and seen[1:-1, 50:-1].all()


def test_without_anything_solid_there_is_no_figure():
    output = plane(VIEWS[0])
    empty = RenderOutput(output.color, torch.zeros_like(output.alpha), torch.zeros_like(output.depth))
    assert distance_of(empty) == 1.0
    assert flicker([output.color] * 2, [warp(empty, VIEWS[0], empty, VIEWS[0])]) is None
