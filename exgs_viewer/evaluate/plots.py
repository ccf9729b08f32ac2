"""Rows -> rate-distortion curves, as SVG that stands by itself and inside a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from exgs_viewer.evaluate.plan import Plan, Row
from exgs_viewer.evaluate.tables import label, means
from exgs_viewer.settings import write_atomically

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a000")
"""One for each method: Okabe and Ito's, which people with any colour vision tell apart."""
DASHES = ("none", "7 4", "2 3", "9 3 2 3")
"""One for each restorer, the next one where methods have used up the colours."""
WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 34, 44
"""Margins around the axes."""
LINE = 16
"""Height of a line of the legend."""
MEASURES = {"psnr": "PSNR, dB", "ssim": "SSIM", "flip": "FLIP (less is better)", "lpips": "LPIPS (less is better)"}


@dataclass(frozen=True)
class Axis:
    """Where values lie along one side of a plot."""

    low: float
    high: float
    start: float
    """Where `low` lies, user units."""
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """About five round values."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            values = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
        else:
            step = _round_step((self.high - self.low) / 5)
            first = math.ceil(self.low / step - 1e-9)
            values = [number * step for number in range(first, int(self.high / step + 1e-9) + 1)]
        return [value for value in values if self.low <= value <= self.high * (1 + 1e-9)]


def curves(title: str, rows: Sequence[Row], measure: str) -> str:
    """One measure over the ratio, a line for each method and restorer, as an SVG element."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        value = getattr(row, measure)
        if value is not None:
            lines.setdefault((row.method, row.restorer), []).append((row.ratio, value))
    methods, restorers = (list(dict.fromkeys(names)) for names in zip(*lines, strict=True))
    points = [point for line in lines.values() for point in line]
    legend = LINE * len(lines)
    x = Axis(*_room([ratio for ratio, _ in points], log=True), LEFT, WIDTH - RIGHT, log=True)
    y = Axis(*_room([value for _, value in points]), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + legend}" width="{WIDTH}"'
        ' font-family="sans-serif" font-size="12" fill="currentColor" role="img">',
        f"<title>{escape(title)}: {MEASURES[measure]} over the compression ratio</title>",
        f'<text x="{LEFT}" y="20" font-weight="600">{escape(title)}: {MEASURES[measure]}</text>',
        *_grid(x, y),
    ]
    for number, ((method, restorer), line) in enumerate(lines.items()):
        colour = COLOURS[methods.index(method) % len(COLOURS)]
        dash = DASHES[(restorers.index(restorer) + methods.index(method) // len(COLOURS)) % len(DASHES)]
        parts += _line(
            number, label(method, restorer), sorted(line), f'stroke="{colour}" stroke-dasharray="{dash}"', x, y
        )
    return "\n".join([*parts, "</svg>"])


def all_curves(rows: Sequence[Row]) -> dict[str, str]:
    """File name -> SVG: every measure for the mean of the scenes, PSNR for each scene where there are several."""
    scenes = list(dict.fromkeys(row.scene for row in rows))
    title = f"mean of {len(scenes)} scenes" if len(scenes) > 1 else scenes[0]
    measured = [name for name in MEASURES if any(getattr(row, name) is not None for row in rows)]
    found = {f"rate-{name}.svg": curves(title, means(rows), name) for name in measured}
    if len(scenes) > 1:
        for scene in scenes:
            found[f"rate-psnr-{scene}.svg"] = curves(scene, [row for row in rows if row.scene == scene], "psnr")
    return found


def write_plots(plan: Plan, rows: Sequence[Row]) -> None:
    """The curves as files in the plan's folder."""
    for name, svg in all_curves(rows).items():
        write_atomically(plan.folder / name, svg.encode())


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for value in x.ticks():
        at = f"{x.place(value):.1f}"
        parts.append(f'<path d="M{at} {TOP}V{HEIGHT - BOTTOM}" stroke="currentColor" opacity="0.15"/>')
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}×</text>')
    for value in y.ticks():
        at = y.place(value)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="currentColor" opacity="0.15"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">times smaller than the float32 .ply</text>')
    return parts


def _line(number: int, name: str, points: list[tuple[float, float]], pen: str, x: Axis, y: Axis) -> list[str]:
    """A curve with its points and its entry in the legend; `pen` holds the attributes of its stroke."""
    places = [(f"{x.place(ratio):.1f}", f"{y.place(value):.1f}") for ratio, value in points]
    way, at = "L".join(f"{left} {top}" for left, top in places), HEIGHT + LINE * number + 4
    dots = [
        f'<circle cx="{left}" cy="{top}" r="2.5" {pen} stroke-width="2"><title>{escape(name)}: {ratio:.4g}×,'
        f" {value:.4g}</title></circle>"
        for (left, top), (ratio, value) in zip(places, points, strict=True)
    ]
    return [
        f'<path d="M{way}" fill="none" {pen} stroke-width="2"/>',
        *dots,
        f'<path d="M{LEFT} {at}h28" {pen} stroke-width="2"/>',
        f'<text x="{LEFT + 36}" y="{at + 4}">{escape(name)}</text>',
    ]


def _room(values: list[float], log: bool = False) -> tuple[float, float]:
    """Bounds with some room around the values, so that no point lies on an edge."""
    low, high = min(values), max(values)
    if log:
        return low / 1.15, high * 1.15
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * (1 - 1e-9))
