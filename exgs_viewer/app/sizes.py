"""What is known about the bytes of a ranking: exact sizes, and an estimate that learns from them."""

from __future__ import annotations

from exgs_viewer.app.stages import SizeModel
from exgs_viewer.app.state import Ranked, SizeKnown
from exgs_viewer.app.work import Sized
from exgs_viewer.compress.select import keep_count
from exgs_viewer.settings import CompressionSettings


class Sizes:
    """The sizes of one ranking; forgotten together with it."""

    def __init__(self, ranked: Ranked):
        self.ranked = ranked
        self._exact: dict[CompressionSettings, int] = {}
        self._refused: set[CompressionSettings] = set()
        self._model: SizeModel | None = None

    def of(self, compression: CompressionSettings) -> SizeKnown | None:
        """The exact size where it is known, otherwise the estimate, otherwise nothing."""
        count = keep_count(len(self.ranked.cloud), compression.keep)
        exact = self._exact.get(compression)
        if exact is not None:
            return SizeKnown(exact, count, exact=True)
        if self._model is None:
            return None
        return SizeKnown(self._model.bytes(count, self._degree(compression)), count, exact=False)

    def missing(self, compression: CompressionSettings) -> bool:
        """Whether the exact size is worth being computed."""
        return compression not in self._exact and compression not in self._refused

    def take_model(self, model: SizeModel) -> None:
        """From now on there are estimates."""
        self._model = model

    def learn(self, sized: Sized) -> None:
        """An exact size; the estimate gets better by it."""
        self._exact[sized.compression] = sized.bytes
        if self._model is not None:
            self._model = self._model.learned(sized.count, self._degree(sized.compression), sized.bytes)

    def refuse(self, compression: CompressionSettings) -> None:
        """Computing it has failed; do not try for ever."""
        self._refused.add(compression)

    def _degree(self, compression: CompressionSettings) -> int:
        return min(compression.sh_degree, self.ranked.cloud.sh_degree)
