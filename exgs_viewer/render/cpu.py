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

from exgs_viewer.render import RenderOutput, Significance
from exgs_viewer.render import cpu_project as stage
from exgs_viewer.render import cpu_raster as raster
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet

PARTS = 8
"""Runs into which binning is split; more than threads, so that a busy core does not hold up the rest."""


def open(report: Report = quiet) -> CpuRenderer:
    """The CPU renderer; works everywhere."""
    return CpuRenderer()


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
        width, height = size
        color = torch.empty(height, width, 3)
        alpha, depth = torch.empty(height, width), torch.empty(height, width)
        with self._lock:
            lists = _list_tiles(self._scratch, cloud, camera, size, settings)
            background = np.asarray(settings.background, np.float32)
            picture = (color.numpy(), alpha.numpy(), depth.numpy())
            threads = numba.get_num_threads()
            raster.draw(lists.splats, lists.offsets, lists.owners, threads, lists.tiles_x, background, *picture)
        return RenderOutput(color, alpha, depth, settings.background)

    def significance(
        self, cloud: GaussianCloud, cameras: Sequence[Camera], size: Size, report: Report = quiet
    ) -> Significance:
        """See Significance. Sums are kept in float64 and returned as float32."""
        hits, weight, peak = np.zeros(len(cloud)), np.zeros(len(cloud)), np.zeros(len(cloud), np.float32)
        for number, camera in enumerate(cameras):
            report(number / len(cameras), f"looking at the scene, view {number + 1} of {len(cameras)}")
            # Colour plays no part here, so the constant term is all that is evaluated.
            with self._lock:
                lists = _list_tiles(self._scratch, cloud, camera, size, RenderSettings(sh_degree=0))
                seen = self._scratch.array("seen", (lists.pairs, 3), np.float32)
                kernel_input = (lists.splats, lists.offsets, lists.owners, numba.get_num_threads(), lists.tiles_x)
                raster.measure(*kernel_input, *size, seen)
                raster.collect(seen, lists.owners, lists.pairs, lists.ids, hits, weight, peak)
        return Significance(*(torch.from_numpy(values.astype(np.float32)) for values in (hits, weight, peak)))


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

    def __init__(self, splats, ids, tiles_x: int, offsets, owners) -> None:
        self.splats, self.ids = splats, ids  # [N, FIELDS] and [N], rows as culling left them
        self.tiles_x, self.offsets, self.owners = tiles_x, offsets, owners  # [tiles + 1], [pairs]
        self.pairs = len(owners)


def _list_tiles(
    scratch: _Scratch, cloud: GaussianCloud, camera: Camera, size: Size, settings: RenderSettings
) -> _TileLists:
    n, (width, height) = len(cloud), size
    staging, places = scratch.array("staging", (n, stage.FIELDS), np.float32), scratch.array("places", (n,), np.int32)
    boxes, keys = scratch.array("boxes", (n,), np.int32), scratch.array("keys", (n,), np.uint64)
    counts = np.empty(-(-n // stage.BLOCK), np.int64)
    values = [tensor.numpy() for tensor in (cloud.means, cloud.scales, cloud.quats, cloud.opacities)]
    view, degree = _view_constants(camera, size, settings.near), min(settings.sh_degree, cloud.sh_degree)
    stage.project(*values, _sh_rows(cloud), degree, view, *size, staging, places, boxes, keys, counts)
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
    return _TileLists(staging, places, tiles_x, offsets, lists)


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
