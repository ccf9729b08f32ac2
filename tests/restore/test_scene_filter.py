"""The filter of a compressed scene: what it learns, when it keeps out, how it is stored."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from exgs_viewer import metrics
from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import open_restorer, scene_filter
from exgs_viewer.restore.inpaint import filled
from exgs_viewer.restore.scene_filter import KEY, SHAPES, SceneFilter, SceneRestorer, change, fit, from_meta
from exgs_viewer.scene import exgs
from exgs_viewer.settings import RestoreSettings
from tests.conftest import drawn, random_cloud

FULL = RestoreSettings(restorer="scene")
HEIGHT, WIDTH = 48, 72


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(scene_filter, "BATCH", 1024)  # The pictures are small.


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
    """A network of random weights, rounded as stored ones are."""
    random = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=random) * (2 / shape[1]) ** 0.5 for shape in SHAPES]
    biases = [0.1 * torch.randn(rows, generator=random) for rows, _ in SHAPES]
    whole = SceneFilter(1.5, tuple(map(scene_filter._rounded, weights)), tuple(biases))
    return whole.tempered(size)


def psnr(one, other):
    return metrics.psnr(one.clamp(0, 1), other.clamp(0, 1))


def test_a_change_that_it_can_express_is_found_from_pictures_alone():
    hidden = planted(size=0.1)
    study = pairs(lambda output, _: output.color + change(hidden, output), range(12))
    exam = pairs(lambda output, _: output.color + change(hidden, output), range(20, 23))
    fitted = fit(study, exam)
    for output, uncut in pairs(lambda output, _: output.color + change(hidden, output), [40, 41]):
        assert psnr(SceneRestorer(fitted).restore(output, FULL), uncut) > psnr(output.color, uncut) + 12


def test_it_learns_what_no_linear_filter_can():
    def folded(output, _):
        return output.color + 0.2 * (output.color.mean(2, keepdim=True) - 0.45).abs() * output.alpha[..., None]

    study, exam, new = (pairs(folded, seeds) for seeds in (range(12), range(20, 23), [40, 41]))
    fitted = fit(study, exam)
    terms, wanted = zip(*(linear_terms(*pair) for pair in study), strict=True)
    best = np.linalg.lstsq(np.concatenate(terms), np.concatenate(wanted), rcond=None)[0]
    for output, uncut in new:
        rows, missing = linear_terms(output, uncut)
        left = missing - change(fitted, output).flatten(0, 1).numpy()
        assert np.square(left).mean() < 0.5 * np.square(missing - rows @ best).mean()


def linear_terms(output, uncut):
    terms = scene_filter._terms(output, 1.5, torch.arange(HEIGHT * WIDTH)) * output.alpha.flatten()[:, None]
    return terms.numpy(), (uncut - output.color).flatten(0, 1).numpy()


@pytest.mark.parametrize("size", [(48, 72), (37, 51), (5, 3)])
def test_the_folded_network_is_the_one_that_was_taught(size):
    """Enlarging sums instead of terms, and a window instead of differences, against the terms one by one in float64."""
    random, fitted = torch.Generator().manual_seed(1), planted(size=1.0)
    depth = 3 * torch.rand(size, generator=random)
    output = RenderOutput(torch.rand(*size, 3, generator=random), torch.rand(size, generator=random), depth)
    hidden = scene_filter._terms(output, fitted.distance, torch.arange(size[0] * size[1])).double()
    for number, (weight, bias) in enumerate(zip(fitted.weights, fitted.biases, strict=True)):
        hidden = (hidden if number == 0 else hidden.relu()) @ weight.double().T + bias.double()
    expected = hidden.view(*size, 3) * output.alpha[..., None]
    assert_close(change(fitted, output).double(), expected, rtol=0, atol=1e-5)


def described(entry, color, alpha, depth):
    """What EXGS.md says a filter adds to a picture, in float64 and word for word."""
    data, distance = base64.b64decode(entry["weights"]), entry["distance"]
    numbers = np.frombuffer(data, "<f4", 191).astype(float)
    codes = np.split(np.frombuffer(data, np.int8, offset=4 * 191).astype(float), [24 * 92, 24 * 92 + 24 * 24])
    steps, biases = np.split(numbers[:140], [92, 116]), np.split(numbers[140:], [24, 48])
    first, second, third = (code.reshape(-1, len(step)) * step for code, step in zip(codes, steps, strict=True))
    height, width = alpha.shape
    pixels = np.dstack([color, alpha, np.where(depth > 0, distance / (distance + np.maximum(depth, 1e-9)), 0)])
    pixels = np.pad(pixels, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
    around = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = pixels.shape[:2]
    terms, means, edges = [pixels], pixels, []
    terms += [
        around[y : y + rows, x : x + columns] - pixels for y in range(3) for x in range(3) if not (y == 1 and x == 1)
    ]
    for level in range(1, 5):
        finer, means = means, block_means(means)
        edges = [block_means(edge) for edge in edges]
        if level <= 3:
            edges.append(block_means(np.abs(finer[..., :3] - twice(means)[..., :3])))
        raised = np.dstack([means, *edges])
        for _ in range(level):
            raised = twice(raised)
        terms.append(raised)
    hidden = np.maximum(0, np.dstack(terms) @ first.T + biases[0])
    hidden = np.maximum(0, hidden @ second.T + biases[1])
    return (alpha[..., None] * (hidden @ third.T + biases[2])[:height, :width]).astype(np.float32)


def block_means(values):
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4


def twice(values):
    """Bilinearly between the centres of the blocks, the outermost ones repeated."""
    for axis in (0, 1):
        count = values.shape[axis]
        at = np.clip((np.arange(2 * count) + 0.5) / 2 - 0.5, 0, count - 1)
        low = np.minimum(at.astype(int), count - 1)
        share = np.expand_dims(at - low, [other for other in range(3) if other != axis])
        high = np.minimum(low + 1, count - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


@pytest.mark.parametrize("size", [(48, 72), (37, 51), (5, 3)])
def test_a_filter_does_what_the_format_says(size):
    random, fitted = torch.Generator().manual_seed(1), planted(size=1.0)
    color, alpha, depth = (torch.rand(*size, 5, generator=random)).split([3, 1, 1], 2)
    alpha, depth = alpha[..., 0], (3 * depth[..., 0] - 1).clamp(min=0)
    expected = described(fitted.stored()[KEY], color.numpy(), alpha.numpy(), depth.numpy())
    assert_close(change(fitted, RenderOutput(color, alpha, depth)), torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_the_same_pictures_make_the_same_filter():
    study = pairs(lambda output, _: output.color * 0.9, range(4))
    one, other = fit(study, study), fit(study, study)
    assert one.stored() == other.stored()


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


def test_the_file_holds_it_to_the_last_step(tmp_path):
    cloud, fitted = random_cloud(50), planted()
    exgs.write(tmp_path / "a.exgs", cloud, {"source": "a", **fitted.stored()})
    meta = exgs.read(tmp_path / "a.exgs").meta
    found = from_meta(meta)
    assert found.distance == fitted.distance and meta["source"] == "a"
    for ours, read in zip((*fitted.weights, *fitted.biases), (*found.weights, *found.biases), strict=True):
        assert_close(read, ours, rtol=1e-5, atol=0)
    assert found.stored() == fitted.stored()
    plain = exgs.encode(cloud, {"source": "a"})
    assert 0 <= fitted.bytes - ((tmp_path / "a.exgs").stat().st_size - len(plain)) < 16
    assert fitted.bytes < 5000


def entry_of(numbers=None, **changed):
    entry = planted().stored()[KEY]
    if numbers is not None:
        data = bytearray(base64.b64decode(entry["weights"]))
        data[:4] = np.float32(numbers).tobytes()
        entry["weights"] = base64.b64encode(bytes(data)).decode()
    return {**entry, **changed}


GOOD = entry_of()["weights"]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "a string",
        [],
        {},
        entry_of(version=1),
        entry_of(version=3),
        {"version": 2},
        entry_of(weights=3),
        entry_of(weights="no base64!"),
        entry_of(weights=GOOD[:-8]),
        entry_of(weights="A"),
        entry_of(weights="é" + GOOD),
        entry_of(np.nan),
        entry_of(1e30),
        entry_of(distance=0),
        entry_of(distance=-1.0),
        entry_of(distance=float("inf")),
        entry_of(distance="far"),
        entry_of(distance=None),
    ],
)
def test_a_damaged_or_unknown_filter_is_as_good_as_none(entry):
    assert from_meta({KEY: entry_of()}) is not None
    assert from_meta({KEY: entry}) is None and from_meta({}) is None
