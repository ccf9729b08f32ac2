"""The measures against plain rewrites, and FLIP against the figures of its authors' own program."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from exgs_viewer.metrics import flip, psnr, ssim


def waves(shift: int = 0) -> torch.Tensor:
    """[60, 80, 3] in [0, 1]: a picture that anybody can make again, `shift` pixels to the right."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    picture = torch.stack([torch.sin(x / 5) / 2 + 0.5, torch.cos(y / 7) / 2 + 0.5, (x + y) / 140], dim=2)
    return picture.roll(shift, 1)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(23, 31, 3, generator=generator)
    return image, (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def plain_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, pixel by pixel in float64; what lies outside the picture is 0."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (np.pad(picture.astype(np.float64), ((5, 5), (5, 5), (0, 0))) for picture in (a, b))
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = (picture[y : y + 11, x : x + 11].transpose(2, 0, 1) for picture in (a, b))
            mean_p, mean_q = ((window * part).sum((1, 2)) for part in (p, q))
            variance_p, variance_q = ((window * part**2).sum((1, 2)) for part in (p, q))
            variance_p, variance_q = variance_p - mean_p**2, variance_q - mean_q**2
            covariance = (window * p * q).sum((1, 2)) - mean_p * mean_q
            top = (2 * mean_p * mean_q + 0.01**2) * (2 * covariance + 0.03**2)
            values.append(top / ((mean_p**2 + mean_q**2 + 0.01**2) * (variance_p + variance_q + 0.03**2)))
    return float(np.mean(values))


def test_psnr_is_the_logarithm_of_the_mean_squared_error(pair):
    error = np.mean((pair[0].numpy().astype(np.float64) - pair[1].numpy()) ** 2)
    assert psnr(*pair) == pytest.approx(10 * math.log10(1 / error))


def test_equal_pictures_score_best(pair):
    image, _ = pair
    assert psnr(image, image) == pytest.approx(100)
    assert float(ssim(image, image)) == pytest.approx(1, abs=1e-6)
    assert float(flip(image, image).max()) == 0


def test_ssim_is_what_its_equation_says(pair):
    assert float(ssim(*pair)) == pytest.approx(plain_ssim(*(picture.numpy() for picture in pair)), abs=2e-6)


def test_ssim_has_the_gradient_of_its_differences(pair):
    image, reference = (picture.double() for picture in pair)
    image.requires_grad_(True)
    ssim(image, reference).backward()
    step = torch.zeros_like(image)
    step[11, 17, 1] = 1e-5
    with torch.no_grad():
        slope = (ssim(image + step, reference) - ssim(image - step, reference)) / 2e-5
    assert float(image.grad[11, 17, 1]) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize(
    ("image", "reference", "expected"),
    [
        (waves(3), waves(), 0.41346777),
        (torch.ones(40, 40, 3), torch.zeros(40, 40, 3), 0.96739942),
        (waves() * 0.9, waves(), 0.39663619),
    ],
    ids=["shifted", "black and white", "darker"],
)
def test_flip_gives_the_figures_of_its_authors_program(image, reference, expected):
    """Mean errors by flip-evaluator 1.7 (NVIDIA's flip.evaluate, LDR, 67 pixels per degree)."""
    assert float(flip(image, reference).mean()) == pytest.approx(expected, abs=3e-5)


def test_flip_stays_within_its_bounds_and_looks_both_ways(pair):
    there, back = flip(*pair), flip(*reversed(pair))
    assert there.shape == (23, 31)
    assert float(there.min()) >= 0 and float(there.max()) <= 1
    assert torch.allclose(there, back, atol=1e-6)


def test_from_farther_away_less_is_seen(pair):
    assert float(flip(*pair, pixels_per_degree=120).mean()) < float(flip(*pair, pixels_per_degree=40).mean())
