"""Everything in one HTML file that needs nothing else: tables, curves, and the pictures side by side."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from exgs_viewer import __version__
from exgs_viewer.errors import SceneError
from exgs_viewer.evaluate.measure import shown
from exgs_viewer.evaluate.plan import Case, Plan, Row
from exgs_viewer.evaluate.plots import all_curves
from exgs_viewer.evaluate.store import Store, scene_key
from exgs_viewer.evaluate.tables import Table, about, all_tables, label
from exgs_viewer.images import encode_jpeg, read_picture
from exgs_viewer.settings import write_atomically

BUDGET = 24_000_000
"""Bytes that the pictures may take inside the page; browsers, mail and people stop being comfortable at about 30 MB."""
SIZES = ((960, 85), (720, 82), (560, 80), (420, 76), (320, 70))
"""(longest side in pixels, JPEG quality), tried in turn until the pictures fit."""
SAMPLE = 12
"""Pictures by which is judged whether all of them fit."""

STYLE = """
:root { color-scheme: light dark; --edge: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 3rem; } h3 { margin: 2rem 0 .5rem; }
p { max-width: 60rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { text-align: left; font-weight: 600; padding: .6rem 0; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--edge); }
th:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
th.group { text-align: center; } td.first, th.first { border-left: 1px solid var(--edge); }
.best { font-weight: 700; } .second { text-decoration: underline; }
.curves { display: flex; flex-wrap: wrap; gap: 1.5rem; } .curves svg { max-width: 100%; height: auto; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .9rem; }
.frame { background-size: 100% 100%; overflow: hidden; isolation: isolate; }
.frame img { display: block; width: 100%; height: 100%; }
.frame:active img { opacity: 0; }
.tools { position: sticky; top: 0; z-index: 1; background: Canvas; padding: .6rem 0; display: flex; gap: 1.5rem; }
body:has(#difference:checked) .frame img { mix-blend-mode: difference; }
body:has(#difference:checked) .frame:has(img) { filter: brightness(4); }
body:has(#difference:checked) .frame:has(img):active { filter: none; }
body:has(#large:checked) .pictures { grid-template-columns: 1fr; }
summary { cursor: pointer; font-weight: 600; padding: .4rem 0; }
"""


@dataclass(frozen=True)
class Shot:
    """One picture of the page."""

    case: Case
    view: int
    row: Row | None
    """None for the uncut scene."""
    path: Path


def write_page(plan: Plan, cases: Sequence[Case], rows: Sequence[Row]) -> None:
    """report.html in the plan's folder."""
    shots = [shot for shot in _shots(plan, cases) if shot.path.exists()]
    longest, quality, count = _fitting(shots)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Compression of {len(cases)} scenes</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(_title(cases, rows))}</h1>",
        f"<p>{escape(about(plan, rows))} Best in bold, second-best underlined.</p>",
        "<h2>Rate and distortion</h2>",
        f'<div class="curves">{"".join(all_curves(rows).values())}</div>',
        "<h2>Tables</h2>",
        *(_table(table) for table in all_tables(rows)),
        "<h2>Pictures</h2>",
        *_pictures(shots[:count], longest, quality),
        *([f"<p>{len(shots) - count} more lie in the folder pictures.</p>"] if count < len(shots) else []),
        f"<p>exgs evaluate, exgs_viewer {__version__}</p></body></html>",
    ]
    write_atomically(plan.folder / "report.html", "\n".join(parts).encode())


def _title(cases: Sequence[Case], rows: Sequence[Row]) -> str:
    count = len({row.method for row in rows})
    where = cases[0].name if len(cases) == 1 else f"{len(cases)} scenes"
    return f"{count} {'method' if count == 1 else 'methods'} of compression on {where}"


def _shots(plan: Plan, cases: Sequence[Case]) -> Iterator[Shot]:
    """Scene by scene and view by view: the uncut picture, then those of all rows."""
    store = Store(plan.folder)
    for case in cases:
        rows = store.rows(plan, case)
        keys = store.keys(plan, case).values()
        for view in shown(case):
            yield Shot(case, view, None, store.picture(scene_key(plan, case), view))
            for row, key in zip(rows, keys, strict=True):
                yield Shot(case, view, row, store.picture(key, view))


def _fitting(shots: Sequence[Shot]) -> tuple[int, int, int]:
    """Longest side, quality and number of the pictures that keep within BUDGET."""
    some = shots[:: max(1, len(shots) // SAMPLE)]
    for longest, quality in SIZES:
        # The uncut pictures stand in the page once as themselves and once behind all the others.
        each = sum(len(_embedded(shot.path, longest, quality)) for shot in some) / max(1, len(some))
        total = each * (len(shots) + sum(shot.row is None for shot in shots))
        if total <= BUDGET:
            return longest, quality, len(shots)
    return longest, quality, int(len(shots) * BUDGET / total)


def _pictures(shots: Sequence[Shot], longest: int, quality: int) -> Iterator[str]:
    yield (
        '<div class="tools"><label><input type="checkbox" id="difference"> difference to the uncut scene, 4 times'
        ' brighter</label><label><input type="checkbox" id="large"> large</label>'
        "<span>Hold a picture to see the uncut one in its place.</span></div>"
    )
    for case, view in dict.fromkeys((shot.case, shot.view) for shot in shots):
        here = [shot for shot in shots if (shot.case, shot.view) == (case, view)]
        uncut = _embedded(here[0].path, longest, quality)
        name, (width, height) = f"uncut-{shots.index(here[0])}", case.views[view].size
        style = f"aspect-ratio: {width} / {height}; background-image: url({uncut})"
        yield f"<style>.{name} {{ {style} }}</style><h3>{escape(case.name)}, view {view}</h3>"
        for number, keep in enumerate(sorted({shot.row.keep for shot in here if shot.row})):
            yield f"<details{'' if number else ' open'}><summary>{keep:.3g} kept</summary>"
            yield f'<div class="pictures"><figure><div class="frame {name}"></div>'
            yield "<figcaption><b>uncut</b></figcaption></figure>"
            for shot in here:
                if shot.row and shot.row.keep == keep:
                    yield _figure(shot, name, _embedded(shot.path, longest, quality))
            yield "</div></details>"


def _figure(shot: Shot, name: str, data: str) -> str:
    row, called = shot.row, escape(label(shot.row.method, shot.row.restorer))
    return (
        f'<figure><div class="frame {name}"><img loading="lazy" alt="{called}" src="{data}"></div>'
        f"<figcaption><b>{called}</b>, {row.bytes / 1e6:.2f} MB, scene's mean {row.psnr:.2f} dB</figcaption></figure>"
    )


def _table(table: Table) -> str:
    groups = "".join(f'<th class="group first" colspan="{len(table.heads)}">{group}</th>' for group in table.groups)
    heads = "".join(_cell("th", head, number) for _ in table.groups for number, head in enumerate(table.heads))
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(_cell("td", cell.text, number % len(table.heads), cell.mark) for number, cell in enumerate(cells))
        + "</tr>"
        for name, cells in table.lines
    )
    return (
        f'<div class="wide"><table><caption>{escape(table.title)}</caption>'
        f"<thead><tr><th>Share kept</th>{groups}</tr><tr><th>Method</th>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(tag: str, text: str, number: int, mark: str = "") -> str:
    names = " ".join(filter(None, ["first" if number == 0 else "", mark]))
    return f'<{tag} class="{names}">{escape(text)}</{tag}>' if names else f"<{tag}>{escape(text)}</{tag}>"


def _embedded(path: Path, longest: int, quality: int) -> str:
    """A stored picture as a data URI, smaller."""
    try:
        data = encode_jpeg(read_picture(path), quality, longest)
    except SceneError as error:
        raise SceneError(f"{error} Delete it and run the same command again.") from error
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
