"""Bundles are opened here with zipfile and Pillow, their bytes decoded by the formulas of the format's description."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exgs_viewer.errors import Cancelled
from exgs_viewer.scene import open_scene, save_scene, sog_write
from tests.conftest import random_cloud


def contents(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """meta.json, and the pixels of each picture [H, W, 4]."""
    with zipfile.ZipFile(path) as archive:
        meta = json.loads(archive.read("meta.json"))
        names = [name for name in archive.namelist() if name != "meta.json"]
        return meta, {name: np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGBA")) for name in names}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_each_pixel_is_what_the_format_says(tmp_path, degree):
    cloud = random_cloud(300, sh_degree=degree)
    written = save_scene(tmp_path / "a.sog", cloud)
    assert written.bytes == (tmp_path / "a.sog").stat().st_size and written.warnings == ()
    meta, pictures = contents(tmp_path / "a.sog")
    assert (meta["version"], meta["count"], "shN" in meta) == (2, 300, degree > 0)
    # Both sides of a texture are multiples of four in other writers; here the width is, which is what readers need.
    assert pictures["means_l.webp"].shape[1] % 4 == 0
    rows = {name: pixels.reshape(-1, 4)[:300].astype(int) for name, pixels in pictures.items()}
    low, high = np.array(meta["means"]["mins"]), np.array(meta["means"]["maxs"])
    logs = low + (high - low) * (rows["means_l.webp"] + 256 * rows["means_u.webp"])[:, :3] / 65535
    means = np.sign(logs) * (np.exp(np.abs(logs)) - 1)
    # The places say which Gaussian is which.
    index = np.abs(means[:, None] - cloud.means.numpy()).sum(-1).argmin(1)
    assert sorted(index) == list(range(300))
    np.testing.assert_allclose(means, cloud.means.numpy()[index], atol=2e-4)
    scales = np.array(meta["scales"]["codebook"])[rows["scales.webp"][:, :3]]
    np.testing.assert_allclose(scales, cloud.scales.log().numpy()[index], atol=0.05)
    colours = np.array(meta["sh0"]["codebook"])[rows["sh0.webp"][:, :3]]
    np.testing.assert_allclose(colours, cloud.sh[:, 0].numpy()[index], atol=0.05)
    np.testing.assert_allclose(rows["sh0.webp"][:, 3] / 255, cloud.opacities.numpy()[index], atol=0.501 / 255)
    for pixel, quat in zip(rows["quats.webp"], cloud.quats.numpy()[index], strict=True):
        three = (pixel[:3] / 255 * 2 - 1) / math.sqrt(2)
        whole = np.insert(three, pixel[3] - 252, math.sqrt(1 - (three**2).sum()))
        assert abs(whole @ quat) > 1 - 4e-5
    if degree:
        count = (degree + 1) ** 2 - 1
        assert (meta["shN"]["bands"], meta["shN"]["count"]) == (degree, 300)
        assert pictures["shN_centroids.webp"].shape == (5, 64 * count, 4)
        centroids = pictures["shN_centroids.webp"].reshape(-1, count, 4)[:, :, :3]
        labels = rows["shN_labels.webp"][:, 0] + 256 * rows["shN_labels.webp"][:, 1]
        rest = np.array(meta["shN"]["codebook"])[centroids[labels]]
        np.testing.assert_allclose(rest, cloud.sh[:, 1:].numpy()[index], atol=0.05)


def test_colours_of_invisible_gaussians_survive(tmp_path):
    cloud = random_cloud(30, sh_degree=0)
    save_scene(tmp_path / "a.sog", cloud.replaced(opacities=torch.zeros(30)))
    found = open_scene(tmp_path / "a.sog").cloud
    assert found.opacities.max() == 0
    assert (found.sh.sort(0).values - cloud.sh.sort(0).values).abs().max() < 0.05


def test_more_gaussians_than_the_palette_has_entries_share_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sog_write, "MAX_PALETTE", 256)
    cloud = random_cloud(2000, sh_degree=1)
    alike = cloud.sh[:100].repeat(20, 1, 1)
    save_scene(tmp_path / "a.sog", cloud.replaced(sh=alike))
    meta, _ = contents(tmp_path / "a.sog")
    assert 100 <= meta["shN"]["count"] <= 256
    found = open_scene(tmp_path / "a.sog").cloud.sh[:, 1:].flatten(1)
    assert torch.cdist(found, alike[:100, 1:].flatten(1)).min(dim=1).values.max() < 0.02


def test_the_same_cloud_makes_the_same_file(tmp_path):
    for name in ("a.sog", "b.sog"):
        save_scene(tmp_path / name, random_cloud(100))
    assert (tmp_path / "a.sog").read_bytes() == (tmp_path / "b.sog").read_bytes()


def test_antialiasing_is_kept(tmp_path):
    sog_write.write(tmp_path / "a.sog", random_cloud(5), {"antialias": True})
    assert open_scene(tmp_path / "a.sog").meta["antialias"] is True


def test_progress_rises_and_cancelling_leaves_the_old_file(tmp_path):
    save_scene(tmp_path / "a.sog", random_cloud(10))
    old, told = (tmp_path / "a.sog").read_bytes(), []
    save_scene(tmp_path / "b.sog", random_cloud(2000), lambda fraction, words: told.append(fraction))
    assert told == sorted(told) and told[0] == 0 and told[-1] > 0.9

    def stop(fraction: float, words: str) -> None:
        if fraction > 0.7:
            raise Cancelled

    with pytest.raises(Cancelled):
        save_scene(tmp_path / "a.sog", random_cloud(20), stop)
    assert (tmp_path / "a.sog").read_bytes() == old and len(list(tmp_path.iterdir())) == 2
