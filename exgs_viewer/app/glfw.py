"""What Dear PyGui cannot do but the GLFW inside its Linux library can: file drop, waiting for input, true scale.

The symbols are no promised interface, so everything here is guarded: without them the window works, only with less.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable

FOCUSED = 0x00020001
"""GLFW_FOCUSED."""
_DROP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
_log = logging.getLogger(__name__)


class Glfw:
    """The GLFW of the running Dear PyGui window. Make it after the first frame, on the main thread."""

    def __init__(self) -> None:
        self._api = _library()
        self._window = None
        self._drop = None
        if self._api is not None:
            self._api.glfwGetCurrentContext.restype = ctypes.c_void_p
            self._api.glfwWaitEventsTimeout.argtypes = [ctypes.c_double]
            context = self._api.glfwGetCurrentContext()
            self._window = ctypes.c_void_p(context) if context else None

    @property
    def works(self) -> bool:
        """Whether the window was found."""
        return self._window is not None

    def wait(self, seconds: float) -> bool:
        """Sleep until there is input or `wake` was called, at most `seconds`; whether it was cut short."""
        if not self.works:
            time.sleep(min(seconds, 0.02))
            return False
        began = time.perf_counter()
        self._api.glfwWaitEventsTimeout(seconds)
        return time.perf_counter() - began < 0.97 * seconds

    def wake(self) -> None:
        """End `wait` from any thread."""
        if self.works:
            self._api.glfwPostEmptyEvent()

    def focused(self) -> bool:
        """Whether the window has the keyboard."""
        return not self.works or bool(self._api.glfwGetWindowAttrib(self._window, FOCUSED))

    def scale(self) -> float:
        """Content scale of the screen, 1.0 for a plain one."""
        if not self.works:
            return 1.0
        across, down = ctypes.c_float(1.0), ctypes.c_float(1.0)
        self._api.glfwGetWindowContentScale(self._window, ctypes.byref(across), ctypes.byref(down))
        return across.value if 0.5 <= across.value <= 4.0 else 1.0

    def on_drop(self, receive: Callable[[list[str]], None]) -> None:
        """Call `receive(paths)` when files are dropped on the window; on the main thread, while events are handled."""
        if not self.works:
            return

        def dropped(window, count, paths):
            receive([paths[number].decode("utf-8", "surrogateescape") for number in range(count)])

        self._drop = _DROP(dropped)  # Kept: GLFW holds only the address.
        self._api.glfwSetDropCallback(self._window, self._drop)


def _library() -> ctypes.CDLL | None:
    try:
        import dearpygui._dearpygui as binary

        api = ctypes.CDLL(binary.__file__)
        needed = ("GetCurrentContext", "WaitEventsTimeout", "PostEmptyEvent", "SetDropCallback", "GetWindowAttrib")
        for name in needed:
            getattr(api, f"glfw{name}")
        return api
    except (ImportError, OSError, AttributeError) as error:
        _log.info("No GLFW inside Dear PyGui (%s): no file drop, and the window polls.", error)
        return None
