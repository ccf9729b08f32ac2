"""`exgs render`: draw a scene into pictures or a video, without a window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from exgs_viewer.commands.shared import Backend, Restorer, check_file, check_output, compressed, first_view, opened
from exgs_viewer.errors import ExgsError
from exgs_viewer.flags import PictureSize, RenderFlags, knob, plain
from exgs_viewer.settings import CompressionSettings, RenderSettings, RestoreSettings
from exgs_viewer.terminal import answer, progress, timed

if TYPE_CHECKING:  # torch takes a second to import; `exgs --help` must not wait for it.
    from torch import Tensor

    from exgs_viewer.render import Renderer, RenderOutput
    from exgs_viewer.restore import Restorer as OpenRestorer
    from exgs_viewer.scene import Scene
    from exgs_viewer.scene.camera import Camera, Vector

VIDEO = ".mp4"
"""images.VIDEO, whose import would bring torch."""
MOST_FRAMES, MOST_FPS = 36_000, 240
"""Ten minutes at 60 pictures a second; more of these than any screen shows."""


@dataclass(frozen=True)
class Render:
    """Draw a scene into pictures or a video, without a window.

    The first view; one picture for each camera; what compression and repair make of it; a flight:

        exgs render garden.ply -o garden.png
        exgs render garden.ply --cameras cameras.json -o pictures/
        exgs render garden.ply --keep 0.1 --restore inpaint -o small.png
        exgs render garden.ply --keep 0.1 --restore inpaint --mode trust -o changed.png
        exgs render garden.ply --cameras cameras.json --seconds 12 -o flight.mp4
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """PNG or MP4 to write, or the folder for the pictures of several cameras."""
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
    way: Literal["auto", "cameras", "around", "sway"] = "auto"
    """How a video goes: through the cameras (of --cameras, else of the scene), once around what the first view looks
    at, or swaying before that; auto goes through cameras where there are two."""
    seconds: float = 8.0
    """Length of a video."""
    fps: float = 30.0
    """Pictures per second of a video."""
    steady: FlagCreatePairsOff[bool] = False
    """Blend a part of the picture before into each restored picture of a video, moved along with its surfaces."""
    backend: Backend = "auto"
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""
    render: OmitArgPrefixes[RenderFlags] = field(default_factory=RenderFlags)
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        seconds: dict[str, float] = {}
        if self.mode == "trust" and self.restore is None:
            raise ExgsError("--mode trust shows what a restorer changed; name one with --restore.")
        film = self.output.suffix.lower() == VIDEO
        views = self._film_cameras() if film else self._views()
        with timed(seconds, "open"):
            scene = opened(self.scene)
        from exgs_viewer.render import open_renderer

        renderer = open_renderer(self.backend)
        scene, restorer = self._compressed(scene, renderer, seconds)
        with timed(seconds, "render"):
            if film:
                pictures, drawn = [self.output], self._film(renderer, scene, views, restorer)
            else:
                cameras = views or {self.output: first_view(scene)}
                pictures, drawn = list(cameras), len(cameras)
                self._pictures(renderer, scene, cameras, restorer)
        return answer(
            self.json,
            {
                "pictures": [str(path) for path in pictures],
                **({"frames": drawn} if film else {}),
                "size": list(self.size),
                "renderer": renderer.label,
                "gaussians": len(scene.cloud),
                "seconds": seconds,
            },
        )

    def _compressed(
        self, scene: Scene, renderer: Renderer, seconds: dict[str, float]
    ) -> tuple[Scene, OpenRestorer | None]:
        """What --keep leaves of the scene, and what repairs its pictures."""
        from exgs_viewer.restore import open_restorer
        from exgs_viewer.restore.scene_filter import SceneRestorer, from_meta

        restorer = open_restorer(self.restore) if self.restore else None
        cloud, by_filter, fitted = scene.cloud, self.restore == SceneRestorer.name, from_meta(scene.meta)
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
        return replace(scene, cloud=cloud.to(renderer.device)), restorer

    # Pictures.

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

    def _pictures(
        self, renderer: Renderer, scene: Scene, cameras: dict[Path, Camera], restorer: OpenRestorer | None
    ) -> None:
        from exgs_viewer import images
        from exgs_viewer.app.compose import TRUST_TOP

        with progress() as report:
            for done, (path, camera) in enumerate(cameras.items()):
                report(done / len(cameras), f"drawing {path.name}")
                output = self._drawn(renderer, scene, camera)
                if self.mode == "alpha":
                    images.write_gray16_png(path, output.alpha)
                elif self.mode == "depth":
                    images.write_gray16_png(path, *_nearness(output))
                else:
                    # What the window's legend says goes into the file.
                    scale = {"brightest_change_of_255": 255 * TRUST_TOP} if self.mode == "trust" else None
                    images.write_png(path, self._shown(output, self._restored(output, restorer)), scale)

    def _drawn(self, renderer: Renderer, scene: Scene, camera: Camera) -> RenderOutput:
        from exgs_viewer import pipeline

        settings = plain(RenderSettings, self.render)
        settings = replace(settings, antialiased=settings.antialiased or scene.antialiased)
        return pipeline.picture(scene.cloud, camera, self.size, renderer, settings)

    def _restored(self, output: RenderOutput, restorer: OpenRestorer | None) -> Tensor:
        if restorer is None:
            return output.color
        return restorer.restore(output, RestoreSettings(restorer=self.restore), retention=self.keep)

    def _shown(self, output: RenderOutput, color: Tensor) -> Tensor:
        """The restored picture `color`, or how far it is from the drawn one."""
        if self.mode != "trust":
            return color
        from exgs_viewer.app.compose import trust

        return trust(output.color, color)

    # Videos.

    def _film_cameras(self) -> list[Camera]:
        """The cameras of the file that is named; what else the flags say is checked, too, before the long work."""
        check_file(self.output)
        if self.mode not in ("color", "trust"):
            raise ExgsError(f"--mode {self.mode}: a video shows color or trust; pictures show the others.")
        if self.index is not None:
            raise ExgsError("--index draws one camera; a video goes through all of them.")
        if not 1 <= self.fps <= MOST_FPS:
            raise ExgsError(f"--fps {self.fps:g}: a video has 1 to {MOST_FPS} pictures a second.")
        if not (self.seconds > 0 and 1 <= self._frames() <= MOST_FRAMES):
            raise ExgsError(
                f"--seconds {self.seconds:g}: at --fps {self.fps:g} a video has 1 to {MOST_FRAMES:,} pictures."
            )
        if min(self.size) < 2:
            raise ExgsError(f"--size {self.size[0]}x{self.size[1]}: a video has at least 2 pixels each way.")
        if self.cameras is None:
            return []
        from exgs_viewer.scene.camera import read_cameras

        cameras = read_cameras(self.cameras)
        if self.way == "cameras" and len(cameras) < 2:
            raise ExgsError(
                f"{self.cameras}: a way through cameras needs two at least, this file holds {len(cameras)}."
            )
        return cameras

    def _frames(self) -> int:
        length = self.seconds * self.fps
        return round(length) if length <= MOST_FRAMES + 1 else MOST_FRAMES + 1

    def _way(self, renderer: Renderer, scene: Scene, cameras: list[Camera]) -> list[Camera]:
        from exgs_viewer.scene import flight

        cameras, count = cameras or list(scene.cameras), self._frames()
        if self.way == "cameras" and len(cameras) < 2:
            raise ExgsError(f"{self.scene}: a way through cameras needs two at least; name some with --cameras.")
        if self.way in ("auto", "cameras") and len(cameras) > 1:
            return flight.through(cameras, count)
        camera = cameras[0] if cameras else first_view(scene)
        way = flight.around if self.way == "around" else flight.sway
        return way(camera, self._focus(renderer, scene, camera), scene.up, count)

    def _focus(self, renderer: Renderer, scene: Scene, camera: Camera) -> Vector:
        """The point in the middle of the picture, as the window finds what to turn around."""
        from exgs_viewer.app.frames import depth_around
        from exgs_viewer.evaluate.flicker import distance_of
        from exgs_viewer.scene.camera import ahead

        output, (width, height) = self._drawn(renderer, scene, camera), self.size
        return ahead(camera, depth_around(output, height // 2, width // 2) or distance_of(output))

    def _film(self, renderer: Renderer, scene: Scene, cameras: list[Camera], restorer: OpenRestorer | None) -> int:
        from exgs_viewer import images

        way = self._way(renderer, scene, cameras)
        with images.video(self.output, self.fps) as add, progress() as report:
            for done, (output, color) in enumerate(self._flown(renderer, scene, way, restorer)):
                report(done / len(way), f"drawing picture {done + 1} of {len(way)}")
                add(self._shown(output, color))
        return len(way)

    def _flown(
        self, renderer: Renderer, scene: Scene, way: list[Camera], restorer: OpenRestorer | None
    ) -> Iterator[tuple[RenderOutput, Tensor]]:
        """What is drawn along the way, and its restored picture."""
        from exgs_viewer.restore.steady import steadied

        before = None
        for camera in way:
            output = self._drawn(renderer, scene, camera)
            color = self._restored(output, restorer)
            if self.steady and restorer is not None:
                before = steadied(output, camera, color, before)
                color = before.color
            yield output, color


def _nearness(output: RenderOutput) -> tuple[Any, dict[str, Any]]:
    """Depth as grey: 1 the nearest, towards 0 the farthest, 0 nothing; with the depths that these stand for."""
    depth, solid = output.depth, output.depth > 0
    near, far = (float(depth[solid].min()), float(depth[solid].max())) if solid.any() else (0.0, 1.0)
    grey = (1 - 0.95 * (depth - near) / max(far - near, 1e-9)) * solid
    return grey, {"white_depth": near, "grey_5_percent_depth": far}
