"""LightGaussian's recovery after pruning ("LightGS*" in ExGS): all parameters are trained on, as 3DGS trained them.

There are no photographs, so pictures of the uncut scene from random views teach, as in ExGS 5.1. The loss, the rates
and their decay are those of 3DGS and LightGaussian (Kerbl et al. 2023, Fan et al. 2024), without densification.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exgs_viewer.metrics import ssim
from exgs_viewer.render import Gradients, Renderer
from exgs_viewer.render.reference import sh_basis
from exgs_viewer.scene.camera import Camera, Size, Vector, fly, look
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import extent
from exgs_viewer.settings import RenderSettings, Report, quiet

RATES = {"means": 1.6e-6, "scales": 5e-3, "quats": 1e-3, "opacities": 5e-2, "constant": 2.5e-3, "harmonics": 1.25e-4}
"""Adam's rates for what 3DGS trains, at the end of its schedule; positions in extents of the scene."""
DECAY, DECAY_STEPS = 0.95, 400
"""LightGaussian multiplies the rates by this after each so many steps."""
DISSIMILARITY = 0.2
"""Share of 1 - SSIM in the loss; the rest is the absolute difference."""
WANDER, TURN = 0.03, 0.25
"""Random views: how far from a scoring view, in extents of the scene, and by how many radians turned (one sigma)."""
LOGIT_LIMIT = 15.0


@dataclass(frozen=True)
class Recovery:
    """How long, and on what."""

    steps: int = 1000
    """As in ExGS 5.1."""
    views: int = 100
    """Random views, whose pictures are drawn once and taken in turn."""
    size: Size = (480, 320)
    """Of the pictures."""


def recover(
    pruned: GaussianCloud, uncut: GaussianCloud, renderer: Renderer, views: Sequence[Camera], recovery: Recovery
) -> GaussianCloud:
    """`pruned` after training towards `uncut`, seen from `views`; the same every time."""
    reach = extent(uncut)
    taught = [renderer.render(uncut, view, recovery.size, RenderSettings()).color for view in views]
    leaves = _parameters(pruned)
    groups = [{"params": [leaf], "lr": RATES[name]} for name, leaf in leaves.items()]
    groups[0]["lr"] *= reach
    adam = torch.optim.Adam(groups, eps=1e-15)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, DECAY)
    for step in range(1, recovery.steps + 1):
        view = step % len(views)
        cloud = _cloud(leaves)
        found = renderer.gradients(
            cloud, views[view], recovery.size, lambda drawn, wanted=taught[view]: slope(drawn, wanted)
        )
        for name, gradient in _by_parameter(cloud, found, views[view]).items():
            leaves[name].grad = gradient
        adam.step()
        leaves["quats"].copy_(torch.nn.functional.normalize(leaves["quats"], dim=1))
        if step % DECAY_STEPS == 0:
            decay.step()
    return _cloud(leaves)


def random_views(
    views: Sequence[Camera], cloud: GaussianCloud, up: Vector, recovery: Recovery, report: Report = quiet
) -> list[Camera]:
    """Views around `views`, drawn by lot but always the same: a step aside and a turn of the head."""
    chance, reach, found = random.Random(0), extent(cloud), []
    for number in range(recovery.views):
        report(number / recovery.views, "choosing random views")
        aside = (chance.gauss(0, WANDER * reach) for _ in range(3))
        turned = look(views[number % len(views)], chance.gauss(0, TURN), chance.gauss(0, TURN / 2), up)
        found.append(fly(turned, *aside))
    return found


@torch.enable_grad()
def slope(drawn: Tensor, wanted: Tensor) -> Tensor:
    """[H, W, 3]. Derivative of 3DGS's loss by the picture `drawn`, which may exceed 1 where a display cannot."""
    picture = drawn.detach().requires_grad_(True)
    shown = picture.clamp(0, 1)
    loss = (1 - DISSIMILARITY) * (shown - wanted).abs().mean() + DISSIMILARITY * (1 - ssim(shown, wanted))
    return torch.autograd.grad(loss, picture)[0]


def _parameters(cloud: GaussianCloud) -> dict[str, Tensor]:
    """What 3DGS trains: logarithms of scales, logits of opacities, the harmonics apart from the constant colour."""
    return {
        "means": cloud.means.clone(),
        "scales": cloud.scales.log(),
        "quats": cloud.quats.clone(),
        "opacities": torch.logit(cloud.opacities).clamp(-LOGIT_LIMIT, LOGIT_LIMIT),
        "constant": cloud.sh[:, :1].clone(),
        "harmonics": cloud.sh[:, 1:].clone(),
    }


def _cloud(leaves: dict[str, Tensor]) -> GaussianCloud:
    return GaussianCloud(
        means=leaves["means"].detach().clone(),
        scales=leaves["scales"].exp(),
        quats=leaves["quats"].clone(),
        opacities=leaves["opacities"].sigmoid(),
        sh=torch.cat([leaves["constant"], leaves["harmonics"]], dim=1),
    )


def _by_parameter(cloud: GaussianCloud, found: Gradients, camera: Camera) -> dict[str, Tensor]:
    """The gradients of a picture by what is trained."""
    position = torch.tensor(camera.position, device=cloud.device)
    basis = sh_basis(torch.nn.functional.normalize(cloud.means - position, dim=1))[:, : cloud.sh.shape[1]]  # [N, K]
    sh = basis[:, :, None] * found.colors[:, None]
    return {
        "means": found.means,
        "scales": found.scales * cloud.scales,
        "quats": found.quats,
        "opacities": found.opacities * cloud.opacities * (1 - cloud.opacities),
        "constant": sh[:, :1],
        "harmonics": sh[:, 1:],
    }
