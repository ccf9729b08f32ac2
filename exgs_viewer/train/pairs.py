"""Scene -> pairs of pictures on the disk: what compression leaves of a view, and the view itself.

One safetensors file for each scene, all tensors uint8 but `retention`. P places are crops of some views, each of them
seen through K degradations:

    target                     [P, S, S, 3]      the uncut render
    color fill                 [P, K, S, S, 3]   the compressed render over black; the same after the push-pull fill
    alpha depth                [P, K, S, S]      coverage; relative depth (painter.Frames)
    retention which            [P, K]            share kept, float32; number of the degradation

Its metadata says how it was made. Names and seeds are all that is needed to make it again.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exgs_viewer.compress.guard import Pictures
from exgs_viewer.compress.pruning import Pruning, prune
from exgs_viewer.compress.scores import cached_measure, score
from exgs_viewer.compress.select import rank
from exgs_viewer.pipeline import Prepared, cut, fold, pictures, polish, prepare
from exgs_viewer.render import Renderer, RenderOutput, Significance
from exgs_viewer.restore.inpaint import filled
from exgs_viewer.restore.painting import relative_depth
from exgs_viewer.scene.camera import Camera, Size, Vector, fly, look
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.float16 import frame_around, to_cloud, to_codes
from exgs_viewer.scene.views import extent, scoring_views
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, quiet, write_atomically
from exgs_viewer.train.sources import Source

SIZE: Size = (640, 384)
"""Pictures that crops are taken from, pixels: as high as the window's usual ones within the octave that counts."""
CROP = 256
"""Side of a crop, pixels."""
CROPS = 2
"""Places in each view."""
SHOWN = 4
"""Degradations that each view is seen through."""
JUDGES = 14
"""Views that significance is taken from; an eighth of the program's own number will do to order the Gaussians."""
UNCUT = 0.12
"""Share of degradations that keep everything: the painter must learn to leave good pictures alone."""
LEAST_SEEN = 0.05
"""A view that shows less coverage is not taken."""
LEAST_DETAIL = 0.008
"""Nor one whose neighbouring pixels differ by less than this in the mean: nothing can be learnt from a bare wall."""


class Judged:
    """A scene with what any way of making it smaller may need to know, found out when first asked for."""

    def __init__(self, cloud: GaussianCloud, views: Sequence[Camera], renderer: Renderer) -> None:
        self.cloud, self.views, self.renderer = cloud, tuple(views), renderer

    @cached_property
    def seen(self) -> Significance:
        """What the views saw of each Gaussian."""
        return cached_measure(self.cloud, self.renderer, self.views)

    @cached_property
    def significance(self) -> Tensor:
        """[N]. Equation 7."""
        return score(self.cloud, self.seen)

    @cached_property
    def prepared(self) -> Prepared:
        """With its tree of merges."""
        return prepare(self.cloud, self.renderer, self.views)

    @cached_property
    def pictures(self) -> Pictures:
        """What polishing learns from."""
        return pictures(self.cloud, self.views, CompressionSettings(), self.renderer)


Reduce = Callable[[Judged, CompressionSettings, np.random.Generator], GaussianCloud]
"""A way to make a scene smaller."""


def by_paper(judged: Judged, settings: CompressionSettings, random: np.random.Generator) -> GaussianCloud:
    """Equations 7 and 9: significance with a share for every voxel."""
    return cut(judged.cloud, settings, rank(judged.cloud, judged.significance, settings.voxel_size))


def by_amplifying(judged: Judged, settings: CompressionSettings, random: np.random.Generator) -> GaussianCloud:
    """The same, and equation 10: what is kept grows for what was dropped around it. The paper's whole UGC."""
    order = rank(judged.cloud, judged.significance, settings.voxel_size)
    return prune(Pruning.of(judged.cloud, judged.seen, judged.views, order), settings).cloud()


def by_significance(judged: Judged, settings: CompressionSettings, random: np.random.Generator) -> GaussianCloud:
    """Equation 7 alone, as in the ablation of table 4a."""
    return cut(judged.cloud, settings, torch.argsort(judged.significance, descending=True, stable=True))


def by_chance(judged: Judged, settings: CompressionSettings, random: np.random.Generator) -> GaussianCloud:
    """Any Gaussians: many more holes than by merit."""
    return cut(judged.cloud, settings, torch.from_numpy(random.permutation(len(judged.cloud))))


def by_merging(judged: Judged, settings: CompressionSettings, random: np.random.Generator) -> GaussianCloud:
    """The bare cut through the tree of merges: what the slider shows while it moves."""
    return fold(judged.prepared, settings).cloud


def by_default(judged: Judged, settings: CompressionSettings, random: np.random.Generator) -> GaussianCloud:
    """Merged and polished: what the program makes unless told otherwise."""
    *_, last = polish(judged.prepared, settings, judged.renderer, judged.pictures)
    return last.shown


VARIANTS: dict[str, tuple[Reduce, float]] = {
    "paper": (by_paper, 0.3),
    "amplified": (by_amplifying, 0.5),
    "global": (by_significance, 0.28),
    "random": (by_chance, 0.12),
    "merged": (by_merging, 0.4),
    "default": (by_default, 0.4),
}
"""Every way to make a scene smaller, and how often it is drawn."""


@dataclass(frozen=True)
class Degradation:
    """One way in which a scene was made smaller."""

    variant: str
    settings: CompressionSettings
    stored: bool
    """Whether it went through the rounding of the file format."""


@dataclass(frozen=True)
class Plan:
    """How many pictures to take of a scene, and of what."""

    views: int = 16
    variants: tuple[str, ...] = tuple(VARIANTS)
    drawn: int = 10
    """Degradations of the scene, of which each view shows SHOWN."""
    size: Size = SIZE
    crop: int = CROP
    seed: int = 0


def write_pairs(path: Path, source: Source, plan: Plan, renderer: Renderer, report: Report = quiet) -> int:
    """Take the pictures of one scene and write them; returns the number of pairs."""
    from safetensors.torch import save

    random = np.random.default_rng([plan.seed, zlib.crc32(source.name.encode())])
    report(0.0, f"{source.name}: looking for views")
    views = scoring_views(source.cloud, source.up)
    judges = views[:: max(1, len(views) // JUDGES)]
    judged = Judged(source.cloud, judges, renderer)
    degradations = draw(plan, source.cloud.sh_degree, random)
    clouds = [reduced(judged, each, random) for each in degradations]
    rows, size = [], extent(source.cloud)
    for number in range(plan.views):
        report((number + 1) / (plan.views + 1), f"{source.name}: view {number + 1} of {plan.views}")
        found = view_near(source, (views, size), plan, renderer, random)
        if found is not None:
            chosen = sorted(random.choice(len(clouds), SHOWN, replace=False).tolist())
            layers = _layers(found[0], [clouds[number] for number in chosen], plan, renderer)
            layers["retention"] = torch.tensor([degradations[number].settings.keep for number in chosen])
            layers["which"] = torch.tensor(chosen, dtype=torch.uint8)
            rows += _crops(found[1].color, layers, plan, random)
    if not rows:
        return 0
    tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    about = {"scene": source.name, "plan": asdict(plan), "degradations": [asdict(each) for each in degradations]}
    write_atomically(path, save(tensors, {"about": json.dumps(about)}))
    return tensors["which"].numel()


def draw(plan: Plan, sh_degree: int, random: np.random.Generator) -> list[Degradation]:
    """Ways to make one scene smaller; retentions spread evenly over all magnitudes."""
    weights = np.array([VARIANTS[name][1] for name in plan.variants])
    found = []
    for number in range(plan.drawn):
        uncut = random.random() < UNCUT
        share = (number + random.random()) / plan.drawn  # stratified, so that each scene has strong and weak ones
        settings = CompressionSettings(
            keep=1.0 if uncut else float(0.01 ** (1 - share)),
            sh_degree=sh_degree if random.random() < (0.7 if uncut else 0.2) else 0,
            amplification=1.0 if uncut or random.random() < 0.75 else float(random.uniform(0.9, 1.6)),
        )
        variant = str(random.choice(plan.variants, p=weights / weights.sum()))
        found.append(Degradation(variant, settings, bool(random.random() < 0.6)))
    return found


def reduced(judged: Judged, degradation: Degradation, random: np.random.Generator) -> GaussianCloud:
    """What one degradation leaves of a scene."""
    kept = VARIANTS[degradation.variant][0](judged, degradation.settings, random)
    if not degradation.stored:
        return kept
    frame = frame_around(kept)
    return to_cloud(to_codes(kept, frame), frame)


def view_near(
    source: Source,
    around: tuple[Sequence[Camera], float],
    plan: Plan,
    renderer: Renderer,
    random: np.random.Generator,
) -> tuple[Camera, RenderOutput] | None:
    """A view near one of `around` that shows something, with its uncut picture; None where five tries find none."""
    views, size = around
    for _ in range(5):
        camera = strayed(views[int(random.integers(len(views)))], size, source.up, random)
        seen = renderer.render(source.cloud, camera, plan.size, RenderSettings())
        close = ((seen.depth < 0.02 * size) & (seen.alpha > 0.5)).float().mean()
        if seen.alpha.mean() > LEAST_SEEN and close < 0.2 and detail(seen.color).mean() > LEAST_DETAIL:
            return camera, seen
    return None


def detail(color: Tensor) -> Tensor:
    """[H - 1, W - 1]. How much each pixel of [H, W, 3] differs from its right and lower neighbours."""
    return (color.diff(dim=0)[:, 1:].abs() + color.diff(dim=1)[1:].abs()).mean(2)


def strayed(camera: Camera, size: float, up: Vector, random: np.random.Generator) -> Camera:
    """A camera a step away that looks a little elsewhere, through another lens."""
    step = random.normal(0, 0.03 * size, 3)
    turned = look(camera, float(random.normal(0, 0.3)), float(random.normal(0, 0.15)), up)
    return replace(fly(turned, *map(float, step)), fov_y=math.radians(random.uniform(30, 65)))


def _layers(camera: Camera, clouds: Sequence[GaussianCloud], plan: Plan, renderer: Renderer) -> dict[str, Tensor]:
    """One view of each of the clouds, uint8 [K, H, W, 3] and [K, H, W]."""
    layers = []
    for cloud in clouds:
        output = renderer.render(cloud, camera, plan.size, RenderSettings())
        layers.append((output.color, filled(output), output.alpha, relative_depth(output.depth)))
    columns = (_levels(torch.stack(column)) for column in zip(*layers, strict=True))
    return dict(zip(("color", "fill", "alpha", "depth"), columns, strict=True))


def _crops(
    uncut: Tensor, layers: dict[str, Tensor], plan: Plan, random: np.random.Generator
) -> list[dict[str, Tensor]]:
    """The places of one view: `uncut` [H, W, 3] and its `layers`."""
    target, rows = _levels(uncut), []
    for x, y in _places(detail(uncut), plan, random):
        window = (slice(y, y + plan.crop), slice(x, x + plan.crop))
        cut_out = {name: value[(slice(None), *window)].contiguous() for name, value in layers.items() if value.ndim > 1}
        rows.append({**layers, **cut_out, "target": target[window].contiguous()})
    return rows


def _places(shown: Tensor, plan: Plan, random: np.random.Generator) -> list[tuple[int, int]]:
    """CROPS upper left corners, of three random ones each the one whose crop shows most detail."""
    found = []
    for _ in range(CROPS):
        spots = [tuple(int(random.integers(side - plan.crop + 1)) for side in plan.size) for _ in range(3)]
        found.append(
            max(spots, key=lambda at: float(shown[at[1] : at[1] + plan.crop, at[0] : at[0] + plan.crop].sum()))
        )
    return found


def _levels(values: Tensor) -> Tensor:
    return (values * 255).round().clamp(0, 255).to(torch.uint8)
