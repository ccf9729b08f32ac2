"""A cloud as small integers: what a compact file keeps of it, and the cloud that these integers stand for.

Four things make it small before anything is coded. A Gaussian looks the same under 24 rotations and reflections of its
axes, so the axes are sorted by size and only a direction (where the thin axis points, up to sign) and a turn around it
(modulo half a turn) are kept. Every number gets as many bits as its error shows: more for large, stretched and opaque
Gaussians, fewer for small, round and faint ones. Thickness is counted in parts of the width and opacity by its root,
because an error of the logarithm shows the less the thinner or fainter a Gaussian is. And what rounding takes from the
area of a Gaussian its opacity gives back.
The integers and the arithmetic on them are part of the file format and specified in `EXGS.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.scene.compact_geometry import CORE, HALF, HALF_OCTAVES, appearances, cell_middles, rotation_numbers
from exgs_viewer.scene.compact_model import (
    ANGLE,
    AXES,
    COLUMNS,
    FORM,
    LONG,
    LUMA,
    MIDDLE,
    MOST_THIN,
    NORMAL_U,
    OPACITY,
    SHORT,
    demands,
    opacity_halves,
    precisions,
)
from exgs_viewer.scene.float16 import Frame
from exgs_viewer.settings import CompressionSettings


@dataclass(frozen=True)
class Fineness:
    """How finely a quality rounds."""

    position: float
    """Step of positions, in parts of the typical Gaussian's thickness over its opacity."""
    unit: float
    """Parts of an octave in which the longest axis is counted; the middle one is counted twice as coarsely."""
    thin: float
    """The thinnest axis is counted in 2^thin parts of the middle one."""
    flat: float
    """Bits of each of the two numbers for the direction of the thin axis, for a typical Gaussian."""
    turn: float
    """Bits of the turn around it."""
    opacity: float
    """Half octaves: the opacity's root is rounded to 2^(-opacity / 2) for a typical Gaussian, colours likewise."""
    luma: float
    chroma: float
    harmonics: float
    """The same for the higher spherical harmonics."""

    @property
    def bits(self) -> float:
        """What a Gaussian of one colour takes, up to a constant that is the scene's own."""
        place, sizes = -3 * math.log2(self.position), 2 * math.log2(self.unit) + self.thin
        return place + sizes + 2 * self.flat + self.turn + (self.opacity + self.luma + 2 * self.chroma) / 2


FINENESS = {
    "high": Fineness(position=0.036, unit=26, thin=4, flat=7.0, turn=6.9, opacity=14, luma=16, chroma=14, harmonics=10),
    "default": Fineness(
        position=0.061, unit=16, thin=3, flat=5.9, turn=5.9, opacity=12, luma=15, chroma=13, harmonics=8
    ),
    "small": Fineness(
        position=0.31, unit=7, thin=2, flat=4.45, turn=4.0, opacity=9.4, luma=12.45, chroma=11.45, harmonics=8
    ),
}
"""`high` and `default` are balanced for the least error against what is encoded. `small` is balanced for the best
picture at equal bytes where most Gaussians are gone: what these bytes bring as more Gaussians outweighs all but colour.
Searched for on scenes that nothing is measured on (flowers, playbot, the demo), as are the slopes of Form."""
SPARSE, ASKED = 0.3, 0.6
"""Retentions up to which auto rounds as `small` does, where nobody has asked the scene and where it said how much
coarser; from there to all of the Gaussians it nears `default`."""
COARSEST_UNIT = 4
"""Parts of an octave at least, however coarse."""
FINEST_UNIT = 2048
"""Eighths of a part of an octave at most."""
STEPS = {"flat": 1, "turn": 1, "opacity": 1, "luma": 1.5, "chroma": 1.75, "harmonics": 2}
"""Bits, or half octaves, that an octave coarser takes of these numbers."""
WIDEST = 10
"""Bits of the longest axis: at 12 parts an octave that spans a factor of 2^85, at 64 still 2^16."""
TYPICAL = 1 << 16
"""Gaussians that tell what is typical."""
OCTAVES = (1 << (AXES - 1)) // CORE
MIDDLES, OFF = 8, 1 / 3
"""Places along the scene where its middle may be said to lie, and how far beside round numbers these are."""
COLOUR_LIMIT = 16.0
"""Colours are kept within 0.5 +- this."""


@dataclass(frozen=True)
class Form:
    """What a reader must know to turn the integers of a file into Gaussians."""

    frame: Frame
    """Middle of the scene and step of positions."""
    smallest: int
    """The two longer axes count from 2^(8 smallest / unit) world units."""
    unit: int
    """Eighths of parts of an octave, 1 to FINEST_UNIT."""
    width: int
    """Bits of the longest axis, 4 to WIDEST."""
    thin: int
    """Parts of the middle axis that the thinnest one is counted in, 2 to MOST_THIN."""
    harmonics: int
    """64ths of half octaves, as the next three."""
    opacity: int
    luma: int
    chroma: int
    size: int = 0
    """The typical size, in eighths of what the longest axis is counted in, and ..."""
    dim: int = 0
    """... the typical opacity in eighths of octaves; precision follows from what lies above and below."""
    flat: int = 0
    """64ths of bits that the typical Gaussian has for its flat side, and ..."""
    turn: int = 0
    """... for the turn in it."""
    flat_slim: int = 4
    """Eighths of bits more for each octave of length over width, ..."""
    flat_thin: int = 4
    """... for what thickness lacks to width, as a share, ..."""
    flat_size: int = 4
    flat_dim: int = 4
    """... for each octave of size, and of opacity."""
    turn_first: int = 14
    """The same for the turn, on top of that for the first octave of length over width."""
    turn_slim: int = 8
    turn_size: int = 6
    turn_dim: int = 4
    opacity_size: int = 5
    """Eighths of half octaves more of the opacity for each octave of size, ..."""
    colour_size: int = 1
    colour_dim: int = 4
    """... of colours, for each octave of size and of opacity, ..."""
    harmonics_size: int = 6
    harmonics_dim: int = 2
    """... and of the higher harmonics."""

    @property
    def stored(self) -> tuple[int, ...]:
        """All but the frame, as the file has it."""
        return tuple(getattr(self, field.name) for field in fields(self)[1:])

    @property
    def sound(self) -> bool:
        """Whether a writer may have made this; the coder relies on it."""
        return 1 <= self.unit <= FINEST_UNIT and 4 <= self.width <= WIDEST and 2 <= self.thin <= MOST_THIN

    @property
    def numbers(self) -> NDArray[np.int64]:
        """As compact_model wants them."""
        return np.array([getattr(self, name) for name in FORM], np.int64)


@dataclass(frozen=True, eq=False)
class Numbers:
    """The integers of some Gaussians."""

    keys: NDArray[np.uint64]
    """[N] Morton keys of the positions."""
    values: NDArray[np.int32]
    """[N, COLUMNS], see compact_model."""
    harmonics: NDArray[np.int32]
    """[N, 3 K - 3] higher SH coefficients, each luma, orange, green."""

    def take(self, index: NDArray[np.int64] | slice) -> Numbers:
        return Numbers(self.keys[index], self.values[index], self.harmonics[index])


def fineness_for(settings: CompressionSettings) -> Fineness:
    """How finely files of `settings` round. Without a fixed quality, retention says how much precision deserves.

    An octave coarser is a step twice as large in shapes and places, and less than that in opacities and colours, which
    are next to free and seen first.
    """
    if settings.quality != "auto":
        return FINENESS[settings.quality]
    sparse = ASKED if settings.coarser else SPARSE
    share = min(max(1 - math.log(settings.keep) / math.log(sparse), 0.0), 1.0)
    small, everything = asdict(FINENESS["small"]), asdict(FINENESS["default"])
    few = _coarser(small, settings.coarser)
    if settings.coarser < 0:  # What is kept in addition makes nothing coarser.
        everything = {name: (min if name == "position" else max)(few[name], everything[name]) for name in few}
    mixed = {name: (1 - share) * few[name] + share * everything[name] for name in few}
    for name in ("position", "unit"):
        mixed[name] = few[name] ** (1 - share) * everything[name] ** share
    return Fineness(**mixed)


def form_for(cloud: GaussianCloud, settings: CompressionSettings) -> Form:
    """How a cloud's numbers are rounded: its Gaussians say what is typical, or TYPICAL of them."""
    cloud, fineness = cloud.to("cpu"), fineness_for(settings)
    eighths, logs = round(8 * fineness.unit), _log_scales(cloud)
    unit, stride = eighths / 8, -(-len(cloud) // TYPICAL)
    long, middle = logs[::stride, :2].T * unit
    # A size 2^20 times the usual is a mistake of training; it must not push the others out of the range.
    largest = min(math.ceil(logs[:, 0].max() * unit), float(np.median(long)) + 20 * unit)
    smallest = int(max(math.floor(logs[:, 1].min() * unit), largest + 1 - (1 << WIDEST)))
    form = Form(
        frame=_frame(cloud, logs, fineness.position, stride),
        smallest=smallest,
        unit=eighths,
        width=min(max(int(largest - smallest + 4).bit_length(), 4), WIDEST),
        thin=min(round(2**fineness.thin), MOST_THIN),
        harmonics=round(64 * fineness.harmonics),
        opacity=round(64 * fineness.opacity),
        luma=round(64 * fineness.luma),
        chroma=round(64 * fineness.chroma),
        size=round(8 * _typical((long + middle) / 2 - smallest)),
    )
    values = np.zeros((len(long), COLUMNS), np.int32)
    _round_sizes(values, logs[::stride], cloud.opacities.numpy()[::stride], form)
    # Means of these few numbers, not medians: they change by little where a few more are kept, and so do the bytes.
    form = replace(form, dim=round(float(demands(values, form.numbers)[:, 0].mean())))
    _, flat, turn = demands(values, form.numbers).mean(0)
    return replace(
        form,
        flat=round(64 * (fineness.flat + 0.5) - 8 * flat / eighths),
        turn=round(64 * (fineness.turn + 0.5) - 8 * turn / eighths),
    )


def to_numbers(cloud: GaussianCloud, form: Form) -> Numbers:
    """The rounded numbers of every Gaussian, in the cloud's order."""
    cloud = cloud.to("cpu")
    assert all(np.isfinite(getattr(cloud, field.name).numpy()).all() for field in fields(cloud)), "NaN cannot be stored"
    values = np.zeros((len(cloud), COLUMNS), np.int32)
    _round_sizes(values, _log_scales(cloud), cloud.opacities.numpy(), form)
    bits = precisions(values, form.numbers)  # [N, 5]
    values[:, NORMAL_U : ANGLE + 1] = rotation_numbers(cloud.quats.numpy(), cloud.scales.numpy(), bits)
    steps = HALF_OCTAVES[bits[:, [2, 3, 3]]]  # [N, 3] of luma, orange, green
    values[:, LUMA:] = np.round(_luma(cloud.sh[:, 0].numpy() * SH_C0, COLOUR_LIMIT) / steps)
    higher = cloud.sh[:, 1:].numpy().astype(np.float64)
    harmonics = np.round(_luma(higher, COLOUR_LIMIT) / _harmonic_steps(bits[:, 4])[:, None])
    return Numbers(_keys(cloud, form.frame), values, harmonics.reshape(len(cloud), -1).astype(np.int32))


@np.errstate(over="ignore", invalid="ignore")  # Damaged files may ask for infinite values; their reader refuses them.
def to_cloud(numbers: Numbers, form: Form) -> GaussianCloud:
    """The cloud that numbers stand for."""
    sizes = np.exp2((np.arange(1 << form.width) + float(form.smallest)) * 8 / form.unit)
    scales, quats, opacities, constant, halves = appearances(numbers.values, form.numbers, sizes, _thicknesses(form))
    if numbers.harmonics.shape[1]:
        higher = numbers.harmonics.reshape(len(halves), -1, 3) * _harmonic_steps(halves)[:, None]
        constant = np.concatenate([constant, _rgb(higher)], axis=1)
    return GaussianCloud(
        means=torch.from_numpy(cell_middles(numbers.keys, np.array(form.frame.origin), form.frame.step)),
        scales=torch.from_numpy(scales),
        quats=torch.from_numpy(quats),
        opacities=torch.from_numpy(opacities),
        sh=_tensor(constant),
    )


def _coarser(fineness: Mapping[str, float], octaves: float) -> dict[str, float]:
    """The numbers of a Fineness so many octaves coarser, not rounded."""
    found = {name: number - STEPS.get(name, 0) * octaves for name, number in fineness.items()}
    found["position"] = fineness["position"] * 2**octaves
    found["unit"] = max(fineness["unit"] / 2**octaves, COARSEST_UNIT)
    found["thin"] = fineness["thin"] + max(-octaves, 0)  # It is counted as coarsely as may be already.
    return found


def _typical(numbers: NDArray) -> float:
    """The mean of the middle half: where two kinds of Gaussians meet it does not jump from one to the next, as the
    median does, and so the bytes do not either."""
    if len(numbers) < 4:
        return float(np.median(numbers))
    first, last = len(numbers) // 4, len(numbers) - len(numbers) // 4
    return float(np.partition(numbers, (first, last - 1))[first:last].mean(dtype=np.float64))


def _frame(cloud: GaussianCloud, logs: NDArray[np.float64], position: float, stride: int) -> Frame:
    """Around the middle of the scene; the step suits the typical thickness, where errors show by opacity."""
    _, middle, short = logs[::stride].T
    # A disc without thickness moves as visibly as one of 1/64 of its width.
    thickness = 2 ** (_typical(middle + np.maximum(short, middle - 6)) / 2)
    step = position * thickness / max(0.25, _typical(cloud.opacities.numpy()[::stride]))
    means = cloud.means.numpy()
    # Order statistics and no mean: a few Gaussians far away do not pull the finely divided part out of the scene.
    low, high = np.percentile(means[::stride].astype(np.float64), (5, 95), axis=0)
    # On a grid: where a few more are kept the cells lie as before, by walls above all, and the bytes do not jump. And
    # off the round numbers, at which scenes that were made have their walls.
    grid = np.exp2(np.floor(np.log2(np.maximum((high - low) / MIDDLES, 1e-30))))
    origin = (np.round((low + high) / 2 / grid - OFF) + OFF) * grid
    reach = float(np.maximum(means.max(0) - origin, origin - means.min(0)).max())
    return Frame(tuple(origin.tolist()), max(step, reach / (CORE << OCTAVES - 1) * 1.001))


def _log_scales(cloud: GaussianCloud) -> NDArray[np.float64]:
    """[N, 3] binary logarithms of the scales, the longest first, within what files of 3DGS hold."""
    logs = np.log2(np.sort(cloud.scales.cpu().numpy().astype(np.float64), axis=1)[:, ::-1].clip(1e-300))
    return np.maximum(logs.clip(-43.0, 28.75), logs[:, :1].clip(-43.0, 28.75) - 12)


def _round_sizes(values: NDArray[np.int32], logs: NDArray[np.float64], opacities: NDArray, form: Form) -> None:
    """Fill in the sizes, from _log_scales, and the opacity."""
    unit = form.unit / 8
    exact = logs * unit - form.smallest  # [N, 3]
    limits = [(1 << form.width) - 1, (1 << form.width - 1) - 1]
    values[:, LONG : MIDDLE + 1] = np.clip(np.round(exact[:, :2] / [1, 2]), 0, limits)
    thickness = np.exp2((exact[:, 2] - 2 * values[:, MIDDLE]) / unit)
    values[:, SHORT] = (thickness * form.thin).clip(0, form.thin - 1)
    grown = values[:, LONG : MIDDLE + 1] * [1, 2] - exact[:, :2]  # [N, 2], by rounding
    roots = np.sqrt((opacities * 2.0 ** (-0.25 * grown.sum(1) / unit)).clip(0, 1))
    values[:, OPACITY] = np.round(roots / HALF_OCTAVES[opacity_halves(values, form.numbers)])


def _thicknesses(form: Form) -> NDArray[np.float64]:
    """[thin] what the numbers of the thinnest axis stand for, in parts of the middle one.

    The first stands for less than the middle of its interval: most of what is thin at all is much thinner.
    """
    parts = (np.arange(form.thin) + 0.5) / form.thin
    parts[0] /= 2
    return parts


def _keys(cloud: GaussianCloud, frame: Frame) -> NDArray[np.uint64]:
    """[N] Morton keys, x most significant."""
    steps = (cloud.means.numpy().astype(np.float64) - np.array(frame.origin)) / frame.step
    octave = np.maximum(np.frexp(np.abs(steps) / CORE)[1] - 1, 0)
    counted = np.floor(np.ldexp(np.abs(steps), -octave)) + octave * float(CORE)
    numbers = np.where(steps < 0, HALF - 1 - counted, HALF + counted).clip(0, 2 * HALF - 1).astype(np.uint64)
    for shift, mask in SPREAD:
        numbers = (numbers | numbers << np.uint64(shift)) & np.uint64(mask)
    return numbers[:, 0] << np.uint64(2) | numbers[:, 1] << np.uint64(1) | numbers[:, 2]


SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
"""Shifts and masks that put two zeros between the bits of a number."""


def _luma(colours: NDArray, limit: float) -> NDArray[np.float64]:
    """Red, green, blue in the last axis, as differences from grey, to luma, orange, green (YCoCg)."""
    red, green, blue = np.moveaxis(colours.astype(np.float64).clip(-limit, limit), -1, 0)
    grey = (red + blue) / 2
    return np.stack([(green + grey) / 2, red - blue, green - grey], axis=-1)


def _rgb(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of _luma."""
    luma, orange, green = np.moveaxis(colours, -1, 0)
    grey = luma - green / 2
    return np.stack([grey + orange / 2, luma + green / 2, grey - orange / 2], axis=-1)


def _harmonic_steps(halves: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N, 3] steps of the luma, orange, green of higher harmonics; the colours are twice as coarse."""
    return HALF_OCTAVES[np.maximum(halves[:, None] - [0, 2, 2], 2)]


def _tensor(numbers: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32))
