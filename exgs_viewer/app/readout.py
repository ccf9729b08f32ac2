"""What the window says, as frozen values: labels of the panes, panel, status line. Drawn by panels and overlay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from exgs_viewer.app import words
from exgs_viewer.app.compose import TRUST_TOP
from exgs_viewer.app.state import Frame, Repairs, Side, SizeKnown, ViewState, takes_time
from exgs_viewer.compress.select import keep_count
from exgs_viewer.scene import Scene

BESIDE_WORDS = {"all": "All three", "original": "Original", "compressed": "Compressed"}
"""What the restored picture is shown beside."""


@dataclass(frozen=True)
class Told:
    """A sentence for the status line."""

    text: str = ""
    kind: str = "plain"
    """`plain`, `good` or `bad`."""


@dataclass(frozen=True)
class PanelState:
    """Everything the panel and the status line show."""

    view: ViewState = field(default_factory=ViewState)
    scene: str = ""
    """Name of the open scene, empty without one."""
    facts: str = ""
    """One line about it."""
    warnings: tuple[str, ...] = ()
    recent: tuple[str, ...] = ()
    scored: bool = False
    can_score: bool = False
    """Open, not scored, and nobody is at it."""
    size: str = ""
    """The large figure."""
    size_lines: tuple[str, str] = ("", "")
    quality: str = ""
    extent: float = 1.0
    flying: bool = False
    speed: float = 1.0
    fov_degrees: float = 50.0
    repairs: Repairs = field(default_factory=Repairs)
    drawn_by: str = ""
    """Left part of the status line."""
    told: Told = field(default_factory=Told)
    progress: tuple[str, float, str] | None = None
    """Job, share done, words."""


@dataclass(frozen=True)
class Label:
    """What a pane says about itself."""

    title: str
    detail: str = ""
    note: str = ""
    """A line of its own: the quality, or what is still to come."""
    waiting: bool = False
    """Whether the note says that something is still to come."""
    left: float = 0.0
    """Shares of the width between which its pane lies."""
    right: float = 1.0


@dataclass(frozen=True)
class Legend:
    """What the colours of a map stand for."""

    title: str
    ends: tuple[str, str]
    """Words at the dark and at the bright end."""
    left: float
    """Shares of the width between which its pane lies."""
    right: float


@dataclass(frozen=True)
class OverlayState:
    """Everything drawn over the picture."""

    view: ViewState = field(default_factory=ViewState)
    labels: tuple[Label, ...] = ()
    toast: str = ""
    """A short message at the bottom."""
    centre: tuple[str, str, float] | None = None
    """Title, words and share done (negative: none), in the middle, while nothing else is to be seen."""
    help: bool = False
    legend: Legend | None = None
    size: tuple[int, int] = (64, 64)
    divider_hot: int | None = None
    """Number of the divider under the mouse."""


def facts_of(scene: Scene) -> str:
    """One line about an open scene."""
    cloud, size = scene.cloud, words.size(scene.bytes)
    form = f"{size} as .ply" if scene.path is None else f".{scene.format} {size}"
    return f"{words.amount(len(cloud))} Gaussians · SH degree {cloud.sh_degree} · {form}"


def size_texts(scene: Scene, known: SizeKnown | None, count: int) -> tuple[str, tuple[str, str]]:
    """The large figure, and the two lines below it: factors, and what is kept; `count` Gaussians are."""
    kept = f"keeps {words.amount(count)} of {words.amount(len(scene.cloud))}"
    if known is None:
        return "", ("", kept)
    about = "" if known.exact else "~"
    first = f"{about}{words.factor(scene.cloud.ply_bytes / known.bytes)} smaller than the .ply"
    if scene.format in ("ply", "demo"):
        first += f" ({words.size(scene.cloud.ply_bytes)})"
    else:
        first += f", {about}{words.factor(scene.bytes / known.bytes)} than the .{scene.format}"
    return about + words.size(known.bytes), (first, f"{kept}, {about}{known.bytes / known.count:.1f} bytes each")


def with_scene(
    state: PanelState, scene: Scene, frame: Frame | None, known: SizeKnown | None, scoring: bool
) -> PanelState:
    """`state` with what there is to say about the open scene."""
    size, lines = size_texts(scene, known, keep_count(len(scene.cloud), state.view.compression.keep))
    return replace(
        state,
        scene=scene.path.name if scene.path else "Demo room",
        facts=facts_of(scene),
        warnings=scene.warnings,
        size=size or ("…" if state.scored else "scoring …" if scoring else ""),
        size_lines=lines,
        quality=quality_text(frame, state.scored),
    )


def quality_text(frame: Frame | None, scored: bool) -> str:
    """PSNR of what is shown against the original."""
    if frame is None or not scored:
        return ""
    parts = [f"{side} {words.decibels(value)}" for side, value in frame.psnr.items()]
    return "PSNR here: " + (", ".join(parts) if parts else "…")


def drawn_text(renderer: str, frame: Frame | None) -> str:
    """Which renderer draws, how quickly, and how large."""
    if frame is None:
        return renderer
    height, width = frame.pixels.shape[:2]
    kind = "full" if frame.request.draft.whole else "draft"
    time = f" · {words.seconds(frame.seconds)}" if frame.drawn else ""
    return f"{renderer} · {width} × {height} {kind}{time}"


def how_made(frame: Frame) -> str:
    """What was done to the compressed scene on the screen: not everything that is to come may be there yet."""
    request = frame.request
    if request.reduced is not None:
        return request.reduced.stage
    if request.compression.reduction == "merge":
        return "pruned, merging …"
    return "pruned, amplifying …" if takes_time(request.compression) else "pruned"


def labels_of(scene: Scene, frame: Frame, known: SizeKnown | None, waiting: str, repairs: Repairs) -> tuple[Label, ...]:
    """A label for each pane of the picture that is really on the screen."""
    request = frame.request
    texts = [_label(scene, frame, side, known, waiting) for side in frame.sides]
    for pane, (wanted, shown) in enumerate(zip(request.sides, frame.sides, strict=True)):
        if shown == "restored":
            texts[pane] = _restored(texts[pane], frame, repairs)
        elif wanted != shown:
            note = "cannot be restored, see below" if repairs.trouble else "restoring …"
            texts[pane] = replace(texts[pane], note=note, waiting=True)
    if request.layout == "difference" and len(texts) == 2:
        what = f"{texts[1].title} against original, amplified {words.factor(request.gain)}"
        return (Label("Difference", what, texts[1].note),)
    count = len(texts)
    edges = (0.0, *request.wipe, 1.0) if request.layout == "wipe" else [number / count for number in range(count + 1)]
    return tuple(
        replace(text, left=left, right=right) for text, (left, right) in zip(texts, pairwise(edges), strict=True)
    )


def _restored(label: Label, frame: Frame, repairs: Repairs) -> Label:
    """The label of a restored picture: by which restorer, how good, how long it took."""
    took = words.seconds(frame.request.repaired.seconds)
    note = f"{label.note} · restored in {took}" if label.note else f"restored in {took}"
    return replace(label, title=repairs.label or "Restored", note=note)


def restoring_text(repairs: Repairs) -> str:
    """Which restorer works, and how quickly."""
    if repairs.trouble:
        return repairs.trouble
    took = "" if repairs.seconds is None else f" · last picture {words.seconds(repairs.seconds)}"
    return f"{repairs.label or repairs.preset}{took}"


def legend_of(frame: Frame, labels: tuple[Label, ...]) -> Legend | None:
    """What the colours of the trust map mean, where there is one."""
    shown = set(frame.sides) & {"restored", "filled"}
    if frame.request.mode != "trust" or not shown:
        return None
    pane = labels[0 if len(labels) == 1 else frame.sides.index(shown.pop())]
    top = round(255 * TRUST_TOP)
    return Legend("Changed by the restorer, levels of 255", ("0", f"{top} and more"), pane.left, pane.right)


def _label(scene: Scene, frame: Frame, side: Side, known: SizeKnown | None, waiting: str) -> Label:
    total = len(scene.cloud)
    if side == "original":
        size = f".{scene.format} {words.size(scene.bytes)}" if scene.path else f"{words.size(scene.bytes)} as .ply"
        return Label("Original", f"{words.amount(total)} Gaussians · {size}", waiting, waiting=True)
    count = keep_count(total, frame.request.compression.keep)
    size = ""
    if known is not None:
        size = f" · {'' if known.exact else '~'}{words.size(known.bytes)}"
    detail = f"{words.amount(known.count if known else count)} Gaussians{size} · {how_made(frame)}"
    quality = frame.psnr.get(side)
    note = words.decibels(quality) if quality is not None else ""
    return Label("Push-pull fill" if side == "filled" else "Compressed", detail, note)
