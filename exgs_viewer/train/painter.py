"""Train GaussPainter: on request autoencode uncut pictures first, then paint compressed ones; kill and resume at will.

    RUN/state.safetensors   weights, their average, the optimiser; replaced whole
    RUN/teacher.safetensors the encoder as it was when painting began, where it had been taught
    RUN/curve.csv           the loss and its terms; validation.csv: PSNR and SSIM on held-out crops
    RUN/samples/            sheets of PNG: compressed, painted, uncut
    RUN/painter/            the averaged weights as the viewer loads them

A run is fixed by its options and pairs: step n draws its batch from (seed, n) alone, so that a resumed run goes the way
the uninterrupted one would have gone.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from exgs_viewer import images
from exgs_viewer.networks import fill, read_tensors, write_tensors
from exgs_viewer.restore.painter import SD_TURBO, Frames, Painted, Painter
from exgs_viewer.restore.weights import has_bfloat16, write_painter
from exgs_viewer.settings import Report, quiet
from exgs_viewer.train.data import Batch, PairSet, clean
from exgs_viewer.train.features import Features
from exgs_viewer.train.losses import batch_psnr, terms, total
from exgs_viewer.train.options import LossWeights, Options
from exgs_viewer.train.schedule import go_on, rate_at
from exgs_viewer.train.state import CURVE, JUDGED, STATE, Average, append_row, cut_rows, load_state, save_state
from exgs_viewer.train.subject import merge_adapters, parameter_groups, subject
from exgs_viewer.train.team import Team
from exgs_viewer.train.validate import validate

TEACHER = "teacher.safetensors"


class Run:
    """One training run: network, average, optimiser, and the step at which they are."""

    def __init__(self, folder: Path, pairs: PairSet, options: Options) -> None:
        torch.manual_seed(options.seed)
        self.folder, self.pairs, self.options, self.team = Path(folder), pairs, options, Team()
        self.device = self.team.device
        self.painter = subject(options.preset).to(self.device, memory_format=torch.channels_last)
        self.features = Features(options.squeezenet).to(self.device) if options.squeezenet else None
        self.average = Average(self.painter, options.decay)
        groups = parameter_groups(self.painter)
        self.optimizer = torch.optim.AdamW(groups, lr=options.rate, weight_decay=options.weight_decay, fused=True)
        # An encoder that was never taught says next to nothing, and to want that of the latent silences the UNet.
        taught = options.autoencode > 0 or options.preset == SD_TURBO.preset
        self.teacher = copy.deepcopy(self.painter.vae.encoder.layers).requires_grad_(False) if taught else None
        self.step, self.seconds = 0, 0.0
        if (self.folder / STATE).exists():
            about = load_state(self.folder / STATE, self.painter, self.average, self.optimizer)
            self.step, self.seconds = about["step"], about["seconds"]
        if self.teacher and self.step > options.autoencode:
            fill(self.teacher, read_tensors(self.folder / TEACHER), self.folder / TEACHER)
            self.teacher.to(self.device, memory_format=torch.channels_last)
        for name in (CURVE, JUDGED) if self.team.leads else ():
            cut_rows(self.folder / name, self.step)

    def advance(self) -> dict[str, float]:
        """One step; its loss, terms and PSNR before and after."""
        options, share = self.options, self.step / self.options.steps
        random = np.random.default_rng([options.seed, self.step, *[self.team.rank] * (self.team.size > 1)])
        large = share >= 2 / 3
        size = max(1, options.batch // 3) if large else options.batch
        batch = self.pairs.batch(size, options.crop * (2 if large else 1), random).to(self.device)
        if self.teacher and self.step == self.options.autoencode:
            self._begin_to_paint()
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * rate_at(self.step, options)
        found, picture = self._painted(batch) if self.step >= self.options.autoencode else self._autoencoded(batch)
        loss = total(found, options.losses)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(self.painter.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.painter.parameters(), options.clip)
        self.optimizer.step()
        self.average.update(self.painter)
        self.step += 1
        return {
            "loss": loss.item(),
            **{name: value.item() for name, value in found.items()},
            "norm": norm.item(),
            "psnr_in": batch_psnr(batch.frames.color, batch.target).mean().item(),
            "psnr_out": batch_psnr(picture, batch.target).mean().item(),
        }

    def _autoencoded(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Encoder and decoder without skips, so that the latent comes to mean the picture."""
        with autocast(self.device):
            latent, _ = self.painter.encode(clean(batch).frames)
            picture = 0.5 + self.painter.decode(latent)[:, :3]
        painted = Painted(picture.float(), latent.float())
        found = terms(painted, torch.zeros_like(batch.target), batch.target, None)
        # Nothing else would keep the latent at the size that the noise schedule is made for.
        found["latent"] = (painted.latent.square().mean() - 1).square()
        return found, painted.picture.detach()

    def _painted(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        found, picture = paint(self, batch.frames, batch.frames.color, batch)
        return found, picture.detach()

    def _begin_to_paint(self) -> None:
        """The encoder as it is becomes the teacher; after autoencoding the decoder's output is what the picture lacks,
        at first little of the fill."""
        prefix = "vae.encoder.layers."
        weights = self.average.weights.items()  # none of the encoder's where that is frozen
        averaged = {name.removeprefix(prefix): value for name, value in weights if name.startswith(prefix)}
        self.teacher.load_state_dict({**self.painter.vae.encoder.layers.state_dict(), **averaged})
        if self.team.leads:
            write_tensors(self.folder / TEACHER, self.teacher.state_dict())
        if self.step == 0:
            return
        self.painter.silence()
        last = self.painter.vae.decoder.layers[-1]
        for value in last.parameters():
            self.optimizer.state.pop(value, None)
        for name, value in last.named_parameters():
            number = len(self.painter.vae.decoder.layers) - 1
            self.average.weights[f"vae.decoder.layers.{number}.{name}"].copy_(value.detach())

    def save(self) -> None:
        about = {"step": self.step, "seconds": self.seconds, "options": asdict(self.options)}
        save_state(self.folder / STATE, self.painter, self.average, self.optimizer, about)

    def look(self) -> None:
        """What is due every `judge_every` steps; the pairs that have been added since are taken up."""
        if self.team.leads and self.step > self.options.autoencode:
            self.judge()
        self.pairs = self.pairs.again()

    def line(self, means: dict[str, float]) -> dict[str, float]:
        """A line of the curve."""
        names = ("loss", *(field.name for field in fields(LossWeights)), "norm", "psnr_in", "psnr_out")
        rate = rate_at(self.step - 1, self.options)
        values = {name: means.get(name, 0.0) for name in names}
        return {"step": self.step, "seconds": self.seconds, "rate": rate, **values}

    def judge(self) -> None:
        """Validate the averaged weights, write a sheet and the weights as the viewer loads them."""
        judged = copy.deepcopy(self.painter).eval()
        self.average.lend(judged)
        merge_adapters(judged)
        result, sheet = validate(judged, self.pairs.held_out(self.options.judged), self.device)
        append_row(self.folder / JUDGED, {"step": self.step, "pairs": len(self.pairs), **result})
        images.write_png(self.folder / "samples" / f"{self.step:07d}.png", sheet)
        write_painter(self.folder / "painter", judged, {"step": self.step, **result})


def train(folder: Path, pairs: PairSet, options: Options, report: Report = quiet) -> Run:
    """Train up to `options.steps`, going on from what lies in `folder`; a polite signal saves and ends it."""
    if options.threads:
        torch.set_num_threads(options.threads)
    return go_on(Run(folder, pairs, options), report)


class Student(Protocol):
    """What `paint` asks of a run."""

    device: torch.device
    painter: Painter
    teacher: nn.Module | None
    features: Features | None


def paint(run: Student, shown: Frames, given: Tensor, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of the loss of what the painter makes of `shown`, against the picture `given`; and that picture."""
    with autocast(run.device):
        wanted = wanted_latent(run.painter, run.teacher, batch) if run.teacher else None
        painted = run.painter(shown)
    painted = Painted(painted.picture.float(), painted.latent.float())
    found = terms(painted, given, batch.target, wanted)
    if run.features:
        found["features"] = run.features(painted.picture, batch.target)
    return found, painted.picture


def wanted_latent(painter: Painter, teacher: nn.Module, batch: Batch) -> Tensor:
    """The uncut picture's latent by the teacher.

    Not by the encoder that is being trained, nor its average: the way to agree with oneself is to answer the same
    to every picture, and within some thousand steps the latent said nothing any more.
    """
    with torch.no_grad():
        seen = clean(batch).frames.channels(painter.config.inputs)
        return teacher(pixel_unshuffle(seen, painter.config.pixel_shuffle)).float()


def autocast(device: torch.device) -> AbstractContextManager:
    """Mixed precision where the hardware has it."""
    return torch.autocast(device.type, torch.bfloat16) if has_bfloat16(device) else nullcontext()
