"""Every way to make a scene smaller that can be compared, by name and behind one interface.

A method takes a scene that knows from where to judge it and a share to keep, and gives what a viewer would decode and
the bytes that it took. The paper's own, ours, its parts one by one (the ablation), and the methods it compares with.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from exgs_viewer import pipeline
from exgs_viewer.compress.scores import SCORING_SIZE
from exgs_viewer.compress.select import keep_count, rank
from exgs_viewer.errors import ExgsError
from exgs_viewer.render import Renderer, Significance
from exgs_viewer.scene import exgs
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import scoring_views
from exgs_viewer.settings import CompressionSettings, Report, quiet


@dataclass(frozen=True, eq=False)
class Subject:
    """A scene, and by what it is judged. What several methods need is worked out once, when first asked for."""

    cloud: GaussianCloud
    """On the renderer's device."""
    up: Vector
    renderer: Renderer
    report: Report = quiet

    @cached_property
    def views(self) -> Sequence[Camera]:
        """Made of the scene alone: never the cameras that a result is tested from."""
        return scoring_views(self.cloud, self.up)

    @cached_property
    def seen(self) -> Significance:
        """What the views saw of each Gaussian."""
        return self.renderer.significance(self.cloud, self.views, SCORING_SIZE, self.report)

    @cached_property
    def hits(self) -> Tensor:
        """[N]. The paper's score (eq. 7 and 8), remembered between sessions as the window remembers it."""
        return pipeline.judge(self.cloud, self.up, self.renderer, self.report)


@dataclass(frozen=True, eq=False)
class Compressed:
    """What a method made of a scene."""

    cloud: GaussianCloud
    """As a viewer decodes it: with every loss of the coding."""
    bytes: int
    """Size of the file."""
    seconds: float
    """From the scored scene to the bytes. Choosing views and looking through them serves every method alike and is not
    counted."""


@dataclass(frozen=True)
class Method:
    """One way to make a scene smaller."""

    about: str
    """One sentence for help and report."""
    run: Callable[[Subject, float], tuple[GaussianCloud, int]]
    """(scene, share to keep in (0, 1]) -> the decoded cloud and its bytes."""
    needs: tuple[str, ...] = ()
    """Attributes of the Subject that are worked out before the clock starts."""


def compress(name: str, subject: Subject, keep: float) -> Compressed:
    """Make `subject` smaller by the method of this name. Raises ExgsError where there is none."""
    method = find(name)
    for need in method.needs:
        getattr(subject, need)
    began = time.perf_counter()
    cloud, size = method.run(subject, keep)
    return Compressed(cloud, size, time.perf_counter() - began)


def find(name: str) -> Method:
    """The method of this name. Raises ExgsError that lists those there are."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean '{near[0]}'? There are" if near else "there are"
        raise ExgsError(f"There is no method '{name}'; {hint} {', '.join(METHODS)}.")
    return METHODS[name]


def _paper(subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """Universal Gaussian Compression: score, voxels, float16 and LZMA."""
    settings = CompressionSettings(keep=keep)
    order = rank(subject.cloud, subject.hits, settings.voxel_size)
    return _coded(pipeline.cut(subject.cloud, settings, order.to(subject.cloud.device)))


def _pruned(score: Callable[[Subject], Tensor]) -> Callable[[Subject, float], tuple[GaussianCloud, int]]:
    """The best by one score and nothing else, in the paper's form: what is left when UGC's other parts are gone."""
    return lambda subject, keep: _coded(_best(subject.cloud, score(subject), keep).with_sh_degree(0))


def _best(cloud: GaussianCloud, score: Tensor, keep: float) -> GaussianCloud:
    """The best by `score` [N], in the order of the scene; ties go by index."""
    order = torch.sort(score, descending=True, stable=True).indices
    return cloud.take(order[: keep_count(len(cloud), keep)].sort().values.to(cloud.device))


def _coded(cloud: GaussianCloud) -> tuple[GaussianCloud, int]:
    """Through the .exgs file and back."""
    data = exgs.encode(cloud)
    return exgs.decode(data, "the encoded scene")[0].to(cloud.device), len(data)


METHODS = {
    "paper": Method("ExGS's own: score (eq. 7), voxels (eq. 9), float16, LZMA", _paper, ("hits",)),
    "prune-hits": Method("paper's score alone, no voxels", _pruned(lambda subject: subject.hits), ("hits",)),
    "prune-weight": Method("summed blending weight alone", _pruned(lambda subject: subject.seen.weight), ("seen",)),
}
"""Every method by the name that `exgs evaluate --methods` takes."""
