"""What the window wants to see and what the engine answers: frozen values, compared with `!=`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from exgs_viewer.app.pace import FULL, Draft
from exgs_viewer.compress.select import BestFirst
from exgs_viewer.pipeline import Stage, cut
from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Restorer
from exgs_viewer.restore.scene_filter import SceneFilter
from exgs_viewer.scene import Scene
from exgs_viewer.scene.camera import Camera, Size, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings, RenderSettings, RestoreSettings

Layout = Literal["single", "wipe", "side", "difference"]
LAYOUTS: tuple[Layout, ...] = ("single", "wipe", "side", "difference")
Side = Literal["original", "compressed", "filled", "restored"]
"""`filled` is what stands in for `restored` while that takes its time: the push-pull fill."""
Beside = Literal["all", "original", "compressed"]
BESIDE: tuple[Beside, ...] = ("all", "original", "compressed")
Mode = Literal["color", "alpha", "depth", "significance", "trust"]
MODES: tuple[Mode, ...] = ("color", "depth", "alpha", "significance", "trust")
THIRDS = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class ViewState:
    """Everything that decides which picture is on the screen."""

    camera: Camera | None = None
    """None until a scene is open."""
    size: Size = (960, 540)
    """Pixels of the whole picture at rest, all panes together."""
    layout: Layout = "single"
    """How the sides are put together."""
    shown: Side = "compressed"
    """Which side the single layout shows: `original`, or `compressed` for the processed one."""
    restoring: bool = False
    """Whether the processed side is the restored picture instead of the compressed one."""
    swapped: bool = False
    """True while the user holds the key that shows the other side."""
    held: bool = False
    """True while a mouse button moves the camera: nothing is restored meanwhile."""
    beside: Beside = "all"
    """What the restored picture is shown beside: original and compressed, or only one of them."""
    wipe: float = 0.5
    """Place of the divider between two sides, share of the width."""
    wipes: tuple[float, float] = THIRDS
    """Places of the dividers between three sides, from left to right."""
    gain: float = 4.0
    """Amplification of the difference."""
    mode: Mode = "color"
    """What is drawn of each side."""
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    restore: RestoreSettings = field(default_factory=RestoreSettings)


def sides_of(view: ViewState, ready: bool = True) -> tuple[Side, ...]:
    """The sides that the layout shows, left to right (for the difference: minuend, subtrahend).

    `ready` is False as long as there is no compressed cloud: then the original stands alone, and nothing pretends.
    """
    if not ready:
        return ("original",)
    restoring = view.restoring and view.mode in ("color", "trust")  # Only colours are repaired.
    processed: Side = "restored" if restoring else "compressed"
    if view.layout == "single":
        return ("original",) if (view.shown == "original") != view.swapped else (processed,)
    if view.mode == "trust" and view.layout == "difference":
        return (processed,)  # It is a difference already.
    sides: tuple[Side, ...] = ("original", "compressed")
    if restoring and view.beside == "all" and view.layout != "difference":
        sides = ("original", "compressed", "restored")
    elif restoring:
        sides = ("compressed" if view.beside == "compressed" else "original", "restored")
    return sides[::-1] if view.swapped else sides


def drawn_for(side: Side) -> Side:
    """What is drawn to show `side`: a restored picture is made of the compressed one."""
    return "compressed" if side == "restored" else side


@dataclass(frozen=True, eq=False)
class Ranked:
    """A scene's cloud and its order of importance: every prefix is a selection."""

    cloud: GaussianCloud
    best_first: BestFirst
    """The same cloud by significance alone, for rankings with other voxels."""
    compression: CompressionSettings
    """What it was ranked for; voxel size and score count."""
    looked: Any = None
    """What the views saw of it (pipeline.Looked), from which it may be scored otherwise, or merged."""
    order: Any = None
    """[N] int64 where the cloud lies in an older order and this is the one that counts; None where it lies in it."""

    def fits(self, compression: CompressionSettings) -> bool:
        """Whether it is the ranking that `compression` asks for."""
        mine = self.compression
        return (mine.voxel_size, mine.score) == (compression.voxel_size, compression.score)

    def kept(self, compression: CompressionSettings) -> GaussianCloud:
        """What `compression` leaves of it."""
        return cut(self.cloud, compression, self.order)


@dataclass(frozen=True, eq=False)
class Reduced:
    """What merging, or pruning with adaptive amplification, has made of a scene."""

    compression: CompressionSettings
    """What it was made for."""
    cloud: GaussianCloud
    """What is to be encoded."""
    settings: CompressionSettings
    """How that is to be encoded: `compression`, with what the scene itself decides."""
    shown: GaussianCloud
    """The same as whoever opens the file sees it; while a slider moves, before rounding."""
    stage: str
    """What was done to it last: `merged`, `amplified`, `calibrated`, …"""
    final: bool = False
    """Whether nothing better comes."""
    fitted: SceneFilter | None = None
    """The filter of its pictures, where one was asked for and helps."""
    tuned: bool = False
    """Whether that has been found out."""

    @staticmethod
    def of(stage: Stage, compression: CompressionSettings) -> Reduced:
        """What was made for `compression`, as far as `stage`."""
        return Reduced(compression, stage.cloud, stage.settings, stage.shown, stage.name)


def takes_time(compression: CompressionSettings) -> bool:
    """Whether it is more than a cut of the ranking."""
    return compression.reduction == "merge" or compression.amplify == "adaptive"


@dataclass(frozen=True, eq=False)
class Repaired:
    """A restored picture at full strength, and the key of the picture it was made of."""

    key: tuple
    picture: Any
    """[H, W, 3] in [0, 1]."""
    seconds: float
    """Time the restoration took."""
    before: Any = None
    """[H, W, 3] in [0, 1]. What it fades in from; None for the compressed picture."""
    final: bool = True
    """False for the fill that stands in while the restorer works."""


@dataclass(frozen=True, eq=False)
class Live:
    """A restorer that keeps up with the drawing, so that pictures are restored as they are drawn."""

    restorer: Restorer
    settings: RestoreSettings
    """At full strength."""


@dataclass(frozen=True)
class Repairs:
    """What there is to say about restoring."""

    preset: str = ""
    """Name of the restorer that is asked for."""
    label: str = ""
    """What it calls its result, once it was needed."""
    seconds: float | None = None
    """Time its last picture took."""
    trouble: str = ""
    """Why it could not work, in words."""


@dataclass(frozen=True)
class FrameRequest:
    """One picture to draw; clouds compare by identity."""

    original: GaussianCloud
    ranked: Ranked | None
    reduced: Reduced | None
    """The merged scene, where that is the compressed one and is there already; otherwise the ranking is cut."""
    camera: Camera
    size: Size
    """Pixels of the whole picture at rest."""
    sides: tuple[Side, ...]
    layout: Layout
    wipe: tuple[float, ...]
    """Places of the dividers, one less than there are sides."""
    gain: float
    mode: Mode
    compression: CompressionSettings
    render: RenderSettings
    draft: Draft = FULL
    """How much of it is drawn while something moves."""
    measure: bool = False
    """Also draw what is needed to compare every shown side with the original."""
    repaired: Repaired | None = None
    """The restored picture, once there is one for this view."""
    live: Live | None = None
    """What restores this picture right after it has been drawn; `repaired` has precedence."""
    moving: bool = False
    """Whether `live` may lean on the picture before: only while the camera moves."""
    strength: float = 1.0
    """How much of it is shown, in [0, 1]."""
    fade: float = 1.0
    """How far it has come out of what it fades in from, in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A finished picture."""

    request: FrameRequest
    pixels: np.ndarray
    """[H, W, 4], contiguous: uint8, or float32 in [0, 1] where the window's texture wants it."""
    outputs: dict[Side, RenderOutput]
    """What was drawn of each shown side; `restored` stands with what it was made of."""
    sides: tuple[Side, ...]
    """What the panes really show: `compressed`, then `filled`, stands in for `restored` until that is done."""
    psnr: dict[Side, float]
    """dB of each processed side against the original, where measured."""
    drawn: int
    """Pictures that had to be drawn for it; the others were still there."""
    seconds: float
    """Time to draw them."""
    restoring: float | None = None
    """Time that the request's `live` took, where it had to work."""
    trouble: Exception | None = None
    """Why it could not: the picture is not restored then."""


@dataclass(frozen=True, eq=False)
class SceneOpened:
    """A scene is open and can be looked at."""

    scene: Scene
    camera: Camera
    up: Vector
    extent: float
    """World units: longest side of the box that holds the inner 90 % of the Gaussians."""
    seconds: float


@dataclass(frozen=True)
class RendererReady:
    """Which machine part draws."""

    label: str


@dataclass(frozen=True)
class Scored:
    """Every Gaussian's significance is known: the scene can be compressed."""

    seconds: float


@dataclass(frozen=True)
class Progress:
    """A job in the background is under way."""

    job: str
    fraction: float
    text: str


@dataclass(frozen=True)
class Finished:
    """A job in the background is over, well or not."""

    job: str


@dataclass(frozen=True, eq=False)
class FrameReady:
    """A picture to show."""

    frame: Frame


@dataclass(frozen=True, eq=False)
class FrameRestored:
    """A picture to show whose processed side is the restored one."""

    frame: Frame
    seconds: float
    """Time the restoration took."""


@dataclass(frozen=True)
class SizeKnown:
    """Bytes of the compressed scene."""

    bytes: int
    count: int
    """Gaussians kept."""
    exact: bool
    """True where it was encoded, False for an estimate."""


@dataclass(frozen=True)
class Saved:
    """A file was written; an .exgs was read back as well."""

    path: Path
    bytes: int
    warnings: tuple[str, ...] = ()
    """One sentence for each thing that the file's format could not hold."""


@dataclass(frozen=True)
class Fetched:
    """Weights that were asked for are here."""


@dataclass(frozen=True, eq=False)
class Failed:
    """Something went wrong; whatever was open is still open."""

    job: str
    error: Exception


Event = (
    SceneOpened
    | RendererReady
    | Scored
    | Progress
    | Finished
    | FrameReady
    | FrameRestored
    | SizeKnown
    | Saved
    | Fetched
    | Failed
)
