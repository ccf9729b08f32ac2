"""One request -> one finished picture: what the render worker does, with a memory of the last pictures."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from exgs_viewer.app import compose
from exgs_viewer.app.pace import FULL, Draft
from exgs_viewer.app.state import (
    Frame,
    FrameRequest,
    Layout,
    Ranked,
    Reduced,
    Side,
    ViewState,
    drawn_for,
    sides_of,
)
from exgs_viewer.app.workers import synchronise
from exgs_viewer.render import Renderer, RenderOutput
from exgs_viewer.restore.steady import Shown, steadied
from exgs_viewer.scene.camera import Size, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings

REMEMBERED = 6
"""Pictures kept: three sides, full and draft."""


@dataclass(frozen=True)
class Timing:
    """What drawing one picture took."""

    side: Side
    pixels: int
    count: int
    seconds: float


def request_for(
    original: GaussianCloud,
    ranked: Ranked | None,
    view: ViewState,
    reduced: Reduced | None = None,
    draft: Draft = FULL,
) -> FrameRequest:
    """What has to be drawn to show `view`; without a ranking that is the original alone."""
    sides = sides_of(view, ranked is not None)
    panes = len(sides) if view.layout == "side" else 1
    return FrameRequest(
        original=original,
        ranked=ranked,
        reduced=reduced,
        camera=view.camera,
        # Panes of one width: then the sides share their pictures with the measurement.
        size=(max(panes, view.size[0] - view.size[0] % panes), view.size[1]),
        sides=sides,
        layout=view.layout if len(sides) > 1 else "single",
        wipe=dividers_of(view, len(sides)),
        gain=view.gain if view.layout == "difference" else 1.0,
        mode=view.mode,
        compression=view.compression,
        render=view.render,
        draft=draft,
    )


def dividers_of(view: ViewState, sides: int) -> tuple[float, ...]:
    """Where the dividers between so many sides stand, from left to right; none where nothing is wiped."""
    if view.layout != "wipe" or sides < 2:
        return ()
    return view.wipes if sides == 3 else (view.wipe,)


def pane_size(request: FrameRequest, side: Side) -> Size:
    """Pixels of the pane that shows `side`, or of the first one where none does."""
    if request.layout != "side":
        return request.size
    sizes = compose.pane_sizes(request.size, len(request.sides))
    return sizes[request.sides.index(side) if side in request.sides else 0]


def picture_key(request: FrameRequest, side: Side, size: Size | None = None, share: float = 1.0) -> tuple:
    """What a rendered picture depends on; equal keys mean equal pictures."""
    heat = request.mode == "significance" and request.ranked is not None
    where = (request.camera, size or pane_size(request, side), share, heat, request.render)
    if side == "original":
        return (request.original, None, *where)
    if request.reduced is not None:
        return (request.reduced, None, *where)
    return (request.ranked, drawn_settings(request.compression), *where)


def drawn_settings(compression: CompressionSettings) -> CompressionSettings:
    """`compression` without the voxel size, which has done its work in the ranking already, and how it is stored."""
    return replace(compression, codec="compact", quality="auto", coarser=0.0, voxel_size=0.0)


class Frames:
    """Draws frames and remembers the last pictures, so that a divider moves without anything being drawn again."""

    def __init__(self, renderer: Renderer, as_bytes: bool = False):
        self._renderer = renderer
        self._as_bytes = as_bytes
        self._original: GaussianCloud | None = None
        self._pictures: OrderedDict[tuple, RenderOutput] = OrderedDict()
        self._cut: tuple[tuple, GaussianCloud] | None = None
        self._heat: dict[Side, tuple[GaussianCloud, GaussianCloud]] = {}
        self._finish: tuple[tuple, Tensor] | None = None
        self._restored: tuple[tuple, Tensor] | None = None
        self._before: Shown | None = None
        self._restoring: float | None = None
        self._trouble: Exception | None = None
        self._timings: list[Timing] = []

    def draw(self, request: FrameRequest) -> tuple[Frame, list[Timing]]:
        """The finished picture, and what drawing its parts took (nothing for parts that were still there)."""
        began, self._timings = time.perf_counter(), []
        self._restoring = self._trouble = None
        if request.original is not self._original:
            self._forget()
            self._original = request.original
        whole = request.draft.whole or any(self._key_at_rest(request, side) in self._pictures for side in request.sides)
        outputs = {side: self._shown(request, side, whole) for side in request.sides}
        pixels = _pixels(compose_layout(request, outputs), self._as_bytes)
        psnr = self._measured(request) if request.measure else {}
        synchronise()
        frame = Frame(
            request=request,
            pixels=pixels,
            outputs=outputs,
            sides=tuple(self._honest(request, side) for side in request.sides),
            psnr=psnr,
            drawn=sum(timing.side != "restored" for timing in self._timings),
            seconds=time.perf_counter() - began,
            restoring=self._restoring,
            trouble=self._trouble,
        )
        return frame, self._timings

    def _forget(self) -> None:
        """Let go of all pictures, and with them of a scene that is no longer open: none of them comes again."""
        self._pictures.clear()
        self._heat.clear()
        self._cut = self._finish = self._restored = self._before = None

    def _honest(self, request: FrameRequest, side: Side) -> Side:
        if side != "restored" or (request.repaired is not None and request.repaired.final):
            return side
        if request.repaired is None and request.live is not None and self._trouble is None:
            return side
        return "compressed" if request.repaired is None else "filled"

    def _shown(self, request: FrameRequest, side: Side, whole: bool) -> RenderOutput:
        """The picture of one pane: the finished one where that is there or due, else a draft of it.

        Where one pane has its finished picture (`whole`), the drafts of the others are enlarged to match: what does not
        change stays sharp while a slider moves.
        """
        drawn, size = drawn_for(side), pane_size(request, side)
        if request.draft.whole or self._key_at_rest(request, side) in self._pictures:
            output = self._picture(request, drawn, size)
            return self._finished(request, output) if side == "restored" else output
        output = self._picture(request, drawn, request.draft.size(size), request.draft)
        output = self._finished(request, output) if side == "restored" else output
        return compose.enlarged(output, size) if whole else output

    def _finished(self, request: FrameRequest, output: RenderOutput) -> RenderOutput:
        """With the restored picture as it is to be seen, or how far it can be trusted, where there is one.

        Kept while only a divider moves.
        """
        made_by = (request.repaired, request.live, request.moving)
        key = (*made_by, output, request.strength, request.fade, request.mode)
        if self._finish is None or self._finish[0] != key:
            color = self._color(request, output)
            if color is None:
                return output
            self._finish = (key, compose.trust(output.color, color) if request.mode == "trust" else color)
        return replace(output, color=self._finish[1])

    def _color(self, request: FrameRequest, output: RenderOutput) -> Tensor | None:
        """[H, W, 3]: what was drawn (`output`), restored; None where that cannot be done yet."""
        if request.repaired is not None:
            return restored_color(request, output)
        color = None if request.live is None else self._lively(request, output)
        return color if color is None or request.strength == 1 else torch.lerp(output.color, color, request.strength)

    def _lively(self, request: FrameRequest, output: RenderOutput) -> Tensor | None:
        """Restored on the spot at full strength; None where that went wrong, which the frame tells."""
        live, key = request.live, (request.live, output, request.moving)
        if self._restored is not None and self._restored[0] == key:
            return self._restored[1]
        synchronise()  # So that the clock counts only what follows.
        began = time.perf_counter()
        try:
            color = live.restorer.restore(output, live.settings, retention=request.compression.keep)
            if live.settings.steady:
                before = self._before if request.moving else None
                self._before = steadied(output, request.camera, color, before)
                color = self._before.color
            synchronise()
        except Exception as error:  # It may be anything that a network or a driver raises; the picture shall come.
            self._trouble = error
            return None
        self._restoring = time.perf_counter() - began
        self._timings.append(Timing("restored", output.alpha.numel(), 1, self._restoring))
        self._restored = (key, color)
        return color

    def _key_at_rest(self, request: FrameRequest, side: Side) -> tuple:
        return picture_key(request, drawn_for(side), pane_size(request, side))

    def _picture(self, request: FrameRequest, side: Side, size: Size, draft: Draft = FULL) -> RenderOutput:
        cloud = self._cloud(request, side)
        count = draft.count(len(cloud))
        key = picture_key(request, side, size, count / len(cloud))
        if key in self._pictures:
            self._pictures.move_to_end(key)
            return self._pictures[key]
        began = time.perf_counter()
        if count < len(cloud):
            cloud = cloud.take(slice(0, count))
        output = self._renderer.render(cloud, request.camera, size, request.render)
        self._timings.append(Timing(side, size[0] * size[1], len(cloud), time.perf_counter() - began))
        self._pictures[key] = output
        while len(self._pictures) > REMEMBERED:
            self._pictures.popitem(last=False)
        return output

    def _cloud(self, request: FrameRequest, side: Side) -> GaussianCloud:
        cloud = request.original if side == "original" else self._compressed(request)
        if request.mode != "significance" or request.ranked is None:
            return cloud
        known, heat = self._heat.get(side, (None, None))
        if known is not cloud:
            heat = compose.heat_map(cloud)
            self._heat[side] = (cloud, heat)
        return heat

    def _compressed(self, request: FrameRequest) -> GaussianCloud:
        if request.reduced is not None:
            return compressed_cloud(request)
        key = (request.ranked, drawn_settings(request.compression))
        if self._cut is None or self._cut[0] != key:
            self._cut = (key, compressed_cloud(request))
        return self._cut[1]

    def _measured(self, request: FrameRequest) -> dict[Side, float]:
        """dB of the compressed and, where there is one, the restored picture against the original."""
        if request.ranked is None:
            return {}
        request = replace(request, mode="color")
        size = pane_size(request, "compressed")
        original = self._picture(request, "original", size).color
        result: dict[Side, float] = {}
        result["compressed"] = compose.psnr(self._picture(request, "compressed", size).color, original)
        if request.live is not None or (request.repaired is not None and request.repaired.final):
            place = pane_size(request, "restored")
            color = self._color(request, self._picture(request, "compressed", place))
            if color is not None:
                result["restored"] = compose.psnr(color, self._picture(request, "original", place).color)
        return result


def compressed_cloud(request: FrameRequest) -> GaussianCloud:
    """What is drawn of the compressed side: the merged scene where it is there, else the ranking's first Gaussians."""
    return request.ranked.kept(request.compression) if request.reduced is None else request.reduced.shown


def restored_color(request: FrameRequest, output: RenderOutput) -> Tensor:
    """[H, W, 3]: what was drawn (`output`), restored as strongly as is wished and as far as it has faded in."""
    repaired = request.repaired
    before = output.color if repaired.before is None else repaired.before
    picture = repaired.picture if request.fade == 1 else torch.lerp(before, repaired.picture, request.fade)
    return picture if request.strength == 1 else torch.lerp(output.color, picture, request.strength)


def compose_layout(request: FrameRequest, outputs: dict[Side, RenderOutput]) -> Tensor:
    """[H, W, 3]: the sides put together as the layout says."""
    painted = [compose.painted(outputs[side], request.mode) for side in request.sides]
    if len(painted) == 1:
        return painted[0]
    how: dict[Layout, Callable[[], Tensor]] = {
        "wipe": lambda: compose.wipe(painted, request.wipe),
        "side": lambda: compose.side_by_side(painted),
        "difference": lambda: compose.difference(painted[0], painted[1], request.gain),
    }
    return how[request.layout]()


def _pixels(picture: Tensor, as_bytes: bool) -> np.ndarray:
    made = compose.rgba_bytes(picture) if as_bytes else compose.rgba(picture)
    if made.device.type == "cpu":
        return made.numpy()
    # Page-locked, so that the copy runs beside what is measured; `draw` waits for both.
    return torch.empty(made.shape, dtype=made.dtype, pin_memory=True).copy_(made, non_blocking=True).numpy()


def surface_at(frame: Frame, u: float, v: float) -> Vector | None:
    """The point of the scene at (`u`, `v`), shares of the picture's width and height; None where there is nothing.

    The depth is the median over the pixels around that are at least a third covered, 5 x 5 of them so that a thin edge
    does not decide, and more where the compression has left a hole there.
    """
    request = frame.request
    side, share = _pane_under(request, u)
    output = frame.outputs[side]
    height, width = output.depth.shape
    column, row = min(int(share * width), width - 1), min(int(v * height), height - 1)
    z, camera = depth_around(output, row, column), request.camera
    if z is None:
        return None
    focal = camera.focal((width, height))
    x, y = (share * width - width / 2) / focal * z, (v * height - height / 2) / focal * z
    axes = zip(camera.position, camera.right, camera.down, camera.forward, strict=True)
    return tuple(place + x * right + y * down + z * forward for place, right, down, forward in axes)


def depth_around(output: RenderOutput, row: int, column: int) -> float | None:
    """Median depth of the pixels around a place, of more of them where there is a hole; None where nothing is."""
    for reach in (2, 6, 16):
        window = (slice(max(row - reach, 0), row + reach + 1), slice(max(column - reach, 0), column + reach + 1))
        seen = output.depth[window][output.alpha[window] > 0.33]
        if len(seen):
            return float(seen.median())
    return None


def _pane_under(request: FrameRequest, u: float) -> tuple[Side, float]:
    """The side shown at share `u` of the width, and the share within its pane."""
    if request.layout == "side" and len(request.sides) > 1:
        pane = min(int(u * len(request.sides)), len(request.sides) - 1)
        return request.sides[pane], u * len(request.sides) - pane
    if request.layout == "wipe" and len(request.sides) > 1:
        return request.sides[sum(u >= place for place in request.wipe)], u
    return request.sides[0], u
