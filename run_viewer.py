#!/usr/bin/env python3
"""Start exgs_viewer from a fresh checkout; nothing but Python is needed.

    python3 run_viewer.py [SCENE]         open the window, on the built-in demo room where no scene is named
    python3 run_viewer.py test            run all tests, without a screen (further words go to pytest)
    python3 run_viewer.py COMMAND ...     any other command; `python3 run_viewer.py --help` lists them

The first start makes `.venv` beside this file and fills it; later starts only look at its stamp.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - the very users for whom nothing else works must be told so
    sys.exit("exgs_viewer needs Python 3.10 or newer; this is Python %d.%d." % sys.version_info[:2])  # noqa: UP031

import ast
import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP, UNFINISHED, LOG = VENV / "exgs-ready.json", VENV / "exgs-unfinished", VENV / "exgs-setup.log"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_INDEX = "https://download.pytorch.org/whl/cu128"
LIBRARIES = {"libGL.so.1": "libgl1", "libX11.so.6": "libx11-6"}
COMPILE = "import sys; sys.path.insert(0, sys.argv[1]); from exgs_viewer.kernels import compile_all; compile_all()"
TEST_PROGRAMS = {"Xvfb": "xvfb", "xdotool": "xdotool"}


def main(arguments):
    testing = arguments[:1] == ["test"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # As an exit it ends what we have started, too.
    try:
        wanted = requirements(testing)
        if not is_ready(wanted):
            set_up(wanted)
        if testing:
            return run_tests(arguments[1:])
    except KeyboardInterrupt:
        return say("Interrupted. The next start takes it up again.") or 130
    if Path(sys.prefix).resolve() == VENV.resolve():
        from exgs_viewer.cli import main as exgs

        return exgs(arguments)
    command = [str(PYTHON), str(HERE / "run_viewer.py"), *arguments]
    if os.name == "nt":  # There, exec returns to the shell before the program ends.
        return subprocess.call(command)
    return os.execv(command[0], command)


def requirements(testing):
    """The lines of pyproject.toml that pip must satisfy; read without tomllib, which Python 3.10 lacks."""
    text = (HERE / "pyproject.toml").read_text(encoding="utf-8")
    names = ["dependencies", "test"] if testing else ["dependencies"]
    return [line for name in names for line in ast.literal_eval(re.search(rf"(?ms)^{name} = (\[.*?\])$", text)[1])]


def is_ready(wanted):
    try:
        return PYTHON.exists() and set(wanted) <= set(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return False


def set_up(wanted):
    """Make `.venv` hold everything that is wanted. The stamp comes last, so that a broken-off set-up shows."""
    turn = wait_for_our_turn()
    if is_ready(wanted):  # Another start was faster.
        return
    driver = has_nvidia_driver()
    say(f"Setting up {VENV}: Python packages, about {'3 GB' if driver else '340 MB'} to download, only this once.")
    if platform.system() == "Linux" and missing_libraries():
        install_packages(missing_libraries(), "The window", needed=False)
    make_venv()
    pip = [str(PYTHON), "-m", "pip", "install"]
    run_step("pip", [*pip, "pip>=24.1"])  # Older ones show no progress to a program.
    torch = next(line for line in wanted if line.startswith("torch"))
    options = torch_options(platform.system(), driver, lambda extra: planned([*pip, *extra, torch]))
    run_step("1 of 3, PyTorch", [*pip, "--progress-bar", "raw", *options, torch])
    run_step("2 of 3, the rest", [*pip, "--progress-bar", "raw", *wanted])
    STAMP.write_text(json.dumps(wanted))
    UNFINISHED.unlink(missing_ok=True)
    say("  3 of 3: compiling for this processor, about a minute", passing=True)
    run_step("3 of 3, compiling", [str(PYTHON), "-c", COMPILE, str(HERE)])
    say("Set-up is done.")
    del turn


def wait_for_our_turn():
    """A lock that ends with its holders, however they end, so that two starts do not fill one `.venv`."""
    try:
        import fcntl
    except ImportError:  # Windows has none; two first starts at once are on their own there.
        return None
    lock = (HERE / "run_viewer.py").open()
    os.set_inheritable(lock.fileno(), True)  # Where we are killed, the pip that lives on holds it.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("Another start is setting up; waiting for it.")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def make_venv():
    """An environment to install into. One of ours that was left half-way is made anew; somebody's own is kept."""
    try:
        if UNFINISHED.exists() or ((VENV / "pyvenv.cfg").exists() and not PYTHON.exists()):
            shutil.rmtree(VENV)
        ours = STAMP.exists() or not PYTHON.exists()
        VENV.mkdir(exist_ok=True)
        STAMP.unlink(missing_ok=True)
        if ours:
            UNFINISHED.touch()
    except OSError as error:
        sys.exit(f"{VENV}: cannot be set up ({error.strerror}); copy this folder to where you may write.")
    if not PYTHON.exists():
        if importlib.util.find_spec("ensurepip") is None:  # Debian keeps it apart.
            install_packages([f"python3.{sys.version_info[1]}-venv"], "A Python environment", needed=True)
        run_step("environment", [sys.executable, "-m", "venv", str(VENV)])


def has_nvidia_driver():
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def torch_options(system, driver, plan):
    """pip options that bring the PyTorch for this machine: no gigabytes of CUDA where nothing can run them.

    `plan(options)` names the packages that pip would install with them, None where it finds no way.
    """
    if driver:
        return ["--index-url", CUDA_INDEX] if system == "Windows" else []
    if system != "Linux":
        return []
    for options in ([], ["--index-url", CPU_INDEX, "--retries", "0", "--timeout", "15"]):
        names = plan(options)
        if names is not None and not any(name.startswith("nvidia-") for name in names):
            return options
    say("pip finds no PyTorch without CUDA here and fetches the one with it: about 3 GB instead of 340 MB.")
    return []


def planned(command):
    """Names of the packages that a `pip install` would install, None where it would fail."""
    command = [*command, "--dry-run", "--quiet", "--ignore-installed", "--report", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    return [item["metadata"]["name"] for item in json.loads(done.stdout)["install"]] if done.returncode == 0 else None


def run_step(label, command):
    """One step of the set-up: all it says goes to the log, what takes long to the progress line."""
    environment = {**os.environ, "PIP_USER": "0"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    lines, doing = [], ""
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(command, **pipes, env=environment, text=True, errors="replace", close_fds=False) as process,
    ):
        try:
            for line in map(str.strip, process.stdout):
                progress = re.fullmatch(r"Progress (\d+) of (\d+)", line)
                if progress and sys.stderr.isatty():
                    say(f"  {label}: {doing} {int(progress[1]) / max(int(progress[2]), 1):.0%}", passing=True)
                if progress:
                    continue
                lines.append(line)
                log.write(line + "\n")
                if line.startswith(("Downloading", "Installing collected")):
                    doing = re.sub(r"^(\w+ \w+)-\S+", r"\1", line).replace(
                        "Installing collected packages:", "Unpacking"
                    )
                    say(f"  {label}: {doing}", passing=True)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        reason = next((line for line in reversed(lines) if "error" in line.lower()), f"exit {process.returncode}")
        sys.exit(f"\nThe set-up failed at '{label}': {reason}\nAll of it: {LOG}. The next start tries again.")


def say(text, passing=False):
    """Tell the user on stderr; what is passing is written over on a terminal."""
    width = shutil.get_terminal_size().columns - 1
    if sys.stderr.isatty():
        text = f"\r{text[:width]:<{width}}" if passing else f"\r{' ' * width}\r{text}\n"
    print(text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def missing_libraries():
    """Debian packages of the system libraries that the window needs and that are not there."""
    return [package for library, package in LIBRARIES.items() if not can_load(library)]


def can_load(library):
    try:
        return bool(ctypes.CDLL(library))
    except OSError:
        return False


def install_packages(packages, purpose, needed):
    """Install Debian packages where we may; otherwise say what to type, and end where nothing works without."""
    names, has_apt = " ".join(packages), shutil.which("apt-get") is not None
    if has_apt and os.geteuid() == 0:
        say(f"  apt-get install {names}", passing=True)
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        how["env"] = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.call(["apt-get", "update"], **how)
        if subprocess.call(["apt-get", "install", "-y", *packages], **how) == 0:
            return
    command = f"sudo apt-get install {names}" if has_apt else f"your package manager ({names} on Debian)"
    say(f"{purpose} needs system packages that are missing. Install them with: {command}")
    if needed:
        sys.exit(2)


def run_tests(arguments):
    """pytest in the environment, on a screen of its own where there is X; its exit code."""
    command = [str(PYTHON), "-m", "pytest", *arguments]
    if platform.system() != "Linux":
        return subprocess.call(command, cwd=HERE)
    missing = [package for program, package in TEST_PROGRAMS.items() if not shutil.which(program)] + missing_libraries()
    if missing:
        install_packages(missing, "The test of the window", needed=True)
    os.environ.pop("WAYLAND_DISPLAY", None)  # A window of the tests belongs on our screen.
    read, write = os.pipe()
    screen = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    with subprocess.Popen(screen, pass_fds=[write], stderr=subprocess.DEVNULL) as server, os.fdopen(read) as answer:
        os.close(write)
        try:
            number = answer.readline().strip()
            if not number:
                sys.exit("Xvfb, the screen for the tests, does not start; `Xvfb :99` tells why.")
            return subprocess.call(
                command, cwd=HERE, env={**os.environ, "WAYLAND_DISPLAY": "", "DISPLAY": f":{number}"}
            )
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
