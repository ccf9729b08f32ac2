"""How coarsely: what a scene's pictures say, and what the settings leave to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exgs_viewer.compress import rounding
from exgs_viewer.compress.rounding import COARSEST, FINEST, MEASURED, RIGHT, cached_gap, gap, octaves, settled
from exgs_viewer.render import open_renderer
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.compact import fineness_for
from exgs_viewer.scene.exgs import stored
from exgs_viewer.settings import PRESETS, CompressionSettings
from tests.conftest import random_cloud

CAMERAS = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in ((0.4, 0, -3), (3, 0.2, 0), (-3, 0, 0.1))]
DEFAULT = CompressionSettings()


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("cpu")


def test_a_scene_that_merges_badly_is_rounded_more_coarsely():
    found = [octaves(each, 0.1) for each in (-10.0, 0.0, 9.0, 11.5, 14.0, 16.7, 40.0)]
    assert found == sorted(found) and found[0] == FINEST and found[-1] == COARSEST
    assert octaves(RIGHT, MEASURED.keep) == 0 and octaves(RIGHT + rounding.OCTAVE, MEASURED.keep) == 1


def test_the_fewer_are_kept_the_more_coarsely_they_are_rounded():
    found = [octaves(13.0, keep) for keep in (0.01, 0.05, 0.1, 0.2, 0.4, 1.0)]
    assert found == sorted(found, reverse=True)
    assert octaves(13.0, 0.05) - octaves(13.0, 0.1) == pytest.approx(rounding.DOUBLING / rounding.OCTAVE, abs=0.01)


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
    assert settled(settings, 20.0) == settings


def test_what_they_leave_open_the_scene_says():
    assert settled(DEFAULT, 20.0) == replace(DEFAULT, coarser=COARSEST)
    assert settled(settled(DEFAULT, 20.0), 5.0) == settled(DEFAULT, 20.0), "settled once and for all"
    assert settled(DEFAULT, None) == DEFAULT and settled(PRESETS["paper"], 20.0) == PRESETS["paper"]
    everything = replace(DEFAULT, keep=1.0)
    assert fineness_for(settled(everything, 30.0)) == fineness_for(everything)


def test_finer_rounding_leaves_a_larger_gap(renderer, monkeypatch):
    cloud = random_cloud(3000, sh_degree=1)
    folded = cloud.with_sh_degree(0).take(slice(0, 300))
    usual = gap(cloud, folded, CAMERAS, renderer)
    monkeypatch.setattr(rounding, "MEASURED", replace(MEASURED, coarser=1.0))
    assert 3 < usual - gap(cloud, folded, CAMERAS, renderer) < 8


def test_where_there_is_nothing_to_compare_nothing_is_said(renderer):
    cloud = random_cloud(400, sh_degree=0)
    away = [look_at((0, 0, -50), (0, 0, -100), (0, -1, 0))]
    assert gap(cloud, cloud.take(slice(0, 3)), CAMERAS, renderer) is None, "hardly anything is left"
    assert gap(cloud, cloud, CAMERAS, renderer) is None, "merging has changed nothing"
    assert gap(cloud, stored(cloud.take(slice(0, 40)), MEASURED), away, renderer) is None, "nothing is seen"


@pytest.mark.parametrize("value", [12.5, None])
def test_a_gap_is_measured_once(value, monkeypatch):
    cloud, calls = random_cloud(50), []

    def measure():
        calls.append(1)
        return value

    found = [cached_gap(cloud, CAMERAS, measure) for _ in range(2)]
    assert found == [value, value] and len(calls) == 1
    cached_gap(cloud, CAMERAS[:2], measure)
    cached_gap(cloud.take(slice(0, 49)), CAMERAS, measure)
    monkeypatch.setattr(rounding, "MEASURED", replace(MEASURED, quality="default"))
    cached_gap(cloud, CAMERAS, measure)
    assert len(calls) == 4, "other views, another scene, other rounding"
