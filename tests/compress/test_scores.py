import pytest
import torch

from exgs_viewer.compress import scores
from exgs_viewer.errors import Cancelled
from exgs_viewer.render import Significance
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import user_folder
from tests.conftest import random_cloud


class CountingRenderer:
    """Says that only the first half of the Gaussians was seen, and counts how often it was asked."""

    calls = 0

    def significance(self, cloud, cameras, size, report):
        self.calls += 1
        hits = torch.arange(len(cloud), 0, -1).float()
        hits[len(cloud) // 2 :] = 0
        return Significance(hits, hits, hits)


CAMERAS = [look_at((0, 0, -3), (0, 0, 0), (0, -1, 0))]


def test_what_nobody_saw_ranks_below_everything_seen_but_not_equal(cloud):
    significance = scores.score(cloud, CountingRenderer(), CAMERAS)
    half = len(cloud) // 2
    assert significance[half:].max() < significance[:half].min()
    assert significance[half:].min() > 0
    assert len(significance[half:].unique()) > half // 2


def test_a_cloud_nobody_saw_is_still_ranked(cloud):
    class Blind(CountingRenderer):
        def significance(self, cloud, cameras, size, report):
            return Significance(*(torch.zeros(len(cloud)),) * 3)

    assert (scores.score(cloud, Blind(), CAMERAS) > 0).all()


def test_the_same_scene_is_scored_once(cloud):
    renderer = CountingRenderer()
    first = scores.cached_score(cloud, renderer, CAMERAS)
    second = scores.cached_score(cloud, renderer, CAMERAS)
    assert renderer.calls == 1
    assert first.equal(second)


def test_another_scene_or_other_views_are_scored_again(cloud):
    renderer = CountingRenderer()
    scores.cached_score(cloud, renderer, CAMERAS)
    scores.cached_score(random_cloud(len(cloud), seed=5), renderer, CAMERAS)
    scores.cached_score(cloud, renderer, [look_at((1, 0, -3), (0, 0, 0), (0, -1, 0))])
    assert renderer.calls == 3


def test_a_damaged_cache_file_is_scored_again(cloud):
    renderer = CountingRenderer()
    first = scores.cached_score(cloud, renderer, CAMERAS)
    (file,) = (user_folder() / "scores").glob("*.npy")
    file.write_bytes(file.read_bytes()[:-5])
    assert scores.cached_score(cloud, renderer, CAMERAS).equal(first)
    assert renderer.calls == 2


def test_a_full_disk_costs_only_the_memory(cloud, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scores, "write_atomically", full)
    renderer = CountingRenderer()
    first, second = (scores.cached_score(cloud, renderer, CAMERAS) for _ in range(2))
    assert first.equal(second) and renderer.calls == 2


def test_old_scores_are_forgotten(monkeypatch):
    monkeypatch.setattr(scores, "CACHE_FILES", 3)
    for seed in range(5):
        scores.cached_score(random_cloud(20, seed), CountingRenderer(), CAMERAS)
    assert len(list((user_folder() / "scores").glob("*.npy"))) == 3


def test_cancelling_leaves_no_scores_behind(cloud):
    def report(fraction, text):
        raise Cancelled

    with pytest.raises(Cancelled):
        scores.cached_score(cloud, CountingRenderer(), CAMERAS, report)
    assert not (user_folder() / "scores").exists()
