"""The oracle of the tests: projection, spherical harmonics and compositing in plain torch.

Written to be read, not to be fast; every backend has to draw the same picture. Nothing is changed in place, so
gradients flow from a picture or a crop of it (`draw`) back to every field of the cloud.
Formulas: Zwicker et al. 2001 (EWA splatting), Kerbl et al. 2023 (3DGS); the Jacobian's clamp is that of gsplat 1.5.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from exgs_viewer.render import (
    ALPHA_MAX,
    ALPHA_MIN,
    CONSTANT,
    DILATION,
    TRANSMITTANCE_MIN,
    Album,
    Cotangent,
    Gradients,
    RenderOutput,
    Significance,
    answer,
)
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import SH_C0, SH_COUNTS, GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet

TILE = 16
"""Pixels are drawn in squares of this edge, which bounds the memory."""

CHUNK = 256
"""Gaussians that are composited at once: TILE^2 * CHUNK numbers for each intermediate value."""

FRUSTUM_MARGIN = 0.3
"""Centres outside the picture are linearised at most this much further out, in tangents of the half fov."""

Rgb = tuple[float, float, float]
Region = tuple[int, int, int, int]
"""(left, top, right, bottom), pixels of the whole picture; right and bottom lie outside."""


@dataclass(frozen=True, eq=False)
class Splats:
    """The M Gaussians of a cloud that may be drawn, as one camera sees them, nearest first."""

    index: Tensor
    """[M] int64. Row in the cloud."""
    means2d: Tensor
    """[M, 2]. Centres, pixels; the middle of the top left pixel is (0.5, 0.5)."""
    conics: Tensor
    """[M, 3]. a, b, c of the inverse of the dilated 2D covariance [[a, b], [b, c]], 1 / pixels^2."""
    depths: Tensor
    """[M]. Camera-space z, world units, >= near."""
    opacities: Tensor
    """[M] in [ALPHA_MIN, 1]."""
    reach: Tensor
    """[M, 2]. Half width and height of the box outside of which alpha is below ALPHA_MIN, pixels."""

    def take(self, index: Tensor | slice) -> Splats:
        return Splats(*(getattr(self, field.name)[index] for field in fields(self)))


class ReferenceRenderer:
    """Renderer in plain torch; `dtype` float64 is exact enough to be compared with closed forms."""

    name = "reference"
    label = "Reference (torch, slow)"

    def __init__(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        self.dtype = dtype
        self.device = torch.device(device)

    def render(self, cloud: GaussianCloud, camera: Camera, size: Size, settings: RenderSettings) -> RenderOutput:
        cloud = cloud.to(self.device)
        splats = project(cloud, camera, size, settings.near, self.dtype, settings.antialiased)
        colors = view_colors(cloud.take(splats.index), camera, settings.sh_degree, self.dtype)
        return draw(splats, colors, (0, 0, *size), settings.background)

    @torch.no_grad()
    def significance(
        self,
        cloud: GaussianCloud,
        cameras: Sequence[Camera],
        size: Size,
        report: Report = quiet,
        album: Album | None = None,
    ) -> Significance:
        cloud = cloud.to(self.device)
        total = Significance(
            *(torch.zeros(len(cloud), dtype=self.dtype, device=self.device) for _ in fields(Significance))
        )
        for number, camera in enumerate(cameras):
            splats = project(cloud, camera, size, RenderSettings().near, self.dtype)
            for row in _tile_rows(splats, (0, 0, *size)):
                report((number + row[0][0][1] / size[1]) / len(cameras), f"Scoring view {number + 1}/{len(cameras)}")
                for tile, index in row:
                    _tally(total, splats.take(index), _pixels(tile, splats.means2d))
            if album and camera in album:
                album[camera] = self.render(cloud, camera, size, CONSTANT).color
        return Significance(*(getattr(total, field.name).float() for field in fields(Significance)))

    def gradients(self, cloud: GaussianCloud, camera: Camera, size: Size, cotangent: Cotangent) -> Gradients:
        """See Renderer.gradients; by torch's own differentiation of the picture."""
        cloud = cloud.to(self.device)
        shape = [getattr(cloud, name).to(self.dtype) for name in ("means", "scales", "quats", "opacities")]
        colors = view_colors(cloud, camera, cloud.sh_degree, self.dtype)
        *found, back = self._back(shape, colors, camera, size, cotangent)
        return Gradients(*found, back[:, :3].masked_fill(colors <= 0, 0), back[:, 3], back[:, 4])

    def adjoint(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        size: Size,
        wanted: Tensor | None = None,
        colors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See Renderer.adjoint."""
        cloud = cloud.to(self.device)
        shape = [getattr(cloud, name).to(self.dtype) for name in ("means", "scales", "quats", "opacities")]
        if colors is None:
            colors = view_colors(cloud, camera, cloud.sh_degree, self.dtype)
        back = self._back(shape, colors.to(self.device, self.dtype), camera, size, answer(wanted))[-1]
        return back[:, :3], back[:, 3]

    def _back(
        self, shape: Sequence[Tensor], colors: Tensor, camera: Camera, size: Size, cotangent: Cotangent
    ) -> list[Tensor]:
        """Gradients of means, scales, quats, opacities, and [N, 5]: colours, weight, weight * squared cotangent.

        Two more channels, of which nothing is drawn, carry the latter two back.
        """
        leaves = [
            value.detach().clone().requires_grad_() for value in (*shape, torch.nn.functional.pad(colors, (0, 2)))
        ]
        with torch.enable_grad():
            splats = project(_Shape(*leaves[:4]), camera, size, RenderSettings().near, self.dtype)
            drawn = blended(splats, leaves[4][splats.index], (0, 0, *size))
            told = cotangent(drawn[..., :3].detach().float()).to(self.dtype)
            told = torch.cat([told, torch.ones_like(told[..., :1]), told.square().sum(2, keepdim=True)], dim=2)
            # The sum of nothing keeps a picture differentiable in which nothing is seen.
            drawn = drawn + 0 * sum(leaf.sum() for leaf in leaves)
        return [gradient.float() for gradient in torch.autograd.grad(drawn, leaves, told)]


@dataclass(frozen=True, eq=False)
class _Shape:
    """The part of a cloud that projection reads, in any precision."""

    means: Tensor
    scales: Tensor
    quats: Tensor
    opacities: Tensor

    @property
    def device(self) -> torch.device:
        return self.means.device


def open(report: Report = quiet) -> ReferenceRenderer:
    """The reference works wherever torch does."""
    return ReferenceRenderer()


def project(
    cloud: GaussianCloud,
    camera: Camera,
    size: Size,
    near: float,
    dtype: torch.dtype = torch.float32,
    antialiased: bool = False,
) -> Splats:
    """All Gaussians in front of the near plane that are opaque enough to be seen, nearest first.

    Antialiased, a Gaussian covers as much after its dilation as before (Mip-Splatting, Yu et al. 2023, eq. 9).
    """
    view = camera.world_to_camera().to(cloud.device, dtype)
    centers = cloud.means.to(dtype) @ view[:3, :3].T + view[:3, 3]  # [N, 3] camera space
    drawable = (centers[:, 2] >= near) & (cloud.opacities >= ALPHA_MIN)
    index = drawable.nonzero()[:, 0]
    index = index[torch.argsort(centers[index, 2], stable=True)]  # [M]
    centers, opacities = centers[index], cloud.opacities[index].to(dtype)
    turned = view[:3, :3] @ rotation_matrices(cloud.quats[index].to(dtype))  # [M, 3, 3] local to camera
    covariance = project_covariance(turned * cloud.scales[index, None].to(dtype), centers, camera, size)
    xx, xy, yy = covariance.unbind(1)
    determinant = (xx * yy - xy * xy).clamp(min=1e-10)
    if antialiased:
        before = ((xx - DILATION) * (yy - DILATION) - xy * xy).clamp(min=0)
        opacities = opacities * torch.sqrt(before / determinant)
    focal = camera.focal(size)
    middle = torch.tensor([size[0] / 2, size[1] / 2], dtype=dtype, device=cloud.device)
    splats = Splats(
        index=index,
        means2d=focal * centers[:, :2] / centers[:, 2:] + middle,
        conics=torch.stack([yy, -xy, xx], dim=1) / determinant[:, None],
        depths=centers[:, 2],
        opacities=opacities,
        reach=torch.sqrt(2 * torch.log(opacities / ALPHA_MIN)[:, None] * torch.stack([xx, yy], dim=1)),
    )
    return splats.take(opacities >= ALPHA_MIN) if antialiased else splats


def project_covariance(axes: Tensor, centers: Tensor, camera: Camera, size: Size) -> Tensor:
    """[M, 3, 3] scaled axes (columns) and [M, 3] centres in camera space -> [M, 3] dilated xx, xy, yy in pixels^2.

    The perspective is linearised at the centre (EWA), which is first drawn into the frustum plus a margin.
    """
    focal = camera.focal(size)
    half = torch.tensor(size, dtype=centers.dtype, device=centers.device) / (2 * focal)  # tangents of the half fov
    limit = (1 + FRUSTUM_MARGIN) * half
    depth = centers[:, 2:]
    slope = torch.minimum(torch.maximum(centers[:, :2] / depth, -limit), limit)  # [M, 2] x/z, y/z
    flat = focal / depth[:, :, None] * (axes[:, :2] - slope[:, :, None] * axes[:, 2:])  # [M, 2, 3] Jacobian @ axes
    covariance = flat @ flat.transpose(1, 2)  # [M, 2, 2]
    return torch.stack([covariance[:, 0, 0] + DILATION, covariance[:, 0, 1], covariance[:, 1, 1] + DILATION], dim=1)


def rotation_matrices(quats: Tensor) -> Tensor:
    """[M, 4] quaternions wxyz, normalised here -> [M, 3, 3] matrices, local to world."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=1).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1)


def view_colors(cloud: GaussianCloud, camera: Camera, degree: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, 3] >= 0. Colour of each Gaussian from where the camera stands: max(SH + 0.5, 0)."""
    position = torch.tensor(camera.position, dtype=dtype, device=cloud.device)
    directions = torch.nn.functional.normalize(cloud.means.to(dtype) - position, dim=1)
    count = SH_COUNTS[min(degree, cloud.sh_degree)]
    basis = sh_basis(directions)[:, :count]
    return ((basis[:, :, None] * cloud.sh[:, :count].to(dtype)).sum(1) + 0.5).clamp(min=0)


def sh_basis(directions: Tensor) -> Tensor:
    """[N, 3] unit vectors -> [N, 16] real spherical harmonics to degree 3, in the order and signs of 3DGS."""
    x, y, z = directions.unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    values = [
        torch.full_like(x, SH_C0),
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return torch.stack(values, dim=1)


def draw(splats: Splats, colors: Tensor, region: Region, background: Rgb = (0, 0, 0)) -> RenderOutput:
    """The part `region` of the picture; `colors` [M, 3] belong to `splats`. Differentiable."""
    features = torch.cat([colors, splats.depths[:, None], torch.ones_like(colors[:, :1])], dim=1)  # [M, 5]
    drawn = blended(splats, features, region)  # [H, W, 5]
    alpha = drawn[..., 4]
    color = drawn[..., :3] + (1 - alpha)[..., None] * colors.new_tensor(background)
    depth = drawn[..., 3] / torch.where(alpha > 0, alpha, torch.ones_like(alpha))
    return RenderOutput(color.clamp(0, 1), alpha, depth, background)


def blended(splats: Splats, features: Tensor, region: Region) -> Tensor:
    """[H, W, F]. Any features [M, F] of the splats in place of colours, over 0. Differentiable."""
    rows = _tile_rows(splats, region)
    return torch.cat(
        [torch.cat([_composite(splats.take(i), features[i], tile) for tile, i in row], dim=1) for row in rows]
    )


def blend(splats: Splats, pixels: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Walk `splats` from front to back at `pixels` [P, 2].

    Yields chunks of m splats, as a slice, with alpha [m, P] (0 where nothing is counted: alpha below ALPHA_MIN, or the
    ray has ended) and transmittance [m, P] in front of each.
    """
    through = torch.ones_like(pixels[:, 0])  # [P] transmittance so far
    running = torch.ones_like(through, dtype=torch.bool)
    for start in range(0, len(splats.index), CHUNK):
        rows = slice(start, start + CHUNK)
        alpha = _alphas(splats.take(rows), pixels)  # [m, P]
        behind = through * torch.cumprod(1 - alpha, dim=0)
        counted = running & (behind > TRANSMITTANCE_MIN)  # a prefix of each column, since `behind` never grows
        yield rows, torch.where(counted, alpha, torch.zeros_like(alpha)), torch.cat([through[None], behind[:-1]])
        through, running = behind[-1], counted[-1]
        if not running.any():
            return


def _alphas(splats: Splats, pixels: Tensor) -> Tensor:
    """[m, P]. Opacity times the Gaussian's value at each pixel, at most ALPHA_MAX, 0 below ALPHA_MIN."""
    x, y = (pixels[None] - splats.means2d[:, None]).unbind(2)  # [m, P]
    a, b, c = splats.conics[:, :, None].unbind(1)  # [m, 1]
    power = 0.5 * (a * x * x + c * y * y) + b * x * y
    alpha = (splats.opacities[:, None] * torch.exp(-power)).clamp(max=ALPHA_MAX)
    return torch.where((power >= 0) & (alpha >= ALPHA_MIN), alpha, torch.zeros_like(alpha))


def _composite(splats: Splats, features: Tensor, tile: Region) -> Tensor:
    """[h, w, F]. Features [m, F] of the splats, weighted by alpha * transmittance and summed."""
    pixels = _pixels(tile, features)
    total = features.new_zeros(len(pixels), features.shape[1])
    for rows, alpha, through in blend(splats, pixels):
        total = total + (alpha * through).T @ features[rows]
    return total.reshape(tile[3] - tile[1], tile[2] - tile[0], -1)


def _tally(total: Significance, splats: Splats, pixels: Tensor) -> None:
    """Add to `total` [N] what these pixels see."""
    for rows, alpha, through in blend(splats, pixels):
        index, weight = splats.index[rows], alpha * through
        seen = torch.where(alpha > 0, through, torch.zeros_like(through)).sum(1)
        total.hits.index_add_(0, index, splats.opacities[rows] * seen)
        total.weight.index_add_(0, index, weight.sum(1))
        total.peak.scatter_reduce_(0, index, weight.amax(1), "amax")
        total.coverage.index_add_(0, index, alpha.sum(1))
        total.pixels.index_add_(0, index, (alpha > 0).sum(1).to(alpha.dtype))


def _tile_rows(splats: Splats, region: Region) -> Iterator[list[tuple[Region, Tensor]]]:
    """Row by row, the tiles that cover `region`, each with the positions [m] of the splats that may reach it."""
    left, top, right, bottom = region
    low, high = (splats.means2d - splats.reach).detach(), (splats.means2d + splats.reach).detach()
    for y in range(top, bottom, TILE):
        below = min(y + TILE, bottom)
        band = ((low[:, 1] < below) & (high[:, 1] > y)).nonzero()[:, 0]
        row = []
        for x in range(left, right, TILE):
            beyond = min(x + TILE, right)
            touching = (low[band, 0] < beyond) & (high[band, 0] > x)
            row.append(((x, y, beyond, below), band[touching]))
        yield row


def _pixels(tile: Region, like: Tensor) -> Tensor:
    """[h * w, 2]. Pixel centres of a tile, row by row, in the type and on the device of `like`."""
    left, top, right, bottom = tile
    x = torch.arange(left, right, device=like.device, dtype=like.dtype) + 0.5
    y = torch.arange(top, bottom, device=like.device, dtype=like.dtype) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).reshape(-1, 2)
