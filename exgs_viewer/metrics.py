"""How much two pictures differ: PSNR, SSIM and FLIP. Pictures are [H, W, 3] in [0, 1], display sRGB.

All of them are plain torch; `ssim` carries gradients, so it serves as a loss too. LPIPS, which needs trained weights,
lives in lpips.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
STRIP = 64
"""Rows of a picture that are worked on at once."""

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
    window = _gaussian(SSIM_SIGMA, SSIM_RADIUS, image)

    def similarity(strip: Tensor) -> Tensor:
        x, y = strip.chunk(2)
        mean_x, mean_y, xx, yy, xy = _filtered(torch.cat([x, y, x * x, y * y, x * y]), window, window).chunk(5)
        variances = xx - mean_x * mean_x + yy - mean_y * mean_y
        alike = (2 * mean_x * mean_y + SSIM_C1) * (2 * (xy - mean_x * mean_y) + SSIM_C2)
        return alike / ((mean_x * mean_x + mean_y * mean_y + SSIM_C1) * (variances + SSIM_C2))

    both = torch.cat([image.movedim(2, 0), reference.movedim(2, 0)])  # [6, H, W]
    return _by_strips(similarity, both, SSIM_RADIUS, "constant").mean()


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
    sigma = 0.5 * FEATURE_WIDTH * pixels_per_degree
    widest = max(_contrast_sigma(b, pixels_per_degree) for gaussians in CONTRAST for _, b in gaussians)
    margin = math.ceil(3 * max(sigma, widest))

    def strip(rgb: Tensor) -> Tensor:
        opponent = _opponent(rgb)  # Y Cx Cz
        luminance = (opponent[:1] + 16) / 116
        edges, points = (_feature(luminance, kernel, margin) for kernel in _feature_kernels(sigma, picture))
        return torch.cat([_hunt_lab(_as_resolved(opponent, pixels_per_degree, margin)), edges, points])

    found = _by_strips(strip, picture.clamp(0, 1).movedim(2, 0), margin, "replicate")
    return Perceived(found[:3], found[3], found[4])


def flip_between(image: Perceived, reference: Perceived) -> Tensor:
    """`flip` of two pictures that have been perceived."""
    green, blue = torch.eye(3, dtype=image.colour.dtype, device=image.colour.device)[1:, :, None, None]
    largest = _hyab(_hunt_lab(green), _hunt_lab(blue)) ** COLOUR_POWER
    knee, colour = KNEE * largest, _hyab(image.colour, reference.colour) ** COLOUR_POWER
    beyond = KNEE_VALUE + (colour - knee) / (largest - knee) * (1 - KNEE_VALUE)
    colour = torch.where(colour < knee, KNEE_VALUE / knee * colour, beyond)
    features = torch.maximum((image.edges - reference.edges).abs(), (image.points - reference.points).abs())
    return colour ** (1 - (features / math.sqrt(2)) ** FEATURE_POWER)


def _feature_kernels(sigma: float, like: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """(derivative, smoothing) kernels that find edges and points of this width, pixels."""
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    smooth = _gaussian(sigma, radius, like)
    return (_balanced(-x * smooth), smooth), (_balanced((x * x / sigma**2 - 1) * smooth), smooth)


def _feature(luminance: Tensor, kernels: tuple[Tensor, Tensor], margin: int) -> Tensor:
    """[1, h, w] >= 0. How strong an edge or point is at each pixel, whichever way it runs."""
    derivative, smooth = kernels
    luminance = _inner(luminance, margin - len(smooth) // 2)
    return torch.hypot(_filtered(luminance, derivative, smooth), _filtered(luminance, smooth, derivative))


def _as_resolved(opponent: Tensor, pixels_per_degree: float, margin: int) -> Tensor:
    """[3, h + 2 margin, w + 2 margin] Y Cx Cz -> as far as the eye resolves it, as linear RGB [3, h, w] in [0, 1]."""
    channels = []
    for channel, gaussians in zip(opponent, CONTRAST, strict=True):
        parts, weights = [], []
        for a, b in gaussians:
            kernel = _gaussian(_contrast_sigma(b, pixels_per_degree), margin, opponent)
            # What the kernel, scaled to sum 1, was scaled by is its largest value; it counts along both axes.
            weights.append(a * math.sqrt(math.pi / b) / float(kernel.max()) ** 2)
            parts.append(weights[-1] * _filtered(channel[None], kernel, kernel)[0])
        channels.append(sum(parts) / sum(weights))
    y, cx, cz = channels
    y = (y + 16) / 116
    xyz = torch.stack([y + cx / 500, y, y - cz / 200]) * _white(opponent)
    return torch.einsum("ij,jhw->ihw", torch.linalg.inv(_rgb_to_xyz(opponent)), xyz).clamp(0, 1)


def _contrast_sigma(b: float, pixels_per_degree: float) -> float:
    """Pixels: exp(-pi^2 x^2 / b) has the standard deviation sqrt(b / 2) / pi degrees."""
    return math.sqrt(b / 2) / math.pi * pixels_per_degree


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


def _by_strips(work: Callable[[Tensor], Tensor], picture: Tensor, margin: int, padding: str) -> Tensor:
    """`work`, which turns [C, h + 2 margin, w + 2 margin] into [D, h, w], done for a picture [C, H, W] -> [D, H, W].

    A few rows at a time, so that what comes in between stays in the processor's cache: four times as fast on CPUs.
    """
    height = picture.shape[1]
    padded = F.pad(picture[None], (margin,) * 4, mode=padding)[0]
    strips = (padded[:, top : min(top + STRIP, height) + 2 * margin] for top in range(0, height, STRIP))
    return torch.cat([work(strip) for strip in strips], dim=1)


def _filtered(channels: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """[C, H, W] filtered with `across` along the rows and `down` along the columns, where both lie within."""
    count = len(channels)
    # Depthwise over interleaved channels: on CPUs ten times as fast as one channel at a time.
    batch = channels[None].contiguous(memory_format=torch.channels_last)
    rows, columns = across.expand(count, 1, 1, -1), down[:, None].expand(count, 1, -1, 1)
    return F.conv2d(F.conv2d(batch, rows, groups=count), columns, groups=count)[0]


def _inner(channels: Tensor, margin: int) -> Tensor:
    """[C, H, W] without `margin` pixels at each side."""
    return channels[:, margin : channels.shape[1] - margin, margin : channels.shape[2] - margin]
