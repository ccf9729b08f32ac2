"""A tiny scene with cameras, and an evaluation of it that is made once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from exgs_viewer import evaluate
from exgs_viewer.evaluate import Plan, Row
from exgs_viewer.scene import ply
from exgs_viewer.scene.camera import look_at, write_cameras
from tests.conftest import random_cloud

SIZE = (72, 48)


@pytest.fixture(scope="module", autouse=True)
def small_and_quick(tmp_path_factory) -> Iterator[None]:
    """Two scoring views (what is scored from where is the business of other tests), scores nobody else sees, and one
    thread: pictures this small are drawn before a second one has woken up."""
    views = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in [(1, 0, -2.5), (0, 1, 2.5)]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exgs_viewer.methods.scoring_views", lambda cloud, up: views)
        patch.setattr("exgs_viewer.compress.scores.SCORING_SIZE", (96, 72))
        patch.setenv("EXGS_HOME", str(tmp_path_factory.mktemp("home")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """600 Gaussians of SH degree 2 as a .ply, with three cameras for 3:2 pictures in the folder `cameras`."""
    folder = tmp_path_factory.mktemp("scenes")
    ply.write(folder / "ball.ply", random_cloud(600, sh_degree=2))
    (folder / "cameras").mkdir()
    views = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in [(0, 0, -2.5), (2.5, 0, 0), (0, 0, 2.5)]]
    write_cameras(folder / "cameras" / "ball.json", views, (300, 200))
    return folder / "ball.ply"


@pytest.fixture(scope="module")
def finished(scene, tmp_path_factory) -> tuple[Plan, list[Row]]:
    """Two methods, retentions and restorers, measured."""
    plan = Plan(
        (str(scene),),
        tmp_path_factory.mktemp("report"),
        scene.parent / "cameras",
        keeps=(0.1, 0.5),
        methods=("paper", "prune-hits"),
        restorers=("none", "inpaint"),
        size=SIZE,
        backend="cpu",
    )
    return plan, evaluate.run(plan)


@pytest.fixture
def plan(scene, tmp_path) -> Plan:
    """One row, not measured yet."""
    return Plan((str(scene),), tmp_path / "report", scene.parent / "cameras", (0.5,), size=SIZE, backend="cpu")
