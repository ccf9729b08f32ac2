"""How far a painted picture is from the uncut one, and how far its latent is.

The paper has L2, LPIPS and a latent loss. LPIPS needs VGG weights that do not ship with this program; in its place
stand SSIM, the difference of gradients and, on request, the features of a smaller network (features.py). The paper's
latent loss as printed has no gradient to the network; here it pulls the predicted clean latent towards that of the
uncut picture, which is what one-step restorers do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exgs_viewer.metrics import ssim
from exgs_viewer.restore.painter import Painted
from exgs_viewer.train.options import LossWeights

CHARBONNIER = 1e-3
"""Below this a difference counts squared, above it by its size."""

GOOD_ENOUGH = 5e-4
"""Added to the squared error that a crop's own is divided by, 33 dB. With 1e-4 the crops that lack next to nothing, on
which any stir is a step back, took nearly all of the gradient, and the painter learnt no more than the fill knows."""


def terms(painted: Painted, given: Tensor, target: Tensor, latent: Tensor | None) -> dict[str, Tensor]:
    """Every term by its name in LossWeights, for a picture painted from `given`; None for `latent` leaves it out.

    `relative` and not the logarithm of the error: the logarithm pulls hardest where hardly any error is left, and the
    painter learnt from it to do nothing.
    """
    difference = painted.picture - target
    before, after = (each.square().flatten(1).mean(1) for each in (given - target, difference))
    found = {
        "charbonnier": (difference.square() + CHARBONNIER**2).sqrt().mean(),
        "square": after.mean(),
        "relative": (after / (before + GOOD_ENOUGH)).mean(),
        "ssim": 1 - batch_ssim(painted.picture, target),
        "gradient": sum(difference.diff(dim=axis).abs().mean() for axis in (2, 3)),
    }
    if latent is not None:
        found["latent"] = (painted.latent - latent).square().mean()
    return found


def total(found: dict[str, Tensor], weights: LossWeights) -> Tensor:
    return sum(getattr(weights, name) * value for name, value in found.items())


def batch_ssim(pictures: Tensor, targets: Tensor) -> Tensor:
    """Mean SSIM of [B, 3, H, W] in float32: every channel of every picture counts by itself anyway."""
    return ssim(*(part.float().flatten(0, 1).movedim(0, 2) for part in (pictures, targets)))


def batch_psnr(pictures: Tensor, targets: Tensor) -> Tensor:
    """[B] dB, of pictures clamped to [0, 1]."""
    error = (pictures.clamp(0, 1) - targets).float().square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10))
