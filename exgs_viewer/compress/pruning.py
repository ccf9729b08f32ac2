"""Pruning as ExGS has it: the first of an order are kept, and each grows for what was dropped around it (eq. 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exgs_viewer.compress.amplify import Growth, find_amplifier, grown
from exgs_viewer.compress.guard import quality
from exgs_viewer.compress.polish import Exam
from exgs_viewer.compress.select import keep_count
from exgs_viewer.compress.surroundings import Matter, look_around
from exgs_viewer.render import Renderer, Significance
from exgs_viewer.scene.camera import Camera
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the growth that are compared; then the top of the parabola through the best of them and its neighbours."""


@dataclass(frozen=True, eq=False)
class Pruning:
    """A ranked scene: where every pruning of it starts."""

    cloud: GaussianCloud
    order: Tensor
    """[N] int64. The Gaussians, most important first."""
    cameras: tuple[Camera, ...]
    """The views that judged it."""
    matter: Matter

    @staticmethod
    def of(cloud: GaussianCloud, seen: Significance, cameras: Sequence[Camera], order: Tensor | None) -> Pruning:
        """`order` is None where the cloud lies in it."""
        order = torch.arange(len(cloud)) if order is None else order.cpu()
        return Pruning(cloud, order, tuple(cameras), Matter.of(cloud, seen))


@dataclass(frozen=True, eq=False)
class Pruned:
    """What is kept of a scene, and by how much it should grow."""

    kept: GaussianCloud
    """Its constant amplification applied."""
    growth: Growth

    def cloud(self, strength: float = 1.0) -> GaussianCloud:
        """The kept Gaussians, grown; `strength` 0 leaves them as they are."""
        return grown(self.kept, self.growth.by(strength))


def prune(pruning: Pruning, settings: CompressionSettings) -> Pruned:
    """Keep round(N * keep) Gaussians and ask the network how much each has to grow.

    Feed-forward, without a picture drawn. Raises WeightsError where the network's weights are missing.
    """
    cloud, kept = pruning.cloud, pruning.order[: keep_count(len(pruning.cloud), settings.keep)]
    growth = find_amplifier().predict(look_around(cloud, pruning.matter, kept))
    plain = cloud.with_sh_degree(settings.sh_degree).take(kept.to(cloud.device))
    return Pruned(amplified(plain, settings), growth)


def guarded(pruned: Pruned, renderer: Renderer, exam: Exam) -> tuple[GaussianCloud, float]:
    """`pruned` at the strength that is best for its PSNR in `exam`, dB: never worse than none there.

    The network has learnt from a few scenes. Where another is so unlike them that it answers too much, this is told
    from a handful of pictures. A strength between those that are compared lets neighbouring retentions grow alike, so
    that their files do not jump in size.
    """
    marked = [(cloud, quality(cloud, renderer, exam)) for cloud in map(pruned.cloud, STRENGTHS)]
    strength = peak(STRENGTHS, [psnr for _, psnr in marked])
    if strength not in STRENGTHS:
        between = pruned.cloud(strength)
        marked.append((between, quality(between, renderer, exam)))
    return max(marked, key=lambda pair: pair[1])


def peak(places: Sequence[float], values: Sequence[float]) -> float:
    """Where between evenly spaced `places` the parabola through the largest of `values` and its neighbours is highest.

    At the ends it is the parabola through the last three, within `places`.
    """
    middle = min(max(1, max(range(len(values)), key=values.__getitem__)), len(values) - 2)
    low, mid, high = values[middle - 1 : middle + 2]
    bend = low - 2 * mid + high
    if bend >= 0:
        return places[max(range(len(values)), key=values.__getitem__)]
    step = places[middle] - places[middle - 1]
    return min(max(places[middle] + step * (low - high) / (2 * bend), places[0]), places[-1])


def amplified(cloud: GaussianCloud, settings: CompressionSettings) -> GaussianCloud:
    """The cloud with the constant factor of the settings on all its scales."""
    if settings.amplification == 1.0:
        return cloud
    return cloud.replaced(scales=cloud.scales * settings.amplification)
