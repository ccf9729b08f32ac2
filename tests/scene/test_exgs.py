"""The .exgs file: what goes in comes out as float16, and nothing damaged comes out at all."""

from __future__ import annotations

import json
import lzma
import struct
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import Scene, exgs, open_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.cloud import GaussianCloud, join
from exgs_viewer.scene.exgs_header import CHUNK, FIXED, TIER
from exgs_viewer.scene.float16 import from_planes, ordered, spatial_order, to_planes, unordered, unzigzag, zigzag
from exgs_viewer.scene.streams import compress, decompress
from exgs_viewer.settings import CompressionSettings
from tests.conftest import random_cloud
from tests.scene.damage import mutated, refused_or_sound, sealed

encode = partial(exgs.encode, settings=CompressionSettings(codec="float16"))
META = {"source": "room.ply", "up": [0.0, 0.0, 2.0], "note": "Küche ☕"}


def plain_reading(data: bytes) -> dict[str, np.ndarray]:
    """What the specification says is in a file with one tier, read number by number with nothing of the program's own.

    x y z, r g b, logit, log scales, w x y z, higher harmonics: float16 columns in the file's order, plus the frame.
    """
    gaussians, n_tiers, index = *struct.unpack_from("<QI", data, 16), struct.unpack_from("<I", data, 28)[0]
    frame = struct.unpack_from("<4d", data, 32)
    degree = struct.unpack_from("<I", data, 12)[0] >> 4
    at = index + 32 * n_tiers + 4
    count = 22 + 6 * (degree + 1) ** 2
    assert data[at] == count
    streams, begin = [], at + 1 + 5 * count
    for number in range(count):
        coder, size = struct.unpack_from("<BI", data, at + 1 + 5 * number)
        stream = data[begin : begin + size]
        begin += size
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
        streams.append(lzma.decompress(stream, lzma.FORMAT_RAW, filters=filters) if coder else stream)
    assert begin == len(data)
    codes = [
        [high << 8 | low for high, low in zip(*pair, strict=True)]
        for pair in zip(streams[0::2], streams[1::2], strict=True)
    ]
    assert all(len(row) == gaussians for row in codes)

    def signed(code):
        return code // 2 if code % 2 == 0 else -(code + 1) // 2

    def number(code):
        bits = code ^ 0xFFFF if code < 0x8000 else code & 0x7FFF
        return struct.unpack("<e", struct.pack("<H", bits))[0]

    def code_of(value):
        bits = struct.unpack("<H", struct.pack("<e", value))[0]
        return bits ^ 0xFFFF if bits & 0x8000 else bits | 0x8000

    for row in codes[:3]:
        for i in range(1, gaussians):
            row[i] = (row[i - 1] + signed(row[i])) % 65536
    for i in range(gaussians):
        x, y, z = (number(row[i]) for row in codes[11:14])
        codes[10][i] = (code_of(max(0.0, 1 - x * x - y * y - z * z) ** 0.5) + signed(codes[10][i])) % 65536
    numbers = np.array([[number(code) for code in row] for row in codes])
    means = np.array(frame[:3]) + frame[3] * numbers[:3].T
    return {"means": means, "numbers": numbers.T}


def sorted_rows(*tensors: torch.Tensor) -> np.ndarray:
    table = np.concatenate([np.asarray(tensor, dtype=np.float64).reshape(len(tensor), -1) for tensor in tensors], 1)
    return table[np.lexsort(table.T[::-1])]


def nearest(found: GaussianCloud, cloud: GaussianCloud) -> torch.Tensor:
    """For each Gaussian of `found` the index of the one in `cloud` it came from, by position."""
    return torch.cdist(found.means.double(), cloud.means.double()).argmin(dim=1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_gaussian_comes_back_within_float16(degree):
    cloud = random_cloud(400, sh_degree=degree)
    found, _ = exgs.decode(data := encode(cloud), "x.exgs")
    source = nearest(found, cloud)
    assert sorted(source.tolist()) == list(range(400))
    meant = cloud.take(source)
    half = 2.0**-11
    origin = torch.tensor(struct.unpack_from("<3d", data, 32))
    assert (origin.abs() < 0.4).all(), "positions are finest where the Gaussians are"
    reach = (meant.means - origin).abs()
    assert ((found.means - meant.means).abs() <= half * reach + 1e-6).all()
    assert ((found.scales.log() - meant.scales.log()).abs() <= half * meant.scales.log().abs() + 1e-5).all()
    assert ((found.sh - meant.sh).abs() <= half * meant.sh.abs() + 1e-6).all()
    assert ((torch.logit(found.opacities) - torch.logit(meant.opacities)).abs() <= 2 * half * 8).all()
    assert ((found.quats * meant.quats).sum(1).abs() >= 1 - 1e-6).all()
    assert found.sh_degree == degree


def test_the_file_is_what_its_specification_says():
    cloud = random_cloud(150, sh_degree=1)
    found, _ = exgs.decode(data := encode(cloud, META), "x.exgs")
    plain = plain_reading(data)
    numbers = plain["numbers"]
    assert np.array_equal(found.means.numpy(), plain["means"].astype(np.float32))
    assert np.array_equal(found.sh[:, 0].numpy(), numbers[:, 3:6].astype(np.float32))
    assert np.array_equal(found.sh[:, 1:].flatten(1).numpy(), numbers[:, 14:].astype(np.float32))
    assert np.allclose(found.scales.numpy(), np.exp(numbers[:, 7:10]), rtol=1e-6)
    assert np.allclose(found.opacities.numpy(), 1 / (1 + np.exp(-numbers[:, 6])), rtol=1e-5)
    assert np.allclose(found.quats.numpy(), numbers[:, 10:14], atol=1e-3)
    assert (numbers[:, 10] >= 0).all()


def test_storing_what_was_stored_changes_nothing():
    first, _ = exgs.decode(encode(random_cloud(500)), "x")
    second, _ = exgs.decode(encode(first), "x")
    for name, tolerance in {"means": 3e-4, "scales": 3e-5, "opacities": 1e-6, "sh": 0, "quats": 1e-3}.items():
        a, b = (sorted_rows(cloud.sh.flatten(1), getattr(cloud, name)) for cloud in (first, second))
        assert np.abs(a - b).max() <= tolerance, name


def test_metadata_come_back():
    assert exgs.decode(encode(random_cloud(3), META), "x")[1] == META
    assert exgs.decode(encode(random_cloud(3)), "x")[1] == {}


def test_the_order_of_the_gaussians_does_not_matter():
    cloud = random_cloud(300)
    shuffled = cloud.take(torch.randperm(300, generator=torch.Generator().manual_seed(1)))
    assert encode(cloud) == encode(shuffled)


def test_a_single_gaussian_can_be_stored():
    cloud = random_cloud(1)
    found, _ = exgs.decode(encode(cloud), "x")
    assert torch.allclose(found.means, cloud.means)


def test_thousands_of_equal_gaussians_can_be_stored():
    cloud = random_cloud(1).take(torch.zeros(20_000, dtype=torch.int64))
    found, _ = exgs.decode(encode(cloud), "x")
    assert len(found) == 20_000
    assert torch.allclose(found.scales, cloud.scales, rtol=2e-3)


def test_extremes_are_clamped_and_not_lost():
    cloud = random_cloud(6, sh_degree=1)
    cloud = cloud.replaced(
        means=torch.tensor([[4e6, -7e5, 12.0]] * 5 + [[4.1e6, -7e5, 12.0]]),
        scales=torch.tensor([[1e-38, 1e30, 1.0]] * 6),
        opacities=torch.tensor([0.0, 1.0, 0.5, 1e-9, 1 - 1e-7, 0.25]),
        sh=torch.full((6, 4, 3), 1e9),
        quats=-cloud.quats,
    )
    found, _ = exgs.decode(encode(cloud), "x")
    assert all(getattr(found, field.name).isfinite().all() for field in fields(found))
    assert sorted(found.means[:, 0].tolist()) == pytest.approx(sorted(cloud.means[:, 0].tolist()), abs=100)
    assert found.opacities.min() < 1e-6 and found.opacities.max() > 1 - 1e-6
    assert found.scales.min() > 0 and found.sh.max() == 65504


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0, 1e4, 1e9])
def test_the_unit_of_a_scene_does_not_matter(size):
    cloud = random_cloud(200, sh_degree=0)
    scaled = cloud.replaced(means=cloud.means * size)
    found, _ = exgs.decode(encode(scaled), "x")
    origin = nearest(found.replaced(means=found.means / size), cloud)
    assert ((found.means / size - cloud.means[origin]).abs() < 2e-3).all()


def test_an_empty_cloud_is_refused_in_words():
    with pytest.raises(SceneError, match="1 to 268435456 Gaussians; this cloud has 0"):
        encode(random_cloud(3).take(slice(0, 0)))


def test_a_cloud_with_nan_is_our_mistake():
    cloud = random_cloud(3)
    means = cloud.means.clone()
    means[1, 2] = float("nan")
    with pytest.raises(AssertionError):
        encode(cloud.replaced(means=means))


def test_metadata_that_are_no_json_or_too_long_are_refused():
    with pytest.raises(SceneError, match="JSON"):
        encode(random_cloud(2), {"up": object()})
    with pytest.raises(SceneError, match="JSON"):
        encode(random_cloud(2), {"x": float("nan")})
    with pytest.raises(SceneError, match="65536"):
        encode(random_cloud(2), {"x": "y" * 70_000})


def test_cancelling_stops_encoding():
    def report(fraction, text):
        if fraction > 0.1:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode(random_cloud(2000), report=report)


def test_progress_never_runs_backwards(tmp_path):
    told = []
    exgs.write(tmp_path / "a.exgs", random_cloud(500), {}, lambda fraction, text: told.append((fraction, text)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and 0.8 < fractions[-1] <= 1
    assert all(text for _, text in told)


# Files


def test_a_written_file_opens_as_a_scene(tmp_path, camera):
    cloud = random_cloud(300)
    path = tmp_path / "new" / "room.exgs"
    scene = Scene(cloud, tmp_path / "room.ply", "ply", 12_345, up=(0.0, 0.0, 1.0), cameras=(camera,) * 500)
    meta = exgs.metadata(scene, CompressionSettings(keep=0.25))
    size = exgs.write(path, cloud, meta)
    found = open_scene(path)
    assert size == path.stat().st_size == found.bytes
    assert (found.format, found.up, found.path, found.warnings) == ("exgs", (0.0, 0.0, 1.0), path, ())
    assert 100 <= len(found.cameras) <= 200 and found.cameras[0] == camera
    assert found.meta["compression"]["keep"] == 0.25 and found.meta["source"] == "room.ply"
    assert [entry.name for entry in path.parent.iterdir()] == ["room.exgs"]


def test_metadata_that_make_no_sense_are_not_used(tmp_path):
    good = {"position": [1, 2, 3], "rotation": [1, 0, 0, 0], "fov_y": 1.0}
    cameras = [good, 7, {**good, "fov_y": -1}, {**good, "rotation": [0, 0, 0, 0]}, {**good, "position": ["x", 1, 2]}]
    for number, up in enumerate(([0, 0, 0], "up", [1, 2], None, [1e999, 0, 0] and [10**400, 0, 0])):
        path = tmp_path / f"{number}.exgs"
        exgs.write(path, random_cloud(2), {"up": up, "cameras": cameras})
        scene = exgs.read(path)
        assert scene.up is None and len(scene.cameras) == 1


def test_what_cannot_be_written_is_said_in_words(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SceneError, match="cannot be written"):
        exgs.write(tmp_path / "file" / "a.exgs", random_cloud(2))
    with pytest.raises(SceneError, match=r"gone\.exgs: cannot be read"):
        exgs.read(tmp_path / "gone.exgs")


def test_a_file_that_reads_back_wrong_never_replaces_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.exgs"
    exgs.write(path, random_cloud(50))
    before = path.read_bytes()
    honest = exgs._encode

    def faulty(*arguments):
        data, meant = honest(*arguments)
        return data, meant.replaced(opacities=meant.opacities / 2)

    monkeypatch.setattr(exgs, "_encode", faulty)
    with pytest.raises(SceneError, match="reads back differently"):
        exgs.write(path, random_cloud(60))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# Tiers


def test_tiers_hold_the_same_gaussians_in_order_of_importance():
    cloud = random_cloud(600)
    found, _ = exgs.decode(encode(cloud, tiers=(100, 200, 300)), "x")
    assert set(nearest(found, cloud)[:100].tolist()) == set(range(100))
    assert set(nearest(found, cloud)[100:300].tolist()) == set(range(100, 300))


def test_a_truncated_file_shows_the_tiers_that_arrived(tmp_path):
    cloud = random_cloud(600)
    data = encode(cloud, META, tiers=(100, 200, 300))
    path = tmp_path / "cut.exgs"
    path.write_bytes(data[:-10])
    scene = exgs.read(path)
    assert len(scene.cloud) == 300 and scene.up == (0.0, 0.0, 1.0)
    assert "partial file: 300 of 600" in scene.warnings[0]
    assert set(nearest(scene.cloud, cloud).tolist()) == set(range(300))


def test_a_damaged_tier_hides_itself_and_what_follows(tmp_path):
    data = bytearray(encode(random_cloud(600), tiers=(100, 200, 300)))
    data[-40_000] ^= 1
    path = tmp_path / "cut.exgs"
    path.write_bytes(data)
    scene = exgs.read(path)
    assert len(scene.cloud) in (100, 300) and "damaged" in scene.warnings[0]


def test_tiers_of_a_kind_from_the_future_are_skipped():
    data = bytearray(encode(cloud := random_cloud(90), tiers=(40, 50)))
    index = struct.unpack_from("<I", data, 28)[0]
    first = TIER.unpack_from(data, index)
    struct.pack_into("<I", data, index + TIER.size, 7)
    struct.pack_into("<Q", data, 16, first[1])
    found, _ = exgs.decode(sealed(data), "x")
    assert set(nearest(found, cloud).tolist()) == set(range(40))


# Damage


def test_any_single_bit_flip_is_refused_with_the_name_of_the_file():
    data = encode(random_cloud(60), META)
    rng = np.random.default_rng(0)
    for place in {*range(200), *rng.integers(0, len(data), 200).tolist()}:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(SceneError, match=r"^room\.exgs: "):
            exgs.decode(bytes(broken), "room.exgs")


def test_every_truncation_is_refused():
    data = encode(random_cloud(20), META)
    for length in range(0, len(data), 7):
        with pytest.raises(SceneError, match=r"^room\.exgs: "):
            exgs.decode(data[:length], "room.exgs")


def test_bytes_after_the_end_are_refused():
    data = encode(random_cloud(20))
    with pytest.raises(SceneError, match="3 bytes follow"):
        exgs.decode(data + b"abc", "x")


def test_hundreds_of_mutations_with_repaired_checksums_never_surprise():
    rng = np.random.default_rng(7)
    sources = [
        encode(random_cloud(40, sh_degree=0), META),
        encode(random_cloud(30, sh_degree=1), tiers=(10, 20)),
    ]
    refused = sum(refused_or_sound(mutated(sources[turn % 2], rng)) for turn in range(400))
    assert 100 < refused < 400


def test_a_file_that_claims_more_than_it_can_hold_is_refused_before_decoding(monkeypatch):
    data = bytearray(encode(random_cloud(40, sh_degree=0)))
    index = struct.unpack_from("<I", data, 28)[0]
    count = 1 << 27
    kind, _, size, _, crc, zero = TIER.unpack_from(data, index)
    TIER.pack_into(data, index, kind, count, size, count * 28, crc, zero)
    struct.pack_into("<Q", data, 16, count)
    monkeypatch.setattr("exgs_viewer.scene.exgs_forms.unpack", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(SceneError, match="cannot hold 134217728 Gaussians"):
        exgs.decode(sealed(data), "x")


def test_a_stream_that_unpacks_to_more_than_its_share_is_refused():
    coder, bomb = compress(np.zeros(10_000_000, np.uint8))
    with pytest.raises(SceneError, match="end"):
        decompress(coder, memoryview(bomb), 1000)
    with pytest.raises(SceneError, match="holds 10000000 bytes where 10000001 belong"):
        decompress(coder, memoryview(bomb), 10_000_001)


def test_a_newer_format_is_refused_in_words_and_a_newer_minor_version_is_not():
    data = bytearray(encode(random_cloud(5)))
    struct.pack_into("<H", data, 10, 9)
    assert len(exgs.decode(sealed(data), "x")[0]) == 5
    struct.pack_into("<H", data, 8, 2)
    with pytest.raises(SceneError, match=r"format 2\.9"):
        exgs.decode(sealed(data), "x")


def test_an_unknown_mode_is_refused_and_an_unknown_remark_is_not():
    data = bytearray(encode(random_cloud(5)))
    data[14] |= 4
    assert len(exgs.decode(sealed(data), "x")[0]) == 5
    data[12] |= 7
    with pytest.raises(SceneError, match="form of storage"):
        exgs.decode(sealed(data), "x")


@pytest.mark.parametrize(("name", "refused"), [(b"note", False), (b"Need", True)])
def test_unknown_chunks_are_skipped_unless_they_say_they_are_needed(name, refused):
    data = encode(random_cloud(5), META)
    chunk = CHUNK.pack(name, 3) + b"abc"
    data = bytearray(data[: FIXED.size] + chunk + data[FIXED.size :])
    struct.pack_into("<I", data, 28, struct.unpack_from("<I", data, 28)[0] + len(chunk))
    if refused:
        with pytest.raises(SceneError, match="needs 'Need'"):
            exgs.decode(sealed(data), "x")
    else:
        assert exgs.decode(sealed(data), "x")[1] == META


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xff", b"[" * 5000 + b"]" * 5000])
def test_broken_metadata_are_refused(text, monkeypatch):
    monkeypatch.setattr("exgs_viewer.scene.exgs_header._meta_bytes", lambda meta: text)
    with pytest.raises(SceneError, match=r"x\.exgs: its metadata are damaged"):
        exgs.decode(encode(random_cloud(2)), "x.exgs")


# Parts


@given(arrays.arrays(np.float16, st.integers(0, 200), elements=st.floats(width=16, allow_nan=False)))
def test_codes_sort_like_the_numbers(numbers):
    codes = ordered(numbers)
    assert np.array_equal(unordered(codes).view(np.uint16), numbers.view(np.uint16))
    along = numbers[np.argsort(codes, kind="stable")]
    assert (along[1:] >= along[:-1]).all()


@given(st.integers(0, 65535))
def test_zigzag_is_small_for_small_steps_and_reversible(value):
    code = np.array([value], np.uint16)
    assert np.array_equal(unzigzag(zigzag(code)), code)
    signed = value if value < 32768 else value - 65536
    assert int(zigzag(code)[0]) == (2 * signed if signed >= 0 else -2 * signed - 1)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.uint16, st.tuples(st.sampled_from([14, 23]), st.integers(1, 30))))
def test_planes_carry_any_codes_whatever(codes):
    with np.errstate(all="raise"):
        assert np.array_equal(from_planes(to_planes(codes)), codes)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint16, st.tuples(st.just(14), st.integers(1, 50))))
def test_spatial_order_follows_the_interleaved_bits(codes):
    def interleaved(x, y, z):
        bits = "".join(a + b + c for a, b, c in zip(f"{x:016b}", f"{y:016b}", f"{z:016b}", strict=True))
        return int(bits, 2)

    curve = [interleaved(*(int(part) for part in codes[:3, i])) for i in range(codes.shape[1])]
    assert spatial_order(codes).tolist() == sorted(range(len(curve)), key=curve.__getitem__)


def test_noise_is_stored_as_it_is_and_structure_is_not():
    noise = np.random.default_rng(0).integers(0, 256, 50_000).astype(np.uint8)
    assert compress(noise)[0] == 0
    coder, data = compress((noise >> 4).astype(np.uint8))
    assert coder == 1 and len(data) < 0.55 * 50_000
    assert np.array_equal(decompress(coder, memoryview(data), 50_000), noise >> 4)


def test_neighbours_in_space_make_a_smaller_file():
    """The whole point of the arrangement, against interleaved float16 behind LZMA; scenes gain more than a ball."""
    cloud = random_cloud(20_000, sh_degree=0)
    numbers = torch.cat(
        [cloud.means, cloud.sh.flatten(1), cloud.opacities[:, None], cloud.scales.log(), cloud.quats], 1
    )
    plain = len(lzma.compress(numbers.half().numpy().tobytes()))
    assert len(encode(cloud)) < 0.85 * plain


def test_joined_clouds_are_stored_with_the_higher_degree():
    both = join([random_cloud(20, sh_degree=0), random_cloud(20, seed=1, sh_degree=2)])
    assert exgs.decode(encode(both), "x")[0].sh_degree == 2


def test_metadata_stay_readable_as_plain_json():
    data = encode(random_cloud(2), META)
    size = struct.unpack_from("<I", data, 84)[0]
    assert data[80:84] == b"meta" and json.loads(data[88 : 88 + size]) == META


def test_cameras_survive_to_the_last_digit(tmp_path):
    cameras = tuple(look_at((0.1 * i, 2.0, -1 / 3), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)) for i in range(5))
    scene = Scene(random_cloud(2), None, "demo", 0, cameras=cameras)
    exgs.write(tmp_path / "a.exgs", scene.cloud, exgs.metadata(scene, CompressionSettings()))
    assert exgs.read(tmp_path / "a.exgs").cameras == cameras
