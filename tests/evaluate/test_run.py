"""A whole evaluation of a tiny scene: figures against those made by hand, going on after a kill, the report's files."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from dataclasses import replace

import pytest

from exgs_viewer import cli, evaluate, metrics
from exgs_viewer.evaluate import measure, page
from exgs_viewer.evaluate.plan import ROW_FIELDS, cases
from exgs_viewer.evaluate.store import Store
from exgs_viewer.methods import Subject, compress
from exgs_viewer.render import open_renderer
from exgs_viewer.scene import open_scene
from exgs_viewer.scene.views import guess_up
from exgs_viewer.settings import RenderSettings
from tests.conftest import tinting


def without_time(rows: list) -> list[dict]:
    return [{name: getattr(row, name) for name in ROW_FIELDS if name != "seconds"} for row in rows]


def test_every_combination_is_a_row_in_the_order_asked_for(finished):
    plan, rows = finished
    assert [(row.method, row.keep, row.restorer) for row in rows] == [
        (method, keep, restorer) for method in plan.methods for keep in plan.keeps for restorer in plan.restorers
    ]
    assert {row.gaussians for row in rows if row.keep == 0.1} == {60}
    assert all(row.scene == "ball" and row.lpips is None and row.seconds >= 0 for row in rows)


@pytest.mark.parametrize("reference", ["full", "kept"])
def test_figures_are_those_made_by_hand(plan, scene, reference):
    plan = replace(plan, reference=reference)
    (row,) = evaluate.run(plan)
    renderer, cloud = open_renderer("cpu"), open_scene(scene).cloud
    done = compress("paper", Subject(cloud, guess_up(cloud), renderer), 0.5)
    uncut = cloud if reference == "full" else cloud.with_sh_degree(0)
    pairs = [
        [renderer.render(c, view.camera, plan.size, RenderSettings()).color for c in (done.cloud, uncut)]
        for view in cases(plan)[0].views
    ]
    assert row.psnr == pytest.approx(statistics.fmean(metrics.psnr(*pair) for pair in pairs))
    assert row.ssim == pytest.approx(statistics.fmean(float(metrics.ssim(*pair)) for pair in pairs), abs=1e-6)
    assert row.flip == pytest.approx(statistics.fmean(float(metrics.flip(*pair).mean()) for pair in pairs), abs=1e-6)
    assert (row.bytes, row.ratio) == (done.bytes, cloud.ply_bytes / done.bytes)


def test_what_dropping_harmonics_costs_is_not_counted_against_what_is_kept(plan):
    full, kept = (evaluate.run(replace(plan, keeps=(1.0,), reference=kind))[0] for kind in ("full", "kept"))
    # All Gaussians are kept, so only float16 is left of the loss.
    assert kept.psnr > 40 > full.psnr


def test_bytes_are_matched_where_it_is_asked_for(plan):
    plan = replace(plan, keeps=(0.1, 0.3), methods=("merge", "paper"), match="paper")
    rows = {(row.method, row.keep): row for row in evaluate.run(plan)}
    for keep in plan.keeps:
        merged, paper = rows["merge", keep], rows["paper", keep]
        assert paper.gaussians == 600 * keep < merged.gaussians
        assert 0.97 * paper.bytes < merged.bytes <= paper.bytes
    assert "as many Gaussians as fit into the bytes that paper takes" in (plan.folder / "report.md").read_text()
    alone = evaluate.run(replace(plan, match=None))
    assert {row.gaussians for row in alone if row.method == "merge"} == {60, 180}


def test_lpips_is_measured_where_its_weights_are(plan, monkeypatch):
    monkeypatch.setattr(measure, "open_lpips", lambda device: lambda image, reference: 0.25)
    (row,) = evaluate.run(plan)
    assert row.lpips == 0.25
    assert "LPIPS↓" in (plan.folder / "report.md").read_text()


def test_flicker_is_measured_where_it_is_asked_for(plan):
    plan = replace(plan, restorers=("none", "inpaint"), temporal=True)
    plain, filled = evaluate.run(plan)
    assert plain.flicker == plain.flicker_before == filled.flicker_before and 0 < plain.flicker < 0.2
    assert plain.flicker_steadied < plain.flicker and filled.flicker_steadied < filled.flicker
    text = (plan.folder / "report.md").read_text()
    assert f"{255 * filled.flicker:.2f} (" in text and "steadied" in text and "mean levels of 255" in text


def test_scene_filters_are_fitted_to_each_compressed_scene(plan, monkeypatch):
    fitted, tuned = tinting(0.05, 0.05, 0.05), []
    monkeypatch.setattr(
        measure.pipeline, "tune", lambda cloud, *_: tuned.append(len(cloud)) or (fitted if len(cloud) > 100 else None)
    )
    plan = replace(plan, keeps=(0.1, 0.5), restorers=("none", "scene"))
    few, few_scene, many, many_scene = evaluate.run(plan)
    assert tuned == [60, 300]
    assert few_scene.psnr == few.psnr  # No filter helps: the picture stays.
    assert many_scene.psnr != many.psnr and many_scene.bytes == many.bytes + fitted.bytes
    assert few_scene.bytes == few.bytes and many_scene.ratio < many.ratio


def test_a_second_run_measures_nothing_again(finished, monkeypatch):
    plan, rows = finished
    monkeypatch.setattr(measure, "open_renderer", lambda *_: pytest.fail("something was measured again"))
    assert evaluate.run(plan) == rows


def test_a_killed_run_goes_on_where_it_stopped(finished, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def report(fraction, text):
        if "prune-hits at 0.1, view" in text:
            raise KilledError

    plan = replace(finished[0], folder=tmp_path)
    with pytest.raises(KilledError):
        evaluate.run(plan, report)
    compressed = []
    monkeypatch.setattr(measure.methods, "compress", lambda *a: compressed.append(a[::2]) or compress(*a))
    rows = evaluate.run(plan)
    assert compressed == [("prune-hits", 0.1), ("prune-hits", 0.5)]
    assert without_time(rows) == without_time(finished[1])


def test_a_scene_that_changed_is_measured_anew(plan, tmp_path, scene):
    copy = tmp_path / "ball.ply"
    shutil.copy(scene, copy)
    plan = replace(plan, scenes=(str(copy),))
    (case,) = cases(plan)
    before = Store(plan.folder).keys(plan, case)
    copy.write_bytes(copy.read_bytes() + b"\n")
    after = Store(plan.folder).keys(plan, case)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_half_a_result_is_no_result(finished, tmp_path):
    plan, _ = finished
    (case,) = cases(plan)
    shutil.copytree(plan.folder, tmp_path / "report")
    store = Store(tmp_path / "report")
    key = next(iter(store.keys(plan, case).values()))
    assert store.has(key)
    store._row(key).write_text(store._row(key).read_text()[:40])
    assert not store.has(key)


def test_the_report_shows_the_figures_and_every_picture(finished):
    plan, rows = finished
    text, page = ((plan.folder / name).read_text() for name in ("report.md", "report.html"))
    for row in rows:
        assert f"{row.psnr:.2f}" in text and f"{row.psnr:.2f}" in page
    assert page.count("<img") == len(measure.shown(cases(plan)[0])) * len(rows)
    assert "LPIPS was not measured" in text and "LPIPS↓" not in text
    # Nothing is fetched from elsewhere.
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_pictures_become_smaller_and_then_fewer_until_they_fit(finished, monkeypatch):
    plan, _ = finished
    shots = [shot for shot in page._shots(plan, cases(plan)) if shot.path.exists()]
    assert page._fitting(shots)[2] == len(shots)
    size = len(page._embedded(shots[0].path, 72, 85))
    monkeypatch.setattr(page, "SIZES", ((72, 85), (24, 85)))
    monkeypatch.setattr(page, "BUDGET", size * len(shots) // 2)
    assert page._fitting(shots) == (24, 85, len(shots))
    monkeypatch.setattr(page, "BUDGET", size)
    assert 0 <= page._fitting(shots)[2] < len(shots)


def test_scenes_are_measured_beside_each_other(plan, tmp_path, scene):
    shutil.copy(scene, tmp_path / "second.ply")
    plan = replace(plan, scenes=(str(scene), str(tmp_path / "second.ply")), cameras=plan.cameras / "ball.json", jobs=2)
    rows = evaluate.run(plan)
    assert [(row.scene, row.gaussians) for row in rows] == [("ball", 300), ("second", 300)]
    # The same scene under two names, measured by two processes.
    assert without_time(rows[:1]) == without_time([replace(rows[1], scene="ball")])


def test_the_command_prints_one_json_object(plan, capsys):
    words = ["evaluate", *plan.scenes, "--cameras", str(plan.cameras), "--keep", "0.5", "--methods", "paper"]
    assert cli.main([*words, "-o", str(plan.folder), "--size", "72x48", "--backend", "cpu", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert tuple(row) == (
        *("scene", "method", "restorer", "keep", "gaussians", "bytes", "ratio"),
        *("psnr", "ssim", "lpips", "flip", "seconds", "flicker", "flicker_steadied", "flicker_before"),
    )
    assert row["flicker"] is None
    assert row["lpips"] is None and row["gaussians"] == 300


def test_the_command_tells_a_wrong_method_in_one_sentence(plan, capsys):
    words = ["evaluate", *plan.scenes, "--cameras", str(plan.cameras), "-o", str(plan.folder), "--methods", "zip"]
    assert cli.main(words) == 2
    assert "there are paper" in capsys.readouterr().err
    assert not plan.folder.exists()
