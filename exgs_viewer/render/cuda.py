"""gsplat 1.5.3 behind Renderer: draws and scores on an NVIDIA GPU.

Not yet run on a GPU: the kernels, streams and running out of memory. Everything else here is tested on the CPU against
gsplat's own torch twins of its kernels (tests/render/test_cuda.py, where the tests marked `gpu` wait for a machine that
has one).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import ModuleType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from exgs_viewer.errors import BackendError
from exgs_viewer.render import (
    ALPHA_MAX,
    CONSTANT,
    DILATION,
    Album,
    Cotangent,
    Gradients,
    RenderOutput,
    Significance,
    answer,
)
from exgs_viewer.render.cuda_build import build_folder, find_device, first_error, kernels_compiled, load_kernels
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet

TILE = 16
"""gsplat's tiles, pixels."""

BAND = 1 << 16
"""Pairs of Gaussian and tile that are scored at once; each gives up to TILE^2 pairs of Gaussian and pixel."""

ALL_RANGES = 2**31 - 1
"""More batches than any tile has: rasterize_to_indices_in_range then walks every ray to its end.

Going range by range would revive rays that had ended, since only their transmittance is carried on."""


def open(report: Report = quiet) -> CudaRenderer:
    """The CUDA renderer, with its kernels compiled and tried. May take minutes the first time.

    Raises BackendError where torch has no CUDA, there is no GPU, or gsplat's kernels cannot be compiled or run.
    """
    device = find_device()
    compiled = kernels_compiled()
    report(0.0, "Loading the CUDA kernels" if compiled else "Compiling the CUDA kernels; once, a few minutes")
    kernels = load_kernels(device, compiled)
    renderer = CudaRenderer(device, f"CUDA, {torch.cuda.get_device_name(device)}", kernels)
    _try_out(renderer)
    return renderer


class CudaRenderer:
    """Renderer on one GPU. Clouds on the CPU are copied there once; pictures and scores stay there."""

    name = "cuda"

    def __init__(self, device: torch.device, label: str, kernels: ModuleType) -> None:
        """`kernels` is gsplat, or in tests something with the same functions."""
        self.device = device
        self.label = label
        self._kernels = kernels
        # Values are copies, never the keys themselves: an entry goes when its cloud goes.
        self._copies: WeakKeyDictionary[GaussianCloud, GaussianCloud] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def render(self, cloud: GaussianCloud, camera: Camera, size: Size, settings: RenderSettings) -> RenderOutput:
        with _memory_told(f"drawing {len(cloud):,} Gaussians at {size[0]}x{size[1]}"):
            cloud = self.here(cloud)
            picture, alpha, _ = self._kernels.rasterization(
                means=cloud.means,
                quats=cloud.quats,
                scales=cloud.scales,
                opacities=cloud.opacities,
                colors=cloud.sh,
                near_plane=settings.near,
                sh_degree=min(settings.sh_degree, cloud.sh_degree),
                backgrounds=torch.tensor([settings.background], dtype=torch.float32, device=self.device),
                render_mode="RGB+ED",
                **self._seen_from(camera, size),
                rasterize_mode="antialiased" if settings.antialiased else "classic",
            )
            color, depth = picture[0, ..., :3].clamp(0, 1), picture[0, ..., 3]
            return RenderOutput(color, alpha[0, ..., 0], depth, settings.background)

    @torch.no_grad()
    def significance(
        self,
        cloud: GaussianCloud,
        cameras: Sequence[Camera],
        size: Size,
        report: Report = quiet,
        album: Album | None = None,
    ) -> Significance:
        with _memory_told(f"scoring {len(cloud):,} Gaussians at {size[0]}x{size[1]}"):
            cloud = self.here(cloud)
            tally = Tally.empty(cloud)
            for number, camera in enumerate(cameras):
                view = _project(self._kernels, cloud, camera, size)
                for first, last in row_bands(view.row_starts, BAND):
                    share = (number + first / (len(view.row_starts) - 1)) / len(cameras)
                    report(share, f"Scoring view {number + 1}/{len(cameras)}")
                    tally.add(view, cloud.opacities, *_pairs(self._kernels, cloud, view, first, last))
                if album and camera in album:
                    album[camera] = self.render(cloud, camera, size, CONSTANT).color
            return Significance(*(getattr(tally, field.name).float() for field in fields(Significance)))

    def gradients(self, cloud: GaussianCloud, camera: Camera, size: Size, cotangent: Cotangent) -> Gradients:
        """See Renderer.gradients; gsplat's own backward pass."""
        with _memory_told(f"differentiating {len(cloud):,} Gaussians at {size[0]}x{size[1]}"):
            cloud = self.here(cloud)
            names = ("means", "scales", "quats", "opacities")
            leaves = [getattr(cloud, name).detach().clone().requires_grad_() for name in names]
            colors = self._colors(cloud, camera)
            back = self._back(dict(zip(names, leaves, strict=True)), colors, camera, size, cotangent)
            shown = back[:, :3].masked_fill(colors <= 0, 0)
            return Gradients(*(leaf.grad for leaf in leaves), shown, back[:, 3], back[:, 4])

    def adjoint(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        size: Size,
        wanted: Tensor | None = None,
        colors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See Renderer.adjoint."""
        with _memory_told(f"differentiating {len(cloud):,} Gaussians at {size[0]}x{size[1]}"):
            cloud = self.here(cloud)
            shape = {name: getattr(cloud, name) for name in ("means", "scales", "quats", "opacities")}
            colors = self._colors(cloud, camera) if colors is None else colors.to(self.device)
            back = self._back(shape, colors, camera, size, answer(wanted))
            return back[:, :3], back[:, 3]

    def _back(
        self, shape: dict[str, Tensor], colors: Tensor, camera: Camera, size: Size, cotangent: Cotangent
    ) -> Tensor:
        """[N, 5] cotangent, 1 and squared cotangent, each times the weight; leaves in `shape` get their gradients.

        Two channels of which nothing is drawn carry the latter two back.
        """
        with torch.enable_grad():
            features = torch.cat([colors, torch.zeros_like(colors[:, :2])], dim=1).detach().requires_grad_()
            picture, _, _ = self._kernels.rasterization(
                colors=features, near_plane=RenderSettings().near, **shape, **self._seen_from(camera, size)
            )
            told = cotangent(picture[0, ..., :3].detach())
            more = [torch.ones_like(told[..., :1]), told.square().sum(2, keepdim=True)]
            picture.backward(torch.cat([told, *more], dim=2)[None])
        return features.grad

    def _colors(self, cloud: GaussianCloud, camera: Camera) -> Tensor:
        """[N, 3] >= 0. Colour of each Gaussian from where the camera stands."""
        directions = cloud.means - torch.tensor(camera.position, device=self.device)
        return (self._kernels.spherical_harmonics(cloud.sh_degree, directions, cloud.sh) + 0.5).clamp(min=0)

    def _seen_from(self, camera: Camera, size: Size) -> dict[str, object]:
        """What every call of gsplat.rasterization is given alike."""
        return {
            "viewmats": camera.world_to_camera().to(self.device)[None],
            "Ks": camera.intrinsics(size).to(self.device)[None],
            "width": size[0],
            "height": size[1],
            "eps2d": DILATION,
            "packed": False,  # with one camera packing saves no memory: it copies the spherical harmonics
            "tile_size": TILE,
        }

    def here(self, cloud: GaussianCloud) -> GaussianCloud:
        """The cloud on this renderer's device; a copy is kept for as long as the original lives."""
        if cloud.device == self.device:
            return cloud
        with self._lock:
            if cloud not in self._copies:
                self._copies[cloud] = cloud.to(self.device)
            return self._copies[cloud]


@dataclass(frozen=True, eq=False)
class View:
    """A cloud as one camera sees it, with the tiles that each Gaussian touches."""

    means2d: Tensor
    """[N, 2]. Centres, pixels; arbitrary where the Gaussian is not in the picture."""
    conics: Tensor
    """[N, 3]. Upper triangle of the inverse 2D covariance; arbitrary where not in the picture."""
    offsets: Tensor
    """[1, rows, columns] int32. Where the Gaussians of each tile begin in `touching`."""
    touching: Tensor
    """[pairs] int32. Rows of the cloud, tile by tile, front to back in each."""
    row_starts: list[int]
    """[rows + 1]. Where each row of tiles begins in `touching`, and its end."""
    size: Size


@dataclass(frozen=True, eq=False)
class Tally:
    """What has been seen of each Gaussian so far."""

    hits: Tensor
    """[N] float64: the order in which a GPU adds up must not decide a ranking."""
    weight: Tensor
    """[N] float64."""
    peak: Tensor
    """[N] float32."""
    coverage: Tensor
    """[N] float64."""
    pixels: Tensor
    """[N] float64."""

    @staticmethod
    def empty(cloud: GaussianCloud) -> Tally:
        zeros = torch.zeros(len(cloud), dtype=torch.float64, device=cloud.device)
        return Tally(zeros, zeros.clone(), zeros.float(), zeros.clone(), zeros.clone())

    def add(self, view: View, opacities: Tensor, rows: Tensor, pixels: Tensor, top: int) -> None:
        """Add P pairs of Gaussian (`rows` [P]) and pixel (`pixels` [P], counted from the pixel row `top`).

        The pairs of a pixel follow each other, nearest first, and are exactly those that are composited.
        """
        alpha = _alphas(view, opacities, rows, pixels, top)
        through = transmittance_in_front(alpha, pixels)  # [P] float64
        weight = alpha * through
        self.hits.index_add_(0, rows, opacities[rows] * through)
        self.weight.index_add_(0, rows, weight)
        self.peak.scatter_reduce_(0, rows, weight.float(), "amax")
        self.coverage.index_add_(0, rows, alpha.double())
        self.pixels.index_add_(0, rows, torch.ones_like(weight))


def transmittance_in_front(alpha: Tensor, pixels: Tensor) -> Tensor:
    """[P] float64. For each pair the product of 1 - alpha over the pairs of the same pixel before it.

    One running sum of logarithms over all pairs, from which each pixel's own beginning is subtracted.
    """
    if len(alpha) == 0:
        return alpha.double()
    logs = torch.log1p(-alpha.double())
    before = torch.cumsum(logs, 0) - logs
    begins = torch.ones_like(pixels, dtype=torch.bool)
    begins[1:] = pixels[1:] != pixels[:-1]
    segment = torch.cumsum(begins, 0) - 1
    return torch.exp(before - before[begins][segment])


def row_bands(starts: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Runs (first, last) of tile rows, last outside, with at most `most` entries each, or of a single row.

    Rows without entries at the end of everything are left out.
    """
    first = 0
    while first < len(starts) - 1 and starts[first] < starts[-1]:
        last = first + 1
        while last < len(starts) - 1 and starts[last + 1] - starts[first] <= most:
            last += 1
        yield first, last
        first = last


def _project(kernels: ModuleType, cloud: GaussianCloud, camera: Camera, size: Size) -> View:
    columns, rows = -(-size[0] // TILE), -(-size[1] // TILE)
    radii, means2d, depths, conics, _ = kernels.fully_fused_projection(
        cloud.means,
        None,
        cloud.quats,
        cloud.scales,
        camera.world_to_camera().to(cloud.device)[None],
        camera.intrinsics(size).to(cloud.device)[None],
        *size,
        eps2d=DILATION,
        near_plane=RenderSettings().near,
        opacities=cloud.opacities,
    )
    _, tile_ids, touching = kernels.isect_tiles(means2d, radii, depths, TILE, columns, rows)
    offsets = kernels.isect_offset_encode(tile_ids, 1, columns, rows)  # [1, rows, columns]
    row_starts = [*offsets[0, :, 0].tolist(), len(touching)]
    return View(means2d[0], conics[0], offsets, touching, row_starts, size)


def _pairs(kernels: ModuleType, cloud: GaussianCloud, view: View, first: int, last: int) -> tuple[Tensor, Tensor, int]:
    """rows [P], pixels [P] and top, as Tally.add takes them, for the tile rows from `first` to before `last`.

    The kernel is given these rows as a picture of their own, with the centres moved up.
    """
    begin, end, top = view.row_starts[first], view.row_starts[last], first * TILE
    width, height = view.size[0], min(last * TILE, view.size[1]) - top
    rows, pixels, _ = kernels.rasterize_to_indices_in_range(
        0,
        ALL_RANGES,
        torch.ones(1, height, width, device=cloud.device),
        (view.means2d - view.means2d.new_tensor([0, top]))[None],
        view.conics[None],
        cloud.opacities[None],
        width,
        height,
        TILE,
        view.offsets[:, first:last] - begin,
        view.touching[begin:end],
    )
    return rows, pixels, top


def _alphas(view: View, opacities: Tensor, rows: Tensor, pixels: Tensor, top: int) -> Tensor:
    """[P]. Alpha of each pair as the kernel computes it."""
    x = pixels % view.size[0] + 0.5 - view.means2d[rows, 0]
    y = torch.div(pixels, view.size[0], rounding_mode="floor") + (top + 0.5) - view.means2d[rows, 1]
    a, b, c = view.conics[rows].unbind(1)
    power = 0.5 * (a * x * x + c * y * y) + b * x * y
    return (opacities[rows] * torch.exp(-power)).clamp(max=ALPHA_MAX)


@contextmanager
def _memory_told(doing: str) -> Iterator[None]:
    """Turns running out of GPU memory into one sentence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BackendError(
            f"The GPU has not enough memory for {doing}; close other programs that use it, "
            "choose a smaller picture, or take the cpu renderer."
        ) from error


def _try_out(renderer: CudaRenderer) -> None:
    """Draw one white Gaussian: kernels compiled for another GPU load, but do not run."""
    cloud = GaussianCloud(
        means=torch.tensor([[0.0, 0, 1]]),
        scales=torch.ones(1, 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        opacities=torch.ones(1),
        sh=torch.ones(1, 1, 3) * 4,
    )
    try:
        drawn = renderer.render(cloud, Camera((0, 0, 0), (1, 0, 0, 0)), (16, 16), RenderSettings())
        bright = float(drawn.color.mean())
    except RuntimeError as error:
        raise BackendError(
            f"gsplat's CUDA kernels do not run on this GPU ({first_error(str(error))}); delete {build_folder()} "
            "so that they are compiled again."
        ) from error
    if not bright > 0.9:
        raise BackendError("gsplat's CUDA kernels draw a wrong picture on this GPU; take the cpu renderer.")
