"""A filter fitted to one compressed scene: a few hundred numbers that bring its pictures nearer to the uncut ones.

What compression does to a picture differs from scene to scene, but within one it is much the same everywhere: texture
that is gone leaves a shift of brightness, highlights lose more than shadows, thin coverage lets the background in. So
while the uncut scene is at hand, the change that its pictures need is regressed on simple terms of the compressed ones
(least squares, in closed form), as video codecs do with their adaptive loop filters (Tsai et al., IEEE JSTSP 7(6),
2013). It is the scene adapter of GaussPainter without the network: fitted in seconds, stored in about a kilobyte of the
.exgs file. Pictures that it was not fitted to decide how much of it is applied, and whether at all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exgs_viewer import metrics
from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Stale, never
from exgs_viewer.restore.inpaint import enlarged, filled, halved
from exgs_viewer.settings import RestoreSettings

LEVELS = 4
"""Octaves of means around a pixel, up to 16 pixels wide. Terms of its own colour would fit better and cost contrast."""
EDGES = 3
"""Octaves of which it is told how much detail there is."""
WIDTHS = (5, *(10 + 3 * min(level, EDGES) for level in range(1, LEVELS + 1)))
"""Terms of each layer, the pixels' own first."""
TERMS = sum(WIDTHS)
"""What the change is regressed on, for each of red, green and blue."""
TAUGHT = 20_000
"""Pixels of each picture that are fitted to, by chance."""
RIDGE = 1e-4
"""What speaks against large weights, in shares of the terms' own squares."""
LARGEST = 1e4
"""A stored weight beyond this is damaged."""
SSIM_LOSS = 0.005
"""What least squares may cost in SSIM: where a lot of detail is gone, they trade contrast for smaller errors."""
VERSION = 1
KEY = "filter"
"""Its name in an .exgs file's metadata."""

Pair = tuple[RenderOutput, Tensor]
"""A compressed picture over black, and the uncut one [H, W, 3] in [0, 1]."""


@dataclass(frozen=True, eq=False)
class SceneFilter:
    """The fitted weights."""

    weights: Tensor
    """[TERMS, 3] float32, in the order of `_layers`."""

    def stored(self) -> dict[str, Any]:
        """For an .exgs file's metadata."""
        data = np.ascontiguousarray(self.weights.cpu().numpy(), "<f4").tobytes()
        return {KEY: {"version": VERSION, "weights": base64.b64encode(data).decode()}}


def from_meta(meta: dict[str, Any]) -> SceneFilter | None:
    """The filter that a file holds; None where there is none, or none that this program can use."""
    entry = meta.get(KEY)
    if not isinstance(entry, dict) or entry.get("version") != VERSION or not isinstance(entry.get("weights"), str):
        return None
    try:
        values = np.frombuffer(base64.b64decode(entry["weights"], validate=True), "<f4")
    except (binascii.Error, ValueError):
        return None
    if values.size != TERMS * 3 or not np.isfinite(values).all() or np.abs(values).max() > LARGEST:
        return None
    return SceneFilter(torch.from_numpy(values.astype(np.float32).reshape(TERMS, 3)))


class SceneRestorer:
    """Restorer that applies one scene's filter; as long as there is none, the push-pull fill, and its label says so."""

    name = "scene"

    def __init__(self, fitted: SceneFilter | None = None) -> None:
        self.fitted = fitted

    @property
    def label(self) -> str:
        """See Restorer."""
        return "Restored (scene filter)" if self.fitted else "Restored (fill: no scene filter)"

    def restore(
        self, output: RenderOutput, settings: RestoreSettings, stale: Stale = never, retention: float | None = None
    ) -> Tensor | None:
        """See Restorer."""
        if self.fitted is None:
            return filled(output, stale, settings.strength)
        found = change(self.fitted, output, stale)
        return None if found is None else (output.color + settings.strength * found).clamp(0, 1)


def open() -> SceneRestorer:
    """The restorer of a scene that has no filter yet."""
    return SceneRestorer()


@torch.no_grad()
def change(fitted: SceneFilter, output: RenderOutput, stale: Stale = never) -> Tensor | None:
    """[H, W, 3]. What the filter adds to a picture, nothing where nothing is drawn; None if it went stale."""
    layers = _layers(output)
    if stale():
        return None
    found: Tensor | None = None
    for layer, weights in reversed(list(zip(layers, fitted.weights.to(output.color).split(WIDTHS), strict=True))):
        part = torch.einsum("ko,bkhw->bohw", weights, layer)
        found = part if found is None else part + enlarged(found, layer)
    return None if stale() else output.alpha[..., None] * found[0].permute(1, 2, 0)


@torch.no_grad()
def fit(study: Iterable[Pair], exam: Sequence[Pair]) -> SceneFilter | None:
    """The filter that is best for the pictures of `study`, as much of it as is good for those of `exam`.

    None where that is nothing: where the mean PSNR of `exam` would not rise, or only at the cost of its SSIM.
    """
    products = wanted = torch.zeros(())
    for number, (output, uncut) in enumerate(study):
        chosen = torch.randperm(output.alpha.numel(), generator=torch.Generator().manual_seed(number))
        chosen = chosen[:TAUGHT].to(uncut.device)
        terms = torch.cat(_raised(_layers(output)), 1)[0].flatten(1)[:, chosen] * output.alpha.flatten()[chosen]
        products = products + (terms @ terms.T).double().cpu()
        wanted = wanted + (terms @ (uncut - output.color).flatten(0, 1)[chosen]).double().cpu()
    if products.ndim == 0:
        return None
    own = products.diagonal()
    ridge = torch.diag(RIDGE * own + 1e-7 * own.mean() + 1e-12)
    return _tempered(SceneFilter(torch.linalg.solve(products + ridge, wanted).float()), exam)


def _tempered(fitted: SceneFilter, exam: Sequence[Pair]) -> SceneFilter | None:
    """As much of the filter as is best for pictures that it was not fitted to, each counting by its share of error."""
    steps = [change(fitted, output) for output, _ in exam]  # half of the weights changes half as much
    along = length = 0.0
    for step, (output, uncut) in zip(steps, exam, strict=True):
        missing = uncut - output.color
        weight = 1 / float(missing.square().mean() + 1e-9)
        along += weight * float((step * missing).mean())
        length += weight * float(step.square().mean())
    best = min(1.0, max(0.0, along / length)) if length > 0 else 0.0
    psnr, ssim = _marks([output.color for output, _ in exam], exam)
    for share in (best, best / 2, best / 4):
        tempered = SceneFilter(share * fitted.weights)
        if not float(tempered.weights.abs().max()) <= LARGEST:
            return None
        after = _marks([output.color + share * step for step, (output, _) in zip(steps, exam, strict=True)], exam)
        if after[0] <= psnr:
            return None
        if ssim - after[1] <= SSIM_LOSS:
            return tempered
    return None


def _marks(pictures: Sequence[Tensor], exam: Sequence[Pair]) -> tuple[float, float]:
    """Mean PSNR and SSIM of pictures against the uncut ones of `exam`."""
    pairs = [(picture.clamp(0, 1), uncut.clamp(0, 1)) for picture, (_, uncut) in zip(pictures, exam, strict=True)]
    return fmean(metrics.psnr(*pair) for pair in pairs), fmean(float(metrics.ssim(*pair)) for pair in pairs)


def _layers(output: RenderOutput) -> list[Tensor]:
    """Terms of each pixel, [1, WIDTHS[0], H, W], and of blocks of 2, 4, ... pixels, [1, WIDTHS[level], h, w].

    They are terms of the picture over black, whatever its background.
    """
    alpha = output.alpha[None, None]
    behind = (1 - output.alpha[..., None]) * output.color.new_tensor(output.background)
    color = (output.color - behind).permute(2, 0, 1)[None].clamp(0, 1)
    layers = [torch.cat([alpha, alpha * alpha, alpha * color], 1)]
    means = torch.cat([color, alpha, color * color, color * color.roll(1, 1)], 1)
    detail = means[:, :0]
    for level in range(1, LEVELS + 1):
        finer, means = means, halved(means)
        if level <= EDGES:
            detail = torch.cat([detail, (finer[:, :3] - enlarged(means[:, :3], finer)).abs()], 1)
        detail = halved(detail)
        layers.append(torch.cat([means, detail], 1))
    return layers


def _raised(layers: list[Tensor]) -> list[Tensor]:
    """Every layer at the size of the first, octave by octave, as `change` does it with their sums."""
    raised: list[Tensor] = []
    for layer in reversed(layers):
        raised = [layer, *(enlarged(coarser, layer) for coarser in raised)]
    return raised
