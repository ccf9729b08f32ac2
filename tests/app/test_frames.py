"""What the render worker makes of a request, on a renderer whose pictures are known."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from exgs_viewer.app.frames import Frames, surface_at
from exgs_viewer.app.pace import Draft
from exgs_viewer.app.state import FrameRequest, Ranked, Repaired
from exgs_viewer.render import RenderOutput
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import CompressionSettings, RenderSettings

from .conftest import FakeRenderer, by_significance, plain_cloud

CLOUD = plain_cloud(1000)
REQUEST = FrameRequest(
    original=CLOUD,
    ranked=Ranked(CLOUD, by_significance(CLOUD, torch.zeros(1000)), CompressionSettings()),
    reduced=None,
    camera=look_at((0.25, 0.0, -2.0), (0.25, 0.0, 0.0), (0.0, -1.0, 0.0)),
    size=(90, 60),
    sides=("original", "compressed"),
    layout="wipe",
    wipe=(0.5,),
    gain=2.0,
    mode="color",
    compression=CompressionSettings(keep=0.1),
    render=RenderSettings(),
)


def test_only_what_is_shown_is_drawn():
    renderer = FakeRenderer()
    frames = Frames(renderer)
    frames.draw(replace(REQUEST, sides=("compressed",), layout="single"))
    assert [len(cloud) for cloud, _, _ in renderer.drawn] == [100]


@pytest.mark.parametrize(
    ("layout", "sides", "sizes"),
    [
        ("wipe", ("original", "compressed"), [(90, 60)] * 2),
        ("side", ("original", "compressed"), [(45, 60)] * 2),
        ("side", ("original", "compressed", "restored"), [(30, 60)] * 2),
        ("difference", ("original", "compressed"), [(90, 60)] * 2),
    ],
)
def test_every_layout_draws_each_picture_once_in_the_size_of_its_pane(layout, sides, sizes):
    renderer = FakeRenderer()
    frame, timings = Frames(renderer).draw(replace(REQUEST, layout=layout, sides=sides))
    assert [size for _, _, size in renderer.drawn] == sizes == [(t.pixels // 60, 60) for t in timings]
    assert frame.pixels.shape == (60, 90, 4) and frame.pixels.flags["C_CONTIGUOUS"]


def test_another_scene_lets_go_of_the_clouds_and_pictures_of_the_first():
    renderer, alone = FakeRenderer(), replace(REQUEST, ranked=None, sides=("original",), layout="single", wipe=())
    frames, cloud = Frames(renderer), plain_cloud(50)
    picture, _ = frames.draw(replace(alone, original=cloud))
    left = [weakref.ref(cloud), weakref.ref(picture.outputs["original"])]
    del cloud, picture
    renderer.drawn.clear()
    frames.draw(alone)
    gc.collect()
    assert [thing() for thing in left] == [None, None]


def test_pictures_are_remembered_until_what_they_show_changes():
    renderer = FakeRenderer()
    frames = Frames(renderer)
    frames.draw(REQUEST)
    again, timings = frames.draw(replace(REQUEST, wipe=(0.2,), gain=9.0, measure=True))
    assert len(renderer.drawn) == 2 and timings == [] and again.drawn == 0
    frames.draw(replace(REQUEST, compression=CompressionSettings(keep=0.1, voxel_size=3.0)))
    assert len(renderer.drawn) == 2, "the voxel size has done its work in the ranking"
    frames.draw(replace(REQUEST, compression=CompressionSettings(keep=0.2)))
    assert len(renderer.drawn) == 3
    frames.draw(replace(REQUEST, render=RenderSettings(sh_degree=1)))
    assert len(renderer.drawn) == 5


def test_bytes_and_floats_show_the_same():
    as_floats, _ = Frames(FakeRenderer()).draw(REQUEST)
    as_bytes, _ = Frames(FakeRenderer(), as_bytes=True).draw(REQUEST)
    assert as_bytes.pixels.dtype == "uint8" and as_floats.pixels.dtype == "float32"
    assert abs(as_bytes.pixels / 255 - as_floats.pixels).max() <= 0.5 / 255 + 1e-6


def test_the_difference_is_amplified():
    frame, _ = Frames(FakeRenderer()).draw(replace(REQUEST, layout="difference", gain=0.5))
    assert frame.pixels[0, 0].tolist() == pytest.approx([0.0, 0.45, 0.0, 1.0])


def test_until_it_is_restored_the_pane_says_compressed():
    request = replace(REQUEST, sides=("restored",), layout="single")
    plain, _ = Frames(FakeRenderer()).draw(request)
    assert plain.sides == ("compressed",)
    repaired = Repaired((), torch.ones(60, 90, 3), 0.1)
    done, _ = Frames(FakeRenderer()).draw(replace(request, repaired=repaired, measure=True))
    assert done.sides == ("restored",) and done.pixels.min() == 1.0 and set(done.psnr) == {"compressed", "restored"}


def test_the_surface_under_the_mouse():
    frame, _ = Frames(FakeRenderer()).draw(REQUEST)  # A wall two units ahead of the camera at z = -2.
    assert surface_at(frame, 0.5, 0.5) == pytest.approx((0.25, 0.0, 0.0), abs=0.03)
    left, right = surface_at(frame, 0.1, 0.5), surface_at(frame, 0.9, 0.5)
    assert left[2] == right[2] == pytest.approx(0.0) and left[0] != right[0]


def test_the_surface_in_a_pane_beside_is_the_same_point():
    frame, _ = Frames(FakeRenderer()).draw(replace(REQUEST, layout="side"))
    assert surface_at(frame, 0.25, 0.3) == pytest.approx(surface_at(frame, 0.75, 0.3))


def test_a_hole_takes_the_depth_around_it_and_emptiness_has_none():
    frame, _ = Frames(FakeRenderer()).draw(replace(REQUEST, layout="single", sides=("compressed",)))
    output = frame.outputs["compressed"]
    alpha = output.alpha.clone()
    alpha[25:35, 40:50] = 0
    holed = replace(frame, outputs={"compressed": RenderOutput(output.color, alpha, output.depth)})
    assert surface_at(holed, 0.5, 0.5)[2] == pytest.approx(0.0, abs=1e-5)
    empty = replace(frame, outputs={"compressed": RenderOutput(output.color, alpha * 0, output.depth)})
    assert surface_at(empty, 0.5, 0.5) is None


def test_significance_colours_both_sides_and_is_remembered_apart():
    renderer = FakeRenderer()
    frames = Frames(renderer)
    frames.draw(replace(REQUEST, mode="significance"))
    assert all(not cloud.sh.equal(CLOUD.sh[: len(cloud)]) for cloud, _, _ in renderer.drawn)
    frames.draw(REQUEST)
    assert len(renderer.drawn) == 4 and renderer.drawn[2][0] is CLOUD


def test_a_draft_is_smaller_and_thinner():
    renderer, cloud = FakeRenderer(), plain_cloud(200_000)
    request = replace(REQUEST, original=cloud, layout="single", sides=("original",), draft=Draft(0.5, 0.35))
    frame, timings = Frames(renderer).draw(request)
    ((drawn, _, size),) = renderer.drawn
    assert size == (45, 30) and frame.pixels.shape == (30, 45, 4)
    assert len(drawn) == timings[0].count == 70_000
    assert drawn.sh[:, 0, 0].equal(cloud.sh[:70_000, 0, 0]), "the most significant ones"


def test_while_the_slider_moves_the_original_stays_as_sharp_as_it_is():
    renderer = FakeRenderer()
    frames = Frames(renderer)
    frames.draw(REQUEST)
    renderer.drawn.clear()
    frame, _ = frames.draw(replace(REQUEST, compression=CompressionSettings(keep=0.2), draft=Draft(0.5)))
    assert [size for _, _, size in renderer.drawn] == [(45, 30)], "the compressed side alone"
    assert frame.pixels.shape == (60, 90, 4)
    assert frame.pixels[0, 0, 1] == 1.0 and frame.pixels[0, -1, 1] == pytest.approx(0.2)
