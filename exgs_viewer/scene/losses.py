"""The sentences about what a format cannot hold of a scene, as far as several formats say the same."""

from __future__ import annotations

from torch import Tensor

from exgs_viewer.scene import Scene
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.ply_header import axis_name


def no_cameras(scene: Scene) -> list[str]:
    return [f"The {len(scene.cameras)} cameras were left out; the format holds none."] if scene.cameras else []


def no_up(scene: Scene) -> list[str]:
    return ["Which way is up was left out; the format does not say it."] if scene.up else []


def oblique_up(scene: Scene) -> list[str]:
    """For formats that name an axis as the way up."""
    oblique = scene.up is not None and axis_name(scene.up) is None
    return ["Which way is up was left out; the format can only name an axis."] if oblique else []


def counted(wrong: Tensor, words: str) -> list[str]:
    """`7 of 600 Gaussians` and `words`, for a mask [N] of those concerned; nothing where there are none."""
    count = int(wrong.sum())
    return [f"{count:,} of {len(wrong):,} Gaussians {words}"] if count else []


def too_strong(cloud: GaussianCloud, low: float, high: float) -> list[str]:
    """About higher coefficients outside [low, high], the bounds that a format brings them back to."""
    rest = cloud.sh[:, 1:].flatten(1)  # [N, 3 (K - 1)]
    words = f"had view-dependent colours beyond +-{high:g}, which the format cannot hold; they were brought to that."
    return counted(((rest < low) | (rest > high)).any(dim=1), words)
