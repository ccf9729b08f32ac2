"""GaussianCloud: the one form in which splats travel through the program."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SH_COUNTS = (1, 4, 9, 16)
"""Number of spherical-harmonics coefficients K for degree 0, 1, 2, 3."""

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonic: colour = 0.5 + SH_C0 * sh[:, 0]."""


@dataclass(frozen=True, eq=False)
class GaussianCloud:
    """N anisotropic 3D Gaussians in activated form; never changed in place, equal only to itself.

    Made under `torch.no_grad()`, never under `inference_mode`, so that scores and training may use gradients.
    """

    means: Tensor
    """[N, 3] float32. Centres, world units."""
    scales: Tensor
    """[N, 3] float32, > 0. Standard deviations along the local axes, world units."""
    quats: Tensor
    """[N, 4] float32. Unit quaternions (w, x, y, z), local to world."""
    opacities: Tensor
    """[N] float32 in [0, 1]. Largest alpha of each Gaussian."""
    sh: Tensor
    """[N, K, 3] float32. Real spherical harmonics of the colour, constant term first, K = (degree + 1)^2."""

    def __post_init__(self) -> None:
        n, k = len(self.means), self.sh.shape[1]
        expected = {"means": (n, 3), "scales": (n, 3), "quats": (n, 4), "opacities": (n,), "sh": (n, k, 3)}
        for name, shape in expected.items():
            tensor = getattr(self, name)
            assert tuple(tensor.shape) == shape, f"{name} is {tuple(tensor.shape)}, not {shape}"
            assert tensor.dtype == torch.float32, f"{name} is {tensor.dtype}, not float32"
            assert tensor.device == self.means.device, f"{name} lies on {tensor.device}, means on {self.means.device}"
        assert k in SH_COUNTS, f"{k} spherical-harmonics coefficients"

    def __len__(self) -> int:
        return len(self.means)

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def sh_degree(self) -> int:
        return SH_COUNTS.index(self.sh.shape[1])

    def take(self, index: Tensor | slice) -> GaussianCloud:
        """The Gaussians at `index` ([M] int64 or bool mask), in that order. A slice shares memory with this cloud."""
        values = (getattr(self, field.name) for field in fields(self))
        if isinstance(index, slice) or index.dtype == torch.bool:
            return GaussianCloud(*(value[index] for value in values))
        return GaussianCloud(
            *(value.index_select(0, index) for value in values)
        )  # A third of the time of value[index].

    def replaced(self, **values: Tensor) -> GaussianCloud:
        """The same cloud with some fields exchanged."""
        return replace(self, **values)

    def with_sh_degree(self, degree: int) -> GaussianCloud:
        """The cloud without spherical harmonics above `degree`; shares memory, never adds coefficients."""
        kept = SH_COUNTS[min(degree, self.sh_degree)]
        return self if kept == self.sh.shape[1] else self.replaced(sh=self.sh[:, :kept])

    def to(self, device: torch.device | str) -> GaussianCloud:
        """The cloud on another device (itself when it is there already)."""
        if self.device == torch.device(device):
            return self
        return GaussianCloud(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def ply_bytes(self) -> int:
        """Bytes of these Gaussians as a standard float32 3DGS .ply, header left out: the yardstick of all ratios.

        The standard file has 3 positions, 3 normals, 3K colours, opacity, 3 scales and 4 rotations.
        """
        return len(self) * 4 * (3 + 3 + 3 * self.sh.shape[1] + 1 + 3 + 4)


def join(clouds: list[GaussianCloud]) -> GaussianCloud:
    """One cloud of all the Gaussians; lower SH degrees are padded with zeros to the highest."""
    most = max(cloud.sh.shape[1] for cloud in clouds)
    names = ("means", "scales", "quats", "opacities")
    sh = [cloud.sh for cloud in clouds]
    if any(cloud.sh.shape[1] < most for cloud in clouds):
        sh = [torch.nn.functional.pad(each, (0, 0, 0, most - each.shape[1])) for each in sh]
    return GaussianCloud(*(torch.cat([getattr(cloud, name) for cloud in clouds]) for name in names), torch.cat(sh))
