"""How many bytes there will be: an estimate at once, the exact size at rest, and better estimates at leisure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from exgs_viewer.app import work
from exgs_viewer.app.sizes import Coding, Sizes, coding_of
from exgs_viewer.app.stages import Stages
from exgs_viewer.app.state import Ranked, SizeKnown
from exgs_viewer.app.workers import JobWorker, Submit
from exgs_viewer.pipeline import Prepared
from exgs_viewer.settings import CompressionSettings

JOBS = ("model", "anchors", "finish", "size")
"""What is ordered here from the engine's job worker."""
LEISURE = ("anchors", "finish")
"""Those of them that nobody waits for."""

Describe = Callable[[CompressionSettings], dict[str, Any]]
"""The metadata that a file of these settings would have; it counts in its bytes."""


class Sizer:
    """Owned by the engine, from whose thread all methods are called and on whose job worker the work runs."""

    def __init__(self, stages: Stages, jobs: JobWorker, submit: Submit):
        self._stages, self._jobs, self._submit = stages, jobs, submit
        self.forget()

    def forget(self) -> None:
        """Another scene comes."""
        self._sizes: Sizes | None = None
        self._modelling: Coding | None = None
        self._rough: work.Modelled | None = None
        self._enough = False
        self._cuts: tuple[Prepared | None, dict[CompressionSettings, int]] = (None, {})

    @property
    def ranked(self) -> Ranked | None:
        """The ranking whose sizes are told; None before the scene is scored."""
        return self._sizes.ranked if self._sizes else None

    def of(self, compression: CompressionSettings) -> SizeKnown | None:
        """What is known about the size of `compression`."""
        return self._sizes.of(compression) if self._sizes else None

    def share_within(self, limit: int, compression: CompressionSettings) -> float | None:
        """The largest share whose file should take at most `limit` bytes; None as long as that is not known."""
        return self._sizes.share_within(limit, compression) if self._sizes else None

    def missing(self, compression: CompressionSettings) -> bool:
        """Whether the exact size is worth being computed."""
        return self._sizes.missing(compression)

    # Orders.

    def leave(self) -> None:
        """The ranking is on its way out: its sizes are of no use, and their jobs would not make way."""
        self._jobs.cancel(*JOBS)

    def stop(self) -> None:
        """The sliders move: leave what only rest allows."""
        self._jobs.cancel("size", *LEISURE)

    def estimate(self, compression: CompressionSettings) -> None:
        """Have the sizes estimated for another codec, quality or reduction."""
        if not self._sizes.unknown(compression) or self._modelling == coding_of(compression):
            return
        self._modelling, stages, ranked = coding_of(compression), self._stages, self.ranked
        self._jobs.cancel("model", *LEISURE)
        self._submit("model", lambda report: work.model_sizes(stages, ranked, compression, report))

    def due(self, compression: CompressionSettings) -> bool:
        """Whether the exact size is to be ordered now."""
        return self.missing(compression) and "size" not in self._jobs.names()

    def encode(self, subject: work.Compressed) -> None:
        """Have the exact size of `subject` computed."""
        stages = self._stages
        self._submit("size", lambda report: work.measure_size(stages, subject, report))

    def anchor(self, prepared: Prepared | None, describe: Describe) -> None:
        """Have the estimates corrected by encoding, merged scenes where `prepared` is there to merge from."""
        known, stages = self._rough, self._stages
        if known is None or known.ranked is not self.ranked or self._jobs.busy():
            return
        merged = prepared if known.compression.reduction == "merge" else None
        meta = describe(known.compression)
        if self._cuts[0] is not merged:
            self._cuts = (merged, {})
        _, found = self._cuts
        self._submit("anchors", lambda report: work.anchor_sizes(stages, known, merged, meta, found, report))

    def finish(self, compression: CompressionSettings, finish: work.Finish | None, describe: Describe) -> None:
        """After that, have merged scenes compressed to the end where their bytes tell most about those of all others.

        `compression` has been finished already. Refining takes minutes: too long for a figure.
        """
        if compression.refine or self._enough or self._rough is not None or finish is None or self._jobs.busy():
            return
        model, degree = self._sizes.model(compression), self._sizes.degree(compression)
        share = model and self._stages.unfinished(model, len(self.ranked.cloud), degree)
        if share:
            asked, stages = replace(compression, keep=share), self._stages
            subject = work.Compressed(self.ranked, None, asked, describe(asked))
            self._submit("finish", lambda report: work.finish_size(stages, subject, finish, report))

    # Answers.

    def take_ranking(self, ranked: Ranked) -> None:
        """From now on the sizes of another ranking are told."""
        self.leave()
        self._sizes, self._modelling, self._cuts = Sizes(ranked), None, (None, {})

    def take(self, job: str, result: work.Modelled | work.Sized, prepared: Prepared | None) -> bool:
        """One of our jobs is done; whether it was about the present ranking. The estimates of `model` are anchored."""
        if result.ranked is not self.ranked:
            return False
        if isinstance(result, work.Sized):
            self._sizes.learn(result, exact=job == "size")
        else:
            self._sizes.take_model(result)
            self._rough = result if job == "model" else None
            self.settle(prepared)
        return True

    def settle(self, prepared: Prepared | None) -> None:
        """A scene that there is a tree of says how coarsely it is rounded: estimates need not wait for anchors."""
        known = self._rough
        if prepared is None or known is None or known.compression.reduction != "merge":
            return
        if known.ranked is self.ranked:
            self._rough = replace(known, model=known.model.settled(prepared.gaps))
            self._sizes.take_model(self._rough)

    def finished_enough(self) -> None:
        """No more is to be finished of this scene at leisure: it has failed."""
        self._enough = True

    def refuse(self, compression: CompressionSettings) -> None:
        """The exact size could not be computed."""
        if self._sizes:
            self._sizes.refuse(compression)
