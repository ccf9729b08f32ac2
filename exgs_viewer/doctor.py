"""What works on this machine, and one remedy for each thing that does not."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exgs_viewer.settings import user_folder

TORCH_RANGE = ((2, 7), (2, 14))
"""Versions of torch that pyproject.toml asks for: from the first to before the second."""
PATIENCE = 10.0
"""Seconds that another program may take to answer."""
MARKS = {True: "ok", False: "problem", None: "-"}

# XOpenDisplay may end the process that calls it, so it is asked in another one.
KNOCK = "import ctypes, sys; x = ctypes.CDLL('libX11.so.6'); x.XOpenDisplay.restype = ctypes.c_void_p; "
KNOCK += "sys.exit(0 if x.XOpenDisplay(None) else 1)"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What it is, a word or two."""
    ok: bool | None
    """True: works. False: does not, see `fix`. None: does not apply to this machine."""
    value: str
    """What was found."""
    fix: str = ""
    """One command, or where none helps one sentence; empty unless `ok` is False."""

    def __str__(self) -> str:
        line = f"{MARKS[self.ok]:8}{self.name:16}{self.value}"
        return f"{line}\n{'':24}fix: {self.fix}" if self.fix else line


def examine() -> list[Check]:
    """Look at everything the program needs; a check that fails itself becomes a problem of that name."""
    return [_guarded(name, check) for name, check in CHECKS.items()]


def display_problem() -> str | None:
    """One sentence where no window can be opened, else None. Without this GLFW would abort the whole process."""
    if not sys.platform.startswith("linux"):
        return None
    display = os.environ.get("DISPLAY")
    if not display and os.environ.get("WAYLAND_DISPLAY"):
        return "The window needs X11 and DISPLAY is not set; install and start XWayland."
    if not display:
        return (
            "There is no display (DISPLAY is not set); start the viewer from a desktop session, "
            "or on a virtual screen with `xvfb-run -a`."
        )
    try:
        answer = subprocess.run([sys.executable, "-S", "-c", KNOCK], timeout=PATIENCE, capture_output=True).returncode
    except (OSError, subprocess.SubprocessError):
        answer = -1
    if answer == 0:
        return None
    if not _loads("libX11.so.6"):
        return "The library libX11.so.6 is missing; install it with `apt-get install libx11-6`."
    return (
        f"The display {display} (DISPLAY) does not let this program connect; "
        "start the viewer from a desktop session, or on a virtual screen with `xvfb-run -a`."
    )


def _guarded(name: str, check: Callable[[], tuple]) -> Check:
    try:
        return Check(name, *check())
    except Exception as error:  # whatever breaks here, the other findings are still worth having
        return Check(name, False, f"could not be examined: {type(error).__name__}: {error}", _reinstall())


def _python() -> tuple:
    value = f"{platform.python_version()}, {platform.machine()}, {sys.executable}"
    if sys.version_info < (3, 10) or sys.maxsize < 2**32:
        return False, value, "Install a 64-bit Python 3.10 or newer from https://www.python.org and start again."
    return True, value


def _torch() -> tuple:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    value = f"{torch.__version__} ({build}), {torch.get_num_threads()} threads"
    low, high = TORCH_RANGE
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if low <= version < high:
        return True, value
    wanted = f"torch>={low[0]}.{low[1]},<{high[0]}.{high[1]}"
    return False, value, f'{sys.executable} -m pip install "{wanted}"'


def _driver() -> tuple:
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        asked = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE)
        if asked.returncode == 0:
            return True, "; ".join(asked.stdout.strip().splitlines())
        reason = (asked.stdout or asked.stderr).strip().splitlines()
        return (
            False,
            reason[0] if reason else "nvidia-smi fails",
            "Reboot; if that does not help, reinstall the driver.",
        )
    if _has_nvidia_card():
        return False, "an NVIDIA card without a driver", "sudo ubuntu-drivers install"
    return None, "no NVIDIA GPU; pictures are drawn on the CPU"


def _has_nvidia_card() -> bool:
    """Whether Linux lists a display controller (class 03) of NVIDIA (10de)."""
    cards = Path("/sys/bus/pci/devices").glob("*")
    return any(_read(card / "vendor") == "0x10de" and _read(card / "class").startswith("0x03") for card in cards)


def _cuda() -> tuple:
    import torch

    driver = _driver()[0]
    if driver is None:
        return None, "not used"
    if torch.version.cuda is None:
        fix = f"{sys.executable} -m pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
        return False, f"torch {torch.__version__} is built without CUDA", fix
    if not torch.cuda.is_available():
        return False, f"torch cannot use CUDA {torch.version.cuda}", "Update the NVIDIA driver and reboot."
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    return True, f"{properties.name}, {memory:.0f} GiB, compute {properties.major}.{properties.minor}"


def _gsplat() -> tuple:
    from exgs_viewer.render.cuda_build import find_nvcc, kernels_compiled, kernels_shipped

    version = importlib.metadata.version("gsplat")
    if not _cuda()[0]:
        return None, f"{version}, not used without CUDA"
    if kernels_shipped():
        return True, f"{version}, kernels came compiled"
    nvcc = find_nvcc()
    if nvcc is None:
        import torch

        fix = f"conda install -c nvidia cuda-toolkit={torch.version.cuda}"
        return False, f"{version}, no nvcc to compile its kernels with", fix
    state = "compiled" if kernels_compiled() else "will be compiled at first use, a few minutes"
    return True, f"{version}, kernels {state} ({nvcc})"


def _opengl() -> tuple:
    if not sys.platform.startswith("linux"):
        return True, "part of the system"
    if not _loads("libGL.so.1"):
        return False, "libGL.so.1 is missing", "sudo apt-get install -y libgl1"
    if any(Path("/dev/dri").glob("renderD*")) or Path("/dev/nvidiactl").exists():
        return True, "libGL; a GPU is there to draw the window"
    return True, "libGL; no GPU device, so the window is drawn in software (slower)"


def _display() -> tuple:
    problem = display_problem()
    if problem:
        return False, problem, "xvfb-run -a python3 run_viewer.py view demo --screenshot window.png"
    return True, f"DISPLAY={os.environ['DISPLAY']}" if os.environ.get("DISPLAY") else "part of the system"


def _cores() -> tuple:
    from exgs_viewer.render import open_renderer

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    numba = importlib.metadata.version("numba")
    return True, f"{usable} of {os.cpu_count()} cores usable; numba {numba} draws with: {open_renderer('cpu').label}"


def _weights() -> tuple:
    from exgs_viewer.networks import WEIGHTS, folders

    found = {}
    for name in SHIPPED:
        path = next((folder / WEIGHTS for folder in folders(name) if (folder / WEIGHTS).exists()), None)
        found[name] = f"{name} {_size(path.stat().st_size)}" if path else f"{name} missing"
    lacking = [name for name, told in found.items() if told.endswith("missing")]
    if lacking:
        return False, ", ".join(found.values()), _reinstall()
    return True, ", ".join(found.values())


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def _settings_folder() -> tuple:
    folder = user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True, str(folder)
    except OSError as error:
        return False, f"{folder}: {error.strerror}", f"export EXGS_HOME={Path(tempfile.gettempdir()) / 'exgs_viewer'}"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _reinstall() -> str:
    """The command that makes the installation whole again: a checkout's `.venv` is set up anew."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "run_viewer.py").exists():
        return f"rm -r {checkout / '.venv'} && python3 {checkout / 'run_viewer.py'}"
    return f"{sys.executable} -m pip install --upgrade --force-reinstall exgs-viewer"


SHIPPED = ("amplifier", "amplifier-merged")
"""Networks whose weights come with the program."""
CHECKS: dict[str, Callable[[], tuple]] = {
    "Python": _python,
    "PyTorch": _torch,
    "NVIDIA driver": _driver,
    "CUDA": _cuda,
    "gsplat": _gsplat,
    "OpenGL": _opengl,
    "Display": _display,
    "CPU": _cores,
    "Weights": _weights,
    "Settings folder": _settings_folder,
}
"""Each check gives ok, value and, for a problem, its fix."""
