"""The whole way: a cloud goes in, a file comes out, and the file's picture is the one that was promised."""

from __future__ import annotations

import pytest
import torch

from exgs_viewer import pipeline
from exgs_viewer.render import open_renderer
from exgs_viewer.restore import open_restorer
from exgs_viewer.scene import exgs
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import CompressionSettings, RenderSettings, RestoreSettings
from tests.conftest import random_cloud

UP = (0.0, -1.0, 0.0)
CAMERAS = [look_at(place, (0, 0, 0), UP) for place in ((0, 0, -3), (3, 0, 0), (0, 0, 3), (-3, 0, 0))]
SIZE = (160, 120)


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("cpu")


@pytest.fixture(scope="module")
def whole():
    return random_cloud(4000, sh_degree=2)


def compressed(whole, renderer, **settings):
    return pipeline.compress(whole, CompressionSettings(**settings), renderer, CAMERAS)


def error(renderer, first, second):
    """Mean squared difference of two clouds' pictures."""
    pictures = [
        pipeline.picture(cloud, CAMERAS[0], SIZE, renderer, RenderSettings()).color for cloud in (first, second)
    ]
    return float((pictures[0] - pictures[1]).square().mean())


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 1.0])
def test_exactly_the_asked_share_is_kept_without_view_dependent_colour(whole, renderer, keep):
    kept = compressed(whole, renderer, keep=keep)
    assert len(kept) == round(4000 * keep) and kept.sh_degree == 0


def test_keeping_everything_with_all_its_colour_changes_nothing_but_the_order(whole, renderer):
    kept = compressed(whole, renderer, keep=1.0, sh_degree=3)
    assert error(renderer, kept, whole) < 1e-10


def test_what_is_kept_matters_more_than_a_random_choice(whole, renderer):
    flat = whole.with_sh_degree(0)
    kept = compressed(whole, renderer, keep=0.3)
    random = flat.take(torch.randperm(4000, generator=torch.Generator().manual_seed(0))[:1200])
    assert error(renderer, kept, flat) < 0.5 * error(renderer, random, flat)


def test_keeping_more_comes_nearer(whole, renderer):
    flat = whole.with_sh_degree(0)
    errors = [error(renderer, compressed(whole, renderer, keep=keep), flat) for keep in (0.05, 0.2, 0.6, 1.0)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-10


def test_amplification_enlarges_what_is_kept_and_nothing_else(whole, renderer):
    plain, larger = (compressed(whole, renderer, keep=0.2, amplification=factor) for factor in (1.0, 1.5))
    assert torch.allclose(larger.scales, 1.5 * plain.scales) and larger.means.equal(plain.means)


def test_the_file_shows_what_was_compressed(whole, renderer):
    kept = compressed(whole, renderer, keep=0.3)
    stored, _ = exgs.decode(exgs.encode(kept), "test")
    assert len(stored) == len(kept) and error(renderer, stored, kept) < 10**-4.4


def test_the_restored_picture_covers_what_the_compressed_one_lacks(whole, renderer):
    kept = compressed(whole, renderer, keep=0.02)
    output = pipeline.picture(kept, CAMERAS[0], SIZE, renderer, RenderSettings())
    restored = pipeline.restore(output, open_restorer("inpaint"), RestoreSettings())
    assert restored.shape == (120, 160, 3) and float(restored.min()) >= 0 and float(restored.max()) <= 1
    assert torch.equal(pipeline.restore(output, open_restorer("inpaint"), RestoreSettings(strength=0.0)), output.color)
