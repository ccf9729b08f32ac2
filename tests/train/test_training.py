"""Training learns, stops and goes on, and never sees what is held out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from exgs_viewer.errors import SceneError, WeightsError
from exgs_viewer.restore import painter as network
from exgs_viewer.restore.painter import LITE
from exgs_viewer.train.data import PairSet, varied
from exgs_viewer.train.options import Options
from exgs_viewer.train.painter import TEACHER, Run, train, wanted_latent
from exgs_viewer.train.schedule import rate_at
from exgs_viewer.train.state import STATE
from tests.restore.test_painter import SMALL_UNET

QUICK = Options(
    preset="small",
    steps=12,
    batch=2,
    crop=32,
    warm_up=6,
    autoencode=3,
    judge_every=6,
    judged=2,
    rate=1e-3,
    threads=1,
    tell_every=5,
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A painter that takes milliseconds instead of the real one."""
    config = replace(LITE, preset="small", unet={**LITE.unet, **SMALL_UNET})
    monkeypatch.setitem(network.PRESETS, "small", config)


@pytest.fixture
def pairs(tmp_path):
    """Ten places of one scene: pictures darkened by half, which a painter can learn to undo."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(10, 3, 4, 4, generator=random)
    target = (torch.nn.functional.interpolate(coarse, size=64, mode="bilinear") * 255).to(torch.uint8).movedim(1, 3)
    dark = (target // 2)[:, None].contiguous()
    grey = torch.full((10, 1, 64, 64), 128, dtype=torch.uint8)
    tensors = {"target": target.contiguous(), "color": dark, "fill": dark.clone(), "alpha": grey, "depth": grey.clone()}
    tensors |= {"retention": torch.full((10, 1), 0.1), "which": torch.zeros(10, 1, dtype=torch.uint8)}
    (tmp_path / "pairs").mkdir()
    save_file(tensors, tmp_path / "pairs" / "scene.safetensors", {"about": json.dumps({"scene": "scene"})})
    return PairSet(tmp_path / "pairs")


def test_a_run_that_was_killed_goes_the_way_of_one_that_was_not(tmp_path, pairs):
    whole = Run(tmp_path / "whole", pairs, QUICK)
    for _ in range(8):
        whole.advance()
    broken = Run(tmp_path / "broken", pairs, QUICK)
    for step in range(8):
        if step in (2, 3, 6):  # before, at and after the beginning of painting
            broken.save()
            broken.advance()  # a step that the kill undoes
            broken = Run(tmp_path / "broken", pairs, QUICK)
            assert broken.step == step
        broken.advance()
    for (name, expected), found in zip(whole.painter.named_parameters(), broken.painter.parameters(), strict=True):
        assert torch.equal(expected, found), name
        assert torch.equal(whole.average.weights[name], broken.average.weights[name]), name


def test_training_makes_dark_pictures_brighter(tmp_path, pairs):
    run = Run(tmp_path, pairs, replace(QUICK, steps=40, autoencode=3))
    rows = [run.advance() for _ in range(40)]
    late = rows[-8:]
    assert sum(row["psnr_out"] - row["psnr_in"] for row in late) / len(late) > 2


def test_a_run_leaves_its_curve_its_sheets_and_a_painter(tmp_path, pairs):
    train(tmp_path, pairs, replace(QUICK, steps=10, judge_every=5))
    head, *rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert head.startswith("step,seconds,rate,loss") and [row.split(",")[0] for row in rows] == ["5", "10"]
    judged = (tmp_path / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in judged[1:]] == ["5", "10"]
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"0000005.png", "0000010.png"}
    weights = load_file(tmp_path / "painter" / "model.safetensors")
    assert all(value.dtype == torch.float16 and value.isfinite().all() for value in weights.values())
    assert json.loads((tmp_path / "painter" / "config.json").read_text())["about"]["step"] == 10


def test_the_latent_that_is_wanted_stays_what_autoencoding_made_it(tmp_path, pairs):
    run = train(tmp_path / "run", pairs, replace(QUICK, steps=QUICK.autoencode + 1))
    batch = pairs.batch(4, 32, np.random.default_rng(1))
    wanted = wanted_latent(run.painter, run.teacher, batch)
    later = train(tmp_path / "run", pairs, replace(QUICK, steps=40))
    assert wanted_latent(later.painter, later.teacher, batch).equal(wanted) and wanted.std() > 1e-3
    encoders = [each.painter.vae.encoder.layers[0].weight for each in (run, later)]
    assert not encoders[0].equal(encoders[1])  # while the encoder itself has gone on learning


def test_an_encoder_that_was_never_taught_teaches_nobody(tmp_path, pairs):
    """What it says of a picture is next to nothing; a latent that is pulled there keeps the UNet silent."""
    run = Run(tmp_path / "run", pairs, replace(QUICK, autoencode=0))
    rows = [run.advance() for _ in range(8)]
    assert not any("latent" in row for row in rows) and not (tmp_path / "run" / TEACHER).exists()
    assert rows[-1]["psnr_out"] > rows[0]["psnr_out"]
    run.save()
    assert Run(tmp_path / "run", pairs, replace(QUICK, autoencode=0)).step == 8


def test_a_run_that_lost_its_teacher_is_told(tmp_path, pairs):
    train(tmp_path / "run", pairs, QUICK)
    (tmp_path / "run" / TEACHER).unlink()
    with pytest.raises(WeightsError, match=TEACHER):
        Run(tmp_path / "run", pairs, QUICK)


def test_rows_after_the_saved_step_are_written_anew(tmp_path, pairs):
    train(tmp_path, pairs, replace(QUICK, steps=5))
    (tmp_path / "curve.csv").open("a").write("10,1,1,1,1,1,1,1,1,1,1,1\n")
    train(tmp_path, pairs, replace(QUICK, steps=10))
    rows = (tmp_path / "curve.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["5", "10"] and not rows[1].endswith(",1")


def test_a_damaged_or_foreign_state_is_told(tmp_path, pairs):
    Run(tmp_path, pairs, QUICK).save()
    state = load_file(tmp_path / STATE)
    name = next(key for key in state if key.startswith("model."))
    save_file({**state, name: state[name].flatten()[:1]}, tmp_path / STATE, {"about": json.dumps({"step": 0})})
    with pytest.raises(WeightsError, match="another network's state"):
        Run(tmp_path, pairs, QUICK)
    (tmp_path / STATE).write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="no state of training"):
        Run(tmp_path, pairs, QUICK)


def test_held_out_places_are_never_trained_on(pairs):
    held = [batch.target for _, batch in pairs.held_out(99)]
    assert len(held) == 1 and len(pairs) == 9
    random = np.random.default_rng(0)
    colors = torch.cat([pairs.batch(8, 64, random).target.flatten(1).sort(1).values[:, ::97] for _ in range(20)])
    wanted = held[0].flatten(1).sort(1).values[:, ::97]
    gains = colors / wanted.clamp_min(1e-3)  # brightness varies, so compare up to a factor
    assert (gains.std(1) > 1e-2).all()


def test_a_batch_is_fixed_by_its_seed(pairs):
    first, again, other = (pairs.batch(4, 32, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.target, again.target) and torch.equal(first.frames.color, again.frames.color)
    assert not torch.equal(first.target, other.target)


def test_variation_treats_all_pictures_of_a_sample_alike():
    random = torch.rand(3, 16, 16)
    sample = {"color": random, "fill": random.clone(), "target": random.clone(), "alpha": random[:1].clone()}
    for seed in range(20):
        changed = varied(dict(sample), np.random.default_rng(seed))
        assert torch.equal(changed["color"], changed["target"]) and torch.equal(changed["fill"], changed["target"])
        assert torch.equal(changed["alpha"].flatten().sort().values, sample["alpha"].flatten().sort().values)


def test_the_rate_rises_stays_and_falls():
    options = Options(steps=1000, warm_up=100, plateau=0.5, rate=1.0)
    rates = [rate_at(step, options) for step in range(1001)]
    assert rates[0] == 0.01 and rates[99] == rates[300] == rates[500] == 1.0
    assert rates[500:] == sorted(rates[500:], reverse=True) and rates[1000] == pytest.approx(0.01)


def test_a_folder_without_pairs_or_with_other_files_is_told(tmp_path):
    with pytest.raises(SceneError, match="no pairs"):
        PairSet(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(SceneError, match="no training pairs"):
        PairSet(tmp_path)
