"""The findings are complete, honest and never fail themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exgs_viewer import doctor, networks
from exgs_viewer.doctor import Check, display_problem, examine
from exgs_viewer.render import cuda_build

ROOT = Path(doctor.__file__).parents[1]
NAMES = [
    "Python", "PyTorch", "NVIDIA driver", "CUDA", "gsplat", "OpenGL", "Display", "CPU", "Weights", "Settings folder",
]  # fmt: skip


def answered(returncode: int, stdout: str = ""):
    """A subprocess.run that has already been answered."""
    return lambda command, **_: subprocess.CompletedProcess(command, returncode, stdout, "")


def test_everything_is_examined_and_only_problems_have_a_fix():
    findings = {finding.name: finding for finding in examine()}
    assert list(findings) == NAMES
    assert all(bool(finding.fix) == (finding.ok is False) for finding in findings.values())
    assert all(finding.value for finding in findings.values())


def test_what_surely_works_here_is_said_to_work():
    findings = {finding.name: finding for finding in examine()}
    assert all(findings[name].ok for name in ("Python", "PyTorch", "CPU", "Settings folder"))
    assert torch.__version__ in findings["PyTorch"].value and "threads" in findings["CPU"].value


@pytest.mark.parametrize("name", NAMES)
def test_a_check_that_breaks_is_a_problem_and_the_others_still_answer(name, monkeypatch):
    def breaks():
        raise ValueError("no such thing")

    monkeypatch.setitem(doctor.CHECKS, name, breaks)
    findings = {finding.name: finding for finding in examine()}
    assert findings[name].ok is False and "ValueError: no such thing" in findings[name].value
    assert list(findings) == NAMES


def test_a_finding_prints_as_one_line_and_its_fix_as_another():
    assert str(Check("Python", True, "3.11")).split() == ["ok", "Python", "3.11"]
    first, second = str(Check("Python", False, "3.8", "install 3.11")).splitlines()
    assert first.split() == ["problem", "Python", "3.8"] and second.strip() == "fix: install 3.11"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can be without a display")
class TestDisplay:
    def test_no_display_is_one_sentence(self, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert "DISPLAY is not set" in display_problem() and "xvfb-run" in display_problem()

    def test_wayland_alone_is_not_enough(self, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
        assert "XWayland" in display_problem()

    def test_a_display_that_does_not_answer_is_named(self, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":47110")
        assert "The display :47110 (DISPLAY) does not let this program connect" in display_problem()

    def test_a_display_that_takes_forever_is_a_problem(self, monkeypatch):
        def hangs(command, timeout, **_):
            raise subprocess.TimeoutExpired(command, timeout)

        monkeypatch.setenv("DISPLAY", "far.away:0")
        monkeypatch.setattr(subprocess, "run", hangs)
        assert "far.away:0" in display_problem()

    def test_a_missing_x_library_is_named(self, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(subprocess, "run", answered(1))
        monkeypatch.setattr(doctor, "_loads", lambda library: False)
        assert "libX11.so.6 is missing; install it with" in display_problem()

    @pytest.mark.screen
    def test_the_display_of_this_test_can_be_used(self):
        assert display_problem() is None
        assert {finding.name: finding.ok for finding in examine()}["Display"] is True

    def test_a_missing_libgl_is_a_problem_with_a_command(self, monkeypatch):
        monkeypatch.setattr(doctor, "_loads", lambda library: False)
        assert doctor._opengl() == (False, "libGL.so.1 is missing", "sudo apt-get install -y libgl1")


class TestGpu:
    """A machine with an NVIDIA driver, as far as the checks can see."""

    @pytest.fixture(autouse=True)
    def driver(self, monkeypatch):
        monkeypatch.setattr(doctor.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
        monkeypatch.setattr(subprocess, "run", answered(0, "NVIDIA H200, 570.86, 143771 MiB\n"))

    @pytest.fixture
    def cuda(self, monkeypatch):
        monkeypatch.setattr(doctor, "_cuda", lambda: (True, "NVIDIA H200"))
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(cuda_build, "kernels_shipped", lambda: False)

    def test_the_driver_is_told(self):
        assert doctor._driver() == (True, "NVIDIA H200, 570.86, 143771 MiB")

    def test_a_driver_that_fails_is_a_problem(self, monkeypatch):
        monkeypatch.setattr(subprocess, "run", answered(9, "NVIDIA-SMI has failed\nmore\n"))
        ok, value, fix = doctor._driver()
        assert ok is False and value == "NVIDIA-SMI has failed" and "Reboot" in fix

    def test_a_card_without_driver_is_a_problem_and_no_card_is_none(self, monkeypatch):
        monkeypatch.setattr(doctor.shutil, "which", lambda name, **_: None)
        monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: True)
        assert doctor._driver()[0] is False
        monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: False)
        assert doctor._driver()[0] is None

    def test_a_torch_without_cuda_beside_a_driver_is_a_problem(self, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", None)
        ok, value, fix = doctor._cuda()
        assert ok is False and "without CUDA" in value and "pip install" in fix

    def test_a_torch_that_cannot_reach_the_gpu_is_a_problem(self, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert doctor._cuda()[0] is False

    def test_kernels_without_a_compiler_are_a_problem(self, cuda, monkeypatch):
        monkeypatch.setattr(cuda_build, "find_nvcc", lambda: None)
        ok, value, fix = doctor._gsplat()
        assert ok is False and "no nvcc" in value and "cuda-toolkit=12.8" in fix

    @pytest.mark.parametrize(("compiled", "word"), [(True, "kernels compiled"), (False, "at first use")])
    def test_kernels_are_compiled_or_will_be(self, cuda, monkeypatch, compiled, word):
        monkeypatch.setattr(cuda_build, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
        monkeypatch.setattr(cuda_build, "kernels_compiled", lambda: compiled)
        ok, value = doctor._gsplat()
        assert ok is True and word in value


def test_a_settings_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EXGS_HOME", str(tmp_path / "file"))
    ok, value, fix = doctor._settings_folder()
    assert ok is False and str(tmp_path / "file") in value and "EXGS_HOME" in fix


def test_a_settings_folder_is_left_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setenv("EXGS_HOME", str(tmp_path / "new"))
    assert doctor._settings_folder() == (True, str(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []


def test_weights_are_listed_with_their_size(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "resource", lambda *parts: tmp_path / "shipped")
    monkeypatch.setattr(doctor, "SHIPPED", ("amplifier", "lite"))
    monkeypatch.setenv("EXGS_WEIGHTS", str(tmp_path / "own"))
    for folder, size in (("shipped/amplifier", 8_000), ("own/lite", 14_400_000)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").write_bytes(bytes(size))
    assert doctor._weights() == (True, "amplifier 8 kB, lite 14.4 MB")
    (tmp_path / "own/lite/model.safetensors").unlink()
    fine, told, remedy = doctor._weights()
    assert not fine and told == "amplifier 8 kB, lite missing" and remedy


@pytest.mark.parametrize(("version", "fine"), [("2.6.0", False), ("2.7.1+cu128", True), ("2.14.0", False)])
def test_a_torch_that_is_too_old_or_too_new_is_a_problem(version, fine, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    assert doctor._torch()[0] is fine


def test_looking_for_a_display_loads_nothing_heavy():
    code = (
        "import sys; from exgs_viewer.doctor import display_problem; display_problem(); print('torch' in sys.modules)"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert asked.stdout.strip() == "False", asked.stderr
