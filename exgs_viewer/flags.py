"""Settings as command-line flags: names, sentences, defaults and bounds all come from settings.py."""

from __future__ import annotations

from dataclasses import asdict, field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from exgs_viewer.errors import ExgsError
from exgs_viewer.settings import (
    CompressionSettings,
    RenderSettings,
    RestoreSettings,
    WindowSettings,
    bytes_of,
    knob_range,
    load_settings,
)

MOST_PIXELS = 16384
"""Longest side of a picture."""


def knob(kind: type, name: str) -> PrimitiveConstructorSpec:
    """How the flag of a setting with a Range is read: its bounds are shown, and checked with one sentence."""
    limits, hint = knob_range(kind, name), get_type_hints(kind)[name]
    flag = "--" + name.replace("_", "-")

    def read(words: list[str]) -> float:
        value = hint(0) if limits.zero and words[0] == limits.zero else hint(words[0])
        if not limits.low <= value <= limits.high:
            raise ExgsError(f"{flag} {words[0]}: must lie between {limits.low:g} and {limits.high:g}.")
        return value

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=limits.zero or f"{limits.low:g}..{limits.high:g}",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, (int, float)),
        str_from_instance=lambda value: [limits.zero if limits.zero and value == 0 else str(value)],
    )


def as_flags(kind: type) -> type:
    """A settings dataclass as tyro shall see it: the same fields and sentences, ranges shown and checked."""
    hints = get_type_hints(kind)
    columns = []
    for item in fields(kind):
        hint = hints[item.name]
        if knob_range(kind, item.name):
            hint = Annotated[hint, knob(kind, item.name)]
        columns.append((item.name, hint, field(default=item.default)))
    return make_dataclass(kind.__name__, columns, bases=(kind,), frozen=True)


def plain(kind: type, flags: Any) -> Any:
    """The settings that were read with as_flags(kind), as the rest of the program compares them."""
    return kind(**asdict(flags))


def _read_size(words: list[str]) -> tuple[int, int]:
    width, _, height = words[0].lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= MOST_PIXELS and 0 < int(height) <= MOST_PIXELS):
        raise ExgsError(f"--size {words[0]}: must be WIDTHxHEIGHT in pixels up to {MOST_PIXELS}, e.g. 1280x720.")
    return int(width), int(height)


PictureSize = Annotated[
    tuple[int, int],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="WxH",
        instance_from_str=_read_size,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [f"{value[0]}x{value[1]}"],
    ),
]


def _read_bytes(words: list[str]) -> int:
    count = bytes_of(words[0])
    if count is None:
        raise ExgsError(f"--bytes {words[0]}: must be a size above 0, e.g. 800kB or 5MB.")
    return count


ByteCount = Annotated[
    int,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="5MB",
        instance_from_str=_read_bytes,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
CompressionFlags, RenderFlags = as_flags(CompressionSettings), as_flags(RenderSettings)
RestoreFlags, WindowFlags = as_flags(RestoreSettings), as_flags(WindowSettings)


def stored(name: str, flags: type) -> Any:
    """The settings of the last session as defaults of the flags."""
    return flags(**asdict(getattr(load_settings(), name)))
