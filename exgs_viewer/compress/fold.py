"""Groups of Gaussians -> one Gaussian each, with the same moments and as visible as its members were together.

Mean, covariance and colours are averages weighted by blending weight. The opacity comes from the VISIBLE mass (opacity
times area times mean transmittance): members that are hidden behind others must not make the group more opaque.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exgs_viewer.compress import fold_steps as steps
from exgs_viewer.compress.merge import transmittance, visible_weight
from exgs_viewer.render import Significance
from exgs_viewer.scene.cloud import GaussianCloud

POWER = -0.5
"""Exponent of the mean by which members' transmittances become the group's: 1 suits rooms, -1 objects."""


@dataclass(frozen=True, eq=False)
class Members:
    """What folding knows of each Gaussian of a scene beside its parameters, made once for all slider positions."""

    weight: NDArray[np.float32]
    """[N] > 0. Summed blending weight; small by area where nobody looked."""
    through: NDArray[np.float32]
    """[N] in (0, 1]. Mean transmittance in front of it."""

    @staticmethod
    def of(cloud: GaussianCloud, seen: Significance) -> Members:
        return Members(visible_weight(cloud, seen).astype(np.float32), transmittance(seen))


@dataclass(frozen=True, eq=False)
class Folded:
    """Merged Gaussians and what was to be seen of their members."""

    cloud: GaussianCloud
    wanted: Tensor
    """[K] float32. Summed blending weight of each one's members."""
    group: NDArray[np.int32]
    """[N]. Which of them each Gaussian of the scene went into; -1 for those that were dropped."""


def fold(cloud: GaussianCloud, seen: Significance, members: Members, labels: NDArray[np.int32]) -> Folded:
    """The groups of `labels` [N] (0, 1, 2 ... and -1 for what belongs to none) as Gaussians, the most visible first.

    A group of one comes back as it was. All SH coefficients are averaged alike.
    """
    count = int(labels.max()) + 1
    weight = steps.total(labels, members.weight, count)
    order = np.argsort(-weight, kind="stable")
    rank = np.full(count + 1, -1, np.int32)  # The last entry answers for the label -1.
    rank[order] = np.arange(count, dtype=np.int32)
    group = rank[labels]
    names = ("means", "scales", "quats", "opacities", "sh")
    arrays = [np.ascontiguousarray(getattr(cloud, name).cpu().numpy()) for name in names]
    sums = steps.gather(*arrays, members.weight, members.through, group, count, POWER)
    merged = GaussianCloud(*map(torch.from_numpy, steps.finish(*arrays, *sums, POWER)))
    wanted = steps.total(group, seen.weight.cpu().numpy(), count)
    return Folded(merged.to(cloud.device), torch.from_numpy(wanted.astype(np.float32)), group)
