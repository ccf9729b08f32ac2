"""The .spz of Niantic, what its bytes mean: versions 2 to 4 are read; 3, which every viewer knows, is written.

Stored in a frame with x right, y up, z back; turned to x right, y down, z forward, as a .ply has it and as
splat-transform reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exgs_viewer.scene import Scene
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.scene.float16 import frame_around, position_codes, spatial_order
from exgs_viewer.scene.losses import counted, no_cameras, no_up, too_strong
from exgs_viewer.scene.rotations import smallest_three
from exgs_viewer.scene.rows import Rows, allocate, finish, parts, settle
from exgs_viewer.scene.spz_file import Columns, Head, packed, unpacked
from exgs_viewer.settings import Report, quiet, write_atomically

TURN_POSITION = np.array([1, -1, -1], np.float32)
TURN_SH = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
"""Sign of each spherical harmonic when y and z change theirs."""

FARTHEST_STEP = (1 << 23) - 1
"""Largest coordinate in steps: a signed number of 24 bits."""
USUAL_FRACTION, FINEST_FRACTION = 12, 23
"""Bits behind the point that Niantic's writer always takes, and the most there can be."""
FINE = 16
"""Steps to the middle extent of a typical Gaussian, so that rounding its place does not show."""
LOG_SCALES = (-10.0, -10.0 + 255 / 16)
"""Natural logarithms of the smallest and the largest standard deviation a byte can hold."""
COLOUR = 0.15
"""The byte of a constant coefficient c is 255 (0.15 c + 0.5)."""


def read(path: Path, report: Report = quiet) -> Scene:
    """Read a .spz. Raises SceneError where it is damaged or of a version not known here."""
    path = Path(path)
    head, columns = unpacked(path, report)
    rows = allocate(path, head.count, min(head.degree, 3))
    for part in parts(0, head.count):
        report(0.5 + 0.5 * part.start / head.count, f"Reading {path.name}")
        _fill(rows, part, {name: column[part] for name, column in columns.items()}, head)
        settle(rows, part)
    cloud, dropped = finish(rows, path)
    notes = ["Its colours have spherical harmonics of degree 4; degree 3 was kept."] if head.degree > 3 else []
    if head.version >= 4 and head.flags & 2:
        notes.append("It has extensions, which this program does not know; they were skipped.")
    meta = {"version": head.version, "antialias": bool(head.flags & 1)}
    return Scene(cloud, path, "spz", path.stat().st_size, warnings=(*notes, *dropped), meta=meta)


def write(path: Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet) -> int:
    """Write a .spz of version 3, neighbours in space together; returns its bytes. It keeps `meta["antialias"]`."""
    flags = int(bool((meta or {}).get("antialias")))
    head = Head(3, len(cloud), cloud.sh_degree, _fraction(cloud), flags)
    write_atomically(Path(path), packed(head, _columns(head, cloud.to("cpu"), report)))
    return Path(path).stat().st_size


def losses(scene: Scene) -> list[str]:
    """A sentence for each thing of the scene that has no place in this format."""
    cloud, found = scene.cloud, [*no_cameras(scene), *no_up(scene)]
    step = 2.0 ** -_fraction(cloud)
    if float(cloud.means.abs().max()) > FARTHEST_STEP * step:
        found.append(f"Gaussians farther than {FARTHEST_STEP * step:,.0f} from the origin were brought that near.")
    elif step > _typical_size(cloud):
        found.append(f"The scene reaches so far that places were rounded to {step:.3g}, coarser than its Gaussians.")
    logs, slack = cloud.scales.log(), 1 / 32
    outside = ((logs < LOG_SCALES[0] - slack) | (logs > LOG_SCALES[1] + slack)).any(dim=1)
    limits = " or ".join(f"{math.exp(limit):.2g}" for limit in LOG_SCALES)
    found += counted(outside, f"were thinner or larger than the format can hold; they were brought to {limits}.")
    return found + too_strong(cloud, -1 - 1 / 256, 1.0)


def _fraction(cloud: GaussianCloud) -> int:
    """Bits behind the point: as many as the size of the Gaussians calls for and as their distances leave room for."""
    reach, size = float(cloud.means.abs().max()), _typical_size(cloud)
    room = math.floor(math.log2(FARTHEST_STEP / reach)) if reach > 0 else FINEST_FRACTION
    return max(0, min(room, FINEST_FRACTION, max(USUAL_FRACTION, math.ceil(math.log2(FINE / size)))))


def _typical_size(cloud: GaussianCloud) -> float:
    """Median over the Gaussians of the middle of their three standard deviations, world units."""
    return float(cloud.scales.median(dim=1).values.median())


def _columns(head: Head, cloud: GaussianCloud, report: Report) -> Iterator[bytes]:
    """One attribute after the other, each along the Morton curve, where neighbours are alike and pack better."""
    order = torch.from_numpy(spatial_order(position_codes(cloud, frame_around(cloud))))
    coded, done = _coders(cloud, head), 0
    for name, width in head.columns.items():
        for part in parts(0, head.count if width else 0):
            report(done / head.bytes, "Writing .spz")
            yield coded[name](order[part]).tobytes()
            done += width * (part.stop - part.start)


def _fill(rows: Rows, part: slice, block: Columns, head: Head) -> None:
    rows.means[part] = _positions(block["position"], head.fraction)
    rows.scales[part] = np.exp(block["scale"] / np.float32(16) + np.float32(LOG_SCALES[0]))
    rows.quats[part] = _smallest_three(block["rotation"]) if head.version >= 3 else _first_three(block["rotation"])
    rows.quats[part, 2:] *= -1
    rows.opacities[part] = block["alpha"][:, 0] / np.float32(255)
    rows.sh[part, 0] = (block["colour"] / 255 - 0.5) / COLOUR
    kept = SH_COUNTS[min(head.degree, 3)]
    rest = block["rest"].reshape(len(block["rest"]), -1, 3)[:, : kept - 1]
    rows.sh[part, 1:] = (rest - np.float32(128)) / 128 * TURN_SH[1:kept, None]


def _positions(block: np.ndarray, fraction: int) -> np.ndarray:
    """[n, 9] bytes, three signed 24-bit numbers of fixed point -> [n, 3]."""
    low, middle, high = (block.reshape(len(block), 3, 3)[:, :, byte].astype(np.int32) for byte in range(3))
    signed = ((high ^ 0x80) - 0x80) << 16
    return (low | middle << 8 | signed).astype(np.float32) / 2**fraction * TURN_POSITION


def _first_three(block: np.ndarray) -> np.ndarray:
    """[n, 3] bytes x y z of a rotation whose w is positive -> [n, 4] w x y z."""
    xyz = block / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True)))
    return np.concatenate([w, xyz], axis=1)


def _coders(cloud: GaussianCloud, head: Head) -> dict[str, Callable[[torch.Tensor], np.ndarray]]:
    """For each attribute, what makes its bytes [n, width] for the Gaussians at an index."""

    def take(values: torch.Tensor) -> np.ndarray:
        return values.detach().numpy()

    turn = TURN_SH[1 : SH_COUNTS[head.degree], None]
    return {
        "position": lambda index: _position_bytes(take(cloud.means[index]), head.fraction),
        "alpha": lambda index: _bytes(take(cloud.opacities[index]) * 255),
        "colour": lambda index: _bytes((take(cloud.sh[index, 0]) * COLOUR + 0.5) * 255),
        "scale": lambda index: _bytes((np.log(take(cloud.scales[index])) - LOG_SCALES[0]) * 16),
        "rotation": lambda index: _rotation_bytes(take(cloud.quats[index])),
        "rest": lambda index: _bytes(take(cloud.sh[index, 1:]) * turn * 128 + 128),
    }


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _position_bytes(means: np.ndarray, fraction: int) -> np.ndarray:
    """[n, 3] -> [n, 9] bytes: the inverse of `_positions`."""
    steps = np.rint(means.astype(np.float64) * TURN_POSITION * 2.0**fraction)
    words = steps.clip(-FARTHEST_STEP, FARTHEST_STEP).astype("<i4")
    return words.view(np.uint8).reshape(len(means), 3, 4)[:, :, :3].reshape(len(means), 9)


def _rotation_bytes(quats: np.ndarray) -> np.ndarray:
    """[n, 4] w x y z -> [n, 4] bytes: the inverse of `_smallest_three`, turned."""
    which, others = smallest_three(quats[:, [1, 2, 3, 0]] * np.array([1, -1, -1, 1], np.float32))
    words = which.astype(np.uint32)
    for part in others.T:
        size = np.rint(np.abs(part) * (math.sqrt(2) * 511)).astype(np.uint32)
        words = words << np.uint32(10) | (part < 0).astype(np.uint32) << np.uint32(9) | size
    return words.astype("<u4").view(np.uint8).reshape(-1, 4)


def _smallest_three(block: np.ndarray) -> np.ndarray:
    """[n, 4] bytes: which of x y z w is largest in 2 bits, the others as sign and 9 bits each -> [n, 4] w x y z."""
    words = np.ascontiguousarray(block).view("<u4")[:, 0]
    fields = np.stack([(words >> shift) & 1023 for shift in (20, 10, 0)], axis=1)
    others = (fields & 511) / 511 * math.sqrt(0.5) * np.where(fields & 512, -1, 1)  # [n, 3]
    largest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    xyzw = np.empty((len(words), 4))
    for place in range(4):
        chosen = words >> 30 == place
        xyzw[chosen] = np.insert(others[chosen], place, largest[chosen], axis=1)
    return xyzw[:, [3, 0, 1, 2]]
