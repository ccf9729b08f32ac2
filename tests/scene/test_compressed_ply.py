"""Rows are packed here one by one, in plain integers, after the description of the format."""

from __future__ import annotations

import math

import numpy as np
import plyfile
import pytest
import torch

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import open_scene, save_scene
from exgs_viewer.scene.cells import cells
from exgs_viewer.scene.cloud import SH_C0, GaussianCloud
from tests.conftest import random_cloud

CHUNK = 256


def quantised(share: float, bits: int) -> int:
    return int(min(max(share, 0), 1) * (2**bits - 1) + 0.5)


def packed(shares, *bits: int) -> int:
    word = 0
    for share, width in zip(shares, bits, strict=True):
        word = word << width | quantised(share, width)
    return word


def packed_rotation(quat) -> int:
    largest = int(np.abs(quat).argmax())
    others = np.delete(quat * math.copysign(1, quat[largest]), largest) / math.sqrt(2) + 0.5
    return largest << 30 | packed(others, 10, 10, 10)


def elements(cloud: GaussianCloud, colour_ranges: bool = True) -> dict[str, np.ndarray]:
    """The tables of a compressed .ply."""
    colours = (0.5 + SH_C0 * cloud.sh[:, 0]).numpy()
    ranged = {"": cloud.means.numpy(), "scale_": cloud.scales.log().numpy(), "rgb": colours}
    names = {"": ["x", "y", "z"], "scale_": ["scale_x", "scale_y", "scale_z"], "rgb": ["r", "g", "b"]}
    if not colour_ranges:
        del ranged["rgb"]
    chunks = np.zeros(
        -(-len(cloud) // CHUNK), [(f"{end}_{n}", "f4") for k in ranged for end in ("min", "max") for n in names[k]]
    )
    vertices = np.zeros(len(cloud), [(f"packed_{n}", "u4") for n in ("position", "rotation", "scale", "color")])
    shares = {"rgb": colours}
    for kind, values in ranged.items():
        shares[kind] = np.zeros_like(values)
        for chunk in range(len(chunks)):
            part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            low, high = values[part].min(0), values[part].max(0)
            for column, name in enumerate(names[kind]):
                chunks[f"min_{name}"][chunk], chunks[f"max_{name}"][chunk] = low[column], high[column]
            shares[kind][part] = (values[part] - low) / np.maximum(high - low, 1e-20)
    for row in range(len(cloud)):
        vertices["packed_position"][row] = packed(shares[""][row], 11, 10, 11)
        vertices["packed_scale"][row] = packed(shares["scale_"][row], 11, 10, 11)
        vertices["packed_color"][row] = packed([*shares["rgb"][row], cloud.opacities[row].item()], 8, 8, 8, 8)
        vertices["packed_rotation"][row] = packed_rotation(cloud.quats[row].numpy())
    tables = {"chunk": chunks, "vertex": vertices}
    if cloud.sh_degree:
        rest = cloud.sh[:, 1:].numpy().transpose(0, 2, 1).reshape(len(cloud), -1)
        tables["sh"] = np.zeros(len(cloud), [(f"f_rest_{i}", "u1") for i in range(rest.shape[1])])
        for column in range(rest.shape[1]):
            tables["sh"][f"f_rest_{column}"] = np.clip((rest[:, column] / 8 + 0.5) * 256, 0, 255)
    return tables


def saved(path, tables, order: str = "<", text: bool = False):
    described = [plyfile.PlyElement.describe(rows, name) for name, rows in tables.items()]
    plyfile.PlyData(described, byte_order=order, text=text).write(str(path))
    return path


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_scene_comes_back_within_half_a_quantiser_step(tmp_path, degree, order):
    cloud = random_cloud(600, sh_degree=degree)
    cloud = cloud.replaced(scales=cloud.scales.clamp(1e-3, 1))
    scene = open_scene(saved(tmp_path / "a.compressed.ply", elements(cloud), order))
    found = scene.cloud
    assert (scene.format, scene.warnings, found.sh_degree, len(found)) == ("compressed.ply", (), degree, 600)
    for chunk in range(0, 600, CHUNK):
        part = slice(chunk, chunk + CHUNK)
        for a, b in (
            (found.means, cloud.means),
            (found.scales.log(), cloud.scales.log()),
            (found.sh[:, 0], cloud.sh[:, 0]),
        ):
            spread = b[part].max(0).values - b[part].min(0).values
            steps = 255 if a.ndim == 2 and b.data_ptr() == cloud.sh.data_ptr() else 1023
            assert ((a[part] - b[part]).abs() <= 0.51 * spread / steps + 1e-5).all()
    assert ((found.opacities - cloud.opacities).abs() <= 0.501 / 255).all()
    assert ((found.quats * cloud.quats).sum(1).abs() > 1 - 1e-5).all()
    assert ((found.sh[:, 1:] - cloud.sh[:, 1:]).abs() <= 8 / 256).all()


def test_without_ranges_of_colour_the_bytes_are_the_colour(tmp_path):
    cloud = random_cloud(30, sh_degree=0)
    cloud = cloud.replaced(sh=cloud.sh.clamp(-1.7, 1.7))
    found = open_scene(saved(tmp_path / "a.ply", elements(cloud, colour_ranges=False))).cloud
    assert ((found.sh - cloud.sh).abs() <= 0.501 / 255 / SH_C0).all()


def without(name: str, table: str):
    def change(tables):
        kept = [n for n in tables[table].dtype.names if n != name]
        tables[table] = np.ascontiguousarray(tables[table][kept]).astype([(n, tables[table].dtype[n]) for n in kept])

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tables: tables.update(chunk=tables["chunk"][:1]), "do not fit each other"),
        (lambda tables: tables.update(sh=tables["sh"][:5]), "do not fit each other"),
        (without("min_scale_y", "chunk"), "lacks min_scale_y"),
        (without("f_rest_3", "sh"), "8 columns"),
        (without("packed_scale", "vertex"), "point cloud without Gaussian splats"),
    ],
)
def test_parts_that_disagree_give_one_sentence(tmp_path, change, said):
    tables = elements(random_cloud(300, sh_degree=1))
    change(tables)
    with pytest.raises(SceneError, match=rf"a\.ply: .*{said}"):
        open_scene(saved(tmp_path / "a.ply", tables))


def test_a_file_cut_short_gives_one_sentence(tmp_path):
    path = saved(tmp_path / "a.ply", elements(random_cloud(300, sh_degree=0)))
    whole = path.read_bytes()
    for length, said in (
        (len(whole) - 3, "300 rows of 'vertex'"),
        (whole.index(b"end_header") + 40, "2 rows of 'chunk'"),
    ):
        path.write_bytes(whole[:length])
        with pytest.raises(SceneError, match=f"ends within its {said}"):
            open_scene(path)


def test_absurd_counts_are_refused_before_anything_is_allocated(tmp_path):
    path = saved(tmp_path / "a.ply", elements(random_cloud(300, sh_degree=0)))
    path.write_bytes(path.read_bytes().replace(b"vertex 300", b"vertex 300000000000000"))
    with pytest.raises(SceneError, match="ends within its 300,000,000,000,000 rows of 'vertex'"):
        open_scene(path)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_is_what_the_description_of_the_format_says(tmp_path, degree):
    cloud = random_cloud(600, sh_degree=degree)
    written = save_scene(tmp_path / "a.compressed.ply", cloud)
    found = plyfile.PlyData.read(str(tmp_path / "a.compressed.ply"))
    wanted = elements(cloud.take(torch.from_numpy(np.concatenate(cells(cloud.means.numpy(), CHUNK)))))
    assert written.bytes == (tmp_path / "a.compressed.ply").stat().st_size and written.warnings == ()
    assert [element.name for element in found] == list(wanted)
    for name, table in wanted.items():
        # PlayCanvas' engine takes the columns by their places, so their order is part of the format.
        assert found[name].data.dtype.names == table.dtype.names
        for column in table.dtype.names:
            a, b = found[name].data[column], table[column]
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=2e-7, atol=1e-7)
            else:  # a value halfway between two steps may go to either
                assert (a != b).mean() < 0.02


def test_the_last_chunk_may_be_short_and_the_only_one_have_no_extent(tmp_path):
    for count in (1, 257):
        cloud = random_cloud(count, sh_degree=1)
        save_scene(tmp_path / "a.compressed.ply", cloud.take(torch.zeros(count, dtype=torch.int64)))
        found = open_scene(tmp_path / "a.compressed.ply").cloud
        assert len(found) == count
        assert torch.equal(found.means, cloud.means[:1].expand(count, 3))


def test_an_infinitely_flat_gaussian_does_not_spoil_its_neighbours(tmp_path):
    cloud = random_cloud(256, sh_degree=0)
    flat = cloud.replaced(scales=torch.cat([torch.full((1, 3), 1e-20), cloud.scales[1:]]))
    save_scene(tmp_path / "a.compressed.ply", flat)
    found = open_scene(tmp_path / "a.compressed.ply").cloud.scales.log().sort(0).values
    assert ((found - flat.scales.log().sort(0).values)[1:].abs() < 0.5 * 22 / 1023).all()


def test_coefficients_beyond_4_are_brought_to_4_with_a_warning(tmp_path):
    cloud = random_cloud(600, sh_degree=1)
    strong = cloud.sh.clone()
    strong[:9, 2, 1] = 5
    warnings = save_scene(tmp_path / "a.compressed.ply", cloud.replaced(sh=strong)).warnings
    assert len(warnings) == 1 and warnings[0].startswith("9 of 600 Gaussians")
    assert open_scene(tmp_path / "a.compressed.ply").cloud.sh[:, 1:].max() == 4


@pytest.mark.shared
def test_a_real_scene_is_decoded_as_splat_transform_decodes_it(scenes):
    cloud = open_scene(scenes / "guitar" / "guitar.compressed.ply").cloud
    assert len(cloud) == 90854
    # Row 12345 of the .ply that splat-transform 2.7.1 writes: x y z, log scales, rotation, logit, f_dc.
    oracle = [0.159787, -2.39568, 0.081293, -8.82677, -8.86567, -3.54074, 0.65734, 0.708524, 0.0877835, -0.241232]
    oracle += [-1.46152, 0.624551, 0.768008, 0.855338]
    parts = (cloud.means, cloud.scales.log(), cloud.quats, torch.logit(cloud.opacities)[:, None], cloud.sh[:, 0])
    assert torch.cat([part[12345] for part in parts]).tolist() == pytest.approx(oracle, rel=1e-5)
