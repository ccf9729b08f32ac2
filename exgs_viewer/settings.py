"""Every knob of the program, declared once: type, range, unit, one sentence.

Command-line flags, the settings file and the panel's widgets all derive from these fields. Values are frozen
and plain, so "has it changed?" is `!=`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, get_args, get_origin, get_type_hints

Report = Callable[[float, str], None]
"""Progress callback: share done in [0, 1] and a few words. It raises errors.Cancelled when the job is unwanted."""


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
"""Bytes; powers of ten, as in everything the program says about sizes."""


def quiet(fraction: float, text: str) -> None:
    """A Report that tells nobody."""


def part(report: Report, start: float, length: float) -> Report:
    """A Report for a step that takes the share [start, start + length] of `report`."""
    return lambda fraction, text: report(start + length * fraction, text)


@dataclass(frozen=True)
class Range:
    """Bounds of a number and how a slider should move through them."""

    low: float
    high: float
    unit: str = ""
    log: bool = False
    zero: str = ""
    """The word for 0 where that is no amount, e.g. `auto`."""


@dataclass(frozen=True)
class RenderSettings:
    """How splats become a picture."""

    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Display sRGB colour behind the scene, each in [0, 1]."""
    sh_degree: Annotated[int, Range(0, 3)] = 3
    """Highest spherical-harmonics degree drawn: 0 is the same colour from every side."""
    near: Annotated[float, Range(1e-4, 1.0, "world units", log=True)] = 0.02
    """Gaussians whose centre is nearer to the camera than this are not drawn."""
    antialiased: bool = False
    """What is thinner than a pixel becomes fainter instead of thicker, as scenes trained with Mip-Splatting expect."""


@dataclass(frozen=True)
class CompressionSettings:
    """How a scene becomes smaller (Universal Gaussian Compression, ExGS 4.1)."""

    keep: Annotated[float, Range(0.01, 1.0, "share", log=True)] = 0.1
    """Retention: share of the Gaussians that is kept, exactly round(N * keep) of them."""
    reduction: Literal["merge", "prune"] = "merge"
    """What becomes of the others: merged with those that look alike, or dropped as in the paper."""
    score: Literal["hits", "weight", "lightgs"] = "hits"
    """What pruning ranks by: the paper's eq. 7, summed blending weights, or LightGaussian's own score."""
    voxel_size: Annotated[float, Range(0.0, 1e6, "world units", zero="auto")] = 0.0
    """Edge of the voxels that each keep a representative (eq. 9); auto takes 1/64 of the scene's extent."""
    sh_degree: Annotated[int, Range(0, 3)] = 0
    """Spherical-harmonics degree that is stored; the paper drops all but the constant colour."""
    amplify: Literal["adaptive", "constant"] = "adaptive"
    """How Gaussians grow to close holes: each by what was dropped around it (eq. 10) or merged into it, or all alike.
    Merging takes pruning's result where that is better."""
    amplification: Annotated[float, Range(0.5, 3.0, "x")] = 1.0
    """Factor on the size of all that is kept, on top of that."""
    codec: Literal["compact", "float16", "paper"] = "compact"
    """How an .exgs stores numbers: compact rounds what the eye misses, float16 is lossless, paper is as published."""
    quality: Literal["auto", "high", "default", "small"] = "auto"
    """How finely the compact codec rounds; auto goes from small where few are kept to default where all are."""
    coarser: Annotated[float, Range(-3.0, 3.0, "octaves", zero="auto")] = 0.0
    """Octaves by which `auto` rounds more coarsely than usual; auto asks the scene's own pictures when merging."""
    calibrate: bool = True
    """Correct merged opacities until each group is as visible as its members were."""
    colors: Literal["kept", "full", "off"] = "kept"
    """Fit merged colours to pictures of the scene with the SH degree that is kept, or with all of it."""
    refine: bool = False
    """Fit all parameters for a short while to pictures of the uncut scene; tens of seconds on a CPU."""


PRESETS = {
    "paper": CompressionSettings(codec="paper", reduction="prune", calibrate=False, colors="off"),
    "default": CompressionSettings(),
    "best": CompressionSettings(refine=True),
}
"""Ways to compress, by name: UGC exactly as published; ours, feed-forward; ours with a short fit."""

KNOBS = ("keep", "voxel_size", "sh_degree", "amplification")
"""What a preset leaves to whoever turns the knobs."""


def with_preset(compression: CompressionSettings, name: str) -> CompressionSettings:
    """The preset `name` with the KNOBS of `compression`."""
    return replace(PRESETS[name], **{knob: getattr(compression, knob) for knob in KNOBS})


def preset_of(compression: CompressionSettings) -> str | None:
    """The preset that compresses in this way, whatever the KNOBS; None where none does."""
    return next((name for name in PRESETS if with_preset(compression, name) == compression), None)


@dataclass(frozen=True)
class RestoreSettings:
    """How the compressed picture is repaired."""

    restorer: Literal["inpaint", "scene", "lite", "sd-turbo"] = "scene"
    """Which restorer works: inpaint is the classical push-pull fill, scene a filter fitted to the compressed scene,
    lite a small network, sd-turbo the paper's large one, for weights of your own."""
    strength: Annotated[float, Range(0.0, 1.0)] = 1.0
    """Blend between the compressed picture (0) and the restored one (1)."""
    steady: bool = False
    """Blend a part of the picture before into each restored one while the camera moves: on a GPU, and in videos."""


@dataclass(frozen=True)
class WindowSettings:
    """How the window behaves."""

    width: Annotated[int, Range(640, 16384, "px")] = 1440
    """Window width at start."""
    height: Annotated[int, Range(480, 16384, "px")] = 860
    """Window height at start."""
    fly_speed: Annotated[float, Range(0.01, 100.0, "x", log=True)] = 1.0
    """Flying speed relative to the scene's size."""
    fov_degrees: Annotated[float, Range(15.0, 120.0, "degrees")] = 50.0
    """Vertical field of view."""


@dataclass(frozen=True)
class Settings:
    """Everything that is remembered between two sessions."""

    render: RenderSettings = field(default_factory=RenderSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    restore: RestoreSettings = field(default_factory=RestoreSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    backend: Literal["auto", "cuda", "cpu", "reference"] = "auto"
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""


def knob_range(settings_type: type, name: str) -> Range | None:
    """The Range declared for a field, None where it has none."""
    hint = get_type_hints(settings_type, include_extras=True)[name]
    if get_origin(hint) is not Annotated:
        return None
    return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Range)), None)


def user_folder() -> Path:
    """Where settings, scores and remembered up axes live; $EXGS_HOME overrides the platform's usual place."""
    if os.environ.get("EXGS_HOME"):
        return Path(os.environ["EXGS_HOME"])
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home())) / "exgs_viewer"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "exgs_viewer"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "exgs_viewer"


def bytes_of(text: str) -> int | None:
    """The bytes that people mean by 800 kB, 5MB or 1200; None where that is no size above 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.strip().lower())
    return round(float(found[1]) * UNITS[found[2]]) or None if found else None


def resource(*parts: str) -> Path:
    """A file that ships with the program, e.g. `resource("assets", "font.ttf")`.

    In a checkout the folders lie beside the package; a wheel carries them inside it.
    """
    package = Path(__file__).resolve().parent
    inside = package.joinpath(*parts)
    return inside if inside.exists() else package.parent.joinpath(*parts)


def write_atomically(path: Path, data: bytes | Iterable[bytes], check: Callable[[Path], None] | None = None) -> None:
    """Write `data`, whole or in pieces, under a temporary name, flush it to the disk, then rename.

    No half-written file is ever seen, not even when a piece raises. `check` is given the temporary file before the
    renaming; what it raises leaves the file that was there untouched.
    """
    with replacing(path, check) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


@contextmanager
def replacing(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """A file to write under a temporary name, which becomes `path` once it is whole; see `write_atomically`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if check:
            check(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_settings(path: Path | None = None) -> Settings:
    """Settings of the last session. Unknown keys and values out of range fall back to the default, one by one."""
    path = path or user_folder() / "settings.json"
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return Settings()
    return _merged(Settings(), stored)


def save_settings(settings: Settings, path: Path | None = None) -> None:
    """Remember `settings` for the next session."""
    write_atomically(path or user_folder() / "settings.json", json.dumps(asdict(settings), indent=1).encode())


def _merged(value: Any, stored: Any) -> Any:
    """`value` with every field that `stored` holds a usable value for."""
    if not isinstance(stored, dict):
        return value
    changes = {}
    for item in fields(value):
        current = getattr(value, item.name)
        if item.name not in stored:
            continue
        if is_dataclass(current):
            changes[item.name] = _merged(current, stored[item.name])
        elif _fits(type(value), item.name, current, stored[item.name]):
            changes[item.name] = type(current)(stored[item.name])
    return replace(value, **changes)


def _fits(settings_type: type, name: str, current: Any, stored: Any) -> bool:
    hint = get_type_hints(settings_type)[name]
    if get_origin(hint) is Literal:
        return stored in get_args(hint)
    if isinstance(current, tuple):
        numbers = isinstance(stored, list) and all(isinstance(part, (int, float)) for part in stored)
        return numbers and len(stored) == len(current)
    if isinstance(current, bool) or isinstance(stored, bool) or not isinstance(stored, (int, float)):
        return type(stored) is type(current)
    limits = knob_range(settings_type, name)
    return limits is None or limits.low <= stored <= limits.high
