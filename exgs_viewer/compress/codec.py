"""How large the compressed file will be, for every position of the slider at once and without encoding it.

Encoding 1.5 million Gaussians takes seconds, a slider moves in milliseconds. But every coder sees little more than the
neighbourhood of each Gaussian, so runs of neighbours cost what they would cost in the whole file, and the bytes of one
change slowly with the share that is kept. So: take the survivors at a few shares, code some evenly spaced runs of them
exactly as the file would, and interpolate. What is encoded for real corrects the curve: first bare cuts in the
background, at some anchors and then wherever these tell badly what is between them; and finished files, where the
slider rests and, at leisure, at some retentions more: they are up to three per cent larger or smaller than bare cuts.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from exgs_viewer import __version__
from exgs_viewer.compress import merge, rounding, scores
from exgs_viewer.compress.amplify import networks_in_use
from exgs_viewer.compress.cache import key_of, recall, remember
from exgs_viewer.compress.rounding import COARSEST, FINEST, UNMOVED, Gaps, left_open, settled
from exgs_viewer.scene import compact, exgs, exgs_header, paper
from exgs_viewer.scene.camera import Camera
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.scene.compact_blocks import BLOCK, pack_block, pack_tiers
from exgs_viewer.scene.compact_blocks import spatial_order as key_order
from exgs_viewer.scene.exgs_forms import PROGRESSIVE, tier_counts
from exgs_viewer.scene.float16 import Frame, frame_around, position_codes, rows, spatial_order, to_codes, to_planes
from exgs_viewer.scene.streams import Plane, compress, in_threads
from exgs_viewer.settings import CompressionSettings, Report, quiet

SHARES = (0.01, 0.04, 0.15, 0.45, 1.0)
"""Shares of the cloud at which survivors are coded; between them bytes per Gaussian bend by less than 1 %."""
SAMPLE = 1 << 16
"""Gaussians coded at each share."""
RUN = 1 << 11
"""Neighbours in one run. The first half warms the coder up to the region, the second half is what counts."""
HEADER = 700
"""Bytes of a typical header with the metadata that the window writes."""
RUNS = 32
"""Evenly spaced runs of neighbours that stand for a tier of the compact form; together they fill one block, which has
to learn as much as a real one."""
PLAIN = 1 << 14
"""Gaussians that stand for all in the paper's form, where each costs the same."""
ANCHORS = (0.1, 0.03, 0.2, 0.05, 0.01, 0.07, 0.14, 0.02, 0.35, 0.025, 0.06, 0.04, 0.6, 0.8, 1.0)
"""Shares that are encoded in the background, the most likely ones first."""
ASTRAY = 0.003
"""Error between two anchors from which on both halves of the way are looked at as well."""
CLOSEST = 1.04
"""Anchors are at least so many times apart."""
FINISHED = (0.1, 0.03, 0.3, 0.01, 0.6, 1.0)
"""Shares that are finished in the background."""
ALIKE = 1.1
"""A finished file tells as much as one that keeps so many times more or less would."""
MOST_FINISHED = 10
"""Finished files that are enough in any case: each takes as long as compressing does."""
CACHE_FILES = 512
"""Sizes that are remembered: 150 bytes each."""
VERSION = "size-2"
"""Part of their cache key: other ways to polish must not find these."""
WORTH = 0.1
"""Share of the cloud that tells what precision is worth."""
OCTAVES = (COARSEST, 0.75, UNMOVED, FINEST)
"""How much coarser it is rounded for that."""
WORDS = "Estimating sizes"

Known = tuple[int, int, float]
"""SH degree, Gaussians, and how many times the bytes were that had been estimated."""
Worth = tuple[tuple[float, ...], tuple[float, ...]]
"""Bytes of precision (Fineness.bits) and what these take of a file, both rising."""


@dataclass(frozen=True)
class SizeModel:
    """Bytes of the encoded file as a function of how many Gaussians of a ranked cloud it keeps."""

    counts: tuple[int, ...]
    """Kept Gaussians at the sampled shares, rising."""
    rates: tuple[tuple[float, ...], ...]
    """For each SH degree its own share of the bytes per Gaussian (to be added up), at each of `counts`."""
    encoded: tuple[Known, ...] = ()
    """Bare cuts that have been encoded, against what the samples said."""
    finished: tuple[Known, ...] = ()
    """Finished files, against what samples and bare cuts said."""
    octave: float = 0.0
    """Bytes per Gaussian that doubling all sizes saves: the compact form places large Gaussians more coarsely."""
    rounding: tuple[int, CompressionSettings] | None = None
    """Gaussians of the whole cloud and how it is stored, where retention says how finely; the rates are without it."""
    gaps: Gaps | None = None
    """What the scene leaves for rounding (compress/rounding.py); None as long as that is not known."""
    worth: Worth = ((-1.0, 1.0), (-1.0, 1.0))
    """What each Gaussian's bytes of precision take where the gaps give or take some: the coarser, the less."""

    def bytes(self, count: int, sh_degree: int = 0, amplification: float = 1.0) -> int:
        """Size of a file with the first `count` Gaussians and SH up to `sh_degree` (or as far as the cloud has it)."""
        times = _times(self.finished, count, self.known_degree(sh_degree))
        return round(times * self._cut(count, sh_degree) - self._larger(count, amplification))

    def learned(self, count: int, sh_degree: int, size: int, amplification: float = 1.0) -> SizeModel:
        """The model that also knows how large the file of `count` Gaussians is."""
        times = (size + self._larger(count, amplification)) / self._cut(count, sh_degree)
        return replace(self, finished=_with(self.finished, (self.known_degree(sh_degree), count, times)))

    def anchored(self, count: int, sh_degree: int, size: int) -> SizeModel:
        """The model that also knows how large `count` Gaussians of a bare cut are."""
        times = size / self._sampled(count, sh_degree)
        return replace(self, encoded=_with(self.encoded, (self.known_degree(sh_degree), count, times)))

    def settled(self, gaps: Gaps | None) -> SizeModel:
        """The model of a scene whose gaps are known now; what was encoded before was encoded without."""
        return replace(self, gaps=gaps, encoded=(), finished=())

    def known_degree(self, sh_degree: int) -> int:
        """The highest degree that the cloud has of it."""
        return min(sh_degree, len(self.rates) - 1)

    def _finer(self, count: int) -> float:
        """Bytes per Gaussian that go into precision."""
        if self.rounding is None:
            return 0.0
        total, settings = self.rounding
        if self.gaps is None or not left_open(settings):
            return _precision(count, total, settings)
        middle = _precision(count, total, _unmoved(settings))
        return middle + float(np.interp(_precision(count, total, settings, self.gaps) - middle, *self.worth))

    def _sampled(self, count: int, sh_degree: int) -> float:
        """Bytes by the samples alone."""
        rate = sum(_interpolated(count, self.counts, rates) for rates in self.rates[: sh_degree + 1])
        return HEADER + count * (rate + self._finer(count))

    def _cut(self, count: int, sh_degree: int) -> float:
        """The same where cuts have been encoded."""
        return self._sampled(count, sh_degree) * _times(self.encoded, count, self.known_degree(sh_degree))

    def _larger(self, count: int, amplification: float) -> float:
        """Bytes that amplification saves."""
        return count * self.octave * math.log2(amplification)


def size_model(
    ranked: GaussianCloud, report: Report = quiet, settings: CompressionSettings = exgs.DEFAULT
) -> SizeModel:
    """Sample a cloud whose most important Gaussians come first, for the codec and quality of `settings`."""
    ranked = ranked.to("cpu")
    report(0.0, WORDS)
    frame = frame_around(ranked)
    order = spatial_order(position_codes(ranked, frame))
    counts = {max(1, round(share * len(ranked))) for share in SHARES}
    # Where files get a second tier, bytes jump.
    counts |= {count for count in (PROGRESSIVE - 1, PROGRESSIVE) if min(counts) < count < len(ranked)}
    counts, sampled = sorted(counts), []
    for number, count in enumerate(counts):
        share = partial(_tell, report, number / (len(counts) + 1), 1 / (len(counts) + 1))
        share(0.0, WORDS)
        if settings.codec == "float16":
            sampled.append(_rates(ranked, frame, order[order < count], share))
        elif settings.codec == "compact":
            sampled.append(_compact_rates(ranked, order[order < count], _unmoved(settings)))
        else:
            sampled.append(_paper_rates(ranked.take(slice(0, count))))
    if settings.codec != "compact":
        return SizeModel(tuple(counts), tuple(zip(*sampled, strict=True)))
    total = len(ranked)
    sampled = [
        (base - _precision(count, total, _unmoved(settings)), *more)
        for count, (base, *more) in zip(counts, sampled, strict=True)
    ]
    model = SizeModel(tuple(counts), tuple(zip(*sampled, strict=True)), octave=3 / 8, rounding=(total, settings))
    report(len(counts) / (len(counts) + 1), WORDS)
    return replace(model, worth=_worth(ranked, order, settings)) if left_open(settings) else model


def anchored(
    model: SizeModel,
    size_at: Callable[[int, Report], int],
    counts: Sequence[int],
    sh_degree: int,
    report: Report = quiet,
) -> SizeModel:
    """The model corrected at each of `counts`, then between them wherever it is ASTRAY there.

    `size_at` encodes so many Gaussians, a prefix of the ranked cloud or what merging makes of all of them, just as
    they would be saved: in a small file the metadata count.
    """
    for number, count in enumerate(counts):
        share = partial(_tell, report, number / len(counts) / 2, 0.5 / len(counts))
        model = model.anchored(count, sh_degree, size_at(count, share))
    ways, looked, done = list(pairwise(sorted(counts))), 0, 0.0
    while ways:
        low, high = ways.pop(0)
        if high / low < CLOSEST**2:
            continue
        middle, looked = round(math.sqrt(low * high)), looked + 1
        done = max(done, looked / (looked + len(ways) + 1))
        said, size = model.bytes(middle, sh_degree), size_at(middle, partial(_tell, report, 0.5 + done / 2, 0.0))
        model = model.anchored(middle, sh_degree, size)
        if abs(said / size - 1) > ASTRAY:
            ways += [(low, middle), (middle, high)]
    return model


def anchor_counts(total: int) -> tuple[int, ...]:
    """The counts at which a cloud of `total` Gaussians is worth encoding for `anchored`, most useful first."""
    return tuple(dict.fromkeys(max(1, round(share * total)) for share in ANCHORS))


def unfinished(model: SizeModel, total: int, sh_degree: int) -> float | None:
    """The share of `total` Gaussians whose finished file would tell most of what is not known; None if that is enough.

    First those of FINISHED, then the middle of the way from a finished file that is ASTRAY of its neighbours to one of
    them; the longer way and the file that is farther astray come first.
    """
    known = _of_degree(model.finished, model.known_degree(sh_degree))
    for share in FINISHED:
        if not any(1 / ALIKE < share * total / n < ALIKE for n, _ in known):
            return share
    if len(known) >= MOST_FINISHED:
        return None
    ways = []
    for low, (middle, times), high in zip(known, known[1:], known[2:], strict=False):
        astray = abs(times / _interpolated(middle, *zip(low, high, strict=True)) - 1)
        for few, many in pairwise((low[0], middle, high[0])):
            if astray > ASTRAY and many / few > ALIKE**3:
                ways.append((astray * math.log(many / few), few, many))
    if not ways:
        return None
    _, few, many = max(ways)
    return float(f"{math.sqrt(few * many) / total:.3g}")


def cached_size(
    cloud: GaussianCloud, cameras: Sequence[Camera], settings: CompressionSettings, measure: Callable[[], int]
) -> int:
    """Bytes of a finished file, which `measure` finds by compressing: remembered, since that takes long."""
    versions = (__version__, VERSION, scores.VERSION, merge.VERSION, rounding.VERSION, exgs_header.VERSION)
    if settings.amplify == "adaptive":
        versions += (networks_in_use(),)
    key = key_of(cloud, cameras, scores.SCORING_SIZE, f"{versions} {settings}", settings.sh_degree)
    remembered = recall("sizes", key, 1)
    if remembered is None:
        remembered = [np.int64(measure())]
        remember("sizes", key, remembered, CACHE_FILES)
    return int(remembered[0])


def _precision(count: int, total: int, settings: CompressionSettings, gaps: Gaps | None = None) -> float:
    """Bytes per Gaussian that precision takes where `count` of `total` are kept, up to a constant."""
    return compact.fineness_for(settled(replace(settings, keep=count / total), gaps)).bits / 8


def _unmoved(settings: CompressionSettings) -> CompressionSettings:
    """The settings as a scene would have them whose gaps are as they should be, where they are left to the scene."""
    return replace(settings, coarser=UNMOVED) if left_open(settings) else settings


def _worth(ranked: GaussianCloud, order: NDArray[np.int64], settings: CompressionSettings) -> Worth:
    """SizeModel.worth, told from Gaussians that are rounded in several ways."""
    count, flat = max(1, round(WORTH * len(ranked))), ranked.with_sh_degree(0)
    ways = [replace(settings, coarser=octaves) for octaves in OCTAVES]
    precise = [_precision(count, len(ranked), way) for way in ways]
    coded = [_compact_rates(flat, order[order < count], way)[0] for way in ways]
    usual = OCTAVES.index(UNMOVED)
    return tuple(each - precise[usual] for each in precise), tuple(each - coded[usual] for each in coded)


def _compact_rates(
    ranked: GaussianCloud, survivors: NDArray[np.int64], settings: CompressionSettings
) -> tuple[float, ...]:
    """Bytes per Gaussian that each SH degree adds in the compact form, for survivors in their order in space."""
    count = len(survivors)
    settings = replace(settings, keep=count / len(ranked))
    form = compact.form_for(ranked.take(slice(0, count, -(-count // (1 << 17)))), settings)
    costs, first = np.zeros(ranked.sh_degree + 1), 0
    for size in tier_counts(count, settings):
        chosen = _spaced(survivors[(survivors >= first) & (survivors < first + size)])
        numbers = compact.to_numbers(ranked.take(torch.from_numpy(chosen)), form)
        ordered = numbers.take(key_order(numbers))
        # All of them are cut into blocks as in the file; runs of more than these stand for a block of it.
        payloads = pack_tiers([ordered], form, quiet)[0] if len(chosen) == size else pack_block(ordered, form)
        costs += [len(payload) * size / len(chosen) for payload in payloads]
        first += size
    return tuple(float(cost) for cost in costs / count)


def _spaced(members: NDArray[np.int64]) -> NDArray[np.int64]:
    """RUNS evenly spaced runs that fill one block, or all members where they are not more."""
    if len(members) <= BLOCK:
        return members
    starts = np.linspace(0, len(members) - BLOCK // RUNS, RUNS).astype(np.int64)
    return members[(starts[:, None] + np.arange(BLOCK // RUNS)).ravel()]


def _paper_rates(kept: GaussianCloud) -> tuple[float, ...]:
    """The same for the paper's form."""
    some = kept.take(slice(0, len(kept), -(-len(kept) // PLAIN)))
    sizes = [len(paper.pack(paper.to_rows(some.with_sh_degree(degree)))) for degree in range(kept.sh_degree + 1)]
    return tuple(after / len(some) - before / len(some) for before, after in pairwise([0, *sizes]))


def _rates(ranked: GaussianCloud, frame: Frame, survivors: NDArray[np.int64], report: Report) -> tuple[float, ...]:
    """Bytes per Gaussian that each SH degree adds, for survivors in their order in space."""
    runs = _runs(survivors)
    planes = to_planes(to_codes(ranked.take(torch.from_numpy(runs.ravel())), frame))
    first = rows(0)
    # The three channels of a coefficient cost the same within 1 %, so one of them, taken in turn, stands for all.
    chosen = [*range(first), *(first + 3 * number + number % 3 for number in range((len(planes) // 2 - first) // 3))]
    costs = _costs([planes[2 * row + half] for row in chosen for half in (0, 1)], runs.shape, report)
    by_row = [costs[2 * place] + costs[2 * place + 1] for place in range(len(chosen))]
    ends = [first - 1 + count for count in SH_COUNTS[: ranked.sh_degree + 1]]
    return (sum(by_row[:first]), *(3 * sum(by_row[start:end]) for start, end in pairwise(ends)))


def _runs(survivors: NDArray[np.int64]) -> NDArray[np.int64]:
    """[runs, 1 + RUN] evenly spaced runs of about SAMPLE survivors, or [1, M] all of them where they are not more.

    The first of each run only serves to take differences from, as in the whole file.
    """
    if len(survivors) <= SAMPLE + 1:
        return survivors[None]
    starts = np.linspace(0, len(survivors) - RUN - 1, SAMPLE // RUN).astype(np.int64)
    return survivors[starts[:, None] + np.arange(RUN + 1)]


def _costs(planes: Sequence[Plane], shape: tuple[int, int], report: Report) -> list[float]:
    """Bytes per Gaussian of each byte plane of runs of this shape."""
    if shape[0] == 1:
        return [len(data) / shape[1] for _, data in in_threads(compress, planes, report)]
    kept = [plane.reshape(shape)[:, 1:] for plane in planes]
    parts = [part.ravel() for plane in kept for part in (plane, plane[:, : RUN // 2])]
    sizes = [len(data) for _, data in in_threads(compress, parts, report)]
    # What the second halves add, per Gaussian: the first halves have paid for getting to know each region.
    second_halves = kept[0].size / 2
    return [min((whole - half) / second_halves, 1.0) for whole, half in zip(sizes[0::2], sizes[1::2], strict=True)]


def _times(known: Sequence[Known], count: int, sh_degree: int) -> float:
    """By how much to correct what is said of `count`."""
    points = _of_degree(known, sh_degree)
    return _interpolated(count, *zip(*points, strict=True)) if points else 1.0


def _of_degree(known: Sequence[Known], sh_degree: int) -> list[tuple[int, float]]:
    """Gaussians and times of those of an SH degree, in their order."""
    return [(n, times) for degree, n, times in known if degree == sh_degree]


def _with(known: Sequence[Known], new: Known) -> tuple[Known, ...]:
    """In order, with what is new instead of what was there of the same degree and count."""
    return tuple(sorted([*(each for each in known if each[:2] != new[:2]), new]))


def _interpolated(count: int, counts: Sequence[int], values: Sequence[float]) -> float:
    """The value at `count`, linear in the logarithm between neighbours and constant outside."""
    right = bisect(counts, count)
    if right in (0, len(counts)):
        return values[min(right, len(counts) - 1)]
    low, high = math.log(counts[right - 1]), math.log(counts[right])
    share = (math.log(count) - low) / (high - low)
    return (1 - share) * values[right - 1] + share * values[right]


def _tell(report: Report, start: float, length: float, fraction: float, _: str) -> None:
    report(start + length * fraction, WORDS)
