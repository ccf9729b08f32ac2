"""What an amplifier learns from: scenes that were pruned or merged in several ways, and pictures of them before that.

One safetensors file for each scene. Pictures of V views, drawn with the constant colour, which is all that is kept:

    pictures                           [V, H, W, 3]   float16, over black
    cameras                            [V, 8]         float64: position, rotation (w, x, y, z), field of view

where V is 0 if there was nothing worth a picture. And for each of R retentions, float32, under `R.`, what the paper's
selection keeps and its surroundings, or what merging makes (calibrated and recoloured) and what went into it:

    means scales quats opacities sh    a GaussianCloud [M]
    shared along lost                  Surroundings [M]
    keep                               share of the Gaussians []
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from exgs_viewer import pipeline
from exgs_viewer.compress.polish import calibrate, colors
from exgs_viewer.compress.scores import measure, score
from exgs_viewer.compress.select import keep_count, rank
from exgs_viewer.compress.surroundings import Matter, Surroundings, look_around
from exgs_viewer.errors import SceneError
from exgs_viewer.render import Renderer
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import extent, scoring_views
from exgs_viewer.settings import CompressionSettings, Report, quiet, write_atomically
from exgs_viewer.train import pairs
from exgs_viewer.train.sources import Source, Sources

LEAST, MOST = 0.01, 0.5
"""Retentions: one at random from each of equal steps between these, as logarithms."""
JUDGES = 6
"""One in this many scoring views looks; features are ratios and hardly differ."""

TRIES = 2
"""Times as many views are tried as are wanted: some show a bare wall."""


@dataclass(frozen=True)
class Course:
    """How much to learn from each scene."""

    views: int = 16
    retentions: int = 4
    size: Size = (384, 256)
    seed: int = 0
    merged: bool = False
    """Merge what is not kept, instead of dropping it."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """One compressed scene and one view of it."""

    cloud: GaussianCloud
    around: Surroundings
    camera: Camera
    wanted: Tensor
    """[H, W, 3] float32. The uncut scene from there."""
    keep: float
    """Share of the Gaussians that is left."""

    @property
    def size(self) -> Size:
        """Of its picture."""
        return self.wanted.shape[1], self.wanted.shape[0]


def write_lessons(path: Path, source: Source, course: Course, renderer: Renderer, report: Report = quiet) -> int:
    """Compress one scene, draw it uncut and write both; returns the number of views, 0 where nothing is to be seen."""
    random = np.random.default_rng([course.seed, zlib.crc32(source.name.encode())])
    source = replace(source, cloud=source.cloud.with_sh_degree(0))
    report(0.0, f"{source.name}: looking at it")
    views = scoring_views(source.cloud, source.up)
    place, plan = (views, extent(source.cloud)), pairs.Plan(size=course.size)
    tries = (pairs.view_near(source, place, plan, renderer, random) for _ in range(TRIES * course.views))
    shown = list(islice((found for found in tries if found is not None), course.views))
    if not shown:
        write_atomically(path, save({"cameras": torch.empty(0, 8, dtype=torch.float64)}))
        return 0
    tensors = {
        "pictures": torch.stack([output.color.cpu() for _, output in shown]).half(),
        "cameras": torch.tensor([[*c.position, *c.rotation, c.fov_y] for c, _ in shown], dtype=torch.float64),
    }
    report(0.4, f"{source.name}: judging it")
    reduced = (_merged if course.merged else _pruned)(source.cloud, views, renderer)
    for number in range(course.retentions):
        report(0.8 + 0.2 * number / course.retentions, f"{source.name}: compressing it")
        keep = LEAST * (MOST / LEAST) ** ((number + random.random()) / course.retentions)
        tensors[f"{number}.keep"] = torch.tensor(keep)
        for part in reduced(keep):
            for item in fields(part):
                tensors[f"{number}.{item.name}"] = getattr(part, item.name).cpu().contiguous()
    write_atomically(path, save(tensors))
    return len(shown)


Reduced = Callable[[float], tuple[GaussianCloud, Surroundings]]
"""A retention -> what is left of a scene, before it grows, and what the network is told of it."""


def _pruned(cloud: GaussianCloud, views: Sequence[Camera], renderer: Renderer) -> Reduced:
    """The paper's selection."""
    seen = measure(cloud, renderer, views[::JUDGES])
    order, matter = rank(cloud, score(cloud, seen)), Matter.of(cloud, seen)

    def reduced(keep: float) -> tuple[GaussianCloud, Surroundings]:
        kept = order[: keep_count(len(order), keep)]
        return cloud.take(kept.to(cloud.device)), look_around(cloud, matter, kept)

    return reduced


def _merged(cloud: GaussianCloud, views: Sequence[Camera], renderer: Renderer) -> Reduced:
    """Merged, as visible as before and in the best colours, since they are solved anew after growing."""
    prepared = pipeline.prepare(cloud, renderer, views)
    study = pipeline.pictures(cloud, views, CompressionSettings(), renderer).study

    def reduced(keep: float) -> tuple[GaussianCloud, Surroundings]:
        folded = pipeline.fold(prepared, CompressionSettings(keep=keep))
        calibrated = calibrate(folded, renderer, views)
        around = pipeline.look_within(prepared, folded, calibrated)
        return colors(calibrated, renderer, study), around

    return reduced


def prepare(
    folder: Path,
    sources: Sources,
    names: Sequence[str],
    course: Course,
    renderer: Renderer,
    report: Report = quiet,
) -> None:
    """Write the lessons of every named scene that is not there yet."""
    for number, name in enumerate(names):
        path = Path(folder) / f"{name}.safetensors"
        if not path.exists():
            share = partial(_tell, report, number / len(names), 1 / len(names))
            write_lessons(path, sources.open(name), course, renderer, share)


def _tell(report: Report, start: float, length: float, fraction: float, words: str) -> None:
    report(start + length * fraction, words)


class Lessons:
    """All files of a folder; each lesson is read when it is its turn."""

    def __init__(self, folder: Path) -> None:
        """Raises SceneError where there are none."""
        self.paths = [path for path in sorted(Path(folder).glob("*.safetensors")) if _shows_something(path)]
        if not self.paths:
            raise SceneError(f"{folder}: there are no lessons in it; name scenes to make them from.")

    def draw(self, random: np.random.Generator) -> Lesson:
        """Any scene, pruned in any way, from any view but the last, which is held out."""
        with _opened(self.paths[int(random.integers(len(self.paths)))]) as file:
            views, ways = _counts(file)
            return _lesson(file, int(random.integers(ways)), int(random.integers(max(1, views - 1))))

    def held_out(self) -> list[Lesson]:
        """The last view of every scene, pruned in one way after the other."""
        found = []
        for number, path in enumerate(self.paths):
            with _opened(path) as file:
                views, ways = _counts(file)
                found.append(_lesson(file, number % ways, views - 1))
        return found

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [features] of the network's inputs over all lessons, each counting the same."""
        means, squares = [], []
        for path in self.paths:
            with _opened(path) as file:
                for way in range(_counts(file)[1]):
                    around = _around(file, way)
                    rows = torch.cat([around.shared, around.along.mean(1)], 1).double()
                    spread = torch.cat([around.shared**2, (around.along**2).mean(1)], 1).double()
                    means.append(rows.mean(0))
                    squares.append(spread.mean(0))
        mean = torch.stack(means).mean(0)
        variance = torch.stack(squares).mean(0) - mean**2
        return mean.float(), variance.clamp_min(1e-4).sqrt().float()


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise SceneError(f"{path}: these lessons are damaged ({error}); delete it to have it made anew.") from error


def _shows_something(path: Path) -> bool:
    with _opened(path) as file:
        views, ways = _counts(file)
    if views and not ways:
        raise SceneError(f"{path}: these lessons are of an older version; delete the file to have it made anew.")
    return views > 0


def _counts(file: safe_open) -> tuple[int, int]:
    """Views and retentions of a file."""
    return len(file.get_tensor("cameras")), sum(name.endswith(".keep") for name in file.keys())  # noqa: SIM118 - no dict


def _lesson(file: safe_open, way: int, view: int) -> Lesson:
    cloud = GaussianCloud(*(file.get_tensor(f"{way}.{item.name}") for item in fields(GaussianCloud)))
    values = file.get_tensor("cameras")[view].tolist()
    camera = Camera(tuple(values[:3]), tuple(values[3:7]), values[7])
    keep = float(file.get_tensor(f"{way}.keep"))
    return Lesson(cloud, _around(file, way), camera, file.get_slice("pictures")[view].float(), keep)


def _around(file: safe_open, way: int) -> Surroundings:
    return Surroundings(*(file.get_tensor(f"{way}.{item.name}") for item in fields(Surroundings)))
