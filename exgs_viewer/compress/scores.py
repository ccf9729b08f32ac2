"""cloud + cameras -> significance [N]: how much each Gaussian matters to what visitors see (ExGS 4.1, eq. 7 and 8).

One look at the scene gives every measure that scores, merging and calibration need, so that is what is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from exgs_viewer.compress.cache import key_of, recall, remember
from exgs_viewer.render import Album, Renderer, Significance
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import Report, quiet

Score = Literal["hits", "weight", "lightgs"]
SCORING_SIZE: Size = (480, 360)
"""Pictures that are counted, pixels: the size at which compression.md measured eq. 7. At 360 x 270 a tenth of `whale`
loses 1.2 dB, and a seventh of the time is saved."""
CACHE_FILES = 16
"""Scenes whose measures are remembered: 20 bytes a Gaussian each."""
VERSION = "measures-2"
"""Part of the cache key: other measures or another size must not find these."""
NAMES = tuple(field.name for field in fields(Significance))


def measure(
    cloud: GaussianCloud,
    renderer: Renderer,
    cameras: Sequence[Camera],
    report: Report = quiet,
    album: Album | None = None,
) -> Significance:
    """What the cameras see of each Gaussian, on the CPU; `album` is filled in passing (Renderer.significance)."""
    seen = renderer.significance(cloud, cameras, SCORING_SIZE, report, album)
    report(1.0, "scored")
    return Significance(*(getattr(seen, name).cpu() for name in NAMES))


def cached_measure(
    cloud: GaussianCloud,
    renderer: Renderer,
    cameras: Sequence[Camera],
    report: Report = quiet,
    album: Album | None = None,
) -> Significance:
    """The same as `measure`, remembered beside the user's settings under the cloud's content and the cameras.

    What is remembered fills no album.
    """
    key = key_of(cloud, cameras, SCORING_SIZE, VERSION)
    remembered = recall("scores", key, len(NAMES))
    if remembered is not None and all(_usable(values, len(cloud)) for values in remembered):
        return Significance(*map(torch.from_numpy, remembered))
    seen = measure(cloud, renderer, cameras, report, album)
    remember("scores", key, [getattr(seen, name).numpy() for name in NAMES], CACHE_FILES)
    return seen


def score(cloud: GaussianCloud, seen: Significance, kind: Score = "hits") -> Tensor:
    """Global significance [N] float32 >= 0.

    hits: sum over the pixels hit of opacity * transmittance (ExGS eq. 7). weight: sum of blending weights (the
    importance of Mini-Splatting). lightgs: LightGaussian's own, pixels hit * opacity * (volume / V90)^0.1, with V90 the
    volume that 90 % of the Gaussians exceed.

    What no camera saw is ordered by opacity and size, below everything that was seen.
    """
    values = {"hits": seen.hits, "weight": seen.weight, "lightgs": seen.pixels}[kind]
    if kind == "lightgs":
        volume = cloud.scales.double().prod(1).cpu()
        usual = volume.sort(descending=True).values[int(0.9 * len(cloud))].clamp_min(1e-300)
        values = (values * cloud.opacities.cpu() * (volume / usual) ** 0.1).float()
    return _with_unseen(values, cloud)


def _with_unseen(values: Tensor, cloud: GaussianCloud) -> Tensor:
    unseen = values <= 0
    if not unseen.any() or unseen.all():
        return values if not unseen.all() else _size(cloud)
    size = _size(cloud)[unseen]
    least = values[~unseen].min()
    result = values.clone()
    result[unseen] = 0.5 * least * size / size.max().clamp_min(1e-30)
    return result


def _size(cloud: GaussianCloud) -> Tensor:
    """Opacity times mean radius [N]: all that is known of a Gaussian nobody saw."""
    return (cloud.opacities * cloud.scales.log().mean(1).exp()).cpu()


def _usable(values: np.ndarray, n: int) -> bool:
    return values.shape == (n,) and values.dtype == np.float32 and bool(np.isfinite(values).all())
