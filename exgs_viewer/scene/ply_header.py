"""The text at the head of a .ply, read and written: which elements follow, their properties, the byte order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.camera import Vector

MAX_HEADER = 1 << 18
"""Bytes. A header that has not ended by then is none."""

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2"},
    **{"int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
"""The format's names of types, old and new -> numpy's."""

WORDS = {"f4": "float", "u4": "uint", "u1": "uchar"}
"""The names of the types that are written."""

BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Element:
    """One table of the file."""

    name: str
    count: int
    """Number of rows."""
    properties: tuple[tuple[str, str], ...]
    """(name, numpy type without byte order) of each column; the type of a list is `list`."""

    @property
    def has_lists(self) -> bool:
        return any(kind == "list" for _, kind in self.properties)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.properties)

    def row_type(self, byte_order: str) -> np.dtype:
        """The numpy structure of one row; only for elements without lists."""
        return np.dtype([(name, byte_order + kind) for name, kind in self.properties])


@dataclass(frozen=True)
class Header:
    """What a .ply says about itself."""

    byte_order: str
    """'<', '>', or '' for ascii."""
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    """Lines after `comment`, without that word."""
    size: int
    """Bytes up to the first row of the first element."""

    def element(self, name: str) -> Element | None:
        return next((element for element in self.elements if element.name == name), None)

    def before(self, name: str) -> tuple[Element, ...]:
        """The elements whose rows come before those of element `name`."""
        names = [element.name for element in self.elements]
        return self.elements[: names.index(name)]


def read_header(path: Path) -> Header:
    """Parse the head of a .ply. Raises SceneError with the line that is wrong."""
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    if not start:
        raise SceneError(f"{path}: the file is empty.")
    if start[:3] != b"ply" or start[3:5].strip(b"\r\n \t") == start[3:5]:
        raise SceneError(f"{path}: this is no .ply file; it does not begin with the word 'ply'.")
    lines, size = _lines(path, start)
    byte_order, comments, elements = None, [], []
    for line in lines[1:]:
        word, _, rest = line.partition(" ")
        if word == "format":
            byte_order = BYTE_ORDERS.get(rest.split(" ")[0])
        elif word == "comment":
            comments.append(rest.strip())
        elif word == "element":
            elements.append(_element(path, line))
        elif word == "property" and elements:
            elements[-1] = _with_property(path, elements[-1], line)
        elif word not in ("", "obj_info"):
            raise SceneError(f"{path}: the .ply header has a line that makes no sense: '{line[:60]}'.")
    if byte_order is None:
        raise SceneError(f"{path}: the .ply header names no format among {', '.join(BYTE_ORDERS)}.")
    return Header(byte_order, tuple(elements), tuple(comments), size)


def header_bytes(elements: Iterable[Element], meta: dict[str, Any]) -> bytes:
    """The head of a binary little-endian .ply; `meta` gives its comments, as `comment_lines` has them."""
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comment_lines(meta))]
    for element in elements:
        lines.append(f"element {element.name} {element.count}")
        lines.extend(f"property {WORDS[kind]} {name}" for name, kind in element.properties)
    return "\n".join([*lines, "end_header\n"]).encode("latin-1", "replace")


def comment_lines(meta: dict[str, Any]) -> list[str]:
    """`meta["comments"]`, and `meta["up"]` as the comment that `up_axis` understands, in place of any there."""
    comments, up = [" ".join(str(line).split()) for line in meta.get("comments", ())], meta.get("up")
    if up is None:
        return comments
    others = [line for line in comments if up_axis([line]) is None]
    return [*others, *(f"Vertical Axis: {axis}" for axis in [axis_name(up)] if axis)]


def axis_name(direction: Vector) -> str | None:
    """`z` or `-y` for a unit vector along an axis, None for any other."""
    place = max(range(3), key=lambda axis: abs(direction[axis]))
    return ("-" if direction[place] < 0 else "") + "xyz"[place] if abs(direction[place]) > 1 - 1e-6 else None


def up_axis(comments: Iterable[str]) -> Vector | None:
    """The unit vector of a comment such as `Vertical Axis: z` or `-y`, None where there is none."""
    for comment in comments:
        name, _, value = comment.partition(":")
        axis = value.strip().lower()
        if name.strip().lower() == "vertical axis" and axis.lstrip("+-") in ("x", "y", "z"):
            sign = -1.0 if axis.startswith("-") else 1.0
            return tuple(sign * (axis[-1] == letter) for letter in "xyz")
    return None


def described(header: Header) -> dict[str, Any]:
    """Scene.meta of a header: its comments, and those of the form `Name: value` by name."""
    named = (comment.partition(":") for comment in header.comments)
    values = {name.strip(): value.strip() for name, colon, value in named if colon and name.strip()}
    return {**values, "comments": list(header.comments)} if header.comments else {}


def _lines(path: Path, start: bytes) -> tuple[list[str], int]:
    """The header's lines without `end_header`, and the number of bytes they take together."""
    end = start.find(b"\nend_header")
    newline = start.find(b"\n", end + 1)
    if end < 0 or newline < 0:
        raise SceneError(f"{path}: the .ply header has no end; the file was cut short or is no .ply.")
    return [" ".join(line.split()) for line in start[:end].decode("latin-1").split("\n")], newline + 1


def _element(path: Path, line: str) -> Element:
    words = line.split(" ")
    if len(words) != 3 or not words[2].isdecimal():
        raise SceneError(f"{path}: the .ply header has '{line[:60]}', which needs a name and a count of rows.")
    return Element(words[1], int(words[2][:18]), ())


def _with_property(path: Path, element: Element, line: str) -> Element:
    words = line.split(" ")
    listed = len(words) == 5 and words[1] == "list" and words[2] in TYPES and words[3] in TYPES
    if not listed and (len(words) != 3 or words[1] not in TYPES):
        raise SceneError(f"{path}: the .ply header has '{line[:60]}', which is no property known here.")
    if words[-1] in element.names:
        raise SceneError(f"{path}: the .ply header names the property '{words[-1]}' twice.")
    kind = "list" if listed else TYPES[words[1]]
    return Element(element.name, element.count, (*element.properties, (words[-1], kind)))
