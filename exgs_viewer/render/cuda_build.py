"""Finding the GPU and getting gsplat's CUDA kernels compiled and loaded, or one sentence why not.

gsplat compiles its kernels with nvcc when they are first imported, which takes minutes, once. Not yet run: a real
compilation; the ways it can be refused are tested with stand-ins (tests/render/test_cuda.py).
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from subprocess import SubprocessError
from types import ModuleType

import torch

from exgs_viewer.errors import BackendError

EXTENSION = "gsplat_cuda"
"""The name gsplat compiles its kernels under."""

BUILD_PATIENCE = 180.0
"""Seconds without a sign of life after which a build that holds the lock counts as dead."""


def find_device() -> torch.device:
    """The GPU to use. Raises BackendError where torch has no CUDA or finds no GPU."""
    if torch.version.cuda is None:
        raise BackendError(
            f"torch {torch.__version__} is built without CUDA; install a CUDA build (https://pytorch.org/get-started)."
        )
    if not torch.cuda.is_available():
        raise BackendError(
            f"torch (CUDA {torch.version.cuda}) finds no NVIDIA GPU; see whether `nvidia-smi` lists one, "
            "and install or update its driver."
        )
    return torch.device("cuda", torch.cuda.current_device())


def kernels_shipped() -> bool:
    """Whether the installed gsplat brings its kernels compiled."""
    spec = find_spec("gsplat")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return spec is not None and any((Path(spec.origin).parent / f"csrc{end}").exists() for end in (suffix, ".so"))


def kernels_compiled() -> bool:
    """Whether gsplat's kernels need no compiling: shipped, or left by an earlier run."""
    return kernels_shipped() or any((build_folder() / f"{EXTENSION}{end}").exists() for end in (".so", ".lib", ".pyd"))


def build_folder() -> Path:
    """Where torch compiles gsplat's kernels; made by torch where it is missing."""
    from torch.utils.cpp_extension import _get_build_directory

    return Path(_get_build_directory(EXTENSION, verbose=False))


def find_nvcc() -> str | None:
    """The CUDA compiler as gsplat looks for it."""
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None:
        return None
    return shutil.which("nvcc", path=str(Path(CUDA_HOME) / "bin")) or shutil.which("nvcc")


def load_kernels(device: torch.device, compiled: bool) -> ModuleType:
    """gsplat with its kernels loaded."""
    if not kernels_shipped() and find_nvcc() is None:
        # gsplat asks for nvcc even to load what it has compiled before.
        raise BackendError(
            f"gsplat needs nvcc for its CUDA kernels; install the CUDA toolkit {torch.version.cuda} "
            "(https://developer.nvidia.com/cuda-toolkit-archive) and set CUDA_HOME."
        )
    if not compiled:
        check_lock(build_folder())
    with _build_environment(device), redirect_stdout(sys.stderr):
        try:
            import gsplat
            from gsplat.cuda._backend import _C
        except (RuntimeError, ImportError, OSError, SubprocessError) as error:
            raise BackendError(
                f"gsplat's CUDA kernels cannot be compiled or loaded ({first_error(str(error))}); see that the CUDA "
                f"toolkit fits torch's CUDA {torch.version.cuda}, delete {build_folder()} and try again."
            ) from error
    if _C is None:
        raise BackendError(f"gsplat {gsplat.__version__} finds no CUDA toolkit; set CUDA_HOME to where it lies.")
    return gsplat


def check_lock(folder: Path) -> None:
    """Raise BackendError while another process compiles in `folder`; gsplat itself would tear its build down.

    A lock whose folder has not changed for BUILD_PATIENCE seconds is left over from a crash and does not count.
    """
    lock = folder / "lock"
    if not lock.exists():
        return
    newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()) if path.exists())
    if time.time() - newest < BUILD_PATIENCE:
        raise BackendError(
            f"Another process seems to be compiling gsplat's kernels; wait for it, or delete {lock} if it has died."
        )


def first_error(log: str) -> str:
    """The line of a build log that says what went wrong, at most 200 characters."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() and EXTENSION not in line]
    return (telling or lines or ["no reason given"])[0][:200].rstrip(".")


@contextmanager
def _build_environment(device: torch.device) -> Iterator[None]:
    """What torch's extension builder reads: few jobs, only this GPU's architecture, and the ninja of this venv."""
    major, minor = torch.cuda.get_device_capability(device)
    wanted = {
        "MAX_JOBS": os.environ.get("MAX_JOBS", "4"),
        "TORCH_CUDA_ARCH_LIST": os.environ.get("TORCH_CUDA_ARCH_LIST", f"{major}.{minor}"),
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
