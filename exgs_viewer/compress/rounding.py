"""How coarsely a scene's numbers are rounded: its own pictures say how much of the error merging has made already.

Finer numbers and further Gaussians bring the same for a byte where rounding errs some 6 dB less than merging does.
With the numbers of compact.FINENESS alone it errs 7 dB less in one scene and 19 in another, whose file then is a
quarter larger than need be. So the gap between the two errors is measured once for each scene, on two bare cuts
through its tree: from the one to the other it falls by 3 dB in one scene and by 6 in another. The constants were found
on scenes that nothing is measured on: flowers, playbot, the demo and four made rooms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

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
"""How the cuts are rounded that the gap is measured on."""
FEW, MANY = 0.1, 0.3
"""Retentions of these cuts."""
VIEWS = 6
"""Scoring views that it is measured from."""
LEAST = 10
"""Gaussians of a cut below which nothing is measured."""
RIGHT = (8.7, 5.5)
"""Gaps that are as they should be: polishing takes some dB off the error of merging later, and the more are kept the
more a byte brings that goes into further Gaussians."""
REFINED = 1.5
"""dB that refining takes off the error of merging besides."""
OCTAVE = 5.2
"""dB by which an octave of coarser rounding errs more."""
FINEST, COARSEST = -1.5, 1.5
"""Octaves between which rounding follows the scene. The finest errs by some 52 dB, which nobody sees; rooms made of far
more Gaussians than they need would pay for still less."""
UNMOVED = 0.01
"""Octaves of a scene whose gap is as it should be: 0 would say that nobody has asked."""
CACHE_FILES = 64
"""Scenes whose gaps are remembered: 170 bytes each."""
VERSION = "gap-4"
"""Part of the cache key."""
WORDS = "Looking at what rounding costs"

Gaps = tuple[float, float]
"""dB by which rounding errs less than merging where FEW and where MANY of the Gaussians are left."""


def gaps(
    cloud: GaussianCloud,
    fold: Callable[[CompressionSettings], GaussianCloud],
    cameras: Sequence[Camera],
    renderer: Renderer,
    report: Report = quiet,
) -> Gaps | None:
    """By how much rounding errs less in pictures than merging `cloud`, which `fold` does.

    None where that cannot be told: where next to nothing is left, or either of them changes nothing.
    """
    chosen, found = evenly(cameras, VIEWS), []
    report(0.0, WORDS)
    uncut = [_picture(cloud, camera, renderer) for camera in chosen]
    for number, keep in enumerate((FEW, MANY), 1):
        report(number / 3, WORDS)
        found.append(gap(uncut, fold(replace(MEASURED, keep=keep)), chosen, renderer))
    return None if None in found else tuple(found)


def gap(uncut: Sequence[Tensor], folded: GaussianCloud, cameras: Sequence[Camera], renderer: Renderer) -> float | None:
    """The same for one cut, `folded`; `uncut` [views, H, W, 3] are the pictures of the scene from `cameras`."""
    if len(folded) < LEAST:
        return None
    rounded, by_merging, by_rounding = stored(folded, MEASURED), 0.0, 0.0
    for picture, camera in zip(uncut, cameras, strict=True):
        exact, coarse = (_picture(each, camera, renderer) for each in (folded, rounded))
        by_merging += float((picture - exact).square().mean())
        by_rounding += float((exact - coarse).square().mean())
    return 10 * math.log10(by_merging / by_rounding) if by_merging > 0 and by_rounding > 0 else None


def _picture(cloud: GaussianCloud, camera: Camera, renderer: Renderer) -> Tensor:
    return renderer.render(cloud, camera, scores.SCORING_SIZE, RenderSettings(sh_degree=0)).color


def cached_gaps(cloud: GaussianCloud, cameras: Sequence[Camera], measure: Callable[[], Gaps | None]) -> Gaps | None:
    """What `measure` finds of a scene, remembered beside its tree under the cloud's content and the cameras."""
    version = f"{scores.VERSION} {merge.VERSION} {VERSION} {fineness_for(MEASURED)}"
    key = key_of(cloud, cameras, scores.SCORING_SIZE, version)
    remembered = recall("gaps", key, 2)
    if remembered is None:
        remembered = [np.float64(each) for each in measure() or (math.nan, math.nan)]
        remember("gaps", key, remembered, CACHE_FILES)
    found = tuple(float(each) for each in remembered)
    return None if math.isnan(sum(found)) else found


def octaves(gaps: Gaps, keep: float, refined: bool = False) -> float:
    """By how much coarser than usual a scene of these gaps is rounded at a retention, refined at the end or not."""
    share = min(max(math.log(keep / FEW) / math.log(MANY / FEW), 0.0), 1.0)
    few, many = (there - right - REFINED * refined for there, right in zip(gaps, RIGHT, strict=True))
    return round(min(max(((1 - share) * few + share * many) / OCTAVE, FINEST), COARSEST), 2)


def left_open(settings: CompressionSettings) -> bool:
    """Whether the scene is to say how coarsely it is rounded."""
    chosen = (settings.reduction, settings.codec, settings.quality, settings.coarser)
    return chosen == ("merge", "compact", "auto", 0.0)


def settled(settings: CompressionSettings, gaps: Gaps | None) -> CompressionSettings:
    """The settings with `coarser` filled in where that is left to the scene and its gaps are known."""
    if gaps is None or not left_open(settings):
        return settings
    return replace(settings, coarser=octaves(gaps, settings.keep, settings.refine) or UNMOVED)
