"""The compact form: a cloud that looks the same in a third of the bytes, and a file that never lies about it."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from exgs_viewer.errors import SceneError
from exgs_viewer.render import open_renderer
from exgs_viewer.scene import compact, exgs, open_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from exgs_viewer.scene.exgs_forms import rounded
from exgs_viewer.scene.exgs_header import TIER
from exgs_viewer.scene.lanes import LANES, borrow
from exgs_viewer.scene.range_coder import (
    MARGIN,
    MOST_NOISE,
    close_coder,
    code_bit,
    code_even,
    code_noise,
    code_signed,
    code_symbol,
    fresh_counters,
    fresh_rows,
    open_coder,
)
from exgs_viewer.settings import CompressionSettings, RenderSettings
from tests.conftest import random_cloud
from tests.scene.compact_reader import read_plainly
from tests.scene.damage import mutated, refused_or_sound, sealed

QUALITIES = ("high", "default", "small")
COMPACT = exgs.DEFAULT


def covariances(cloud: GaussianCloud) -> torch.Tensor:
    """[N, 3, 3] float64, from the quaternions by the textbook formula."""
    w, x, y, z = torch.nn.functional.normalize(cloud.quats.double(), dim=1).T
    rotation = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
        ],
        1,
    )
    half = rotation * cloud.scales.double()[:, None]
    return half @ half.transpose(1, 2)


def rounded_only(cloud: GaussianCloud, quality="default") -> GaussianCloud:
    """The cloud as the form rounds it, in its own order."""
    form = compact.form_for(cloud, replace(COMPACT, quality=quality))
    return compact.to_cloud(compact.to_numbers(cloud, form), form)


def psnr(one: GaussianCloud, other: GaussianCloud) -> float:
    renderer, views = open_renderer("cpu"), [(2.5, 0.3, 0.1), (-0.4, -2.2, 1.0), (0.2, 1.1, -2.4)]
    error = 0.0
    for eye in views:
        camera = look_at(eye, (0.0, 0.0, 0.0), (0.0, 1.0, 0.2))
        pictures = [renderer.render(cloud, camera, (320, 240), RenderSettings()).color for cloud in (one, other)]
        error += float((pictures[0] - pictures[1]).square().mean()) / len(views)
    return -10 * math.log10(error)


# What the numbers mean


def test_sorting_the_axes_changes_no_gaussian(monkeypatch):
    """With very fine rounding what is left of a covariance's error is rounding, whatever the order of its axes was."""
    fine = compact.Fineness(
        position=0.001, unit=250, thin=6, flat=13, turn=13, opacity=16, luma=20, chroma=20, harmonics=20
    )
    monkeypatch.setitem(compact.FINENESS, "high", fine)
    cloud = random_cloud(500, sh_degree=0)
    cloud = cloud.replaced(scales=torch.exp(torch.log(cloud.scales).clamp(-3.9, -3.1)))
    error = covariances(rounded_only(cloud, "high")) - covariances(cloud)
    size = covariances(cloud).flatten(1).norm(dim=1)
    assert (error.flatten(1).norm(dim=1) / size).max() < 0.02


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_disc_keeps_facing_where_it_faced(axis):
    """Whatever axis the file of a scene calls the thin one."""
    cloud = random_cloud(300, sh_degree=0)
    cloud = cloud.replaced(opacities=torch.full((300,), 0.8))
    scales = torch.tensor([0.05, 0.05, 0.05])
    scales[axis] = 0.001
    cloud = cloud.replaced(scales=scales.expand(300, 3).contiguous())
    turned = torch.linalg.eigh(covariances(rounded_only(cloud))).eigenvectors[:, :, 0]
    meant = torch.linalg.eigh(covariances(cloud)).eigenvectors[:, :, 0]
    assert ((turned * meant).sum(1).abs() > math.cos(math.radians(3.0))).all()


@pytest.mark.parametrize("quality", QUALITIES)
def test_every_gaussian_comes_back_near_where_and_what_it_was(quality):
    cloud = random_cloud(400)
    found, step = rounded_only(cloud, quality), compact.form_for(cloud, replace(COMPACT, quality=quality)).frame.step
    assert ((found.means - cloud.means).abs() <= step / 2 * 1.001 + 1e-6).all()
    longest = torch.log2(found.scales[:, 0] / cloud.scales.amax(1)).abs()
    assert longest.max() <= 0.51 / compact.FINENESS[quality].unit + 1e-5
    scales, meant = found.scales.sort(1).values, cloud.scales.sort(1).values
    assert (torch.log2(scales / meant)[:, 1:].abs() <= 0.25).all()
    # Thickness only shows beside the width.
    assert ((scales - meant)[:, 0].abs() <= 0.9 / 2 ** compact.FINENESS[quality].thin * meant[:, 1]).all()
    assert (found.opacities - cloud.opacities).abs().max() < 0.12
    assert ((found.sh[:, 0] - cloud.sh[:, 0]) * SH_C0).abs().mean() < 0.02
    assert (found.sh[:, 1:] - cloud.sh[:, 1:]).abs().mean() < 0.06


def test_better_qualities_look_better_and_cost_more():
    cloud = random_cloud(4000, sh_degree=1)
    found = [exgs.encode(cloud, settings=replace(COMPACT, quality=quality)) for quality in QUALITIES]
    looks = [psnr(exgs.decode(data, "x")[0], cloud) for data in found]
    assert looks[0] > looks[1] + 3 > looks[2] + 5 and looks[1] > 40
    assert len(found[0]) > len(found[1]) > len(found[2])


def test_the_fewer_gaussians_are_kept_the_less_precision_each_gets():
    """From all it nears `default`, of few it is `small`; between them nothing gets coarser as more are kept."""
    auto = [compact.fineness_for(CompressionSettings(keep=keep)) for keep in (0.01, 0.3, 0.4, 0.6, 0.8, 1.0)]
    assert auto[0] == auto[1] == compact.FINENESS["small"] and auto[-1] == compact.FINENESS["default"]
    for fewer, more in pairwise(auto[1:]):
        assert fewer.bits < more.bits and fewer.position > more.position and fewer.unit <= more.unit
    fixed = CompressionSettings(keep=0.01, quality="high")
    assert compact.fineness_for(fixed) == compact.FINENESS["high"]


def test_an_octave_coarser_is_twice_the_step_of_shapes_and_places():
    settings = CompressionSettings(keep=0.1)
    usual, coarser = compact.fineness_for(settings), compact.fineness_for(replace(settings, coarser=1.0))
    assert coarser.position == 2 * usual.position and coarser.unit == max(usual.unit / 2, 4)
    assert (coarser.flat, coarser.turn) == (usual.flat - 1, usual.turn - 1)
    less = {name: getattr(usual, name) - getattr(coarser, name) for name in ("opacity", "luma", "chroma", "harmonics")}
    assert less == {"opacity": 1, "luma": 1.5, "chroma": 1.75, "harmonics": 2}


def test_how_much_coarser_fades_until_everything_is_kept():
    def added(keep):
        settings = CompressionSettings(keep=keep)
        both = [compact.fineness_for(replace(settings, coarser=octaves)).position for octaves in (1e-9, 1.0)]
        return math.log2(both[1] / both[0])

    found = [added(keep) for keep in (0.05, compact.SPARSE, compact.ASKED, 0.7, 0.9, 1.0)]
    assert found[:3] == pytest.approx([1, 1, 1]) and found == sorted(found, reverse=True) and found[-1] == 0


def test_what_is_finer_than_usual_stays_so_until_everything_is_kept():
    kept = [CompressionSettings(keep=keep, coarser=-1.5) for keep in (0.05, compact.ASKED, 0.8, 1.0)]
    found = [compact.fineness_for(settings) for settings in kept]
    for fewer, more in pairwise(found):
        for field in fields(compact.Fineness):
            one, other = getattr(fewer, field.name), getattr(more, field.name)
            finer = one / other if field.name == "position" else other / one
            assert finer > 1 - 1e-9, field.name
    default = compact.FINENESS["default"]
    assert found[-1].unit == pytest.approx(found[0].unit) and found[0].unit > default.unit
    assert found[-1].luma == default.luma > found[0].luma


@pytest.mark.parametrize("quality", QUALITIES)
def test_only_where_the_quality_is_auto_can_it_be_coarser(quality):
    settings = CompressionSettings(quality=quality)
    assert compact.fineness_for(replace(settings, coarser=1.0)) == compact.fineness_for(settings)


@pytest.mark.parametrize("coarser", [-3.0, -2.0, 1.5, 3.0])
@pytest.mark.parametrize("count", [1, 300])
def test_files_hold_what_they_show_however_coarse_they_are(coarser, count):
    cloud, chosen = random_cloud(count, sh_degree=1), CompressionSettings(keep=0.1, coarser=coarser)
    found, _ = exgs.decode(exgs.encode(cloud, settings=chosen), "x")
    meant = exgs.stored(cloud, chosen)
    for name in ("means", "scales", "opacities", "sh"):
        one, other = (getattr(each, name).reshape(count, -1).sort(0).values for each in (found, meant))
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-6), name


def test_it_takes_a_third_of_the_papers_bytes_and_float16_less_than_the_paper():
    cloud = random_cloud(20_000, sh_degree=0)
    sizes = {codec: len(exgs.encode(cloud, settings=CompressionSettings(codec=codec))) for codec in CODECS}
    assert sizes["compact"] < 0.45 * sizes["paper"] and sizes["float16"] < 0.9 * sizes["paper"]


def test_the_demo_room_takes_less_than_nine_bytes_a_gaussian():
    room = open_scene("demo").cloud
    kept = room.take((room.opacities * room.scales.amax(1)).argsort(descending=True)[:20_000]).with_sh_degree(0)
    assert len(exgs.encode(kept)) < 9.2 * len(kept)
    assert len(exgs.encode(kept, settings=CompressionSettings(codec="float16"))) < 19.7 * len(kept)


# What goes through the file


CODECS = ("compact", "float16", "paper")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 10, 300])
@pytest.mark.parametrize("degree", [0, 3])
def test_a_file_yields_exactly_what_the_encoder_says(codec, count, degree):
    cloud, chosen = random_cloud(count, sh_degree=degree), CompressionSettings(codec=codec)
    found, _ = exgs.decode(exgs.encode(cloud, settings=chosen), "x")
    meant = rounded(cloud, chosen, (count,)).cloud()
    assert all(torch.equal(getattr(found, item.name), getattr(meant, item.name)) for item in fields(cloud))
    meant = exgs.stored(cloud, chosen)
    # The file has an order of its own.
    rows = [
        torch.cat([getattr(one, item.name).reshape(count, -1) for item in fields(one)], 1) for one in (found, meant)
    ]
    # Its order decides, too, which numbers are worked out eight at a time: the last bit may differ.
    assert np.allclose(sorted(rows[0].tolist()), sorted(rows[1].tolist()), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("degree", [0, 2])
def test_the_file_is_what_its_specification_says(degree):
    """A reader written from EXGS.md in plain Python, with nothing of the program's own, finds the same Gaussians."""
    cloud = random_cloud(90, sh_degree=degree)
    data = exgs.encode(cloud, tiers=(30, 60))
    plain, (found, _) = read_plainly(data), exgs.decode(data, "x")
    for name, tolerance in {"means": 1e-6, "scales": 1e-6, "quats": 1e-6, "opacities": 1e-6, "sh": 1e-5}.items():
        assert np.allclose(plain[name], getattr(found, name).numpy(), rtol=1e-5, atol=tolerance), name


def test_the_papers_form_is_float16_rows_behind_xz():
    import lzma

    cloud = random_cloud(2000, sh_degree=0)
    data = exgs.encode(cloud, settings=CompressionSettings(codec="paper"))
    rows = np.frombuffer(lzma.decompress(data[data.index(b"\xfd7zXZ") :]), np.float16).reshape(2000, 14)
    assert np.array_equal(rows[:, :3], cloud.means.numpy().astype(np.float16))
    assert np.array_equal(rows[:, 3:6], cloud.sh[:, 0].numpy().astype(np.float16))


def test_the_papers_form_refuses_positions_that_float16_cannot_hold():
    cloud = random_cloud(3)
    with pytest.raises(SceneError, match=r"reaches 5e\+06; choose"):
        exgs.encode(cloud.replaced(means=cloud.means + 5e6), settings=CompressionSettings(codec="paper"))


# Extremes


@pytest.mark.parametrize("quality", QUALITIES)
def test_extremes_are_stored_and_not_lost(quality):
    cloud = random_cloud(7, sh_degree=1).replaced(
        means=torch.tensor([[5e6, -7e5, 12.0]] * 5 + [[5.1e6, -7e5, 12.0], [5e6, 9e11, 0.0]]),
        scales=torch.tensor([[1e-38, 1e30, 1.0]] * 6 + [[1e-20, 1e-20, 1e-20]]),
        opacities=torch.tensor([0.0, 1.0, 0.5, 1e-9, 1 - 1e-7, 0.25, 0.99]),
        sh=torch.tensor([1e9, -1e9])[torch.randint(0, 2, (7, 4, 3), generator=torch.Generator().manual_seed(0))],
        quats=-random_cloud(7).quats,
    )
    chosen = replace(COMPACT, quality=quality)
    found, _ = exgs.decode(exgs.encode(cloud, settings=chosen), "x")
    assert all(getattr(found, item.name).isfinite().all() for item in fields(found))
    near = 0.02 * compact.FINENESS[quality].position
    assert sorted(found.means[:, 0].tolist()) == pytest.approx(sorted(cloud.means[:, 0].tolist()), rel=near)
    assert float(found.means[:, 1].max()) == pytest.approx(9e11, rel=1e-3)
    assert found.opacities.max() < 1 and found.opacities.min() == 0


def test_a_few_gaussians_far_away_cost_the_others_nothing():
    cloud = random_cloud(500, sh_degree=0)
    means = cloud.means.clone()
    means[7] = torch.tensor([3e5, -4e5, 1e5])
    near = torch.arange(500) != 7
    alone, together = rounded_only(cloud), rounded_only(cloud.replaced(means=means))
    assert (together.means - means)[near].abs().max() < 1.2 * (alone.means - cloud.means).abs().max()
    assert (together.means[7] - means[7]).norm() / means[7].norm() < 1e-4


@pytest.mark.parametrize("offset", [0.0, 5e6])
def test_where_a_scene_lies_does_not_matter(offset):
    """UTM coordinates: all that is lost is what float32 has lost already."""
    cloud = random_cloud(300, sh_degree=0)
    cloud = cloud.replaced(means=cloud.means * 1000 + offset, scales=cloud.scales * 1000)
    found = rounded_only(cloud)
    assert (found.means - cloud.means).abs().max() < 10


@pytest.mark.parametrize("size", [1e-7, 1e-3, 1e3, 1e7])
def test_the_unit_of_a_scene_does_not_matter(size):
    cloud = random_cloud(200, sh_degree=0)
    large = rounded_only(cloud.replaced(means=cloud.means * size, scales=cloud.scales * size))
    plain = rounded_only(cloud)
    assert ((large.means / size - cloud.means).abs().max() < 2 * (plain.means - cloud.means).abs().max() + 1e-6).all()
    assert torch.log2(large.scales / size / plain.scales)[:, :2].abs().max() < 0.35
    assert ((large.scales / size - plain.scales)[:, 2] / plain.scales[:, 1]).abs().max() < 0.2


def test_the_faint_get_less_precision_than_the_opaque():
    """What hardly shows may be wrong by more: direction, turn and colour; each opacity by as much of its root."""
    cloud = random_cloud(4000, sh_degree=0)
    cloud = cloud.replaced(scales=torch.tensor([0.06, 0.03, 0.01]).expand(4000, 3).contiguous())
    cloud = cloud.replaced(opacities=torch.tensor([0.05, 0.8]).repeat(2000))
    found, faint = rounded_only(cloud), torch.arange(4000) % 2 == 0
    turned = (covariances(found) - covariances(cloud)).flatten(1).norm(dim=1)
    coloured = (found.sh - cloud.sh).abs().mean((1, 2))
    for error, times in ((turned, 1.5), (coloured, 1.35)):
        assert error[faint].mean() > times * error[~faint].mean()
    roots = (found.opacities.sqrt() - cloud.opacities.sqrt()).abs()
    assert roots.max() <= 2 ** (-compact.FINENESS["default"].opacity / 2 - 1) + 1e-6


def test_thousands_of_equal_gaussians_can_be_stored():
    cloud = random_cloud(1).take(torch.zeros(70_000, dtype=torch.int64))
    found, _ = exgs.decode(exgs.encode(cloud), "x")
    assert len(found) == 70_000 and torch.equal(found.means, found.means[:1].expand(70_000, 3))


def test_discs_without_thickness_do_not_make_positions_needlessly_fine():
    cloud = random_cloud(300, sh_degree=0)
    scales = cloud.scales.clone()
    scales[:, 2] = 1e-20
    assert compact.form_for(cloud.replaced(scales=scales), COMPACT).frame.step > 1e-5


# Tiers


def test_a_first_part_shows_before_the_rest_arrives(tmp_path):
    """The most important Gaussians, which is what a cloud has first."""
    cloud = random_cloud(70_000, sh_degree=0)
    data, path = exgs.encode(cloud), tmp_path / "cut.exgs"
    path.write_bytes(data[: len(data) // 2])
    scene = exgs.read(path)
    assert len(scene.cloud) == 4375 and "partial file: 4375 of 70000" in scene.warnings[0]
    nearest = torch.cdist(scene.cloud.means[:100], cloud.means).argmin(1)
    assert (nearest < 4375).all()
    assert len(data) < 1.03 * len(exgs.encode(cloud, tiers=(70_000,)))


def test_colours_that_have_not_arrived_only_stop_changing_with_the_view(tmp_path):
    cloud, path = random_cloud(300, sh_degree=2), tmp_path / "cut.exgs"
    data = exgs.encode(cloud, tiers=(100, 200))
    path.write_bytes(data[:-20])
    scene = exgs.read(path)
    whole, _ = exgs.decode(data, "x")
    assert len(scene.cloud) == 300 and "colours" in scene.warnings[0]
    assert torch.equal(scene.cloud.sh[:, :4], whole.sh[:, :4])
    assert (scene.cloud.sh[100:, 4:] == 0).all() and torch.equal(scene.cloud.sh[:100], whole.sh[:100])


# Damage


def test_hundreds_of_mutations_with_repaired_checksums_never_surprise():
    rng = np.random.default_rng(11)
    sources = [
        exgs.encode(random_cloud(60, sh_degree=0), {"source": "room.ply"}),
        exgs.encode(random_cloud(50, sh_degree=2), tiers=(10, 40)),
        exgs.encode(random_cloud(40, sh_degree=1), settings=CompressionSettings(codec="paper")),
    ]
    refused = sum(refused_or_sound(mutated(sources[turn % 3], rng)) for turn in range(300))
    assert 50 < refused < 300


def test_any_single_bit_flip_is_refused():
    data = exgs.encode(random_cloud(40, sh_degree=1))
    rng = np.random.default_rng(0)
    for place in {*range(160), *rng.integers(0, len(data) - 700, 100).tolist()}:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(SceneError, match=r"^room\.exgs: "):
            exgs.decode(bytes(broken), "room.exgs")


def test_a_small_file_cannot_demand_much_memory():
    data = bytearray(exgs.encode(random_cloud(40, sh_degree=0)))
    index = struct.unpack_from("<I", data, 28)[0]
    kind, _, size, raw, _, zero = TIER.unpack_from(data, index)
    TIER.pack_into(data, index, kind, 1 << 27, size, raw, 0, zero)
    struct.pack_into("<Q", data, 16, 1 << 27)
    with pytest.raises(SceneError, match="cannot hold 134217728 Gaussians"):
        exgs.decode(sealed(data), "x")


# The coder


BIT, EVEN, NOISE, SIGNED, SYMBOL = range(5)


@njit
def through(reading, data, size, things, table, counters):
    """Rows of (kind, number, how many there are or in how many bits) through the coder; the coder's ends, and how often
    it was read where it must not be."""
    coder, wrong = open_coder(reading, borrow(data, 0), size), 0
    for i in range(len(things)):
        kind, number, room = things[i, 0], things[i, 1], things[i, 2]
        if kind == BIT:
            coder, number = code_bit(coder, borrow(counters, 0), 0, number)
        elif kind == EVEN:
            coder, number = code_even(coder, room, number)
        elif kind == NOISE:
            coder, number = code_noise(coder, room, number)
        elif kind == SIGNED:
            coder, number = code_signed(coder, borrow(table, 0), 0, 1, number)
        else:
            coder, number = code_symbol(coder, borrow(table, 0), 2 + i % 3, 5, number)
        things[i, 1] = number
        wrong += not 0 <= coder.low < 2**32 or not 2**24 <= coder.range < 2**32
    return close_coder(coder), wrong


def passed(reading, data: np.ndarray, things: np.ndarray):
    table, counters = np.empty((6, LANES), np.int32), np.empty(1, np.uint32)
    fresh_rows(table, 0, 6, LANES)
    fresh_counters(counters)
    return through(reading, data, len(data) - MARGIN if reading else len(data), things, table, counters)


def written(things: list[tuple[int, int, int]], room=1 << 16) -> np.ndarray:
    data = np.empty(room, np.uint8)
    (front, back), _ = passed(False, data, np.array(things, np.int64))
    assert front <= back
    return np.concatenate([data[:front], data[back:], np.zeros(MARGIN, np.uint8)])


def read(data: np.ndarray, things: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    found = np.array(things, np.int64) * [1, 0, 1]
    (front, back), wrong = passed(True, data, found)
    assert wrong == 0 and front == back
    return list(map(tuple, found.tolist()))


THINGS = st.one_of(
    st.tuples(st.just(BIT), st.integers(0, 1), st.just(0)),
    st.integers(1, 1 << 16).flatmap(lambda n: st.tuples(st.just(EVEN), st.integers(0, n - 1), st.just(n))),
    st.integers(0, MOST_NOISE).flatmap(
        lambda n: st.tuples(st.just(NOISE), st.integers(0, (1 << n) - 1), st.just(n)),
    ),
    st.tuples(st.just(SIGNED), st.integers(-(2**24) + 1, 2**24 - 1) | st.integers(-200, 200), st.just(0)),
    st.tuples(st.just(SYMBOL), st.integers(0, LANES - 1), st.just(0)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(THINGS, min_size=1, max_size=300))
def test_the_coder_gives_back_whatever_was_put_in(things):
    assert read(written(things), things) == things


@pytest.mark.parametrize(("most", "more"), [(2, 1.01), (5, 1.02), (LANES, 1.03)])
def test_the_coder_comes_near_the_entropy_of_what_it_codes(most, more):
    """Bits, and symbols of which two contexts know. Rows forget early, for what they meet in scenes changes; in what
    never changes that costs the more the more symbols there are."""
    chances = np.random.default_rng(1).dirichlet(np.full(most, 0.7))
    symbols = np.random.default_rng(0).choice(most, 40_000, p=chances)
    things = [(BIT if most == 2 else SYMBOL, int(symbol), 0) for symbol in symbols]
    shares = np.bincount(symbols, minlength=most) / len(symbols)
    entropy = -(shares * np.log2(shares)).sum() * len(symbols) / 8
    assert entropy < len(written(things)) < more * entropy + 8


@pytest.mark.parametrize("kind", [BIT, SYMBOL])
def test_a_carry_runs_through_many_bytes(kind):
    """What is certain drives the coder's bottom against its top, where one more carries through what was written."""
    rng = np.random.default_rng(5)
    numbers = [0] * 3000 + rng.integers(0, 2, 200).tolist() + [0] * 3000 + [1]
    things = [(kind, number if kind == BIT else number * (LANES - 1), 0) for number in numbers]
    assert read(written(things), things) == things


@pytest.mark.parametrize("count", [0, 1, 100])
def test_the_coder_says_where_its_room_was_too_small_and_stays_within(count):
    things = [(NOISE, 7, 30), (SIGNED, 1000, 0), (SYMBOL, 9, 0)] * 60
    data = np.full(count + 50, 77, np.uint8)
    (front, back), _ = passed(False, data[:count], np.array(things, np.int64))
    assert front > back and (data[count:] == 77).all()


@pytest.mark.parametrize("byte", [0, 255, None])
@pytest.mark.parametrize("size", [0, 1, 3, 3000])
def test_any_bytes_are_read_as_numbers_within_their_bounds(byte, size):
    """Numbers are places in tables: what no writer makes must not lead outside of them."""
    data = np.random.default_rng(3).integers(0, 256, size + MARGIN).astype(np.uint8)
    data = data if byte is None else np.full(size + MARGIN, byte, np.uint8)
    data[size:] = 0
    kinds, rooms = np.arange(12_000) % 5, 3 + np.arange(12_000) % 9
    things = np.stack([kinds, np.zeros_like(kinds), rooms], 1)
    (front, back), _ = passed(True, data, things)
    limits = np.array([2, 0, 0, 2**24 + 192, LANES])
    limits = np.select([kinds == EVEN, kinds == NOISE], [rooms, 1 << rooms], limits[kinds])
    assert (abs(things[:, 1]) < limits).all() and (things[kinds != SIGNED, 1] >= 0).all()
    assert front > back or size == 3000


# Old files


def test_files_of_version_1_0_still_open():
    """A file that the program wrote before it knew other codecs."""
    scene = exgs.read(Path(__file__).with_name("version_1_0.exgs"))
    cloud = random_cloud(30, sh_degree=1)
    source = torch.cdist(scene.cloud.means, cloud.means).argmin(1)
    assert sorted(source.tolist()) == list(range(30)) and scene.meta == {"source": "room.ply"}
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.allclose(getattr(scene.cloud, name), getattr(cloud, name)[source], atol=2e-3), name


@pytest.mark.parametrize("minor", [1, 2])
def test_compact_files_from_before_the_first_release_are_refused_in_words(minor):
    """Their numbers mean something else: better no scene than a wrong one."""
    data = bytearray(exgs.encode(random_cloud(20, sh_degree=0)))
    struct.pack_into("<H", data, 10, minor)
    with pytest.raises(
        SceneError, match=rf"format 1\.{minor}, from before the first release; compress its scene again"
    ):
        exgs.decode(sealed(data), "x")


def test_the_checksum_of_a_tier_is_zlibs():
    data = exgs.encode(random_cloud(20, sh_degree=0))
    index = struct.unpack_from("<I", data, 28)[0]
    _, _, size, _, crc, _ = TIER.unpack_from(data, index)
    assert zlib.crc32(data[-size:]) == crc
