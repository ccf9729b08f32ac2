"""Ways to compress behind one interface: exact budgets, honest bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from exgs_viewer import methods
from exgs_viewer.compress.recovery import Recovery
from exgs_viewer.compress.select import keep_count
from exgs_viewer.errors import ExgsError
from exgs_viewer.render import open_renderer
from exgs_viewer.scene import exgs
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import PRESETS, RenderSettings
from tests.conftest import random_cloud


@pytest.fixture(autouse=True)
def two_small_scoring_views(monkeypatch):
    views = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in [(1, 0, -2.5), (0, 1, 2.5)]]
    monkeypatch.setattr("exgs_viewer.methods.scoring_views", lambda cloud, up: views)
    monkeypatch.setattr("exgs_viewer.compress.scores.SCORING_SIZE", (96, 72))
    # Scenes this small are worked on before a second thread has woken up.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def subject(count: int = 300, sh_degree: int = 3) -> methods.Subject:
    recovery = Recovery(steps=3, views=2, size=(48, 32))
    return methods.Subject(
        random_cloud(count, sh_degree=sh_degree), (0, -1, 0), open_renderer("cpu"), recovery=recovery
    )


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_meets_the_budget_exactly(name):
    scene = subject()
    for keep in (0.03, 1.0):
        done = methods.compress(name, scene, keep)
        assert len(done.cloud) == keep_count(len(scene.cloud), keep)
        assert done.bytes > 0 and done.seconds >= 0


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("count", [1, 10])
def test_tiny_scenes_are_no_exception(name, count):
    done = methods.compress(name, subject(count, sh_degree=0), 0.1)
    assert len(done.cloud) == 1
    for values in (done.cloud.means, done.cloud.scales, done.cloud.opacities, done.cloud.sh):
        assert values.isfinite().all()


@pytest.mark.parametrize("name", ["paper", "default", "lightgs-sh", "flexgaussian", "prune-weight"])
def test_more_is_nearer_to_the_scene(name):
    scene, camera = subject(), look_at((0, 0, -2.5), (0, 0, 0), (0, -1, 0))
    draw = scene.renderer.render
    uncut = draw(scene.cloud, camera, (96, 72), RenderSettings()).color
    clouds = [methods.compress(name, scene, keep).cloud for keep in (0.1, 0.7)]
    few, many = ((draw(cloud, camera, (96, 72), RenderSettings()).color - uncut).abs().mean() for cloud in clouds)
    assert many < few


def test_the_paper_counts_the_bytes_of_its_file():
    done = methods.compress("paper", subject(), 0.5)
    assert done.cloud.sh_degree == 0
    # Decoded values take the same again (to a few bytes: quaternions are made unit anew), so nothing went elsewhere.
    assert done.bytes == pytest.approx(len(exgs.encode(done.cloud, settings=PRESETS["paper"])), rel=0.002)


def test_pruning_by_a_score_keeps_the_best_by_it():
    scene = subject()
    done = methods.compress("prune-hits", scene, 0.1)
    best = scene.seen.hits.sort(descending=True).indices[:30].sort().values
    distances = torch.cdist(done.cloud.means, scene.cloud.take(best).means)
    assert distances.min(1).values.max() < 2e-3


def test_scoring_is_not_on_the_clock():
    scene = subject()
    for name, method in methods.METHODS.items():
        assert "seen" in method.needs, name
        if "merge" in name or "default" in name or name == "best":
            assert "prepared" in method.needs
    scene = replace(scene, report=lambda fraction, text: looks.append(text))
    looks: list[str] = []
    methods.compress("prune-weight", scene, 0.1)
    looked = len(looks)
    methods.compress("prune-weight", scene, 0.2)
    assert looked and len(looks) == looked


def test_lightgs_takes_the_bytes_of_its_floats():
    for name, each in (("lightgs", 68), ("lightgs-sh", 248), ("lightgs-refined", 248)):
        assert methods.compress(name, subject(), 0.1).bytes == 30 * each


def test_presets_are_methods_of_the_same_name():
    assert set(PRESETS) <= set(methods.METHODS)


def test_uncoded_is_nearer_to_the_scene_than_coded():
    scene, camera = subject(), look_at((0, 0, -2.5), (0, 0, 0), (0, -1, 0))
    uncut = scene.renderer.render(scene.cloud.with_sh_degree(0), camera, (96, 72), RenderSettings()).color
    clouds = [methods.compress(name, scene, 1.0).cloud for name in ("paper-uncoded", "paper")]
    exact, coded = (scene.renderer.render(cloud, camera, (96, 72), RenderSettings()).color for cloud in clouds)
    assert torch.allclose(exact, uncut, atol=1e-5)
    assert 0 < (coded - uncut).abs().mean() < 0.01


def test_an_unknown_method_lists_those_there_are():
    with pytest.raises(ExgsError, match="did you mean 'paper'"):
        methods.find("papper")
