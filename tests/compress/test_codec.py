"""The size read-out: near the real size at once, and on it where something has been encoded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from exgs_viewer.compress import codec
from exgs_viewer.compress.codec import SizeModel, anchor_counts, anchored, cached_size, size_model, unfinished
from exgs_viewer.compress.rounding import settled
from exgs_viewer.errors import Cancelled
from exgs_viewer.scene import open_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.exgs import encode
from exgs_viewer.settings import CompressionSettings, Report
from tests.conftest import random_cloud

WINDOW = CompressionSettings()
"""What the window estimates: how finely it rounds follows from the retention."""
MODEL = SizeModel(counts=(100, 1000, 10_000), rates=((20.0, 18.0, 16.0), (9.0, 9.0, 9.0)))


def walls(n: int, sh_degree: int = 0) -> GaussianCloud:
    """Six walls of different colour and grain around the origin, most important first: like a scene, unlike a ball."""
    generator = torch.Generator().manual_seed(3)
    cloud = random_cloud(n, sh_degree=sh_degree)
    wall = torch.randint(0, 6, (n,), generator=generator)
    means = torch.rand(n, 3, generator=generator) * 4 - 2
    means[torch.arange(n), wall % 3] = (wall // 3 * 4 - 2) + torch.randn(n, generator=generator) * 0.01
    scales = cloud.scales * (1 + wall[:, None]) * torch.tensor([1.0, 1.0, 0.1])
    sh = cloud.sh * (1 / 64)
    sh[:, 0] += (wall[:, None] * torch.tensor([0.2, -0.1, 0.3])).sin()
    order = (cloud.opacities * scales.prod(1)).argsort(descending=True)
    return cloud.replaced(means=means, scales=scales, sh=sh.round(decimals=2)).take(order)


def error(model: SizeModel, ranked: GaussianCloud, share: float, degree: int, settings=WINDOW) -> float:
    count, settings = round(share * len(ranked)), settled(replace(settings, keep=share), model.gaps)
    kept = ranked.take(slice(0, count)).with_sh_degree(degree)
    return model.bytes(count, degree) / len(encode(kept, settings=settings)) - 1


@pytest.fixture
def small_samples(monkeypatch):
    """Sampling as in a scene of millions, on tens of thousands."""
    monkeypatch.setattr(codec, "SAMPLE", 1 << 13)
    monkeypatch.setattr(codec, "RUN", 1 << 10)
    monkeypatch.setattr(codec, "HEADER", 100)


CODECS = [CompressionSettings(codec=codec) for codec in ("float16", "compact", "paper")]


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("settings", CODECS, ids=lambda settings: settings.codec)
def test_the_estimate_is_within_three_percent_of_the_real_size(settings):
    ranked = walls(25_000, sh_degree=1)
    model = size_model(ranked, settings=settings)
    for share in (0.1, 0.5):
        for degree in (0, 1):
            assert abs(error(model, ranked, share, degree, settings)) < 0.03, (share, degree)


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("gaps", [(7.0, 1.0), (14.0, 10.0), (20.0, 15.0)])
def test_the_estimate_is_as_near_where_the_scene_says_how_coarsely(gaps):
    ranked = walls(25_000, sh_degree=1)
    model = size_model(ranked, settings=WINDOW).settled(gaps)
    for share in (0.1, 0.5):
        for degree in (0, 1):
            assert abs(error(model, ranked, share, degree)) < 0.03, (share, degree)


def test_what_was_encoded_before_the_scene_was_asked_is_forgotten():
    model = MODEL.learned(1000, 0, 18_900).settled((15.0, 9.0))
    assert model.bytes(1000) == MODEL.bytes(1000) and model.gaps == (15.0, 9.0)


def test_anchors_take_whatever_cloud_stands_for_a_count():
    """Merging makes other Gaussians of the scene than its first ones."""
    asked = []

    def merged(count, report):
        report(0.5, "")
        asked.append(count)
        return len(encode(random_cloud(count, seed=9, sh_degree=0)))

    told = []
    model = anchored(MODEL, merged, (200, 700), 0, lambda share, words: told.append((share, words)))
    assert asked[:3] == [200, 700, 374] and [share for share, _ in told[:3]] == [0.125, 0.375, 0.75]
    shares, words = zip(*told, strict=True)
    assert list(shares) == sorted(shares) and set(words) == {codec.WORDS}
    assert all(model.bytes(count) == len(encode(random_cloud(count, seed=9, sh_degree=0))) for count in asked)


def test_between_anchors_it_looks_where_the_estimate_is_astray_and_nowhere_else():
    """A step at 5,000 is found, a curve as the samples have it asks for the middle of each way only."""
    asked = []

    def stepped(count, _):
        asked.append(count)
        return round(MODEL.bytes(count) * (1.05 if count > 5000 else 1.0))

    model = anchored(MODEL, stepped, (10_000, 1000, 100), 0)
    assert len(set(asked)) == len(asked) and {100, 316, 1000, 3162, 10_000} <= set(asked)
    assert all(count > 1700 for count in asked[5:]) and 5 < len(asked) < 15
    off = [abs(model.bytes(count) / stepped(count, None) - 1) for count in (100, 200, 500, 2000, 4000, 6000, 8000)]
    assert max(off) < 0.005


def test_finished_files_are_all_as_much_larger_than_bare_cuts():
    model = anchored(MODEL, lambda count, _: round(MODEL.bytes(count) * 1.02), (100, 1000, 10_000), 0)
    model = model.learned(1000, 0, round(MODEL.bytes(1000) * 1.05))
    assert model.bytes(5000) == pytest.approx(MODEL.bytes(5000) * 1.05, rel=1e-3)
    model = model.learned(5000, 0, round(MODEL.bytes(5000) * 1.03))
    assert model.bytes(5000) == pytest.approx(MODEL.bytes(5000) * 1.03, rel=1e-4)
    assert MODEL.bytes(2000) * 1.035 < model.bytes(2000) < MODEL.bytes(2000) * 1.045


def finishing(times):
    """The shares of 100,000 that are finished one after another where finished files are times(share) as large."""
    model, shares = MODEL, []
    while (share := unfinished(model, 100_000, 0)) is not None:
        shares.append(share)
        count = round(share * 100_000)
        model = model.learned(count, 0, round(MODEL.bytes(count) * times(share)))
    return model, shares


def test_few_finished_files_are_enough_where_they_say_the_same():
    model, shares = finishing(lambda share: 1 + 0.01 * math.log10(share))
    assert shares == list(codec.FINISHED)
    for share in (0.013, 0.07, 0.2, 0.5):
        count = round(share * 100_000)
        assert model.bytes(count) == pytest.approx(MODEL.bytes(count) * (1 + 0.01 * math.log10(share)), rel=5e-4)


def test_more_are_finished_beside_one_that_says_something_else():
    def stepped(share):
        return 1.02 if share > 0.15 else 1.0

    model, shares = finishing(stepped)
    more = shares[len(codec.FINISHED) :]
    assert 2 <= len(more) <= codec.MOST_FINISHED - len(codec.FINISHED) and len(set(shares)) == len(shares)
    assert all(0.03 < share < 0.6 for share in more) and any(0.12 < share < 0.2 for share in more)
    for share in (0.02, 0.05, 0.25, 0.5):
        count = round(share * 100_000)
        assert model.bytes(count) == pytest.approx(MODEL.bytes(count) * stepped(share), rel=0.005)


def test_where_the_slider_has_rested_nothing_is_finished_again():
    model = MODEL.learned(10_400, 0, MODEL.bytes(10_400)).learned(2900, 0, MODEL.bytes(2900))
    assert unfinished(model, 100_000, 0) == 0.3
    assert unfinished(model, 100_000, 1) == 0.1, "of another degree nothing is known"


def test_a_finished_size_is_measured_once_for_a_scene_and_its_settings(monkeypatch):
    cloud, other, calls = random_cloud(50, seed=1), random_cloud(50, seed=2), []

    def size(cloud, settings, cameras=()):
        return cached_size(cloud, cameras, settings, lambda: calls.append(settings) or 1000 + len(calls))

    assert [size(cloud, WINDOW), size(cloud, WINDOW)] == [1001, 1001]
    assert size(random_cloud(50, seed=1), WINDOW) == 1001, "content counts"
    assert size(cloud, replace(WINDOW, keep=0.2)) == 1002 and size(other, WINDOW) == 1003
    assert size(cloud, WINDOW, (look_at((0, 0, -3), (0, 0, 0), (0, -1, 0)),)) == 1004
    with monkeypatch.context() as patch:
        patch.setattr("exgs_viewer.compress.codec.networks_in_use", lambda: "others")
        assert size(cloud, WINDOW) == 1005
        assert size(cloud, replace(WINDOW, amplify="constant")) == 1006
    assert (size(cloud, WINDOW), size(cloud, replace(WINDOW, amplify="constant"))) == (1001, 1006)


def test_a_size_that_was_not_found_is_not_remembered():
    def stopped():
        raise Cancelled("finish")

    cloud = random_cloud(50, seed=3)
    with pytest.raises(Cancelled):
        cached_size(cloud, (), WINDOW, stopped)
    assert cached_size(cloud, (), WINDOW, lambda: 7) == 7


def test_anchors_begin_where_the_slider_is_likely_to_be():
    counts = anchor_counts(1_000_000)
    assert counts[0] == 100_000 and min(counts) == 10_000 and max(counts) == 1_000_000
    assert anchor_counts(1) == (1,)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("settings", CODECS[:2], ids=lambda settings: settings.codec)
def test_amplification_is_part_of_the_estimate(settings, factor):
    ranked = walls(20_000)
    plain, amplified = (
        len(encode(ranked.replaced(scales=ranked.scales * f), settings=settings)) for f in (1.0, factor)
    )
    model = size_model(ranked, settings=settings).learned(20_000, 0, plain)
    assert abs(model.bytes(20_000, 0, factor) / amplified - 1) < 0.01
    assert model.learned(20_000, 0, amplified, factor).bytes(20_000, 0, factor) == amplified


def test_a_cloud_that_fits_into_one_sample_is_estimated_by_encoding_it(monkeypatch):
    monkeypatch.setattr(codec, "HEADER", 156)  # Of a file without metadata.
    ranked = walls(5_000)
    settings = replace(WINDOW, quality="default")  # Left open, it is exact where a scene has been asked.
    model = size_model(ranked, settings=settings)
    assert all(abs(error(model, ranked, share, 0, settings)) < 0.01 for share in (0.15, 0.45, 1.0))


def test_the_estimate_has_no_degrees_that_the_cloud_has_not():
    model = size_model(random_cloud(300, sh_degree=1))
    assert model.bytes(300, 3) == model.bytes(300, 1) > model.bytes(300, 0)


def test_a_single_gaussian_has_a_size():
    assert 0 < size_model(random_cloud(1)).bytes(1) < 1000


def test_sizes_are_interpolated_between_the_samples():
    assert MODEL.bytes(1000) == 18_000 + codec.HEADER
    assert MODEL.bytes(1000, 1) == 27_000 + codec.HEADER
    assert MODEL.bytes(5000) - codec.HEADER == pytest.approx(5000 * 16.6, rel=0.01)
    assert MODEL.bytes(20_000) == 320_000 + codec.HEADER


def test_what_was_encoded_is_known_exactly_and_carries_its_neighbours_along():
    model = MODEL.learned(1000, 0, 18_900)
    assert model.bytes(1000) == 18_900
    assert model.bytes(1100) / MODEL.bytes(1100) == pytest.approx(18_900 / MODEL.bytes(1000), rel=1e-3)
    assert model.bytes(1000, 1) == MODEL.bytes(1000, 1)
    assert model.learned(1000, 0, 17_000).bytes(1000) == 17_000
    assert model.learned(2000, 0, 50_000).bytes(1000) == 18_900


def test_what_was_learned_of_a_degree_the_cloud_has_not_counts_for_the_highest_it_has():
    assert MODEL.learned(1000, 3, 30_000).bytes(1000, 1) == 30_000


def test_cancelling_stops_the_estimate():
    def report(fraction, text):
        assert text
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        size_model(walls(3_000), report)


@pytest.mark.shared
def test_the_estimate_is_within_three_percent_on_a_real_room(scenes):
    cloud = open_scene(scenes / "lab_corner").cloud
    order = (cloud.opacities * cloud.scales.prod(1) ** (1 / 3)).argsort(descending=True)
    ranked = cloud.take(order).with_sh_degree(1)
    model = size_model(ranked, settings=WINDOW)
    for share, degree in ((0.02, 0), (0.1, 0), (0.1, 1), (0.4, 0)):
        assert abs(error(model, ranked, share, degree)) < 0.03, (share, degree)


@pytest.mark.shared
@pytest.mark.parametrize("gaps", [None, (0.0, -5.0), (9.0, 4.0), (15.0, 12.0)])
def test_the_estimate_is_near_once_anchors_are_encoded(scenes, gaps):
    cloud = open_scene(scenes / "lab_corner").cloud.with_sh_degree(0)
    ranked = cloud.take((cloud.opacities * cloud.scales.prod(1) ** (1 / 3)).argsort(descending=True))

    def size_at(count: int, _: Report) -> int:
        settings = settled(replace(WINDOW, keep=count / len(ranked)), gaps)
        return len(encode(ranked.take(slice(0, count)), settings=settings))

    model = size_model(ranked, settings=WINDOW).settled(gaps)
    model = anchored(model, size_at, anchor_counts(len(ranked)), 0)
    for share in (0.0225, 0.033, 0.055, 0.065, 0.085, 0.12, 0.16, 0.26, 0.3, 0.45, 0.7, 0.9):
        assert abs(error(model, ranked, share, 0)) < 0.005, share
