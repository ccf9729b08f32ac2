"""The whole way: a cloud goes in, a file comes out, and the file's picture is the one that was promised."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from exgs_viewer import pipeline
from exgs_viewer.compress.amplify import Growth
from exgs_viewer.compress.guard import quality
from exgs_viewer.compress.polish import colors
from exgs_viewer.compress.pruning import Pruned
from exgs_viewer.compress.scores import score
from exgs_viewer.render import open_renderer
from exgs_viewer.restore import open_restorer
from exgs_viewer.scene import exgs
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import PRESETS, CompressionSettings, RenderSettings, RestoreSettings
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
    return pipeline.compress(whole, CompressionSettings(**settings), renderer, CAMERAS).cloud


def error(renderer, first, second, camera=CAMERAS[0]):
    """Mean squared difference of two clouds' pictures."""
    pictures = [pipeline.picture(cloud, camera, SIZE, renderer, RenderSettings()).color for cloud in (first, second)]
    return float((pictures[0] - pictures[1]).square().mean())


@pytest.mark.parametrize("reduction", ["merge", "prune"])
@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 1.0])
def test_exactly_the_asked_share_is_kept_without_view_dependent_colour(whole, renderer, keep, reduction):
    kept = compressed(whole, renderer, keep=keep, reduction=reduction)
    assert len(kept) == round(4000 * keep) and kept.sh_degree == 0


@pytest.mark.parametrize("reduction", ["merge", "prune"])
def test_keeping_everything_with_all_its_colour_changes_nothing_but_the_order(whole, renderer, reduction):
    kept = compressed(whole, renderer, keep=1.0, sh_degree=3, reduction=reduction)
    assert error(renderer, kept, whole) < 1e-10
    assert kept.means.sort(0).values.equal(whole.means.sort(0).values)


@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("degree", [0, 3])
def test_a_handful_of_gaussians_is_compressed_like_any_scene(renderer, n, degree):
    kept = compressed(random_cloud(n), renderer, keep=0.4, sh_degree=degree, refine=True)
    assert len(kept) == max(1, round(0.4 * n)) and kept.sh_degree == degree


def test_a_scene_that_no_view_sees_is_compressed_all_the_same(whole, renderer):
    away = whole.replaced(means=whole.means + torch.tensor([0.0, 500.0, 0.0]))
    kept = compressed(away, renderer, keep=0.05)
    assert len(kept) == 200 and (kept.means.mean(0) - away.means.mean(0)).norm() < 1


def test_merging_comes_nearer_than_dropping(whole, renderer):
    flat = whole.with_sh_degree(0)
    settings = {"keep": 0.1, "amplify": "constant"}
    merged, pruned = (compressed(whole, renderer, reduction=kind, **settings) for kind in ("merge", "prune"))
    assert error(renderer, merged, flat) < 0.3 * error(renderer, pruned, flat)


def test_each_stage_is_better_than_the_one_before(whole, renderer):
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    settings = CompressionSettings(keep=0.1, quality="small", amplify="constant", refine=True)
    stages = list(pipeline.polish(prepared, settings, renderer))
    assert [stage.name for stage in stages] == ["merged", "calibrated", "recoloured", "resized", "refined"]
    marks = [stage.psnr for stage in stages]
    assert marks == sorted(marks) and all(len(stage.cloud) == 400 for stage in stages)


def test_colours_are_solved_again_for_what_is_refined_as_it_is_rounded(whole, renderer, monkeypatch):
    solved, refined = [], []

    def shifted(cloud, renderer, study, report, rates):
        refined.append(cloud.replaced(means=cloud.means + 0.001))
        return refined[-1]

    monkeypatch.setattr(pipeline, "refine", shifted)
    monkeypatch.setattr(pipeline, "colors", lambda cloud, *_: solved.append(cloud) or cloud)
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    settings = CompressionSettings(keep=0.1, quality="small", amplify="constant", refine=True)
    *_, last = pipeline.polish(prepared, settings, renderer)
    assert len(refined) == 2 and len(solved) == 3
    for cloud, asked in zip(refined, solved[1:], strict=True):
        assert torch.equal(asked.means, exgs.stored(cloud, last.settings).means)
        assert torch.equal(asked.sh, cloud.sh)


def test_what_is_judged_and_shown_is_what_the_file_will_hold(whole, renderer):
    settings = CompressionSettings(keep=0.1)
    for stage in pipeline.polish(pipeline.prepare(whole, renderer, CAMERAS), settings, renderer):
        found, _ = exgs.decode(exgs.encode(stage.cloud, settings=stage.settings), "x")
        # Not along an axis: there places on a grid lie equally deep, and the order in the file decides.
        aslant = look_at((1.3, -0.7, -2.6), (0, 0, 0), UP)
        assert error(renderer, stage.shown, found, aslant) < 0.001 * error(renderer, stage.cloud, found, aslant)


def test_the_scene_says_how_coarsely_it_is_rounded(whole, renderer):
    """Where merging errs much, as in few of a ball of unlike Gaussians, numbers need not be fine; in many they must."""
    prepared, times = pipeline.prepare(whole, renderer, CAMERAS), []
    for keep in (0.03, 0.3):
        settings = CompressionSettings(keep=keep)
        *_, last = pipeline.polish(prepared, settings, renderer)
        assert last.settings == pipeline.settled(prepared, settings)
        usual = exgs.encode(last.cloud, settings=replace(settings, quality="small"))
        times.append((last.settings.coarser, len(exgs.encode(last.cloud, settings=last.settings)) / len(usual)))
    (few, smaller), (many, larger) = times
    assert few > 0.1 and smaller < 0.99 and many < -0.8 and larger > 1.1, times


def test_a_scene_that_merges_badly_has_a_tenth_fewer_bytes_than_usual(whole, renderer):
    prepared = replace(pipeline.prepare(whole, renderer, CAMERAS), gaps=(14.0, 11.0))
    settings = CompressionSettings(keep=0.03)
    *_, last = pipeline.polish(prepared, settings, renderer)
    assert last.settings == pipeline.settled(prepared, settings) and last.settings.coarser > 0.5
    usual = exgs.encode(last.cloud, settings=replace(settings, quality="small"))
    assert len(exgs.encode(last.cloud, settings=last.settings)) < 0.9 * len(usual)


@pytest.mark.parametrize("kind", ["pruned", "amplified"])
def test_pruning_that_is_taken_is_rounded_as_coarsely(whole, renderer, monkeypatch, kind):
    settings = CompressionSettings(keep=0.7, colors="off")
    names = ["merged", "calibrated", "grown", "pruned", "pruned", "pruned", "amplified"]
    marks = iter([[30.0 + (name == kind)] for name in names])
    monkeypatch.setattr(pipeline, "marks", lambda *_: next(marks))
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    *_, last = pipeline.polish(prepared, settings, renderer)
    assert last.name == kind and last.settings == pipeline.settled(prepared, settings)
    assert torch.equal(last.shown.means, exgs.stored(last.cloud, last.settings).means)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_what_is_compressed_says_how_to_write_it(whole, renderer, preset, tmp_path):
    last = pipeline.compress(whole, PRESETS[preset], renderer, CAMERAS)
    assert (last.settings == PRESETS[preset]) == (preset == "paper")
    exgs.write(tmp_path / "a.exgs", last.cloud, settings=last.settings)
    found = exgs.read(tmp_path / "a.exgs").cloud
    for name in ("means", "scales", "opacities"):
        one, other = (getattr(cloud, name).reshape(len(found), -1).sort(0).values for cloud in (found, last.shown))
        assert_close(one, other, rtol=1e-6, atol=1e-6)


class Counted:
    """A renderer that counts the pictures it is asked for."""

    def __init__(self, renderer):
        self.renderer, self.drawn = renderer, 0

    def __getattr__(self, name):
        return getattr(self.renderer, name)

    def render(self, *arguments):
        self.drawn += 1
        return self.renderer.render(*arguments)


def test_how_coarsely_is_found_out_once(whole, renderer):
    counted = Counted(renderer)
    first = pipeline.prepare(whole, counted, CAMERAS)
    drawn = counted.drawn
    again = pipeline.prepare(whole, counted, CAMERAS)
    assert drawn == 5 * len(CAMERAS) == counted.drawn and again.gaps == first.gaps


def test_solved_colours_make_up_for_rounded_shapes(whole, renderer):
    """Nearer to what they were fitted to than those solved as if nothing were rounded."""
    settings = CompressionSettings(keep=0.1, quality="small", amplify="constant")
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    known = pipeline.pictures(prepared.cloud, prepared.cameras, settings, renderer)
    *_, calibrated, recoloured = pipeline.polish(prepared, settings, renderer, known)
    assert (calibrated.name, recoloured.name) == ("calibrated", "recoloured")
    unaware = exgs.stored(colors(calibrated.cloud, renderer, known.study), calibrated.settings)
    assert quality(recoloured.shown, renderer, known.study) > quality(unaware, renderer, known.study) + 0.02


@pytest.mark.parametrize(
    ("grown", "mark", "taken"),
    [
        (20.0, 30.95, "recoloured"),
        (20.0, 30.85, "calibrated"),
        (32.0, 31.95, "recoloured"),
        (32.0, 31.85, "grown"),
        (30.95, 30.8, "grown"),
        (30.85, 30.8, "calibrated"),
    ],
)
def test_growing_and_solving_are_taken_where_the_exam_is_undecided(whole, renderer, monkeypatch, grown, mark, taken):
    marks = iter([30.0, 31.0, grown, 25.0, 25.0, 25.0, 25.0, mark])  # merged, calibrated, grown, prunings, recoloured
    monkeypatch.setattr(pipeline, "marks", lambda *_: [next(marks)])
    *_, last = pipeline.polish(pipeline.prepare(whole, renderer, CAMERAS), CompressionSettings(keep=0.1), renderer)
    assert last.name == taken and not list(marks)


@pytest.mark.parametrize(("mark", "taken"), [(31.95, "resized"), (31.85, "recoloured")])
def test_refined_sizes_are_taken_where_the_exam_is_undecided(whole, renderer, monkeypatch, mark, taken):
    marks = iter([30.0, 31.0, 31.5, 20.0, 20.0, 20.0, 32.0, mark, 31.0])  # As above, then resized and refined.
    monkeypatch.setattr(pipeline, "marks", lambda *_: [next(marks)])
    monkeypatch.setattr(pipeline, "refine", lambda cloud, *_: cloud)
    settings = CompressionSettings(keep=0.1, refine=True)
    *_, last = pipeline.polish(pipeline.prepare(whole, renderer, CAMERAS), settings, renderer)
    assert last.name == taken and not list(marks)


@pytest.mark.parametrize(("pruned", "asked"), [(20.0, 0), (25.0, 1)])
def test_pruning_is_grown_only_where_that_may_bring_it_up_to_merging(whole, renderer, monkeypatch, pruned, asked):
    calls, amplified = [], pipeline._amplified
    monkeypatch.setattr(pipeline, "_amplified", lambda *given: calls.append(1) or amplified(*given))
    marks = iter([30.0, 31.0, 31.0, *([pruned] * (3 + asked)), 31.5])  # merged, calibrated, grown, prunings, recoloured
    monkeypatch.setattr(pipeline, "marks", lambda *_: [next(marks)])
    *_, last = pipeline.polish(pipeline.prepare(whole, renderer, CAMERAS), CompressionSettings(keep=0.1), renderer)
    assert len(calls) == asked and last.name == "recoloured"


def test_where_nothing_is_to_be_improved_the_bare_cut_is_all(whole, renderer):
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    settings = CompressionSettings(keep=0.1, calibrate=False, colors="off")
    (stage,) = pipeline.polish(prepared, settings, renderer)
    assert stage.name == "merged" and stage.cloud.means.equal(pipeline.fold(prepared, settings).cloud.means)


def test_nothing_is_worse_than_plain_pruning_by_any_score(whole, renderer):
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    settings = CompressionSettings(keep=0.7)
    known = pipeline.pictures(prepared.cloud, prepared.cameras, settings, renderer)
    *_, last = pipeline.polish(prepared, settings, renderer, known)
    for kind in pipeline.SCORES:
        plain = pipeline.cut(whole.take(score(whole, prepared.seen, kind).argsort(descending=True)), settings)
        plain = exgs.stored(plain, last.settings)
        assert last.psnr >= quality(plain, renderer, known.exam) - 1e-4


class Answer:
    """A network that answers the same factor for everything."""

    def __init__(self, factor):
        self.factor = factor

    def predict(self, around):
        return Growth(torch.full(around.along.shape[:2], math.log(self.factor)), torch.zeros(len(around.lost)))


@pytest.mark.parametrize(("factor", "taken"), [(1.25, True), (0.25, False)])
def test_groups_grow_as_the_network_says_unless_that_is_worse(whole, renderer, monkeypatch, factor, taken):
    """Merged Gaussians that came out a fifth too small."""

    def small(*args):
        folded = fold(*args)
        return replace(folded, cloud=folded.cloud.replaced(scales=0.8 * folded.cloud.scales))

    fold = pipeline.fold
    monkeypatch.setattr(pipeline, "fold", small)
    monkeypatch.setattr(pipeline, "calibrate", lambda folded, *_: folded.cloud)
    monkeypatch.setattr(pipeline, "find_amplifier", lambda name: Answer(factor))
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    first, *others = pipeline.polish(prepared, CompressionSettings(keep=0.1, colors="off"), renderer)
    found = [stage for stage in others if stage.name == "grown"]
    assert len(found) == taken
    for stage in found:
        assert stage.psnr > first.psnr + 0.3
        growth = stage.cloud.scales / first.cloud.scales  # as the network says, or a little less where that is better
        assert_close(growth, growth[0, 0].expand_as(growth))
        assert factor**0.8 < float(growth[0, 0]) < factor * 1.0001


@pytest.mark.parametrize(("amplify", "stage"), [("adaptive", "amplified"), ("constant", "recoloured")])
def test_pruning_that_grows_back_what_it_dropped_is_taken(whole, renderer, monkeypatch, amplify, stage):
    flat = whole.with_sh_degree(0)
    grown = Pruned(flat, Growth(torch.zeros_like(flat.scales), torch.zeros_like(flat.opacities)))
    monkeypatch.setattr(pipeline, "prune", lambda *_: grown)  # nothing is missing from it
    monkeypatch.setattr(pipeline, "stored", lambda cloud, _: cloud)  # nor is anything rounded, for colours to mend
    prepared = pipeline.prepare(whole, renderer, CAMERAS)
    *_, last = pipeline.polish(prepared, CompressionSettings(keep=0.3, amplify=amplify), renderer)
    assert last.name == stage


def test_the_preset_of_the_paper_drops_and_changes_nothing(whole, renderer):
    kept = pipeline.compress(whole, PRESETS["paper"], renderer, CAMERAS).cloud
    assert {tuple(mean) for mean in kept.means.tolist()} < {tuple(mean) for mean in whole.means.tolist()}


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
    settings = {"keep": 0.2, "reduction": "prune", "amplify": "constant"}
    plain, larger = (compressed(whole, renderer, amplification=factor, **settings) for factor in (1.0, 1.5))
    assert torch.allclose(larger.scales, 1.5 * plain.scales) and larger.means.equal(plain.means)


def test_adaptive_amplification_comes_nearer_and_moves_nothing(whole, renderer):
    settings = {"keep": 0.1, "reduction": "prune"}
    plain, grown = (compressed(whole, renderer, amplify=kind, **settings) for kind in ("constant", "adaptive"))
    assert grown.means.equal(plain.means) and grown.sh.equal(plain.sh) and not grown.scales.equal(plain.scales)
    flat = whole.with_sh_degree(0)
    assert error(renderer, grown, flat) < error(renderer, plain, flat)


def test_the_file_shows_what_was_compressed(whole, renderer):
    kept = compressed(whole, renderer, keep=0.3)
    stored, _ = exgs.decode(exgs.encode(kept), "test")
    assert len(stored) == len(kept) and error(renderer, stored, kept) < 10**-4.4


def test_the_restored_picture_covers_what_the_compressed_one_lacks(whole, renderer):
    kept = compressed(whole, renderer, keep=0.02)
    output = pipeline.picture(kept, CAMERAS[0], SIZE, renderer, RenderSettings())
    restored = open_restorer("inpaint").restore(output, RestoreSettings())
    assert restored.shape == (120, 160, 3) and float(restored.min()) >= 0 and float(restored.max()) <= 1
    assert torch.equal(open_restorer("inpaint").restore(output, RestoreSettings(strength=0.0)), output.color)


def test_a_rearranged_scene_merges_as_it_would_have_before(renderer, whole, tmp_path, monkeypatch):
    """The window puts its scene in the order of a ranking; its tree must still be found, and mean the same."""
    monkeypatch.setenv("EXGS_HOME", str(tmp_path))
    looked = pipeline.look(whole, UP, renderer)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    before = pipeline.prepare_again(whole, looked, renderer)
    trees = list((tmp_path / "trees").iterdir())
    after = pipeline.prepare_again(whole.take(order), looked.moved(order), renderer)
    assert list((tmp_path / "trees").iterdir()) == trees, "found, not built anew"
    settings = CompressionSettings(keep=0.2)
    first, second = pipeline.fold(before, settings).cloud, pipeline.fold(after, settings).cloud
    nearest = torch.cdist(first.means, second.means).argmin(1)
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.allclose(getattr(first, name), getattr(second, name)[nearest], atol=1e-4), name
    assert before.gaps is not None and after.gaps == before.gaps


@pytest.mark.parametrize(
    "settings", [PRESETS["default"], PRESETS["paper"], replace(PRESETS["paper"], amplify="constant")]
)
def test_a_limit_in_bytes_is_met_and_filled(whole, renderer, settings):
    def size(stage):
        return len(exgs.encode(stage.cloud, settings=stage.settings))

    compressor = pipeline.prepare_compressor(whole, settings, renderer, CAMERAS)
    last = pipeline.compress_within(12_000, size, compressor, 0.01)
    assert 0.98 * 12_000 < size(last) <= 12_000
    again = pipeline.compress(whole, last.settings, renderer, CAMERAS)
    assert again.name == last.name and size(again) == size(last)
