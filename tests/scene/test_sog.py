"""SOG files are made here by an encoder of our own after the format's description; real ones are compared with numbers
that PlayCanvas' splat-transform 2.7.1 wrote for them."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exgs_viewer.errors import Cancelled, SceneError
from exgs_viewer.scene import open_scene, sog
from exgs_viewer.scene.cloud import GaussianCloud, join
from tests.conftest import random_cloud


def webp(pixels: np.ndarray) -> bytes:
    """Lossless, and exact under transparent pixels too."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exact=True)
    return buffer.getvalue()


def picture(columns: np.ndarray, width: int = 16) -> bytes:
    """[N, up to 4] bytes as an RGBA picture, row by row; missing channels are 255 (opaque)."""
    height = -(-len(columns) // width)
    pixels = np.full((height * width, 4), 255, np.uint8)
    pixels[: len(columns), : columns.shape[1]] = columns
    return webp(pixels.reshape(height, width, 4))


def nearest(values: np.ndarray, book: np.ndarray) -> np.ndarray:
    return np.abs(values[..., None] - book).argmin(-1).astype(np.uint8)


def encoded(cloud: GaussianCloud, version: int) -> dict[str, bytes]:
    """The files of a SOG scene."""
    n = len(cloud)
    means = cloud.means.double().numpy()
    logs = np.sign(means) * np.log1p(np.abs(means))
    low, high = logs.min(0), logs.max(0)
    codes = np.rint((logs - low) / (high - low) * 65535).astype(np.uint16)
    files = {"means_l.webp": picture(codes & 255), "means_u.webp": picture(codes >> 8)}
    files["quats.webp"] = picture(np.array([packed(q) for q in cloud.quats.double().numpy()]))
    meta = {"means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]}}
    meta["quats"] = {"files": ["quats.webp"]}
    columns = {
        "scales": np.log(cloud.scales.double().numpy()),
        "sh0": np.column_stack([cloud.sh[:, 0].numpy(), torch.logit(cloud.opacities.double(), 1e-6).numpy()]),
    }
    if version == 2:
        meta.update(version=2, count=n, asset={"generator": "a test"})
        books = {name: np.linspace(values[:, :3].min(), values[:, :3].max(), 256) for name, values in columns.items()}
        alpha = np.rint(cloud.opacities.numpy() * 255).astype(np.uint8)
        files["scales.webp"] = picture(nearest(columns["scales"], books["scales"]))
        files["sh0.webp"] = picture(np.column_stack([nearest(columns["sh0"][:, :3], books["sh0"]), alpha]))
        meta.update({name: {"codebook": books[name].tolist(), "files": [f"{name}.webp"]} for name in columns})
    else:
        meta["means"]["shape"] = [n, 3]
        for name, values in columns.items():
            low, high = values.min(0), values.max(0)
            files[f"{name}.webp"] = picture(np.rint((values - low) / (high - low) * 255).astype(np.uint8))
            meta[name] = {"mins": low.tolist(), "maxs": high.tolist(), "files": [f"{name}.webp"]}
    if cloud.sh_degree:
        rest = cloud.sh[:, 1:].double().numpy()  # every Gaussian is its own palette entry
        book = np.linspace(rest.min(), rest.max(), 256)
        rows = -(-n // 64)
        centroids = np.zeros((rows * 64, rest.shape[1], 3), np.uint8)
        centroids[:n] = nearest(rest, book)
        files["shN_centroids.webp"] = webp(centroids.reshape(rows, -1, 3))
        labels = np.arange(n)
        files["shN_labels.webp"] = picture(np.column_stack([labels & 255, labels >> 8]).astype(np.uint8))
        names = ["shN_centroids.webp", "shN_labels.webp"]
        range_or_book = {"codebook": book.tolist(), "bands": cloud.sh_degree, "count": n}
        if version == 1:
            range_or_book = {"mins": rest.min(), "maxs": rest.max()}
        meta["shN"] = {**range_or_book, "files": names}
    files["meta.json"] = json.dumps(meta).encode()
    return files


def packed(quat: np.ndarray) -> list[int]:
    """w x y z -> the three smaller components as bytes and which is the largest."""
    largest = int(np.abs(quat).argmax())
    others = np.delete(quat * math.copysign(1, quat[largest]), largest)
    return [*np.rint((others * math.sqrt(2) + 1) / 2 * 255).astype(int), 252 + largest]


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def bundled(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def assert_close(found: GaussianCloud, cloud: GaussianCloud) -> None:
    """Equal within half a step of each quantiser."""
    assert len(found) == len(cloud) and found.sh_degree == cloud.sh_degree
    logs = torch.sign(cloud.means) * torch.log1p(cloud.means.abs())
    step = (logs.max(0).values - logs.min(0).values) / 65535 * (1 + cloud.means.abs())
    assert ((found.means - cloud.means).abs() <= 0.51 * step + 1e-6).all()
    spread = cloud.scales.log().max() - cloud.scales.log().min()
    assert ((found.scales.log() - cloud.scales.log()).abs() <= 0.51 * spread / 255 + 1e-5).all()
    dots = (found.quats * cloud.quats).sum(1).abs()
    assert (dots > 1 - 4e-5).all()
    assert ((found.opacities - cloud.opacities).abs() <= 0.02).all()
    spread = cloud.sh.max() - cloud.sh.min()
    assert ((found.sh - cloud.sh).abs() <= 0.51 * spread / 255 + 1e-5).all()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["folder", "meta.json", "bundle", "deflated bundle"])
def test_a_scene_comes_back_within_half_a_quantiser_step(tmp_path, version, degree, kind):
    cloud = random_cloud(150, seed=degree, sh_degree=degree)
    files = encoded(cloud, version)
    if "bundle" in kind:
        path = bundled(tmp_path / "a.sog", files, zipfile.ZIP_DEFLATED if "deflated" in kind else zipfile.ZIP_STORED)
    else:
        path = laid_out(tmp_path / "a", files) / ("" if kind == "folder" else "meta.json")
    scene = open_scene(path)
    assert (scene.format, scene.warnings, scene.meta["version"]) == ("sog", (), version)
    assert scene.bytes == sum(len(data) for data in files.values())
    assert_close(scene.cloud, cloud)


def test_each_byte_means_what_the_format_says(tmp_path):
    cloud = random_cloud(64, sh_degree=1)
    files = encoded(cloud, 2)
    meta = json.loads(files["meta.json"])
    found = open_scene(laid_out(tmp_path / "a", files)).cloud
    pixels = {name: np.asarray(Image.open(io.BytesIO(files[name])).convert("RGBA")) for name in files if "webp" in name}
    row = 37
    low, high, quat, scale, colour = (
        pixels[f"{name}.webp"].reshape(-1, 4)[row].tolist() for name in ("means_l", "means_u", "quats", "scales", "sh0")
    )
    for axis in range(3):
        start, end = meta["means"]["mins"][axis], meta["means"]["maxs"][axis]
        value = start + (end - start) * (low[axis] + 256 * high[axis]) / 65535
        assert found.means[row, axis].item() == pytest.approx(math.copysign(math.exp(abs(value)) - 1, value), rel=1e-6)
        assert found.scales[row, axis].item() == pytest.approx(math.exp(meta["scales"]["codebook"][scale[axis]]), 1e-6)
        assert found.sh[row, 0, axis].item() == pytest.approx(meta["sh0"]["codebook"][colour[axis]], rel=1e-6)
        pixel = pixels["shN_centroids.webp"][row // 64, row % 64 * 3 + 2]
        assert found.sh[row, 3, axis].item() == pytest.approx(meta["shN"]["codebook"][pixel[axis]], rel=1e-6)
    assert found.opacities[row].item() == pytest.approx(colour[3] / 255)
    small = [(byte / 255 * 2 - 1) / math.sqrt(2) for byte in quat[:3]]
    small.insert(quat[3] - 252, math.sqrt(1 - sum(part * part for part in small)))
    assert found.quats[row].tolist() == pytest.approx(small, abs=1e-6)


def test_colours_under_full_transparency_survive(tmp_path):
    cloud = random_cloud(64, sh_degree=0).replaced(opacities=torch.zeros(64))
    found = open_scene(laid_out(tmp_path / "a", encoded(cloud, 2))).cloud
    assert (found.opacities == 0).all()
    assert ((found.sh - cloud.sh).abs() < 0.02).all()


@pytest.mark.parametrize("kind", ["folder", "bundle"])
def test_chunks_are_joined_in_natural_order(tmp_path, kind):
    clouds = [random_cloud(50 + number, seed=number, sh_degree=number % 3) for number in range(11)]
    chunks = {f"0_{number}": encoded(cloud, 1 + number % 2) for number, cloud in enumerate(clouds)}
    files = {f"{folder}/{name}": data for folder, chunk in chunks.items() for name, data in chunk.items()}
    if kind == "bundle":
        path = bundled(tmp_path / "a.sog", files)
    else:
        path = tmp_path / "a"
        for folder, chunk in chunks.items():
            laid_out(path / folder, chunk)
    scene = open_scene(path)
    assert scene.meta["chunks"] == 11 and scene.bytes == sum(map(len, files.values()))
    whole = join(clouds)
    assert (scene.cloud.means - whole.means).abs().max() < 1e-3
    assert scene.cloud.sh_degree == 2
    assert (scene.cloud.sh[:50, 1:] == 0).all(), "a chunk without view-dependent colour got some"


def test_the_meta_json_of_one_chunk_opens_that_chunk(tmp_path):
    for number in range(2):
        laid_out(tmp_path / "a" / f"0_{number}", encoded(random_cloud(40 + number, sh_degree=0), 2))
    assert len(open_scene(tmp_path / "a" / "0_1" / "meta.json").cloud) == 41


@pytest.mark.parametrize("name", ["", "lod-meta.json"])
def test_of_several_levels_of_detail_the_finest_is_opened(tmp_path, name):
    for folder, count in {"0_0": 90, "0_1": 80, "1_0": 40, "3_0": 20}.items():
        laid_out(tmp_path / "a" / folder, encoded(random_cloud(count, sh_degree=0), 2))
    (tmp_path / "a" / "lod-meta.json").write_text('{"lodLevels": 3}')
    scene = open_scene(tmp_path / "a" / name)
    assert len(scene.cloud) == 170
    assert scene.warnings == ("It holds 3 levels of detail; the finest, 0, was opened.",)


def test_a_label_beyond_the_palette_means_no_view_dependent_colour(tmp_path):
    files = encoded(random_cloud(64, sh_degree=2), 2)
    meta = json.loads(files["meta.json"])
    meta["shN"]["count"] = 60
    files["meta.json"] = json.dumps(meta).encode()
    sh = open_scene(laid_out(tmp_path / "a", files)).cloud.sh
    assert (sh[60:, 1:] == 0).all() and (sh[:60, 1:] != 0).any(dim=(1, 2)).all()


def test_a_codebook_that_begins_with_null_is_mended_as_the_engine_does(tmp_path):
    files = encoded(random_cloud(64, sh_degree=0), 2)
    meta = json.loads(files["meta.json"])
    book = meta["scales"]["codebook"]
    meta["scales"]["codebook"][0] = None
    files["meta.json"] = json.dumps(meta).encode()
    files["scales.webp"] = picture(np.zeros((64, 3), np.uint8))
    scales = open_scene(laid_out(tmp_path / "a", files)).cloud.scales
    wanted = math.exp(book[1] + (book[1] - book[255]) / 255)
    torch.testing.assert_close(scales, torch.full((64, 3), wanted))


def test_rotations_that_name_no_largest_component_are_left_unturned_and_counted(tmp_path):
    files = encoded(random_cloud(32, sh_degree=0), 2)
    quats = np.array([[10, 20, 30, 252]] * 30 + [[10, 20, 30, 7]] * 2, np.uint8)
    files["quats.webp"] = picture(quats)
    scene = open_scene(laid_out(tmp_path / "a", files))
    assert scene.cloud.quats[30:].tolist() == [[1, 0, 0, 0]] * 2
    assert scene.warnings == ("2 of 32 Gaussians had no valid rotation and were left unturned.",)


def test_values_missing_in_a_short_codebook_are_dropped_and_counted(tmp_path):
    files = encoded(random_cloud(32, sh_degree=0), 2)
    meta = json.loads(files["meta.json"])
    meta["scales"]["codebook"] = meta["scales"]["codebook"][:200]
    files["meta.json"] = json.dumps(meta).encode()
    codes = np.zeros((32, 3), np.uint8)
    codes[[3, 8], 1] = 200
    files["scales.webp"] = picture(codes)
    scene = open_scene(laid_out(tmp_path / "a", files))
    assert len(scene.cloud) == 30
    assert scene.warnings == ("2 of 32 Gaussians had values that are not finite and were dropped.",)


def changed(**values):
    """A change of meta.json: dotted paths with __ between the keys; ... takes the key away."""

    def change(files: dict[str, bytes]) -> None:
        meta = json.loads(files["meta.json"])
        for place, value in values.items():
            *keys, last = place.split("__")
            entry = meta
            for key in keys:
                entry = entry[key]
            if value is ...:
                del entry[last]
            else:
                entry[last] = value
        files["meta.json"] = json.dumps(meta).encode()

    return change


def replaced(**values: bytes | None):
    def change(files: dict[str, bytes]) -> None:
        for name, data in values.items():
            name = name.replace("__", ".")
            if data is None:
                del files[name]
            else:
                files[name] = data

    return change


def halved(name: str):
    def change(files: dict[str, bytes]) -> None:
        files[name] = files[name][: len(files[name]) // 2]

    return change


BROKEN = {
    "no JSON": (replaced(meta__json=b"{not json"), "no JSON"),
    "JSON too deep": (replaced(meta__json=b"[" * 100_000), "no JSON"),
    "binary meta": (replaced(meta__json=bytes(range(256))), "no JSON"),
    "a list": (replaced(meta__json=b"[1, 2]"), "describes no SOG scene"),
    "other JSON": (replaced(meta__json=b'{"means_of_transport": "bus"}'), "describes no SOG scene"),
    "version 3": (changed(version=3), "version 3 is not known"),
    "no count": (changed(count=...), "lacks 'count'"),
    "count zero": (changed(count=0), "a count of 0"),
    "count negative": (changed(count=-5), "a count of -5"),
    "count absurd": (changed(count=10**15), "makes no sense"),
    "count text": (changed(count="many"), "a count of 'many'"),
    "count true": (changed(count=True), "a count of True"),
    "count too large": (changed(count=500), "too few for the 500 Gaussians"),
    "no scales": (changed(scales=...), "lacks 'scales'"),
    "no codebook": (changed(sh0__codebook=...), "lacks 'codebook'"),
    "text in a codebook": (changed(sh0__codebook=["a", "b"]), "makes no sense"),
    "ranges of two axes": (changed(means__mins=[1, 2]), "makes no sense"),
    "bands absurd": (changed(shN__bands=9), "degree 9"),
    "palette absurd": (changed(shN__count=10**9), "palette of 1000000000"),
    "palette too large": (changed(shN__count=900), "too small for the 900 entries"),
    "palette empty": (changed(shN__count=0), "too small for the 0 entries"),
    "one file twice": (changed(quats__files=["scales.webp"]), "same file"),
    "no file": (changed(quats__files=[]), "makes no sense"),
    "name no text": (changed(quats__files=[7]), "are no text"),
    "path upwards": (changed(quats__files=["../secret.webp"]), "no plain file name"),
    "path absolute": (changed(quats__files=["/etc/passwd"]), "no plain file name"),
    "path of Windows": (changed(quats__files=["..\\secret.webp"]), "no plain file name"),
    "a folder": (changed(quats__files=[".."]), "no plain file name"),
    "missing picture": (replaced(quats__webp=None), "quats.webp"),
    "empty picture": (replaced(quats__webp=b""), "quats.webp: the picture cannot be decoded"),
    "text picture": (replaced(quats__webp=b"hello" * 99), "quats.webp: the picture cannot be decoded"),
    "picture cut short": (halved("sh0.webp"), "sh0.webp: the picture cannot be decoded"),
    "first picture cut short": (halved("means_l.webp"), "means_l.webp: "),
    "small picture": (replaced(scales__webp=picture(np.zeros((9, 3), np.uint8))), "too few for the 80 Gaussians"),
    "small labels": (replaced(shN_labels__webp=picture(np.zeros((9, 3), np.uint8))), "too few for the 80 Gaussians"),
}


@pytest.mark.parametrize("kind", ["folder", "bundle"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_scene_gives_one_sentence_with_file_and_problem(tmp_path, what, kind):
    change, said = BROKEN[what]
    files = encoded(random_cloud(80, sh_degree=1), 2)
    change(files)
    path = bundled(tmp_path / "a.sog", files) if kind == "bundle" else laid_out(tmp_path / "a", files)
    with pytest.raises(SceneError) as caught:
        open_scene(path)
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(means__shape=...), "lacks 'shape'"),
        (changed(means__shape=[]), "makes no sense"),
        (changed(means__shape=[10**12, 3]), "makes no sense"),
        (changed(scales__mins=[0, 0]), "makes no sense"),
        (changed(sh0__maxs=[0, 0, 0]), "makes no sense"),
        (changed(shN__files=["shN_labels.webp", "shN_centroids.webp"]), "16 pixels wide"),
    ],
)
def test_a_broken_scene_of_version_1_gives_one_sentence(tmp_path, change, said):
    files = encoded(random_cloud(80, sh_degree=1), 1)
    change(files)
    with pytest.raises(SceneError, match=said):
        open_scene(laid_out(tmp_path / "a", files))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "the file is empty"), (b"just text " * 99, "no .sog bundle"), (b"PK\x03\x04" + bytes(40), "no .sog bundle")],
)
def test_what_is_no_bundle_is_called_so(tmp_path, data, said):
    (tmp_path / "a.sog").write_bytes(data)
    with pytest.raises(SceneError, match=said):
        open_scene(tmp_path / "a.sog")


def test_a_bundle_cut_short_is_called_so(tmp_path):
    path = bundled(tmp_path / "a.sog", encoded(random_cloud(80), 2))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SceneError, match=r"a\.sog: this is no \.sog bundle; it is no zip archive or was cut short"):
        open_scene(path)


def test_a_bundle_without_a_scene_is_called_so(tmp_path):
    path = bundled(tmp_path / "a.sog", {"holiday.txt": b"sun"})
    with pytest.raises(SceneError, match=r"a\.sog: the archive holds no meta\.json"):
        open_scene(path)


def test_what_would_unpack_to_an_absurd_size_is_refused_before_it_is_unpacked(tmp_path):
    files = encoded(random_cloud(80, sh_degree=0), 2)
    files["quats.webp"] = bytes(20 << 20)
    with pytest.raises(SceneError, match="would unpack to 20,971,520 bytes"):
        open_scene(bundled(tmp_path / "a.sog", files, zipfile.ZIP_DEFLATED))


def test_a_folder_without_a_scene_is_called_so(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(SceneError, match=r"there is no meta\.json in this folder"):
        open_scene(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_damage_is_either_read_or_refused_politely(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    whole = bytearray(bundled(folder / "a.sog", encoded(random_cloud(70, sh_degree=1), 2)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.sog").write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    try:
        open_scene(folder / "a.sog")
    except SceneError as error:
        assert "a.sog" in str(error)


@pytest.mark.parametrize("when", range(1, 8))
def test_cancelling_stops_the_reading_and_closes_the_bundle(tmp_path, when):
    path = bundled(tmp_path / "a.sog", encoded(random_cloud(80), 2))
    told = []

    def stop(fraction: float, text: str) -> None:
        told.append(fraction)
        if len(told) == when:
            raise Cancelled

    with pytest.raises(Cancelled):
        sog.read(path, stop)
    assert told == sorted(told)
    open_files = Path("/proc/self/fd")
    if open_files.is_dir():
        assert path not in [file.resolve() for file in open_files.iterdir()]


# Rows as splat-transform 2.7.1 writes them to .ply: x y z, log scales, rotation w x y z, logit, f_dc, then the first
# coefficient of the first two channels and the last of the third.
ORACLE = {
    "rock": {  # version 1, degree 3
        12345: "-0.93899 0.32821 1.20808 -7.58987 -5.45466 -5.52468 0.685091 -0.25234 0.113692 0.673831 5.83417 "
        "0.257648 0.507091 0.201863 0.0124644 0.00341416 0.0104076",
        185760: "-0.755748 0.254414 -1.31864 -3.28111 -8.01968 -5.66305 -0.501907 -0.0360486 0.80318 -0.318891 "
        "-1.63026 1.53549 1.61767 1.25797 0.00547104 0.00876205 -0.0118068",
    },
    "playbot": {  # version 2, degree 2
        0: "-1.02035 -0.0254345 -1.01904 -5.79897 -6.12499 -9.15543 0.285616 -0.124784 0.640556 0.701813 -1.54045 "
        "-1.05823 -1.10802 -1.18558 0.316034 0.238068 0.0403482",
        12345: "-0.567549 -0.0238084 -0.84676 -8.74972 -4.72862 -5.76752 0.1026 -0.512999 0.848433 -0.0804161 "
        "0.875469 -0.707231 -0.897561 -0.988037 -0.192282 -0.161446 0.0141302",
    },
}


@pytest.mark.shared
@pytest.mark.parametrize("name", ORACLE)
def test_real_scenes_are_decoded_as_splat_transform_decodes_them(scenes, name):
    cloud = open_scene(scenes / name).cloud
    for row, numbers in ORACLE[name].items():
        found = torch.cat(
            [
                *(cloud.means[row], cloud.scales[row].log(), cloud.quats[row], torch.logit(cloud.opacities[row])[None]),
                *(cloud.sh[row, 0], cloud.sh[row, 1, :2], cloud.sh[row, -1, 2:]),
            ]
        )
        assert found.tolist() == pytest.approx([float(number) for number in numbers.split()], rel=1e-5, abs=1e-5)


@pytest.mark.shared
def test_every_real_scene_has_the_gaussians_its_index_promises(scenes):
    for name, info in json.loads((scenes / "index.json").read_text())["scenes"].items():
        if info["format"] != "sog" or info.get("gaussians", 10**9) > 600_000:
            continue
        first = Path(info["files"][0])
        scene = open_scene(scenes / (first if first.suffix == ".sog" else first.parts[0]))
        assert (len(scene.cloud), scene.cloud.sh_degree) == (info["gaussians"], info["sh_degree"]), name
        assert scene.warnings == (), name
