import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exgs_viewer import bench, pipeline
from exgs_viewer.bench import stages, stopwatch
from exgs_viewer.cli import main
from exgs_viewer.scene import save_scene
from exgs_viewer.scene.camera import look_at
from tests.conftest import random_cloud

ROOT = Path(__file__).resolve().parents[1]
STAGES = [
    "open",
    "render",
    "views",
    "score",
    "rank",
    "select",
    "amplify",
    "encode",
    "decode",
    "calibrate",
    "anchors",
    "estimate",
    "tree",
    "fold",
    "polish",
    "restore",
    "compose",
    "first_picture",
    "scored",
    "slider_to_picture",
    "memory",
]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "ball.ply"
    save_scene(path, random_cloud(3000, sh_degree=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopwatch, "PATIENCE", 0.2)
        patch.setattr(stopwatch, "RUNS", 2)
        few = [look_at((0.0, -0.2, -4.0), (0.0, 0.0, 0.0), up=(0.0, -1.0, 0.0))] * 3
        for module in (pipeline, stages):
            patch.setattr(module, "scoring_views", lambda cloud, up: few)
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            patch.delenv(name, raising=False)
        return bench.run(bench.Plan(str(path), "cpu", (64, 48), 0.2))


def test_every_stage_is_measured(result):
    assert {row["stage"] for row in result["rows"]} == set(STAGES)


@pytest.mark.screen
def test_with_a_screen_the_window_is_measured_too(tmp_path):
    save_scene(tmp_path / "ball.ply", random_cloud(3000))
    code = (
        "from exgs_viewer import bench; from exgs_viewer.bench import stopwatch, window;"
        "stopwatch.PATIENCE, stopwatch.RUNS, window.FLIGHT = 0.1, 1, 0.5;"
        f"import json; print(json.dumps(bench.run(bench.Plan({str(tmp_path / 'ball.ply')!r}, 'cpu', (64, 48)))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    loops = {row["during"]: row for row in rows if row["stage"] == "ui_loop"}
    assert set(loops) == {"opening and scoring", "encoding", "restoring", "flying"}
    assert all(0 < row["median_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in loops.values())
    assert [row["runs"] for row in rows if row["stage"] == "upload"] == [20]


def test_every_row_says_what_it_measured(result):
    for row in result["rows"]:
        assert row["scene"] == "ball.ply" and row["backend"] == "cpu"
        assert row["size"] == ([512, 512] if row.get("restorer", "inpaint") != "inpaint" else [64, 48])
        assert row["keep"] in (0.2, 1.0) and row["runs"] >= 1
        assert row["peak_mb"] > 50
        assert row["stage"] == "memory" or 0 <= row["median_ms"] <= row["p90_ms"]


def test_drawing_is_measured_uncut_and_cut(result):
    assert [row["keep"] for row in result["rows"] if row["stage"] == "render"] == [1.0, 0.2]


def test_the_header_names_the_machine(result):
    assert result["machine"]["cores"] >= 1 and result["machine"]["torch"] == torch.__version__
    assert "CPU" in result["machine"]["renderer"]


def test_the_table_and_the_profile_tell_the_same_figures(result):
    text = bench.table(result)
    assert all(f"| {stage}" in text for stage in STAGES)
    worst = max(result["rows"], key=lambda row: row["median_ms"] or 0)
    assert bench.slowest(result)[0].startswith(worst["stage"])


def test_the_peak_of_memory_is_seen():
    with stopwatch.peak_memory() as peak:
        block = torch.ones(60_000_000)
        before = stopwatch.resident()
        while peak[0] < before:
            pass
    del block
    assert peak[0] >= before


def test_the_command_prints_one_json_object(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "run", lambda plan, report: {"machine": {}, "rows": [plan.keep]})
    save_scene(tmp_path / "ball.ply", random_cloud(10))
    assert main(["bench", str(tmp_path / "ball.ply"), "--keep", "0.3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"machine": {}, "rows": [0.3]}


def test_a_missing_scene_is_told_before_the_work(capsys):
    assert main(["bench", "nowhere.ply"]) == 2
    assert "nowhere.ply" in capsys.readouterr().err
