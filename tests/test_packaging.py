"""The wheel, built without network, works from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """What `pip wheel --no-build-isolation .` builds: the back end is called as pip calls it."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("exgs_viewer-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Unpacking is all that installing a pure wheel does, scripts aside."""
    folder = tmp_path_factory.mktemp("site-packages")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(installed, cwd, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(installed), "EXGS_HOME": str(cwd / "home")}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_every_module_and_no_test(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "exgs_viewer").rglob("*.py")}
    assert modules <= names
    assert all(name.startswith("exgs_viewer/") for name in names)


def test_the_wheel_names_its_licence_and_its_python(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert "Requires-Python: >=3.10" in metadata
    assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_the_console_script_points_at_a_function(wheel, installed, tmp_path):
    archive = zipfile.ZipFile(wheel)
    scripts = ConfigParser()
    scripts.read_string(next(archive.read(name).decode() for name in archive.namelist() if name.endswith("points.txt")))
    module, function = scripts["console_scripts"]["exgs"].split(":")
    done = run(installed, tmp_path, "-c", f"from {module} import {function}; {function}(['--version'])")
    assert done.stdout == "exgs 0.1.0\n"


def test_assets_and_weights_come_along(installed, tmp_path):
    code = "from exgs_viewer.settings import resource; print(resource('assets', 'icon.png'), resource('weights'))"
    icon, weights = map(Path, run(installed, tmp_path, "-c", code).stdout.split())
    assert icon == installed / "exgs_viewer/assets/icon.png"
    assert icon.read_bytes() == (ROOT / "assets/icon.png").read_bytes()
    assert weights.is_dir()


def test_a_command_works_from_anywhere(installed, tmp_path):
    done = run(installed, tmp_path, "-m", "exgs_viewer", "compress", "--help")
    assert done.returncode == 0
    assert "--keep 0.01..1" in done.stdout
