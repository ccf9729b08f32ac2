"""Clouds and cameras that many tests share, and the rules for tests that want a screen, a GPU or ../shared."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest
import torch
from torch import Tensor

from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import scene_filter
from exgs_viewer.restore.scene_filter import SceneFilter
from exgs_viewer.scene.camera import Camera, look_at
from exgs_viewer.scene.cloud import GaussianCloud

SPLAT_TRANSFORM = (
    Path(os.environ.get("SPLAT_TRANSFORM_DIR", "")) / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
)
"""The independent converter, where `npm install --prefix DIR @playcanvas/splat-transform@2.7.1` put it."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def random_cloud(n: int, seed: int = 0, sh_degree: int = 3) -> GaussianCloud:
    """`n` random Gaussians in a ball of radius 1 around the origin."""
    generator = torch.Generator().manual_seed(seed)
    quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1)
    sh = torch.randn(n, (sh_degree + 1) ** 2, 3, generator=generator) * 0.15
    sh[:, 0] += torch.rand(n, 3, generator=generator) * 2 - 0.5
    return GaussianCloud(
        means=torch.randn(n, 3, generator=generator) * 0.4,
        scales=torch.exp(torch.randn(n, 3, generator=generator) * 0.6 - 3.5),
        quats=quats,
        opacities=torch.rand(n, generator=generator),
        sh=sh,
    )


def drawn(color: Tensor, alpha: Tensor, background: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> RenderOutput:
    """A picture [H, W, 3] over `background`, as if a renderer had drawn it at distance 1 wherever `alpha` [H, W] is."""
    return RenderOutput(color, alpha, (alpha > 0).to(alpha), background)


def tinting(red: float, green: float, blue: float) -> SceneFilter:
    """A scene's filter that adds this much to whatever is drawn."""
    nothing = scene_filter.silent()
    return replace(nothing, biases=(*nothing.biases[:-1], torch.tensor([red, green, blue])))


@pytest.fixture
def cloud() -> GaussianCloud:
    return random_cloud(600)


@pytest.fixture
def camera() -> Camera:
    return look_at((0.3, -0.4, -2.5), (0.0, 0.0, 0.0), up=(0.0, -1.0, 0.0), fov_y=0.8)


@pytest.fixture
def scenes() -> Path:
    """The folder of real scenes."""
    return SHARED / "scenes"


@pytest.fixture(autouse=True)
def own_user_folder(tmp_path, monkeypatch):
    """No test reads or writes the settings of whoever runs it."""
    monkeypatch.setenv("EXGS_HOME", str(tmp_path / "exgs_home"))


def pytest_collection_modifyitems(items):
    reasons = {
        "gpu": None if torch.cuda.is_available() else "no NVIDIA GPU here",
        "screen": None if os.environ.get("DISPLAY") else "no display; `python3 run_viewer.py test` starts one",
        "splat_transform": None
        if SPLAT_TRANSFORM.is_file() and which("node")
        else "no splat-transform; see conftest.py",
        "shared": None if SHARED.is_dir() else f"{SHARED} is absent",
    }
    for item in items:
        for mark, reason in reasons.items():
            if reason and mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
