"""What merging makes of a scene: a cut follows the slider, and is improved stage by stage once that rests.

Pruning with adaptive amplification comes the same way: the network's answer follows the slider, how much of it is good
for the scene is found out once that rests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from exgs_viewer.app.stages import Stages
from exgs_viewer.app.state import Ranked, Reduced, takes_time
from exgs_viewer.app.work import Finish
from exgs_viewer.app.workers import JobWorker, LatestWorker, Notify, Submit, synchronise
from exgs_viewer.compress.guard import Pictures
from exgs_viewer.compress.polish import Exam
from exgs_viewer.compress.pruning import Pruning
from exgs_viewer.pipeline import Prepared, settled
from exgs_viewer.render import Renderer
from exgs_viewer.settings import CompressionSettings, Report

NEAR = math.log(1.2)
"""Merged scenes stand in for each other while the slider moves if their sizes differ by no more than this factor."""
JOBS = ("tree", "polish", "tune")
"""What is ordered here from the engine's job worker."""


@dataclass(frozen=True, eq=False)
class Treed:
    """The result of the job `tree`."""

    ranked: Ranked
    prepared: Prepared


Source = Prepared | Ranked
"""What a reduction starts from: the tree of merges, or the ranking that is pruned."""


@dataclass(frozen=True, eq=False)
class _Wish:
    source: Source
    compression: CompressionSettings


class Reducer:
    """Owned by the engine, on whose job worker the long parts run; all methods are called from the engine's thread."""

    def __init__(self, stages: Stages, jobs: JobWorker, submit: Submit, notify: Notify):
        self._stages, self._jobs, self._submit, self._notify = stages, jobs, submit, notify
        self._folding = LatestWorker[_Wish, Reduced]("fold", self._fold, notify)
        self._arrived: deque[tuple[Source, Reduced]] = deque()
        self.forget()

    def forget(self) -> None:
        """Another scene comes."""
        self._jobs.cancel(*JOBS)
        self._prepared: Prepared | None = None
        self._source: Source | None = None
        self._pruning: tuple[Ranked, Pruning] | None = None
        self._cloud: Any = None
        self._pictures: tuple[Any, Pictures | Exam] | None = None
        self._reduced: Reduced | None = None
        self._asked: CompressionSettings | None = None
        self._growing: Any = None
        self._polishing: CompressionSettings | None = None
        self._given_up: set[CompressionSettings] = set()

    @property
    def prepared(self) -> Prepared | None:
        """What merging starts from, once there is a tree."""
        return self._prepared

    @property
    def busy(self) -> bool:
        """Whether a cut is on its way."""
        return self._folding.busy

    def best(self, compression: CompressionSettings) -> Reduced | None:
        """The best merged scene to show: the one asked for, or one that hardly differs, until that is there."""
        have = self._reduced
        if have is None or not takes_time(compression):
            return None
        near = abs(math.log(have.compression.keep / compression.keep)) <= NEAR
        return have if near and replace(have.compression, keep=compression.keep) == compression else None

    def exact(self, compression: CompressionSettings) -> Reduced | None:
        """The merged scene that was asked for, if it is there."""
        have = self.best(compression)
        return have if have and have.compression == compression else None

    def missing(self, compression: CompressionSettings) -> bool:
        """Whether something better than what there is will come."""
        if not takes_time(compression) or compression in self._given_up:
            return False
        have = self.exact(compression)
        return have is None or not have.final

    def follow(self, ranked: Ranked, compression: CompressionSettings, renderer: Renderer) -> None:
        """Have the scene cut as the slider says, as soon as there is a tree to cut, or amplified."""
        if not takes_time(compression) or compression in self._given_up:
            return
        merging = compression.reduction == "merge"
        source = self._tree_of(ranked, renderer) if merging else self._pruned_from(ranked, compression)
        if source is None:
            return
        if source is not self._source:
            self._source, self._reduced, self._asked, self._polishing = source, None, None, None
        if self.exact(compression) is None and self._asked != compression:
            self.stop()
            self._asked = compression
            self._folding.submit(_Wish(source, compression))

    def _tree_of(self, ranked: Ranked, renderer: Renderer) -> Prepared | None:
        if self._prepared is not None and self._cloud is ranked.cloud:
            return self._prepared
        self._have_tree(ranked, renderer)
        return None

    def _pruned_from(self, ranked: Ranked, compression: CompressionSettings) -> Ranked | None:
        """The ranking, once it is the one that is wanted."""
        return ranked if ranked.looked is not None and ranked.fits(compression) else None

    def _have_tree(self, ranked: Ranked, renderer: Renderer) -> None:
        if self._growing is ranked.cloud or ranked.looked is None:
            return
        self._growing, prepare = ranked.cloud, self._stages.prepare
        self._submit("tree", lambda report: Treed(ranked, prepare(ranked.cloud, ranked.looked, renderer, report)))

    def improve(self, compression: CompressionSettings, renderer: Renderer) -> None:
        """Once the sliders rest: polish what there is."""
        have = self.exact(compression)
        if have is None or have.final or self._polishing == have.compression or "polish" in self._jobs.names():
            return
        self._polishing = wanted = have.compression
        source = self._source
        self._submit("polish", lambda report: self._polish(source, wanted, renderer, report))

    def finished(self, compression: CompressionSettings, renderer: Renderer) -> Callable[[Report], Reduced | None]:
        """A job that ends with the best there can be of `compression`: at once, where that is there already."""
        have, source = self.exact(compression), self._source
        fits = source is not None and isinstance(source, Ranked) == (compression.reduction == "prune")
        if not self.missing(compression) or not fits:
            return lambda report: have
        return lambda report: self._polish(source, compression, renderer, report)

    def elsewhere(self, renderer: Renderer) -> Finish | None:
        """What finds out what merging would come to at another retention than the one shown; None without a tree."""
        source = self._prepared
        if source is None or source is not self._source:
            return None

        def finish(compression: CompressionSettings, report: Report) -> Reduced:
            *_, last = self._polished(source, compression, renderer, report)
            return last

        return finish

    def tune(self, compression: CompressionSettings, renderer: Renderer) -> None:
        """Once nothing better comes, and pictures shall be restored by a filter of the scene's own: fit that."""
        have = self.exact(compression)
        if have is None or not have.final or have.tuned or "tune" in self._jobs.names():
            return
        if compression.keep == 1:
            return self.untuned()  # Nothing was lost that a filter could bring back.
        source = self._source
        self._submit("tune", lambda report: self._tune(source, have, renderer, report))

    def stop(self) -> None:
        """The sliders move: leave the polishing and tuning that are under way."""
        self._jobs.cancel("polish", "tune")

    # Answers.

    def dropped(self, job: str) -> None:
        """A job of ours was cancelled; it may be asked for again."""
        if job == "tree":
            self._growing = None
        elif job == "polish":
            self._polishing = None

    def take_tree(self, treed: Treed) -> None:
        """The job `tree` is done."""
        self._prepared, self._cloud = treed.prepared, treed.ranked.cloud

    def refuse(self, compression: CompressionSettings) -> None:
        """Merging has failed for these settings; the plain cut stays."""
        self._given_up.add(compression)

    def take_tuned(self, tuned: tuple[Source, Reduced]) -> None:
        """The job `tune` is done; of use as long as what it was done for is there."""
        source, reduced = tuned
        if source is self._source and self._reduced is not None and self._reduced.cloud is reduced.cloud:
            self._reduced = reduced

    def untuned(self) -> None:
        """What there is does without a filter."""
        if self._reduced is not None:
            self._reduced = replace(self._reduced, tuned=True)

    def poll(self) -> list[Exception]:
        """Take what has arrived since the last call; what went wrong."""
        errors = []
        for outcome in self._folding.poll():
            if outcome.error is not None:
                self.refuse(outcome.request.compression)
                errors.append(outcome.error)
            else:
                self._take(outcome.request.source, outcome.result)
        while self._arrived:
            self._take(*self._arrived.popleft())
        return errors

    def _take(self, source: Source, reduced: Reduced) -> None:
        if source is not self._source:
            return
        have = self._reduced
        if have is None or have.compression != reduced.compression or not have.final:
            self._reduced = reduced

    def close(self) -> None:
        """Stop the worker."""
        self._folding.close(1.0)

    # What runs in the workers' threads.

    def _fold(self, wish: _Wish, stale: Callable[[], bool]) -> Reduced:
        if isinstance(wish.source, Ranked):
            first = next(self._stages.amplify(self._pruning_of(wish.source), wish.compression, None, None))
            return Reduced.of(first, wish.compression)
        folded = self._stages.fold(wish.source, wish.compression)
        return Reduced(wish.compression, folded, settled(wish.source, wish.compression), folded, "merged")

    def _polish(self, source: Source, compression: CompressionSettings, renderer: Renderer, report: Report) -> Reduced:
        """Every stage is handed over as it arrives; the last one is final."""
        for reduced in self._polished(source, compression, renderer, report):
            self._hand_over(source, reduced)
        return reduced

    def _polished(
        self, source: Source, compression: CompressionSettings, renderer: Renderer, report: Report
    ) -> Iterator[Reduced]:
        """Each stage, and the last one once more as the final one."""
        stages = self._stages
        pictures = self._pictures_of(source, compression, renderer, report)
        if isinstance(source, Ranked):
            found = stages.amplify(self._pruning_of(source), compression, renderer, pictures)
        else:
            found = stages.polish(source, compression, renderer, pictures, report)
        for stage in found:
            reduced = Reduced.of(stage, compression)
            yield reduced
        yield replace(reduced, final=True)

    def _tune(self, source: Source, have: Reduced, renderer: Renderer, report: Report) -> tuple[Source, Reduced]:
        stages, compression = self._stages, have.compression
        if isinstance(source, Ranked):
            pruning = self._pruning_of(source)
            pictures = stages.pictures(pruning.cloud, pruning.cameras, compression, renderer, report)
        else:
            pictures = self._pictures_of(source, compression, renderer, report)
        fitted = stages.tune(have.shown, pictures, renderer, report)
        synchronise()
        return source, replace(have, fitted=fitted, tuned=True)

    def _pictures_of(
        self, source: Source, compression: CompressionSettings, renderer: Renderer, report: Report
    ) -> Pictures | Exam:
        """What polishing learns from and is judged by, kept for the next retention."""
        key = (source, compression.sh_degree, compression.colors)
        if self._pictures is None or self._pictures[0] != key:
            if isinstance(source, Ranked):
                made = self._stages.exam(self._pruning_of(source), compression, renderer)
            else:
                made = self._stages.pictures(source.cloud, source.cameras, compression, renderer, report)
            self._pictures = (key, made)
        return self._pictures[1]

    def _pruning_of(self, ranked: Ranked) -> Pruning:
        """What amplification starts from, kept for the next retention."""
        known = self._pruning
        if known is None or known[0] is not ranked:
            known = (ranked, self._stages.prepare_pruning(ranked.cloud, ranked.looked, ranked.order))
            self._pruning = known
        return known[1]

    def _hand_over(self, source: Source, reduced: Reduced) -> None:
        synchronise()
        self._arrived.append((source, reduced))
        self._notify()
