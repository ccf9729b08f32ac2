"""SOG, the picture-packed scenes of PlayCanvas: a meta.json with tables beside a handful of lossless WebPs.

One pixel is one Gaussian. Both versions come as a `.sog` (a zip), as a folder, or as a folder of chunk folders that
are parts of one scene. Version 1 gives ranges for its bytes, version 2 codebooks; both become tables here.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from exgs_viewer.errors import SceneError
from exgs_viewer.scene import Scene
from exgs_viewer.scene.rows import allocate, finish
from exgs_viewer.scene.sog_tables import Described, described, fill
from exgs_viewer.settings import Report, quiet

MAX_BYTES = 1 << 30
"""No single file of a scene is larger than this."""


@dataclass(frozen=True)
class Chunk:
    """One meta.json and the way to the files beside it."""

    name: str
    """Where its meta.json lies, for messages."""
    meta: str
    """File name of its meta.json."""
    load: Callable[[str], bytes]
    """Bytes of a file beside meta.json. Raises SceneError."""


def read(path: Path, report: Report = quiet) -> Scene:
    """Read a .sog, a meta.json, or a folder of either one scene or its chunks. Raises SceneError."""
    path = Path(path)
    with _chunks(path) as (chunks, notes):
        report(0.0, f"Reading {path.name}")
        loaded = _Counted()
        parts = [(chunk, _described(chunk, loaded)) for chunk in chunks]
        rows = allocate(path, sum(part.count for _, part in parts), max(part.sh_degree for _, part in parts))
        start, total, unturned = 0, len(rows.marks), 0
        for chunk, part in parts:
            pictures = {name: loaded.load(chunk, name) for name in part.files}
            unturned += fill(rows, start, part, pictures, chunk.name, _share(report, start, part.count, total, path))
            start += part.count
    cloud, dropped = finish(rows, path)
    if unturned:
        notes = [*notes, f"{unturned:,} of {total:,} Gaussians had no valid rotation and were left unturned."]
    first = parts[0][1].meta
    meta = {"version": first.get("version", 1), **{key: first[key] for key in ("asset", "antialias") if key in first}}
    return Scene(cloud, path, "sog", loaded.total, warnings=(*notes, *dropped), meta={**meta, "chunks": len(parts)})


class _Counted:
    """Loads files and keeps the sum of their bytes."""

    def __init__(self) -> None:
        self.total, self._seen = 0, set()

    def load(self, chunk: Chunk, name: str) -> bytes:
        if PurePosixPath(name).name != name or "\\" in name or ":" in name or "\0" in name or name in ("", ".", ".."):
            raise SceneError(f"{chunk.name}: '{name[:60]}' is no plain file name, so it is not followed.")
        data = chunk.load(name)
        if (chunk.name, name) not in self._seen:
            self._seen.add((chunk.name, name))
            self.total += len(data)
        return data


def _share(report: Report, start: int, count: int, total: int, path: Path) -> Callable[[float], None]:
    return lambda share: report((start + share * count) / total, f"Reading {path.name}")


def _described(chunk: Chunk, loaded: _Counted) -> Described:
    try:
        meta = json.loads(loaded.load(chunk, chunk.meta))
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{chunk.name}: this is no JSON, so it describes no SOG scene.") from error
    return described(meta, lambda name: loaded.load(chunk, name), chunk.name)


@contextmanager
def _chunks(path: Path) -> Iterator[tuple[list[Chunk], list[str]]]:
    """The chunks that `path` stands for and what there is to say about their choice; closes what it opens."""
    if path.is_dir():
        yield _folder_chunks(path)
    elif path.suffix.lower() == ".json":
        yield _folder_chunks(path.parent) if _lists_levels(path) else ([_folder_chunk(path)], [])
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            empty = path.exists() and path.stat().st_size == 0
            what = "the file is empty" if empty else "this is no .sog bundle; it is no zip archive or was cut short"
            raise SceneError(f"{path}: {what}.") from error
        with archive:
            yield _archive_chunks(path, archive)


def _lists_levels(path: Path) -> bool:
    """Whether this is a lod-meta.json, which lists the chunk folders beside it."""
    return path.name == "lod-meta.json"


def _folder_chunk(meta: Path) -> Chunk:
    return Chunk(str(meta), meta.name, lambda name: _file(meta.parent / name))


def _folder_chunks(folder: Path) -> tuple[list[Chunk], list[str]]:
    try:
        found = {meta.parent.name: meta for meta in folder.glob("*/meta.json")}
        own = folder / "meta.json"
        if own.is_file():
            return [_folder_chunk(own)], []
    except OSError as error:
        raise SceneError(f"{folder}: cannot be read ({error.strerror}).") from error
    names, notes = _finest(found)
    if not names:
        raise SceneError(f"{folder}: there is no meta.json in this folder or the folders in it, so it holds no scene.")
    return [_folder_chunk(found[name]) for name in names], notes


def _archive_chunks(path: Path, archive: zipfile.ZipFile) -> tuple[list[Chunk], list[str]]:
    names = set(archive.namelist())
    if "meta.json" in names:
        return [_archive_chunk(path, archive, "")], []
    folders = {str(PurePosixPath(name).parent) for name in names if re.fullmatch(r"[^/\\]+/meta\.json", name)}
    chosen, notes = _finest(folders)
    if not chosen:
        raise SceneError(f"{path}: the archive holds no meta.json, so it is no SOG scene.")
    return [_archive_chunk(path, archive, f"{folder}/") for folder in chosen], notes


def _archive_chunk(path: Path, archive: zipfile.ZipFile, folder: str) -> Chunk:
    return Chunk(f"{path}/{folder}meta.json", "meta.json", lambda name: _entry(path, archive, folder + name))


def _finest(folders: Any) -> tuple[list[str], list[str]]:
    """Chunk folders in natural order; of several levels of detail (`LEVEL_NUMBER`), only the finest."""
    levels = {name: int(match[1]) for name in folders if (match := re.fullmatch(r"(\d+)_(\d+)", name))}
    finest = min(levels.values(), default=0)
    chosen = [name for name in folders if levels.get(name, finest) == finest]
    chosen.sort(key=lambda name: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", name)])
    count = len(set(levels.values()))
    return chosen, [f"It holds {count} levels of detail; the finest, {finest}, was opened."] if count > 1 else []


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SceneError(f"{path}: the file is too large to be part of a SOG scene.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SceneError(f"{path}: this file of the scene is missing.") from error
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}).") from error


def _entry(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of the bundle; what would unpack to an absurd size is refused before it is unpacked."""
    try:
        info = archive.getinfo(name)
        if info.file_size > min(MAX_BYTES, 100 * path.stat().st_size + (1 << 20)):
            raise SceneError(f"{path}: '{name}' would unpack to {info.file_size:,} bytes, which is absurd.")
        return archive.read(info)
    except KeyError as error:
        raise SceneError(f"{path}: '{name}' is missing in the bundle.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise SceneError(f"{path}: '{name}' cannot be unpacked; the bundle is damaged or cut short.") from error
