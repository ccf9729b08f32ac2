"""One CUDA graph for each size of picture: a whole pass of a painter launched at once instead of kernel by kernel.

A graph replays what was recorded, with the same memory: pictures are copied in and out. The renderer's thread and those
of restoring and saving may ask at the same time, each on a stream of its own, so they take turns.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from exgs_viewer.restore.painter import Frames, Painter

KEPT = 3
"""Sizes whose graphs are kept: window, tile and screenshot; each holds the memory of a pass."""
WARM_UP = 3
"""Passes before recording, in which cuDNN looks for the quickest kernels; that cannot be recorded."""

Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]
"""From a function that computes to the tensor that it fills and a function that fills it again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Recorded:
    """A pass over one size of picture."""

    given: Frames
    """What it reads, to be overwritten."""
    decoded: Tensor
    """[B, C, H, W]. What it writes, overwritten by each replay."""
    replay: Callable[[], None]


def record(compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Record what `compute` asks of the GPU. Other threads may use the GPU meanwhile, on streams of their own."""
    stream, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(stream)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            compute()
    stream.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        filled = compute()
    return filled, graph.replay


class Graphs:
    """The recorded passes of one painter, whose weights must not change any more."""

    def __init__(self, painter: Painter, record: Record = record) -> None:
        self._painter, self._record = painter, record
        self._known: OrderedDict[tuple, Recorded] = OrderedDict()
        self._turn = threading.Lock()
        self._last: torch.cuda.Event | None = None
        self._refused = False

    def decoded(self, frames: Frames) -> Tensor:
        """What the decoder says of a batch, [B, C, H, W]; the caller's own. Out of memory, it raises and lets go."""
        if self._refused:
            return decoded(self._painter, frames)
        with self._turn:
            if self._last is not None:
                torch.cuda.current_stream().wait_event(self._last)
            try:
                found = self._replayed(frames)
            except torch.OutOfMemoryError:
                self._known.clear()
                raise
            except RuntimeError as error:
                # What diffusers or a driver does not let be recorded can still be computed.
                self._known.clear()
                self._refused = True
                _log.warning("No CUDA graph of the painter can be recorded, so it works more slowly: %s", error)
                return decoded(self._painter, frames)
            if found.is_cuda:
                self._last = torch.cuda.current_stream().record_event()
            return found

    def _replayed(self, frames: Frames) -> Tensor:
        known = self._of(frames)
        for field in fields(Frames):
            getattr(known.given, field.name).copy_(getattr(frames, field.name))
        known.replay()
        return known.decoded.clone()

    def _of(self, frames: Frames) -> Recorded:
        """The pass for pictures of this size, recorded when it is first asked for."""
        size = tuple(frames.color.shape)
        if size in self._known:
            self._known.move_to_end(size)
            return self._known[size]
        while len(self._known) >= KEPT:
            self._known.popitem(last=False)
        given = Frames(*(getattr(frames, field.name).clone() for field in fields(Frames)))
        filled, replay = self._record(lambda: decoded(self._painter, given))
        self._known[size] = Recorded(given, filled, replay)
        return self._known[size]


def decoded(painter: Painter, frames: Frames) -> Tensor:
    """What the decoder says of a batch, [B, C, H, W], in one go."""
    latent, skips = painter.encode(frames)
    return painter.decode(painter.denoise(latent, frames), skips)
