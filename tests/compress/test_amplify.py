"""Adaptive amplification: what the network reads does not depend on where a scene lies, and what it answers helps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from exgs_viewer import networks
from exgs_viewer.compress.amplify import Amplifier, Growth, find_amplifier, grown, load_amplifier, write_amplifier
from exgs_viewer.compress.guard import quality, take_exam
from exgs_viewer.compress.neighbours import LEAF
from exgs_viewer.compress.pruning import STRENGTHS, Pruned, Pruning, guarded, peak, prune
from exgs_viewer.compress.scores import measure, score
from exgs_viewer.compress.select import rank
from exgs_viewer.compress.surroundings import ALONG, LIMIT, SHARED, Matter, Surroundings, look_around
from exgs_viewer.errors import WeightsError
from exgs_viewer.metrics import psnr
from exgs_viewer.render import Significance, open_renderer
from exgs_viewer.scene import DEMO, open_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings, RenderSettings
from tests.conftest import random_cloud


def seen_alike(cloud: GaussianCloud, seed: int = 0) -> Significance:
    """As if views had seen it, at random."""
    values = torch.rand(5, len(cloud), generator=torch.Generator().manual_seed(seed))
    return Significance(values[0], values[1] * 10, values[2], values[1] * 10 + values[3], values[4] * 100)


def surroundings(cloud: GaussianCloud, count: int, seed: int = 0) -> Surroundings:
    return look_around(cloud, Matter.of(cloud, seen_alike(cloud, seed)), torch.arange(count))


def stirred(seed: int = 1) -> Amplifier:
    """A network that answers something."""
    torch.manual_seed(seed)
    amplifier = Amplifier()
    for value in amplifier.parameters():
        torch.nn.init.normal_(value, std=0.4)
    return amplifier


def turned(cloud: GaussianCloud) -> GaussianCloud:
    """The cloud elsewhere, 7 times as large, the other way round."""
    a = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7, 0.4]), dim=0)
    w, x, y, z = a.tolist()
    matrix = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    b = cloud.quats
    quats = torch.stack(
        [
            w * b[:, 0] - x * b[:, 1] - y * b[:, 2] - z * b[:, 3],
            w * b[:, 1] + x * b[:, 0] + y * b[:, 3] - z * b[:, 2],
            w * b[:, 2] - x * b[:, 3] + y * b[:, 0] + z * b[:, 1],
            w * b[:, 3] + x * b[:, 2] - y * b[:, 1] + z * b[:, 0],
        ],
        1,
    )
    means = 7 * cloud.means @ matrix.T + torch.tensor([3.0, -8.0, 5.0])
    return cloud.replaced(means=means, scales=7 * cloud.scales, quats=quats)


def test_features_do_not_depend_on_the_turn():
    cloud = random_cloud(500)
    # As few as fit into one leaf of the tree: there neighbours are exact, and not only to 10 %.
    here, there = surroundings(cloud, LEAF), surroundings(turned(cloud), LEAF)
    assert_close(here.shared, there.shared, atol=2e-3, rtol=0)
    assert_close(here.along, there.along, atol=2e-3, rtol=0)
    assert_close(here.lost, there.lost, atol=1e-4, rtol=0)


def test_features_do_not_depend_on_place_and_size():
    cloud = random_cloud(2000)
    moved = cloud.replaced(means=8 * cloud.means + 0.25, scales=8 * cloud.scales)
    here, there = surroundings(cloud, 300), surroundings(moved, 300)
    assert_close(here.shared, there.shared, atol=2e-3, rtol=0)
    assert_close(here.along, there.along, atol=2e-3, rtol=0)


def test_the_more_was_dropped_the_more_is_lost():
    cloud = random_cloud(600)
    matter = Matter.of(cloud, seen_alike(cloud))
    lost = [look_around(cloud, matter, torch.arange(count)).lost[:60].mean() for count in (600, 300, 120, 60)]
    assert lost[0] == 0 and lost == sorted(lost)


def test_the_order_of_the_axes_is_no_matter():
    around, amplifier = surroundings(random_cloud(300), 50), stirred()
    swapped = Surroundings(around.shared, around.along[:, [2, 0, 1]], around.lost)
    one, other = amplifier.predict(around), amplifier.predict(swapped)
    assert_close(one.scales[:, [2, 0, 1]], other.scales)
    assert_close(one.opacities, other.opacities)


def test_features_come_in_the_order_of_what_is_kept():
    cloud = random_cloud(300)
    matter = Matter.of(cloud, seen_alike(cloud))
    kept = torch.randperm(300, generator=torch.Generator().manual_seed(3))[:80]
    one, other = look_around(cloud, matter, kept), look_around(cloud, matter, kept.flip(0))
    assert_close(one.shared.flip(0), other.shared, atol=1e-2, rtol=0.5)
    assert_close(one.shared[:, 6].flip(0), other.shared[:, 6])


def test_the_dropped_weight_is_shared_out_whole():
    """log1p of the dropped weight over the own one, undone and summed, is all that was dropped."""
    cloud = random_cloud(400)
    matter = Matter.of(cloud, seen_alike(cloud))
    ratio = look_around(cloud, matter, torch.arange(100)).shared[:, 0].double().expm1().numpy()
    unlimited = ratio < math.expm1(LIMIT) * 0.99
    dropped = matter.weight[100:]
    wanted = dropped[dropped >= 0.01 * dropped.mean()].sum()
    assert unlimited.all()
    assert (ratio * matter.weight[:100]).sum() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_tiny_scenes_have_features_too(count):
    for kept in {1, count}:
        around = surroundings(random_cloud(count), kept)
        assert around.shared.shape == (kept, SHARED) and around.along.shape == (kept, 3, ALONG)
        for values in (around.shared, around.along, around.lost):
            assert values.isfinite().all()


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_what_nobody_saw_and_what_lies_far_has_features_too(far):
    cloud = random_cloud(50)
    cloud = cloud.replaced(means=cloud.means * (1 + far))
    nothing = Significance(*torch.zeros(5, 50))
    around = look_around(cloud, Matter.of(cloud, nothing), torch.arange(10))
    assert around.shared.isfinite().all() and around.along.isfinite().all() and around.shared.abs().max() <= LIMIT


def test_a_fresh_network_changes_nothing():
    cloud = random_cloud(200)
    growth = Amplifier().predict(surroundings(cloud, 40))
    kept = cloud.take(slice(0, 40))
    same = grown(kept, growth)
    assert torch.equal(same.scales, kept.scales) and torch.equal(same.opacities, kept.opacities)


def test_where_nothing_was_dropped_no_network_changes_anything():
    cloud = random_cloud(200)
    same = grown(cloud, stirred().predict(surroundings(cloud, 200)))
    assert torch.equal(same.scales, cloud.scales) and torch.equal(same.opacities, cloud.opacities)


def test_growth_is_bounded_and_leaves_a_valid_cloud():
    cloud = random_cloud(300)
    cloud = cloud.replaced(opacities=cloud.opacities.round(decimals=1))  # 0 and 1 among them.
    amplifier = stirred()
    torch.nn.init.normal_(amplifier.last.weight, std=100)
    changed = grown(cloud.take(slice(0, 50)), amplifier.predict(surroundings(cloud, 50)))
    factor = changed.scales / cloud.scales[:50]
    assert factor.max() <= 4.001 and factor.min() >= 0.249
    assert changed.opacities.min() >= 0 and changed.opacities.max() <= 1


def test_opacities_move_by_their_logits():
    cloud = random_cloud(100)
    shift = torch.linspace(-4, 4, 100)
    changed = grown(cloud, Growth(torch.zeros(100, 3), shift))
    wanted = torch.sigmoid(torch.logit(cloud.opacities.double()) + shift)
    assert_close(changed.opacities.double(), wanted, atol=1e-6, rtol=1e-5)


def test_the_network_is_read_as_it_was_written(tmp_path):
    amplifier, around = stirred(), surroundings(random_cloud(100), 30)
    write_amplifier(tmp_path, amplifier, {"step": 7})
    read = load_amplifier(tmp_path)
    assert torch.equal(read.predict(around).scales, amplifier.predict(around).scales)
    assert json.loads((tmp_path / networks.CONFIG).read_text())["about"] == {"step": 7}


def test_missing_and_foreign_weights_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "resource", lambda *parts: tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="adaptive amplification"):
        find_amplifier()
    write_amplifier(tmp_path / "a", stirred(), {})
    for change, words in (({"version": 9}, "another version"), ({"hidden": 16}, "another network")):
        config = {**json.loads((tmp_path / "a" / networks.CONFIG).read_text()), **change}
        folder = tmp_path / words.replace(" ", "-")
        write_amplifier(folder, stirred(), {})
        (folder / networks.CONFIG).write_text(json.dumps(config))
        with pytest.raises(WeightsError, match=words):
            load_amplifier(folder)


@pytest.fixture(scope="module")
def demo() -> tuple:
    """A part of the demo room, its order by the paper's score, views and what they see."""
    scene, renderer = open_scene(DEMO), open_renderer("cpu")
    eye = (0.0, -1.3, 0.0)
    views = [look_at(eye, (math.cos(a), -1.2, math.sin(a)), (0, -1, 0)) for a in np.linspace(0, 2 * math.pi, 7)[:6]]
    cloud = scene.cloud.with_sh_degree(0)
    seen = measure(cloud, renderer, views)
    return cloud, rank(cloud, score(cloud, seen)), seen, views, renderer


def test_the_shipped_network_improves_the_demo_room(demo):
    cloud, order, seen, views, renderer = demo
    settings = CompressionSettings(keep=0.1, reduction="prune")
    amplified = prune(Pruning.of(cloud, seen, views, order), settings)
    camera = look_at((0.4, -1.5, 0.3), (2.0, -1.0, 1.5), (0, -1, 0))
    clouds = (cloud, amplified.cloud(0.0), amplified.cloud())
    whole, plain, better = (renderer.render(c, camera, (320, 240), RenderSettings()).color for c in clouds)
    assert psnr(better, whole) > psnr(plain, whole) + 0.5
    exam = take_exam(cloud, views, 0, renderer)
    chosen, mark = guarded(amplified, renderer, exam)
    assert mark >= quality(amplified.cloud(), renderer, exam)
    assert_close(chosen.scales, amplified.cloud(0.95).scales, rtol=0.05, atol=0)


def test_the_guard_takes_nothing_that_is_worse(demo):
    cloud, order, seen, views, renderer = demo
    settings = CompressionSettings(keep=0.1, reduction="prune")
    amplified = prune(Pruning.of(cloud, seen, views, order), settings)
    wrong = Pruned(amplified.kept, Growth(torch.full_like(amplified.growth.scales, 1.3), torch.zeros(1)))
    chosen, _ = guarded(wrong, renderer, take_exam(cloud, views, 0, renderer))
    assert torch.equal(chosen.scales, amplified.kept.scales)


@given(st.floats(0, 1), st.floats(0.1, 100), st.floats(-50, 50))
def test_the_peak_of_a_parabola_is_found_between_the_places(top, bend, height):
    places = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert peak(places, [height - bend * (place - top) ** 2 for place in places]) == pytest.approx(top, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([1, 2, 3, 4, 5], 1.0),
        ([5, 4, 3, 2, 1], 0.0),
        ([2, 2, 2, 2, 2], 0.0),
        ([5, 1, 0, 1, 4], 0.0),
        ([0, 1, 3, 6, 9], 1.0),
    ],
)
def test_without_a_peak_between_them_the_best_place_is_taken(values, place):
    assert peak((0.0, 0.25, 0.5, 0.75, 1.0), values) == place


def test_the_guard_finds_a_strength_between_those_it_compares(demo):
    cloud, order, seen, views, renderer = demo
    settings = CompressionSettings(keep=0.1, reduction="prune")
    amplified = prune(Pruning.of(cloud, seen, views, order), settings)
    strong = Pruned(amplified.kept, amplified.growth.by(1.6))
    exam = take_exam(cloud, views, 0, renderer)
    chosen, psnr = guarded(strong, renderer, exam)
    assert psnr > max(quality(strong.cloud(share), renderer, exam) for share in STRENGTHS)
    assert psnr == pytest.approx(quality(chosen, renderer, exam), abs=1e-4)
