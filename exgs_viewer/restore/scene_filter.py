"""A filter fitted to one compressed scene: a tiny network that brings its pictures nearer to the uncut ones.

What compression does to a picture differs from scene to scene (a network taught on other scenes makes a new one worse),
but within one it is much the same everywhere: texture that is gone leaves a shift of brightness, edges grow soft in one
way, thin coverage lets the background in. So while the uncut scene is at hand, a network of two small hidden layers
learns what change each pixel needs from terms of the compressed picture around it. Video codecs do so with their
adaptive loop filters (Tsai et al., IEEE JSTSP 7(6), 2013), which are linear. It is the scene adapter of GaussPainter
without the painter: fitted in seconds, stored in some kilobytes of the .exgs file. Pictures that it was not fitted to
decide how much of it is applied, and whether at all.

It learns from pixels drawn by chance out of all pictures, each term brought to unit variance: a convolutional network
on crops of raw colours learnt next to nothing in ten times the time.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exgs_viewer import metrics
from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Stale, never
from exgs_viewer.restore.inpaint import enlarged, filled, halved
from exgs_viewer.settings import Report, RestoreSettings, quiet

OWN = 5
"""What is known of a pixel: red, green, blue, coverage, nearness."""
NEIGHBOURS = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
"""Places around a pixel, rows and columns of a 3 x 3 window."""
LEVELS = 4
"""Octaves of means around a pixel, up to 16 pixels wide."""
EDGES = 3
"""Octaves of which it is told how much detail there is."""
WIDTHS = (OWN * (1 + len(NEIGHBOURS)), *(OWN + 3 * min(level, EDGES) for level in range(1, LEVELS + 1)))
"""Terms of each layer, the pixels' own first."""
TERMS = sum(WIDTHS)
HIDDEN = 24
"""Units of each of the two hidden layers."""
SHAPES = ((HIDDEN, TERMS), (HIDDEN, HIDDEN), (3, HIDDEN))
"""Of the matrices of weights, outputs first."""
TAUGHT = 16_000
"""Pixels of each picture that are learnt from, by chance."""
STEPS, BATCH, RATE = 600, 8192, 5e-3
"""How it learns: twice as many steps at half the rate gain 0.01 dB."""
WARM_UP = 50
"""Steps in which the rate rises."""
LEVELLED = 0.1
"""Pictures with less error than this share of the typical one count no more than one that has it."""
LARGEST = 1e6
"""A stored weight beyond this is damaged."""
STRIP = 40
"""Rows that are filtered together, an even number: what lies between two layers then stays in the processor's cache,
which more than halves the time."""
SSIM_LOSS = 0.005
"""What it may cost in SSIM: where a lot of detail is gone, least squares trade contrast for smaller errors."""
VERSION = 2
KEY = "filter"
"""Its name in an .exgs file's metadata."""

Pair = tuple[RenderOutput, Tensor]
"""A compressed picture over black, and the uncut one [H, W, 3] in [0, 1]."""


@dataclass(frozen=True, eq=False)
class SceneFilter:
    """The fitted network. Its weights are 127 steps at most, each column with a step of its own."""

    distance: float
    """World units: what is that far away has nearness 1/2."""
    weights: tuple[Tensor, ...]
    """[out, in] float32 of the three layers, the terms in the order of `_terms`."""
    biases: tuple[Tensor, ...]
    """[out] float32 of each."""

    def stored(self) -> dict[str, Any]:
        """For an .exgs file's metadata."""
        steps = [_steps(weight) for weight in self.weights]
        numbers = [tensor.cpu().numpy().astype("<f4").ravel() for tensor in (*steps, *self.biases)]
        pairs = zip(self.weights, steps, strict=True)
        codes = [_codes(weight, step).cpu().numpy().astype(np.int8).ravel() for weight, step in pairs]
        data = np.concatenate(numbers).tobytes() + np.concatenate(codes).tobytes()
        entry = {"version": VERSION, "distance": self.distance, "weights": base64.b64encode(data).decode()}
        return {KEY: entry}

    @property
    def bytes(self) -> int:
        """What it adds to an .exgs file, but for a comma."""
        return len(json.dumps(self.stored()))

    def tempered(self, share: float) -> SceneFilter:
        """One that changes pictures by a share of what this one does."""
        *weights, last = self.weights
        *biases, shift = self.biases
        return replace(self, weights=(*weights, share * last), biases=(*biases, share * shift))

    def to(self, device: torch.device) -> SceneFilter:
        """The same on another device."""
        weights, biases = (tuple(each.to(device) for each in tensors) for tensors in (self.weights, self.biases))
        return replace(self, weights=weights, biases=biases)


def silent() -> SceneFilter:
    """The filter that changes nothing."""
    return SceneFilter(1.0, tuple(map(torch.zeros, SHAPES)), tuple(torch.zeros(rows) for rows, _ in SHAPES))


def most_bytes() -> int:
    """What any filter adds to an .exgs file at most."""
    return replace(silent(), distance=sys.float_info.max).bytes + 2


def from_meta(meta: dict[str, Any]) -> SceneFilter | None:
    """The filter that a file holds; None where there is none, or none that this program can use."""
    entry = meta.get(KEY)
    if not isinstance(entry, dict) or entry.get("version") != VERSION or not isinstance(entry.get("weights"), str):
        return None
    distance = entry.get("distance")
    if not isinstance(distance, (int, float)) or not 0 < distance < math.inf:
        return None
    try:
        data = base64.b64decode(entry["weights"], validate=True)
    except (binascii.Error, ValueError):
        return None
    columns, rows = [shape[1] for shape in SHAPES], [shape[0] for shape in SHAPES]
    numbers = sum(columns) + sum(rows)
    if len(data) != 4 * numbers + sum(map(math.prod, SHAPES)):
        return None
    values = torch.from_numpy(np.frombuffer(data, "<f4", numbers).astype(np.float32))
    if not values.isfinite().all() or values.abs().max() > LARGEST:
        return None
    codes = torch.from_numpy(np.frombuffer(data, np.int8, offset=4 * numbers).astype(np.float32))
    split = values.split([*columns, *rows])
    whole = zip(codes.split([math.prod(shape) for shape in SHAPES]), SHAPES, split[:3], strict=True)
    return SceneFilter(float(distance), tuple(code.view(shape) * step for code, shape, step in whole), split[3:])


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
    """[H, W, 3]. What the filter adds to a picture, nothing where nothing is drawn; None if it went stale.

    The first layer is linear in its terms, and so is enlarging: what it makes of coarse ones is enlarged, not they.
    """
    device, (height, width) = output.color.device, output.alpha.shape
    fitted = fitted.to(device)
    seen, coarse = _seen(output, fitted.distance), None
    layers = _means(seen)
    own, *rest = fitted.weights[0].split(WIDTHS, 1)
    for layer, weight in reversed(list(zip(layers, rest, strict=True))):
        part = F.conv2d(layer, weight[..., None, None])
        coarse = part if coarse is None else part + enlarged(coarse, layer)
    coarse = coarse.contiguous(memory_format=torch.channels_last)
    around, window = F.pad(seen, (1, 1, 1, 1), mode="replicate"), _window(own)
    around, window = (each.contiguous(memory_format=torch.channels_last) for each in (around, window))
    found, rows = output.color.new_empty(height, width, 3), STRIP if device.type == "cpu" else seen.shape[2]
    for top in range(0, height, rows):
        if stale():
            return None
        strip = slice(top, min(top + rows, height))
        hidden = F.conv2d(around[:, :, top : top + rows + 2], window, fitted.biases[0])
        hidden = hidden.add_(_enlarged_rows(coarse, top, hidden.shape[2])).relu_()[0, :, : strip.stop - top, :width]
        hidden = hidden.permute(1, 2, 0).reshape(-1, HIDDEN)
        hidden = torch.addmm(fitted.biases[1], hidden, fitted.weights[1].T).relu_()
        found[strip] = torch.addmm(fitted.biases[2], hidden, fitted.weights[2].T).view(-1, width, 3)
    return output.alpha[..., None] * found


def _enlarged_rows(coarse: Tensor, top: int, count: int) -> Tensor:
    """`count` rows from the `top` one on of `coarse` at twice its size; both are even."""
    first, last = max(0, top // 2 - 1), min(coarse.shape[2], (top + count) // 2 + 1)
    cells = coarse[:, :, first:last]
    twice = F.interpolate(cells, scale_factor=2, mode="bilinear", align_corners=False)
    return twice[:, :, top - 2 * first :][:, :, :count]


def fit(study: Iterable[Pair], exam: Sequence[Pair], report: Report = quiet) -> SceneFilter | None:
    """The filter that is best for the pictures of `study`, as much of it as is good for those of `exam`.

    None where that is nothing: where the mean PSNR of `exam` would not rise, or only at the cost of its SSIM. Each
    picture counts by its share of error, as PSNR has it.
    """
    distance, terms, wanted, counts = _middle([output for output, _ in exam]), [], [], []
    for number, (output, uncut) in enumerate(study):
        chosen = torch.randperm(output.alpha.numel(), generator=torch.Generator().manual_seed(number))[:TAUGHT]
        chosen = chosen.to(uncut.device)
        missing = (uncut - output.color).flatten(0, 1)
        covered = output.alpha.flatten()[chosen, None]
        terms.append(_terms(output, distance, chosen).half())
        wanted.append(torch.cat([missing[chosen], covered], 1))
        counts.append(missing.square().mean().expand(len(chosen)))
    if not terms:
        return None
    error = torch.cat(counts)
    lesson = _Lesson(torch.cat(terms), torch.cat(wanted), 1 / (error + LEVELLED * error.median() + 1e-9))
    return _tempered(_learnt(lesson, distance, report), exam)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Pixels to learn from."""

    terms: Tensor
    """[P, TERMS] float16."""
    wanted: Tensor
    """[P, 4]. What each lacks of red, green and blue, and its coverage."""
    weight: Tensor
    """[P]. How much each counts."""


def _learnt(lesson: _Lesson, distance: float, report: Report) -> SceneFilter:
    """The network that least squares make of a lesson, by AdamW, rounded as it will be stored."""
    spread, middle = torch.std_mean(lesson.terms.float(), 0)
    spread, size, mean_weight = spread + 1e-3, lesson.wanted[:, :3].std() + 1e-6, lesson.weight.mean()
    random = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        linear = [nn.Linear(columns, rows) for rows, columns in SHAPES]
        nn.init.zeros_(linear[-1].weight)
        nn.init.zeros_(linear[-1].bias)
        network = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2]).to(middle.device)
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
        for step in range(STEPS):
            if step % 20 == 0:
                report(step / STEPS, "Fitting the scene's filter")
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
            chosen = torch.randint(len(lesson.terms), (BATCH,), generator=random).to(middle.device)
            missing, covered = lesson.wanted[chosen].split([3, 1], 1)
            said = network((lesson.terms[chosen] - middle) / spread)
            errors = (covered * said - missing / size).square().mean(1)
            optimiser.zero_grad()
            (errors * lesson.weight[chosen] / mean_weight).mean().backward()
            optimiser.step()
    weights = [each.weight.detach() for each in linear]
    biases = [each.bias.detach() for each in linear]
    weights[0] = _rounded(weights[0] / spread)
    biases[0] = biases[0] - weights[0] @ middle
    weights[1], weights[2], biases[2] = _rounded(weights[1]), _rounded(size * weights[2]), size * biases[2]
    return SceneFilter(distance, tuple(weights), tuple(biases))


def _steps(weight: Tensor) -> Tensor:
    """[in] of [out, in]. What the weights of each column are whole multiples of."""
    return weight.abs().amax(0) / 127


def _codes(weight: Tensor, steps: Tensor) -> Tensor:
    return (weight / steps.clamp_min(1e-30)).round()


def _rounded(weight: Tensor) -> Tensor:
    """[out, in] -> the same in 127 steps for each column."""
    steps = _steps(weight)
    return _codes(weight, steps) * steps


@torch.no_grad()
def _tempered(fitted: SceneFilter, exam: Sequence[Pair]) -> SceneFilter | None:
    """As much of the filter as is best for pictures that it was not fitted to, each counting by its share of error."""
    steps = [change(fitted, output) for output, _ in exam]
    along = length = 0.0
    for step, (output, uncut) in zip(steps, exam, strict=True):
        missing = uncut - output.color
        weight = 1 / float(missing.square().mean() + 1e-9)
        along += weight * float((step * missing).mean())
        length += weight * float(step.square().mean())
    best = min(1.0, max(0.0, along / length)) if length > 0 else 0.0
    psnr, ssim = _marks([output.color for output, _ in exam], exam)
    for share in (best, best / 2, best / 4):
        after = _marks([output.color + share * step for step, (output, _) in zip(steps, exam, strict=True)], exam)
        if after[0] <= psnr:
            return None
        if ssim - after[1] <= SSIM_LOSS:
            return fitted.tempered(share)
    return None


def _marks(pictures: Sequence[Tensor], exam: Sequence[Pair]) -> tuple[float, float]:
    """Mean PSNR and SSIM of pictures against the uncut ones of `exam`."""
    pairs = [(picture.clamp(0, 1), uncut.clamp(0, 1)) for picture, (_, uncut) in zip(pictures, exam, strict=True)]
    return fmean(metrics.psnr(*pair) for pair in pairs), fmean(float(metrics.ssim(*pair)) for pair in pairs)


def _middle(outputs: Sequence[RenderOutput]) -> float:
    """Median distance of what is drawn, world units; 1 where nothing is."""
    drawn = torch.cat([output.depth[output.depth > 0] for output in outputs])
    return float(drawn.median()) if len(drawn) else 1.0


def _seen(output: RenderOutput, distance: float) -> Tensor:
    """[1, OWN, H, W]. The picture over black, whatever its background, with coverage and nearness d / (d + z).

    Its last row and column are repeated until H and W are whole blocks of the coarsest level.
    """
    behind = (1 - output.alpha[..., None]) * output.color.new_tensor(output.background)
    near = torch.where(output.depth > 0, distance / (output.depth + distance), torch.zeros_like(output.depth))
    color = (output.color - behind).clamp(0, 1).permute(2, 0, 1)
    seen, block = torch.cat([color, output.alpha[None], near[None]])[None], 2**LEVELS
    return F.pad(seen, (0, -seen.shape[3] % block, 0, -seen.shape[2] % block), mode="replicate")


def _means(seen: Tensor) -> list[Tensor]:
    """Terms of blocks of 2, 4, ... pixels, [1, WIDTHS[level], h, w]: means, and how much detail each octave has."""
    layers, means, detail = [], seen, seen[:, :0]
    for level in range(1, LEVELS + 1):
        finer, means = means, halved(means)
        if level <= EDGES:
            detail = torch.cat([detail, (finer[:, :3] - enlarged(means[:, :3], finer)).abs()], 1)
        detail = halved(detail)
        layers.append(torch.cat([means, detail], 1))
    return layers


def _window(weights: Tensor) -> Tensor:
    """[out, WIDTHS[0]] -> [out, OWN, 3, 3]. The weights of a pixel and of its neighbours' differences to it, as one
    window over the picture."""
    own, *differences = weights.split(OWN, 1)
    window = weights.new_zeros(len(weights), OWN, 3, 3)
    for (y, x), difference in zip(NEIGHBOURS, differences, strict=True):
        window[:, :, y, x] = difference
    window[:, :, 1, 1] = own - sum(differences)
    return window


def _terms(output: RenderOutput, distance: float, chosen: Tensor) -> Tensor:
    """[P, TERMS] of the pixels `chosen` [P], counted row by row.

    Of each one itself, how its neighbours differ from it, and the means; coarse ones are enlarged octave by octave, as
    `change` does it with their sums.
    """
    seen, width, raised = _seen(output, distance), output.alpha.shape[1], []
    for layer in reversed(_means(seen)):
        raised = [layer, *(enlarged(coarser, layer) for coarser in raised)]
    rows, columns = chosen // width, chosen % width
    own, around = seen[0, :, rows, columns], F.pad(seen, (1, 1, 1, 1), mode="replicate")[0]
    differences = [around[:, rows + y, columns + x] - own for y, x in NEIGHBOURS]
    centres = torch.stack([(2 * columns + 1) / seen.shape[3] - 1, (2 * rows + 1) / seen.shape[2] - 1], 1)
    means = F.grid_sample(torch.cat(raised, 1), centres[None, None], padding_mode="border", align_corners=False)
    return torch.cat([own, *differences, means[0, :, 0]]).T
