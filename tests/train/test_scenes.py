"""Made scenes are fixed by their numbers and look like trained ones; pairs show what compression does to them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from exgs_viewer import images
from exgs_viewer.errors import SceneError
from exgs_viewer.render import open_renderer
from exgs_viewer.scene import save_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import RenderSettings
from exgs_viewer.train import pairs, scenes
from exgs_viewer.train.pairs import VARIANTS, Degradation, Judged, Plan, draw, reduced, relative_depth, write_pairs
from exgs_viewer.train.scenes import KINDS, gathered, make_scene
from exgs_viewer.train.sources import Source, Sources
from exgs_viewer.train.textures import Palette, read_hdr, texture
from tests.conftest import random_cloud


@pytest.fixture(autouse=True)
def sparse(monkeypatch):
    """Scenes with a hundredth of the splats."""
    monkeypatch.setattr(scenes, "MOST", 6000)


@pytest.fixture
def palette(monkeypatch) -> Palette:
    """One cheap texture instead of many."""
    plain = texture(np.random.default_rng(0).random((32, 64, 3)).astype(np.float32))
    found = Palette(None)
    for name in ("photo", "panorama", "pattern"):
        monkeypatch.setattr(found, name, lambda random: plain)
    return found


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_every_kind_of_scene_is_sound_and_fixed_by_its_number(seed, palette):
    first, again, other = (make_scene(number, palette) for number in (seed, seed, seed + len(KINDS)))
    for name in ("means", "scales", "quats", "opacities", "sh"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert getattr(first, name).isfinite().all()
    assert len(first) != len(other) or not torch.equal(first.means, other.means)
    assert first.scales.min() > 0 and first.opacities.min() >= 0 and first.opacities.max() <= 1
    assert_close(first.quats.norm(dim=1), torch.ones(len(first)))
    assert first.means.abs().max() < 20  # metres


def test_patterns_need_no_photos_and_are_pictures():
    palette, random = Palette(None), np.random.default_rng(0)
    for found in (palette.photo(random), palette.pattern(random), palette.panorama(random)):
        level = found.levels[0]
        assert level.shape[2] == 3 and level.min() >= 0 and level.max() <= 1 and level.std() > 0.001
        assert_close(found.levels[-1].mean(), level.mean(), rtol=1e-3, atol=1e-4)


def test_a_texture_repeats_and_its_levels_are_means():
    grid = np.arange(16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3) / 768
    found = texture(grid)
    u, v = np.array([0.1, 1.1, -0.9]), np.array([0.3, 3.3, -0.7])
    assert (found.sample(u, v, 0) == grid[4, 1]).all()
    assert_close(found.sample(u[:1], v[:1], 1)[0], grid[4:6, 0:2].mean((0, 1)))
    assert_close(found.sample(u, v, 99)[0], found.levels[-1][1, 0])


def test_hdr_pictures_are_read_run_by_run(tmp_path):
    def line(*planes: bytes) -> bytes:
        return b"\x02\x02\x00\x08" + b"".join(planes)

    red = bytes([136, 200])  # a run of 8
    green = bytes([8, *range(8)])
    blue = bytes([131, 7, 133, 9])
    light = bytes([136, 137])
    path = tmp_path / "sky.hdr"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 8\n" + line(red, green, blue, light))
    pixels = read_hdr(path)
    assert pixels.shape == (1, 8, 3)
    assert (pixels[0, :, 0] == 400).all() and (pixels[0, :, 1] == 2 * np.arange(8)).all()
    assert pixels[0, :, 2].tolist() == [14] * 3 + [18] * 5
    path.write_bytes(b"#?RADIANCE\n\n-Y 1 +X 8\n" + b"\x01" * 40)
    with pytest.raises(SceneError, match="Radiance"):
        read_hdr(path)


def test_gathered_objects_stand_on_the_ground_at_their_own_size_and_look_the_same():
    cloud = random_cloud(400, sh_degree=2)
    joined = gathered([cloud, cloud], None, seed=3)
    assert len(joined) == 800 and joined.sh_degree == 0
    one = joined.take(slice(0, 400))
    factor = float((one.scales / cloud.scales).mean())
    assert_close(one.scales, cloud.scales * factor)
    # Turned about the upright: what a camera turned and moved along sees is the same picture.
    apart, before = torch.pdist(one.means[:40]), torch.pdist(cloud.means[:40])
    assert_close(apart, before * factor, rtol=1e-4, atol=1e-5)
    rotation = torch.linalg.lstsq(cloud.means - cloud.means.mean(0), one.means - one.means.mean(0)).solution.T / factor
    center = (one.means.mean(0) - cloud.means.mean(0) @ rotation.T * factor).tolist()
    eye = torch.tensor([0.0, -0.5, -2.5])
    moved = (eye @ rotation.T * factor + torch.tensor(center)).tolist()
    render = open_renderer("reference").render
    first = render(cloud, look_at(tuple(eye.tolist()), (0, 0, 0), (0, -1, 0)), (48, 32), RenderSettings(sh_degree=0))
    second = render(one, look_at(tuple(moved), tuple(center), (0, -1, 0)), (48, 32), RenderSettings())
    assert_close(first.color, second.color, atol=2e-2, rtol=0)


def test_scenes_kept_for_measuring_are_not_trained_on(tmp_path):
    for name in ("mine", "theirs"):
        save_scene(tmp_path / f"{name}.ply", random_cloud(5))
    assert set(Sources(tmp_path, None).trained) == {"mine", "theirs"}
    entry = {"files": ["mine.ply"], "use": "train"}
    index = {"scenes": {"mine": entry, "theirs": {"files": ["theirs.ply"], "use": "measure"}}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    sources = Sources(tmp_path, None)
    assert set(sources.trained) == {"mine"} and len(sources.open("mine").cloud) == 5
    with pytest.raises(SceneError, match="no training scene named 'theirs'"):
        sources.open("theirs")
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(SceneError, match="list of scenes"):
        Sources(tmp_path, None)


def test_names_mix_all_kinds_of_sources():
    names = Sources(None, None).names(4, 4)
    assert sorted(names) == ["demo", "made-0", "made-1", "made-2", "made-3"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_keeps_the_share_it_is_told(variant, camera):
    cloud, renderer = random_cloud(300, sh_degree=1), open_renderer("cpu")
    judged = Judged(cloud, (camera, camera), renderer)
    for degradation in draw(Plan(variants=(variant,), drawn=3), 1, np.random.default_rng(0)):
        kept = reduced(judged, degradation, np.random.default_rng(1))
        assert len(kept) == max(1, round(300 * degradation.settings.keep))
        assert kept.sh_degree == degradation.settings.sh_degree
        untouched = not degradation.stored and degradation.settings.amplification == 1
        if untouched and variant in ("paper", "global", "random"):
            assert set(kept.means[:, 0].tolist()) <= set(cloud.means[:, 0].tolist())


def test_degradations_reach_from_a_hundredth_to_everything():
    drawn = [d for seed in range(20) for d in draw(Plan(), 2, np.random.default_rng(seed))]
    keeps = sorted(d.settings.keep for d in drawn)
    assert keeps[0] < 0.015 and 0.05 < keeps[len(keeps) // 2] < 0.3 and keeps[-1] == 1.0
    assert {d.variant for d in drawn} == set(VARIANTS)
    assert {d.settings.sh_degree for d in drawn} == {0, 2} and {d.stored for d in drawn} == {True, False}
    assert all(d.settings.amplification == 1 for d in drawn if d.settings.keep == 1)


def test_relative_depth_is_half_at_the_median_and_zero_in_the_void():
    depth = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 2e9]])
    assert_close(relative_depth(depth)[0], torch.tensor([0.0, 1 / 3, 0.5]))
    assert 0.99 < relative_depth(depth)[1, 2] < 1.0001
    assert not relative_depth(torch.zeros(2, 2)).any()


def test_pairs_of_an_uncut_scene_are_equal_and_the_file_says_how_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "JUDGES", 2)
    monkeypatch.setattr(pairs, "scoring_views", lambda cloud, up: views)
    views = [look_at((x, -0.4, -2.5), (0, 0, 0), (0, -1, 0)) for x in (-0.5, 0.5)]
    source = Source("random", random_cloud(500, sh_degree=0), (0.0, -1.0, 0.0))
    plan = Plan(views=3, size=(96, 64), crop=32)
    monkeypatch.setattr(pairs, "draw", lambda *_: [uncut] * 5 + [tenth] * 5)
    tenth = draw(plan, 0, np.random.default_rng(0))[0]
    tenth = replace(tenth, settings=replace(tenth.settings, keep=0.1))
    uncut = Degradation("paper", replace(tenth.settings, keep=1.0, amplification=1.0), False)
    count = write_pairs(tmp_path / "a.safetensors", source, plan, open_renderer("cpu"))
    found = load_file(tmp_path / "a.safetensors")
    assert count == found["which"].numel() == 3 * 2 * 4
    assert found["color"].shape == (6, 4, 32, 32, 3) and found["target"].shape == (6, 32, 32, 3)
    apart = (found["color"].int() - found["target"][:, None].int()).abs().amax((2, 3, 4))
    whole = found["retention"] == 1
    assert whole.any() and apart[whole].max() <= 1 and apart[~whole].float().mean() > 20
    assert write_pairs(tmp_path / "b.safetensors", source, plan, open_renderer("cpu")) == count
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.shared
def test_the_photos_are_found_and_read(scenes):
    palette, random = Palette(scenes.parent / "photos"), np.random.default_rng(0)
    assert (len(palette.photos), len(palette.panoramas)) == (24, 20)
    assert palette.panorama(random).levels[0].shape == (512, 1024, 3)
    assert images.read_picture(palette.photos[0]).shape[2] == 3
    with pytest.raises(SceneError, match="expected photos"):
        Palette(scenes)
