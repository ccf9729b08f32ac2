import pytest
import torch

from exgs_viewer.compress import cache, scores
from exgs_viewer.errors import Cancelled
from exgs_viewer.render import Significance
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import user_folder
from tests.conftest import random_cloud


class CountingRenderer:
    """Says that only the first half of the Gaussians was seen, and counts how often it was asked."""

    calls = 0

    def significance(self, cloud, cameras, size, report, album=None):
        self.calls += 1
        hits = torch.arange(len(cloud), 0, -1).float()
        hits[len(cloud) // 2 :] = 0
        return Significance(hits, 0.5 * hits, (0.001 * hits).clamp(max=1), hits, 2 * hits)


CAMERAS = [look_at((0, 0, -3), (0, 0, 0), (0, -1, 0))]
KINDS = ("hits", "weight", "lightgs")


def seen_of(cloud, renderer=None):
    return scores.measure(cloud, renderer or CountingRenderer(), CAMERAS)


def same(first, second):
    return all(getattr(first, name).equal(getattr(second, name)) for name in scores.NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_saw_ranks_below_everything_seen_but_not_equal(cloud, kind):
    significance = scores.score(cloud, seen_of(cloud), kind)
    half = len(cloud) // 2
    assert significance[half:].max() < significance[:half].min()
    assert significance[half:].min() > 0
    assert len(significance[half:].unique()) > half // 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_cloud_nobody_saw_is_still_ranked(cloud, kind):
    blind = Significance(*(torch.zeros(len(cloud)),) * 5)
    assert (scores.score(cloud, blind, kind) > 0).all()


def test_lightgs_counts_pixels_times_opacity_times_a_power_of_the_volume():
    """LightGaussian's calculate_v_imp_score, written out with numpy-like loops over single Gaussians."""
    cloud = random_cloud(50, seed=2)
    seen = Significance(*(torch.arange(1, 51).float(),) * 5)
    volumes = [float(s[0]) * float(s[1]) * float(s[2]) for s in cloud.scales]
    usual = sorted(volumes, reverse=True)[45]
    wanted = [
        pixels * float(opacity) * (volume / usual) ** 0.1
        for pixels, opacity, volume in zip(range(1, 51), cloud.opacities, volumes, strict=True)
    ]
    torch.testing.assert_close(scores.score(cloud, seen, "lightgs"), torch.tensor(wanted), rtol=1e-4, atol=0)


def test_the_same_scene_is_measured_once(cloud):
    renderer = CountingRenderer()
    first = scores.cached_measure(cloud, renderer, CAMERAS)
    second = scores.cached_measure(cloud, renderer, CAMERAS)
    assert renderer.calls == 1 and same(first, second)


def test_another_scene_or_other_views_are_measured_again(cloud):
    renderer = CountingRenderer()
    scores.cached_measure(cloud, renderer, CAMERAS)
    scores.cached_measure(random_cloud(len(cloud), seed=5), renderer, CAMERAS)
    scores.cached_measure(cloud, renderer, [look_at((1, 0, -3), (0, 0, 0), (0, -1, 0))])
    assert renderer.calls == 3


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_cache_file_is_measured_again(cloud, harm):
    renderer = CountingRenderer()
    first = scores.cached_measure(cloud, renderer, CAMERAS)
    (file,) = (user_folder() / "scores").glob("*.bin")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes({"cut": bytes(data[:-5]), "flip": bytes(data), "empty": b""}[harm])
    assert same(scores.cached_measure(cloud, renderer, CAMERAS), first)
    assert renderer.calls == 2


def test_a_full_disk_costs_only_the_memory(cloud, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_atomically", full)
    renderer = CountingRenderer()
    first, second = (scores.cached_measure(cloud, renderer, CAMERAS) for _ in range(2))
    assert same(first, second) and renderer.calls == 2


def test_old_scores_are_forgotten(monkeypatch):
    monkeypatch.setattr(scores, "CACHE_FILES", 3)
    for seed in range(5):
        scores.cached_measure(random_cloud(20, seed), CountingRenderer(), CAMERAS)
    assert len(list((user_folder() / "scores").glob("*.bin"))) == 3


def test_cancelling_leaves_no_scores_behind(cloud):
    def report(fraction, text):
        raise Cancelled

    with pytest.raises(Cancelled):
        scores.cached_measure(cloud, CountingRenderer(), CAMERAS, report)
    assert not (user_folder() / "scores").exists()
