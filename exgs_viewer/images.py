"""Tensor <-> picture file, and tensors -> video. The only home of Pillow and imageio."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from exgs_viewer.errors import SceneError
from exgs_viewer.settings import replacing, write_atomically

MAX_PIXELS = 1 << 26
"""A picture that claims to be larger is not decoded."""

WEBP_EFFORT = 75
"""0 to 100: how much time goes into making a lossless WebP small."""

METADATA_KEY = "exgs_viewer"
"""The PNG text chunk that holds our JSON."""

VIDEO = ".mp4"
"""How the only kind of video ends: H.264, which everything plays."""

HD_LINES = 720
"""Lines from which players take a video that does not say for HDTV (BT.709), below for BT.601."""

LONGEST = 16384
"""Pixels along a side of a video: H.264's limit."""

LUMA = {True: (0.2126, 0.0722), False: (0.299, 0.114)}
"""Shares of red and blue in the luma of HDTV, and of other video."""

BROKEN = (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError)
"""What Pillow raises on a file that is no picture or a damaged one."""


def decode_picture(data: bytes, name: str = "picture") -> np.ndarray:
    """[H, W, 4] uint8 RGBA of an encoded PNG, WebP or JPEG; alpha is 255 where the file has none.

    The colour of fully transparent pixels survives. Raises SceneError that calls the picture `name`.
    """
    try:
        with _opened(data, name) as image:
            return np.array(image.convert("RGBA"))
    except BROKEN as error:
        raise SceneError(f"{name}: the picture cannot be decoded; it is damaged or cut short.") from error


def encode_webp(pixels: np.ndarray) -> bytes:
    """[H, W, 4] uint8 RGBA as a lossless WebP; the colour of fully transparent pixels survives."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exact=True, quality=WEBP_EFFORT)
    return buffer.getvalue()


def picture_size(data: bytes, name: str = "picture") -> tuple[int, int]:
    """(width, height) from the head of an encoded picture. Raises SceneError that calls it `name`."""
    try:
        with _opened(data, name) as image:
            return image.size
    except BROKEN as error:
        raise SceneError(f"{name}: this is no picture known here.") from error


def read_picture(path: Path) -> Tensor:
    """[H, W, 3] float32 in [0, 1]. Raises SceneError."""
    pixels = decode_picture(_file(path), str(path))
    return torch.from_numpy(pixels[..., :3].astype(np.float32) / 255)


def write_png(path: Path, image: Tensor | np.ndarray, metadata: dict[str, Any] | None = None) -> None:
    """Write [H, W, 3] in [0, 1] as 8-bit PNG, atomically, with `metadata` as JSON inside.

    Values are rounded to the nearest of 256 steps. Raises SceneError where the file cannot be written.
    """
    _save(path, Image.fromarray(_levels(image, 255).astype(np.uint8)), metadata)


def write_gray16_png(path: Path, image: Tensor | np.ndarray, metadata: dict[str, Any] | None = None) -> None:
    """Write [H, W] in [0, 1] as 16-bit grey PNG, atomically: for depth and alpha. Raises SceneError."""
    _save(path, Image.fromarray(_levels(image, 65535).astype(np.uint16)), metadata)


def encode_jpeg(image: Tensor | np.ndarray, quality: int = 85, longest: int = MAX_PIXELS) -> bytes:
    """[H, W, 3] in [0, 1] as JPEG, made smaller where a side is longer than `longest` pixels."""
    picture = Image.fromarray(_levels(image, 255).astype(np.uint8))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def read_png_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata that `write_png` put into a picture; None where there is none.

    Raises SceneError where the file is no picture or its metadata is damaged.
    """
    path = Path(path)
    try:
        with _opened(_file(path), str(path)) as image:
            image.load()
            text = getattr(image, "text", {}).get(METADATA_KEY)
    except BROKEN as error:
        raise SceneError(f"{path}: the picture cannot be decoded; it is damaged or cut short.") from error
    if text is None:
        return None
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{path}: the camera and settings stored in this picture are damaged.") from error
    return metadata if isinstance(metadata, dict) else None


@contextmanager
def video(path: Path, fps: float) -> Iterator[Callable[[Tensor], None]]:
    """Write a video, atomically: what is given takes its pictures, [H, W, 3] in [0, 1], one after the other.

    H.264 keeps colours for blocks of 2 x 2 pixels, so a last odd row or column is left out. Leaving with an exception
    writes nothing. Raises SceneError where the file cannot be written, or its sides are shorter than 2 or longer than
    LONGEST.
    """
    import av
    import imageio.v3

    path = Path(path)
    try:
        with (
            replacing(path) as file,
            imageio.v3.imopen(file, "w", extension=VIDEO, plugin="pyav", container="mp4") as writer,
        ):
            writer.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
            yield lambda picture: _add(writer, picture)
            if not writer.frames_written:
                raise SceneError(f"{path}: a video needs at least one picture.")
    except (OSError, av.FFmpegError) as error:
        raise SceneError(f"{path}: cannot be written ({error.strerror or error}).") from error


def _add(writer: Any, picture: Tensor) -> None:
    height, width = (side - side % 2 for side in picture.shape[:2])
    if not 2 <= min(height, width) <= max(height, width) <= LONGEST:
        raise SceneError(f"A video of {width} x {height} pixels cannot be made; its sides have 2 to {LONGEST:,}.")
    writer.write_frame(_as_video(picture[:height, :width].detach().cpu().numpy()), pixel_format="yuv444p")


def _as_video(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] in [0, 1] -> [3, H, W] uint8 Y'CbCr of the narrow range, 16 to 235 and 16 to 240."""
    picture = np.nan_to_num(picture).clip(0, 1)
    red, blue = LUMA[picture.shape[0] >= HD_LINES]
    luma = picture @ np.array([red, 1 - red - blue, blue], np.float32)
    parts = [16 + 219 * luma]
    parts += [128 + 112 * (picture[..., place] - luma) / (1 - share) for place, share in ((2, blue), (0, red))]
    return np.rint(np.stack(parts)).astype(np.uint8)


def _opened(data: bytes, name: str) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    if image.width * image.height > MAX_PIXELS:
        raise SceneError(f"{name}: {image.width} x {image.height} pixels are more than can be opened.")
    return image


def _file(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}).") from error


def _levels(image: Tensor | np.ndarray, top: int) -> np.ndarray:
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    return np.rint(np.nan_to_num(values).clip(0, 1) * top)


def _save(path: Path, image: Image.Image, metadata: dict[str, Any] | None) -> None:
    chunks = PngImagePlugin.PngInfo()
    if metadata is not None:
        chunks.add_text(METADATA_KEY, json.dumps(metadata))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks)
    try:
        write_atomically(Path(path), buffer.getvalue())
    except OSError as error:
        raise SceneError(f"{path}: cannot be written ({error.strerror}).") from error
