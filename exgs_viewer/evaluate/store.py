"""Finished rows on the disk. Each is found again only by exactly what it was measured from: scene, cameras, method,
settings and the program's own code. So a killed run goes on where it stopped, and nothing stale is ever shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

from exgs_viewer import lpips
from exgs_viewer.compress.recovery import Recovery
from exgs_viewer.evaluate.plan import ROW_FIELDS, Case, Plan, Row
from exgs_viewer.settings import resource, write_atomically

MEASURING = (
    "scene",
    "render",
    "compress",
    "restore",
    "evaluate/measure.py",
    "evaluate/flicker.py",
    "methods.py",
    "pipeline.py",
    "metrics.py",
    "lpips.py",
)
"""The part of the package that figures depend on; changing a window does not make them stale."""
PICTURES = "pictures"


class Store:
    """Rows and pictures in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def keys(self, plan: Plan, case: Case) -> dict[tuple[str, float, str], str]:
        """(method, keep, restorer) -> the name under which that row is stored, in the order of the tables."""
        scene = scene_key(plan, case)
        return {
            (method, keep, restorer): _digest(
                scene,
                plan.reference,
                method,
                keep,
                restorer,
                trained(plan, method),
                plan.temporal,
                plan.match_of(method),
            )
            for method in plan.methods
            for keep in plan.keeps
            for restorer in plan.restorers
        }

    def rows(self, plan: Plan, case: Case) -> list[Row]:
        """All rows of a scene that has been measured."""
        return [Row(**json.loads(self._row(key).read_text())) for key in self.keys(plan, case).values()]

    def has(self, key: str) -> bool:
        """Whether this row is there, whole."""
        try:
            return tuple(json.loads(self._row(key).read_text())) == ROW_FIELDS
        except (OSError, ValueError):
            return False

    def keep(self, key: str, row: Row) -> None:
        write_atomically(self._row(key), json.dumps(asdict(row)).encode())

    def picture(self, key: str, view: int) -> Path:
        """Where the picture of a row (or of a scene's reference) from one view lies."""
        return self.folder / PICTURES / f"{key}-{view}.jpg"

    def _row(self, key: str) -> Path:
        return self.folder / "results" / f"{key}.json"


def trained(plan: Plan, method: str) -> Recovery | None:
    """The part of the plan that only one method depends on."""
    return plan.recovery if method == "lightgs-refined" else None


def scene_key(plan: Plan, case: Case) -> str:
    """Name of everything that all rows of a scene share; its reference pictures are stored under it."""
    return _digest(_files(case.path), case.name, case.views, plan.backend, _code(), lpips.find())


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def _files(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of every file of a scene; none for one that is made by code."""
    root = Path(path)
    files: Iterator[Path] = root.rglob("*") if root.is_dir() else iter([root])
    stats = [(str(file.resolve()), file.stat()) for file in files if file.is_file()]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@cache
def _code() -> str:
    """Name of this version of what measures: its source, and the weights it works with."""
    digest = hashlib.blake2b(digest_size=12)
    package = Path(__file__).parents[1]
    parts = [package / part for part in MEASURING]
    files = [file for part in parts for file in (part.rglob("*.py") if part.is_dir() else [part])]
    files += [file for file in resource("weights").rglob("*") if file.is_file()]
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
