"""The .splat of antimatter15: 32 bytes per Gaussian and nothing else.

x y z and three scales as float32, red green blue alpha as bytes, a quaternion w x y z as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.scene.losses import counted, no_cameras, no_up
from exgs_viewer.scene.rows import Rows, allocate, finish, parts, settle
from exgs_viewer.settings import Report, quiet, write_atomically

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])
BEHIND = 0.65
"""Grey that is taken to stand behind a Gaussian brighter than white: highlights lie on what is bright already."""
MOST_GROWTH, MOST_OPAQUE = 8.0, 0.99
"""How many times more opaque such a Gaussian may become, and how opaque."""
TEXT = frozenset(range(32, 127)) | {9, 10, 13}
"""Bytes of plain text."""


def read(path: Path, report: Report = quiet) -> Scene:
    """Read a .splat. Raises SceneError where its size or its values show that it is none."""
    path = Path(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error}).") from error
    _check(path, data)
    table = data.view(ROW)
    rows = allocate(path, len(table), sh_degree=0)
    for part in parts(0, len(table)):
        report(part.start / len(table), f"Reading {path.name}")
        _fill(rows, part, table[part])
        settle(rows, part)
    cloud, dropped = finish(rows, path)
    return Scene(cloud, path, "splat", len(data), warnings=tuple(dropped))


def write(path: Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet) -> int:
    """Write a .splat, which holds neither view-dependent colour nor anything of `meta`; returns its bytes."""
    write_atomically(Path(path), _encoded(cloud.to("cpu"), report))
    return Path(path).stat().st_size


def losses(scene: Scene) -> list[str]:
    """A sentence for each thing of the scene that has no place in this format."""
    cloud, found = scene.cloud, [*no_cameras(scene), *no_up(scene)]
    if cloud.sh_degree:
        left_out = f"spherical harmonics of degree {cloud.sh_degree} were left out."
        found.append(f"A .splat has the same colour from every side; {left_out}")
    colour, slack = 0.5 + SH_C0 * cloud.sh[:, 0], 0.5 / 255
    # Less than black is drawn as black, so nothing is lost there.
    return found + counted(
        (colour > 1 + slack).any(dim=1), "were brighter than white; they were made white and more opaque."
    )


def _check(path: Path, data: np.ndarray) -> None:
    if len(data) == 0:
        raise SceneError(f"{path}: the file is empty.")
    if data[:4].tobytes() in (b"ply\n", b"ply\r"):
        raise SceneError(f"{path}: this is a .ply; give it that ending.")
    if set(data[:4096].tolist()) <= TEXT:
        raise SceneError(f"{path}: this is a text file, no .splat.")
    if len(data) % ROW.itemsize:
        held = f"{len(data):,} bytes are no multiple of {ROW.itemsize}"
        raise SceneError(f"{path}: {held}; the file was cut short or is no .splat.")


def _fill(rows: Rows, part: slice, table: np.ndarray) -> None:
    rows.means[part] = table["means"]
    rows.scales[part] = table["scales"]
    # Writers cut q * 128 + 128 down to a byte; 127.5 is the middle of what was cut, and no byte gives length zero.
    rows.quats[part] = table["quats"] - np.float32(127.5)
    rows.sh[part, 0] = (table["rgba"][:, :3] / 255 - 0.5) / SH_C0
    rows.opacities[part] = table["rgba"][:, 3] / np.float32(255)


def _encoded(cloud: GaussianCloud, report: Report) -> Iterator[bytes]:
    for part in parts(0, len(cloud)):
        report(part.start / len(cloud), "Writing .splat")
        block = cloud.take(part)
        table = np.empty(len(block), ROW)
        table["means"], table["scales"] = block.means.detach().numpy(), block.scales.detach().numpy()
        color, opacity = _within_bytes(0.5 + SH_C0 * block.sh[:, 0].detach().numpy(), block.opacities.detach().numpy())
        table["rgba"][:, :3], table["rgba"][:, 3] = np.rint(color * 255), np.rint(opacity * 255)
        table["quats"] = np.rint(block.quats.detach().numpy() * 127.5 + 127.5)
        yield table.tobytes()


def _within_bytes(color: NDArray[np.float32], opacity: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Colours [N, 3] brought into [0, 1], and opacities [N] that make up for what is cut from above.

    Over a background b, opacity o and colour c add o (c - b): the least-squares o for the limited colour keeps that.
    """
    limited = color.clip(0, 1)
    over, left = np.maximum(color, 0) - BEHIND, limited - BEHIND
    growth = (over * left).sum(1) / (left * left).sum(1)
    grown = np.minimum(opacity * growth.clip(1, MOST_GROWTH), np.maximum(opacity, MOST_OPAQUE))
    return limited, np.where((color > 1).any(1), grown, opacity)
