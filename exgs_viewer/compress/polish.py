"""What makes a folded cloud look like the scene it came from: visibility, then colours. Nothing here is trained.

Folding knows its members' visibility but not how the merged Gaussians hide one another; `calibrate` measures that and
corrects opacities. A picture is then linear in the colours, so the best ones follow from a few steps of conjugate
gradients against pictures of the uncut scene (`colors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from exgs_viewer.compress import scores
from exgs_viewer.compress.fold import Folded
from exgs_viewer.compress.merge import exposure
from exgs_viewer.render import Renderer
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.settings import Report, quiet

T = TypeVar("T")
DOUBT, MOST = 0.6, 4.0
"""How much of a Gaussian's exposure speaks against correcting it, and the largest correction. What was measured in few
pixels of what could be seen would mend these pixels and spoil others: without doubt -0.3 dB in the mean of seven scenes
from cameras of their own. A second round gains nothing more."""
OPACITY_MIN, OPACITY_MAX = 0.004, 0.99
GROWTH = 1.5
"""How much larger a Gaussian may become where its opacity cannot grow further."""
ITERATIONS = 3
"""Steps of conjugate gradients; a fourth changes nothing (-0.03 ... +0.02 dB in views that nothing was fitted to)."""
RIDGE = 0.1
"""What speaks for leaving a colour as it is, in medians of what the Gaussians weigh: the few pixels that show one which
is hardly seen say little of it, and much of others."""
COLOR_MIN, COLOR_MAX = -1.0, 4.0
"""Colours may lie beyond black and white: highlights of trained scenes are faint Gaussians three times as bright."""


@dataclass(frozen=True, eq=False)
class Exam:
    """Pictures of the uncut scene that a compressed one has to match."""

    cameras: Sequence[Camera]
    size: Size
    pictures: Sequence[Tensor]
    """[H, W, 3] in [0, 1] for each camera, over black."""

    def some(self, most: int) -> Exam:
        """At most that many of them, evenly."""
        return Exam(evenly(self.cameras, most), self.size, evenly(self.pictures, most))


def evenly(values: Sequence[T], most: int) -> Sequence[T]:
    """At most that many of them, the first and then at equal steps."""
    return values[:: max(1, -(-len(values) // most))]


def calibrate(folded: Folded, renderer: Renderer, cameras: Sequence[Camera], report: Report = quiet) -> GaussianCloud:
    """The cloud with opacities such that each Gaussian is as visible as its members were.

    `cameras` are those that the members were seen with; the less they met of a Gaussian, the less it is corrected. What
    opacity cannot carry goes into the size.
    """
    cloud = folded.cloud
    wanted = folded.wanted.to(cloud.device)
    weight = torch.zeros(len(cloud), device=cloud.device)
    for number, camera in enumerate(cameras):
        report(number / len(cameras), "Matching visibility")
        weight += renderer.adjoint(cloud, camera, scores.SCORING_SIZE)[1].to(cloud.device)
    doubt = 1 + DOUBT * torch.from_numpy(exposure(cloud, wanted)).to(weight)
    opacity = cloud.opacities * ((wanted + doubt) / (weight + doubt)).clamp(1 / MOST, MOST)
    growth = (opacity / OPACITY_MAX).clamp(1, GROWTH**2).sqrt()[:, None]
    return cloud.replaced(opacities=opacity.clamp(OPACITY_MIN, OPACITY_MAX), scales=cloud.scales * growth)


def colors(cloud: GaussianCloud, renderer: Renderer, exam: Exam, report: Report = quiet) -> GaussianCloud:
    """The cloud with the constant colours that come nearest to the pictures of `exam`, by least squares.

    Conjugate gradients on the normal equations (A^T A + ridge) x = A^T r of the change x of the colours,
    preconditioned with the diagonal of what each Gaussian weighs, A^T 1.
    """
    passes = 1 + ITERATIONS

    def told(number: int) -> Report:
        return partial(_tell, report, number / passes, 1 / passes, "Matching colours")

    residual, weight = _adjoint(cloud, renderer, exam, None, told(0))
    seen = weight[weight > 0]
    ridge = RIDGE * (seen.median() if len(seen) else 0.0) + 1e-3
    diagonal = weight[:, None] + ridge
    change = torch.zeros_like(residual)
    scaled = residual / diagonal
    direction, length = scaled, (residual * scaled).sum(0)
    for number in range(1, passes):
        turned, _ = _adjoint(cloud, renderer, exam, direction, told(number))
        turned = turned + ridge * direction
        step = length / (direction * turned).sum(0).clamp_min(1e-20)
        change, residual = change + step * direction, residual - step * turned
        scaled = residual / diagonal
        shorter = (residual * scaled).sum(0)
        direction, length = scaled + shorter / length.clamp_min(1e-20) * direction, shorter
    return with_constant_colors(cloud, constant_colors(cloud) + change)


def constant_colors(cloud: GaussianCloud) -> Tensor:
    """[N, 3]. The part of the colour that is the same from every side."""
    return 0.5 + SH_C0 * cloud.sh[:, 0]


def with_constant_colors(cloud: GaussianCloud, values: Tensor) -> GaussianCloud:
    """The cloud with `constant_colors` values [N, 3], limited to COLOR_MIN ... COLOR_MAX."""
    constant = (values.clamp(COLOR_MIN, COLOR_MAX) - 0.5) / SH_C0
    return cloud.replaced(sh=torch.cat([constant[:, None].float(), cloud.sh[:, 1:]], dim=1))


def _adjoint(
    cloud: GaussianCloud, renderer: Renderer, exam: Exam, values: Tensor | None, report: Report
) -> tuple[Tensor, Tensor]:
    """Sums over the exam's pictures: A^T (picture - A c) and A^T 1, or A^T A values where those are given."""
    total = torch.zeros(len(cloud), 3, device=cloud.device)
    weight = torch.zeros(len(cloud), device=cloud.device)
    for number, (camera, picture) in enumerate(zip(exam.cameras, exam.pictures, strict=True)):
        report(number / len(exam.cameras), "")
        found, seen = renderer.adjoint(cloud, camera, exam.size, picture if values is None else None, values)
        total += found
        weight += seen
    return total, weight


def _tell(report: Report, start: float, length: float, words: str, fraction: float, _: str) -> None:
    report(start + length * fraction, words)
