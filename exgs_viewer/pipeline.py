"""The whole way on one page: what the command line, the window's workers and the tests all call.

A scene is prepared once (`prepare`: what its views see, the tree of merges, how coarsely to round). Then any retention
is a quick cut through that tree (`fold`, for a moving slider), which `polish` improves stage by stage where there is
time. `compress` does it all. The paper's way, dropping instead of merging, is `judge`, `rank` and `cut`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import fmean
from typing import Literal

from torch import Tensor

from exgs_viewer.compress import fold as folding
from exgs_viewer.compress import groups, rounding
from exgs_viewer.compress.amplify import MERGED, find_amplifier
from exgs_viewer.compress.budget import fill
from exgs_viewer.compress.fold import Folded, Members
from exgs_viewer.compress.guard import JUDGES, TIE, Pictures, cached_pictures, empty_album, marks, take_exam
from exgs_viewer.compress.merge import MergeTree, Voxels, cached_tree
from exgs_viewer.compress.merge import cut as cut_tree
from exgs_viewer.compress.polish import Exam, calibrate, colors
from exgs_viewer.compress.pruning import Pruned, Pruning, amplified, guarded, prune
from exgs_viewer.compress.refine import RATES, SIZES, refine
from exgs_viewer.compress.scores import Score, cached_measure, score
from exgs_viewer.compress.select import keep_count, rank
from exgs_viewer.compress.surroundings import Surroundings
from exgs_viewer.render import Album, Renderer, RenderOutput, Significance
from exgs_viewer.restore import scene_filter
from exgs_viewer.restore.scene_filter import SceneFilter
from exgs_viewer.scene.camera import Camera, Size, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.exgs import stored
from exgs_viewer.scene.views import extent, scoring_views
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, part, quiet

TUNED_BY = 2
"""Of the pictures that teach, one in this many is enough for a scene's filter."""

SCORES: tuple[Score, ...] = ("weight", "hits", "lightgs")
"""Every score that plain pruning may go by."""

UNDECIDED = {"grown": ("calibrated",), "recoloured": ("calibrated", "grown"), "resized": ("recoloured",)}
"""Stages that need only be as good as these."""
GROWN_BACK = 8.0
"""dB that growing what pruning keeps may bring: up to 7.7 on eight scenes (whale at a tenth, `weights/README.md`)."""
StageName = Literal["merged", "calibrated", "grown", "pruned", "amplified", "recoloured", "resized", "refined"]


@dataclass(frozen=True, eq=False)
class Looked:
    """A scene that has been looked at from all sides."""

    cameras: tuple[Camera, ...]
    """The views that judge it, made of the scene alone."""
    seen: Significance
    """What they saw of each Gaussian."""
    order: Tensor | None = None
    """[N] int64 where the cloud has been rearranged since: which Gaussian of then each one is."""

    def moved(self, order: Tensor) -> Looked:
        """The same for the cloud that `order` [N] has rearranged."""
        before = order if self.order is None else self.order[order]
        return Looked(self.cameras, _taken(self.seen, order.cpu()), before)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scene that has been looked at: where every compression of it starts."""

    cloud: GaussianCloud
    cameras: tuple[Camera, ...]
    """The views that judged it."""
    seen: Significance
    tree: MergeTree
    members: Members
    extent: float
    """Size of the scene, world units."""
    gaps: rounding.Gaps | None = None
    """dB by which rounding errs less than merging, in two cuts; None where that cannot be told."""
    album: Album | None = None
    """Pictures that were taken in passing when the scene was looked at."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The best that there is of a compressed scene so far."""

    name: StageName
    """What was done to it last."""
    cloud: GaussianCloud
    """What is to be encoded."""
    settings: CompressionSettings
    """How that is to be encoded: `settled`."""
    shown: GaussianCloud
    """The same as whoever opens the file sees it, each number rounded."""
    psnr: float
    """Mean dB of that over the views held out for judging; nan where there was nothing to choose from."""


def compress(
    cloud: GaussianCloud,
    settings: CompressionSettings,
    renderer: Renderer,
    cameras: Sequence[Camera],
    report: Report = quiet,
    known: Pictures | None = None,
) -> Stage:
    """The scene as round(N * keep) Gaussians, the most visible first: the last stage of all.

    `known` are its `pictures`, where they exist.
    """
    compressor = prepare_compressor(cloud, settings, renderer, cameras, part(report, 0.0, 0.5), known)
    *_, last = compressor.stages(settings.keep, part(report, 0.5, 0.5))
    return last


@dataclass(frozen=True, eq=False)
class Compressor:
    """A scene and how it is compressed, whatever the retention; what serves every retention has been done."""

    total: int
    """Gaussians of the scene."""
    stages: Callable[[float, Report], Iterator[Stage]]
    """(share to keep, progress) -> each stage that is better than all before it."""


def prepare_compressor(
    cloud: GaussianCloud,
    settings: CompressionSettings,
    renderer: Renderer,
    cameras: Sequence[Camera],
    report: Report = quiet,
    known: Pictures | None = None,
) -> Compressor:
    """What `compress` does for any retention, that of `settings` aside."""
    if settings.reduction == "merge":
        album = None if known else empty_album(cameras, _degree_to_match(settings))
        prepared = prepare(cloud, renderer, cameras, report, album)

        def stages(keep: float, report: Report) -> Iterator[Stage]:
            return polish(prepared, replace(settings, keep=keep), renderer, known, report)

    else:
        seen = cached_measure(cloud, renderer, cameras, report)
        order = rank(cloud, score(cloud, seen, settings.score), settings.voxel_size)  # [N]

        def stages(keep: float, report: Report) -> Iterator[Stage]:
            asked = replace(settings, keep=keep)
            if asked.amplify == "adaptive":
                report(0.0, "Amplifying what is kept")
                return amplify(Pruning.of(cloud, seen, cameras, order), asked, renderer)
            kept = cut(cloud.take(order.to(cloud.device)), asked)
            return iter([Stage("pruned", kept, asked, stored(kept, asked), math.nan)])

    return Compressor(len(cloud), stages)


def compress_within(
    limit: int, size: Callable[[Stage], int], compressor: Compressor, keep: float, report: Report = quiet
) -> Stage:
    """The last stage with as many Gaussians as take at most `limit` bytes, of which `size` says how many a stage takes.

    First stages, which are quick, tell how many that should be; the share `keep` is tried first.
    Raises ExgsError where not even one Gaussian fits.
    """
    total = compressor.total

    def rough(count: int, report: Report) -> tuple[int, int]:
        return count, size(next(compressor.stages(count / total, report)))

    def finished(count: int, report: Report) -> tuple[Stage, int]:
        *_, last = compressor.stages(count / total, report)
        return last, size(last)

    start = fill(limit, total, keep_count(total, keep), rough, part(report, 0.0, 0.3))
    return fill(limit, total, start, finished, part(report, 0.3, 0.7))


def judge(cloud: GaussianCloud, up: Vector, renderer: Renderer, report: Report = quiet) -> Tensor:
    """Significance [N] from views made of the scene alone, remembered for the next time the same scene is judged."""
    return score(cloud, look(cloud, up, renderer, report).seen)


def look(cloud: GaussianCloud, up: Vector, renderer: Renderer, report: Report = quiet) -> Looked:
    """Choose views and look at the scene from them; what was seen is remembered for the next time."""
    report(0.0, "Choosing views to judge the scene from")
    cameras = scoring_views(cloud, up)
    return Looked(tuple(cameras), cached_measure(cloud, renderer, cameras, report))


def cut(ranked: GaussianCloud, settings: CompressionSettings, order: Tensor | None = None) -> GaussianCloud:
    """The first Gaussians of a cloud that is already in the order of `rank`: cheap enough for a moving slider.

    Shares memory with `ranked` but for the amplified scales. Where `order` [N] is given, the first ones of that
    order are copied instead.
    """
    count = keep_count(len(ranked), settings.keep)
    kept = ranked.with_sh_degree(settings.sh_degree).take(slice(0, count) if order is None else order[:count])
    return amplified(kept, settings)


def prepare_pruning(cloud: GaussianCloud, looked: Looked, order: Tensor | None = None) -> Pruning:
    """What `amplify` starts from, for a scene that was looked at and lies in `order` [N] (None: in its own)."""
    return Pruning.of(cloud, looked.seen, looked.cameras, order)


def exam(pruning: Pruning, settings: CompressionSettings, renderer: Renderer) -> Exam:
    """What `amplify` is judged by; the same for every retention."""
    return take_exam(pruning.cloud, pruning.cameras, settings.sh_degree, renderer)


def amplify(
    pruning: Pruning, settings: CompressionSettings, renderer: Renderer, known: Exam | None = None
) -> Iterator[Stage]:
    """What pruning keeps, grown as the network answers; then as much of that as is good for it. `known` is `exam`."""
    pruned = prune(pruning, settings)
    cloud = pruned.cloud()
    yield Stage("amplified", cloud, settings, cloud, math.nan)
    cloud, psnr = guarded(pruned, renderer, known or exam(pruning, settings, renderer))
    yield Stage("amplified", cloud, settings, stored(cloud, settings), psnr)


def prepare(
    cloud: GaussianCloud,
    renderer: Renderer,
    cameras: Sequence[Camera],
    report: Report = quiet,
    album: Album | None = None,
) -> Prepared:
    """Look at a scene from `cameras`, build its tree of merges, find its gaps; all is remembered for the next time.

    An `empty_album` is filled where the scene is looked at anew; `polish` need not draw what is in it.
    """
    seen = cached_measure(cloud, renderer, cameras, part(report, 0.0, 0.6), album)
    prepared = prepare_again(cloud, Looked(tuple(cameras), seen), renderer, part(report, 0.6, 0.4))
    return replace(prepared, album=album)


def prepare_again(cloud: GaussianCloud, looked: Looked, renderer: Renderer, report: Report = quiet) -> Prepared:
    """The same for a scene that was looked at, and rearranged since: its tree is found under the scene as it was."""
    cameras, seen, before, growing = looked.cameras, looked.seen, cloud, part(report, 0.0, 0.9)
    if looked.order is None:
        tree = cached_tree(cloud, seen, cameras, growing)
    else:
        back = looked.order.argsort()
        # The constant colour is all that a tree wants to know, and saves the memory of a second scene.
        before = cloud.with_sh_degree(0).take(back.to(cloud.device))
        tree = cached_tree(before, _taken(seen, back.cpu()), cameras, growing).moved(back.cpu().numpy())
    prepared = Prepared(cloud, cameras, seen, tree, Members.of(cloud, seen), extent(cloud))

    def cut(settings: CompressionSettings) -> GaussianCloud:
        return fold(prepared, settings).cloud

    def measure() -> rounding.Gaps | None:
        return rounding.gaps(cloud, cut, cameras, renderer, part(report, 0.9, 0.1))

    return replace(prepared, gaps=rounding.cached_gaps(before, cameras, measure))


def settled(prepared: Prepared, settings: CompressionSettings) -> CompressionSettings:
    """How what merging makes of a scene is to be encoded: the scene says how coarsely, where the settings leave it."""
    return rounding.settled(settings, prepared.gaps)


def fold(prepared: Prepared, settings: CompressionSettings) -> Folded:
    """The scene as round(N * keep) merged Gaussians: a cut through the tree, quick enough for a moving slider."""
    cloud = prepared.cloud.with_sh_degree(settings.sh_degree)
    voxels = Voxels.of(cloud, settings.voxel_size, prepared.extent)
    labels = cut_tree(prepared.tree, keep_count(len(cloud), settings.keep), voxels)
    folded = folding.fold(cloud, prepared.seen, prepared.members, labels)
    return replace(folded, cloud=amplified(folded.cloud, settings))


def look_within(prepared: Prepared, folded: Folded, cloud: GaussianCloud) -> Surroundings:
    """What a network may know of the groups of `folded`, which calibration has made into `cloud`."""
    scene, views = prepared.cloud, len(prepared.cameras)
    return groups.look_within(scene, prepared.seen, prepared.members, folded, cloud, views)


def pictures(
    cloud: GaussianCloud,
    cameras: Sequence[Camera],
    settings: CompressionSettings,
    renderer: Renderer,
    report: Report = quiet,
    album: Album | None = None,
) -> Pictures:
    """The uncut scene, as `polish` and `tune` learn from it and are judged by it; the same for every retention.

    Remembered for the next time where drawing takes long. What is in the `album` of a prepared scene is not drawn.
    """
    return cached_pictures(cloud, cameras, _degree_to_match(settings), renderer, report, album)


def _degree_to_match(settings: CompressionSettings) -> int:
    """SH degree of the pictures that a compressed scene shall come near to."""
    return 3 if settings.colors == "full" else settings.sh_degree


def polish(
    prepared: Prepared,
    settings: CompressionSettings,
    renderer: Renderer,
    known: Pictures | None = None,
    report: Report = quiet,
) -> Iterator[Stage]:
    """First the bare cut, then each stage that is better than all before it; the last is the best there is.

    Better means nearer to the uncut scene, once stored, in views that nothing was fitted to; growing a merged cloud,
    solving its colours and refining its sizes need only be as good there. Pruning is amplified where it is a rival to
    merging. `known` are its `pictures`, where the caller has kept them.
    """
    settings, folded = settled(prepared, settings), fold(prepared, settings)
    best = Stage("merged", folded.cloud, settings, stored(folded.cloud, settings), math.nan)
    steps = _steps(prepared, settings, folded)
    if not steps or len(best.cloud) == len(prepared.cloud):
        yield best
        return
    drawing = part(report, 0.0, 0.3)
    known = known or pictures(prepared.cloud, prepared.cameras, settings, renderer, drawing, prepared.album)
    best_marks = marks(best.shown, renderer, known.exam)
    best = replace(best, psnr=fmean(best_marks))
    yield best
    behind = math.inf
    for number, (name, improve) in enumerate(steps):
        if name == "amplified" and behind > GROWN_BACK:
            continue
        share = part(report, 0.3 + 0.7 * number / len(steps), 0.7 / len(steps))
        cloud = improve(best, renderer, known.study, share)
        shown = stored(cloud, settings)
        found = marks(shown, renderer, known.exam, best_marks)
        if name == "pruned":
            behind = min(behind, fmean(best_marks[: len(found)]) - fmean(found))
        least = best.psnr - (TIE if best.name in UNDECIDED.get(name, ()) else 0)
        if len(found) == len(best_marks) and fmean(found) > least:
            best, best_marks = Stage(name, cloud, settings, shown, fmean(found)), found
            yield best


def tune(cloud: GaussianCloud, known: Pictures, renderer: Renderer, report: Report = quiet) -> SceneFilter | None:
    """The filter that brings pictures of a compressed scene nearer to the uncut ones, `known`; None where none does."""

    def drawn(exam: Exam, step: int, report: Report) -> Iterator[scene_filter.Pair]:
        for number in range(0, len(exam.cameras), step):
            report(number / len(exam.cameras), "Looking at what the scene's filter has to mend")
            output = renderer.render(cloud, exam.cameras[number], exam.size, RenderSettings())
            yield output, exam.pictures[number].to(cloud.device)

    judged = list(drawn(known.exam, 1, part(report, 0.0, 0.1)))
    return scene_filter.fit(drawn(known.study, TUNED_BY, part(report, 0.1, 0.4)), judged, part(report, 0.5, 0.5))


Improve = Callable[[Stage, Renderer, Exam, Report], GaussianCloud]


def _steps(prepared: Prepared, settings: CompressionSettings, folded: Folded) -> list[tuple[StageName, Improve]]:
    """What may make a merged cloud better, in this order; each starts from the best so far, or from the scene anew."""
    steps: list[tuple[StageName, Improve]] = []
    if settings.calibrate:
        steps.append(
            ("calibrated", lambda _, renderer, __, report: calibrate(folded, renderer, prepared.cameras, report))
        )
        if settings.amplify == "adaptive":
            steps.append(("grown", partial(_grown, prepared, folded)))
    if settings.calibrate or settings.colors != "off" or settings.refine:
        steps += [("pruned", partial(_pruned, prepared, settings, kind)) for kind in SCORES]
        if settings.amplify == "adaptive":
            steps.append(("amplified", partial(_amplified, prepared, settings)))
    if settings.colors != "off":
        steps.append(("recoloured", _recoloured))
    if settings.refine:
        steps += [("resized", partial(_refined, settings, SIZES)), ("refined", partial(_refined, settings, RATES))]
    return steps


def _grown(
    prepared: Prepared, folded: Folded, best: Stage, renderer: Renderer, study: Exam, _: Report
) -> GaussianCloud:
    """Each group grown as the network answers to what went into it, as much of that as suits some of the pictures."""
    growth = find_amplifier(MERGED).predict(look_within(prepared, folded, best.cloud))
    return guarded(Pruned(best.cloud, growth), renderer, study.some(JUDGES))[0]


def _pruned(prepared: Prepared, settings: CompressionSettings, kind: Score, _: Stage, *__: object) -> GaussianCloud:
    """The Gaussians that score highest, as they are: where nearly all are kept, merging need not pay."""
    cloud = prepared.cloud
    best = score(cloud, prepared.seen, kind).topk(keep_count(len(cloud), settings.keep)).indices
    return amplified(cloud.with_sh_degree(settings.sh_degree).take(best.to(cloud.device)), settings)


def _amplified(prepared: Prepared, settings: CompressionSettings, _: Stage, *__: object) -> GaussianCloud:
    """Those that make up most of the picture, grown for what was dropped around them: of all prunings the best one."""
    order = score(prepared.cloud, prepared.seen, "weight").argsort(descending=True)  # [N]
    return prune(Pruning.of(prepared.cloud, prepared.seen, prepared.cameras, order), settings).cloud()


def _recoloured(best: Stage, renderer: Renderer, study: Exam, report: Report) -> GaussianCloud:
    return _with_colors(best.cloud, best.shown, renderer, study, report)


def _with_colors(
    cloud: GaussianCloud, shown: GaussianCloud, renderer: Renderer, study: Exam, report: Report
) -> GaussianCloud:
    """Colours that make up for what storing the shapes rounds away, too: solved for `shown`, where it has been done."""
    return cloud.replaced(sh=colors(shown.replaced(sh=cloud.sh), renderer, study, report).sh)


def _refined(
    settings: CompressionSettings,
    rates: Mapping[str, float],
    best: Stage,
    renderer: Renderer,
    study: Exam,
    report: Report,
) -> GaussianCloud:
    """Refined, and its colours solved once more: rounding takes most of what refining brought until that is done."""
    cloud = refine(best.cloud, renderer, study, part(report, 0.0, 0.7), rates)
    if settings.colors == "off":
        return cloud
    return _with_colors(cloud, stored(cloud, settings), renderer, study, part(report, 0.7, 0.3))


def _taken(seen: Significance, index: Tensor) -> Significance:
    return Significance(*(getattr(seen, field.name).index_select(0, index) for field in fields(seen)))


def picture(
    cloud: GaussianCloud, camera: Camera, size: Size, renderer: Renderer, settings: RenderSettings
) -> RenderOutput:
    """One picture of a cloud, for callers that hold no other state."""
    return renderer.render(cloud, camera, size, settings)
