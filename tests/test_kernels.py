"""What is compiled ahead is what using the program wants compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exgs_viewer.compiled import FOLDERS, forget_stale

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("nbi", "1.nbc")


def test_nothing_is_left_to_compile_when_a_scene_is_opened_compressed_and_exported(tmp_path):
    script = """
import pathlib, sys
from numba.core.dispatcher import Dispatcher
from exgs_viewer import kernels, pipeline
from exgs_viewer.render import open_renderer
from exgs_viewer.scene import exgs, sog_write
from exgs_viewer.scene.views import scoring_views
from exgs_viewer.settings import PRESETS, RenderSettings
from tests.conftest import random_cloud

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("exgs_viewer")]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    return {(kernel.py_func.__qualname__, signature) for kernel in found for signature in kernel.signatures}

for part in kernels.PARTS:
    part()
before = compiled()
renderer = open_renderer("cpu")
for degree in (0, 3):
    cloud = random_cloud(4000, sh_degree=degree)
    cameras = scoring_views(cloud, kernels.UP)[:4]
    for settings in PRESETS.values():
        small = pipeline.compress(cloud, settings, renderer, cameras)
        again, _ = exgs.decode(exgs.encode(small.cloud, settings=small.settings), "x")
        renderer.render(again, cameras[0], (96, 64), RenderSettings())
    sog_write.write(pathlib.Path(sys.argv[1]) / "small.sog", cloud)
assert len(before) > 30, len(before)
print(sorted(name for name, _ in compiled() - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_what_was_compiled_from_other_sources_is_forgotten(tmp_path):
    """Numba looks at a kernel's own file; here one changes that the kernel takes in."""
    for folder in FOLDERS:
        (tmp_path / folder / "__pycache__").mkdir(parents=True)
        for name, text in {"coder": "import numba", "model": "from numba import njit", "words": "nothing"}.items():
            (tmp_path / folder / f"{name}.py").write_text(text)
    forget_stale(tmp_path)
    code = [tmp_path / folder / "__pycache__" / f"model.code-1.py311.{kind}" for folder in FOLDERS for kind in KINDS]
    for path in code:
        path.write_text("machine code")
    (tmp_path / "scene" / "words.py").write_text("something else")
    forget_stale(tmp_path)
    assert all(path.exists() for path in code)
    (tmp_path / "scene" / "coder.py").write_text("import numba  # better")
    forget_stale(tmp_path)
    assert [path.exists() for path in code] == ["scene" not in path.parts for path in code]


def test_an_installation_that_cannot_be_written_to_is_left_alone(tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__pycache__").write_text("a file where a folder should be: nothing can be written")
    forget_stale(tmp_path)
