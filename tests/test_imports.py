"""The shape of the house, checked: who may import whom, and where each heavy package lives."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
DRAWING = ("window", "desk", "viewport", "overlay", "panels", "widgets", "modals", "status", "theme", "sinks", "glfw")
"""The modules of the app that draw; all the others must run without a screen."""
HOMES = {
    "dearpygui": [f"app.{name}" for name in DRAWING],
    "gsplat": ["render.cuda", "render.cuda_*"],
    "numba": [
        "render.cpu",
        "render.cpu_*",
        "compress.*",
        "scene.space",
        "scene.range_coder",
        "scene.lanes",
        "scene.compact_geometry",
        "scene.compact_model",
        "scene.codebook",
    ],
    "plyfile": ["scene.ply"],
    "PIL": ["images"],
    "imageio": ["images"],
    "tyro": ["cli", "commands.*", "flags"],
    "diffusers": ["restore.painter", "restore.folded", "restore.diffusion", "restore.difix"],
    "transformers": ["restore.diffusion", "restore.difix"],
    "safetensors": ["networks", "train.*"],
    "huggingface_hub": ["restore.download"],
    "peft": ["train.subject"],
    "accelerate": ["train.team"],
}
"""Package -> the modules below exgs_viewer that may import it."""


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("exgs_viewer", include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_is_imported_at_home_only(graph, package):
    users = graph.find_modules_that_directly_import(package) if package in graph.modules else set()
    names = {user.removeprefix("exgs_viewer.") for user in users}
    strangers = {name for name in names if not any(fnmatch(name, home) for home in HOMES[package])}
    assert not strangers


def test_the_homes_are_lived_in(graph):
    """Guards the test above: a misspelt package would be imported nowhere and pass it."""
    assert {"numba", "plyfile", "PIL", "tyro", "diffusers", "safetensors"} <= graph.modules


def test_imports_go_downwards_only():
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_the_code_is_as_ruff_wants_it(arguments):
    done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nothing_is_printed_or_loaded_by_importing_the_package():
    code = "import exgs_viewer, exgs_viewer.settings, exgs_viewer.cli, sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
