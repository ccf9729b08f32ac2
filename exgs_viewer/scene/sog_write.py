"""Writes the .sog of PlayCanvas, version 2: a zip of lossless WebPs and the meta.json that says what their bytes mean.

The counterpart of `sog_tables`: 16-bit logarithmic places, 8-bit smallest-three rotations, codebooks of 256 numbers
for scales and colours, and a palette of at most 65,536 entries for higher spherical harmonics.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exgs_viewer.images import encode_webp
from exgs_viewer.scene import Scene
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.codebook import codebook, nearest, palette
from exgs_viewer.scene.float16 import frame_around, position_codes, spatial_order
from exgs_viewer.scene.losses import no_cameras, no_up
from exgs_viewer.scene.rotations import smallest_three
from exgs_viewer.scene.sog_tables import PER_ROW
from exgs_viewer.settings import Report, quiet, write_atomically

MAX_PALETTE = 1 << 16
"""Labels have 16 bits."""
FIRST_TAG = 252
"""The fourth byte of a rotation is this for w, and counts up for x, y, z."""

Pictures = dict[str, np.ndarray]
"""File name -> [pixels, 4] uint8, still in a row."""


def write(path: Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet) -> int:
    """Write a bundled .sog, neighbours in space together; returns its bytes. It keeps `meta["antialias"]`."""
    path, cloud = Path(path), cloud.to("cpu")
    report(0.0, f"Writing {path.name}")
    cloud = cloud.take(torch.from_numpy(spatial_order(position_codes(cloud, frame_around(cloud)))))
    described: dict[str, Any] = {"version": 2, "asset": {"generator": "exgs_viewer"}, "count": len(cloud)}
    if (meta or {}).get("antialias"):
        described["antialias"] = True
    pictures: Pictures = {}
    for role, table in (("means", _means), ("scales", _scales), ("quats", _quats), ("sh0", _colours)):
        described[role] = table(cloud, pictures)
    if cloud.sh_degree:
        described["shN"] = _harmonics(cloud, pictures, lambda share, words: report(0.05 + 0.6 * share, words))
    write_atomically(path, _bundled(described, pictures, lambda share, words: report(0.65 + 0.35 * share, words)))
    return path.stat().st_size


def losses(scene: Scene) -> list[str]:
    """A sentence for each thing of the scene that has no place in this format."""
    return [*no_cameras(scene), *no_up(scene)]


def _means(cloud: GaussianCloud, pictures: Pictures) -> dict[str, Any]:
    """Even steps of sign(x) ln(1 + |x|), high and low bytes in a picture each."""
    means = cloud.means.double().numpy()
    logs = np.sign(means) * np.log1p(np.abs(means))  # [N, 3]
    low, high = logs.min(axis=0), logs.max(axis=0)
    codes = np.rint((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    pictures["means_l.webp"], pictures["means_u.webp"] = _opaque(codes & 255), _opaque(codes >> 8)
    return {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]}


def _scales(cloud: GaussianCloud, pictures: Pictures) -> dict[str, Any]:
    logs = cloud.scales.log().numpy()
    entries = codebook(logs)
    pictures["scales.webp"] = _opaque(nearest(entries, logs))
    return {"codebook": _numbers(entries), "files": ["scales.webp"]}


def _quats(cloud: GaussianCloud, pictures: Pictures) -> dict[str, Any]:
    which, others = smallest_three(cloud.quats.numpy())
    steps = np.rint((others * math.sqrt(0.5) + 0.5) * 255)
    pictures["quats.webp"] = np.column_stack([steps, which + FIRST_TAG]).astype(np.uint8)
    return {"files": ["quats.webp"]}


def _colours(cloud: GaussianCloud, pictures: Pictures) -> dict[str, Any]:
    """The constant coefficients, and the opacity in the fourth channel."""
    constant = cloud.sh[:, 0].numpy()
    entries = codebook(constant)
    opacities = np.rint(cloud.opacities.numpy()[:, None] * 255).astype(np.uint8)
    pictures["sh0.webp"] = np.concatenate([nearest(entries, constant), opacities], axis=1)
    return {"codebook": _numbers(entries), "files": ["sh0.webp"]}


def _harmonics(cloud: GaussianCloud, pictures: Pictures, report: Report) -> dict[str, Any]:
    """A picture of the palette, PER_ROW entries in a row, one pixel per coefficient, and one of 16-bit labels."""
    vectors = cloud.sh[:, 1:].flatten(1).numpy()  # [N, 3 (K - 1)]
    chosen, labels = palette(vectors, _conspicuous(cloud), MAX_PALETTE, report)
    entries = codebook(chosen)
    pictures["shN_centroids.webp"] = _opaque(nearest(entries, chosen.reshape(-1, 3)))
    low_high = np.stack([labels & 255, labels >> 8, np.zeros_like(labels)], axis=1)
    pictures["shN_labels.webp"] = _opaque(low_high)
    files = ["shN_centroids.webp", "shN_labels.webp"]
    return {"count": len(chosen), "bands": cloud.sh_degree, "codebook": _numbers(entries), "files": files}


def _conspicuous(cloud: GaussianCloud) -> np.ndarray:
    """[N] float32. How much a wrong colour shows: opacity times radius, at most 32 times more or less than usual.

    Area in place of radius would be the pixels seen from one distance, but large Gaussians tend to lie far away.
    Against equal weights this gave 0.1 and 2.4 dB on flowers and playbot.
    """
    scales = cloud.scales.sort(dim=1).values
    shown = cloud.opacities * (scales[:, 1] * scales[:, 2]).sqrt()
    return (shown / shown.median().clamp_min(1e-30)).clamp(1 / 32, 32).numpy()


def _opaque(channels: np.ndarray) -> np.ndarray:
    """[n, 3] -> [n, 4] uint8 with 255 in the fourth channel."""
    return np.pad(channels.astype(np.uint8), ((0, 0), (0, 1)), constant_values=255)


def _numbers(entries: np.ndarray) -> list[float]:
    """float32 with the nine digits that tell each from its neighbours."""
    return [float(f"{value:.9g}") for value in entries]


def _bundled(described: dict[str, Any], pictures: Pictures, report: Report) -> bytes:
    bundle = io.BytesIO()
    width = math.ceil(math.sqrt(described["count"]) / 4) * 4
    # Pictures are compressed already, and entries without a date make the same file of the same scene every time.
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
        for number, (name, pixels) in enumerate(pictures.items()):
            report(number / len(pictures), f"Packing {name}")
            columns = PER_ROW * len(pixels) // described["shN"]["count"] if name == "shN_centroids.webp" else width
            archive.writestr(zipfile.ZipInfo(name), encode_webp(_picture(pixels, columns)))
        archive.writestr(zipfile.ZipInfo("meta.json"), json.dumps(described, separators=(",", ":")))
    return bundle.getvalue()


def _picture(pixels: np.ndarray, width: int) -> np.ndarray:
    """[n, 4] -> [H, width, 4], filled up with zeros."""
    height = -(-len(pixels) // width)
    return np.pad(pixels, ((0, height * width - len(pixels)), (0, 0))).reshape(height, width, 4)
