"""Training after pruning: its gradients against torch's own, and that it brings the scene nearer."""

from __future__ import annotations

import pytest
import torch

from exgs_viewer.compress import recovery
from exgs_viewer.compress.recovery import Recovery, random_views, recover, slope
from exgs_viewer.metrics import ssim
from exgs_viewer.render import open_renderer
from exgs_viewer.render.reference import ReferenceRenderer
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.views import extent
from exgs_viewer.settings import RenderSettings
from tests.conftest import random_cloud

SIZE = (48, 36)
UP = (0, -1, 0)
VIEWS = [look_at(place, (0, 0, 0), UP, 0.8) for place in [(0, 0, -2.5), (2.5, 0, 0), (0, 0, 2.5)]]


@pytest.fixture(autouse=True)
def one_thread():
    """Pictures this small are drawn before a second thread has woken up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(14, 19, 3, generator=generator) * 1.1
    return drawn, torch.rand(14, 19, 3, generator=generator)


def test_the_slope_is_that_of_the_loss(pair):
    drawn, wanted = (picture.double() for picture in pair)

    def loss(picture):
        shown = picture.clamp(0, 1)
        return 0.8 * (shown - wanted).abs().mean() + 0.2 * (1 - ssim(shown, wanted))

    found, step = slope(drawn, wanted), torch.zeros_like(drawn)
    for place in [(3, 4, 0), (9, 12, 2)]:
        step.zero_()[place] = 1e-6
        assert float(found[place]) == pytest.approx(float(loss(drawn + step) - loss(drawn - step)) / 2e-6, abs=1e-8)
    assert (found[drawn > 1] == 0).all()


def test_gradients_by_what_is_trained_are_those_of_torch():
    cloud, camera = random_cloud(40, sh_degree=2), VIEWS[0]
    renderer, generator = open_renderer("cpu"), torch.Generator().manual_seed(2)
    cotangent = torch.randn(*reversed(SIZE), 3, generator=generator)
    found = recovery._by_parameter(cloud, renderer.gradients(cloud, camera, SIZE, lambda _: cotangent), camera)
    leaves = {name: leaf.requires_grad_(True) for name, leaf in recovery._parameters(cloud).items()}
    # Directions are held fixed, as they are in Renderer.gradients.
    drawn = cloud.replaced(
        scales=leaves["scales"].exp(),
        opacities=leaves["opacities"].sigmoid(),
        sh=torch.cat([leaves["constant"], leaves["harmonics"]], dim=1),
    )
    (ReferenceRenderer().render(drawn, camera, SIZE, RenderSettings()).color * cotangent).sum().backward()
    for name in ("scales", "opacities", "constant", "harmonics"):
        expected = leaves[name].grad
        assert torch.allclose(found[name], expected, atol=0.02 * float(expected.abs().max())), name


def test_training_brings_what_was_pruned_nearer_to_the_scene():
    uncut, renderer = random_cloud(300, sh_degree=1), open_renderer("cpu")
    pruned = uncut.take(slice(0, 120))
    trained = recover(pruned, uncut, renderer, VIEWS, Recovery(steps=40, size=SIZE))
    assert len(trained) == 120 and trained.sh_degree == 1

    def apart(cloud):
        pictures = [[renderer.render(c, v, SIZE, RenderSettings()).color for c in (cloud, uncut)] for v in VIEWS]
        return sum(float((a - b).abs().mean()) for a, b in pictures)

    assert apart(trained) < 0.85 * apart(pruned)
    assert torch.allclose(trained.quats.norm(dim=1), torch.ones(120), atol=1e-5)


def test_no_steps_change_nothing():
    cloud = random_cloud(50)
    trained = recover(cloud, cloud, open_renderer("cpu"), VIEWS, Recovery(steps=0, size=SIZE))
    assert torch.allclose(trained.scales, cloud.scales, rtol=1e-5)
    assert torch.allclose(trained.opacities, cloud.opacities, atol=1e-5)


def test_random_views_lie_around_the_given_ones_and_are_the_same_every_time():
    cloud = random_cloud(300)
    views = random_views(VIEWS, cloud, UP, Recovery(views=30))
    assert views == random_views(VIEWS, cloud, UP, Recovery(views=30))
    assert len(set(views)) == 30
    moved = [
        torch.dist(torch.tensor(view.position), torch.tensor(VIEWS[n % 3].position)) for n, view in enumerate(views)
    ]
    assert 0 < max(moved) < 0.2 * extent(cloud)
