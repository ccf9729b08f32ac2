"""The commands as a user types them: answers on stdout, everything else on stderr, mistakes in one sentence."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exgs_viewer import cli, doctor, terminal
from exgs_viewer.commands import measure
from exgs_viewer.pipeline import Stage
from exgs_viewer.scene import exgs, open_scene, ply
from exgs_viewer.scene.camera import look_at, write_cameras
from exgs_viewer.settings import (
    PRESETS,
    CompressionSettings,
    RenderSettings,
    Settings,
    WindowSettings,
    save_settings,
)
from tests.conftest import tinting

ROOT = Path(__file__).resolve().parents[1]
SIZE = ["--size", "96x64"]


@pytest.fixture
def scene(tmp_path, cloud) -> Path:
    """600 Gaussians of SH degree 3 as a .ply."""
    path = tmp_path / "ball.ply"
    ply.write(path, cloud)
    return path


@pytest.fixture
def cameras(tmp_path) -> Path:
    path = tmp_path / "views.json"
    places = [(0, 0, -2.5), (2.5, 0, 0), (0, 0, 2.5)]
    write_cameras(path, [look_at(place, (0, 0, 0), (0, -1, 0)) for place in places], (96, 64))
    return path


@pytest.fixture(autouse=True)
def two_small_scoring_views(monkeypatch):
    """What is scored from where is the business of other tests; here it only takes long."""
    views = [look_at(place, (0, 0, 0), (0, -1, 0)) for place in [(0, 0, -2.5), (0, 0, 2.5)]]
    monkeypatch.setattr("exgs_viewer.scene.views.scoring_views", lambda cloud, up: views)
    monkeypatch.setattr("exgs_viewer.compress.scores.SCORING_SIZE", (96, 72))


@pytest.fixture
def window(monkeypatch) -> list:
    """Stands in for the window: what `run` was called with."""
    calls = []
    fake = types.ModuleType("exgs_viewer.app.window")
    fake.run = lambda *arguments: calls.append(arguments) or 0
    monkeypatch.setitem(sys.modules, "exgs_viewer.app.window", fake)
    monkeypatch.setattr("exgs_viewer.app.window", fake, raising=False)
    return calls


def told(capsys, *words: object) -> dict:
    """The one JSON object that a command prints."""
    assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def mistake(capsys, *words: object) -> str:
    """The one line that a command prints when the user is wrong."""
    assert cli.main([*map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("exgs: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_help_needs_no_torch():
    code = "import sys\nfrom exgs_viewer import cli\ncli.main(['--help'])\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_an_example_of_itself(capsys, name):
    with pytest.raises(SystemExit) as ending:
        cli.main([name, "--help"])
    assert ending.value.code == 0
    assert f"\n    exgs {name}" in capsys.readouterr().out


def test_every_compression_setting_is_a_flag_with_its_bounds(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compress", "--help"])
    text = capsys.readouterr().out
    for flag in ("--keep 0.01..1", "--voxel-size auto", "--sh-degree 0..3", "--amplification 0.5..3"):
        assert flag in text


def test_info_says_what_the_file_holds(capsys, scene, cloud):
    answer = told(capsys, "info", scene)
    assert answer["format"] == "ply"
    assert answer["gaussians"] == len(cloud)
    assert answer["sh_degree"] == 3
    assert answer["bytes"] == scene.stat().st_size
    # The yardstick is the file without its text header.
    assert 0 < answer["bytes"] - answer["ply_bytes"] < 2000
    assert torch.allclose(torch.tensor(answer["bounds"]["max"]), cloud.means.amax(0))
    assert torch.tensor(answer["up"]).norm() == pytest.approx(1)
    assert answer["warnings"] == []


def test_info_reads_as_words_too(capsys, scene):
    assert cli.main(["info", str(scene)]) == 0
    assert "gaussians     600\n" in capsys.readouterr().out


def test_a_picture_size_reads_as_words(capsys, tmp_path, scene):
    assert cli.main(["render", str(scene), "-o", str(tmp_path / "x.png"), *SIZE]) == 0
    assert "size          96 x 64\n" in capsys.readouterr().out


def test_warnings_go_to_stderr(capsys, tmp_path, cloud):
    broken = cloud.means.clone()
    broken[7] = float("nan")
    ply.write(tmp_path / "nan.ply", cloud.replaced(means=broken))
    assert cli.main(["info", str(tmp_path / "nan.ply"), "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["gaussians"] == len(cloud) - 1
    assert printed.err == "".join(f"exgs: warning: {warning}\n" for warning in answer["warnings"])
    assert len(answer["warnings"]) == 1


def test_compress_keeps_the_share_and_tells_the_truth(capsys, tmp_path, scene):
    out = tmp_path / "small.exgs"
    answer = told(capsys, "compress", scene, "-o", out, "--keep", "0.25")
    assert (answer["gaussians_in"], answer["gaussians_out"]) == (600, 150)
    assert len(open_scene(out).cloud) == 150
    assert answer["bytes_in"] == scene.stat().st_size
    assert answer["bytes_out"] == out.stat().st_size
    assert answer["ratio"] == pytest.approx(answer["ply_bytes"] / answer["bytes_out"])
    assert set(answer["seconds"]) == {"open", "compress", "encode"}


def test_the_small_file_remembers_where_up_is(capsys, tmp_path, scene):
    told(capsys, "compress", scene, "-o", tmp_path / "small.exgs")
    up = told(capsys, "info", scene)["up"]
    assert list(open_scene(tmp_path / "small.exgs").up) == up


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".splat", ".sog", ".exgs"])
def test_convert_writes_what_the_name_says(capsys, tmp_path, scene, suffix):
    out = tmp_path / f"out{suffix}"
    answer = told(capsys, "convert", scene, out)
    found = open_scene(out)
    assert (f".{found.format}", len(found.cloud), answer["gaussians"]) == (suffix, 600, 600)
    assert (answer["bytes_in"], answer["bytes_out"]) == (scene.stat().st_size, out.stat().st_size)
    assert answer["ratio"] == pytest.approx(answer["ply_bytes"] / answer["bytes_out"])
    assert set(answer["seconds"]) == {"open", "write"}


def test_convert_says_what_was_lost(capsys, tmp_path, scene):
    assert cli.main(["convert", str(scene), str(tmp_path / "out.splat"), "--json"]) == 0
    printed = capsys.readouterr()
    warnings = json.loads(printed.out)["warnings"]
    assert "spherical harmonics of degree 3 were left out" in warnings[0]
    assert printed.err == "".join(f"exgs: warning: {warning}\n" for warning in warnings)


def test_a_compressed_scene_goes_to_another_viewer_and_back(capsys, tmp_path, scene):
    told(capsys, "compress", scene, "-o", tmp_path / "small.exgs", "--keep", "0.5")
    told(capsys, "convert", tmp_path / "small.exgs", tmp_path / "small.sog")
    told(capsys, "convert", tmp_path / "small.sog", tmp_path / "again.exgs")
    assert len(open_scene(tmp_path / "again.exgs").cloud) == 300


@pytest.mark.parametrize("name", ["out.obj", "out", "folder.ply"])
def test_convert_refuses_what_it_cannot_write_before_it_reads(capsys, tmp_path, scene, name, monkeypatch):
    (tmp_path / "folder.ply").mkdir()
    monkeypatch.setattr("exgs_viewer.scene.open_scene", lambda *_: pytest.fail("it was opened"))
    assert str(tmp_path / name) in mistake(capsys, "convert", scene, tmp_path / name)


def test_smaller_budgets_of_the_papers_way_are_subsets_of_larger_ones(capsys, tmp_path, scene):
    kept = {}
    for keep in ("0.1", "0.5"):
        told(capsys, "compress", scene, "-o", tmp_path / "small.exgs", "--keep", keep, "--preset", "paper")
        kept[keep] = {tuple(color) for color in open_scene(tmp_path / "small.exgs").cloud.sh[:, 0].tolist()}
    assert kept["0.1"] < kept["0.5"]


@pytest.mark.parametrize("words", [["--preset", "paper"], ["--preset=paper"]])
def test_a_preset_is_where_flags_start_from(capsys, tmp_path, scene, words):
    told(capsys, "compress", scene, "-o", tmp_path / "small.exgs", *words, "--keep", "0.3", "--score", "weight")
    meant = replace(PRESETS["paper"], keep=0.3, score="weight")
    assert open_scene(tmp_path / "small.exgs").meta["compression"] == asdict(meant)


def test_a_preset_that_there_is_not_is_refused(capsys, tmp_path, scene):
    with pytest.raises(SystemExit):
        cli.main(["compress", str(scene), "-o", str(tmp_path / "small.exgs"), "--preset", "fastest"])
    assert "paper" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "same"), [(["--voxel-size", "auto"], True), (["--voxel-size", "5"], False)])
def test_the_voxel_size_may_be_auto(capsys, tmp_path, scene, flag, same):
    for name, extra in {"plain": [], "flag": flag}.items():
        told(capsys, "compress", scene, "-o", tmp_path / f"{name}.exgs", *extra)
    plain, flagged = (open_scene(tmp_path / f"{name}.exgs").meta["compression"] for name in ("plain", "flag"))
    assert (plain == flagged) == same


@pytest.mark.parametrize(("flag", "coarser"), [([], None), (["--coarser", "auto"], None), (["--coarser=-0.7"], -0.7)])
def test_the_file_says_how_coarsely_it_was_rounded(capsys, tmp_path, scene, flag, coarser):
    out = tmp_path / "small.exgs"
    answer = told(capsys, "compress", scene, "-o", out, "--keep", "0.03", *flag)
    found = open_scene(out)
    settings = CompressionSettings(**found.meta["compression"])
    assert settings.coarser == coarser if coarser else settings.coarser > 0.1
    # Nothing is left open: these settings make the same file again.
    again = exgs.encode(found.cloud, found.meta, settings=settings)
    assert answer["bytes_out"] == out.stat().st_size == pytest.approx(len(again), rel=0.02)


def test_a_coarseness_out_of_bounds_is_told(capsys, tmp_path, scene):
    error = mistake(capsys, "compress", scene, "-o", tmp_path / "x.exgs", "--coarser", "4")
    assert error == "exgs: --coarser 4: must lie between -3 and 3.\n"


@pytest.mark.parametrize("keep", ["0", "1.01", "-3", "nan"])
def test_a_share_out_of_bounds_is_told(capsys, tmp_path, scene, keep):
    error = mistake(capsys, "compress", scene, "-o", tmp_path / "x.exgs", f"--keep={keep}")
    assert error == f"exgs: --keep {keep}: must lie between 0.01 and 1.\n"
    assert not (tmp_path / "x.exgs").exists()


def test_a_compression_that_fails_leaves_the_old_file(capsys, tmp_path, scene, monkeypatch):
    out = tmp_path / "small.exgs"
    out.write_bytes(b"precious")
    monkeypatch.setattr("exgs_viewer.settings.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    kept = lambda cloud, settings, *_: Stage("merged", cloud, settings, cloud, math.nan)  # noqa: E731
    monkeypatch.setattr("exgs_viewer.pipeline.compress", kept)
    assert "No space left" in mistake(capsys, "compress", scene, "-o", out)
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize(("name", "says"), [("small.ply", "must end in .exgs"), ("folder.exgs", "this is a folder")])
def test_a_bad_output_is_told_before_the_work(capsys, tmp_path, scene, name, says):
    (tmp_path / "folder.exgs").mkdir()
    assert says in mistake(capsys, "compress", scene, "-o", tmp_path / name)


def test_render_draws_the_view_that_a_camera_sees(capsys, tmp_path, scene, cameras):
    out = tmp_path / "view.png"
    answer = told(capsys, "render", scene, "--cameras", cameras, "--index", 1, "-o", out, *SIZE)
    assert answer["pictures"] == [str(out)]
    from exgs_viewer import render
    from exgs_viewer.images import read_picture
    from exgs_viewer.scene.camera import read_cameras

    meant = render.open_renderer("reference").render(
        open_scene(scene).cloud, read_cameras(cameras)[1], (96, 64), RenderSettings()
    )
    assert (read_picture(out) - meant.color).abs().max() < 3 / 255


def test_render_draws_every_camera_into_a_folder(capsys, tmp_path, scene, cameras):
    answer = told(capsys, "render", scene, "--cameras", cameras, "-o", tmp_path / "all", *SIZE)
    assert answer["pictures"] == [str(tmp_path / "all" / f"{number:04d}.png") for number in range(3)]
    assert len({Path(path).read_bytes() for path in answer["pictures"]}) == 3


def test_render_without_cameras_sees_the_scene(capsys, tmp_path, scene):
    told(capsys, "render", scene, "-o", tmp_path / "first.png", *SIZE)
    picture = Image.open(tmp_path / "first.png")
    assert picture.size == (96, 64)
    assert max(high for _, high in picture.getextrema()) > 60


def test_render_draws_what_compression_and_repair_leave(capsys, tmp_path, scene, cameras):
    view = ["--cameras", cameras, "--index", 0, *SIZE]
    whole = told(capsys, "render", scene, *view, "-o", tmp_path / "whole.png")
    small = told(capsys, "render", scene, *view, "-o", tmp_path / "small.png", "--keep", "0.1")
    told(capsys, "render", scene, *view, "-o", tmp_path / "fixed.png", "--keep", "0.1", "--restore", "inpaint")
    assert (whole["gaussians"], small["gaussians"]) == (600, 60)
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in ("whole", "small", "fixed")}) == 3


def test_a_scene_trained_antialiased_is_drawn_so_and_stays_so_when_compressed(capsys, tmp_path, scene, cameras):
    from exgs_viewer.scene import open_scene, spz

    view = ["--cameras", cameras, "--index", 2, "--size", "24x16"]  # 600 Gaussians of which most are thin there
    cloud = open_scene(scene).cloud
    for name, antialias in (("fine", True), ("plain", False)):
        spz.write(tmp_path / f"{name}.spz", cloud, {"antialias": antialias})
        told(capsys, "render", tmp_path / f"{name}.spz", *view, "-o", tmp_path / f"{name}.png")
    told(capsys, "render", tmp_path / "plain.spz", *view, "-o", tmp_path / "asked.png", "--antialiased")
    fine, plain, asked = (Image.open(tmp_path / f"{name}.png") for name in ("fine", "plain", "asked"))
    assert fine == asked and fine != plain
    told(capsys, "compress", tmp_path / "fine.spz", "-o", tmp_path / "fine.exgs", "--keep", "0.5")
    assert open_scene(tmp_path / "fine.exgs").antialiased and not open_scene(tmp_path / "plain.spz").antialiased


def test_a_scene_filter_travels_in_the_file(capsys, tmp_path, scene, cameras, monkeypatch):
    from exgs_viewer import pipeline

    monkeypatch.setattr(pipeline, "tune", lambda *_: tinting(0.1, 0.1, 0.1))
    view, small = ["--cameras", cameras, "--index", 0, *SIZE], tmp_path / "small.exgs"
    assert told(capsys, "compress", scene, "-o", small, "--keep", "0.5", "--scene-filter")["scene_filter"] is True
    told(capsys, "render", small, *view, "-o", tmp_path / "small.png")
    told(capsys, "render", small, *view, "-o", tmp_path / "filtered.png", "--restore", "scene")
    told(capsys, "render", scene, *view, "-o", tmp_path / "fitted.png", "--keep", "0.5", "--restore", "scene")
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("small", "filtered", "fitted")]
    assert len(set(pictures)) == 3
    monkeypatch.setattr(pipeline, "tune", lambda *_: None)
    assert told(capsys, "compress", scene, "-o", small, "--keep", "0.5", "--scene-filter")["scene_filter"] is False
    assert cli.main(["render", str(small), *map(str, view), "-o", str(tmp_path / "a.png"), "--restore", "scene"]) == 2
    assert "small.exgs: it holds no filter of its own" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--preset", "paper"), ("--scene-filter",)])
def test_a_file_of_a_given_size_is_filled_and_no_larger(capsys, tmp_path, scene, monkeypatch, words):
    from exgs_viewer import pipeline

    monkeypatch.setattr(pipeline, "tune", lambda *_: tinting(0.1, 0.1, 0.1))
    out = tmp_path / "small.exgs"
    values = told(capsys, "compress", scene, "-o", out, "--bytes", "6kB", *words)
    assert 5880 < values["bytes_out"] == out.stat().st_size <= 6000
    assert len(open_scene(out).cloud) == values["gaussians_out"] < values["gaussians_in"]


@pytest.mark.parametrize("words", [(), ("--scene-filter",)])
def test_a_size_that_holds_nothing_is_told_as_it_was_asked_for(capsys, tmp_path, scene, words):
    error = mistake(capsys, "compress", scene, "-o", tmp_path / "x.exgs", "--bytes", "300", *words)
    assert re.fullmatch(r"exgs: 300 bytes are too few: 1 of 600 Gaussians take [\d,]+; allow more\.\n", error)
    assert not (tmp_path / "x.exgs").exists()


@pytest.mark.parametrize("size", ["0", "-5MB", "much", "5TB", "1e6"])
def test_a_size_that_is_none_is_told(capsys, tmp_path, scene, size):
    error = mistake(capsys, "compress", scene, "-o", tmp_path / "x.exgs", f"--bytes={size}")
    assert error == f"exgs: --bytes {size}: must be a size above 0, e.g. 800kB or 5MB.\n"


def film_of(path) -> np.ndarray:
    import imageio.v3

    return imageio.v3.imread(path, plugin="pyav")


def test_render_flies_through_cameras_into_a_video(capsys, tmp_path, scene, cameras):
    out = tmp_path / "flight.mp4"
    film = ["--seconds", 1, "--fps", 12, *SIZE]
    answer = told(capsys, "render", scene, "--cameras", cameras, "-o", out, *film)
    assert answer["pictures"] == [str(out)] and answer["frames"] == 12
    pictures = film_of(out)
    assert pictures.shape == (12, 64, 96, 3)
    for index, picture in ((0, pictures[0]), (2, pictures[-1])):
        still = tmp_path / f"{index}.png"
        told(capsys, "render", scene, "--cameras", cameras, "--index", index, "-o", still, *SIZE)
        difference = picture.astype(int) - np.asarray(Image.open(still).convert("RGB")).astype(int)
        assert np.abs(difference).mean() < 6, "H.264 changes little"
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize("way", ["sway", "around"])
def test_a_video_without_cameras_moves_before_what_the_first_view_sees(capsys, tmp_path, scene, way):
    out = tmp_path / "flight.mp4"
    told(capsys, "render", scene, "-o", out, "--way", way, "--seconds", 1, "--fps", 8, *SIZE)
    pictures = film_of(out).astype(int)
    assert len(pictures) == 8
    assert np.abs(pictures[2] - pictures[0]).mean() > 2 and all(picture.max() > 60 for picture in pictures)


def test_a_restored_video_may_be_steadied(capsys, tmp_path, scene, cameras):
    film = ["--cameras", cameras, "--seconds", 0.5, "--fps", 12, *SIZE, "--keep", 0.1, "--restore", "inpaint"]
    for name, words in (("plain", []), ("steady", ["--steady"]), ("trust", ["--mode", "trust"])):
        told(capsys, "render", scene, "-o", tmp_path / f"{name}.mp4", *film, *words)
    plain, steady, trust = (film_of(tmp_path / f"{name}.mp4").astype(int) for name in ("plain", "steady", "trust"))
    assert np.abs(plain[0] - steady[0]).mean() < 2 < np.abs(plain[0] - trust[0]).mean()
    assert np.abs(plain[1:] - steady[1:]).mean() > 0.5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mode", "depth"], "a video shows color or trust"),
        (["--index", "0"], "--index draws one camera"),
        (["--seconds", "0"], "--seconds 0: at --fps 30 a video has 1 to 36,000 pictures"),
        (["--seconds", "1e30"], "a video has 1 to 36,000 pictures"),
        (["--seconds", "nan"], "a video has 1 to 36,000 pictures"),
        (["--fps", "0.1"], "--fps 0.1: a video has 1 to 240 pictures a second"),
        (["--fps", "nan"], "a video has 1 to 240 pictures a second"),
        (["--size", "1x64"], "at least 2 pixels"),
    ],
)
def test_a_video_that_cannot_be_is_refused_before_the_work(capsys, tmp_path, scene, cameras, words, says):
    said = mistake(capsys, "render", scene, "--cameras", cameras, "-o", tmp_path / "x.mp4", *SIZE, *words)
    assert says in said and not list(tmp_path.glob("x*"))


def test_a_way_through_cameras_needs_two(capsys, tmp_path, scene, cameras):
    one = tmp_path / "one.json"
    one.write_text(json.dumps(json.loads(Path(cameras).read_text())[:1]))
    out = ["-o", tmp_path / "x.mp4", "--way", "cameras", *SIZE]
    assert "one.json: a way through cameras needs two at least, this file holds 1" in mistake(
        capsys, "render", scene, "--cameras", one, *out
    )
    assert "name some with --cameras" in mistake(capsys, "render", scene, *out)


def test_the_trust_map_is_grey_where_nothing_was_changed_and_says_its_scale(capsys, tmp_path, scene, cameras):
    from exgs_viewer.images import read_picture, read_png_metadata

    out, view = tmp_path / "trust.png", ["--cameras", cameras, "--index", 0, *SIZE, "--mode", "trust"]
    told(capsys, "render", scene, *view, "-o", out, "--keep", "0.1", "--restore", "inpaint")
    colorful = (read_picture(out).amax(2) - read_picture(out).amin(2)) > 0.05
    assert 0 < colorful.float().mean() < 1
    assert read_png_metadata(out)["brightest_change_of_255"] == 64
    assert cli.main(["render", str(scene), *map(str, view), "-o", str(out)]) == 2
    assert "name one with --restore" in capsys.readouterr().err


def test_coverage_and_distance_are_drawn_in_16_bits(capsys, tmp_path, scene, cameras):
    for mode in ("alpha", "depth"):
        out = tmp_path / f"{mode}.png"
        told(capsys, "render", scene, "--cameras", cameras, "--index", 0, "-o", out, "--mode", mode, *SIZE)
        assert Image.open(out).mode.startswith("I")
        low, high = Image.open(out).getextrema()
        assert low == 0
        assert high > 60000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--index", "3"], "--index 3"),
        (["--index", "-1"], "--index -1"),
        ([], "3 pictures need a folder"),
        (["--size", "96"], "--size 96: must be WIDTHxHEIGHT"),
        (["--size", "0x20"], "--size 0x20"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_told(capsys, tmp_path, scene, cameras, words, says):
    assert says in mistake(capsys, "render", scene, "--cameras", cameras, "-o", tmp_path / "x.png", *words)


def test_an_index_needs_cameras(capsys, tmp_path, scene):
    assert "--cameras" in mistake(capsys, "render", scene, "--index", "0", "-o", tmp_path / "x.png")


@pytest.mark.parametrize(
    "command", [["info"], ["view"], ["compress", "-o", "x.exgs"], ["convert", "x.sog"], ["render", "-o", "x.png"]]
)
def test_a_missing_scene_is_named(capsys, window, tmp_path, command):
    assert "nowhere.ply" in mistake(capsys, command[0], tmp_path / "nowhere.ply", *command[1:])
    assert window == []


def test_an_unknown_word_is_answered_with_the_nearest_command(capsys):
    assert "did you mean 'compress'?" in mistake(capsys, "compres")
    assert "the commands are view, info" in mistake(capsys, "zebra")


def test_a_typing_error_ends_with_code_2(capsys, scene):
    with pytest.raises(SystemExit) as ending:
        cli.main(["info", str(scene), "--jsn"])
    assert ending.value.code == 2
    assert capsys.readouterr().out == ""


def test_an_interrupt_is_quiet(capsys, monkeypatch, scene):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("exgs_viewer.scene.open_scene", interrupted)
    assert cli.main(["info", str(scene)]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [[], ["view"], ["demo"], ["view", "demo"]])
def test_without_a_scene_the_demo_opens(window, words):
    assert cli.main(words) == 0
    assert window == [(Settings(), "demo", None, 0)]


def test_a_scene_alone_is_viewed(window, scene):
    assert cli.main([str(scene)]) == 0
    assert window[0][1] == str(scene)


def test_flags_stand_above_the_settings_of_the_last_session(window):
    stored = Settings(compression=CompressionSettings(keep=0.3, sh_degree=2), window=WindowSettings(width=1000))
    save_settings(stored)
    assert cli.main(["--keep", "0.5", "--render.sh-degree", "1"]) == 0
    assert window[0][0] == Settings(
        compression=CompressionSettings(keep=0.5, sh_degree=2),
        window=WindowSettings(width=1000),
        render=RenderSettings(sh_degree=1),
    )


def test_a_screenshot_comes_after_some_frames(window, tmp_path):
    assert cli.main(["view", "--screenshot", str(tmp_path / "w.png"), "--frames", "7"]) == 0
    assert window[0][2:] == (tmp_path / "w.png", 7)


@pytest.mark.parametrize(
    ("broken", "code", "says"),
    [("CUDA", 0, "The viewer works here."), ("Display", 1, "The window cannot open here: see Display.")],
)
def test_the_doctor_tells_by_its_exit_code_whether_the_viewer_starts(capsys, monkeypatch, broken, code, says):
    checks = [
        doctor.Check(name, name != broken, "found", "mend it" if name == broken else "") for name in doctor.CHECKS
    ]
    monkeypatch.setattr("exgs_viewer.doctor.examine", lambda: checks)
    assert cli.main(["doctor"]) == code
    text = capsys.readouterr().out
    assert says in text
    assert text.count("mend it") == 1
    assert cli.main(["doctor", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["starts"] == (code == 0)
    assert {check["name"] for check in answer["checks"]} == set(doctor.CHECKS)


def test_what_the_window_needs_is_what_the_doctor_looks_at():
    assert set(measure.NEEDED_TO_START) <= set(doctor.CHECKS)


def test_no_display_is_one_sentence():
    """In a process of its own: without the check GLFW would abort it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "exgs_viewer", "view"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("exgs: There is no display")
    assert done.stderr.count("\n") == 1


def test_a_reader_who_leaves_early_sees_no_traceback(scene):
    command = f"{sys.executable} -m exgs_viewer info {scene} | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_progress_off_a_terminal_is_sparse(capsys, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    with terminal.progress() as report:
        for step in range(9):
            report(step / 9, "working")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [" 22%  working", " 56%  working", " 89%  working"]
