"""What a saved picture says about itself, so that dropping it on the window brings the view back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from exgs_viewer.app.memory import camera_from
from exgs_viewer.app.state import BESIDE, LAYOUTS, MODES, ViewState
from exgs_viewer.errors import SceneError
from exgs_viewer.images import read_png_metadata
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.settings import knob_range


@dataclass(frozen=True)
class Snapshot:
    """The state a picture was taken in."""

    scene: str
    """Path, or `demo`."""
    camera: Camera
    up: Vector | None
    view: dict[str, Any]
    """JSON values of everything else."""

    def applied(self, view: ViewState) -> ViewState:
        """`view` with the picture's layout and settings; values that no longer fit are left as they are."""
        stored, changes = self.view, {}
        if stored.get("layout") in LAYOUTS:
            changes["layout"] = stored["layout"]
        if stored.get("mode") in MODES:
            changes["mode"] = stored["mode"]
        if stored.get("shown") in ("original", "compressed"):
            changes["shown"] = stored["shown"]
        if stored.get("beside") in BESIDE:
            changes["beside"] = stored["beside"]
        wipes = stored.get("wipes")
        if isinstance(wipes, list) and len(wipes) == 2 and all(isinstance(place, (int, float)) for place in wipes):
            changes["wipes"] = tuple(sorted(min(max(float(place), 0.0), 1.0) for place in wipes))
        changes["restoring"] = stored.get("restoring") is True
        for name in ("wipe", "gain"):
            if isinstance(stored.get(name), (int, float)):
                changes[name] = float(stored[name])
        for name in ("compression", "render", "restore"):
            changes[name] = _fitting(getattr(view, name), stored.get(name))
        return replace(view, **changes)


def snapshot_meta(view: ViewState, scene: str, up: Vector) -> dict[str, Any]:
    """The metadata of a picture of `view`."""
    stored = asdict(view)
    camera = stored.pop("camera")
    for name in ("swapped", "held"):
        stored.pop(name)
    return {"scene": scene, "camera": camera, "up": list(up), "view": stored}


def read_snapshot(path: Path) -> Snapshot:
    """The state that a picture was saved with. Raises SceneError where it is none of ours."""
    meta = read_png_metadata(path) or {}
    camera = camera_from(meta.get("camera") or {})
    if camera is None:
        raise SceneError(f"{path}: this picture holds no camera; only screenshots made here can be opened.")
    up = meta.get("up")
    good_up = isinstance(up, list) and len(up) == 3 and all(isinstance(part, (int, float)) for part in up)
    view = meta.get("view")
    return Snapshot(
        scene=str(meta.get("scene") or ""),
        camera=camera,
        up=tuple(map(float, up)) if good_up else None,
        view=view if isinstance(view, dict) else {},
    )


def _fitting(settings: Any, stored: Any) -> Any:
    """`settings` with the stored values of the right type and range."""
    if not isinstance(stored, dict):
        return settings
    changes = {}
    for item in fields(settings):
        current, value = getattr(settings, item.name), stored.get(item.name)
        limits = knob_range(type(settings), item.name)
        if isinstance(current, tuple) and isinstance(value, list) and len(value) == len(current):
            changes[item.name] = tuple(map(float, value))
        elif limits and isinstance(value, (int, float)) and limits.low <= value <= limits.high:
            changes[item.name] = type(current)(value)
    return replace(settings, **changes)
