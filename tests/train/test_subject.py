"""Fine-tuning sd-turbo: low-rank changes start as nothing, are trained alone and merge; several processes agree."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from exgs_viewer.errors import BackendError
from exgs_viewer.restore.painter import SD_TURBO
from exgs_viewer.restore.weights import load_painter
from exgs_viewer.train.painter import Run, train
from exgs_viewer.train.subject import adapted, merge_adapters, parameter_groups
from exgs_viewer.train.team import Team
from tests.restore.test_painter import TINY_TURBO, frames, painter
from tests.test_imports import ROOT
from tests.train.test_training import QUICK, pairs  # noqa: F401 - a fixture


def tuned(network):
    return {name for name, value in network.named_parameters() if value.requires_grad}


@torch.no_grad()
def test_low_rank_changes_start_as_nothing_and_merge_to_the_same_picture():
    pytest.importorskip("peft")
    plain, network = painter(TINY_TURBO), adapted(painter(TINY_TURBO))
    assert_close(network(frames()).picture, plain(frames()).picture)
    lora = [value for name, value in network.named_parameters() if ".lora_" in name]
    assert (len(lora), sum(value.numel() for value in lora)) == (70, 87_196)
    for value in lora:
        value.add_(0.05 * torch.randn_like(value))
    changed = network(frames()).picture
    assert not torch.allclose(changed, plain(frames()).picture, atol=1e-3)
    merged = merge_adapters(network)
    assert_close(merged(frames()).picture, changed, rtol=1e-4, atol=1e-4)
    assert merged.state_dict().keys() == plain.state_dict().keys()


def test_the_autoencoder_is_frozen_and_what_is_new_learns_faster():
    pytest.importorskip("peft")
    network = adapted(painter(TINY_TURBO))
    names = tuned(network)
    assert not any(name.startswith("vae.") and ".lora_" not in name for name in names)
    assert {name.partition(".")[0] for name in names} == {"unet", "vae", "skip", "mask", "prompt_embeds"}
    unet, fresh = parameter_groups(network)
    assert fresh["factor"] == 5 and unet["factor"] == 1
    assert len(unet["params"]) + len(fresh["params"]) == len(names)


def test_a_fine_tuning_goes_on_where_it_stopped_and_leaves_a_plain_painter(tmp_path, monkeypatch, pairs):  # noqa: F811
    pytest.importorskip("peft")
    config = replace(TINY_TURBO, preset=SD_TURBO.preset)
    monkeypatch.setattr("exgs_viewer.train.painter.subject", lambda preset: adapted(painter(config)))
    options = replace(QUICK, preset="sd-turbo", autoencode=0, steps=2, judge_every=2)
    train(tmp_path, pairs, options)
    assert set(load_file(tmp_path / "state.safetensors")) >= {
        f"model.{name}" for name in tuned(adapted(painter(config)))
    }
    again = Run(tmp_path, pairs, options)
    assert again.step == 2
    released = load_painter(tmp_path / "painter")
    again.average.lend(again.painter)
    assert_close(released(frames()).picture, again.painter(frames()).picture, rtol=0, atol=0.02)


def test_several_processes_need_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(BackendError, match="needs accelerate"):
        Team()


def test_two_processes_average_their_gradients_and_end_together(tmp_path):
    pytest.importorskip("accelerate")
    script = tmp_path / "two.py"
    script.write_text(
        "import os\n"
        "import torch\n"
        "from exgs_viewer.train.team import Team\n"
        "team = Team()\n"
        "value = torch.nn.Parameter(torch.zeros(2, 3))\n"
        "unused = torch.nn.Parameter(torch.zeros(1))\n"
        "value.grad = torch.full((2, 3), float(team.rank * 4))\n"
        "team.average_gradients([value, unused])\n"
        "assert torch.equal(value.grad, torch.full((2, 3), 2.0))\n"
        "assert team.any(team.rank == 1) and not team.any(False)\n"
        "team.part()\n"
        "os.write(1, f'agreed {team.size} {team.leads}\\n'.encode())\n"  # in one piece: both write to one pipe
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[-2:] == ["agreed 2 False", "agreed 2 True"]
