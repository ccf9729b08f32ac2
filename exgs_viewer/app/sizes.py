"""What is known about the bytes of a ranking: exact sizes, and an estimate that learns from them."""

from __future__ import annotations

from bisect import bisect_right

from exgs_viewer.app.stages import SizeModel
from exgs_viewer.app.state import Ranked, SizeKnown
from exgs_viewer.app.work import Modelled, Sized
from exgs_viewer.compress.select import keep_count
from exgs_viewer.settings import CompressionSettings

Coding = tuple[str, str, float, str]


def coding_of(compression: CompressionSettings) -> Coding:
    """What the curve of bytes over retention depends on."""
    return compression.codec, compression.quality, compression.coarser, compression.reduction


class Sizes:
    """The sizes of one ranking; forgotten together with it."""

    def __init__(self, ranked: Ranked):
        self.ranked = ranked
        self._exact: dict[CompressionSettings, int] = {}
        self._refused: set[CompressionSettings] = set()
        self._models: dict[Coding, SizeModel] = {}

    def of(self, compression: CompressionSettings) -> SizeKnown | None:
        """The exact size where it is known, otherwise the estimate, otherwise nothing."""
        count = keep_count(len(self.ranked.cloud), compression.keep)
        exact = self._exact.get(compression)
        if exact is not None:
            return SizeKnown(exact, count, exact=True)
        model = self.model(compression)
        return model and SizeKnown(model.bytes(count, self.degree(compression)), count, exact=False)

    def share_within(self, limit: int, compression: CompressionSettings) -> float | None:
        """The largest share whose file should take at most `limit` bytes; None as long as there is no estimate."""
        model, total = self.model(compression), len(self.ranked.cloud)
        if model is None:
            return None
        degree = self.degree(compression)
        count = bisect_right(range(1, total + 1), limit, key=lambda count: model.bytes(count, degree))
        return max(count, 1) / total

    def missing(self, compression: CompressionSettings) -> bool:
        """Whether the exact size is worth being computed."""
        return compression not in self._exact and compression not in self._refused

    def unknown(self, compression: CompressionSettings) -> bool:
        """Whether there is no estimate yet for the way in which `compression` stores."""
        return coding_of(compression) not in self._models

    def model(self, compression: CompressionSettings) -> SizeModel | None:
        """What estimates the sizes of what is stored as `compression` says."""
        return self._models.get(coding_of(compression))

    def take_model(self, modelled: Modelled) -> None:
        """From now on there are estimates, or better ones."""
        coding, model = coding_of(modelled.compression), modelled.model
        for compression, size in self._exact.items():
            if coding_of(compression) == coding:
                count = keep_count(len(self.ranked.cloud), compression.keep)
                model = model.learned(count, self.degree(compression), size)
        self._models[coding] = model

    def learn(self, sized: Sized, exact: bool) -> None:
        """The estimate gets better by a size; only an `exact` one is told as such, not one that was remembered."""
        if exact:
            self._exact[sized.compression] = sized.bytes
        coding, degree = coding_of(sized.compression), self.degree(sized.compression)
        if coding in self._models:
            self._models[coding] = self._models[coding].learned(sized.count, degree, sized.bytes)

    def refuse(self, compression: CompressionSettings) -> None:
        """Computing it has failed; do not try for ever."""
        self._refused.add(compression)

    def degree(self, compression: CompressionSettings) -> int:
        """SH degree of what is stored."""
        return min(compression.sh_degree, self.ranked.cloud.sh_degree)
