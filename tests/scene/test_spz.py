"""Files are packed here row by row with struct after the description of the format; gsplat evaluates the harmonics."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import struct
import sys

import numpy as np
import pytest
import torch

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import Written, open_scene, save_scene, spz
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.float16 import frame_around, position_codes, spatial_order
from tests.conftest import random_cloud

BITS = 12


def byte(value: float) -> int:
    return int(min(max(round(value), 0), 255))


def rotation(quat: list[float], version: int) -> bytes:
    """A rotation w x y z in the format's own frame."""
    w, *xyz = quat
    if version == 2:
        return bytes(byte((math.copysign(1, w) * part + 1) * 127.5) for part in xyz)
    parts = [*xyz, w]
    largest = max(range(4), key=lambda place: abs(parts[place]))
    sign = math.copysign(1, parts[largest])
    word = largest
    for place in range(4):
        if place != largest:
            part = parts[place] * sign
            word = word << 10 | (part < 0) << 9 | round(abs(part) * math.sqrt(2) * 511)
    return struct.pack("<I", word)


def unpacked(cloud: GaussianCloud, version: int, sh_degree: int, flags: int = 0) -> bytes:
    """The file before gzip, of a cloud whose numbers are taken to be in the format's own frame."""
    columns = [b""] * 6
    for mean, scale, quat, opacity, sh in zip(
        *(getattr(cloud, f).tolist() for f in cloud.__dataclass_fields__), strict=True
    ):
        columns[0] += b"".join(struct.pack("<i", round(value * 2**BITS))[:3] for value in mean)
        columns[1] += bytes([byte(opacity * 255)])
        columns[2] += bytes(byte((value * 0.15 + 0.5) * 255) for value in sh[0])
        columns[3] += bytes(byte((math.log(value) + 10) * 16) for value in scale)
        columns[4] += rotation(quat, version)
        columns[5] += bytes(byte(value * 128 + 128) for coefficient in sh[1:] for value in coefficient)
    head = struct.pack("<4sIIBBBB", b"NGSP", version, len(cloud), sh_degree, BITS, flags, 0)
    return head + b"".join(columns)


def saved(path, cloud: GaussianCloud, version: int = 3):
    path.write_bytes(gzip.compress(unpacked(cloud, version, cloud.sh_degree)))
    return path


def matrices(quats: torch.Tensor) -> torch.Tensor:
    w, x, y, z = quats.double().unbind(1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_scene_is_read_and_turned_to_x_right_y_down_z_forward(tmp_path, version, degree):
    cloud = random_cloud(60, sh_degree=degree)
    scene = open_scene(saved(tmp_path / "a.spz", cloud, version))
    found = scene.cloud
    assert (scene.format, scene.warnings, scene.meta["version"], found.sh_degree) == ("spz", (), version, degree)
    assert scene.bytes == (tmp_path / "a.spz").stat().st_size
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    assert ((found.means - cloud.means @ turn.float()).abs() <= 0.51 / 2**BITS).all()
    assert ((found.scales.log() - cloud.scales.log()).abs() <= 0.51 / 16).all()
    assert ((found.opacities - cloud.opacities).abs() <= 0.51 / 255).all()
    assert ((found.sh[:, 0] - cloud.sh[:, 0]).abs() <= 0.51 / 255 / 0.15).all()
    # The axes of each Gaussian turn with the frame; which way along an axis is all the same to its covariance.
    axes, wanted = matrices(found.quats), turn @ matrices(cloud.quats) @ turn
    assert ((axes - wanted).abs() <= (0.13 if version == 2 else 0.02)).all()


def test_colours_seen_from_any_side_turn_with_the_frame(tmp_path):
    from gsplat.cuda._torch_impl import _eval_sh_bases_fast

    cloud = random_cloud(40, sh_degree=3)
    cloud = cloud.replaced(sh=cloud.sh.clamp(-0.99, 0.99))
    found = open_scene(saved(tmp_path / "a.spz", cloud)).cloud
    sides = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    turned = sides * torch.tensor([1.0, -1.0, -1.0])
    seen = torch.einsum("sk,nkc->snc", _eval_sh_bases_fast(16, turned)[:, 1:], found.sh[:, 1:])
    wanted = torch.einsum("sk,nkc->snc", _eval_sh_bases_fast(16, sides)[:, 1:], cloud.sh[:, 1:])
    assert (seen - wanted).abs().max() < 0.04
    assert wanted.abs().max() > 0.5


def test_colours_of_degree_4_are_cut_to_3_with_a_warning(tmp_path):
    cloud = random_cloud(5, sh_degree=3)
    data = unpacked(cloud, 3, 4)
    rest = np.frombuffer(data[-5 * 45 :], np.uint8).reshape(5, 45)
    wider = np.concatenate([rest, np.full((5, 27), 255, np.uint8)], axis=1).tobytes()
    (tmp_path / "a.spz").write_bytes(gzip.compress(data[: -5 * 45] + wider))
    scene = open_scene(tmp_path / "a.spz")
    assert scene.cloud.sh_degree == 3 and len(scene.warnings) == 1 and "degree 4" in scene.warnings[0]
    same = open_scene(saved(tmp_path / "b.spz", cloud)).cloud
    assert torch.equal(scene.cloud.sh, same.sh)


def test_what_follows_the_gaussians_is_left_alone(tmp_path):
    data = unpacked(random_cloud(9, sh_degree=0), 3, 0, flags=3)
    (tmp_path / "a.spz").write_bytes(gzip.compress(data + b"an extension"))
    scene = open_scene(tmp_path / "a.spz")
    assert len(scene.cloud) == 9 and scene.meta["antialias"] is True


def patched(at: int, value: bytes):
    return lambda data: gzip.compress(data[:at] + value + data[at + len(value) :])


BROKEN = {
    "empty": (lambda data: b"", "the file is empty"),
    "text": (lambda data: b"once upon a time", "this is no .spz"),
    "another gzip": (lambda data: gzip.compress(b"once upon a time " * 9), "this is no .spz"),
    "short gzip": (lambda data: gzip.compress(b"NGSP"), "this is no .spz"),
    "gzip cut short": (lambda data: gzip.compress(data)[:-300], "damaged or was cut short"),
    "gzip of the head alone": (lambda data: gzip.compress(data)[:12], "damaged or was cut short"),
    "Gaussians missing": (lambda data: gzip.compress(data[:-1]), "before its 30 Gaussians are complete"),
    "version 1": (patched(4, b"\1"), "version 1 is not known"),
    "version 4 inside gzip": (patched(4, b"\4"), "version 4 is not known"),
    "version 3 without gzip": (lambda data: data, "version 3 is not known"),
    "version 5": (lambda data: data[:4] + b"\5" + data[5:], "version 5 is not known"),
    "no Gaussians": (patched(8, bytes(4)), "holds no Gaussians"),
    "absurd count": (patched(8, b"\xff\xff\xff\x7f"), "2,147,483,647 Gaussians are promised"),
    "absurd degree": (patched(12, b"\x09"), "make no sense"),
    "absurd fraction": (patched(13, b"\xff"), "make no sense"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_gives_one_sentence_with_file_and_problem(tmp_path, what):
    change, said = BROKEN[what]
    (tmp_path / "a.spz").write_bytes(change(unpacked(random_cloud(30, sh_degree=1), 3, 1)))
    with pytest.raises(SceneError) as caught:
        open_scene(tmp_path / "a.spz")
    assert str(tmp_path / "a.spz") in str(caught.value) and said in str(caught.value)


def test_damage_that_unpacks_is_found_by_the_checksum(tmp_path):
    data = unpacked(random_cloud(30, sh_degree=0), 3, 0)
    stored = bytearray(gzip.compress(data, compresslevel=0))
    stored[-20] ^= 1
    (tmp_path / "a.spz").write_bytes(stored)
    with pytest.raises(SceneError, match="damaged or was cut short"):
        open_scene(tmp_path / "a.spz")


def test_damaged_gzip_gives_one_sentence(tmp_path):
    whole = saved(tmp_path / "a.spz", random_cloud(30)).read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        (tmp_path / "a.spz").write_bytes(damaged)
        try:
            open_scene(tmp_path / "a.spz")
        except SceneError as error:
            assert "a.spz" in str(error)


@pytest.mark.parametrize("when", [1, 2])
def test_cancelling_passes_through(tmp_path, when):
    told = []

    def stop(fraction: float, text: str) -> None:
        told.append(fraction)
        if len(told) == when:
            raise Cancelled

    with pytest.raises(Cancelled):
        spz.read(saved(tmp_path / "a.spz", random_cloud(30)), stop)


def turned(cloud: GaussianCloud) -> GaussianCloud:
    """The cloud in the format's own frame: half a turn about x."""
    sh_signs = torch.tensor([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])[: cloud.sh.shape[1]]
    return cloud.replaced(
        means=cloud.means * torch.tensor([1, -1, -1]),
        quats=cloud.quats * torch.tensor([1, 1, -1, -1]),
        sh=cloud.sh * sh_signs[:, None],
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_is_what_the_description_of_the_format_says(tmp_path, degree):
    cloud = random_cloud(60, sh_degree=degree)
    cloud = cloud.replaced(scales=cloud.scales.clamp_min(0.005), sh=cloud.sh.clamp(-0.99, 0.99))
    written = save_scene(tmp_path / "a.spz", cloud)
    assert written == Written((tmp_path / "a.spz").stat().st_size, ())
    order = torch.from_numpy(spatial_order(position_codes(cloud, frame_around(cloud))))
    found = np.frombuffer(gzip.decompress((tmp_path / "a.spz").read_bytes()), np.uint8)
    wanted = np.frombuffer(unpacked(turned(cloud.take(order)), 3, degree), np.uint8)
    assert found[:16].tobytes() == wanted[:16].tobytes()
    # The order of the columns, every byte: values halfway between two steps may go to either.
    assert len(found) == len(wanted) and (found != wanted).mean() < 0.01


def test_small_gaussians_get_finer_places_and_a_wide_scene_coarser_ones(tmp_path):
    cloud = random_cloud(200, sh_degree=0)
    for factor, least, most in ((1, 12, 12), (1e-3, 18, 23), (1e5, 3, 6)):
        scaled = cloud.replaced(means=cloud.means * factor, scales=cloud.scales * factor)
        warnings = save_scene(tmp_path / "a.spz", scaled).warnings
        bits = gzip.decompress((tmp_path / "a.spz").read_bytes())[13]
        assert least <= bits <= most
        assert any("thinner or larger" in warning for warning in warnings) == (factor != 1)
        found = open_scene(tmp_path / "a.spz").cloud.means.sort(0).values
        assert ((found - scaled.means.sort(0).values).abs() <= 0.51 / 2**bits).all()


def test_what_a_spz_cannot_hold_is_said(tmp_path):
    cloud = random_cloud(300, sh_degree=1)
    sh, scales, means = cloud.sh.clone(), cloud.scales.clone(), cloud.means.clone()
    sh[:5, 3] = 1.5
    scales[:7, 0] = 1e-6
    means[0] = 9e6
    warnings = save_scene(tmp_path / "a.spz", cloud.replaced(sh=sh, scales=scales, means=means)).warnings
    far, small, strong = warnings
    assert "farther than 8,388,607" in far and small.startswith("7 of 300") and strong.startswith("5 of 300")
    means[0] = 9e5
    assert "places were rounded to 0.125" in save_scene(tmp_path / "a.spz", cloud.replaced(means=means)).warnings[0]


def version_4(cloud: GaussianCloud, flags: int = 0, extensions: bytes = b"") -> bytes:
    """The same columns as version 3, a zstd frame each, behind a head of 32 bytes and a table of their lengths."""
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    data, n = unpacked(cloud, 3, cloud.sh_degree)[16:], len(cloud)
    widths = [9, 1, 3, 3, 4] + [3 * (cloud.sh.shape[1] - 1)] * (cloud.sh_degree > 0)
    ends = np.cumsum([0, *widths]) * n
    streams = [zstd.compress(data[start:end]) for start, end in itertools.pairwise(ends)]
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, n, cloud.sh_degree, BITS, flags, len(widths), 32 + len(extensions))
    table = b"".join(struct.pack("<QQ", len(s), n * width) for s, width in zip(streams, widths, strict=True))
    return head + extensions + table + b"".join(streams)


@pytest.mark.parametrize("degree", [0, 3])
def test_version_4_is_read_as_version_3(tmp_path, degree):
    cloud = random_cloud(90_000 if degree == 0 else 60, sh_degree=degree)  # the first is more than one piece
    (tmp_path / "a.spz").write_bytes(version_4(cloud))
    found, same = open_scene(tmp_path / "a.spz"), open_scene(saved(tmp_path / "b.spz", cloud))
    assert (found.meta["version"], found.warnings) == (4, same.warnings)
    for name in GaussianCloud.__dataclass_fields__:
        assert torch.equal(getattr(found.cloud, name), getattr(same.cloud, name))


def test_extensions_of_version_4_are_skipped_with_a_warning(tmp_path):
    (tmp_path / "a.spz").write_bytes(version_4(random_cloud(20), flags=2, extensions=struct.pack("<III", 7, 4, 0)))
    scene = open_scene(tmp_path / "a.spz")
    assert len(scene.cloud) == 20 and "extensions" in scene.warnings[0]


def test_damage_to_version_4_gives_one_sentence(tmp_path):
    whole = version_4(random_cloud(30, sh_degree=1))
    broken = {"cut in a stream": whole[:-5], "cut in the table": whole[:60], "cut in the head": whole[:18]}
    broken["a stream too short"] = whole[:56] + struct.pack("<Q", 29) + whole[64:]
    broken["a table beyond the end"] = whole[:16] + struct.pack("<I", 1 << 31) + whole[20:]
    broken["a stream beyond the end"] = whole[:32] + struct.pack("<Q", 1 << 62) + whole[40:]
    broken["absurd count"] = whole[:8] + b"\xff\xff\xff\x7f" + whole[12:]
    for data in broken.values():
        (tmp_path / "a.spz").write_bytes(data)
        with pytest.raises(SceneError, match=r"a\.spz: .*(damaged|promised)"):
            open_scene(tmp_path / "a.spz")
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        (tmp_path / "a.spz").write_bytes(damaged)
        with contextlib.suppress(SceneError):  # nothing else may be raised
            open_scene(tmp_path / "a.spz")


def test_without_zstd_version_4_is_refused_with_what_to_do(tmp_path, monkeypatch):
    name = "compression" if sys.version_info >= (3, 14) else "backports"
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 1, 0, BITS, 0, 5, 32)
    (tmp_path / "a.spz").write_bytes(head + bytes(100))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SceneError, match=r"a\.spz: .*needs the Python package backports\.zstd"):
        open_scene(tmp_path / "a.spz")


def test_antialiasing_is_kept(tmp_path):
    spz.write(tmp_path / "a.spz", random_cloud(5), {"antialias": True})
    assert open_scene(tmp_path / "a.spz").meta["antialias"] is True


@pytest.mark.shared
def test_a_real_scene_is_decoded_as_splat_transform_decodes_it(scenes):
    cloud = open_scene(scenes / "tabletop" / "scene.spz").cloud
    assert len(cloud) == 213944
    # Row 12345 of the .ply that splat-transform 2.7.1 writes: x y z, log scales, rotation, logit, f_dc.
    oracle = [-0.612305, -1.41406, -0.856445, -4.4375, -5.5, -4.5625, 0.0857382, -0.992157, -0.0117648, 0.090196]
    oracle += [0.00784329, -0.222222, -0.771242, -1.11111]
    parts = (cloud.means, cloud.scales.log(), cloud.quats, torch.logit(cloud.opacities)[:, None], cloud.sh[:, 0])
    assert torch.cat([part[12345] for part in parts]).tolist() == pytest.approx(oracle, rel=1e-5, abs=1e-6)
