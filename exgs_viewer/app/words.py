"""Numbers as people read them."""

from __future__ import annotations

import math


def amount(count: int) -> str:
    """12,345"""
    return f"{count:,}"


def size(count: float) -> str:
    """Bytes as 812 B, 45.3 kB, 2.13 MB, 1.02 GB (powers of ten, three digits)."""
    for unit, scale in (("B", 1), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        value = count / scale
        if value < 999.5 or unit == "GB":
            break
    if unit == "B":
        return f"{count:.0f} B"
    return f"{value:.{_decimals(value)}f} {unit}"


def factor(ratio: float) -> str:
    """3.4x, 39x, 1,240x, with the sign of multiplication."""
    return f"{ratio:,.{_decimals(ratio) if ratio < 100 else 0}f}×"


def share(value: float) -> str:
    """10 %, 1.25 %"""
    percent = 100 * value
    return f"{percent:.{0 if percent >= 10 and abs(percent - round(percent)) < 0.05 else 1 if percent >= 10 else 2}f} %"


def decibels(value: float) -> str:
    """31.4 dB; equal pictures have no number."""
    return "identical" if math.isinf(value) else f"{value:.1f} dB"


def seconds(value: float) -> str:
    """42 ms, 1.3 s"""
    return f"{1000 * value:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def _decimals(value: float) -> int:
    """Digits behind the point for three digits in all."""
    return 2 if value < 9.995 else 1 if value < 99.95 else 0


def plain_share(value: float) -> str:
    """10pct, 1.5pct: for file names."""
    return f"{100 * value:.3g}pct"
