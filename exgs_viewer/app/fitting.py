"""A size that the user asks for becomes a retention: by the estimate at once, then by what the file really takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from exgs_viewer.app import words
from exgs_viewer.app.engine import Engine
from exgs_viewer.app.notices import Notices
from exgs_viewer.app.state import SizeKnown
from exgs_viewer.errors import ExgsError
from exgs_viewer.settings import CompressionSettings, knob_range

FULL, AIM = 0.985, 0.995
"""Shares of the size: from which on a file fills it, and what is aimed at."""
MOST = 4
"""Retentions that are tried."""
LEAST = knob_range(CompressionSettings, "keep").low


@dataclass(frozen=True)
class Asked:
    """A size, and what should take as many bytes."""

    limit: int
    compression: CompressionSettings
    tries: int
    """Retentions that may still be tried."""


class Fitting:
    """Remembers what was asked for, until it fits or the sliders say something else."""

    def __init__(self, engine: Engine, notices: Notices):
        self._engine, self._notices = engine, notices
        self._asked: Asked | None = None

    def fit(self, limit: int, compression: CompressionSettings) -> CompressionSettings:
        """`compression` at the retention that should take at most `limit` bytes; as it is where nobody knows yet."""
        return self._fitted(limit, compression, MOST)

    def again(self, known: SizeKnown, compression: CompressionSettings) -> CompressionSettings:
        """The same once the exact size is known, which makes the estimate better; else `compression` as it is."""
        asked = self._asked
        if asked is None or not known.exact or compression != asked.compression:
            return compression
        self._asked = None
        full = known.bytes >= FULL * asked.limit or compression.keep == 1
        if asked.tries == 0 or (full and known.bytes <= asked.limit):
            return compression
        return self._fitted(asked.limit, compression, asked.tries)

    def _fitted(self, limit: int, compression: CompressionSettings, tries: int) -> CompressionSettings:
        share = self._engine.share_within(round(AIM * limit), compression)
        if share is None:
            self._notices.fail(
                ExgsError("How large the file will be is not known yet; wait until the scene is scored.")
            )
            return compression
        if share < LEAST:
            text = f"Not even {words.share(LEAST)} of the Gaussians may fit into {words.size(limit)}."
            self._notices.say(text, "bad")
        compression = replace(compression, keep=max(LEAST, float(f"{share:.4g}")))
        self._asked = Asked(limit, compression, tries - 1)
        return compression
