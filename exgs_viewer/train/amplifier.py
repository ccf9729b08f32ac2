"""Train the amplifier (ExGS eq. 10) through a renderer, against pictures of the uncut scenes; kill and resume at will.

    RUN/lessons/            one file for each scene (lessons.py)
    RUN/state.safetensors   weights, their average, the optimiser; replaced whole
    RUN/curve.csv           the loss and what amplification gains, dB; validation.csv: the same on held-out views
    RUN/amplifier/          the averaged weights as the viewer loads them

The loss of a picture is ln(squared error / squared error without amplification): its PSNR, so that a tenth of a
decibel counts the same where little is left of a scene and where hardly anything is missing. Step n draws its lessons
from (seed, n) alone, so that a resumed run goes the way the uninterrupted one would have gone.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exgs_viewer.compress.amplify import Amplifier, Growth, grown, write_amplifier
from exgs_viewer.render import Cotangent, Renderer, RenderOutput
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet
from exgs_viewer.train.lessons import Lesson, Lessons
from exgs_viewer.train.options import AmplifierOptions
from exgs_viewer.train.schedule import asked_to_end, rate_at
from exgs_viewer.train.state import CURVE, JUDGED, STATE, Average, append_row, cut_rows, load_state, save_state

FLOOR = 1e-7
"""Squared error that counts as none: 70 dB."""
DECIBEL = -10 / math.log(10)
"""From the logarithm of an error to dB."""


class Run:
    """One training run: network, average, optimiser, and the step at which they are."""

    def __init__(self, folder: Path, lessons: Lessons, options: AmplifierOptions, renderer: Renderer) -> None:
        torch.manual_seed(options.seed)
        self.folder, self.lessons, self.options, self.renderer = Path(folder), lessons, options, renderer
        self.amplifier = fresh_amplifier(lessons)
        self.average = Average(self.amplifier, options.decay)
        self.optimizer = torch.optim.AdamW(
            self.amplifier.parameters(), lr=options.rate, weight_decay=options.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        if (self.folder / STATE).exists():
            about = load_state(self.folder / STATE, self.amplifier, self.average, self.optimizer)
            self.step, self.seconds = about["step"], about["seconds"]
        for name in (CURVE, JUDGED):
            cut_rows(self.folder / name, self.step)

    def advance(self) -> dict[str, float]:
        """One step; its mean loss, and the mean of what amplification gained, dB."""
        random = np.random.default_rng([self.options.seed, self.step])
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.options)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [self._learn(self.lessons.draw(random)) for _ in range(self.options.batch)]
        norm = torch.nn.utils.clip_grad_norm_(self.amplifier.parameters(), self.options.clip)
        self.optimizer.step()
        self.average.update(self.amplifier)
        self.step += 1
        loss = sum(losses) / len(losses)
        return {"loss": loss, "gain": DECIBEL * loss, "norm": norm.item()}

    def _learn(self, lesson: Lesson) -> float:
        """Add the gradients of one picture to the network's; its loss."""
        lesson = in_view(lesson)
        with torch.enable_grad():
            growth = self.amplifier(lesson.around)
        loss, slopes = picture_loss(lesson, growth, self.renderer)
        ends = [growth.scales, growth.opacities]
        torch.autograd.backward(ends, [slope / self.options.batch for slope in (slopes.scales, slopes.opacities)])
        return loss

    def save(self) -> None:
        about = {"step": self.step, "seconds": self.seconds, "options": asdict(self.options)}
        save_state(self.folder / STATE, self.amplifier, self.average, self.optimizer, about)

    def judge(self) -> float:
        """Hold the averaged weights against the held-out views and write them as the viewer loads them; gain, dB."""
        judged = copy.deepcopy(self.amplifier).eval()
        self.average.lend(judged)
        gains = []
        for lesson in self.lessons.held_out():
            cloud = grown(lesson.cloud, judged.predict(lesson.around)).to(self.renderer.device)
            ratio = _error(cloud, lesson, self.renderer) / _error(lesson.cloud, lesson, self.renderer)
            gains.append(DECIBEL * math.log(ratio))
        result = {"gain": sum(gains) / len(gains), "least": min(gains), "worse": sum(gain < 0 for gain in gains)}
        append_row(self.folder / JUDGED, {"step": self.step, "views": len(gains), **result})
        about = {"step": self.step, "scenes": [path.stem for path in self.lessons.paths], **result}
        write_amplifier(self.folder / "amplifier", judged, {**about, "options": asdict(self.options)})
        return result["gain"]


def train(folder: Path, lessons: Lessons, options: AmplifierOptions, renderer: Renderer, report: Report = quiet) -> Run:
    """Train up to `options.steps`, going on from what lies in `folder`; a polite signal saves and ends it."""
    threads = torch.get_num_threads()
    # The network is done on one thread before others have woken up; the renderer has threads of its own.
    torch.set_num_threads(1)
    run, rows = Run(folder, lessons, options, renderer), []
    saved, before = time.monotonic(), time.monotonic() - run.seconds
    with asked_to_end() as asked:
        while run.step < options.steps and not asked:
            rows.append(run.advance())
            run.seconds = time.monotonic() - before
            if run.step % options.tell_every == 0:
                means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
                report(run.step / options.steps, f"step {run.step}: {means['gain']:+.2f} dB")
                append_row(run.folder / CURVE, {"step": run.step, "seconds": run.seconds, **means})
                rows = []
            if run.step % options.judge_every == 0 or run.step == options.steps:
                run.judge()
            if time.monotonic() - saved > options.save_every:
                run.save()
                saved = time.monotonic()
    run.save()
    torch.set_num_threads(threads)
    return run


def fresh_amplifier(lessons: Lessons) -> Amplifier:
    """An amplifier that changes nothing yet and knows what its inputs are like."""
    amplifier = Amplifier()
    mean, deviation = lessons.statistics()
    amplifier.mean.copy_(mean)
    amplifier.deviation.copy_(deviation)
    return amplifier


def in_view(lesson: Lesson) -> Lesson:
    """The lesson without the Gaussians that lie behind its camera or far outside the picture."""
    place = lesson.camera.world_to_camera()
    x, y, z = (lesson.cloud.means @ place[:3, :3].T + place[:3, 3]).unbind(1)
    height, width = lesson.wanted.shape[:2]
    reach = 1.3 * height / 2 / lesson.camera.focal((width, height)) * z
    radius = 3 * lesson.cloud.scales.amax(1)
    shown = (z + radius > 0) & (x.abs() < reach * width / height + 2 * radius) & (y.abs() < reach + 2 * radius)
    index = shown.nonzero()[:, 0]
    return replace(lesson, cloud=lesson.cloud.take(index), around=lesson.around.take(index))


@torch.no_grad()
def picture_loss(lesson: Lesson, growth: Growth, renderer: Renderer) -> tuple[float, Growth]:
    """ln(squared error / squared error without growth) of a picture, and its slopes by the growth of each Gaussian."""
    cloud = grown(lesson.cloud, Growth(growth.scales.detach(), growth.opacities.detach())).to(renderer.device)
    wanted = lesson.wanted.to(renderer.device)
    errors: list[float] = []

    def cotangent(drawn: Tensor) -> Tensor:
        missing = drawn.clamp(max=1) - wanted
        error = float(missing.square().mean())
        errors.append(error)
        # A display shows no more than 1, so what is brighter does not answer.
        return missing * (drawn <= 1) * (2 / (missing.numel() * (error + FLOOR)))

    slopes = slopes_of(cloud, lesson, renderer, cotangent)
    return math.log((errors[0] + FLOOR) / _error(lesson.cloud, lesson, renderer)), slopes


def slopes_of(cloud: GaussianCloud, lesson: Lesson, renderer: Renderer, cotangent: Cotangent) -> Growth:
    """How what `cotangent` says of the lesson's picture of a grown cloud changes with the growth of each Gaussian."""
    found = renderer.gradients(cloud, lesson.camera, lesson.size, cotangent)
    logits = found.opacities * cloud.opacities * (1 - cloud.opacities)
    return Growth((found.scales * cloud.scales).cpu(), logits.cpu())


def drawn(cloud: GaussianCloud, lesson: Lesson, renderer: Renderer) -> RenderOutput:
    """The lesson's picture of a cloud."""
    return renderer.render(cloud.to(renderer.device), lesson.camera, lesson.size, RenderSettings())


def _error(cloud: GaussianCloud, lesson: Lesson, renderer: Renderer) -> float:
    """Mean squared error of a cloud's picture, FLOOR included."""
    color = drawn(cloud, lesson, renderer).color
    return float((color - lesson.wanted.to(color.device)).square().mean()) + FLOOR
