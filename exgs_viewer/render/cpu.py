"""The CPU renderer: a tile rasteriser in numba behind Renderer.

A frame is project -> sort by depth -> list the tiles each splat touches -> composite tile by tile. The kernels live in
cpu_project.py and cpu_raster.py; this file owns their scratch memory and the one lock around them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch import Tensor

from exgs_viewer.render import CONSTANT, Album, Cotangent, Gradients, RenderOutput, Significance
from exgs_viewer.render import cpu_gradients as backward
from exgs_viewer.render import cpu_project as stage
from exgs_viewer.render import cpu_raster as raster
from exgs_viewer.render.cpu_project import TILE
from exgs_viewer.scene.camera import Camera, Size, look_at
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet

PREPARING = "Preparing the renderer (the first start compiles it, about 20 s)"
PARTS = 8
"""Runs into which binning is split; more than threads, so that a busy core does not hold up the rest."""


def open(report: Report = quiet) -> CpuRenderer:
    """The CPU renderer; works everywhere. Its first start compiles the kernels, which `report` hears of."""
    renderer = CpuRenderer()
    one = GaussianCloud(torch.zeros(1, 3), torch.ones(1, 3), torch.eye(1, 4), torch.ones(1), torch.zeros(1, 1, 3))
    camera = look_at((0.0, 0.0, -3.0), (0.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    report(0.1, f"{PREPARING}: drawing")
    renderer.render(one, camera, (TILE, TILE), RenderSettings())
    report(0.7, f"{PREPARING}: scoring")
    renderer.significance(one, [camera], (TILE, TILE))
    return renderer


class CpuRenderer:
    """Draws on all cores that numba may use."""

    name = "cpu"
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.label = f"CPU, {numba.get_num_threads()} threads"
        self._scratch = _Scratch()
        # Parallel kernels called from two threads abort under numba's workqueue layer, and the scratch is shared.
        self._lock = threading.Lock()

    def render(self, cloud: GaussianCloud, camera: Camera, size: Size, settings: RenderSettings) -> RenderOutput:
        """See Renderer.render."""
        with self._lock:
            return _composited(_list_tiles(self._scratch, cloud, camera, size, settings), size, settings)

    def significance(
        self,
        cloud: GaussianCloud,
        cameras: Sequence[Camera],
        size: Size,
        report: Report = quiet,
        album: Album | None = None,
    ) -> Significance:
        """See Significance. Sums are kept in float64 and returned as float32."""
        total = np.zeros((len(cloud), 5))
        for number, camera in enumerate(cameras):
            report(number / len(cameras), f"looking at the scene, view {number + 1} of {len(cameras)}")
            # Colour plays no part here, and albums want no more than its constant term.
            with self._lock:
                lists = _list_tiles(self._scratch, cloud, camera, size, CONSTANT)
                seen = self._scratch.array("seen", (lists.pairs, 5), np.float32)
                raster.measure(*lists.kernel_input, *size, seen)
                raster.collect(seen, lists.owners, lists.pairs, lists.ids, total, numba.get_num_threads())
                if album and camera in album:
                    album[camera] = _composited(lists, size, CONSTANT).color
        return Significance(*torch.from_numpy(total.T.astype(np.float32)))

    def gradients(self, cloud: GaussianCloud, camera: Camera, size: Size, cotangent: Cotangent) -> Gradients:
        """See Renderer.gradients."""
        n = len(cloud)
        summed = np.zeros((n, backward.SUMS), np.float32)
        found = np.zeros((n, backward.PARAMETERS), np.float32)
        values = [tensor.numpy() for tensor in (cloud.means, cloud.scales, cloud.quats)]
        with self._lock:
            lists = _list_tiles(self._scratch, cloud, camera, size, RenderSettings())
            picture, turned = self._answered(lists, size, cotangent)
            sums = self._scratch.array("sums", (lists.pairs, backward.SUMS), np.float32)
            backward.back_to_splats(*lists.kernel_input, picture, turned, sums)
            total = self._gathered(lists, sums, n)
            rows = (lists.counts, lists.ids)
            view = _view_constants(camera, size, RenderSettings().near)
            backward.back_to_gaussians(*rows, lists.splats, total, *values, view, found)
            backward.scatter(*rows, total, summed)
        means, scales, quats, opacities, colors = np.split(found, [3, 6, 10, 11], axis=1)
        parts = (means, scales, quats, opacities[:, 0], colors, summed[:, 3], summed[:, 4])
        return Gradients(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))

    def adjoint(
        self,
        cloud: GaussianCloud,
        camera: Camera,
        size: Size,
        wanted: Tensor | None = None,
        colors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See Renderer.adjoint."""
        found = np.zeros((len(cloud), 4), np.float32)
        flat = cloud if colors is None else cloud.with_sh_degree(0)
        with self._lock:
            lists = _list_tiles(self._scratch, flat, camera, size, RenderSettings())
            if colors is not None:
                backward.recolor(lists.counts, lists.ids, colors.contiguous().numpy(), lists.splats)
            sums = self._scratch.array("sums", (lists.pairs, 4), np.float32)
            longest = int(np.diff(lists.offsets).max())
            target = np.empty((0, 0, 3), np.float32) if wanted is None else wanted.contiguous().numpy()
            backward.there_and_back(*lists.kernel_input, *size, longest, target, sums)
            backward.scatter(lists.counts, lists.ids, self._gathered(lists, sums, len(cloud)), found)
        return torch.from_numpy(found[:, :3].copy()), torch.from_numpy(found[:, 3].copy())

    def _answered(self, lists: _TileLists, size: Size, cotangent: Cotangent) -> tuple[np.ndarray, np.ndarray]:
        """The picture [H, W, 3] over black, unlimited, and what `cotangent` answers to it."""
        width, height = size
        picture = np.empty((height, width, 3), np.float32)
        rest = (self._scratch.array(name, (height, width), np.float32) for name in ("alpha", "depth"))
        raster.draw(*lists.kernel_input, np.zeros(3, np.float32), np.float32(np.inf), picture, *rest)
        return picture, cotangent(torch.from_numpy(picture)).contiguous().numpy()

    def _gathered(self, lists: _TileLists, sums: np.ndarray, n: int) -> np.ndarray:
        """Sums over the pairs of each splat, [staging rows, columns]; rows that no splat has are arbitrary."""
        total = self._scratch.array("total", (n, sums.shape[1]), np.float32)
        backward.clear(lists.counts, total)
        backward.gather(sums, lists.owners, total)
        return total


class _Scratch:
    """Arrays that keep their memory between frames and only ever grow."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An uninitialised array; the same memory as last time where it is large enough."""
        needed = int(np.prod(shape))
        held = self._arrays.get(name)
        if held is None or held.size < needed or held.dtype != dtype:
            held = self._arrays[name] = np.empty(needed + needed // 4 + 1, dtype)
        return held[:needed].reshape(shape)


class _TileLists:
    """Splats and, for each tile, which of them reach it, in depth order."""

    def __init__(self, splats, ids, counts, tiles_x: int, offsets, owners) -> None:
        # [N, FIELDS] and [N], rows as culling left them: the first counts[b] rows of each block b
        self.splats, self.ids, self.counts = splats, ids, counts
        self.tiles_x, self.offsets, self.owners = tiles_x, offsets, owners  # [tiles + 1], [pairs]
        self.pairs = len(owners)

    @property
    def kernel_input(self) -> tuple:
        """What every kernel that walks the tiles begins with."""
        return self.splats, self.offsets, self.owners, numba.get_num_threads(), self.tiles_x


def _composited(lists: _TileLists, size: Size, settings: RenderSettings) -> RenderOutput:
    width, height = size
    color = torch.empty(height, width, 3)
    alpha, depth = torch.empty(height, width), torch.empty(height, width)
    background = np.asarray(settings.background, np.float32)
    raster.draw(*lists.kernel_input, background, np.float32(1), color.numpy(), alpha.numpy(), depth.numpy())
    return RenderOutput(color, alpha, depth, settings.background)


def _list_tiles(
    scratch: _Scratch, cloud: GaussianCloud, camera: Camera, size: Size, settings: RenderSettings
) -> _TileLists:
    n, (width, height) = len(cloud), size
    staging, places = scratch.array("staging", (n, stage.FIELDS), np.float32), scratch.array("places", (n,), np.int32)
    boxes, keys = scratch.array("boxes", (n,), np.int32), scratch.array("keys", (n,), np.uint64)
    counts = np.empty(-(-n // stage.BLOCK), np.int64)
    values = [tensor.numpy() for tensor in (cloud.means, cloud.scales, cloud.quats, cloud.opacities)]
    view, degree = _view_constants(camera, size, settings.near), min(settings.sh_degree, cloud.sh_degree)
    how = (degree, settings.antialiased)
    stage.project(*values, _sh_rows(cloud), *how, view, *size, staging, places, boxes, keys, counts)
    count = int(counts.sum())
    packed = scratch.array("packed", (count,), np.uint64)
    stage.compact(keys, counts, packed)
    stage.radix_sort(packed, keys, count)
    tiles_x, tiles_y = -(-width // stage.TILE), -(-height // stage.TILE)
    starts, totals = np.empty(PARTS, np.int64), np.empty(PARTS, np.int64)
    capacity = stage.box_starts(boxes, keys, count, PARTS, starts)
    tiles, owners = (scratch.array(name, (capacity,), np.int32) for name in ("pair_tiles", "pair_owners"))
    histogram = scratch.array("histogram", (PARTS, tiles_x * tiles_y), np.int32)
    stage.emit_pairs(staging, keys, count, PARTS, tiles_x, width, height, starts, tiles, owners, totals, histogram)
    offsets = np.empty(tiles_x * tiles_y + 1, np.int64)
    lists = scratch.array("lists", (int(totals.sum()),), np.int32)
    stage.scatter_pairs(PARTS, starts, totals, tiles, owners, offsets, histogram, lists)
    return _TileLists(staging, places, counts, tiles_x, offsets, lists)


def _sh_rows(cloud: GaussianCloud) -> np.ndarray:
    """The coefficients as rows [N, >= 3K]; a cloud cut to a lower degree shows the rows of the full one, uncopied."""
    sh = cloud.sh
    if sh.is_contiguous():
        return sh.view(len(cloud), -1).numpy()
    if sh.stride()[1:] == (3, 1) and sh.stride(0) in (3 * count for count in SH_COUNTS):
        return sh.as_strided((len(cloud), sh.stride(0)), (sh.stride(0), 1)).numpy()
    return sh.contiguous().view(len(cloud), -1).numpy()


def _view_constants(camera: Camera, size: Size, near: float) -> np.ndarray:
    """[21] float32, laid out as cpu_project.project wants it."""
    (width, height), focal = size, camera.focal(size)
    matrix = camera.world_to_camera().numpy()
    view = np.empty(21, np.float32)
    view[:9], view[9:12] = matrix[:3, :3].ravel(), matrix[:3, 3]
    # The Jacobian is taken at most 1.3 half fields of view off the axis (Kerbl et al. 2023).
    view[12:18] = focal, width / 2, height / 2, 0.65 * width / focal, 0.65 * height / focal, near
    view[18:21] = camera.position
    return view
