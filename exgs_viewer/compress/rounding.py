"""How coarsely a scene's numbers are rounded: its own pictures say how much of the error merging has made already.

Finer numbers and further Gaussians bring the same for a byte where rounding errs some 6 dB less than merging does.
With the numbers of compact.FINENESS alone it errs 7 dB less in one scene and 14 in another, whose file then is a
quarter larger than need be. So the gap between the two errors is measured once for each scene, on a bare cut through
its tree. The constants were found on scenes that nothing is measured on: flowers, playbot and the demo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from exgs_viewer.compress import merge, scores
from exgs_viewer.compress.cache import key_of, recall, remember
from exgs_viewer.compress.polish import evenly
from exgs_viewer.render import Renderer
from exgs_viewer.scene.camera import Camera
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.compact import fineness_for
from exgs_viewer.scene.exgs import stored
from exgs_viewer.settings import CompressionSettings, RenderSettings, Report, quiet

MEASURED = CompressionSettings(keep=0.1)
"""The cut that the gap is measured on."""
VIEWS = 6
"""Scoring views that it is measured from."""
LEAST = 10
"""Gaussians of that cut below which nothing is measured."""
RIGHT = 10.0
"""dB of a gap that is as it should be: polishing takes about 3.5 dB off the error of merging later."""
OCTAVE = 5.2
"""dB by which an octave of coarser rounding errs more."""
DOUBLING = 2.0
"""dB that the gap loses with every doubling of the retention, since merging errs less."""
FINEST, COARSEST = -1.25, 1.5
"""Octaves between which rounding follows the scene. The finest errs by some 51 dB, which nobody sees; rooms made of far
more Gaussians than they need would pay for still less."""
UNMOVED = 0.01
"""Octaves of a scene whose gap is as it should be: 0 would say that nobody has asked."""
CACHE_FILES = 64
"""Scenes whose gaps are remembered: 160 bytes each."""
VERSION = "gap-1"
"""Part of the cache key."""


def gap(
    cloud: GaussianCloud,
    folded: GaussianCloud,
    cameras: Sequence[Camera],
    renderer: Renderer,
    report: Report = quiet,
) -> float | None:
    """dB by which rounding `folded`, the cut of MEASURED, errs less in pictures than merging `cloud` into it has.

    None where that cannot be told: where next to nothing is left, or either of them changes nothing.
    """
    if len(folded) < LEAST:
        return None
    rounded, chosen = stored(folded, MEASURED), evenly(cameras, VIEWS)
    by_merging = by_rounding = 0.0
    for number, camera in enumerate(chosen):
        report(number / len(chosen), "Looking at what rounding costs")
        uncut, exact, coarse = (
            renderer.render(each, camera, scores.SCORING_SIZE, RenderSettings(sh_degree=0)).color
            for each in (cloud, folded, rounded)
        )
        by_merging += float((uncut - exact).square().mean())
        by_rounding += float((exact - coarse).square().mean())
    return 10 * math.log10(by_merging / by_rounding) if by_merging > 0 and by_rounding > 0 else None


def cached_gap(cloud: GaussianCloud, cameras: Sequence[Camera], measure: Callable[[], float | None]) -> float | None:
    """What `measure` finds of a scene, remembered beside its tree under the cloud's content and the cameras."""
    version = f"{scores.VERSION} {merge.VERSION} {VERSION} {fineness_for(MEASURED)}"
    key = key_of(cloud, cameras, scores.SCORING_SIZE, version)
    remembered = recall("gaps", key, 1)
    if remembered is None:
        remembered = [np.float64(math.nan if (found := measure()) is None else found)]
        remember("gaps", key, remembered, CACHE_FILES)
    return None if math.isnan(remembered[0]) else float(remembered[0])


def octaves(gap: float, keep: float) -> float:
    """By how much coarser than usual a scene of this gap is rounded at a retention."""
    there = gap - DOUBLING * math.log2(keep / MEASURED.keep)
    return round(min(max((there - RIGHT) / OCTAVE, FINEST), COARSEST), 2)


def left_open(settings: CompressionSettings) -> bool:
    """Whether the scene is to say how coarsely it is rounded."""
    chosen = (settings.reduction, settings.codec, settings.quality, settings.coarser)
    return chosen == ("merge", "compact", "auto", 0.0)


def settled(settings: CompressionSettings, gap: float | None) -> CompressionSettings:
    """The settings with `coarser` filled in where that is left to the scene and its gap is known."""
    if gap is None or not left_open(settings):
        return settings
    return replace(settings, coarser=octaves(gap, settings.keep) or UNMOVED)
