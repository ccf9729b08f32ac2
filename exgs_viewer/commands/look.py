"""`exgs view` and `info`: look at a scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from exgs_viewer.commands.shared import DEMO, Backend, check_there, opened
from exgs_viewer.flags import CompressionFlags, RenderFlags, RestoreFlags, WindowFlags, plain, stored
from exgs_viewer.settings import (
    CompressionSettings,
    RenderSettings,
    RestoreSettings,
    Settings,
    WindowSettings,
    load_settings,
)
from exgs_viewer.terminal import answer


@dataclass(frozen=True)
class View:
    """Open the window on a scene and fly through it.

    Scenes are .ply, .splat, .spz, .sog and .exgs files, or folders of SOG chunks.

        exgs view                   the built-in demo room
        exgs view garden.ply        a scene of yours
        exgs view picture.png       scene, camera and settings of a screenshot
    """

    scene: Positional[str] = DEMO
    """Scene file, folder or screenshot; `demo` is the built-in room."""
    screenshot: Annotated[Path | None, arg(metavar="PNG")] = None
    """Save the whole window with its panels to this PNG after some frames, then quit: for scripts."""
    frames: int = 120
    """How many frames to draw before the screenshot."""
    backend: Backend = field(default_factory=lambda: load_settings().backend)
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""
    compression: OmitArgPrefixes[CompressionFlags] = field(
        default_factory=lambda: stored("compression", CompressionFlags)
    )
    restore: OmitArgPrefixes[RestoreFlags] = field(default_factory=lambda: stored("restore", RestoreFlags))
    window: OmitArgPrefixes[WindowFlags] = field(default_factory=lambda: stored("window", WindowFlags))
    render: RenderFlags = field(default_factory=lambda: stored("render", RenderFlags))

    def run(self) -> int:
        check_there(self.scene)
        settings = Settings(
            render=plain(RenderSettings, self.render),
            compression=plain(CompressionSettings, self.compression),
            restore=plain(RestoreSettings, self.restore),
            window=plain(WindowSettings, self.window),
            backend=self.backend,
        )
        from exgs_viewer.app import window

        return window.run(settings, self.scene, self.screenshot, self.frames if self.screenshot else 0)


@dataclass(frozen=True)
class Info:
    """Say what a scene file holds.

    Its format, how many Gaussians, how large, which way is up, what is wrong with it.

        exgs info garden.ply
        exgs info garden.ply --json | jq .gaussians
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        scene = opened(self.scene)
        low, high = scene.cloud.means.amin(0).tolist(), scene.cloud.means.amax(0).tolist()
        return answer(
            self.json,
            {
                "scene": self.scene,
                "format": scene.format,
                "gaussians": len(scene.cloud),
                "sh_degree": scene.cloud.sh_degree,
                "bytes": scene.bytes,
                "ply_bytes": scene.cloud.ply_bytes,
                "bounds": {"min": low, "max": high},
                "up": list(scene.up),
                "cameras": len(scene.cameras),
                "warnings": list(scene.warnings),
            },
        )
