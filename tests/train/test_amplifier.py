"""Training an amplifier: through the renderer's gradients, downhill, and resumed without a trace."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.compress.amplify import Amplifier, Growth, load_amplifier
from exgs_viewer.errors import SceneError
from exgs_viewer.render import open_renderer
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import RenderSettings
from exgs_viewer.train import lessons as subject
from exgs_viewer.train.amplifier import Run, in_view, picture_loss, train
from exgs_viewer.train.lessons import Course, Lessons, write_lessons
from exgs_viewer.train.options import AmplifierOptions
from exgs_viewer.train.sources import Source
from exgs_viewer.train.state import CURVE, STATE
from tests.conftest import random_cloud

COURSE = Course(views=3, retentions=2, size=(48, 32))
OPTIONS = AmplifierOptions(steps=6, batch=1, warm_up=1, tell_every=2, judge_every=3)
VIEWS = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in [(1, 0, -2.5), (0, 1, 2.5), (-2, -1, 1)]]


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("cpu")


@pytest.fixture(scope="module", params=[False, True], ids=["pruned", "merged"])
def folder(tmp_path_factory, renderer, request):
    """Lessons of two small scenes."""
    course = replace(COURSE, merged=request.param)
    path = tmp_path_factory.mktemp("lessons")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "scoring_views", lambda cloud, up: VIEWS)
        patch.setattr(subject, "JUDGES", 1)
        patch.setattr(subject, "MOST", 0.1 if request.param else 0.5)
        patch.setattr("exgs_viewer.compress.scores.SCORING_SIZE", (96, 72))
        for seed in range(2):
            cloud = random_cloud(1500, seed, sh_degree=1)
            cloud = cloud.replaced(scales=cloud.scales * 2, opacities=cloud.opacities.sqrt())
            write_lessons(path / f"{seed}.safetensors", Source(str(seed), cloud, (0, -1, 0)), course, renderer)
    return path


def test_lessons_come_back_as_they_were_written(folder, renderer):
    for lesson in Lessons(folder).held_out():
        assert lesson.wanted.shape == (32, 48, 3) and lesson.cloud.sh_degree == 0
        assert len(lesson.cloud) == len(lesson.around.lost) and 15 <= len(lesson.cloud) <= 750
        drawn = renderer.render(lesson.cloud, lesson.camera, (48, 32), RenderSettings()).color
        assert 0 < (drawn - lesson.wanted).abs().mean() < 0.5


def test_a_folder_without_lessons_is_refused_in_words(tmp_path):
    with pytest.raises(SceneError, match="no lessons"):
        Lessons(tmp_path)


def test_slopes_are_those_of_the_loss(folder, renderer):
    """Against central differences along the slopes, which drown the jumps where a splat's rim passes 1/255."""
    for lesson in Lessons(folder).held_out():
        n = len(lesson.cloud)
        start = Growth(torch.zeros(n, 3), torch.zeros(n))
        _, slopes = picture_loss(lesson, start, renderer)
        steep = float(slopes.scales.square().sum() + slopes.opacities.square().sum())
        ends = [picture_loss(lesson, slopes.by(step / steep**0.5), renderer)[0] for step in (-0.05, 0.05)]
        assert (ends[1] - ends[0]) / 0.1 == pytest.approx(steep**0.5, rel=0.1)


def test_what_is_out_of_view_is_not_missed(folder, renderer):
    lesson = Lessons(folder).held_out()[0]
    near = replace(lesson, camera=look_at((0.3, 0, -1.0), (0, 0, 0), (0, -1, 0)))
    seen = in_view(near)
    assert len(seen.cloud) == len(seen.around.lost) < len(near.cloud)
    whole, part = (renderer.render(each.cloud, near.camera, (48, 32), RenderSettings()).color for each in (near, seen))
    assert_close(whole, part, atol=1e-3, rtol=0)


def test_training_lowers_the_loss(folder, renderer, tmp_path, request):
    merged = request.node.callspec.id == "merged"  # That keeps most of its looks, so there is less to win.
    steps, rate, last, least = (60, 0.01, 20, 0.25) if merged else (25, 0.02, 5, 0.5)
    options = replace(OPTIONS, steps=steps, rate=rate)
    run = Run(tmp_path, Lessons(folder), options, renderer)
    gains = [run.advance()["gain"] for _ in range(options.steps)]
    assert abs(gains[0]) < 1e-6 and sum(gains[-last:]) / last > least


def test_a_resumed_run_goes_the_way_of_an_uninterrupted_one(folder, renderer, tmp_path):
    lessons = Lessons(folder)
    train(tmp_path / "whole", lessons, OPTIONS, renderer)
    broken = Run(tmp_path / "broken", lessons, OPTIONS, renderer)
    for _ in range(3):
        broken.advance()
    broken.save()
    shutil.copytree(tmp_path / "broken", tmp_path / "resumed")
    train(tmp_path / "resumed", lessons, OPTIONS, renderer)
    one, other = (load_amplifier(tmp_path / name / "amplifier") for name in ("whole", "resumed"))
    for name, value in one.state_dict().items():
        assert_close(other.state_dict()[name], value, rtol=1e-5, atol=1e-7, msg=name)
    assert (tmp_path / "whole" / STATE).exists()
    assert len((tmp_path / "whole" / CURVE).read_text().splitlines()) == 4


def test_what_training_writes_is_not_the_network_it_began_with(folder, renderer, tmp_path):
    train(tmp_path, Lessons(folder), OPTIONS, renderer)
    around = Lessons(folder).held_out()[0].around
    assert load_amplifier(tmp_path / "amplifier").predict(around).scales.abs().max() > 0
    assert Amplifier().predict(around).scales.abs().max() == 0
