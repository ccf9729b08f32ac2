"""Train painter and amplifier under one loss, as ExGS does (4.2, A.2): how what is kept grows is learnt from what the
painter can and cannot mend. Kill and resume at will.

    RUN/lessons/            one file for each scene (lessons.py)
    RUN/state.safetensors   weights of both, their average, the optimiser; replaced whole
    RUN/curve.csv           the loss, and PSNR bare, grown (psnr_in) and painted (psnr_out); validation.csv: held out
    RUN/samples/            sheets of PNG: bare, grown, painted, uncut
    RUN/painter/            the averaged weights as the viewer loads them,
    RUN/amplifier/          ... of both

Each step draws pictures of grown Gaussians, paints them, and carries the loss back through the painter, the renderer
and the amplifier. Coverage and depth are taken as they are, and the fill moves with the picture: what they owe to
growth is not differentiated.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exgs_viewer import images
from exgs_viewer.compress.amplify import Growth, grown, write_amplifier
from exgs_viewer.compress.surroundings import Surroundings
from exgs_viewer.render import Renderer
from exgs_viewer.restore import never
from exgs_viewer.restore.inpaint import filled
from exgs_viewer.restore.painter import SD_TURBO
from exgs_viewer.restore.painting import frames
from exgs_viewer.restore.weights import write_painter
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import Report, quiet
from exgs_viewer.train.amplifier import drawn, fresh_amplifier, in_view, slopes_of
from exgs_viewer.train.data import Batch
from exgs_viewer.train.features import Features
from exgs_viewer.train.lessons import Lesson, Lessons
from exgs_viewer.train.losses import batch_psnr, total
from exgs_viewer.train.options import JointOptions
from exgs_viewer.train.painter import paint
from exgs_viewer.train.schedule import go_on, rate_at
from exgs_viewer.train.state import CURVE, JUDGED, STATE, Average, append_row, cut_rows, load_state, save_state
from exgs_viewer.train.subject import merge_adapters, parameter_groups, subject
from exgs_viewer.train.team import Team
from exgs_viewer.train.validate import sheet


class Run:
    """One training run: both networks, their average, the optimiser, and the step at which they are."""

    def __init__(self, folder: Path, lessons: Lessons, options: JointOptions, renderer: Renderer) -> None:
        torch.manual_seed(options.seed)
        self.folder, self.lessons, self.options, self.renderer = Path(folder), lessons, options, renderer
        self.team = Team()
        self.device = self.team.device
        self.painter = subject(options.preset).to(self.device, memory_format=torch.channels_last)
        self.amplifier = fresh_amplifier(lessons).to(self.device)
        self.both = nn.ModuleDict({"painter": self.painter, "amplifier": self.amplifier})
        self.features = Features(options.squeezenet).to(self.device) if options.squeezenet else None
        # Only the encoder of a pre-trained autoencoder says what a latent ought to be.
        taught = options.preset == SD_TURBO.preset
        self.teacher = copy.deepcopy(self.painter.vae.encoder.layers).requires_grad_(False) if taught else None
        self.average = Average(self.both, options.decay)
        groups = [
            *parameter_groups(self.painter),
            {"params": list(self.amplifier.parameters()), "factor": options.faster},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.rate, weight_decay=options.weight_decay, fused=True)
        self.step, self.seconds = 0, 0.0
        if (self.folder / STATE).exists():
            about = load_state(self.folder / STATE, self.both, self.average, self.optimizer)
            self.step, self.seconds = about["step"], about["seconds"]
        for name in (CURVE, JUDGED) if self.team.leads else ():
            cut_rows(self.folder / name, self.step)

    def advance(self) -> dict[str, float]:
        """One step; means of the loss and of PSNR bare, grown and painted."""
        random = np.random.default_rng([self.options.seed, self.step, *[self.team.rank] * (self.team.size > 1)])
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * rate_at(self.step, self.options)
        self.optimizer.zero_grad(set_to_none=True)
        rows = [self._learn(self.lessons.draw(random)) for _ in range(self.options.batch)]
        self.team.average_gradients(self.both.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.both.parameters(), self.options.clip)
        self.optimizer.step()
        self.average.update(self.both)
        self.step += 1
        return {**{name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}, "norm": norm.item()}

    def _learn(self, lesson: Lesson) -> dict[str, float]:
        """Add the gradients of one picture to those of both networks."""
        lesson = in_view(lesson)
        with torch.enable_grad():
            growth = self.amplifier(_moved(lesson.around, self.device))
        cloud = grown(lesson.cloud, Growth(growth.scales.detach(), growth.opacities.detach()))
        cloud, told = cloud.to(self.renderer.device), {}
        bare, batch = self._bare(lesson), self._batch(cloud, lesson)

        @torch.enable_grad()
        def cotangent(unlimited: Tensor) -> Tensor:
            picture = unlimited.detach().requires_grad_(True)
            # A display shows no more than 1, so what is brighter does not answer.
            seen = picture.clamp(max=1).movedim(2, 0)[None].to(self.device)
            fill = seen + (batch.frames.fill - batch.frames.color)
            found, painted = paint(self, replace(batch.frames, color=seen, fill=fill), bare, batch)
            loss = total(found, self.options.losses)
            (loss / self.options.batch).backward()
            told.update(loss=loss.item(), psnr_out=batch_psnr(painted.detach(), batch.target).mean().item())
            return picture.grad

        slopes = slopes_of(cloud, lesson, self.renderer, cotangent)
        ends, starts = [growth.scales, growth.opacities], [slopes.scales, slopes.opacities]
        torch.autograd.backward(ends, [slope.to(self.device) for slope in starts])
        before = {"psnr_bare": bare, "psnr_in": batch.frames.color}
        return told | {name: batch_psnr(each, batch.target).mean().item() for name, each in before.items()}

    def _bare(self, lesson: Lesson) -> Tensor:
        """[1, 3, H, W]. The picture before anything grows."""
        return drawn(lesson.cloud, lesson, self.renderer).color.movedim(2, 0)[None].to(self.device)

    def _batch(self, cloud: GaussianCloud, lesson: Lesson) -> Batch:
        """The picture of a cloud as the painter sees it, and the uncut one."""
        output = drawn(cloud, lesson, self.renderer)
        shown = frames(output, filled(output, never), lesson.keep)
        return Batch(shown, lesson.wanted.movedim(2, 0)[None]).to(self.device)

    def line(self, means: dict[str, float]) -> dict[str, float]:
        """A line of the curve."""
        return {"step": self.step, "seconds": self.seconds, "rate": rate_at(self.step - 1, self.options), **means}

    def look(self) -> None:
        """What is due every `judge_every` steps."""
        if self.team.leads:
            self.judge()

    def save(self) -> None:
        about = {"step": self.step, "seconds": self.seconds, "options": asdict(self.options)}
        save_state(self.folder / STATE, self.both, self.average, self.optimizer, about)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Hold the averaged weights against the held-out views, and write them as the viewer loads them; means, dB."""
        judged = copy.deepcopy(self.both).eval()
        self.average.lend(judged)
        painter, amplifier = merge_adapters(judged["painter"]), judged["amplifier"].cpu()
        rows, strips = [], []
        for lesson in self.lessons.held_out():
            batch = self._batch(grown(lesson.cloud, amplifier.predict(lesson.around)), lesson)
            shown = [self._bare(lesson), batch.frames.color, painter(batch.frames).picture.clamp(0, 1)]
            rows.append([float(batch_psnr(each, batch.target)) for each in shown])
            strips.append(torch.cat([each[0] for each in (*shown, batch.target)], 2).movedim(0, 2).cpu())
        means = {name: sum(c) / len(c) for name, c in zip(("bare", "in", "out"), zip(*rows, strict=True), strict=True)}
        append_row(self.folder / JUDGED, {"step": self.step, "views": len(rows), **means})
        images.write_png(self.folder / "samples" / f"{self.step:07d}.png", sheet(strips))
        about = {"step": self.step, "scenes": [path.stem for path in self.lessons.paths], **means}
        write_painter(self.folder / "painter", painter, about)
        write_amplifier(self.folder / "amplifier", amplifier, {**about, "options": asdict(self.options)})
        return means


def train(folder: Path, lessons: Lessons, options: JointOptions, renderer: Renderer, report: Report = quiet) -> Run:
    """Train up to `options.steps`, going on from what lies in `folder`; a polite signal saves and ends it."""
    if options.threads:
        torch.set_num_threads(options.threads)
    return go_on(Run(folder, lessons, options, renderer), report)


def _moved(around: Surroundings, device: torch.device) -> Surroundings:
    return Surroundings(*(getattr(around, field.name).to(device) for field in fields(around)))
