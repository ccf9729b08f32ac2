"""cloud + camera -> picture. The contract of every renderer, and the table of those there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from exgs_viewer.errors import BackendError
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet

# The constants of the original 3DGS rasteriser (Kerbl et al. 2023), shared by all backends.
DILATION = 0.3
"""Added to the diagonal of every projected covariance, pixels^2."""
ALPHA_MIN = 1 / 255
"""A contribution below this is skipped."""
ALPHA_MAX = 0.999
"""No single Gaussian hides more than this."""
TRANSMITTANCE_MIN = 1e-4
"""A ray ends before the Gaussian that would bring its transmittance to or below this."""


@dataclass(frozen=True, eq=False)
class RenderOutput:
    """One picture with what restoration and navigation need beside its colour."""

    color: Tensor
    """[H, W, 3] float32 in [0, 1], display sRGB, composited over the background."""
    alpha: Tensor
    """[H, W] float32 in [0, 1]. Coverage."""
    depth: Tensor
    """[H, W] float32. Expected camera-space z (sum of w z / sum of w), world units; 0 where alpha is 0."""
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What `color` is composited over, display sRGB."""


@dataclass(frozen=True, eq=False)
class Significance:
    """What a set of views saw of each Gaussian."""

    hits: Tensor
    """[N] float32. Sum over pixels hit of opacity * transmittance: ExGS eq. 7 with eq. 8."""
    weight: Tensor
    """[N] float32. Sum over pixels of the blending weight alpha * transmittance."""
    peak: Tensor
    """[N] float32 in [0, 1]. Largest blending weight at any pixel."""
    coverage: Tensor
    """[N] float32 >= weight. Sum over pixels of alpha, as if nothing stood in front, wherever the ray had not ended."""
    pixels: Tensor
    """[N] float32. Number of these pixels: alpha at least 1/255, the ray not ended."""


@dataclass(frozen=True, eq=False)
class Gradients:
    """What a cotangent of one picture (dL / dcolour of each pixel) says of each Gaussian; zeros for what it misses.

    The directions from which spherical harmonics are looked up are held fixed.
    """

    means: Tensor
    """[N, 3] float32. dL / dmean, per world unit."""
    scales: Tensor
    """[N, 3] float32. dL / dscale, per world unit."""
    quats: Tensor
    """[N, 4] float32. dL / dquaternion along the unit sphere."""
    opacities: Tensor
    """[N] float32. dL / dopacity."""
    colors: Tensor
    """[N, 3] float32. dL / d(the Gaussian's colour in this picture); 0 where spherical harmonics fell below black."""
    weight: Tensor
    """[N] float32 >= 0. Sum over pixels of the blending weight alpha * transmittance."""
    squared: Tensor
    """[N] float32 >= 0. Sum over pixels of blending weight * squared length of the cotangent."""


Cotangent = Callable[[Tensor], Tensor]
"""From the picture [H, W, 3] over black, not limited to 1, to dL / dpicture [H, W, 3], both on the renderer's device.

It is called while the renderer is busy, so it must not draw.
"""


def missing(wanted: Tensor, drawn: Tensor) -> Tensor:
    """What a picture lacks; a display shows no more than 1."""
    return wanted.to(drawn.device) - drawn.clamp(max=1)


def answer(wanted: Tensor | None) -> Cotangent:
    """The Cotangent that Renderer.adjoint carries back: what the picture lacks, or the picture itself."""
    return (lambda drawn: drawn) if wanted is None else partial(missing, wanted)


Album = dict[Camera, Tensor | None]
"""Cameras whose pictures [H, W, 3] are wanted, and the pictures once they are taken."""
CONSTANT = RenderSettings(sh_degree=0)
"""How they are drawn: of one colour from all sides, over black."""


class Renderer(Protocol):
    """Stateless apart from its device and scratch memory; may be called from two threads."""

    name: str
    """Its key in BACKENDS."""
    label: str
    """What the window shows: which machine part draws, e.g. `CPU, 2 threads`."""
    device: torch.device

    def render(self, cloud: GaussianCloud, camera: Camera, size: Size, settings: RenderSettings) -> RenderOutput: ...

    def significance(
        self,
        cloud: GaussianCloud,
        cameras: Sequence[Camera],
        size: Size,
        report: Report = quiet,
        album: Album | None = None,
    ) -> Significance:
        """What the cameras see of each Gaussian; an `album` is filled in passing, which costs less than to `render`."""
        ...

    def gradients(self, cloud: GaussianCloud, camera: Camera, size: Size, cotangent: Cotangent) -> Gradients:
        """Draw, ask for the cotangent, and carry it back to every Gaussian (all SH of the cloud are drawn)."""
        ...

    def adjoint(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        size: Size,
        wanted: Tensor | None = None,
        colors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A^T A c [N, 3] and A^T 1 [N], where the picture A c is A times the Gaussians' colours c.

        With the picture `wanted` [H, W, 3] it is what the drawn one lacks, A^T (wanted - min(1, A c)). Much cheaper
        than `gradients`. `colors` [N, 3], of any sign, are drawn in place of the cloud's own.
        """
        ...


BACKENDS = {
    "cuda": "exgs_viewer.render.cuda",
    "cpu": "exgs_viewer.render.cpu",
    "reference": "exgs_viewer.render.reference",
}
"""Every backend: a module with `open(report) -> Renderer`, which raises BackendError where it cannot work here."""

AUTOMATIC = ("cuda", "cpu")
"""What `auto` tries, in this order."""


def open_renderer(name: str = "auto", report: Report = quiet) -> Renderer:
    """Open a backend by name, or the first that works here; `report` hears of kernels that are compiled for it.

    Raises BackendError that says why the named one, or each one, cannot be used.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise BackendError(f"There is no renderer named '{name}'; choose one of auto, {', '.join(BACKENDS)}.")
        return import_module(BACKENDS[name]).open(report)
    reasons = []
    for candidate in AUTOMATIC:
        try:
            return import_module(BACKENDS[candidate]).open(report)
        except BackendError as error:
            reasons.append(f"{candidate}: {error}")
    raise BackendError("No renderer works here. " + " ".join(reasons))
