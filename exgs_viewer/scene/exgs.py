"""The .exgs file: a compressed cloud in the form of the paper (float16, LZMA; ExGS 4.1), in a container that can grow.

This page is the whole specification, version 1.0. Everything is little-endian; "must" means that readers refuse the
file otherwise. What a reader is given to decode is bounded before it is decoded, and nothing in the file is executed.

    at    type     what
    0     8 bytes  89 45 47 53 0D 0A 1A 0A: tells a file that went through a text-mode copy from one that did not
    8     u16 u16  major version, must be 1; minor version, any: a reader ignores what it does not know
    12    u32      flags. Bits 0-3: mode, must be 0 (the paper's form, below). Bits 4-7: SH degree of the colour, 0-3.
                   Bits 8-15 must be 0. Bits 16-31 are for remarks and are ignored.
    16    u64      N, Gaussians in the whole file, 1 to 2^28
    24    u32      number of tiers, 1 to 256
    28    u32      h, where the tier index begins: 80 + the length of all chunks, at most 2^20
    32    4 x f64  origin x, y, z and step: position = origin + step * stored number; finite, step > 0
    64    8 x i16  parameters of the mode; all 0 in mode 0
    80    chunks   as many as fit before h, each: 4 ASCII letters, u32 length, that many bytes. An unknown chunk is
                   skipped where its first letter is lower-case and must not occur where it is upper-case.
                   'meta': a JSON object in UTF-8, at most 65,536 bytes: what the program says about the scene, free
                   but for `up` ([x, y, z], the direction that points up) and `cameras` (a list of
                   {"position": [x, y, z], "rotation": [w, x, y, z], "fov_y": radians}, as scene/camera.py has them).
    h     tiers    the tier index, 32 bytes each: u32 kind, u32 count, u64 bytes, u64 raw bytes, u32 CRC-32, u32 zero.
                   Kind 0 holds `count` Gaussians; their counts must add up to N. Other kinds are skipped.
                   `raw bytes` is the sum of the decoded streams and must not exceed 64 * bytes, so that a small
                   file cannot make a reader allocate much. CRC-32 (zlib's) is of the coded bytes.
          u32      CRC-32 of everything above
          tiers    the coded bytes of the tiers, one after the other, to the end of the file

A file that ends early holds the tiers that are complete: earlier tiers matter more, and each stands alone.

A tier of kind 0 is `u8 S`, S times `u8 coder, u32 length`, then S streams without gaps. Coder 0: bytes as they are.
Coder 1: an LZMA2 stream without any header (xz's "raw" format), dictionary 4096 bytes. Coders 2 and 3 are kept for a
range coder and zstd. Each stream decodes to exactly `count` bytes, one for each Gaussian.

In mode 0 a Gaussian of SH degree d is C = 11 + 3 (d + 1)^2 float16 numbers: x y z as (position - origin) / step; the
constant SH colour r g b; opacity as logit(opacity); three natural logarithms of the standard deviations; the unit
quaternion w x y z (local to world), w >= 0; then the higher SH coefficients in order, r g b each (basis and signs as in
the original 3DGS). Each number becomes a u16 code that sorts as the number does: its bits b become NOT b where the sign
bit is set and b OR 0x8000 otherwise.
S = 2 C: streams 2k and 2k + 1 hold the high and the low bytes of code k of all Gaussians. Four codes are replaced by
differences modulo 2^16, written as zigzag integers (0, -1, 1, -2 ... as 0, 1, 2, 3 ...):
    x, y, z  minus the same code of the Gaussian before it; the first Gaussian is stored as it is, without zigzag
    w        minus the code of float16(sqrt(max(0, 1 - x x - y y - z z))) of the stored quaternion's x, y, z, computed
             from left to right in float64 and rounded to nearest even
Positions must lie within 10^12, logarithms of scales within -30 and 20, quaternions must not be zero.
Gaussians of a tier may come in any order; this program sorts them along the Morton curve of their position codes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.exgs_header import (
    MAX_GAUSSIANS,
    MAX_RATIO,
    MAX_TIERS,
    Header,
    Tier,
    pack_header,
    read_header,
)
from exgs_viewer.scene.float16 import (
    LOG_SCALE_LIMITS,
    Codes,
    Frame,
    frame_around,
    from_planes,
    rows,
    spatial_order,
    to_cloud,
    to_codes,
    to_planes,
)
from exgs_viewer.scene.streams import pack, unpack
from exgs_viewer.settings import CompressionSettings, Report, quiet, write_atomically

FARTHEST = 1e12
"""World units. Squares of larger coordinates would come near the end of float32."""
MAX_CAMERAS = 200
"""Cameras that go into the metadata; more are thinned evenly."""


def encode(
    cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet, tiers: Sequence[int] = ()
) -> bytes:
    """The bytes of an .exgs file.

    It becomes progressive with `tiers`: counts that add up to N, for a cloud with the most important Gaussians first.

    Raises SceneError where the cloud is empty or too large, or `meta` is no JSON of at most 64 kB.
    """
    return _encode(cloud, meta or {}, report, tiers)[0]


def decode(data: bytes, name: str, report: Report = quiet) -> tuple[GaussianCloud, dict[str, Any]]:
    """The cloud in the bytes of an .exgs file, and its metadata; `name` stands in what SceneError says."""
    header, codes, _ = _decode(data, name, report)
    return _cloud(codes, header.frame, name), header.meta


def read(path: Path, report: Report = quiet) -> Scene:
    """Open an .exgs file. Raises SceneError where it is damaged; an incomplete one shows what has arrived."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}).") from error
    header, codes, warnings = _decode(data, str(path), report)
    return Scene(
        cloud=_cloud(codes, header.frame, str(path)),
        path=Path(path),
        format="exgs",
        bytes=len(data),
        up=_up(header.meta),
        cameras=_cameras(header.meta),
        warnings=warnings,
        meta=header.meta,
    )


def write(path: Path, cloud: GaussianCloud, meta: dict[str, Any] | None = None, report: Report = quiet) -> int:
    """Write an .exgs file and return its bytes.

    It replaces what was there only once it has been read back from the disk and compared.
    Raises SceneError where it cannot be written or does not hold what was meant.
    """
    path = Path(path)
    data, meant = _encode(cloud, meta or {}, _part(report, 0, 0.8), ())

    def check(written: Path) -> None:
        stored = written.read_bytes()
        codes = _decode(stored, str(path), _part(report, 0.8, 1))[1]
        if stored != data or not np.array_equal(codes, meant):
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
        "cameras": [asdict(camera) for camera in scene.cameras[::step]],
    }
    return {key: value for key, value in meta.items() if value}


def _encode(cloud: GaussianCloud, meta: dict, report: Report, tiers: Sequence[int]) -> tuple[bytes, Codes]:
    """The file and the codes that decoding it must yield."""
    if not 1 <= len(cloud) <= MAX_GAUSSIANS:
        raise SceneError(f"An .exgs file holds 1 to {MAX_GAUSSIANS} Gaussians; this cloud has {len(cloud)}.")
    tiers = tuple(tiers) or (len(cloud),)
    assert sum(tiers) == len(cloud) and min(tiers) > 0 and len(tiers) <= MAX_TIERS, f"{tiers} for {len(cloud)}"
    report(0.0, "Rounding to float16")
    frame = frame_around(cloud)
    codes = to_codes(cloud, frame)
    starts = np.cumsum((0, *tiers))
    parts = [codes[:, start : start + count] for start, count in zip(starts, tiers, strict=False)]
    parts = [part[:, spatial_order(part)] for part in parts]
    payloads = []
    for part, start in zip(parts, starts, strict=False):
        share = _part(report, 0.1 + 0.9 * start / len(cloud), 0.1 + 0.9 * (start + part.shape[1]) / len(cloud))
        payloads.append(_payload(part, _part(share, 0, 1, "Encoding")))
    index = tuple(
        Tier(part.shape[1], len(payload), part.size * 2, zlib.crc32(payload))
        for part, payload in zip(parts, payloads, strict=True)
    )
    head = pack_header(Header(len(cloud), cloud.sh_degree, frame, index, meta))
    return b"".join([head, *payloads]), np.concatenate(parts, axis=1)


def _payload(codes: Codes, report: Report) -> bytes:
    planes = to_planes(codes)
    payload = pack(planes, report)
    # A tier smaller than the decoder's bound allows (thousands of equal Gaussians) is stored raw, which always fits.
    return pack(planes, report, raw=True) if codes.size * 2 > MAX_RATIO * len(payload) else payload


def _decode(data: bytes, name: str, report: Report) -> tuple[Header, Codes, tuple[str, ...]]:
    """Header, codes of all complete tiers, and warnings. Raises SceneError that names the file."""
    try:
        header, start = read_header(data)
        codes, missing = _read_tiers(memoryview(data)[start:], header, report)
    except SceneError as error:
        raise SceneError(f"{name}: {error}.") from error
    except MemoryError as error:
        raise SceneError(f"{name}: it holds more Gaussians than fit into the memory of this machine.") from error
    arrived = sum(part.shape[1] for part in codes)
    warning = f"partial file: {arrived} of {header.gaussians} Gaussians are shown, because {missing}"
    return header, np.concatenate(codes, axis=1), (warning,) if missing else ()


def _read_tiers(data: memoryview, header: Header, report: Report) -> tuple[list[Codes], str]:
    """The codes of each tier that is whole, and what is wrong with the first that is not ('' if all are whole)."""
    expected = sum(tier.bytes for tier in header.tiers)
    if len(data) > expected:
        raise SceneError(f"the file is damaged: {len(data) - expected} bytes follow where it should end")
    codes, start, problem = [], 0, ""
    for number, tier in enumerate(header.tiers):
        payload = data[start : start + tier.bytes]
        start += tier.bytes
        problem = _problem(payload, tier)
        if problem:
            break
        if tier.kind == 0:
            share = _part(report, number / len(header.tiers), (number + 1) / len(header.tiers), "Decoding")
            planes = unpack(payload, [tier.count] * (2 * rows(header.sh_degree)), share)
            codes.append(from_planes(planes))
    if not codes:
        raise SceneError(f"nothing in it can be shown, because {problem}")
    return codes, problem


def _problem(payload: memoryview, tier: Tier) -> str:
    if len(payload) < tier.bytes:
        return f"the file ends {tier.bytes - len(payload)} bytes too early"
    return "" if zlib.crc32(payload) == tier.crc else "it is damaged (checksum)"


def _cloud(codes: Codes, frame: Frame, name: str) -> GaussianCloud:
    """The cloud that decoded numbers stand for, if they stand for one that can be drawn."""
    cloud = to_cloud(codes, frame)
    sound = (
        cloud.means.abs().max() <= FARTHEST  # NaN compares false, so these also find what is not finite.
        and cloud.scales.min() >= math.exp(LOG_SCALE_LIMITS[0]) * 0.99
        and cloud.scales.max() <= math.exp(LOG_SCALE_LIMITS[1]) * 1.01
        and cloud.quats.norm(dim=1).min() > 0.99
        and all(tensor.isfinite().all() for tensor in (cloud.quats, cloud.opacities, cloud.sh))
    )
    if not sound:
        raise SceneError(f"{name}: it is damaged: some Gaussians have infinite, missing or absurd values.")
    return cloud


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


def _part(report: Report, low: float, high: float, text: str = "") -> Report:
    """A Report for a step that takes the share [low, high] of `report`; `text` is said where the step is silent."""
    return lambda fraction, words: report(low + (high - low) * fraction, words or text)
