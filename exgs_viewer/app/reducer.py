"""What merging makes of a scene: a cut follows the slider, and is improved stage by stage once that rests."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from exgs_viewer.app.stages import Stages
from exgs_viewer.app.state import Ranked, Reduced, reduction_of
from exgs_viewer.app.workers import JobWorker, LatestWorker, Notify, synchronise
from exgs_viewer.compress.guard import Pictures
from exgs_viewer.pipeline import Prepared
from exgs_viewer.render import Renderer
from exgs_viewer.settings import CompressionSettings, Report

NEAR = math.log(1.2)
"""Merged scenes stand in for each other while the slider moves if their sizes differ by no more than this factor."""
JOBS = ("tree", "polish")
"""What is ordered here from the engine's job worker."""

Submit = Callable[[str, Callable[[Report], Any]], None]


@dataclass(frozen=True, eq=False)
class Treed:
    """The result of the job `tree`."""

    ranked: Ranked
    prepared: Prepared


@dataclass(frozen=True, eq=False)
class _Wish:
    prepared: Prepared
    compression: CompressionSettings


class Reducer:
    """Owned by the engine, on whose job worker the long parts run; all methods are called from the engine's thread."""

    def __init__(self, stages: Stages, jobs: JobWorker, submit: Submit, notify: Notify):
        self._stages, self._jobs, self._submit, self._notify = stages, jobs, submit, notify
        self._folding = LatestWorker[_Wish, Reduced]("fold", self._fold, notify)
        self._arrived: deque[tuple[Prepared, Reduced]] = deque()
        self.forget()

    def forget(self) -> None:
        """Another scene comes."""
        self._jobs.cancel(*JOBS)
        self._prepared: Prepared | None = None
        self._cloud: Any = None
        self._pictures: tuple[Any, Pictures] | None = None
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
        have, wanted = self._reduced, reduction_of(compression)
        if have is None or compression.reduction != "merge":
            return None
        near = abs(math.log(have.compression.keep / wanted.keep)) <= NEAR
        return have if near and replace(have.compression, keep=wanted.keep) == wanted else None

    def exact(self, compression: CompressionSettings) -> Reduced | None:
        """The merged scene that was asked for, if it is there."""
        have = self.best(compression)
        return have if have and have.compression == reduction_of(compression) else None

    def missing(self, compression: CompressionSettings) -> bool:
        """Whether something better than what there is will come."""
        if compression.reduction != "merge" or reduction_of(compression) in self._given_up:
            return False
        have = self.exact(compression)
        return have is None or not have.final

    def follow(self, ranked: Ranked, compression: CompressionSettings) -> None:
        """Have the scene cut as the slider says, as soon as there is a tree to cut."""
        wanted = reduction_of(compression)
        if compression.reduction != "merge" or wanted in self._given_up:
            return
        if self._prepared is None or self._cloud is not ranked.cloud:
            self._have_tree(ranked)
        elif self.exact(compression) is None and self._asked != wanted:
            self.stop()
            self._asked = wanted
            self._folding.submit(_Wish(self._prepared, wanted))

    def _have_tree(self, ranked: Ranked) -> None:
        if self._growing is ranked.cloud or ranked.looked is None:
            return
        self._growing, prepare = ranked.cloud, self._stages.prepare
        self._submit("tree", lambda report: Treed(ranked, prepare(ranked.cloud, ranked.looked, report)))

    def improve(self, compression: CompressionSettings, renderer: Renderer) -> None:
        """Once the sliders rest: polish what there is."""
        have = self.exact(compression)
        if have is None or have.final or self._polishing == have.compression or "polish" in self._jobs.names():
            return
        self._polishing = wanted = have.compression
        prepared = self._prepared
        self._submit("polish", lambda report: self._polish(prepared, wanted, renderer, report))

    def finished(self, compression: CompressionSettings, renderer: Renderer) -> Callable[[Report], Reduced | None]:
        """A job that ends with the best there can be of `compression`: at once, where that is there already."""
        have, prepared, wanted = self.exact(compression), self._prepared, reduction_of(compression)
        if not self.missing(compression) or prepared is None:
            return lambda report: have
        return lambda report: self._polish(prepared, wanted, renderer, report)

    def stop(self) -> None:
        """The sliders move: leave the polishing that is under way."""
        self._jobs.cancel("polish")

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
        self._given_up.add(reduction_of(compression))

    def poll(self) -> list[Exception]:
        """Take what has arrived since the last call; what went wrong."""
        errors = []
        for outcome in self._folding.poll():
            if outcome.error is not None:
                self.refuse(outcome.request.compression)
                errors.append(outcome.error)
            else:
                self._take(outcome.request.prepared, outcome.result)
        while self._arrived:
            self._take(*self._arrived.popleft())
        return errors

    def _take(self, prepared: Prepared, reduced: Reduced) -> None:
        if prepared is not self._prepared:
            return
        have = self._reduced
        if have is None or have.compression != reduced.compression or not have.final:
            self._reduced = reduced

    def close(self) -> None:
        """Stop the worker."""
        self._folding.close(1.0)

    # What runs in the workers' threads.

    def _fold(self, wish: _Wish, stale: Callable[[], bool]) -> Reduced:
        return Reduced(wish.compression, self._stages.fold(wish.prepared, wish.compression), "merged")

    def _polish(
        self, prepared: Prepared, compression: CompressionSettings, renderer: Renderer, report: Report
    ) -> Reduced:
        """Every stage is handed over as it arrives; the last one is final."""
        stages, reduced = self._stages, None
        pictures = self._pictures_of(prepared, compression, renderer, report)
        for stage in stages.polish(prepared, compression, renderer, pictures, report):
            reduced = Reduced(compression, stage.cloud, stage.name)
            self._hand_over(prepared, reduced)
        reduced = replace(reduced, final=True)
        self._hand_over(prepared, reduced)
        return reduced

    def _pictures_of(
        self, prepared: Prepared, compression: CompressionSettings, renderer: Renderer, report: Report
    ) -> Pictures:
        """What polishing learns from, kept for the next retention."""
        key = (prepared, compression.sh_degree, compression.colors)
        if self._pictures is None or self._pictures[0] != key:
            self._pictures = (key, self._stages.pictures(prepared, compression, renderer, report))
        return self._pictures[1]

    def _hand_over(self, prepared: Prepared, reduced: Reduced) -> None:
        synchronise()
        self._arrived.append((prepared, reduced))
        self._notify()
