"""`exgs view`, `info` and `render`: look at a scene."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from exgs_viewer.commands.shared import (
    DEMO,
    Backend,
    Restorer,
    check_output,
    check_there,
    compressed,
    first_view,
    opened,
)
from exgs_viewer.errors import ExgsError
from exgs_viewer.flags import (
    CompressionFlags,
    PictureSize,
    RenderFlags,
    RestoreFlags,
    WindowFlags,
    knob,
    plain,
    stored,
)
from exgs_viewer.settings import (
    CompressionSettings,
    RenderSettings,
    RestoreSettings,
    Settings,
    WindowSettings,
    load_settings,
)
from exgs_viewer.terminal import answer, progress, timed

if TYPE_CHECKING:  # torch takes a second to import; `exgs --help` must not wait for it.
    from exgs_viewer.render import Renderer, RenderOutput
    from exgs_viewer.restore import Restorer as OpenRestorer
    from exgs_viewer.scene import Scene
    from exgs_viewer.scene.camera import Camera


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


@dataclass(frozen=True)
class Render:
    """Draw a scene into pictures, without a window.

    The first view; one picture for each camera; what compression and repair make of it:

        exgs render garden.ply -o garden.png
        exgs render garden.ply --cameras cameras.json -o pictures/
        exgs render garden.ply --keep 0.1 --restore inpaint -o small.png
        exgs render garden.ply --keep 0.1 --restore inpaint --mode trust -o changed.png
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """PNG to write, or the folder for the pictures of several cameras."""
    cameras: Annotated[Path | None, arg(metavar="FILE")] = None
    """cameras.json as 3DGS training writes it; without it, the view that the window opens with."""
    index: Annotated[int | None, arg(metavar="K")] = None
    """Draw only this camera of the file, counted from 0."""
    size: PictureSize = (1280, 720)
    """Width x height of the pictures, pixels."""
    keep: Annotated[float | None, knob(CompressionSettings, "keep")] = None
    """Draw the scene as `compress --keep` leaves it."""
    restore: Restorer | None = None
    """Repair the pictures; inpaint is the classical push-pull fill guided by alpha, scene the filter that an .exgs file
    holds, or one fitted to what --keep leaves."""
    mode: Literal["color", "alpha", "depth", "trust"] = "color"
    """What to draw: colour; coverage, white is solid; distance, white is the nearest; or how much --restore changed."""
    backend: Backend = "auto"
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""
    render: OmitArgPrefixes[RenderFlags] = field(default_factory=RenderFlags)
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        seconds: dict[str, float] = {}
        if self.mode == "trust" and self.restore is None:
            raise ExgsError("--mode trust shows what a restorer changed; name one with --restore.")
        views = self._views()
        with timed(seconds, "open"):
            scene = opened(self.scene)
        from exgs_viewer.render import open_renderer
        from exgs_viewer.restore import open_restorer
        from exgs_viewer.restore.scene_filter import SceneRestorer, from_meta

        restorer = open_restorer(self.restore) if self.restore else None
        renderer, cloud = open_renderer(self.backend), scene.cloud
        by_filter, fitted = self.restore == SceneRestorer.name, from_meta(scene.meta)
        if self.keep is not None:
            settings = CompressionSettings(keep=self.keep)
            last, fitted = compressed(scene, settings, renderer, seconds, by_filter)
            cloud = last.shown
        elif by_filter and fitted is None:
            raise ExgsError(
                f"{self.scene}: it holds no filter of its own; `exgs compress --scene-filter` makes files with one, "
                "and --keep fits one now."
            )
        if by_filter:
            restorer = SceneRestorer(fitted) if fitted else None
        scene, cameras = replace(scene, cloud=cloud), views or {self.output: first_view(scene)}
        with timed(seconds, "render"), progress() as report:
            for done, (path, camera) in enumerate(cameras.items()):
                report(done / len(cameras), f"drawing {path.name}")
                self._draw(path, renderer, scene, camera, restorer)
        return answer(
            self.json,
            {
                "pictures": [str(path) for path in cameras],
                "size": list(self.size),
                "renderer": renderer.label,
                "gaussians": len(cloud),
                "seconds": seconds,
            },
        )

    def _views(self) -> dict[Path, Camera]:
        """Which camera goes into which picture; none where no cameras.json is named."""
        if self.cameras is None:
            if self.index is not None:
                raise ExgsError("--index counts the cameras of a file; name it with --cameras cameras.json.")
            check_output(self.output, ".png")
            return {}
        from exgs_viewer.scene.camera import read_cameras

        cameras = dict(enumerate(read_cameras(self.cameras)))
        if self.index is not None:
            if self.index not in cameras:
                raise ExgsError(f"--index {self.index}: {self.cameras} holds cameras 0 to {len(cameras) - 1}.")
            cameras = {self.index: cameras[self.index]}
        if self.output.suffix.lower() != ".png":
            return {self.output / f"{number:04d}.png": camera for number, camera in cameras.items()}
        if len(cameras) != 1:
            raise ExgsError(f"{self.output}: {len(cameras)} pictures need a folder, or --index to choose one.")
        return dict.fromkeys([self.output], *cameras.values())

    def _draw(
        self, path: Path, renderer: Renderer, scene: Scene, camera: Camera, restorer: OpenRestorer | None
    ) -> None:
        from exgs_viewer import images, pipeline

        settings = plain(RenderSettings, self.render)
        settings = replace(settings, antialiased=settings.antialiased or scene.antialiased)
        output = pipeline.picture(scene.cloud.to(renderer.device), camera, self.size, renderer, settings)
        if self.mode == "alpha":
            return images.write_gray16_png(path, output.alpha)
        if self.mode == "depth":
            return images.write_gray16_png(path, *_nearness(output))
        color = output.color
        if restorer is not None:
            color = restorer.restore(output, RestoreSettings(restorer=self.restore), retention=self.keep)
        if self.mode == "trust":
            from exgs_viewer.app.compose import TRUST_TOP, trust

            # What the window's legend says goes into the file.
            return images.write_png(path, trust(output.color, color), {"brightest_change_of_255": 255 * TRUST_TOP})
        return images.write_png(path, color)


def _nearness(output: RenderOutput) -> tuple[Any, dict[str, Any]]:
    """Depth as grey: 1 the nearest, towards 0 the farthest, 0 nothing; with the depths that these stand for."""
    depth, solid = output.depth, output.depth > 0
    near, far = (float(depth[solid].min()), float(depth[solid].max())) if solid.any() else (0.0, 1.0)
    grey = (1 - 0.95 * (depth - near) / max(far - near, 1e-9)) * solid
    return grey, {"white_depth": near, "grey_5_percent_depth": far}
