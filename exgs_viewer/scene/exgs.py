"""The .exgs file: a compressed cloud in a container that can grow, specified byte by byte in `EXGS.md` beside it.

What a reader is given to decode is bounded before it is decoded, and nothing in the file is executed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.exgs_forms import Payload, as_rounded, coded, load, portion, rounded, tier_counts
from exgs_viewer.scene.exgs_header import MAX_GAUSSIANS, MAX_TIERS, Header, Tier, pack_header, read_header
from exgs_viewer.scene.float16 import LOG_SCALE_LIMITS
from exgs_viewer.settings import CompressionSettings, Report, quiet, write_atomically

FARTHEST = 1e12
"""World units. Squares of larger coordinates would come near the end of float32."""
MAX_CAMERAS = 200
"""Cameras that go into the metadata; more are thinned evenly."""


DEFAULT = CompressionSettings(quality="default")
"""For a cloud of which nothing is known: rounding costs less than what can be seen."""


def encode(
    cloud: GaussianCloud,
    meta: dict[str, Any] | None = None,
    report: Report = quiet,
    tiers: Sequence[int] = (),
    settings: CompressionSettings = DEFAULT,
) -> bytes:
    """The bytes of an .exgs file in the codec and quality of `settings`, for a cloud with the most important first.

    `tiers` are the counts of its tiers, which add up to N; (N,) makes the smallest file, more show a first part early.
    Raises SceneError where the cloud is empty, too large or beyond the codec, or `meta` is no JSON of at most 64 kB.
    """
    return _encode(cloud, meta or {}, report, tiers, settings)[0]


def stored(cloud: GaussianCloud, settings: CompressionSettings = DEFAULT) -> GaussianCloud:
    """Each Gaussian exactly as decoding the encoded cloud yields it, in the order of `cloud`, without coding it."""
    return as_rounded(cloud, settings).to(cloud.device)


def decode(data: bytes, name: str, report: Report = quiet) -> tuple[GaussianCloud, dict[str, Any]]:
    """The cloud in the bytes of an .exgs file, and its metadata; `name` stands in what SceneError says."""
    header, cloud, _ = _decode(data, name, report)
    return cloud, header.meta


def read(path: Path, report: Report = quiet) -> Scene:
    """Open an .exgs file. Raises SceneError where it is damaged; an incomplete one shows what has arrived."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}).") from error
    header, cloud, warnings = _decode(data, str(path), report)
    return Scene(
        cloud=cloud,
        path=Path(path),
        format="exgs",
        bytes=len(data),
        up=_up(header.meta),
        cameras=_cameras(header.meta),
        warnings=warnings,
        meta=header.meta,
    )


def write(
    path: Path,
    cloud: GaussianCloud,
    meta: dict[str, Any] | None = None,
    report: Report = quiet,
    settings: CompressionSettings = DEFAULT,
) -> int:
    """Write an .exgs file and return its bytes.

    It replaces what was there only once it has been read back from the disk and compared.
    Raises SceneError where it cannot be written or does not hold what was meant.
    """
    path = Path(path)
    data, meant = _encode(cloud, meta or {}, portion(report, 0, 0.8), (), settings)

    def check(written: Path) -> None:
        stored = written.read_bytes()
        found = _decode(stored, str(path), portion(report, 0.8, 1))[1]
        if stored != data or not _equal(found, meant):
            raise SceneError(f"{path}: what was written reads back differently; the disk or the memory may be faulty.")

    try:
        write_atomically(path, data, check)
    except OSError as error:
        raise SceneError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return len(data)


def metadata(scene: Scene, settings: CompressionSettings) -> dict[str, Any]:
    """What a compressed file says about the scene it came from: source, way up, views, how it was compressed."""
    step = -(-len(scene.cameras) // MAX_CAMERAS) or 1
    meta = {
        "source": scene.path.name if scene.path else scene.format,
        "source_gaussians": len(scene.cloud),
        "source_bytes": scene.bytes,
        "compression": asdict(settings),
        "up": scene.up,
        "antialias": scene.antialiased,
        "cameras": [asdict(camera) for camera in scene.cameras[::step]],
    }
    return {key: value for key, value in meta.items() if value}


def _encode(
    cloud: GaussianCloud, meta: dict, report: Report, tiers: Sequence[int], settings: CompressionSettings
) -> tuple[bytes, GaussianCloud]:
    """The file and the cloud that decoding it must yield."""
    if not 1 <= len(cloud) <= MAX_GAUSSIANS:
        raise SceneError(f"An .exgs file holds 1 to {MAX_GAUSSIANS} Gaussians; this cloud has {len(cloud)}.")
    tiers = tuple(tiers) or tier_counts(len(cloud), settings)
    assert sum(tiers) == len(cloud) and min(tiers) > 0 and len(tiers) <= MAX_TIERS // 4, f"{tiers} for {len(cloud)}"
    report(0.0, "Rounding")
    rounding = rounded(cloud, settings, tiers)
    parts = coded(rounding, portion(report, 0.1, 1, "Encoding"))
    head = pack_header(replace(rounding.header, tiers=tuple(tier for tier, _ in parts), meta=meta))
    return b"".join([head, *(data for _, data in parts)]), rounding.cloud()


def _decode(data: bytes, name: str, report: Report) -> tuple[Header, GaussianCloud, tuple[str, ...]]:
    """Header, cloud of all complete tiers, and warnings. Raises SceneError that names the file."""
    try:
        header, start = read_header(data)
        payloads, missing = _arrived(memoryview(data)[start:], header)
        cloud = load(header, payloads, portion(report, 0, 1, "Decoding"))
    except SceneError as error:
        raise SceneError(f"{name}: {error}.") from error
    except MemoryError as error:
        raise SceneError(f"{name}: it holds more Gaussians than fit into the memory of this machine.") from error
    _check_drawable(cloud, name)
    report(1.0, "Decoded")
    return header, cloud, (_partial(header, len(cloud), missing),) if missing else ()


def _arrived(data: memoryview, header: Header) -> tuple[list[Payload], str]:
    """The tiers that are whole, and what is wrong with the first that is not ('' if all are whole)."""
    expected = sum(tier.bytes for tier in header.tiers)
    if len(data) > expected:
        raise SceneError(f"the file is damaged: {len(data) - expected} bytes follow where it should end")
    payloads, start, problem = [], 0, ""
    for tier in header.tiers:
        payload = data[start : start + tier.bytes]
        start += tier.bytes
        problem = _problem(payload, tier)
        if problem:
            break
        payloads.append((tier, payload))
    if not any(tier.kind == 0 for tier, _ in payloads):
        raise SceneError(f"nothing in it can be shown, because {problem}")
    return payloads, problem


def _partial(header: Header, arrived: int, missing: str) -> str:
    if arrived < header.gaussians:
        return f"partial file: {arrived} of {header.gaussians} Gaussians are shown, because {missing}"
    return f"partial file: some colours do not change with the view as they should, because {missing}"


def _problem(payload: memoryview, tier: Tier) -> str:
    if len(payload) < tier.bytes:
        return f"the file ends {tier.bytes - len(payload)} bytes too early"
    return "" if zlib.crc32(payload) == tier.crc else "it is damaged (checksum)"


@np.errstate(invalid="ignore")
def _check_drawable(cloud: GaussianCloud, name: str) -> None:
    # In numpy: torch would wake all its threads for each of these.
    means, scales, quats, opacities, sh = (getattr(cloud, field.name).numpy() for field in fields(cloud))
    sound = (
        max(means.max(), -means.min()) <= FARTHEST  # NaN compares false, so these also find what is not finite.
        and scales.min() >= math.exp(LOG_SCALE_LIMITS[0]) * 0.99
        and scales.max() <= math.exp(LOG_SCALE_LIMITS[1]) * 1.01
        and np.einsum("nc,nc->n", quats, quats).min() > 0.98
        and all(math.isfinite(float(values.sum(dtype=np.float64))) for values in (quats, opacities, sh))
    )
    if not sound:
        raise SceneError(f"{name}: it is damaged: some Gaussians have infinite, missing or absurd values.")


def _equal(one: GaussianCloud, other: GaussianCloud) -> bool:
    return all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def _up(meta: dict[str, Any]) -> Vector | None:
    """The stored up direction, None where there is none or it makes no sense."""
    try:
        up = torch.tensor([float(part) for part in meta["up"]], dtype=torch.float64)
        length = float(up.norm())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return tuple((up / length).tolist()) if len(up) == 3 and 0 < length < math.inf else None


def _cameras(meta: dict[str, Any]) -> tuple[Camera, ...]:
    """The stored cameras that make sense."""
    entries = meta.get("cameras")
    cameras = [_camera(entry) for entry in entries] if isinstance(entries, list) else []
    return tuple(camera for camera in cameras if camera is not None)


def _camera(entry: Any) -> Camera | None:
    try:
        position, rotation = (tuple(float(part) for part in entry[key]) for key in ("position", "rotation"))
        fov_y = float(entry["fov_y"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    length = math.hypot(*rotation)
    usable = len(position) == 3 and len(rotation) == 4 and abs(length - 1) < 1e-3 and 0 < fov_y < math.pi
    return Camera(position, rotation, fov_y) if usable and all(map(math.isfinite, position)) else None
