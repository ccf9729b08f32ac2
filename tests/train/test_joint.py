"""Training painter and amplifier under one loss: through painter and renderer, downhill, resumed without a trace."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from exgs_viewer import cli
from exgs_viewer.compress.amplify import Growth, load_amplifier
from exgs_viewer.errors import SceneError
from exgs_viewer.render import open_renderer
from exgs_viewer.restore import painter as network
from exgs_viewer.restore.painter import LITE
from exgs_viewer.restore.weights import load_painter
from exgs_viewer.scene import save_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.train import lessons as subject
from exgs_viewer.train.amplifier import FLOOR, in_view, picture_loss
from exgs_viewer.train.joint import Run, train
from exgs_viewer.train.lessons import Course, Lessons, write_lessons
from exgs_viewer.train.losses import GOOD_ENOUGH
from exgs_viewer.train.options import JointOptions, LossWeights
from exgs_viewer.train.sources import Source, Sources
from tests.conftest import random_cloud
from tests.restore.test_painter import SMALL_UNET

COURSE = Course(views=3, retentions=2, size=(96, 64))
QUICK = JointOptions(
    preset="small", steps=6, rate=1e-3, faster=4.0, batch=1, warm_up=1, tell_every=2, judge_every=3, threads=1
)
PLAIN = LossWeights(relative=1.0, ssim=0.0, latent=0.0)
VIEWS = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in [(1, 0, -2.5), (0, 1, 2.5), (-2, -1, 1)]]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A painter that takes milliseconds instead of the real one."""
    config = replace(LITE, preset="small", unet={**LITE.unet, **SMALL_UNET})
    monkeypatch.setitem(network.PRESETS, "small", config)


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, renderer):
    """Lessons of two small scenes."""
    path = tmp_path_factory.mktemp("lessons")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "scoring_views", lambda cloud, up: VIEWS)
        patch.setattr(subject, "JUDGES", 1)
        for seed in range(2):
            cloud = random_cloud(1500, seed, sh_degree=0)
            cloud = cloud.replaced(scales=cloud.scales * 2, opacities=cloud.opacities.sqrt())
            write_lessons(path / f"{seed}.safetensors", Source(str(seed), cloud, (0, -1, 0)), COURSE, renderer)
    return path


def test_lessons_know_how_much_was_kept(folder):
    for lesson in Lessons(folder).held_out():
        assert len(lesson.cloud) == pytest.approx(1500 * lesson.keep, abs=1)


def test_through_a_painter_that_changes_nothing_the_amplifier_learns_what_it_learns_alone(folder, renderer, tmp_path):
    """The slopes of the relative error are those of its logarithm times the error's share."""
    run = Run(tmp_path, Lessons(folder), replace(QUICK, losses=PLAIN), renderer)
    with torch.no_grad():
        run.painter.vae.decoder.layers[-1].bias[-4:] = -30.0  # nothing of the fill, either
        run.amplifier.last.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.1)
    lesson = in_view(Lessons(folder).held_out()[0])
    with torch.enable_grad():
        growth = run.amplifier(lesson.around)
    bare = math.exp(-picture_loss(lesson, growth, renderer)[0])  # error without growth / error with it
    _, slopes = picture_loss(lesson, Growth(growth.scales.detach(), growth.opacities.detach()), renderer)
    torch.autograd.backward([growth.scales, growth.opacities], [slopes.scales, slopes.opacities])
    wanted = run.amplifier.last.weight.grad.clone()
    run.amplifier.zero_grad()
    told = run._learn(lesson)
    before = 10 ** (-told["psnr_bare"] / 10)
    after = before / bare
    assert told["psnr_in"] == pytest.approx(told["psnr_out"], abs=1e-3)
    assert told["loss"] == pytest.approx(after / (before + GOOD_ENOUGH), rel=1e-3)
    share = (after + FLOOR) / (before + GOOD_ENOUGH)
    assert_close(run.amplifier.last.weight.grad, share * wanted, rtol=5e-3, atol=1e-5 * float(wanted.abs().max()))


def test_training_teaches_both(folder, renderer, tmp_path):
    """Uncut pictures are paler here than any Gaussians can be drawn over black: that is for the painter to learn."""
    for path in folder.iterdir():
        lessons = load_file(path)
        save_file({**lessons, "pictures": 0.5 * lessons["pictures"] + 0.3}, tmp_path / path.name)
    run = Run(tmp_path / "run", Lessons(tmp_path), replace(QUICK, warm_up=10), renderer)
    began = {name: value.detach().clone() for name, value in run.both.named_parameters()}
    rows = [run.advance() for _ in range(40)]
    moved = {name for name, value in run.both.named_parameters() if not value.equal(began[name])}
    assert {"amplifier.last.weight", "painter.vae.encoder.layers.0.weight", "painter.unet.conv_in.weight"} <= moved
    assert abs(rows[0]["psnr_in"] - rows[0]["psnr_bare"]) < 1e-4  # a fresh amplifier changes nothing
    assert sum(row["psnr_out"] - row["psnr_in"] for row in rows[-10:]) / 10 > 2


def test_the_amplifier_gains_beside_a_painter_that_learns(folder, renderer, tmp_path):
    run = Run(tmp_path, Lessons(folder), replace(QUICK, steps=40), renderer)
    late = [run.advance() for _ in range(40)][-10:]
    assert sum(row["psnr_in"] - row["psnr_bare"] for row in late) / 10 > 1


def test_a_resumed_run_goes_the_way_of_an_uninterrupted_one(folder, renderer, tmp_path):
    lessons = Lessons(folder)
    whole = train(tmp_path / "whole", lessons, QUICK, renderer)
    broken = Run(tmp_path / "broken", lessons, QUICK, renderer)
    for _ in range(4):
        broken.advance()
    broken.save()
    broken.advance()  # a step that the kill undoes
    shutil.copytree(tmp_path / "broken", tmp_path / "resumed")
    resumed = train(tmp_path / "resumed", lessons, QUICK, renderer)
    assert resumed.step == whole.step == 6
    for (name, value), other in zip(whole.both.named_parameters(), resumed.both.parameters(), strict=True):
        assert_close(other, value, rtol=1e-5, atol=1e-7, msg=name)
    head, *rows = (tmp_path / "whole" / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["2", "4", "6"]
    assert {"psnr_bare", "psnr_in", "psnr_out"} < set(head.split(","))
    judged = (tmp_path / "whole" / "validation.csv").read_text().splitlines()
    assert judged[0] == "step,views,bare,in,out" and [row.split(",")[0] for row in judged[1:]] == ["3", "6"]


def test_the_command_writes_what_the_viewer_loads(tmp_path, monkeypatch, capsys):
    save_scene(tmp_path / "scenes" / "ball.ply", random_cloud(600, sh_degree=0))
    monkeypatch.setattr(Sources, "names", lambda *_: ["ball"])
    monkeypatch.setattr(subject, "Course", lambda merged: COURSE)
    monkeypatch.setattr(subject, "scoring_views", lambda cloud, up: VIEWS)
    command = ["train", "joint", str(tmp_path / "run"), "--scenes", str(tmp_path / "scenes"), "--preset", "small"]
    assert cli.main([*command, "--steps=2", "--judge-every=2", "--batch=1"]) == 0
    assert "steps" in capsys.readouterr().out
    assert (tmp_path / "run" / "samples" / "0000002.png").exists()
    assert json.loads((tmp_path / "run" / "painter" / "config.json").read_text())["about"]["step"] == 2
    assert load_painter(tmp_path / "run" / "painter").config.preset == "small"
    assert load_amplifier(tmp_path / "run" / "amplifier").last.weight.abs().max() > 0


def test_lessons_of_an_older_version_are_refused_in_words(folder, tmp_path):
    old = {name: value for name, value in load_file(folder / "0.safetensors").items() if not name.endswith(".keep")}
    save_file(old, tmp_path / "0.safetensors")
    with pytest.raises(SceneError, match=r"0\.safetensors.*older version; delete"):
        Lessons(tmp_path)
