"""Compile what numba compiles before anybody waits for it; numba keeps the result beside the sources.

On a fresh checkout this is a minute of one core, of which a quarter would stand between opening a scene and its first
picture. What is compiled depends on the types of the arguments, so that small work of every kind is simply done once.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from exgs_viewer.compress import groups, surroundings
from exgs_viewer.compress.fold import Members, fold
from exgs_viewer.compress.merge import SIDE_BY_SIDE, Voxels, build_tree, cut
from exgs_viewer.compress.scores import measure, score
from exgs_viewer.compress.select import rank
from exgs_viewer.render import Significance, open_renderer
from exgs_viewer.scene import exgs, sog_write
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import extent, scoring_views
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, quiet

UP = (0.0, -1.0, 0.0)
SIZE = (64, 48)


def compile_all(report: Report = quiet) -> None:
    """Every part of PARTS, side by side in processes of their own; what is compiled already takes a few seconds."""
    report(0.0, "Compiling for this processor")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(PARTS), os.cpu_count() or 1), context) as pool:
        for number, done in enumerate(as_completed([pool.submit(part) for part in PARTS])):
            done.result()
            report((number + 1) / len(PARTS), "Compiling for this processor")


def compile_drawing() -> None:
    """Views of a scene, its picture, what is seen of it, and the ways back from a picture."""
    cloud, renderer = _some(3000, 1), open_renderer("cpu")
    camera, *_ = cameras = scoring_views(cloud, UP)[:2]
    measure(cloud, renderer, cameras)
    picture = renderer.render(cloud, camera, SIZE, RenderSettings()).color
    renderer.adjoint(cloud, camera, SIZE)
    renderer.adjoint(cloud, camera, SIZE, picture)
    renderer.adjoint(cloud, camera, SIZE, None, torch.ones(len(cloud), 3))
    renderer.gradients(cloud, camera, SIZE, lambda drawn: drawn)


def compile_merging() -> None:
    """The tree, a cut, and what the networks read; in regions, too, which takes many Gaussians."""
    cloud = _some(SIDE_BY_SIDE + SIDE_BY_SIDE // 4, 0)
    values = torch.rand(5, len(cloud), generator=torch.Generator().manual_seed(1)) + 0.1
    seen = Significance(values[0], values[1], values[2], values[1] + values[3], values[4])
    tree, members = build_tree(cloud, seen), Members.of(cloud, seen)
    count = len(cloud) // 10
    folded = fold(cloud, seen, members, cut(tree, count, Voxels.of(cloud, 0.0, extent(cloud))))
    groups.look_within(cloud, seen, members, folded, folded.cloud, 1)
    kept = rank(cloud, score(cloud, seen), 0.0)[:count]
    surroundings.look_around(cloud, surroundings.Matter.of(cloud, seen), kept)


def compile_coding() -> None:
    """The compact codec, there and back, and what a .sog looks colours up in."""
    cloud = _some(2000, 1)
    for degree in (0, 1):
        settings = CompressionSettings(sh_degree=degree)
        part = cloud.with_sh_degree(degree)
        exgs.stored(part, settings)
        exgs.decode(exgs.encode(part, settings=settings), "what was just encoded")
    with tempfile.TemporaryDirectory() as folder:
        sog_write.write(Path(folder) / "some.sog", cloud)


PARTS = (compile_drawing, compile_merging, compile_coding)
"""What is compiled, the longest first."""


def _some(count: int, sh_degree: int) -> GaussianCloud:
    """Gaussians without a meaning."""
    generator = torch.Generator().manual_seed(0)
    return GaussianCloud(
        means=torch.rand(count, 3, generator=generator),
        scales=0.01 + 0.02 * torch.rand(count, 3, generator=generator),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1),
        opacities=torch.rand(count, generator=generator).clamp_min(0.05),
        sh=torch.rand(count, (sh_degree + 1) ** 2, 3, generator=generator),
    )
