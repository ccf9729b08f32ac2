from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exgs_viewer import images
from exgs_viewer.errors import SceneError


def rgba(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (9, 13, 4), dtype=np.uint8)


def coded(pixels: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_colour_under_full_transparency_survives(kind, options):
    pixels = rgba()
    pixels[::2, :, 3] = 0
    assert np.array_equal(images.decode_picture(coded(pixels, kind, **options)), pixels)


def test_a_picture_without_alpha_is_opaque():
    pixels = rgba()[..., :3]
    found = images.decode_picture(coded(pixels, "PNG"))
    assert np.array_equal(found[..., :3], pixels) and (found[..., 3] == 255).all()


def test_the_size_is_read_as_width_and_height():
    assert images.picture_size(coded(rgba(), "WEBP", lossless=True)) == (13, 9)


@pytest.mark.parametrize("make", [torch.from_numpy, lambda array: array], ids=["tensor", "array"])
def test_a_picture_is_written_to_the_nearest_of_256_steps(tmp_path, make):
    values = np.linspace(-0.2, 1.2, 9 * 13 * 3, dtype=np.float32).reshape(9, 13, 3)
    images.write_png(tmp_path / "a.png", make(values))
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.shape == (9, 13, 3)
    assert np.abs(pixels / 255 - values.clip(0, 1)).max() <= 0.5001 / 255
    assert torch.equal(images.read_picture(tmp_path / "a.png"), torch.from_numpy(pixels.astype(np.float32) / 255))


def test_values_that_are_not_finite_are_written_as_something(tmp_path):
    images.write_png(tmp_path / "a.png", torch.tensor([[[float("nan"), float("inf"), -float("inf")]]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[0, 255, 0]]]


def test_grey_pictures_keep_16_bits(tmp_path):
    values = np.linspace(0, 1, 30, dtype=np.float64).reshape(5, 6)
    images.write_gray16_png(tmp_path / "a.png", torch.from_numpy(values), {"largest": 7.5})
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.max() == 65535 and np.abs(pixels / 65535 - values).max() <= 0.5001 / 65535
    assert images.read_png_metadata(tmp_path / "a.png") == {"largest": 7.5}


def test_metadata_travel_inside_the_picture(tmp_path):
    metadata = {"camera": {"position": [1.5, -2.0, 1e-7]}, "scene": "größer/走廊.ply", "keep": 0.1, "nothing": None}
    images.write_png(tmp_path / "a.png", torch.rand(4, 4, 3), metadata)
    assert images.read_png_metadata(tmp_path / "a.png") == metadata


def test_a_picture_of_somebody_else_has_no_metadata(tmp_path):
    (tmp_path / "a.png").write_bytes(coded(rgba(), "PNG"))
    (tmp_path / "b.jpg").write_bytes(coded(rgba()[..., :3], "JPEG"))
    assert images.read_png_metadata(tmp_path / "a.png") is None
    assert images.read_png_metadata(tmp_path / "b.jpg") is None


def test_damaged_metadata_are_called_damaged(tmp_path):
    images.write_png(tmp_path / "a.png", torch.rand(4, 4, 3), {"keep": 0.1})
    from PIL import PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(images.METADATA_KEY, "{keep")
    Image.fromarray(rgba()).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(SceneError, match=r"a\.png: the camera and settings stored in this picture are damaged"):
        images.read_png_metadata(tmp_path / "a.png")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", coded(rgba(), "PNG")[:-60]])
@pytest.mark.parametrize("verb", [images.read_picture, images.read_png_metadata])
def test_a_broken_picture_gives_one_sentence_with_its_name(tmp_path, data, verb):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SceneError, match=r"a\.png: the picture cannot be decoded"):
        verb(tmp_path / "a.png")


@pytest.mark.parametrize("verb", [images.read_picture, images.read_png_metadata])
def test_a_missing_picture_gives_one_sentence(tmp_path, verb):
    with pytest.raises(SceneError, match=r"a\.png: cannot be read \(No such file"):
        verb(tmp_path / "a.png")


def test_an_absurdly_large_picture_is_not_decoded():
    data = bytearray(coded(np.zeros((1, 1, 3), np.uint8), "PNG"))
    data[16:24] = (9000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(SceneError, match="9000 x 9000 pixels are more than can be opened"):
        images.decode_picture(bytes(data))


def test_a_place_that_cannot_be_written_to_gives_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SceneError, match=r"a\.png: cannot be written"):
        images.write_png(tmp_path / "file" / "a.png", torch.rand(2, 2, 3))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "WEBP", "JPEG"]), st.data())
def test_random_damage_is_either_decoded_or_refused_politely(kind, data):
    whole = bytearray(coded(rgba()[..., :3], kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for verb in (images.decode_picture, images.picture_size):
        try:
            verb(broken, "it")
        except SceneError as error:
            assert str(error).startswith("it: ")


def test_a_jpeg_shows_the_picture_and_is_made_smaller_on_request():
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 60), indexing="ij")
    picture = torch.stack([x, y, 1 - x], 2)
    whole = images.decode_picture(images.encode_jpeg(picture, 95))
    assert np.abs(whole[..., :3] / 255 - picture.numpy()).mean() < 0.01
    assert images.decode_picture(images.encode_jpeg(picture, 95, longest=30)).shape[:2] == (20, 30)


# Videos


def waves(count: int, height: int, width: int) -> list[torch.Tensor]:
    """Smooth pictures in motion."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows / 17 + columns / 29, rows / 23, columns / 19], 2)
    return [0.5 + 0.4 * torch.sin(place + number / 5) for number in range(count)]


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (720, 1280)])
def test_a_video_shows_its_pictures(tmp_path, size):
    import imageio.v3

    pictures = waves(7, *size)
    with images.video(tmp_path / "new" / "x.mp4", 25) as add:
        for picture in pictures:
            add(picture)
    path = tmp_path / "new" / "x.mp4"
    found = imageio.v3.imread(path, plugin="pyav", format="yuv444p").astype(float)  # [T, 3, H, W], no colours guessed
    assert found.shape == (7, 3, size[0] // 2 * 2, size[1] // 2 * 2)
    # BT.709 from 720 lines on, BT.601 below, both narrow.
    luma = (0.2126, 0.7152, 0.0722) if size[0] >= 720 else (0.299, 0.587, 0.114)
    for picture, planes in zip(pictures, found, strict=True):
        red, green, blue = picture[: planes.shape[1], : planes.shape[2]].double().unbind(2)
        bright = luma[0] * red + luma[1] * green + luma[2] * blue
        wanted = (
            16 + 219 * bright,
            128 + 224 * (blue - bright) / (2 - 2 * luma[2]),
            128 + 224 * (red - bright) / (2 - 2 * luma[0]),
        )
        for plane, expected in zip(planes, wanted, strict=True):
            assert np.abs(plane - expected.numpy()).mean() < 1.5
    assert imageio.v3.immeta(path, plugin="pyav")["fps"] == 25
    assert [each.name for each in path.parent.iterdir()] == ["x.mp4"]


def test_a_video_that_breaks_off_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError, match="enough"), images.video(path, 30) as add:
        add(torch.zeros(32, 32, 3))
        raise RuntimeError("enough")
    with pytest.raises(SceneError, match="at least one picture"), images.video(path, 30):
        pass
    assert path.read_bytes() == b"before" and [each.name for each in tmp_path.iterdir()] == ["x.mp4"]


def test_a_video_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match=r"x.mp4: cannot be written"), images.video(tmp_path / "file" / "x.mp4", 30):
        pass


@pytest.mark.parametrize("size", [(16, 16400), (1, 64)])
def test_a_video_that_cannot_be_coded_says_so(tmp_path, size):
    with pytest.raises(SceneError, match="cannot be made"), images.video(tmp_path / "x.mp4", 30) as add:
        add(torch.zeros(*size, 3))
    assert not list(tmp_path.iterdir())
