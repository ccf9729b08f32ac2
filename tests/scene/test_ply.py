"""plyfile writes and reads here as the independent opinion; the formulas are those of the original 3DGS code."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.recfunctions import drop_fields

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import Scene, open_scene, ply, save_scene
from tests.conftest import random_cloud

REST = {0: 0, 1: 9, 2: 24, 3: 45, 4: 72}


def table(n: int = 50, degree: int = 3, kind: str = "f4", seed: int = 0) -> np.ndarray:
    """`n` rows of a trained .ply with its usual columns and random values."""
    rest = [f"f_rest_{i}" for i in range(REST[degree])]
    names = [*"xyz", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    rows = np.zeros(n, [(name, kind) for name in names])
    random = np.random.default_rng(seed)
    for name in names:
        rows[name] = random.normal(size=n) - (3 if name.startswith("scale") else 0)
    return rows


def saved(path: Path, rows: np.ndarray, order: str = "<", text: bool = False, comments=(), before=(), after=()) -> Path:
    elements = [*before, plyfile.PlyElement.describe(rows, "vertex"), *after]
    plyfile.PlyData(elements, text=text, byte_order=order, comments=list(comments)).write(str(path))
    return path


def expected(rows: np.ndarray) -> dict[str, torch.Tensor]:
    """The activated values, written down as in the GaussianModel of the original 3DGS code."""

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([rows[name].astype(np.float32) for name in names], axis=1))

    rest = [name for name in rows.dtype.names if name.startswith("f_rest_")]
    features = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, :, None].transpose(1, 2)
    if rest:
        features = torch.cat([features, columns(*rest).reshape(len(rows), 3, -1).transpose(1, 2)], dim=1)
    return {
        "means": columns("x", "y", "z"),
        "scales": torch.exp(columns("scale_0", "scale_1", "scale_2")),
        "quats": torch.nn.functional.normalize(columns("rot_0", "rot_1", "rot_2", "rot_3")),
        "opacities": torch.sigmoid(columns("opacity"))[:, 0],
        "sh": features,
    }


def assert_holds(scene: Scene, rows: np.ndarray) -> None:
    for name, values in expected(rows).items():
        torch.testing.assert_close(getattr(scene.cloud, name), values, rtol=2e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("order", "text"), [("<", False), (">", False), ("<", True)])
def test_every_degree_and_encoding_is_read_as_the_original_code_does(tmp_path, degree, order, text):
    rows = table(degree=degree)
    scene = open_scene(saved(tmp_path / "a.ply", rows, order, text))
    assert (scene.format, scene.cloud.sh_degree, scene.warnings) == ("ply", degree, ())
    assert scene.bytes == (tmp_path / "a.ply").stat().st_size
    assert_holds(scene, rows)


@pytest.mark.parametrize("text", [False, True])
def test_columns_of_double_precision_are_read(tmp_path, text):
    rows = table(kind="f8")
    assert_holds(open_scene(saved(tmp_path / "a.ply", rows, text=text)), rows)


def test_a_file_of_many_blocks_is_read_whole_and_in_order(tmp_path):
    rows = table(n=40_000, degree=1)
    assert_holds(open_scene(saved(tmp_path / "a.ply", rows)), rows)


def test_colours_of_degree_4_are_cut_to_3_with_a_warning(tmp_path):
    rows = table(degree=4)
    scene = open_scene(saved(tmp_path / "a.ply", rows))
    assert scene.cloud.sh_degree == 3
    assert len(scene.warnings) == 1 and "degree 4" in scene.warnings[0]
    torch.testing.assert_close(scene.cloud.sh, expected(rows)["sh"][:, :16])


@pytest.mark.parametrize("text", [False, True])
def test_other_columns_and_other_elements_do_not_disturb(tmp_path, text):
    rows = table(degree=1)
    wider = np.zeros(len(rows), [("red", "u1"), *rows.dtype.descr, ("label", "i4")])
    for name in rows.dtype.names:
        wider[name] = rows[name]
    wider["label"] = -7
    before = plyfile.PlyElement.describe(np.array([(1, 2.5)] * 3, [("number", "u2"), ("weight", "f8")]), "things")
    faces = np.array([([0, 1, 2],), ([3, 4, 5],)], [("vertex_indices", "i4", (3,))])
    after = plyfile.PlyElement.describe(faces, "face")
    assert_holds(open_scene(saved(tmp_path / "a.ply", wider, text=text, before=[before], after=[after])), rows)


@pytest.mark.parametrize("text", [False, True])
def test_lists_before_or_among_the_vertices_are_read_past(tmp_path, text):
    rows = table(n=12, degree=0)
    listed = np.zeros(len(rows), [*rows.dtype.descr, ("neighbours", "O")])
    for name in rows.dtype.names:
        listed[name] = rows[name]
    listed["neighbours"] = [np.arange(1 + i % 3, dtype="i4") for i in range(len(rows))]
    faces = np.zeros(2, [("vertex_indices", "O")])
    faces["vertex_indices"] = [np.arange(3, dtype="i4"), np.arange(4, dtype="i4")]
    before = [plyfile.PlyElement.describe(faces, "face")]
    assert_holds(open_scene(saved(tmp_path / "a.ply", listed, text=text, before=before)), rows)


def test_lines_ending_in_carriage_returns_and_blank_lines_are_read(tmp_path):
    rows = table(n=5, degree=0)
    path = saved(tmp_path / "a.ply", rows, text=True)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert_holds(open_scene(path), rows)


@pytest.mark.parametrize(("axis", "up"), [("z", (0, 0, 1)), ("Y", (0, 1, 0)), ("-y", (0, -1, 0)), ("sideways", None)])
def test_a_vertical_axis_comment_says_where_up_is(tmp_path, axis, up):
    path = saved(tmp_path / "a.ply", table(n=3), comments=["made by hand", f"Vertical Axis: {axis}"])
    assert open_scene(path).up == up


def test_comments_are_kept_and_written_again(tmp_path):
    comments = ["SplatRenderMode: mip", "made by hand"]
    scene = open_scene(saved(tmp_path / "a.ply", table(n=3), comments=comments))
    assert scene.meta["SplatRenderMode"] == "mip"
    ply.write(tmp_path / "b.ply", scene.cloud, scene.meta)
    assert plyfile.PlyData.read(str(tmp_path / "b.ply")).comments == comments


def test_a_scene_that_is_saved_again_keeps_what_its_comments_say_but_not_who_wrote_it(tmp_path):
    comments = ["SplatRenderMode: mip", "Generated by another tool 2.7", "Vertical Axis: z"]
    scene = open_scene(saved(tmp_path / "a.ply", table(n=3), comments=comments))
    save_scene(tmp_path / "b.ply", scene)
    assert plyfile.PlyData.read(str(tmp_path / "b.ply")).comments == ["SplatRenderMode: mip", "Vertical Axis: z"]
    save_scene(tmp_path / "c.ply", replace(scene, up=(0.0, -1.0, 0.0)))
    assert open_scene(tmp_path / "c.ply").up == (0, -1, 0)


def test_a_way_up_that_is_no_axis_is_left_out_with_a_warning(tmp_path):
    scene = Scene(random_cloud(5), None, "test", 0, up=(0.0, 0.6, 0.8))
    warnings = save_scene(tmp_path / "a.ply", scene).warnings
    assert len(warnings) == 1 and "Which way is up was left out" in warnings[0]
    assert open_scene(tmp_path / "a.ply").up is None


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_is_what_plyfile_reads(tmp_path, degree):
    cloud = random_cloud(200, sh_degree=degree)
    size = save_scene(tmp_path / "a.ply", cloud).bytes
    rows = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    assert rows.dtype.names == table(n=1, degree=degree).dtype.names
    assert size == (tmp_path / "a.ply").stat().st_size
    assert size - rows.nbytes == (tmp_path / "a.ply").read_bytes().index(b"end_header\n") + len("end_header\n")
    assert rows.nbytes == cloud.ply_bytes
    for name, values in expected(rows).items():
        torch.testing.assert_close(getattr(cloud, name), values, rtol=3e-6, atol=3e-7, msg=name)


def test_writing_and_reading_returns_the_same_cloud(tmp_path):
    cloud = random_cloud(20_000)
    save_scene(tmp_path / "a.ply", cloud)
    again = open_scene(tmp_path / "a.ply").cloud
    for name in ("means", "sh"):
        assert torch.equal(getattr(again, name), getattr(cloud, name)), name
    for name in ("scales", "quats", "opacities"):
        torch.testing.assert_close(getattr(again, name), getattr(cloud, name), rtol=3e-6, atol=3e-7)


def test_full_and_empty_opacities_are_written_as_finite_logits(tmp_path):
    cloud = random_cloud(3).replaced(opacities=torch.tensor([0.0, 0.5, 1.0]))
    save_scene(tmp_path / "a.ply", cloud)
    assert plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"]["opacity"].tolist() == [-15.0, 0.0, 15.0]


def test_infinite_logits_of_other_writers_are_full_and_empty_opacities(tmp_path):
    rows = table(n=3, degree=0)
    rows["opacity"] = [np.inf, -np.inf, 0]
    scene = open_scene(saved(tmp_path / "a.ply", rows))
    assert scene.cloud.opacities.tolist() == [1.0, 0.0, 0.5]
    assert scene.warnings == ()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("x", np.nan, "not finite"),
        ("y", -np.inf, "not finite"),
        ("scale_1", np.nan, "not finite"),
        ("scale_2", -np.inf, "not finite"),
        ("scale_0", np.inf, "not finite"),
        ("rot_3", np.inf, "not finite"),
        ("opacity", np.nan, "not finite"),
        ("f_dc_1", np.nan, "not finite"),
        ("f_rest_44", np.inf, "not finite"),
        ("scale_0", 12.5, "larger than any scene"),
        ("z", 2e7, "farther than"),
    ],
)
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_rows_that_cannot_be_drawn_are_dropped_and_counted(tmp_path, column, value, said, kind):
    rows = table(n=1200, kind=kind)
    bad = np.arange(0, 1200, 100)
    rows[column][bad] = value
    scene = open_scene(saved(tmp_path / "a.ply", rows))
    assert len(scene.warnings) == 1
    assert scene.warnings[0].startswith("12 of 1,200 Gaussians") and said in scene.warnings[0]
    assert_holds(scene, np.delete(rows, bad))


def test_rows_dropped_from_many_blocks_leave_the_others_in_order(tmp_path):
    rows = table(n=50_000, degree=1)
    bad = np.random.default_rng(3).choice(len(rows), 20_000, replace=False)
    rows["y"][bad] = np.nan
    scene = open_scene(saved(tmp_path / "a.ply", rows))
    assert scene.warnings == ("20,000 of 50,000 Gaussians had values that are not finite and were dropped.",)
    assert_holds(scene, np.delete(rows, bad))


def test_rotations_of_length_zero_are_dropped_and_counted(tmp_path):
    rows = table(n=10)
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        rows[name][4] = 0
    scene = open_scene(saved(tmp_path / "a.ply", rows))
    assert scene.warnings == ("1 of 10 Gaussians had a rotation of length zero and were dropped.",)
    assert_holds(scene, np.delete(rows, 4))


def test_values_of_columns_that_are_not_used_may_be_anything(tmp_path):
    rows = table(n=10)
    rows["nx"] = np.nan
    assert open_scene(saved(tmp_path / "a.ply", rows)).warnings == ()


def test_a_value_beyond_float32_is_dropped_like_infinity(tmp_path):
    rows = table(n=10, kind="f8")
    rows["f_dc_0"][3] = 1e300
    assert_holds(open_scene(saved(tmp_path / "a.ply", rows)), np.delete(rows, 3))


def test_nothing_left_to_draw_is_an_error(tmp_path):
    rows = table(n=10)
    rows["x"] = np.nan
    with pytest.raises(SceneError, match=r"a\.ply: nothing .*10 of 10 Gaussians had values that are not finite"):
        open_scene(saved(tmp_path / "a.ply", rows))


def good(tmp_path: Path, **options) -> bytes:
    return saved(tmp_path / "good.ply", table(n=20, degree=1), **options).read_bytes()


BROKEN = {
    "empty": (lambda data: b"", "the file is empty"),
    "text": (lambda data: b"Dear diary, today I saw a splat.\n" * 100, "is no .ply"),
    "another format": (lambda data: b"\x89PNG\r\n\x1a\n" + bytes(100), "is no .ply"),
    "header cut short": (lambda data: data[:150], "has no end"),
    "body cut short": (lambda data: data[:-33], "ends after 19 of its 20 Gaussians"),
    "no body": (lambda data: data[: data.index(b"end_header\n") + 11], "ends after 0 of its 20 Gaussians"),
    "absurd count": (lambda data: data.replace(b"vertex 20", b"vertex 99999999999999999"), "cut short"),
    "endless count": (lambda data: data.replace(b"vertex 20", b"vertex " + b"9" * 5000), "cut short"),
    "negative count": (lambda data: data.replace(b"vertex 20", b"vertex -20"), "'element vertex -20'"),
    "no count": (lambda data: data.replace(b"vertex 20", b"vertex"), "'element vertex'"),
    "no Gaussians": (lambda data: data.replace(b"vertex 20", b"vertex 0"), "holds no Gaussians"),
    "no vertices": (lambda data: data.replace(b"element vertex", b"element points"), "no element 'vertex'"),
    "a word too many": (lambda data: data.replace(b"element", b"elephant"), "'elephant vertex 20'"),
    "unknown type": (lambda data: data.replace(b"float x", b"quad x"), "'property quad x'"),
    "unknown format": (lambda data: data.replace(b"little", b"middle"), "names no format"),
    "a column twice": (lambda data: data.replace(b"float y", b"float x"), "'x' twice"),
    "colours missing": (lambda data: data.replace(b"f_rest_8", b"f_test_8"), "8 properties f_rest_*"),
    "colours misnumbered": (lambda data: data.replace(b"f_rest_8", b"f_rest_9"), "9 properties f_rest_*"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_gives_one_sentence_with_file_and_problem(tmp_path, what):
    change, said = BROKEN[what]
    path = tmp_path / "broken.ply"
    path.write_bytes(change(good(tmp_path)))
    with pytest.raises(SceneError) as caught:
        open_scene(path)
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-4], "ends after 16 of its 20"),
        (lambda lines: [*lines[:-1], b"1 2 3"], "does not hold the"),
        (lambda lines: [*lines[:-1], b"a b c"], "does not hold the"),
        (lambda lines: [line + b" 5" if len(line.split()) > 15 else line for line in lines], "does not hold the"),
    ],
)
def test_broken_text_gives_one_sentence(tmp_path, change, said):
    path = tmp_path / "broken.ply"
    path.write_bytes(b"\n".join(change(good(tmp_path, text=True).rstrip().split(b"\n"))))
    with pytest.raises(SceneError, match=said):
        open_scene(path)


def test_broken_lists_give_one_sentence(tmp_path):
    rows = np.zeros(2, [("list", "O")])
    rows["list"] = [np.arange(3, dtype="i4")] * 2
    path = saved(tmp_path / "a.ply", table(n=9), before=[plyfile.PlyElement.describe(rows, "face")])
    data = path.read_bytes()
    for cut in (1, 100, len(data) - data.index(b"end_header\n") - 12):
        path.write_bytes(data[:-cut])
        with pytest.raises(SceneError, match=r"a\.ply: "):
            open_scene(path)


@pytest.mark.parametrize("drop", ["opacity", "scale_2", "rot_0", "f_dc_1", "y"])
def test_a_missing_property_is_named(tmp_path, drop):
    with pytest.raises(SceneError, match=f"point cloud without Gaussian splats; it lacks {drop}\\."):
        open_scene(saved(tmp_path / "a.ply", drop_fields(table(), drop)))


def test_a_mesh_is_called_a_mesh(tmp_path):
    points = np.zeros(4, [(name, "f4") for name in "xyz"])
    faces = plyfile.PlyElement.describe(np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))]), "face")
    with pytest.raises(SceneError, match="mesh without Gaussian splats; it lacks scale_0, scale_1"):
        open_scene(saved(tmp_path / "a.ply", points, after=[faces]))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_damage_is_either_read_or_refused_politely(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    whole = bytearray(good(folder, text=data.draw(st.booleans()), order=data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.ply").write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        scene = open_scene(folder / "a.ply")
    except SceneError as error:
        assert "a.ply" in str(error)
    else:
        assert torch.isfinite(scene.cloud.sh).all() and (scene.cloud.scales > 0).all()


@pytest.mark.parametrize("layout", ["plain", "text", "lists"])
def test_cancelling_stops_the_reading_and_closes_the_file(tmp_path, layout, monkeypatch):
    rows = table(n=30_000, degree=0)
    before = []
    if layout == "lists":
        monkeypatch.setattr("time.monotonic", iter(range(10**9)).__next__)
        lists = np.zeros(1, [("list", "O")])
        lists["list"] = [np.arange(3, dtype="i4")]
        before = [plyfile.PlyElement.describe(lists, "face")]
    path = saved(tmp_path / "a.ply", rows, text=layout == "text", before=before)
    told = []

    def stop(fraction: float, text: str) -> None:
        told.append(fraction)
        if len(told) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        ply.read(path, stop)
    assert len(told) == 2
    open_files = Path("/proc/self/fd")
    if open_files.is_dir():
        assert path not in [file.resolve() for file in open_files.iterdir()]


def test_progress_rises_from_nothing_to_nearly_all(tmp_path):
    told = []
    ply.read(saved(tmp_path / "a.ply", table(n=60_000, degree=0)), lambda fraction, text: told.append(fraction))
    assert told == sorted(told) and told[0] == 0 and 0.5 < told[-1] <= 1 and len(told) >= 3


def test_opening_needs_little_more_memory_than_the_file_is_long(tmp_path):
    path = tmp_path / "a.ply"
    save_scene(path, random_cloud(100_000))
    open_scene(path)
    tracemalloc.start()
    scene = open_scene(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scene.cloud) == 100_000
    assert peak < 1.6 * path.stat().st_size


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.ply"
    save_scene(path, random_cloud(10))
    old = path.read_bytes()

    def stop(fraction: float, text: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        ply.write(path, random_cloud(20), report=stop)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.ply"]
