"""A cloud <-> the tiers of an .exgs file, in each of the three forms of storage (settings.CompressionSettings.codec).

What decoding will yield is known without decoding, because it depends on rounding alone: `rounded` and `as_rounded`
say it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import compact, compact_blocks, float16, paper
from exgs_viewer.scene.cloud import GaussianCloud, join
from exgs_viewer.scene.exgs_header import CODECS, COMPACT, FLOAT16, MAX_RATIO, Header, Tier
from exgs_viewer.scene.streams import pack, unpack
from exgs_viewer.settings import CompressionSettings, Report, quiet

PROGRESSIVE = 1 << 16
"""Gaussians from which on a compact file shows a first part of them while the rest is still on its way."""
FIRST_PART = 16
"""That part is one in so many: a file of two tiers is about 0.7 % larger than one of a single tier."""

Payload = tuple[Tier, memoryview]
"""A tier that has arrived whole."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """A cloud as a form of storage rounds it, tier by tier in the order of the file."""

    header: Header
    """Without tiers and metadata."""
    parts: list
    """What the coder of the form codes, one for each tier."""

    def cloud(self) -> GaussianCloud:
        """What decoding the file yields."""
        return join([_part_cloud(part, self.header) for part in self.parts])


def tier_counts(count: int, settings: CompressionSettings) -> tuple[int, ...]:
    """How many Gaussians each tier gets where the caller does not say."""
    if settings.codec != "compact" or count < PROGRESSIVE:
        return (count,)
    return (count // FIRST_PART, count - count // FIRST_PART)


def rounded(cloud: GaussianCloud, settings: CompressionSettings, counts: Sequence[int]) -> Rounded:
    """Everything but the coding."""
    header, numbers = _numbers(cloud, settings)
    tiers = [slice(start, end) for start, end in pairwise([0, *accumulate(counts)])]
    if header.codec == COMPACT:
        parts = [numbers.take(tier) for tier in tiers]
        parts = [part.take(compact_blocks.spatial_order(part)) for part in parts]
    elif header.codec == FLOAT16:
        parts = [numbers[:, tier] for tier in tiers]
        parts = [part[:, float16.spatial_order(part)] for part in parts]
    else:
        parts = [numbers[tier] for tier in tiers]
    return Rounded(header, parts)


def as_rounded(cloud: GaussianCloud, settings: CompressionSettings) -> GaussianCloud:
    """What decoding yields of each Gaussian, in the order of the cloud and not in that of a file."""
    header, numbers = _numbers(cloud, settings)
    return _part_cloud(numbers, header)


def coded(rounding: Rounded, report: Report = quiet) -> list[tuple[Tier, bytes]]:
    """The tiers of the file: all Gaussians first, then what each SH degree adds in the compact form."""
    header, parts = rounding.header, rounding.parts
    if header.codec == COMPACT:
        payloads = compact_blocks.pack_tiers(parts, compact.Form(header.frame, *header.form), report)
        counts = [len(part.keys) for part in parts]
        return [
            (Tier(count, len(data[kind]), 0, zlib.crc32(data[kind]), kind), data[kind])
            for kind in range(header.sh_degree + 1)
            for count, data in zip(counts, payloads, strict=True)
        ]
    found, start = [], 0
    for part in parts:
        count = part.size // float16.rows(header.sh_degree)
        share = portion(report, start / header.gaussians, (start + count) / header.gaussians)
        start += count
        data = _float16_payload(part, share) if header.codec == FLOAT16 else paper.pack(part)
        found.append((Tier(count, len(data), part.size * 2, zlib.crc32(data)), data))
    return found


def load(header: Header, payloads: Sequence[Payload], report: Report = quiet) -> GaussianCloud:
    """The cloud in the tiers that have arrived, the first of which holds Gaussians.

    Raises SceneError without naming the file where they are damaged.
    """
    if header.codec == COMPACT:
        return _load_compact(header, payloads, report)
    clouds = []
    for number, (tier, data) in enumerate(payloads):
        share = portion(report, number / len(payloads), (number + 1) / len(payloads))
        if tier.kind == 0 and header.codec == FLOAT16:
            planes = unpack(data, [tier.count] * (2 * float16.rows(header.sh_degree)), share)
            clouds.append(_part_cloud(float16.from_planes(planes), header))
        elif tier.kind == 0:
            clouds.append(_part_cloud(paper.unpack(data, tier.count, header.sh_degree), header))
    return join(clouds)


def portion(report: Report, low: float, high: float, text: str = "") -> Report:
    """A Report for a step that takes the share [low, high] of `report`; `text` is said where the step is silent."""
    return lambda fraction, words: report(low + (high - low) * fraction, words or text)


def _numbers(cloud: GaussianCloud, settings: CompressionSettings) -> tuple[Header, Any]:
    """The header, without tiers and metadata, and the rounded numbers of all Gaussians in their own order."""
    cloud = cloud.to("cpu")
    codec, stored = CODECS.index(settings.codec), ()
    if codec == COMPACT:
        form = compact.form_for(cloud, settings)
        frame, stored, numbers = form.frame, form.stored, compact.to_numbers(cloud, form)
    elif codec == FLOAT16:
        frame = float16.frame_around(cloud)
        numbers = float16.to_codes(cloud, frame)
    else:
        frame, numbers = paper.AS_IT_IS, paper.to_rows(cloud)
    return Header(len(cloud), cloud.sh_degree, frame, (), {}, codec, stored), numbers


def _part_cloud(part, header: Header) -> GaussianCloud:
    if header.codec == COMPACT:
        return compact.to_cloud(part, compact.Form(header.frame, *header.form))
    return float16.to_cloud(part, header.frame) if header.codec == FLOAT16 else paper.to_cloud(part)


def _float16_payload(codes: float16.Codes, report: Report) -> bytes:
    planes = float16.to_planes(codes)
    payload = pack(planes, report)
    # A tier smaller than the decoder's bound allows (thousands of equal Gaussians) is stored raw, which always fits.
    return pack(planes, report, raw=True) if codes.size * 2 > MAX_RATIO * len(payload) else payload


def _load_compact(header: Header, payloads: Sequence[Payload], report: Report) -> GaussianCloud:
    form = compact.Form(header.frame, *header.form)
    if not form.sound:
        raise SceneError("its header is damaged: it asks for roundings that no writer makes")
    kinds = [[payload for payload in payloads if payload[0].kind == kind] for kind in range(header.sh_degree + 1)]
    tiers = []
    for number, (tier, data) in enumerate(kinds[0]):
        parts = [data]
        for higher in kinds[1:]:
            if number >= len(higher):
                break
            if higher[number][0].count != tier.count:
                raise SceneError("its header is damaged: the tiers of its colours do not fit those of its Gaussians")
            parts.append(higher[number][1])
        tiers.append((tier.count, parts))
    return join(compact_blocks.unpack_tiers(tiers, form, report))
