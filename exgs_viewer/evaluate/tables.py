"""Rows -> means and tables, laid out as ExGS has them: a line for each method, a group of columns for each retention
(its tables 1 to 3), and what each part adds (its table 4a)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from exgs_viewer.evaluate.plan import NO_RESTORER, Plan, Row
from exgs_viewer.settings import write_atomically

MEAN = "mean"
"""Stands in place of a scene's name."""
ABLATION = ("prune-hits", "paper", "merge", "merge-calibrated", "merge-grown", "default", "best")
"""Methods of which each adds something to the one before."""
ABLATION_KEEP = 0.2
"""The retention of the paper's table 4a."""


@dataclass(frozen=True)
class Column:
    """One measure of a row."""

    head: str
    value: Callable[[Row], float | None]
    words: Callable[[Row], str]
    better: int
    """1 where more is better, -1 where less is, 0 where none is best."""


@dataclass(frozen=True)
class Cell:
    text: str
    mark: str = ""
    """`best`, `second` or nothing."""


@dataclass(frozen=True)
class Table:
    """A table before it becomes Markdown or HTML."""

    title: str
    groups: tuple[str, ...]
    """Headings over as many columns each as there are `heads`."""
    heads: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    """(label, cells), cells group by group."""


COLUMNS = (
    Column("LPIPS↓", lambda row: row.lpips, lambda row: f"{row.lpips:.4f}", -1),
    Column("SSIM↑", lambda row: row.ssim, lambda row: f"{row.ssim:.4f}", 1),
    Column("PSNR↑", lambda row: row.psnr, lambda row: f"{row.psnr:.2f}", 1),
    Column("FLIP↓", lambda row: row.flip, lambda row: f"{row.flip:.4f}", -1),
    Column("Ratio (MB)", lambda row: row.ratio, lambda row: f"{row.ratio:.1f}× ({row.bytes / 1e6:.2f})", 1),
    Column("s", lambda row: row.seconds, lambda row: f"{row.seconds:.1f}", 0),
    # Not marked: a blurred picture flickers less, and is none the better for it.
    Column("Flicker", lambda row: row.flicker, lambda row: f"{255 * row.flicker:.2f}{_against(row)}", 0),
)


def label(method: str, restorer: str) -> str:
    """How a line is called."""
    return method if restorer == NO_RESTORER else f"{method} + {restorer}"


def _against(row: Row) -> str:
    """How much more a restorer makes a picture flicker, and how much more with the picture before blended in."""
    if row.restorer == NO_RESTORER or not row.flicker_before:
        return ""
    plain, steadied = (100 * (value / row.flicker_before - 1) for value in (row.flicker, row.flicker_steadied))
    return f" ({plain:+.0f} %, steadied {steadied:+.0f} %)"


def means(rows: Sequence[Row]) -> list[Row]:
    """One row for each method, restorer and retention over all its scenes; ratios are of the summed bytes."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.restorer, row.keep), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: list[Row]) -> Row:
    names = ("psnr", "ssim", "lpips", "flip", "seconds", "flicker", "flicker_steadied", "flicker_before")
    values = {name: [getattr(row, name) for row in group] for name in names}
    size = sum(row.bytes for row in group)
    return replace(
        group[0],
        scene=MEAN,
        gaussians=round(statistics.fmean(row.gaussians for row in group)),
        bytes=round(size / len(group)),
        ratio=sum(row.ratio * row.bytes for row in group) / size,
        **{name: None if None in column else statistics.fmean(column) for name, column in values.items()},
    )


def comparison(title: str, rows: Sequence[Row]) -> Table:
    """The rows of one scene (or the means) as in the paper's tables 1 to 3; best in bold, second-best underlined."""
    columns = [column for column in COLUMNS if any(column.value(row) is not None for row in rows)]
    keeps = sorted({row.keep for row in rows})
    labels = list(dict.fromkeys(label(row.method, row.restorer) for row in rows))
    cells = {name: [] for name in labels}
    for keep in keeps:
        here = {label(row.method, row.restorer): row for row in rows if row.keep == keep}
        for column in columns:
            marks = _marks(column, here)
            for name in labels:
                row = here.get(name)
                known = row is not None and column.value(row) is not None
                cells[name].append(Cell(column.words(row), marks.get(name, "")) if known else Cell("–"))
    heads = tuple(column.head for column in columns)
    lines = tuple((name, tuple(cells[name])) for name in labels)
    return Table(title, tuple(f"{keep:.3g}" for keep in keeps), heads, lines)


def _marks(column: Column, rows: dict[str, Row]) -> dict[str, str]:
    """Which lines are best and second in a column; equal figures, as they are printed, share a mark."""
    known = {name: row for name, row in rows.items() if column.value(row) is not None}
    if not column.better or len(known) < 2:
        return {}
    ordered = sorted(known, key=lambda name: -column.better * column.value(known[name]))
    texts = list(dict.fromkeys(column.words(known[name]) for name in ordered))
    places = dict(zip(texts, ("best", "second"), strict=False))
    return {name: places.get(column.words(row), "") for name, row in known.items()}


def ablation(rows: Sequence[Row]) -> Table | None:
    """What each part adds, as in the paper's table 4a; None where there is nothing to compare.

    At the paper's 20 % where that was measured, else at the retention nearest to it.
    """
    present = [method for method in ABLATION if any(row.method == method for row in rows)]
    if len(present) < 2:
        return None
    keep = min({row.keep for row in rows}, key=lambda keep: abs(keep - ABLATION_KEEP))
    chosen = {(row.method, row.restorer): row for row in rows if row.keep == keep}
    restorers = list(dict.fromkeys(row.restorer for row in rows))
    columns = [column for column in COLUMNS[:5] if any(column.value(row) is not None for row in rows)]
    lines = []
    for restorer in restorers:
        before = None
        for method in present:
            row = chosen.get((method, restorer))
            if row is None:
                continue
            gain = "" if before is None else f"{row.psnr - before.psnr:+.2f}"
            cells = [Cell(column.words(row) if column.value(row) is not None else "–") for column in columns]
            lines.append((label(method, restorer), (*cells, Cell(gain))))
            before = row
    heads = (*(column.head for column in columns), "dB gained")
    return Table(f"What each part adds, {keep:.3g} kept", (f"{keep:.3g}",), heads, tuple(lines))


def all_tables(rows: Sequence[Row]) -> list[Table]:
    """Means over the scenes, the ablation, then each scene by itself."""
    scenes = list(dict.fromkeys(row.scene for row in rows))
    average = means(rows)
    tables = [comparison(f"Mean of {len(scenes)} scenes", average)] if len(scenes) > 1 else []
    parts = ablation(average)
    tables += [parts] if parts else []
    return tables + [comparison(scene, [row for row in rows if row.scene == scene]) for scene in scenes]


def about(plan: Plan, rows: Iterable[Row]) -> str:
    """What the figures mean, in two sentences."""
    against = {
        "full": "the uncut scene with all its spherical harmonics",
        "kept": "the uncut scene with no more spherical harmonics than were kept",
    }[plan.reference]
    lpips = "" if any(row.lpips is not None for row in rows) else " LPIPS was not measured: its weights are not here."
    trained = steady = ""
    if plan.temporal:
        steady = (
            " Flicker: what changes from one picture of a slow path to the next beyond the movement (warped by the"
            " uncut scene's depth), mean levels of 255; in brackets against the pictures that the restorer was given."
        )
    if "lightgs-refined" in plan.methods:
        steps, (width, height) = plan.recovery.steps, plan.recovery.size
        trained = f" lightgs-refined was trained for {steps} steps on pictures of {width} x {height}."
    kept = "the same share of the Gaussians"
    if plan.match:
        kept = f"as many Gaussians as fit into the bytes that {plan.match} takes for the share that is named"
    return (
        f"Every method keeps {kept}; its file is decoded, drawn and compared with {against}. "
        f"Ratio: float32 .ply over the method's own bytes. s: seconds from the scored scene to the bytes."
        f"{trained}{steady}{lpips}"
    )


def markdown(table: Table) -> str:
    """A table as Markdown; the heading of a group stands before each of its columns."""
    heads = [f"{group} {head}" for group in table.groups for head in table.heads]
    lines = [f"### {table.title}", "", f"| Method | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    marked = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
    for name, cells in table.lines:
        lines.append(f"| {name} | {' | '.join(marked[cell.mark].format(cell.text) for cell in cells)} |")
    return "\n".join(lines)


def write_tables(plan: Plan, rows: Sequence[Row]) -> None:
    """report.md in the plan's folder."""
    parts = [about(plan, rows), *(markdown(table) for table in all_tables(rows))]
    write_atomically(plan.folder / "report.md", ("\n\n".join(parts) + "\n").encode())
