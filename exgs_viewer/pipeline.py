"""The whole way on one page: what the command line, the window's workers and the tests all call."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from exgs_viewer.compress.scores import cached_score, score
from exgs_viewer.compress.select import keep_count, rank
from exgs_viewer.render import Renderer, RenderOutput
from exgs_viewer.restore import Restorer, Stale, never
from exgs_viewer.scene.camera import Camera, Size, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import scoring_views
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, RestoreSettings, quiet


def compress(
    cloud: GaussianCloud,
    settings: CompressionSettings,
    renderer: Renderer,
    cameras: Sequence[Camera],
    report: Report = quiet,
) -> GaussianCloud:
    """The round(N * keep) Gaussians that matter most (ExGS 4.1): score, rank, cut, amplify."""
    significance = score(cloud, renderer, cameras, report)  # [N]
    order = rank(cloud, significance, settings.voxel_size)  # [N]
    return cut(cloud.take(order.to(cloud.device)), settings)


def judge(cloud: GaussianCloud, up: Vector, renderer: Renderer, report: Report = quiet) -> Tensor:
    """Significance [N] from views made of the scene alone, remembered for the next time the same scene is judged."""
    report(0.0, "Choosing views to judge the scene from")
    return cached_score(cloud, renderer, scoring_views(cloud, up), report)


def cut(ranked: GaussianCloud, settings: CompressionSettings, order: Tensor | None = None) -> GaussianCloud:
    """The first Gaussians of a cloud that is already in the order of `rank`: cheap enough for a moving slider.

    Shares memory with `ranked` but for the amplified scales. Where `order` [N] is given, the first ones of that
    order are copied instead.
    """
    count = keep_count(len(ranked), settings.keep)
    kept = ranked.with_sh_degree(settings.sh_degree).take(slice(0, count) if order is None else order[:count])
    if settings.amplification == 1.0:
        return kept
    return kept.replaced(scales=kept.scales * settings.amplification)


def restore(output: RenderOutput, restorer: Restorer, settings: RestoreSettings, stale: Stale = never) -> Tensor | None:
    """The repaired picture [H, W, 3] in [0, 1]; None if it went stale on the way."""
    return restorer.restore(output.color, output.alpha, settings, stale, output.background)


def picture(
    cloud: GaussianCloud, camera: Camera, size: Size, renderer: Renderer, settings: RenderSettings
) -> RenderOutput:
    """One picture of a cloud, for callers that hold no other state."""
    return renderer.render(cloud, camera, size, settings)
