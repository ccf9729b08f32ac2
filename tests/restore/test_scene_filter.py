"""The filter of a compressed scene: what it learns, when it keeps out, how it is stored."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from exgs_viewer import metrics
from exgs_viewer.restore import open_restorer, scene_filter
from exgs_viewer.restore.inpaint import filled
from exgs_viewer.restore.scene_filter import KEY, TERMS, SceneFilter, SceneRestorer, change, fit, from_meta
from exgs_viewer.scene import exgs
from exgs_viewer.settings import RestoreSettings
from tests.conftest import drawn, random_cloud

FULL = RestoreSettings(restorer="scene")
HEIGHT, WIDTH = 48, 72


def pictured(seed, background=(0.0, 0.0, 0.0)):
    """Smooth colours with some texture, over `background`, with a hole on the left."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 9, generator=random)
    color = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic")[0].permute(1, 2, 0)
    color = 0.15 + 0.6 * color.clamp(0, 1) + 0.05 * torch.rand(HEIGHT, WIDTH, 1, generator=random)
    alpha = torch.ones(HEIGHT, WIDTH)
    alpha[:, :12] = torch.linspace(0, 1, 12)
    return drawn(color * alpha[..., None] + (1 - alpha[..., None]) * torch.tensor(background), alpha, background)


def pairs(uncut_of, seeds):
    outputs = [pictured(seed) for seed in seeds]
    return [(output, uncut_of(output, seed)) for output, seed in zip(outputs, seeds, strict=True)]


def planted(seed=3, size=0.03):
    random = torch.Generator().manual_seed(seed)
    return SceneFilter(size * torch.randn(TERMS, 3, generator=random))


def psnr(one, other):
    return metrics.psnr(one.clamp(0, 1), other.clamp(0, 1))


def test_a_change_that_it_can_express_is_found_from_pictures_alone():
    hidden = planted()
    study = pairs(lambda output, _: output.color + change(hidden, output), range(12))
    exam = pairs(lambda output, _: output.color + change(hidden, output), range(20, 23))
    fitted = fit(study, exam)
    for output, uncut in pairs(lambda output, _: output.color + change(hidden, output), [40, 41]):
        assert psnr(output.color, uncut) < 35
        assert psnr(SceneRestorer(fitted).restore(output, FULL), uncut) > 55


def test_the_weights_are_those_of_least_squares():
    study = pairs(lambda output, _: output.color * 0.8 + 0.1 * output.color.flip(2), range(6))
    rows, wanted = [], []
    for output, uncut in study:
        terms = torch.cat(scene_filter._raised(scene_filter._layers(output)), 1)[0] * output.alpha
        rows.append(terms.flatten(1).T.double().numpy())
        wanted.append((uncut - output.color).flatten(0, 1).double().numpy())
    best = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)
    unexplained = np.concatenate(rows) @ best[0] - np.concatenate(wanted)
    fitted = fit(study, study)
    ours = np.concatenate([change(fitted, output).flatten(0, 1).numpy() for output, _ in study])
    error = np.square(ours - np.concatenate(wanted)).mean()
    nothing = np.square(np.concatenate(wanted)).mean()
    assert np.square(unexplained).mean() <= error < np.square(unexplained).mean() + 0.02 * nothing


def test_where_pictures_differ_by_chance_they_stay_as_they_are():
    def noisy(output, seed):
        noise = torch.randn(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(100 + seed))
        return (output.color + 0.05 * noise).clamp(0, 1)

    fitted = fit(pairs(noisy, range(4)), pairs(noisy, range(20, 24)))
    assert fitted is None or float(change(fitted, pictured(30)).square().mean().sqrt()) < 0.003


def test_what_holds_only_for_the_pictures_that_teach_is_not_applied():
    brighter, darker = (lambda output, _: output.color * 1.1), (lambda output, _: output.color * 0.9)
    assert fit(pairs(brighter, range(6)), pairs(brighter, range(20, 23))) is not None
    assert fit(pairs(brighter, range(6)), pairs(darker, range(20, 23))) is None


def test_without_pictures_there_is_no_filter():
    assert fit([], pairs(lambda output, _: output.color * 1.1, [1])) is None


def test_nothing_is_added_where_nothing_is_drawn():
    output = pictured(1)
    assert float(output.alpha.min()) == 0
    found = change(planted(), output)
    assert found[output.alpha == 0].abs().max() == 0 and found[output.alpha == 1].abs().mean() > 1e-3


def test_the_background_does_not_matter():
    white = (1.0, 1.0, 1.0)
    assert_close(change(planted(), pictured(1, white)), change(planted(), pictured(1)), rtol=0, atol=1e-5)


def test_strength_blends_and_stale_work_is_dropped():
    output, restorer = pictured(1), SceneRestorer(planted(size=0.005))
    whole, half, none = (
        restorer.restore(output, RestoreSettings(restorer="scene", strength=share)) for share in (1, 0.5, 0)
    )
    assert_close(none, output.color.clamp(0, 1))
    assert_close(half, (output.color + 0.5 * change(restorer.fitted, output)).clamp(0, 1))
    assert (whole - none).abs().max() > 1e-3
    assert restorer.restore(output, FULL, lambda: True) is None


def test_without_a_filter_it_is_the_fill_and_says_so():
    output, restorer = pictured(1), open_restorer("scene")
    assert "no scene filter" in restorer.label and "no scene filter" not in SceneRestorer(planted()).label
    assert_close(restorer.restore(output, FULL), filled(output))


def test_the_file_holds_it_to_the_last_bit(tmp_path):
    cloud, fitted = random_cloud(50), planted()
    exgs.write(tmp_path / "a.exgs", cloud, {"source": "a", **fitted.stored()})
    meta = exgs.read(tmp_path / "a.exgs").meta
    assert torch.equal(from_meta(meta).weights, fitted.weights) and meta["source"] == "a"
    plain = exgs.encode(cloud, {"source": "a"})
    assert (tmp_path / "a.exgs").stat().st_size - len(plain) < 1400


def coded(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


GOOD = coded(np.zeros(TERMS * 3))


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "a string",
        [],
        {},
        {"version": 2, "weights": GOOD},
        {"version": 1},
        {"version": 1, "weights": 3},
        {"version": 1, "weights": "no base64!"},
        {"version": 1, "weights": GOOD[:-8]},
        {"version": 1, "weights": "A"},
        {"version": 1, "weights": coded([np.nan] * TERMS * 3)},
        {"version": 1, "weights": coded([1e30] * TERMS * 3)},
        {"version": 1, "weights": "é" + GOOD},
    ],
)
def test_a_damaged_or_unknown_filter_is_as_good_as_none(entry):
    assert from_meta({KEY: {"version": 1, "weights": GOOD}}) is not None
    assert from_meta({KEY: entry}) is None and from_meta({}) is None
