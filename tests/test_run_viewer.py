"""The start: what it installs, when it does not, and that nothing half-way counts as done."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLAIN, CUDA = ["torch", "numpy"], ["torch", "nvidia-cudnn-cu13", "triton"]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """run_viewer.py as a module that believes to lie in an empty folder, and may start no program."""
    spec = importlib.util.spec_from_file_location("run_viewer", ROOT / "run_viewer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "run_viewer.py", tmp_path)
    venv = tmp_path / ".venv"
    paths = {"HERE": tmp_path, "VENV": venv, "PYTHON": venv / "bin/python"}
    names = {"STAMP": "exgs-ready.json", "UNFINISHED": "exgs-unfinished", "LOG": "exgs-setup.log"}
    for name, path in {**paths, **{key: venv / file for key, file in names.items()}}.items():
        monkeypatch.setattr(module, name, path)

    def refuse(*arguments, **_):
        raise AssertionError(f"a program is started: {arguments}")

    monkeypatch.setattr(module.subprocess, "Popen", refuse)
    monkeypatch.setattr(module, "missing_libraries", list)
    monkeypatch.setattr(module, "planned", lambda _: PLAIN)
    return module


@pytest.fixture
def steps(start, monkeypatch):
    """Every step of the set-up that was run: (label, command). `environment` makes the Python it promises."""
    done = []

    def run_step(label, command):
        done.append((label, command))
        if label == "environment":
            start.PYTHON.parent.mkdir(parents=True)
            start.PYTHON.touch()
            (start.VENV / "pyvenv.cfg").touch()

    monkeypatch.setattr(start, "run_step", run_step)
    return done


def test_requirements_are_what_a_toml_reader_reads(start):
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert start.requirements(testing=False) == project["dependencies"]
    assert start.requirements(testing=True) == project["dependencies"] + project["optional-dependencies"]["test"]


def test_a_first_start_fills_a_new_environment(start, steps):
    wanted = start.requirements(testing=False)
    start.set_up(wanted)
    labels = ["environment", "pip", "1 of 3, PyTorch", "2 of 3, the rest", "3 of 3, compiling"]
    assert [label for label, _ in steps] == labels
    assert steps[-2][1][-len(wanted) :] == wanted
    assert start.is_ready(wanted)
    assert not start.UNFINISHED.exists()


def test_a_later_start_runs_nothing(start, steps, monkeypatch):
    start.set_up(start.requirements(testing=False))
    steps.clear()
    started = []
    monkeypatch.setattr(start.os, "execv", lambda program, command: started.append(command) or 0)
    assert start.main(["info", "demo"]) == 0
    assert steps == []
    assert started == [[str(start.PYTHON), str(start.HERE / "run_viewer.py"), "info", "demo"]]


def test_a_changed_requirement_is_installed_into_the_same_environment(start, steps):
    start.set_up(["torch>=2.7"])
    (start.VENV / "mark").touch()
    steps.clear()
    assert not start.is_ready(["torch>=2.8"])
    start.set_up(["torch>=2.8"])
    assert "environment" not in [label for label, _ in steps]
    assert (start.VENV / "mark").exists()


def test_the_tests_need_more_than_the_window(start, steps):
    start.set_up(start.requirements(testing=False))
    assert not start.is_ready(start.requirements(testing=True))
    start.set_up(start.requirements(testing=True))
    assert start.is_ready(start.requirements(testing=False))


@pytest.mark.parametrize("broken_at", ["environment", "pip", "1 of 3, PyTorch", "2 of 3, the rest"])
def test_a_set_up_that_was_broken_off_is_begun_anew(start, steps, monkeypatch, broken_at):
    whole = start.run_step

    def break_off(label, command):
        if label == broken_at:
            raise KeyboardInterrupt
        whole(label, command)

    wanted = start.requirements(testing=False)
    monkeypatch.setattr(start, "run_step", break_off)
    assert start.main(["info"]) == 130
    assert not start.is_ready(wanted)
    (start.VENV / "half a package").touch()
    monkeypatch.setattr(start, "run_step", whole)
    start.set_up(wanted)
    assert start.is_ready(wanted)
    assert not (start.VENV / "half a package").exists()


def test_somebodys_own_environment_is_kept(start, steps):
    start.PYTHON.parent.mkdir(parents=True)
    start.PYTHON.touch()
    (start.VENV / "mine").touch()
    start.set_up(start.requirements(testing=False))
    assert (start.VENV / "mine").exists()
    assert "environment" not in [label for label, _ in steps]


def test_an_environment_whose_python_is_gone_is_made_anew(start, steps):
    start.set_up(start.requirements(testing=False))
    start.PYTHON.unlink()
    assert not start.is_ready(start.requirements(testing=False))
    start.set_up(start.requirements(testing=False))
    assert start.PYTHON.exists()


def test_a_folder_that_cannot_be_written_is_told(start, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SystemExit, match=r"Permission denied.*copy this folder"):
        start.make_venv()


def test_a_step_that_fails_names_its_reason_and_the_log(start, monkeypatch):
    start.VENV.mkdir()
    monkeypatch.setattr(start.subprocess, "Popen", subprocess_popen)
    code = "import sys; print('ERROR: no matching distribution'); sys.exit(1)"
    with pytest.raises(SystemExit, match="'pip': ERROR: no matching distribution") as failure:
        start.run_step("pip", [sys.executable, "-c", code])
    assert str(start.LOG) in str(failure.value)
    assert "no matching distribution" in start.LOG.read_text()


subprocess_popen = subprocess.Popen


def test_a_step_tells_downloads_and_hides_the_rest(start, monkeypatch, capsys):
    start.VENV.mkdir()
    monkeypatch.setattr(start.subprocess, "Popen", subprocess_popen)
    code = "print('Collecting torch\\n  Downloading torch-2.9-cp311.whl (191.8 MB)\\nProgress 5 of 10')"
    start.run_step("PyTorch", [sys.executable, "-c", code])
    assert capsys.readouterr().err == "  PyTorch: Downloading torch (191.8 MB)\n"
    assert "Collecting torch" in start.LOG.read_text()


@pytest.mark.parametrize(
    ("system", "driver", "default", "cpu_index", "source"),
    [
        ("Linux", False, PLAIN, None, "default"),  # pip is configured to find a CPU build
        ("Linux", False, CUDA, PLAIN, "cpu"),
        ("Linux", False, None, PLAIN, "cpu"),
        ("Linux", False, CUDA, None, "default"),  # pytorch.org cannot be reached
        ("Linux", False, CUDA, CUDA, "default"),
        ("Linux", True, CUDA, PLAIN, "default"),
        ("Darwin", False, PLAIN, None, "default"),
        ("Windows", False, PLAIN, None, "default"),
        ("Windows", True, PLAIN, None, "cuda"),
    ],
)
def test_torch_comes_without_cuda_where_nothing_can_run_it(start, capsys, system, driver, default, cpu_index, source):
    options = start.torch_options(system, driver, lambda extra: cpu_index if start.CPU_INDEX in extra else default)
    index = {"default": None, "cpu": start.CPU_INDEX, "cuda": start.CUDA_INDEX}[source]
    assert (index in options) if index else options == []
    fell_back = default == CUDA and source == "default" and not driver
    assert ("3 GB" in capsys.readouterr().err) == fell_back


def test_the_plan_is_read_from_pip_report(start, monkeypatch):
    report = json.dumps({"install": [{"metadata": {"name": "torch"}}, {"metadata": {"name": "nvidia-nccl-cu13"}}]})
    done = subprocess.CompletedProcess([], 0, stdout=report)
    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert start.planned(["pip", "install", "torch"]) == ["torch", "nvidia-nccl-cu13"]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, stdout=""))
    assert start.planned(["pip", "install", "torch"]) is None


def test_without_root_the_one_command_is_told(start, monkeypatch, capsys):
    monkeypatch.setattr(start.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(start.shutil, "which", lambda _: "/usr/bin/apt-get")
    start.install_packages(["libgl1"], "The window", needed=False)
    assert "sudo apt-get install libgl1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ending:
        start.install_packages(["xvfb", "xdotool"], "The test of the window", needed=True)
    assert ending.value.code == 2
    assert "sudo apt-get install xvfb xdotool" in capsys.readouterr().err


def test_root_on_debian_gets_its_packages(start, monkeypatch):
    calls = []
    monkeypatch.setattr(start.os, "geteuid", lambda: 0)
    monkeypatch.setattr(start.shutil, "which", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(start.subprocess, "call", lambda command, **how: calls.append((command, how["env"])) or 0)
    start.install_packages(["xvfb"], "The test of the window", needed=True)
    assert [command for command, _ in calls] == [["apt-get", "update"], ["apt-get", "install", "-y", "xvfb"]]
    assert all(environment["DEBIAN_FRONTEND"] == "noninteractive" for _, environment in calls)


def test_an_old_python_is_told_in_one_sentence():
    code = f"import sys, runpy; sys.version_info = (3, 9, 18); runpy.run_path({str(ROOT / 'run_viewer.py')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "exgs_viewer needs Python 3.10 or newer; this is Python 3.9."
    assert done.returncode == 1


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="no Xvfb here")
@pytest.mark.parametrize(("claim", "code"), [("True", 0), ("False", 1)])
def test_the_tests_get_a_screen_and_their_exit_code_comes_through(start, monkeypatch, tmp_path, claim, code):
    monkeypatch.setattr(start.subprocess, "Popen", subprocess_popen)
    monkeypatch.setattr(start, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(start.signal, "signal", lambda *_: None)
    monkeypatch.setenv("DISPLAY", "nowhere")
    seen = tmp_path / "display"
    test = f"import os, pathlib\ndef test_it():\n    pathlib.Path({str(seen)!r}).write_text(os.environ['DISPLAY'])\n"
    (tmp_path / "test_one.py").write_text(test + f"    assert {claim}\n")
    assert start.run_tests(["-p", "no:cacheprovider", str(tmp_path / "test_one.py")]) == code
    number = seen.read_text()
    assert number.startswith(":")
    assert not Path(f"/tmp/.X11-unix/X{number[1:]}").exists(), "the screen outlives the tests"


def test_ci_runs_the_second_command_and_nothing_else():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines == ["#!/usr/bin/env bash", 'cd "$(dirname "$0")/.." && exec python3 run_viewer.py test']
    assert os.access(ROOT / ".ci/run", os.X_OK)
