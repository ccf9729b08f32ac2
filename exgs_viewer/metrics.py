"""How much two pictures differ: PSNR, SSIM and FLIP. Pictures are [H, W, 3] in [0, 1], display sRGB.

All of them are plain torch; `ssim` carries gradients, so it serves as a loss too. LPIPS, which needs trained weights,
lives in lpips.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_ERROR = 1e-10
"""Mean squared errors below this count as this, so that equal pictures have 100 dB and means stay finite."""
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5
"""The Gaussian window of SSIM: 11 x 11 pixels."""
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180
"""FLIP's usual observer, 67 pixels per degree: 0.7 m away from a screen 0.7 m wide that has 3840 pixels."""
CONTRAST = (((1.0, 0.0047),), ((1.0, 0.0053),), ((34.1, 0.04), (13.5, 0.025)))
"""(a, b) of the Gaussians that model what the eye resolves in luminance, red-green and blue-yellow (FLIP, table 1)."""
FEATURE_WIDTH = 0.082
"""Degrees: the width of the edges and points that FLIP looks for."""
COLOUR_POWER, FEATURE_POWER = 0.7, 0.5
KNEE, KNEE_VALUE = 0.4, 0.95
"""FLIP maps colour differences up to KNEE of the largest one linearly to [0, KNEE_VALUE]."""
PRIMARIES, WHITE = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), (0.3127, 0.3290)
"""Chromaticities (x, y) of sRGB's red, green and blue, and of its white, D65."""


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio, dB; 100 for equal pictures."""
    error = float((image.double() - reference.double()).square().mean())
    return -10 * math.log10(max(error, SMALLEST_ERROR))


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al. 2004), a scalar with gradient; 1 for equal pictures.

    As in the field's own code (3DGS): Gaussian window of 11 x 11, sigma 1.5, zeros around the picture, each channel by
    itself, mean over all pixels and channels.
    """
    x, y = (picture.movedim(2, 0) for picture in (image, reference))  # [3, H, W]
    window = _gaussian(SSIM_SIGMA, SSIM_RADIUS, x)
    blurred = _separable(torch.cat([x, y, x * x, y * y, x * y]), window, window, "constant")
    mean_x, mean_y, xx, yy, xy = blurred.chunk(5)
    variances = xx - mean_x * mean_x + yy - mean_y * mean_y
    alike = (2 * mean_x * mean_y + SSIM_C1) * (2 * (xy - mean_x * mean_y) + SSIM_C2)
    return (alike / ((mean_x * mean_x + mean_y * mean_y + SSIM_C1) * (variances + SSIM_C2))).mean()


@dataclass(frozen=True, eq=False)
class Perceived:
    """What FLIP compares of a picture: made once for a reference that many pictures are held against."""

    colour: Tensor
    """[3, H, W]. Hunt-adjusted L*a*b* as far as the eye resolves it."""
    edges: Tensor
    """[H, W] >= 0. Strength of edges in the luminance."""
    points: Tensor
    """[H, W] >= 0. Strength of points in the luminance."""


def flip(image: Tensor, reference: Tensor, pixels_per_degree: float = PIXELS_PER_DEGREE) -> Tensor:
    """[H, W] in [0, 1]: how strongly an observer who flips between the two pictures sees a difference at each pixel.

    LDR-FLIP (Andersson et al. 2020): colours as the eye resolves them are compared by Hunt-adjusted HyAB distance;
    where edges or points differ too, the difference counts more. Its mean over the pixels is the usual single figure.
    """
    return flip_between(perceive(image, pixels_per_degree), perceive(reference, pixels_per_degree))


def perceive(picture: Tensor, pixels_per_degree: float = PIXELS_PER_DEGREE) -> Perceived:
    """The share of `flip` that concerns one picture [H, W, 3] alone."""
    opponent = _opponent(picture.clamp(0, 1).movedim(2, 0))  # [3, H, W] Y Cx Cz
    luminance = (opponent[:1] + 16) / 116
    sigma = 0.5 * FEATURE_WIDTH * pixels_per_degree
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=picture.dtype, device=picture.device)
    smooth = _gaussian(sigma, radius, picture)

    def strength(kernel: Tensor) -> Tensor:
        across = _separable(luminance, kernel, smooth, "replicate")
        down = _separable(luminance, smooth, kernel, "replicate")
        return torch.hypot(across, down)[0]

    return Perceived(
        colour=_hunt_lab(_as_resolved(opponent, pixels_per_degree)),
        edges=strength(_balanced(-x * smooth)),
        points=strength(_balanced((x * x / sigma**2 - 1) * smooth)),
    )


def flip_between(image: Perceived, reference: Perceived) -> Tensor:
    """`flip` of two pictures that have been perceived."""
    green, blue = torch.eye(3, dtype=image.colour.dtype, device=image.colour.device)[1:, :, None, None]
    largest = _hyab(_hunt_lab(green), _hunt_lab(blue)) ** COLOUR_POWER
    knee, colour = KNEE * largest, _hyab(image.colour, reference.colour) ** COLOUR_POWER
    beyond = KNEE_VALUE + (colour - knee) / (largest - knee) * (1 - KNEE_VALUE)
    colour = torch.where(colour < knee, KNEE_VALUE / knee * colour, beyond)
    features = torch.maximum((image.edges - reference.edges).abs(), (image.points - reference.points).abs())
    return colour ** (1 - (features / math.sqrt(2)) ** FEATURE_POWER)


def _as_resolved(picture: Tensor, pixels_per_degree: float) -> Tensor:
    """[3, H, W] Y Cx Cz as far as the eye resolves it, as linear RGB in [0, 1]."""
    widest = max(b for gaussians in CONTRAST for _, b in gaussians)
    radius = math.ceil(3 * math.sqrt(widest / (2 * math.pi**2)) * pixels_per_degree)
    channels = []
    for channel, gaussians in zip(picture, CONTRAST, strict=True):
        parts, weights = [], []
        for a, b in gaussians:
            # exp(-pi^2 x^2 / b) has the standard deviation sqrt(b / 2) / pi degrees.
            kernel = _gaussian(math.sqrt(b / 2) / math.pi * pixels_per_degree, radius, picture)
            # What the kernel, scaled to sum 1, was scaled by is its largest value; it counts along both axes.
            weights.append(a * math.sqrt(math.pi / b) / float(kernel.max()) ** 2)
            parts.append(weights[-1] * _separable(channel[None], kernel, kernel, "replicate"))
        channels.append(sum(parts) / sum(weights))
    y, cx, cz = (channel[0] for channel in channels)
    y = (y + 16) / 116
    xyz = torch.stack([y + cx / 500, y, y - cz / 200]) * _white(picture)
    return torch.einsum("ij,jhw->ihw", torch.linalg.inv(_rgb_to_xyz(picture)), xyz).clamp(0, 1)


def _opponent(picture: Tensor) -> Tensor:
    """[3, H, W] sRGB -> Y Cx Cz, a linearised L*a*b*."""
    linear = torch.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
    x, y, z = torch.einsum("ij,jhw->ihw", _rgb_to_xyz(picture), linear) / _white(picture)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _hunt_lab(linear: Tensor) -> Tensor:
    """[3, H, W] linear RGB -> L*a*b* whose colourfulness falls with the lightness (Hunt)."""
    ratio = torch.einsum("ij,jhw->ihw", _rgb_to_xyz(linear), linear) / _white(linear)
    delta = 6 / 29
    cube_root = ratio.clamp_min(delta**3) ** (1 / 3)
    x, y, z = torch.where(ratio > delta**3, cube_root, ratio / (3 * delta**2) + 4 / 29)
    lightness = 116 * y - 16
    return torch.stack([lightness, 0.01 * lightness * 500 * (x - y), 0.01 * lightness * 200 * (y - z)])


def _hyab(a: Tensor, b: Tensor) -> Tensor:
    """[H, W]: city-block in lightness, Euclidean in colour."""
    difference = a - b
    return difference[0].abs() + torch.hypot(difference[1], difference[2])


@cache
def _srgb_matrix() -> Tensor:
    """[3, 3] float64, linear sRGB -> XYZ: each primary scaled so that together they give the white of luminance 1."""
    columns = torch.tensor([[x / y, 1.0, (1 - x - y) / y] for x, y in PRIMARIES], dtype=torch.float64).T
    x, y = WHITE
    white = torch.tensor([x / y, 1.0, (1 - x - y) / y], dtype=torch.float64)
    return columns * torch.linalg.solve(columns, white)


def _rgb_to_xyz(like: Tensor) -> Tensor:
    return _srgb_matrix().to(like)


def _white(like: Tensor) -> Tensor:
    """[3, 1, 1] XYZ of the white."""
    return _rgb_to_xyz(like).sum(1)[:, None, None]


def _gaussian(sigma: float, radius: int, like: Tensor) -> Tensor:
    """[2 radius + 1] samples of exp(-x^2 / 2 sigma^2), scaled to sum 1."""
    x = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    values = torch.exp(-(x * x) / (2 * sigma**2))
    return values / values.sum()


def _balanced(kernel: Tensor) -> Tensor:
    """The kernel with its positive and its negative values scaled to sums of 1 and -1."""
    return torch.where(kernel > 0, kernel / kernel.clamp_min(0).sum(), kernel / -kernel.clamp_max(0).sum())


def _separable(channels: Tensor, across: Tensor, down: Tensor, padding: str) -> Tensor:
    """[C, H, W] filtered with `across` along the rows and `down` along the columns, at the same size."""
    count, radius_x, radius_y = len(channels), len(across) // 2, len(down) // 2
    padded = F.pad(channels[None], (radius_x, radius_x, radius_y, radius_y), mode=padding)
    # Depthwise over interleaved channels: on CPUs ten times as fast as one channel at a time.
    padded = padded.contiguous(memory_format=torch.channels_last)
    rows, columns = across.expand(count, 1, 1, -1), down[:, None].expand(count, 1, -1, 1)
    return F.conv2d(F.conv2d(padded, rows, groups=count), columns, groups=count)[0]
