"""A cloud in the paper's storage form: every number a float16 (ExGS 4.1), arranged so that LZMA finds what repeats.

The rounding to float16 is the only loss. What follows is exact integer arithmetic on the bit patterns: neighbours in
space become neighbours in the file, positions become differences, and every number is split into its two bytes.
The numbers, their order and the arithmetic are part of the file format and written down in `EXGS.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud

Codes = NDArray[np.uint16]
"""[C, N] uint16. One row for each stored number of a Gaussian: float16 bit patterns mapped so that they sort like the
numbers. Rows: x y z, red green blue of the constant colour, opacity logit, three log scales, quaternion w x y z, then
the higher spherical harmonics, coefficient by coefficient, red green blue each."""

Planes = list[NDArray[np.uint8]]
"""2 C arrays [N] uint8: high and low byte of each row of Codes."""

LOGIT_LIMIT = 15.0
"""Opacity logits are kept within +-this; the files of 3DGS hold infinite ones where opacity is 0 or 1."""
LOG_SCALE_LIMITS = (-30.0, 20.0)
"""Log scales are kept within this."""
HALF_MAX = 65504.0
"""Largest finite float16."""

# Where each attribute stands among the rows of Codes.
POSITION, COLOUR, LOGIT, LOG_SCALE, QUAT, HARMONICS = (
    slice(0, 3),
    slice(3, 6),
    6,
    slice(7, 10),
    slice(10, 14),
    slice(14, None),
)
W, XYZ = 10, slice(11, 14)


@dataclass(frozen=True)
class Frame:
    """The coordinates in which positions are rounded: (position - origin) / step."""

    origin: tuple[float, float, float]
    """World units. float16 is finest near zero, so this is the middle of the scene."""
    step: float
    """World units, a power of two, such that nothing overflows float16; scaling by it is free of rounding."""


def rows(sh_degree: int) -> int:
    """Stored numbers of one Gaussian."""
    return 11 + 3 * SH_COUNTS[sh_degree]


def frame_around(cloud: GaussianCloud) -> Frame:
    """The frame for a cloud: around its 5-95 % box, its farthest coordinate in the top octave but one of float16.

    Up there neither overflow nor the coarse numbers below 2^-14 are met, whatever unit the scene is measured in.
    """
    means = cloud.means.cpu().double()
    # Order statistics and no mean: a few Gaussians far away do not pull the fine part of float16 out of the scene.
    low, high = (means.kthvalue(1 + int(share * (len(means) - 1)), dim=0).values for share in (0.05, 0.95))
    origin = (low + high) / 2
    reach = float((means - origin).abs().max())
    step = 2.0 ** (math.ceil(math.log2(reach)) - 15) if reach > 0 else 1.0
    return Frame(tuple(origin.tolist()), step)


def to_codes(cloud: GaussianCloud, frame: Frame) -> Codes:
    """The rounded numbers of every Gaussian, in the cloud's order."""
    return ordered(to_halves(cloud, frame))


def to_halves(cloud: GaussianCloud, frame: Frame) -> NDArray[np.float16]:
    """[C, N]. The numbers themselves, one row for each as in Codes."""
    cloud = cloud.to("cpu")
    numbers = np.empty((rows(cloud.sh_degree), len(cloud)), np.float16)
    numbers[POSITION] = _positions(cloud, frame)
    numbers[COLOUR] = cloud.sh[:, 0].clamp(-HALF_MAX, HALF_MAX).T.numpy()
    numbers[LOGIT] = torch.logit(cloud.opacities.double()).clamp(-LOGIT_LIMIT, LOGIT_LIMIT).numpy()
    numbers[LOG_SCALE] = torch.log(cloud.scales).clamp(*LOG_SCALE_LIMITS).T.numpy()
    quats = torch.nn.functional.normalize(cloud.quats, dim=1)
    # q and -q are the same rotation; a positive w has one possible sign and can be told from the other three.
    numbers[QUAT] = (quats * torch.where(quats[:, :1] < 0, -1.0, 1.0)).T.numpy()
    numbers[HARMONICS] = cloud.sh[:, 1:].clamp(-HALF_MAX, HALF_MAX).flatten(1).T.numpy()
    assert np.isfinite(numbers).all(), "a cloud with NaN or infinite values cannot be stored"
    return numbers


def position_codes(cloud: GaussianCloud, frame: Frame) -> Codes:
    """[3, N]. The first rows of to_codes, where only the place in space is asked for."""
    return ordered(_positions(cloud.to("cpu"), frame))


def to_cloud(codes: Codes, frame: Frame) -> GaussianCloud:
    """The activated cloud that codes stand for; values are non-finite where the codes are nonsense."""
    return from_halves(unordered(codes), frame)


def from_halves(numbers: NDArray[np.float16], frame: Frame) -> GaussianCloud:
    """The inverse of to_halves."""
    means = _columns(numbers[POSITION]).double() * frame.step + torch.tensor(frame.origin, dtype=torch.float64)
    return GaussianCloud(
        means=means.float(),
        scales=torch.exp(_columns(numbers[LOG_SCALE])),
        quats=torch.nn.functional.normalize(_columns(numbers[QUAT]), dim=1, eps=1e-12),
        opacities=torch.sigmoid(_columns(numbers[LOGIT])),
        sh=torch.cat([_columns(numbers[COLOUR]), _columns(numbers[HARMONICS])], dim=1).reshape(len(means), -1, 3),
    )


def spatial_order(codes: Codes) -> NDArray[np.int64]:
    """[N] int64. The order along the Morton curve through the positions' codes, x most significant."""
    spread = _spread_table()
    curve = spread[codes[0]] << np.uint64(2) | spread[codes[1]] << np.uint64(1) | spread[codes[2]]
    return np.argsort(curve, kind="stable")


def to_planes(codes: Codes) -> Planes:
    """The byte planes of codes that are already in spatial order."""
    changed = codes.copy()
    changed[POSITION, 1:] = zigzag(codes[POSITION, 1:] - codes[POSITION, :-1])
    changed[W] = zigzag(codes[W] - _expected_w(codes))
    return [plane for row in changed for plane in ((row >> 8).astype(np.uint8), (row & 255).astype(np.uint8))]


def from_planes(planes: Planes) -> Codes:
    """The inverse of to_planes."""
    codes = np.empty((len(planes) // 2, len(planes[0])), np.uint16)
    for row, high, low in zip(codes, planes[0::2], planes[1::2], strict=True):
        row[:] = high.astype(np.uint16) << 8 | low
    codes[POSITION, 1:] = unzigzag(codes[POSITION, 1:])
    codes[POSITION] = np.cumsum(codes[POSITION], axis=1, dtype=np.uint16)
    codes[W] = unzigzag(codes[W]) + _expected_w(codes)
    return codes


def ordered(numbers: NDArray[np.float16]) -> Codes:
    """Bit patterns that sort as unsigned integers in the order of the numbers."""
    bits = numbers.view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000).astype(np.uint16)


def unordered(codes: Codes) -> NDArray[np.float16]:
    """The inverse of ordered."""
    return np.where(codes & 0x8000, codes & 0x7FFF, ~codes).astype(np.uint16).view(np.float16)


def zigzag(difference: Codes) -> Codes:
    """A difference modulo 2^16, small for small steps in both directions: 0, -1, 1, -2 ... -> 0, 1, 2, 3 ..."""
    signed = difference.view(np.int16)
    return ((signed << 1) ^ (signed >> 15)).view(np.uint16)


def unzigzag(code: Codes) -> Codes:
    """The inverse of zigzag."""
    return (code >> 1) ^ (0 - (code & 1)).astype(np.uint16)


def _expected_w(codes: Codes) -> Codes:
    """The w that makes the stored x, y, z a unit quaternion; float64 and float16 roundings are fixed by IEEE 754."""
    x, y, z = unordered(codes[XYZ]).astype(np.float64)
    with np.errstate(invalid="ignore"):  # Damaged files may hold infinities here; to_cloud's caller refuses them.
        return ordered(np.sqrt(np.maximum(1 - x * x - y * y - z * z, 0)).astype(np.float16))


def _positions(cloud: GaussianCloud, frame: Frame) -> NDArray[np.float16]:
    """[3, N]. Centres on the CPU in the coordinates of the frame."""
    return (
        ((cloud.means.double() - torch.tensor(frame.origin, dtype=torch.float64)) / frame.step)
        .T.numpy()
        .astype(np.float16)
    )


def _columns(numbers: NDArray[np.float16]) -> Tensor:
    """[C, N] or [N] float16 -> [N, C] or [N] float32, contiguous."""
    return torch.from_numpy(np.ascontiguousarray(numbers.T, dtype=np.float32))


@lru_cache(maxsize=1)
def _spread_table() -> NDArray[np.uint64]:
    """[65536] uint64. Each 16-bit integer with two zero bits between its bits."""
    numbers = np.arange(1 << 16, dtype=np.uint64)
    return sum(((numbers >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit) for bit in range(16))
