"""Every way to make a scene smaller that can be compared, by name and behind one interface.

A method takes a scene that knows from where to judge it and a share to keep, and gives what a viewer would decode and
the bytes that it took. The presets, their parts one by one (the ablation), and the methods that papers compare with.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch

from exgs_viewer import pipeline
from exgs_viewer.compress.baselines import flexgaussian
from exgs_viewer.compress.budget import fill
from exgs_viewer.compress.guard import quality, take_exam
from exgs_viewer.compress.recovery import Recovery, random_views, recover
from exgs_viewer.compress.scores import Score, cached_measure, score
from exgs_viewer.compress.select import keep_count
from exgs_viewer.errors import ExgsError
from exgs_viewer.render import Renderer, Significance
from exgs_viewer.scene import exgs
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import scoring_views
from exgs_viewer.settings import PRESETS, CompressionSettings, Report, quiet


@dataclass(frozen=True, eq=False)
class Subject:
    """A scene, and by what it is judged. What serves every retention is worked out once, when first asked for."""

    cloud: GaussianCloud
    """On the renderer's device."""
    up: Vector
    renderer: Renderer
    report: Report = quiet
    recovery: Recovery = field(default_factory=Recovery)
    """How `lightgs-refined` trains."""

    @cached_property
    def views(self) -> Sequence[Camera]:
        """Made of the scene alone: never the cameras that a result is tested from."""
        self.report(0.0, "choosing views to judge the scene from")
        return scoring_views(self.cloud, self.up)

    @cached_property
    def seen(self) -> Significance:
        """What the views saw of each Gaussian."""
        return cached_measure(self.cloud, self.renderer, self.views, self.report)

    @cached_property
    def prepared(self) -> pipeline.Prepared:
        """The tree of merges."""
        return pipeline.prepare(self.cloud, self.renderer, self.views, self.report)

    @cached_property
    def random_views(self) -> Sequence[Camera]:
        """What `lightgs-refined` trains on."""
        return random_views(self.views, self.cloud, self.up, self.recovery)


@dataclass(frozen=True, eq=False)
class Compressed:
    """What a method made of a scene."""

    cloud: GaussianCloud
    """As a viewer decodes it: with every loss of the coding."""
    bytes: int
    """Size of the file."""
    seconds: float
    """From the scored scene to the bytes. What serves every retention, like scores and tree, is not counted."""


Run = Callable[[Subject, float], tuple[GaussianCloud, int]]
"""(scene, share to keep in (0, 1]) -> the decoded cloud and its bytes."""


@dataclass(frozen=True)
class Method:
    """One way to make a scene smaller."""

    about: str
    """One sentence for help and report."""
    run: Run
    needs: tuple[str, ...] = ("seen",)
    """Attributes of the Subject that are worked out before the clock starts."""


def compress(name: str, subject: Subject, keep: float) -> Compressed:
    """Make `subject` smaller by the method of this name. Raises ExgsError where there is none."""
    method = find(name)
    for need in method.needs:
        getattr(subject, need)
    began = time.perf_counter()
    cloud, size = method.run(subject, keep)
    return Compressed(cloud, size, time.perf_counter() - began)


def compress_within(name: str, subject: Subject, limit: int, keep: float) -> Compressed:
    """The same with as many Gaussians as take at most `limit` bytes, where the share `keep` is tried first."""
    total = len(subject.cloud)

    def tried(count: int, _: Report) -> tuple[Compressed, int]:
        done = compress(name, subject, count / total)
        return done, done.bytes

    return fill(limit, total, keep_count(total, keep), tried)


def find(name: str) -> Method:
    """The method of this name. Raises ExgsError that lists those there are."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean '{near[0]}'? There are" if near else "there are"
        raise ExgsError(f"There is no method '{name}'; {hint} {', '.join(METHODS)}.")
    return METHODS[name]


def _ours(settings: CompressionSettings, subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    last = _reduced(replace(settings, keep=keep), subject)
    return _coded(last.cloud, last.settings)


def _uncoded(settings: CompressionSettings, subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """The same without the file: what coding costs, apart from what reduction costs."""
    cloud = _reduced(replace(settings, keep=keep), subject).cloud
    return cloud, cloud.ply_bytes


def _reduced(settings: CompressionSettings, subject: Subject) -> pipeline.Stage:
    if settings.reduction == "prune":
        return pipeline.compress(subject.cloud, settings, subject.renderer, subject.views, subject.report)
    *_, last = pipeline.polish(subject.prepared, settings, subject.renderer, report=subject.report)
    return last


def _pruned(kind: Score, subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """The best by one score and nothing else, in the paper's file: what is left of UGC without its other parts."""
    return _coded(_best(kind, subject, keep).with_sh_degree(0), PRESETS["paper"])


def _lightgs(sh_degree: int, subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """LightGaussian's pruning, stored as float32: 68 bytes for a Gaussian of one colour, 248 with SH of degree 3."""
    kept = _best("lightgs", subject, keep).with_sh_degree(sh_degree)
    return kept, kept.ply_bytes


def _lightgs_refined(subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """LightGaussian's pruning, then training on views of the uncut scene."""
    kept = _best("lightgs", subject, keep)
    trained = recover(kept, subject.cloud, subject.renderer, subject.random_views, subject.recovery)
    return trained, trained.ply_bytes


def _flexgaussian(with_sh: bool, subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """FlexGaussian's pruning and quantisation, its ratio fixed instead of searched for.

    Of what is kept it can store any share without SH. Its own pair for the strongest compression, 90 % dropped and the
    rest without SH, is `flexgaussian-dc`; the figures in ExGS's tables are those with SH throughout.
    """
    kept = _best("lightgs", subject, keep)
    return flexgaussian(kept, len(kept)) if with_sh else flexgaussian(kept.with_sh_degree(0), 0)


def _best(kind: Score, subject: Subject, keep: float) -> GaussianCloud:
    """The best by a score, in the order of the scene; ties go by index."""
    order = torch.sort(score(subject.cloud, subject.seen, kind), descending=True, stable=True).indices
    count = keep_count(len(subject.cloud), keep)
    return subject.cloud.take(order[:count].sort().values.to(subject.cloud.device))


def _coded(cloud: GaussianCloud, settings: CompressionSettings) -> tuple[GaussianCloud, int]:
    """Through the .exgs file and back."""
    data = exgs.encode(cloud, settings=settings)
    return exgs.decode(data, "the encoded scene")[0].to(cloud.device), len(data)


def _best_constant(subject: Subject, keep: float) -> tuple[GaussianCloud, int]:
    """Paper's selection, all of it enlarged by the one of FACTORS that is best in the scoring views."""
    exam = take_exam(subject.cloud, subject.views, 0, subject.renderer)
    clouds = [_reduced(replace(_PLAIN, keep=keep, amplification=factor), subject).cloud for factor in FACTORS]
    return _coded(max(clouds, key=lambda cloud: quality(cloud, subject.renderer, exam)), _PLAIN)


FACTORS = (1.0, 1.1, 1.2, 1.3, 1.45, 1.6)
"""Constant amplifications that are compared."""
_PLAIN = replace(PRESETS["paper"], amplify="constant")
_DEFAULT = PRESETS["default"]
_BARE = replace(_DEFAULT, calibrate=False, colors="off", amplify="constant")
_CALIBRATED = replace(_BARE, calibrate=True)
_BOTH = ("seen", "prepared")
METHODS = {
    "paper": Method(
        "ExGS's own: score (eq. 7), voxels (eq. 9), amplification (eq. 10), float16, LZMA",
        partial(_ours, PRESETS["paper"]),
    ),
    "paper-unamplified": Method("paper without amplification", partial(_ours, _PLAIN)),
    "paper-constant": Method("paper with the best constant amplification of the scene", _best_constant),
    "default": Method("merged, calibrated, grown, recoloured: feed-forward", partial(_ours, _DEFAULT), _BOTH),
    "best": Method("default, then a short fit", partial(_ours, PRESETS["best"]), _BOTH),
    "lightgs": Method("LightGaussian's pruning, one colour a Gaussian, float32", partial(_lightgs, 0)),
    "lightgs-sh": Method("LightGaussian's pruning with spherical harmonics, float32", partial(_lightgs, 3)),
    "lightgs-refined": Method(
        "LightGaussian's pruning, then trained on random views (LightGS*)", _lightgs_refined, ("seen", "random_views")
    ),
    "flexgaussian": Method("FlexGaussian: pruning, 4 to 16 bits a value, with SH", partial(_flexgaussian, True)),
    "flexgaussian-dc": Method("FlexGaussian without SH, its strongest setting", partial(_flexgaussian, False)),
    "prune-hits": Method("paper's score alone, no voxels", partial(_pruned, "hits")),
    "prune-weight": Method("summed blending weight alone", partial(_pruned, "weight")),
    "prune-lightgs": Method("LightGaussian's score alone", partial(_pruned, "lightgs")),
    "merge": Method("the tree of merges alone", partial(_ours, _BARE), _BOTH),
    "merge-calibrated": Method("the tree and calibrated opacities", partial(_ours, _CALIBRATED), _BOTH),
    "merge-grown": Method(
        "the same, grown by what was merged", partial(_ours, replace(_CALIBRATED, amplify="adaptive")), _BOTH
    ),
    "paper-uncoded": Method("paper before it is coded, float32", partial(_uncoded, PRESETS["paper"])),
    "default-uncoded": Method("default before it is coded, float32", partial(_uncoded, _DEFAULT), _BOTH),
    "default-high": Method("default, finely rounded", partial(_ours, replace(_DEFAULT, quality="high")), _BOTH),
    "default-fine": Method(
        "default, rounded as the codec does on its own", partial(_ours, replace(_DEFAULT, quality="default")), _BOTH
    ),
    "default-sh1": Method("default with SH of degree 1", partial(_ours, replace(_DEFAULT, sh_degree=1)), _BOTH),
}
"""Every method by the name that `exgs evaluate --methods` takes."""
