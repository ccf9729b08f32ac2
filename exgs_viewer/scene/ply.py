"""The .ply of 3D Gaussian Splatting: one row of numbers per Gaussian, logarithms of scales and logits of opacities.

Plain layouts (no lists) are read here, block by block, so that a file of any size needs little more memory than its
cloud; plyfile reads layouts with lists.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import Scene, compressed_ply
from exgs_viewer.scene.cloud import SH_COUNTS, GaussianCloud
from exgs_viewer.scene.losses import no_cameras, oblique_up
from exgs_viewer.scene.ply_header import Element, Header, described, header_bytes, read_header, up_axis
from exgs_viewer.scene.rows import BLOCK, Rows, allocate, finish, parts, settle
from exgs_viewer.settings import Report, quiet, write_atomically

MEANS, SCALES = ("x", "y", "z"), ("scale_0", "scale_1", "scale_2")
QUATS, CONSTANT = ("rot_0", "rot_1", "rot_2", "rot_3"), ("f_dc_0", "f_dc_1", "f_dc_2")
NEEDED = (*MEANS, *SCALES, *QUATS, "opacity", *CONSTANT)
"""Properties without which a .ply holds no Gaussians."""

LOGIT_LIMIT = 15.0
"""Opacities of exactly 0 and 1 have infinite logits; other readers choke on those."""

LINES = 2048
"""Rows of text parsed at once."""

Blocks = Iterator[np.ndarray]


def read(path: Path, report: Report = quiet) -> Scene:
    """Read a .ply, plain or compressed. Raises SceneError that says what the file lacks or where it breaks."""
    path = Path(path)
    try:
        header = read_header(path)
        vertex = header.element("vertex")
        if vertex is None:
            raise SceneError(f"{path}: the .ply has no element 'vertex', so it holds no Gaussians.")
        if compressed_ply.is_compressed(header):
            return compressed_ply.read(path, header, report)
        return _read_plain(path, header, vertex, report)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror or error}).") from error


def write(path: Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet) -> int:
    """Write the standard float32 little-endian .ply, normals of zero included; returns its bytes.

    `meta["comments"]` and `meta["up"]` become comment lines; nothing else of `meta` has a place in this format.
    """
    names = (*MEANS, "nx", "ny", "nz", *CONSTANT, *_rest_names(cloud.sh_degree), "opacity", *SCALES, *QUATS)
    vertex = Element("vertex", len(cloud), tuple((name, "f4") for name in names))
    write_atomically(Path(path), _encoded(header_bytes([vertex], meta or {}), cloud, report))
    return Path(path).stat().st_size


def losses(scene: Scene) -> list[str]:
    """A sentence for each thing of the scene that has no place in this format."""
    return [*no_cameras(scene), *oblique_up(scene)]


def _read_plain(path: Path, header: Header, vertex: Element, report: Report) -> Scene:
    missing = [name for name in NEEDED if name not in vertex.names]
    if missing:
        what = "a mesh" if header.element("face") else "a point cloud"
        raise SceneError(f"{path}: this .ply is {what} without Gaussian splats; it lacks {', '.join(missing)}.")
    degree, wanted, warnings = _colours(path, vertex)
    _check_size(path, header, vertex)
    rows = allocate(path, vertex.count, min(degree, 3))
    columns, blocks = _blocks(path, header, vertex, wanted, report)
    places = [columns.index(name) for name in wanted]
    done = 0
    for block in blocks:
        report(done / vertex.count, f"Reading {path.name}")
        part = slice(done, done + len(block))
        _fill(rows, part, block, places)
        settle(rows, part)
        done += len(block)
    if done < vertex.count:
        raise SceneError(f"{path}: the file ends after {done:,} of its {vertex.count:,} Gaussians.")
    cloud, dropped = finish(rows, path)
    size, up = path.stat().st_size, up_axis(header.comments)
    return Scene(cloud, path, "ply", size, up, warnings=(*warnings, *dropped), meta=described(header))


def _rest_names(degree: int) -> list[str]:
    return [f"f_rest_{number}" for number in range(3 * ((degree + 1) ** 2 - 1))]


def _colours(path: Path, vertex: Element) -> tuple[int, list[str], list[str]]:
    """The degree of the file, the properties to read in the order of Rows, and what there is to warn about.

    f_rest is stored channel by channel; Rows wants coefficient by coefficient.
    """
    count = sum(name.startswith("f_rest_") for name in vertex.names)
    degree = next((d for d in range(10) if 3 * ((d + 1) ** 2 - 1) == count), None)
    if degree is None or any(name not in vertex.names for name in _rest_names(degree)):
        raise SceneError(f"{path}: the .ply has {count} properties f_rest_*; 0, 9, 24 or 45 in a row are expected.")
    per_channel = (degree + 1) ** 2 - 1
    kept = SH_COUNTS[min(degree, 3)] - 1
    rest = [f"f_rest_{channel * per_channel + k}" for k in range(kept) for channel in range(3)]
    cut = [f"Its colours have spherical harmonics of degree {degree}; degree 3 was kept."] if degree > 3 else []
    return degree, [*NEEDED, *rest], cut


def _check_size(path: Path, header: Header, vertex: Element) -> None:
    """Believe no count that the bytes of the file cannot hold: SceneError before anything is allocated."""
    for element in (*header.before("vertex"), vertex):
        text = 2 * len(element.properties)
        least = text if not header.byte_order else sum(1 if k == "list" else int(k[1]) for _, k in element.properties)
        held = max(path.stat().st_size + 1 - header.size, 0) // max(least, 1)
        if element.count > held:
            noun = "Gaussians" if element.name == "vertex" else f"rows of '{element.name}'"
            ends = f"the file ends after {held:,} of its {element.count:,} {noun}"
            raise SceneError(f"{path}: {ends}; it was cut short or its header is wrong.")


def _fill(rows: Rows, part: slice, block: np.ndarray, places: list[int]) -> None:
    """Copy the columns `places` (NEEDED, then f_rest) of a block [n, P] into `rows`, and activate them."""

    def take(first: int, last: int, out: np.ndarray) -> None:
        np.take(block, places[first:last], axis=1, out=out, mode="clip")

    take(0, 3, rows.means[part])
    take(3, 6, rows.scales[part])
    take(6, 10, rows.quats[part])
    take(11, len(places), rows.sh[part].reshape(len(block), -1))
    activate(rows.scales[part], block[:, places[10]], rows.opacities[part])


def activate(scales: np.ndarray, logits: np.ndarray, opacities: np.ndarray) -> None:
    """Logarithms in `scales` [n, 3] become scales in place; `opacities` [n] become the sigmoid of `logits` [n]."""
    with np.errstate(all="ignore"):
        # A scale of exp(-inf) would pass for a flat disc, yet the file holds an infinite value.
        np.copyto(scales, np.nan, where=np.isneginf(scales))
        np.exp(scales, out=scales)
        np.exp(-logits, out=opacities)
        np.divide(1.0, 1.0 + opacities, out=opacities)


def _blocks(path: Path, header: Header, vertex: Element, wanted: list[str], report: Report) -> tuple[list[str], Blocks]:
    """The names of the columns that follow, and all rows as blocks [n, columns] float32."""
    if any(element.has_lists for element in (*header.before("vertex"), vertex)):
        return wanted, _listed_blocks(path, wanted, report)
    if not header.byte_order:
        return list(vertex.names), _text_blocks(path, header, vertex)
    row_type = vertex.row_type(header.byte_order)
    before = sum(e.count * e.row_type("<").itemsize for e in header.before("vertex"))
    raw = _binary_blocks(path, header.size + before, row_type, vertex.count)
    if all(kind == "f4" for _, kind in vertex.properties) and header.byte_order == "<":
        return list(vertex.names), (block.view(np.float32).reshape(len(block), -1) for block in raw)
    return wanted, (_stacked(block, wanted) for block in raw)


def _binary_blocks(path: Path, offset: int, row_type: np.dtype, count: int) -> Blocks:
    """Rows as they lie in the file, [n] structures, in a buffer that the next block overwrites."""
    buffer = np.empty(min(BLOCK, count), row_type)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for part in parts(0, count):
            block = buffer[: part.stop - part.start]
            whole = file.readinto(block.view(np.uint8)) // row_type.itemsize
            if whole:
                yield block[:whole]
            if whole < len(block):
                return


def _stacked(block: np.ndarray, wanted: list[str]) -> np.ndarray:
    """The wanted fields of [n] structures as [n, C] float32; what float32 cannot hold becomes infinite."""
    with np.errstate(all="ignore"):
        return np.stack([block[name].astype(np.float32) for name in wanted], axis=1)


def _text_blocks(path: Path, header: Header, vertex: Element) -> Blocks:
    with path.open("rb") as binary:
        binary.seek(header.size)
        lines = (line for line in io.TextIOWrapper(binary, "latin-1") if not line.isspace())
        for _ in islice(lines, sum(element.count for element in header.before("vertex"))):
            pass
        for part in parts(0, vertex.count, LINES):
            chosen = list(islice(lines, part.stop - part.start))
            if not chosen:
                return
            try:
                block = np.loadtxt(chosen, np.float32, comments=None, ndmin=2)
            except ValueError as error:
                raise _broken_line(path, part.start, vertex) from error
            if block.shape[1] != len(vertex.properties):
                raise _broken_line(path, part.start, vertex)
            yield block


def _broken_line(path: Path, row: int, vertex: Element) -> SceneError:
    where = f"one of the rows from {row + 1:,} to {min(row + LINES, vertex.count):,}"
    return SceneError(f"{path}: {where} does not hold the {len(vertex.properties)} numbers its header promises.")


def _listed_blocks(path: Path, wanted: list[str], report: Report) -> Blocks:
    """Rows of a file with lists in or before its vertices, which only plyfile can find its way through."""
    import plyfile

    stream = _Watched(path, report)
    try:
        table = plyfile.PlyData.read(stream, mmap=False)["vertex"].data
    except (plyfile.PlyParseError, ValueError, IndexError, MemoryError, OverflowError) as error:
        raise stream.cancelled or SceneError(f"{path}: the .ply is broken ({error}).") from error
    finally:
        stream.close()
    for part in parts(0, len(table)):
        yield _stacked(table[part], wanted)


class _Watched(io.FileIO):
    """A file that reports how far it was read, and remembers being cancelled: plyfile swallows every exception."""

    cancelled: Cancelled | None = None

    def __init__(self, path: Path, report: Report) -> None:
        super().__init__(path)
        self._report, self._path, self._size = report, path, max(path.stat().st_size, 1)
        self._told = time.monotonic()

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            try:
                self._report(self.tell() / self._size, f"Reading {self._path.name}")
            except Cancelled as error:
                self.cancelled = error
                raise
        return super().read(size)


def _encoded(head: bytes, cloud: GaussianCloud, report: Report) -> Iterator[bytes]:
    """The bytes of the file, block by block."""
    yield head
    cloud = cloud.to("cpu")
    for part in parts(0, len(cloud)):
        report(part.start / max(len(cloud), 1), "Writing .ply")
        block = cloud.take(part)
        n, sh = len(block), block.sh.detach().numpy()
        opacity = block.opacities.detach().numpy().astype(np.float64)
        with np.errstate(divide="ignore"):
            logits = np.clip(np.log(opacity) - np.log1p(-opacity), -LOGIT_LIMIT, LOGIT_LIMIT)
            scales = np.log(block.scales.detach().numpy())
        columns = (
            *(block.means.detach().numpy(), np.zeros((n, 3)), sh[:, 0], sh[:, 1:].transpose(0, 2, 1).reshape(n, -1)),
            *(logits[:, None], scales, block.quats.detach().numpy()),
        )
        yield np.concatenate(columns, axis=1).astype("<f4").tobytes()
