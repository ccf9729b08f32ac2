"""PSNR and SSIM before and after painting, on crops that training never saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from exgs_viewer.restore.painter import Painter
from exgs_viewer.train.data import Batch
from exgs_viewer.train.losses import batch_psnr, batch_ssim

BANDS = {"uncut": (0.999, 1.0), "light": (0.25, 0.999), "middle": (0.06, 0.25), "strong": (0.0, 0.06)}
"""Retentions (above, up to) that are averaged by themselves: what helps strong cuts must not harm light ones."""
SHEET_ROWS = 12
"""Rows of the sample sheet."""


@torch.no_grad()
def validate(
    painter: Painter, crops: Iterable[tuple[str, Batch]], device: torch.device
) -> tuple[dict[str, float], Tensor]:
    """Means over all crops and over each band of retention, and a sheet [H, W, 3] of compressed | painted | uncut.

    `<band>_in` and `<band>_out` are dB before and after, `<band>_ssim_in`, `<band>_ssim_out` likewise; `uncut_out` is
    held against the input, which must come back as it is.
    """
    rows, strips = [], []
    for _, batch in crops:
        moved = batch.to(device)
        picture = painter(moved.frames).picture.clamp(0, 1)
        rows.append((float(batch.frames.retention), *_compared(picture, moved)))
        strips.append(torch.cat([moved.frames.color[0], picture[0], moved.target[0]], 2).movedim(0, 2).cpu())
    result = _means("", rows)
    for band, (low, high) in BANDS.items():
        result |= _means(f"{band}_", [row for row in rows if low < row[0] <= high])
    return result, sheet(strips)


def sheet(strips: Sequence[Tensor]) -> Tensor:
    """SHEET_ROWS of the strips [h, w, 3] at most, evenly, one below the other."""
    return torch.cat(list(strips[:: max(1, len(strips) // SHEET_ROWS)][:SHEET_ROWS]))


def _compared(picture: Tensor, batch: Batch) -> tuple[float, ...]:
    before = batch.frames.color
    return (
        float(batch_psnr(before, batch.target)),
        float(batch_psnr(picture, batch.target)),
        float(batch_ssim(before, batch.target)),
        float(batch_ssim(picture, batch.target)),
        float(batch_psnr(picture, before)),
    )


def _means(prefix: str, rows: list[tuple[float, ...]]) -> dict[str, float]:
    names = ("in", "out", "ssim_in", "ssim_out", "changed")
    columns = list(zip(*rows, strict=True))[1:] if rows else [()] * len(names)
    means = [sum(column) / len(column) if column else float("nan") for column in columns]
    return {f"{prefix}{name}": mean for name, mean in zip(names, means, strict=True)}
