"""Where pixels become a texture: the raw texture every platform has, and a faster way where OpenGL is at hand."""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Protocol

import dearpygui.dearpygui as dpg
import numpy as np

_log = logging.getLogger(__name__)
TEXTURE_2D, RGBA, RGBA8, UNSIGNED_BYTE = 0x0DE1, 0x1908, 0x8058, 0x1401
UNPACK_ALIGNMENT, UNPACK_ROW_LENGTH, TEXTURE_WIDTH = 0x0CF5, 0x0CF2, 0x1000
SIGNATURE = (37, 2, 7, 11)
"""Colour by which our texture is recognised among all of OpenGL's; its size is odd too."""
PROBE = (3, 5)


class ImageSink(Protocol):
    """Keeps exactly one live texture."""

    as_bytes: bool
    """Whether it takes uint8 instead of float32."""
    texture: int | str
    """The Dear PyGui texture to draw; may change with every `show`."""

    def show(self, pixels: np.ndarray) -> None:
        """Make [H, W, 4] the texture's content."""
        ...


class RawTexture:
    """float32 RGBA, uploaded by Dear PyGui in every frame; works everywhere."""

    as_bytes = False

    def __init__(self, registry: int | str):
        self._registry = registry
        self._size = (0, 0)
        self.texture: int | str = 0
        self.show(np.zeros((4, 4, 4), np.float32))

    def show(self, pixels: np.ndarray) -> None:
        # Dear PyGui checks neither length nor type and reads through the pointer in every frame.
        assert pixels.dtype == np.float32 and pixels.ndim == 3 and pixels.shape[2] == 4
        flat = np.ascontiguousarray(pixels).reshape(-1)
        size = (pixels.shape[1], pixels.shape[0])
        if size == self._size:
            dpg.set_value(self.texture, flat)
        else:
            self._size, old = size, self.texture
            self.texture = dpg.add_raw_texture(*size, flat, format=dpg.mvFormat_Float_rgba, parent=self._registry)
            self._old = old
        self._pixels = flat

    def release(self) -> None:
        """Delete the texture that `show` replaced, once nothing draws it any more."""
        old, self._old = getattr(self, "_old", 0), 0
        if old:
            dpg.delete_item(old)


class GlTexture:
    """uint8 RGBA, sent by us with OpenGL into a static texture of Dear PyGui: a tenth of the raw texture's cost.

    Made between two frames on the main thread, whose context is current. Raises OSError where that does not work.
    """

    as_bytes = True

    def __init__(self, registry: int | str):
        self._gl = ctypes.CDLL("libGL.so.1")
        before = self._known()
        flat = np.tile(np.array(SIGNATURE, np.float32) / 255, PROBE[0] * PROBE[1])
        self.texture: int | str = dpg.add_static_texture(*PROBE, flat, parent=registry)
        dpg.render_dearpygui_frame()
        ours = [name for name in self._known() - before if self._has_signature(name)]
        if len(ours) != 1:
            dpg.delete_item(self.texture)
            raise OSError(f"{len(ours)} textures look like ours")
        self._name = ours[0]

    def show(self, pixels: np.ndarray) -> None:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4
        pixels = np.ascontiguousarray(pixels)
        height, width = pixels.shape[:2]
        gl = self._gl
        gl.glBindTexture(TEXTURE_2D, self._name)
        gl.glPixelStorei(UNPACK_ALIGNMENT, 4)
        gl.glPixelStorei(UNPACK_ROW_LENGTH, 0)
        pointer = pixels.ctypes.data_as(ctypes.c_void_p)
        gl.glTexImage2D(TEXTURE_2D, 0, RGBA8, width, height, 0, RGBA, UNSIGNED_BYTE, pointer)
        gl.glBindTexture(TEXTURE_2D, 0)

    def release(self) -> None:
        """Nothing is ever replaced."""

    def _known(self) -> set[int]:
        return {name for name in range(1, 512) if self._gl.glIsTexture(name)}

    def _has_signature(self, name: int) -> bool:
        """Whether this texture has the size and the colour of our probe."""
        width = ctypes.c_int()
        self._gl.glBindTexture(TEXTURE_2D, name)
        self._gl.glGetTexLevelParameteriv(TEXTURE_2D, 0, TEXTURE_WIDTH, ctypes.byref(width))
        found = width.value == PROBE[0]
        if found:
            pixels = (ctypes.c_ubyte * (4 * PROBE[0] * PROBE[1]))()
            self._gl.glGetTexImage(TEXTURE_2D, 0, RGBA, UNSIGNED_BYTE, pixels)
            found = tuple(pixels[:4]) == SIGNATURE
        self._gl.glBindTexture(TEXTURE_2D, 0)
        return found


def open_sink(registry: int | str) -> RawTexture | GlTexture:
    """The fastest sink that works here. Call it between two frames, after the first one."""
    if sys.platform.startswith("linux"):
        try:
            return GlTexture(registry)
        except (OSError, AttributeError) as error:
            _log.info("No direct way to the texture (%s); Dear PyGui uploads it.", error)
    return RawTexture(registry)
