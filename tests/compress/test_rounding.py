"""How coarsely: what a scene's pictures say, and what the settings leave to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exgs_viewer.compress import rounding
from exgs_viewer.compress.rounding import COARSEST, FINEST, MEASURED, RIGHT, cached_gaps, gap, gaps, octaves, settled
from exgs_viewer.compress.scores import SCORING_SIZE
from exgs_viewer.render import open_renderer
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.compact import fineness_for
from exgs_viewer.scene.exgs import stored
from exgs_viewer.settings import PRESETS, CompressionSettings, RenderSettings
from tests.conftest import random_cloud

CAMERAS = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in ((0.4, 0, -3), (3, 0.2, 0), (-3, 0, 0.1))]
DEFAULT = CompressionSettings()


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("cpu")


def drawn(cloud, cameras, renderer):
    return [renderer.render(cloud, each, SCORING_SIZE, RenderSettings(sh_degree=0)).color for each in cameras]


def test_a_scene_that_merges_badly_is_rounded_more_coarsely():
    for keep in (0.01, 0.1, 0.2, 0.5):
        found = [octaves((each, each), keep) for each in (-10.0, 0.0, 6.0, 9.0, 11.5, 13.0, 40.0)]
        assert found == sorted(found) and found[0] == FINEST and found[-1] == COARSEST
        assert octaves(RIGHT, keep) == 0
        assert octaves(tuple(right + rounding.OCTAVE for right in RIGHT), keep) == 1


def test_both_cuts_count_for_the_retentions_between_them():
    gaps = (RIGHT[0] + rounding.OCTAVE, RIGHT[1])
    found = [octaves(gaps, keep) for keep in (0.01, 0.1, 0.1 * 3**0.5, 0.3, 0.9)]
    assert found == [1, 1, 0.5, 0, 0]


def test_what_is_refined_is_rounded_more_finely():
    """Less of the error is left that rounding could hide behind."""
    gaps = tuple(right + rounding.OCTAVE for right in RIGHT)
    for keep in (0.03, 0.1, 0.3):
        assert octaves(gaps, keep, refined=True) == pytest.approx(1 - rounding.REFINED / rounding.OCTAVE, abs=0.005)
    refined = replace(DEFAULT, refine=True)
    assert fineness_for(settled(refined, gaps)).bits > fineness_for(settled(DEFAULT, gaps)).bits


@pytest.mark.parametrize(
    "fixed",
    [
        {"reduction": "prune"},
        {"codec": "float16"},
        {"codec": "paper"},
        {"quality": "small"},
        {"quality": "default"},
        {"coarser": 0.3},
    ],
    ids=str,
)
def test_what_the_settings_say_stays(fixed):
    settings = CompressionSettings(**fixed)
    assert settled(settings, (20.0, 20.0)) == settings


def test_what_they_leave_open_the_scene_says():
    assert settled(DEFAULT, (20.0, 20.0)) == replace(DEFAULT, coarser=COARSEST)
    once = settled(DEFAULT, (20.0, 20.0))
    assert settled(once, (5.0, 5.0)) == once, "settled once and for all"
    assert settled(DEFAULT, None) == DEFAULT and settled(PRESETS["paper"], (20.0, 20.0)) == PRESETS["paper"]
    everything = replace(DEFAULT, keep=1.0)
    assert fineness_for(settled(everything, (30.0, 30.0))) == fineness_for(everything)


def test_finer_rounding_leaves_a_larger_gap(renderer, monkeypatch):
    cloud = random_cloud(3000, sh_degree=1)
    folded = cloud.with_sh_degree(0).take(slice(0, 300))
    uncut = drawn(cloud, CAMERAS, renderer)
    usual = gap(uncut, folded, CAMERAS, renderer)
    monkeypatch.setattr(rounding, "MEASURED", replace(MEASURED, coarser=1.0))
    assert 3 < usual - gap(uncut, folded, CAMERAS, renderer) < 8


def test_each_cut_is_asked_for_itself(renderer):
    """What is left of all but a few Gaussians errs less by merging than what is left of half of them."""
    cloud = random_cloud(3000, sh_degree=0)
    asked = []

    def fold(settings):
        asked.append(settings.keep)
        return cloud.take(slice(0, round(len(cloud) * (0.5 if len(asked) == 1 else 0.99))))

    found = gaps(cloud, fold, CAMERAS, renderer)
    assert asked == [rounding.FEW, rounding.MANY] and found[0] > found[1] + 3
    uncut = drawn(cloud, CAMERAS, renderer)
    assert found[0] == gap(uncut, cloud.take(slice(0, 1500)), CAMERAS, renderer)


def test_where_there_is_nothing_to_compare_nothing_is_said(renderer):
    cloud = random_cloud(400, sh_degree=0)
    away = [look_at((0, 0, -50), (0, 0, -100), (0, -1, 0))]
    uncut, unseen = drawn(cloud, CAMERAS, renderer), drawn(cloud, away, renderer)
    assert gap(uncut, cloud.take(slice(0, 3)), CAMERAS, renderer) is None, "hardly anything is left"
    assert gap(uncut, cloud, CAMERAS, renderer) is None, "merging has changed nothing"
    assert gap(unseen, stored(cloud.take(slice(0, 40)), MEASURED), away, renderer) is None, "nothing is seen"
    cuts = iter((cloud.take(slice(0, 40)), cloud))
    assert gaps(cloud, lambda _: next(cuts), CAMERAS, renderer) is None, "of one cut"


@pytest.mark.parametrize("value", [(12.5, 9.0), None])
def test_gaps_are_measured_once(value, monkeypatch):
    cloud, calls = random_cloud(50), []

    def measure():
        calls.append(1)
        return value

    found = [cached_gaps(cloud, CAMERAS, measure) for _ in range(2)]
    assert found == [value, value] and len(calls) == 1
    cached_gaps(cloud, CAMERAS[:2], measure)
    cached_gaps(cloud.take(slice(0, 49)), CAMERAS, measure)
    monkeypatch.setattr(rounding, "MEASURED", replace(MEASURED, quality="default"))
    cached_gaps(cloud, CAMERAS, measure)
    assert len(calls) == 4, "other views, another scene, other rounding"
