"""The CUDA renderer: on the CPU with gsplat's torch twins in place of its kernels, on a GPU (marked `gpu`) as it is."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gsplat
import pytest
import torch
from gsplat.cuda import _torch_impl as twin
from torch import Tensor
from torch.testing import assert_close

from exgs_viewer.errors import BackendError, Cancelled
from exgs_viewer.render import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN, cuda, cuda_build, open_renderer
from exgs_viewer.render.cuda import CudaRenderer, row_bands, transmittance_in_front
from exgs_viewer.render.reference import ReferenceRenderer
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import RenderSettings
from tests.conftest import random_cloud

SIZE = (70, 45)
"""No multiple of the tile size in either direction."""
SCORES = ("hits", "weight", "peak", "coverage", "pixels")


def projection(means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, opacities):
    """fully_fused_projection in torch: the twin lacks only the bound by opacity, which changes no picture."""
    covars, _ = twin._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    return twin._fully_fused_projection(
        means, covars, viewmats, Ks, width, height, eps2d, near_plane, calc_compensations=True
    )


def pairs(start, end, transmittances, means2d, conics, opacities, width, height, tile, offsets, touching):
    """rasterize_to_indices_in_range, rewritten from RasterizeToIndices3DGS.cu: one tile at a time, all its pixels."""
    assert start == 0 and end >= len(touching)
    assert offsets.dtype == touching.dtype == torch.int32 and offsets.shape[0] == len(means2d) == 1
    ends = [*offsets.flatten().tolist()[1:], len(touching)]
    found = []
    for number, (first, last) in enumerate(zip(offsets.flatten().tolist(), ends, strict=True)):
        top, left = number // offsets.shape[2] * tile, number % offsets.shape[2] * tile
        y, x = torch.meshgrid(
            torch.arange(top, min(top + tile, height)), torch.arange(left, min(left + tile, width)), indexing="ij"
        )
        through, done = transmittances[0, y, x].clone(), torch.zeros_like(x, dtype=torch.bool)
        for order, g in enumerate(touching[first:last].tolist()):
            dx, dy = means2d[0, g, 0] - (x + 0.5), means2d[0, g, 1] - (y + 0.5)
            a, b, c = conics[0, g]
            sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
            alpha = (opacities[0, g] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
            considered = (sigma >= 0) & (alpha >= ALPHA_MIN) & ~done
            behind = through * (1 - alpha)
            done = done | (considered & (behind <= TRANSMITTANCE_MIN))
            counted = considered & ~done
            through = torch.where(counted, behind, through)
            found += [(pixel, order, g) for pixel in (y * width + x)[counted].tolist()]
    found.sort()
    table = torch.tensor(found, dtype=torch.int64).reshape(-1, 3)
    return table[:, 2], table[:, 0], None


def rasterization(**given):
    """gsplat.rasterization out of the twins, for one camera and the options that the renderer uses; differentiable."""
    call = inspect.signature(gsplat.rasterization).bind(**given)
    call.apply_defaults()
    a = SimpleNamespace(**call.arguments)
    assert not a.packed and a.rasterize_mode in ("classic", "antialiased") and a.render_mode in ("RGB", "RGB+ED")
    view = (a.viewmats, a.Ks, a.width, a.height, a.eps2d, a.near_plane, a.opacities)
    radii, means2d, depths, conics, factors = projection(a.means, None, a.quats, a.scales, *view)
    if a.rasterize_mode == "antialiased":
        a.opacities = a.opacities * factors[0]
    columns, rows = -(-a.width // a.tile_size), -(-a.height // a.tile_size)
    seen = [each.detach() for each in (means2d, radii, depths, conics, a.opacities)]
    _, ids, touching = twin._isect_tiles(*seen[:3], a.tile_size, columns, rows)
    index, pixels, _ = pairs(
        0, len(touching), torch.ones(1, a.height, a.width), seen[0], seen[3], seen[4][None], a.width, a.height,
        a.tile_size, twin._isect_offset_encode(ids, 1, columns, rows), touching,
    )  # fmt: skip
    colors = a.colors
    if a.sh_degree is not None:
        directions = a.means - torch.inverse(a.viewmats)[0, :3, 3]
        colors = (twin._spherical_harmonics(a.sh_degree, directions, a.colors) + 0.5).clamp(min=0)
    features = torch.cat([colors, depths[0, :, None], torch.ones(len(colors), 1)], dim=1)
    x, y = (torch.stack([pixels % a.width, pixels // a.width], 1) + 0.5 - means2d[0, index]).unbind(1)
    power = 0.5 * (conics[0, index, 0] * x**2 + conics[0, index, 2] * y**2) + conics[0, index, 1] * x * y
    alpha = (a.opacities[index] * torch.exp(-power)).clamp(max=ALPHA_MAX)
    weight = alpha * transmittance_in_front(alpha, pixels).float()
    drawn = torch.zeros(a.height * a.width, features.shape[1])
    drawn = drawn.index_add(0, pixels, weight[:, None] * features[index])
    color, depth, alpha = drawn.split([colors.shape[1], 1, 1], dim=1)
    if a.backgrounds is not None:
        assert a.backgrounds.shape == (1, 3)
        color = color + (1 - alpha) * a.backgrounds
    if a.render_mode == "RGB+ED":
        color = torch.cat([color, depth / alpha.clamp(min=1e-10)], dim=1)
    shape = (1, a.height, a.width, -1)
    return color.reshape(shape), alpha.reshape(shape), {}


TWINS = SimpleNamespace(
    rasterization=rasterization,
    fully_fused_projection=projection,
    isect_tiles=twin._isect_tiles,
    isect_offset_encode=twin._isect_offset_encode,
    rasterize_to_indices_in_range=pairs,
    spherical_harmonics=twin._spherical_harmonics,
)


@pytest.fixture
def on_cpu() -> CudaRenderer:
    return CudaRenderer(torch.device("cpu"), "CUDA, torch twins", TWINS)


@pytest.fixture
def small_cloud():
    return random_cloud(80, seed=4)


def test_the_twins_are_called_as_gsplat_may_be_called(on_cpu, small_cloud, camera, monkeypatch):
    """Every call must also fit the signature of the real function, by name and position."""
    checked = set()
    for name, stand_in in vars(TWINS).items():

        def call(*args, _name=name, _stand_in=stand_in, **kwargs):
            inspect.signature(getattr(gsplat, _name)).bind(*args, **kwargs)
            checked.add(_name)
            return _stand_in(*args, **kwargs)

        monkeypatch.setattr(TWINS, name, call)
    on_cpu.render(small_cloud, camera, (20, 20), RenderSettings())
    on_cpu.significance(small_cloud, [camera], (20, 20))
    on_cpu.gradients(small_cloud, camera, (20, 20), torch.ones_like)
    assert checked == set(vars(TWINS))


@pytest.mark.parametrize("degree", [0, 2, 3])
def test_the_picture_is_that_of_the_reference(on_cpu, small_cloud, camera, degree):
    settings = RenderSettings(background=(0.1, 0.4, 0.8), sh_degree=degree)
    drawn, expected = (each.render(small_cloud, camera, (34, 21), settings) for each in (on_cpu, ReferenceRenderer()))
    assert_close(drawn.color, expected.color, rtol=0, atol=2e-3)
    assert_close(drawn.alpha, expected.alpha, rtol=0, atol=2e-3)
    assert_close(drawn.depth, expected.depth, rtol=1e-3, atol=1e-3)


def assert_same_gradients(renderer, oracle, cloud, camera, size):
    """Every gradient of a random cotangent, to 1 % of its length."""
    told = torch.randn(size[1], size[0], 3, generator=torch.Generator().manual_seed(0))
    found, expected = (
        each.gradients(cloud, camera, size, lambda drawn: told.to(drawn.device)) for each in (renderer, oracle)
    )
    for name, wanted in vars(expected).items():
        given = getattr(found, name).cpu()
        assert (given - wanted).norm() <= 0.01 * wanted.norm(), name
    for picture in (None, told):
        found, expected = (each.adjoint(cloud, camera, size, picture) for each in (renderer, oracle))
        for given, wanted in zip(found, expected, strict=True):
            assert (given.cpu() - wanted).norm() <= 0.01 * wanted.norm()


def test_the_antialiased_picture_is_that_of_the_reference(on_cpu, small_cloud):
    camera, settings = look_at((0, 0, -9), (0, 0, 0), (0, -1, 0)), RenderSettings(antialiased=True)
    drawn, expected = (each.render(small_cloud, camera, SIZE, settings) for each in (on_cpu, ReferenceRenderer()))
    assert (drawn.alpha - expected.alpha).abs().max() < 2 / 255
    assert (drawn.color - expected.color).abs().max() < 2 / 255
    assert drawn.alpha.sum() < 0.95 * on_cpu.render(small_cloud, camera, SIZE, RenderSettings()).alpha.sum()


def test_gradients_are_those_of_the_reference(on_cpu, small_cloud, camera):
    assert_same_gradients(on_cpu, ReferenceRenderer(), small_cloud, camera, (34, 21))


@pytest.mark.parametrize("band", [1, 40, 1 << 16])
def test_scores_are_those_of_the_reference_however_the_picture_is_cut(on_cpu, camera, monkeypatch, band):
    monkeypatch.setattr(cuda, "BAND", band)
    cloud = random_cloud(150, seed=2)
    cameras = [camera, look_at((0.4, -0.2, -0.5), (0, 0, 0), up=(0, -1, 0))]
    scored, expected = (each.significance(cloud, cameras, SIZE) for each in (on_cpu, ReferenceRenderer()))
    assert expected.hits.max() > 100
    for name in SCORES:
        assert_close(getattr(scored, name), getattr(expected, name), rtol=2e-3, atol=0.02)


def test_rays_that_end_stay_ended(on_cpu, camera):
    """Opaque layers: whatever lies behind the end of each ray scores nothing, as in the reference."""
    cloud = random_cloud(150, seed=6)
    cloud = cloud.replaced(opacities=torch.full((150,), 0.99), scales=cloud.scales * 8)
    scored, expected = (each.significance(cloud, [camera], SIZE) for each in (on_cpu, ReferenceRenderer()))
    assert (expected.hits == 0).sum() > 5
    assert_close(scored.hits, expected.hits, rtol=2e-3, atol=0.02)


def test_a_view_of_nothing_scores_nothing(on_cpu, small_cloud):
    away = look_at((0, 0, 5), (0, 0, 9), up=(0, -1, 0))
    scored = on_cpu.significance(small_cloud, [away], SIZE)
    assert all(getattr(scored, name).max() == 0 for name in SCORES)


def test_scoring_can_be_cancelled(on_cpu, small_cloud, camera):
    def unwanted(share, text):
        raise Cancelled

    with pytest.raises(Cancelled):
        on_cpu.significance(small_cloud, [camera], SIZE, unwanted)


def test_transmittance_is_the_running_product_of_each_pixel():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 40, (2000,), generator=generator).sort().values
    alpha = torch.rand(2000, generator=generator) * ALPHA_MAX
    expected = torch.ones(2000, dtype=torch.float64)
    for i in range(1, 2000):
        if pixels[i] == pixels[i - 1]:
            expected[i] = expected[i - 1] * (1 - alpha[i - 1].double())
    assert_close(transmittance_in_front(alpha, pixels), expected, rtol=1e-9, atol=0)
    assert transmittance_in_front(alpha[:0], pixels[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("starts", "most", "bands"),
    [
        ([0, 5, 9, 20, 22], 10, [(0, 2), (2, 3), (3, 4)]),
        ([0, 5, 9, 20, 22], 100, [(0, 4)]),
        ([0, 50, 50, 50], 10, [(0, 1)]),
        ([0, 0, 50, 60], 10, [(0, 1), (1, 2), (2, 3)]),
        ([0, 0, 0], 10, []),
    ],
)
def test_bands_cover_every_row_that_holds_something(starts, most, bands):
    assert list(row_bands(starts, most)) == bands


def test_a_cloud_from_the_cpu_is_copied_once_and_forgotten_with_it(small_cloud):
    renderer = CudaRenderer(torch.device("meta"), "elsewhere", TWINS)
    copy = renderer.here(small_cloud)
    assert copy.device.type == "meta" and renderer.here(small_cloud) is copy
    assert renderer.here(copy) is copy
    other = small_cloud.take(slice(0, 10))
    assert len(renderer.here(other)) == 10 and len(renderer._copies) == 2
    del other
    gc.collect()
    assert len(renderer._copies) == 1


def test_running_out_of_memory_is_told_in_one_sentence(small_cloud, camera):
    def too_much(**_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    renderer = CudaRenderer(torch.device("cpu"), "full", SimpleNamespace(rasterization=too_much))
    with pytest.raises(BackendError, match=r"not enough memory for drawing 80 Gaussians at 70x45; .*cpu renderer"):
        renderer.render(small_cloud, camera, SIZE, RenderSettings())


def test_a_torch_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BackendError, match="built without CUDA; install"):
        open_renderer("cuda")


def test_a_missing_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"CUDA 12\.8\) finds no NVIDIA GPU.*nvidia-smi"):
        open_renderer("cuda")


@pytest.fixture
def pretended_gpu(monkeypatch, tmp_path):
    """A machine with a GPU and an empty build folder, as far as cuda_build can see."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(cuda_build, "build_folder", lambda: tmp_path)
    monkeypatch.setattr(cuda_build, "kernels_shipped", lambda: False)
    return tmp_path


def test_a_missing_compiler_is_named(pretended_gpu, monkeypatch):
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: None)
    with pytest.raises(BackendError, match=r"needs nvcc.*CUDA toolkit 12\.8"):
        open_renderer("cuda")


def test_a_build_in_progress_is_not_torn_down(pretended_gpu, monkeypatch):
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
    (pretended_gpu / "lock").touch()
    with pytest.raises(BackendError, match="Another process seems to be compiling"):
        open_renderer("cuda")


def test_a_lock_left_by_a_crash_does_not_count(pretended_gpu):
    (pretended_gpu / "lock").touch()
    long_ago = time.time() - 2 * cuda_build.BUILD_PATIENCE
    for path in (pretended_gpu / "lock", pretended_gpu):
        os.utime(path, (long_ago, long_ago))
    cuda_build.check_lock(pretended_gpu)


def test_kernels_that_cannot_be_loaded_are_told_with_their_reason(pretended_gpu, monkeypatch):
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
    log = "Error building extension 'gsplat_cuda': [1/29] nvcc ...\nfatal error: cuda.h: No such file\nninja: stopped"
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", Broken(log))
    with pytest.raises(BackendError, match=r"\(fatal error: cuda\.h: No such file\).*12\.8, delete"):
        open_renderer("cuda")


class Broken:
    """A module that fails while it is imported from."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __getattr__(self, name: str):
        if name == "_C":
            raise RuntimeError(self.log)
        raise AttributeError(name)


def test_the_build_sees_few_jobs_one_architecture_and_the_ninja_beside_python(pretended_gpu, monkeypatch):
    monkeypatch.delenv("MAX_JOBS", raising=False)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.6")
    path = os.environ["PATH"]
    with cuda_build._build_environment(torch.device("cpu")):
        assert os.environ["MAX_JOBS"] == "4" and os.environ["TORCH_CUDA_ARCH_LIST"] == "8.6"
        assert shutil.which("ninja")
    assert "MAX_JOBS" not in os.environ and os.environ["PATH"] == path


def test_kernels_that_draw_a_wrong_picture_are_refused():
    def black(**given):
        return (
            torch.zeros(1, given["height"], given["width"], 4),
            torch.zeros(1, given["height"], given["width"], 1),
            {},
        )

    renderer = CudaRenderer(torch.device("cpu"), "black", SimpleNamespace(rasterization=black))
    with pytest.raises(BackendError, match="wrong picture"):
        cuda._try_out(renderer)


def test_kernels_that_draw_the_right_picture_are_taken(on_cpu):
    cuda._try_out(on_cpu)


def psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * torch.log10((first.cpu() - second.cpu()).square().mean()))


@pytest.fixture(scope="module")
def gpu() -> CudaRenderer:
    return open_renderer("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(640, 360), (333, 77), (1, 1)])
def test_the_gpu_draws_what_the_cpu_draws(gpu, size):
    cloud = random_cloud(20_000, seed=8)
    for camera in (look_at((0, -0.4, -2.5), (0, 0, 0), (0, -1, 0)), look_at((0, 0, -0.2), (0.3, 0.1, 1), (0, -1, 0))):
        settings = RenderSettings(background=(0.2, 0.1, 0.4))
        drawn, expected = (each.render(cloud, camera, size, settings) for each in (gpu, open_renderer("cpu")))
        assert drawn.color.device == gpu.device
        assert psnr(drawn.color, expected.color) >= 45
        assert psnr(drawn.alpha, expected.alpha) >= 45
        covered = expected.alpha > 0.1
        assert_close(drawn.depth.cpu()[covered], expected.depth[covered], rtol=2e-2, atol=2e-2)


@pytest.mark.gpu
def test_the_gpu_scores_as_the_reference(gpu):
    cloud = random_cloud(5000, seed=3)
    cameras = [look_at((x, -0.3, -2.2), (0, 0, 0), up=(0, -1, 0)) for x in (-1.0, 0.2)]
    scored, expected = (each.significance(cloud, cameras, (200, 150)) for each in (gpu, ReferenceRenderer()))
    assert_close(scored.hits.cpu(), expected.hits, rtol=2e-3, atol=1.0)
    assert_close(scored.weight.cpu(), expected.weight, rtol=2e-3, atol=0.02)
    assert_close(scored.peak.cpu(), expected.peak, rtol=2e-3, atol=0.01)


@pytest.mark.gpu
def test_the_gpu_differentiates_as_the_cpu(gpu):
    camera = look_at((0.3, -0.3, -2.2), (0, 0, 0), up=(0, -1, 0))
    assert_same_gradients(gpu, open_renderer("cpu"), random_cloud(5000, seed=3), camera, (200, 150))


@pytest.mark.gpu
def test_the_weight_on_the_gpu_is_the_gradient_of_gsplats_own_picture(gpu, camera):
    cloud, size = random_cloud(5000, seed=3).to(gpu.device), (200, 150)
    colors = torch.full((len(cloud), 1), 0.5, device=gpu.device, requires_grad=True)
    view = (camera.world_to_camera().to(gpu.device)[None], camera.intrinsics(size).to(gpu.device)[None])
    shape = (cloud.means, cloud.quats, cloud.scales, cloud.opacities)
    drawn, _, _ = gsplat.rasterization(*shape, colors, *view, *size, near_plane=RenderSettings().near, packed=False)
    drawn.sum().backward()
    assert_close(gpu.significance(cloud, [camera], size).weight, colors.grad[:, 0], rtol=2e-3, atol=1e-2)


@pytest.mark.gpu
def test_gsplats_torch_twin_of_the_pairs_is_the_kernel(gpu, small_cloud, camera):
    """The stand-in that the tests above rely on finds the same pairs as the kernel it was written from."""
    cloud = small_cloud.to(gpu.device)
    view = cuda._project(gsplat, cloud, camera, SIZE)
    rows, pixels, _ = cuda._pairs(gsplat, cloud, view, 0, len(view.row_starts) - 1)
    ones = torch.ones(1, SIZE[1], SIZE[0])
    args = (view.means2d[None], view.conics[None], cloud.opacities[None])
    expected = pairs(
        0, cuda.ALL_RANGES, ones, *(each.cpu() for each in args), *SIZE, cuda.TILE, view.offsets.cpu(),
        view.touching.cpu(),
    )  # fmt: skip
    found, wanted = (set(zip(a.tolist(), b.tolist(), strict=True)) for a, b in ((rows, pixels), expected[:2]))
    assert len(found ^ wanted) <= 0.001 * len(wanted)


@pytest.mark.gpu
def test_the_gpu_draws_from_two_threads_at_once(gpu, camera):
    cloud = random_cloud(5000)
    expected = gpu.render(cloud, camera, (160, 90), RenderSettings()).color
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda _: gpu.render(cloud, camera, (160, 90), RenderSettings()).color, range(20)))
    torch.cuda.synchronize()
    assert all(psnr(each, expected) > 60 for each in drawn)
