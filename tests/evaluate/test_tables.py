"""Means, marks and the layout of the paper's tables; curves that show every point."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from exgs_viewer.evaluate.plan import Plan, Row
from exgs_viewer.evaluate.plots import Axis, all_curves, curves
from exgs_viewer.evaluate.tables import MEAN, ablation, about, all_tables, comparison, markdown, means

ROW = Row("park", "paper", "none", 0.1, 100, 1000, 60.0, 20.0, 0.7, None, 0.2, 1.5)
ROWS = [
    ROW,
    replace(ROW, keep=0.2, bytes=2000, ratio=30.0, psnr=22.0),
    replace(ROW, method="lightgs", bytes=4000, ratio=15.0, psnr=18.0),
    replace(ROW, method="lightgs", keep=0.2, bytes=8000, ratio=7.5, psnr=23.0),
    replace(ROW, method="lightgs", restorer="inpaint", psnr=18.0),
]


def cell(text: str, line: str, column: int) -> str:
    """A cell of a Markdown table, columns counted from 1."""
    (found,) = [row for row in text.splitlines() if row.startswith(f"| {line} |")]
    return found.split("|")[column + 1].strip()


def test_ratios_are_averaged_by_their_bytes():
    other = replace(ROW, scene="rock", bytes=3000, ratio=4.0, psnr=30.0)
    (mean,) = means([ROW, other])
    assert (mean.scene, mean.psnr, mean.bytes) == (MEAN, 25.0, 2000)
    # 60,000 and 12,000 bytes of .ply became 1,000 and 3,000.
    assert mean.ratio == pytest.approx(72_000 / 4000)
    assert mean.lpips is None


def test_lpips_has_a_mean_only_where_every_scene_has_it():
    assert means([replace(ROW, lpips=0.2), replace(ROW, scene="rock", lpips=0.4)])[0].lpips == pytest.approx(0.3)
    assert means([replace(ROW, lpips=0.2), replace(ROW, scene="rock")])[0].lpips is None


def test_best_and_second_best_are_marked_in_each_column():
    text = markdown(comparison("park", ROWS))
    heads = next(line for line in text.splitlines() if line.startswith("| Method")).split("|")[2:-1]
    assert [head.strip() for head in heads[:5]] == ["0.1 SSIM↑", "0.1 PSNR↑", "0.1 FLIP↓", "0.1 Ratio (MB)", "0.1 s"]
    assert cell(text, "paper", 2) == "**20.00**"
    assert cell(text, "lightgs", 2) == cell(text, "lightgs + inpaint", 2) == "<u>18.00</u>"
    assert cell(text, "lightgs", 7) == "**23.00**"
    assert cell(text, "lightgs + inpaint", 7) == "–"
    assert cell(text, "paper", 5) == "1.5"


def test_lpips_stands_in_the_table_once_it_is_measured():
    text = markdown(comparison("park", [replace(ROW, lpips=0.25)]))
    assert cell(text, "paper", 1) == "0.2500"


def test_the_ablation_says_what_each_part_adds():
    rows = [replace(ROW, method="prune-hits", keep=keep, psnr=keep * 100) for keep in (0.1, 0.2, 0.3)]
    rows += [replace(row, method="paper", psnr=row.psnr + 1.5) for row in rows]
    text = markdown(ablation(rows))
    assert cell(text, "prune-hits", 2) == "20.00"
    assert cell(text, "paper", 5) == "+1.50"


def test_without_a_second_part_there_is_no_ablation():
    assert ablation(ROWS) is None


def test_one_scene_needs_no_mean():
    assert [table.title for table in all_tables(ROWS)] == ["park"]
    both = [*ROWS, *(replace(row, scene="rock") for row in ROWS)]
    assert [table.title for table in all_tables(both)] == ["Mean of 2 scenes", "park", "rock"]


@pytest.mark.parametrize("reference", ["full", "kept"])
def test_the_page_says_what_was_compared_with_what(tmp_path, reference):
    words = about(Plan(("park.ply",), tmp_path, reference=reference), ROWS)
    assert ("all its spherical harmonics" in words) == (reference == "full")


def test_a_curve_shows_every_point_where_it_belongs():
    svg = ElementTree.fromstring(curves("park", ROWS, "psnr"))
    space = "{http://www.w3.org/2000/svg}"
    points = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in svg.iter(f"{space}circle")]
    assert len(points) == len(ROWS)
    # Lines come in the order of the table, points from the smaller ratio on: the better one lies higher up.
    (x30, y22), (x60, y20) = points[:2]
    assert x60 > x30 and y20 > y22
    assert {text.text for text in svg.iter(f"{space}text")} >= {"paper", "lightgs", "lightgs + inpaint"}


def test_curves_of_a_single_point_can_be_drawn():
    svg = curves("park", [ROW], "ssim")
    assert not re.search("nan|inf", svg)


def test_each_scene_has_its_curve_beside_the_mean():
    both = [*ROWS, *(replace(row, scene="rock") for row in ROWS)]
    assert list(all_curves(both)) == [
        *("rate-psnr.svg", "rate-ssim.svg", "rate-flip.svg"),
        *("rate-psnr-park.svg", "rate-psnr-rock.svg"),
    ]


@pytest.mark.parametrize(("low", "high", "log"), [(7.3, 68.9, True), (17.4, 23.6, False), (0.11, 0.13, False)])
def test_ticks_are_few_round_and_inside(low, high, log):
    ticks = Axis(low, high, 0, 100, log).ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.3g}") == pytest.approx(tick) for tick in ticks)
