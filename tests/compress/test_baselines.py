"""FlexGaussian's storage against a plain rewrite, and its bytes against those of the paper's tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from exgs_viewer.compress.baselines import flexgaussian
from tests.conftest import random_cloud


def plain_round_trip(column: np.ndarray, bits: int) -> np.ndarray:
    """One column, value by value: even steps between the extremes of each thousandth of the rows."""
    result = np.empty_like(column)
    bounds = [number * len(column) // 1000 for number in range(1001)]
    for start, end in pairwise(bounds):
        low, high = column[start:end].min(), column[start:end].max()
        step = (high - low) / (2**bits - 1)
        result[start:end] = low + np.round((column[start:end] - low) / step) * step if step else low
    return result


def test_values_are_rounded_segment_by_segment():
    cloud = random_cloud(3500, sh_degree=1)
    decoded, _ = flexgaussian(cloud, len(cloud))
    rest = cloud.sh[:, 2, 1].double().numpy()
    assert np.allclose(decoded.sh[:, 2, 1].numpy(), plain_round_trip(rest, 4), atol=1e-5)
    logs = cloud.scales[:, 2].log().double().numpy()
    assert np.allclose(decoded.scales[:, 2].log().numpy(), plain_round_trip(logs, 8), atol=1e-4)
    logits = torch.logit(cloud.opacities.double()).clamp(-15, 15).numpy()
    assert np.allclose(torch.logit(decoded.opacities).numpy(), plain_round_trip(logits, 4), atol=2e-3)
    assert decoded.means.equal(cloud.means.half().float())
    assert torch.allclose(decoded.quats.norm(dim=1), torch.ones(3500), atol=1e-6)


def test_bytes_are_those_of_its_layout():
    _, with_sh = flexgaussian(random_cloud(3000, sh_degree=3), 3000)
    # Positions 6, colour 3, scales 3, rotation 4, opacity 1/2, 45 harmonics 1/2 each; 56 columns of 1000 segments.
    assert with_sh == 3000 * (6 + 3 + 3 + 4) + 3000 // 2 + 45 * 3000 // 2 + 56 * 1000 * 8
    _, without = flexgaussian(random_cloud(3000, sh_degree=3), 0)
    assert without == 3000 * 16 + 1500 + 11 * 1000 * 8


def test_bytes_come_within_two_percent_of_those_in_the_papers_table():
    """ExGS, table 1: of 404.73 MB of ScanNet++ at 248 bytes a Gaussian 10 % are kept, and take 6.71 MB."""
    kept = random_cloud(round(404.73e6 / 248 / 10))
    assert flexgaussian(kept, len(kept))[1] == pytest.approx(6.71e6, rel=0.02)


def test_those_behind_the_bearing_ones_lose_their_harmonics_only():
    cloud = random_cloud(1500, sh_degree=2)
    decoded, _ = flexgaussian(cloud, 600)
    assert (decoded.sh[600:, 1:] == 0).all() and (decoded.sh[:600, 1:] != 0).any()
    assert torch.allclose(decoded.sh[:, 0], cloud.sh[:, 0], atol=0.02)


def test_a_scene_with_fewer_gaussians_than_segments_is_kept_exactly():
    cloud = random_cloud(7, sh_degree=1)
    decoded, size = flexgaussian(cloud, 7)
    assert torch.allclose(decoded.scales, cloud.scales, rtol=1e-5)
    assert torch.allclose(decoded.sh, cloud.sh, atol=1e-5)
    assert size == 7 * 16 + 4 + 9 * 4 + 20 * 7 * 8


def test_opacities_of_one_and_zero_stay_finite():
    cloud = random_cloud(2000).replaced(opacities=torch.arange(2000).remainder(2).float())
    decoded, _ = flexgaussian(cloud, 0)
    assert torch.allclose(decoded.opacities, cloud.opacities, atol=1e-4)
