"""A short fit of all parameters to pictures of the uncut scene: "Refine", for those who have half a minute.

This is optimisation, not compression as the paper has it, yet it needs no photographs: the scene teaches its own small
copy. Adam with one step per picture; each Gaussian's step is scaled by the residual in its own footprint, so that what
is nearly right already is left alone. Without that, a good start becomes worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from exgs_viewer.compress.polish import Exam, constant_colors, with_constant_colors
from exgs_viewer.render import Gradients, Renderer, missing
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import Report, quiet

SWEEPS = 3
"""Times that every picture is looked at."""
RATES = {"means": 0.04, "scales": 0.02, "turns": 0.02, "logits": 0.06, "colors": 0.01}
"""Largest steps: means in units of the Gaussian's size, scales as logarithms, turns in radians."""
SIZES = {**dict.fromkeys(RATES, 0.0), "scales": RATES["scales"]}
"""Sizes alone cannot fit the pictures so closely that other views suffer: +0.3 ... +2.7 dB on seven scenes at a tenth,
from cameras of their own, also where all parameters together cost some."""
MOMENTUM, VARIANCE = 0.8, 0.95
"""Adam's averages: short ones, since a Gaussian is seen a hundred times at most."""
RESIDUAL = 0.06
"""Root mean square residual at which a step is as long as the rate says."""
PLATEAU, LAST = 0.3, 0.1
"""Share of the steps before the cosine decay begins, and what is left of the rate at its end."""


@dataclass(frozen=True, eq=False)
class _Moments:
    """Adam's memory, one row per Gaussian."""

    mean: Tensor
    """[N, 13]."""
    square: Tensor
    """[N, 13]."""
    steps: Tensor
    """[N]. How often it has been seen."""
    residual: Tensor
    """[N]. Running mean of the squared residual in its footprint, all channels."""


def refine(
    cloud: GaussianCloud,
    renderer: Renderer,
    exam: Exam,
    report: Report = quiet,
    rates: Mapping[str, float] = RATES,
) -> GaussianCloud:
    """The cloud after SWEEPS over the pictures of `exam`; which comes when is always the same.

    `rates` are RATES, or SIZES, which leaves all but the scales as it is.
    """
    zeros = torch.zeros(len(cloud), 13, device=cloud.device)
    moments = _Moments(zeros, zeros.clone(), zeros[:, 0].clone(), zeros[:, 0].clone())
    generator = torch.Generator().manual_seed(0)
    order = [int(v) for _ in range(SWEEPS) for v in torch.randperm(len(exam.cameras), generator=generator)]
    for number, view in enumerate(order):
        report(number / len(order), "Refining")
        wanted = exam.pictures[view]
        found = renderer.gradients(
            cloud, exam.cameras[view], exam.size, lambda drawn, wanted=wanted: -missing(wanted, drawn)
        )
        moments, direction = _adam(moments, _slopes(cloud, found), found)
        cloud = _moved(cloud, direction * _pace(number / len(order)), rates)
    return cloud


def _pace(done: float) -> float:
    """The share of the rates at `done` in [0, 1) of the way."""
    if done < PLATEAU:
        return 1.0
    return LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * (done - PLATEAU) / (1 - PLATEAU)))


def _slopes(cloud: GaussianCloud, found: Gradients) -> Tensor:
    """[N, 13] dL by mean in sizes, log scale, turn about the local axes, logit of the opacity, colour."""
    w, x, y, z = cloud.quats.unbind(1)
    g = found.quats
    # q (1, t / 2) is q turned by the small vector t about its own axes.
    turns = 0.5 * torch.stack(
        [
            -x * g[:, 0] + w * g[:, 1] + z * g[:, 2] - y * g[:, 3],
            -y * g[:, 0] - z * g[:, 1] + w * g[:, 2] + x * g[:, 3],
            -z * g[:, 0] + y * g[:, 1] - x * g[:, 2] + w * g[:, 3],
        ],
        dim=1,
    )
    logits = found.opacities * cloud.opacities * (1 - cloud.opacities)
    return torch.cat([found.means, found.scales * cloud.scales, turns, logits[:, None], found.colors], dim=1)


def _adam(moments: _Moments, slopes: Tensor, found: Gradients) -> tuple[_Moments, Tensor]:
    """The next moments and the step direction [N, 13], about 1 where nothing is right yet, 0 for what was not seen."""
    seen = found.weight > 0
    steps = moments.steps + seen
    here = seen[:, None]
    mean = torch.where(here, MOMENTUM * moments.mean + (1 - MOMENTUM) * slopes, moments.mean)
    square = torch.where(here, VARIANCE * moments.square + (1 - VARIANCE) * slopes**2, moments.square)
    residual = found.squared / found.weight.clamp_min(1e-12)
    residual = torch.where(moments.steps == 0, residual, 0.7 * moments.residual + 0.3 * residual)
    residual = torch.where(seen, residual, moments.residual)
    count = steps.clamp_min(1)[:, None]
    fair_mean, fair_square = mean / (1 - MOMENTUM**count), square / (1 - VARIANCE**count)
    length = (residual / 3).sqrt().div(RESIDUAL).clamp_max(1.5)
    direction = length[:, None] * fair_mean / (fair_square.sqrt() + 1e-7)
    return _Moments(mean, square, steps, residual), torch.where(here, direction, torch.zeros_like(direction))


def _moved(cloud: GaussianCloud, direction: Tensor, rates: Mapping[str, float]) -> GaussianCloud:
    """One step against the slopes."""
    means, scales, turns, logits, colors = direction.split([3, 3, 3, 1, 3], dim=1)
    ordered = cloud.scales.sort(1).values
    size = (ordered[:, 1] * ordered[:, 2]).sqrt()[:, None]
    opacities = cloud.opacities
    if rates["logits"]:
        opacities = torch.sigmoid(torch.logit(opacities.clamp(0.004, 0.9995)) - rates["logits"] * logits[:, 0])
    moved = replace(
        cloud,
        means=cloud.means - rates["means"] * size * means,
        scales=cloud.scales * torch.exp(-rates["scales"] * scales),
        quats=_turned(cloud.quats, -rates["turns"] * turns),
        opacities=opacities,
    )
    return with_constant_colors(moved, constant_colors(cloud) - rates["colors"] * colors)


def _turned(quats: Tensor, turns: Tensor) -> Tensor:
    """Quaternions [N, 4] turned by small vectors [N, 3] (radians) about their own axes."""
    w, x, y, z = quats.unbind(1)
    a, b, c = (0.5 * turns).unbind(1)
    turned = torch.stack(
        [w - x * a - y * b - z * c, x + w * a + y * c - z * b, y + w * b + z * a - x * c, z + w * c + x * b - y * a], 1
    )
    return torch.nn.functional.normalize(turned, dim=1)
