"""The command line: one frozen dataclass per command, its flags derived from types and from settings.py."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, PositionalMetavarFromFieldName, arg

from exgs_viewer import __version__
from exgs_viewer.cli_train import Train
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
    PRESETS,
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
    from exgs_viewer.scene.cloud import GaussianCloud

Backend = get_type_hints(Settings)["backend"]
Restorer = get_type_hints(RestoreSettings)["restorer"]
Preset = Literal[tuple(PRESETS)]
DEMO = "demo"
"""The built-in room: scene.DEMO, whose import would bring torch."""
EXIT_NOT_HERE, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
NEEDED_TO_START = ("Python", "PyTorch", "OpenGL", "Display", "CPU")
"""Findings of the doctor without which no window opens."""


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
        _check_there(self.scene)
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
        scene = _opened(self.scene)
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
class Compress:
    """Make a scene smaller: keep the Gaussians that matter most to what a visitor sees.

    By default it keeps every tenth; --keep 0.02 keeps one in fifty.

        exgs compress garden.ply -o garden.exgs
        exgs compress garden.ply -o garden.exgs --keep 0.02
        exgs compress garden.ply -o garden.exgs --preset best
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """File to write; its name ends in .exgs. One that is there is replaced only by a finished one."""
    preset: Preset = "default"
    """paper: UGC as published, default: ours without any training, best: ours with a short fit; flags change it."""
    compression: OmitArgPrefixes[CompressionFlags] = field(default_factory=CompressionFlags)
    backend: Backend = "auto"
    """Which renderer judges the Gaussians; auto takes CUDA where it works, otherwise the CPU."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        _check_output(self.output, ".exgs")
        from exgs_viewer.render import open_renderer
        from exgs_viewer.scene import exgs

        seconds: dict[str, float] = {}
        with timed(seconds, "open"):
            scene = _opened(self.scene)
        settings = plain(CompressionSettings, self.compression)
        kept = _compressed(scene, settings, open_renderer(self.backend), seconds)
        with timed(seconds, "encode"), progress() as report:
            written = exgs.write(self.output, kept, exgs.metadata(scene, settings), report, settings)
        return answer(
            self.json,
            {
                "output": str(self.output),
                "gaussians_in": len(scene.cloud),
                "gaussians_out": len(kept),
                "bytes_in": scene.bytes,
                "bytes_out": written,
                "ply_bytes": scene.cloud.ply_bytes,
                "ratio": scene.cloud.ply_bytes / written,
                "seconds": seconds,
            },
        )


@dataclass(frozen=True)
class Convert:
    """Write a scene in another format, for another viewer; the end of the new name chooses it.

    It keeps every Gaussian and says what the format has no place for. To make a scene smaller: exgs compress.

        exgs convert garden.ply garden.spz              Niantic: a tenth of the bytes, all colours
        exgs convert garden.ply garden.sog              PlayCanvas, for the web: the smallest
        exgs convert garden.ply garden.compressed.ply   PlayCanvas, SuperSplat
        exgs convert garden.ply garden.splat            antimatter15: the same colour from every side
        exgs convert garden.exgs garden.ply             the original layout, which every program reads
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    output: Positional[Path]
    """File to write: .ply, .compressed.ply, .spz, .splat, .sog or .exgs. One that is there is replaced at the end."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        _check_there(self.scene)
        _check_file(self.output)
        from exgs_viewer.scene import open_scene, save_scene, written_suffix

        written_suffix(self.output)
        seconds: dict[str, float] = {}
        with timed(seconds, "open"), progress() as report:
            scene = open_scene(self.scene, report)
        with timed(seconds, "write"), progress() as report:
            written = save_scene(self.output, scene, report)
        _warn(scene.warnings + written.warnings)
        return answer(
            self.json,
            {
                "output": str(self.output),
                "gaussians": len(scene.cloud),
                "sh_degree": scene.cloud.sh_degree,
                "bytes_in": scene.bytes,
                "bytes_out": written.bytes,
                "ply_bytes": scene.cloud.ply_bytes,
                "ratio": scene.cloud.ply_bytes / written.bytes,
                "warnings": [*scene.warnings, *written.warnings],
                "seconds": seconds,
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
    """Repair the pictures; inpaint is the classical push-pull fill guided by alpha."""
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
            scene = _opened(self.scene)
        from exgs_viewer.render import open_renderer
        from exgs_viewer.restore import open_restorer

        restorer = open_restorer(self.restore) if self.restore else None
        renderer, cloud = open_renderer(self.backend), scene.cloud
        if self.keep is not None:
            cloud = _compressed(scene, CompressionSettings(keep=self.keep), renderer, seconds)
        cameras = views or {self.output: _first_view(scene)}
        with timed(seconds, "render"), progress() as report:
            for done, (path, camera) in enumerate(cameras.items()):
                report(done / len(cameras), f"drawing {path.name}")
                self._draw(path, renderer, cloud, camera, restorer)
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
            _check_output(self.output, ".png")
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
        self, path: Path, renderer: Renderer, cloud: GaussianCloud, camera: Camera, restorer: OpenRestorer | None
    ) -> None:
        from exgs_viewer import images, pipeline

        output = pipeline.picture(
            cloud.to(renderer.device), camera, self.size, renderer, plain(RenderSettings, self.render)
        )
        if self.mode == "alpha":
            return images.write_gray16_png(path, output.alpha)
        if self.mode == "depth":
            return images.write_gray16_png(path, *_nearness(output))
        color = output.color
        if restorer is not None:
            color = pipeline.restore(output, restorer, RestoreSettings(restorer=self.restore), retention=self.keep)
        if self.mode == "trust":
            from exgs_viewer.app.compose import TRUST_TOP, trust

            # What the window's legend says goes into the file.
            return images.write_png(path, trust(output.color, color), {"brightest_change_of_255": 255 * TRUST_TOP})
        return images.write_png(path, color)


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine, with one remedy for each problem.

    Python, PyTorch, CUDA, graphics, display, cores, weights.

        exgs doctor
    """

    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        from exgs_viewer import doctor

        checks = doctor.examine()
        broken = [check.name for check in checks if check.ok is False and check.name in NEEDED_TO_START]
        if self.json:
            answer(True, {"starts": not broken, "checks": [asdict(check) for check in checks]})
        else:
            print(*checks, sep="\n")
            print(f"\nThe window cannot open here: see {', '.join(broken)}." if broken else "\nThe viewer works here.")
        return EXIT_NOT_HERE if broken else 0


@dataclass(frozen=True)
class Bench:
    """Measure time and memory of every stage on this machine.

    Every figure is the median of several runs.

        exgs bench
        exgs bench garden.ply --cameras cameras.json --size 1920x1080
        exgs bench garden.ply --json > figures.json
    """

    scene: Positional[str] = DEMO
    """Scene file, folder of SOG chunks, or `demo`."""
    cameras: Annotated[Path | None, arg(metavar="FILE")] = None
    """cameras.json with the views to draw; without it, views that the program chooses."""
    size: PictureSize = (960, 540)
    """Width x height of the pictures, pixels."""
    keep: Annotated[float, knob(CompressionSettings, "keep")] = 0.1
    """Retention at which the compressed scene is measured."""
    backend: Backend = "auto"
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""
    profile: FlagCreatePairsOff[bool] = False
    """Also name the slowest stages."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object: {machine, rows}."""

    def run(self) -> int:
        _check_there(self.scene)
        from exgs_viewer import bench
        from exgs_viewer.scene.camera import read_cameras

        cameras = tuple(read_cameras(self.cameras)) if self.cameras else ()
        plan = bench.Plan(self.scene, self.backend, self.size, self.keep, cameras)
        with progress() as report:
            result = bench.run(plan, report)
        if self.json:
            return answer(True, result)
        print(bench.table(result))
        if self.profile:
            print("", "Slowest:", *bench.slowest(result), sep="\n")
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Compare ways to compress: PSNR, SSIM, LPIPS, FLIP and bytes on scenes of yours, in one report.

    Each method keeps the same share of the Gaussians, and its file is decoded and drawn from cameras that it never saw.
    REPORT becomes a folder with report.html (tables, curves, pictures side by side) and report.md. A run that was
    interrupted goes on where it stopped when the same command is given again.

        exgs evaluate demo -o report
        exgs evaluate garden.ply --cameras cameras.json --keep 0.03 0.1 -o report
        exgs evaluate scenes/*.ply --cameras cameras/ --methods paper lightgs -o report --json
        exgs evaluate garden.ply --cameras cameras.json --restorers none inpaint --temporal -o report

    Methods: paper, default and best are ours; lightgs, lightgs-sh, lightgs-refined and flexgaussian are the others'.
    There are more for ablations: a wrong name lists them all. Restorers: none, inpaint, lite, sd-turbo, and as
    rivals sd2-inpaint, prefpaint and difix; all but the first three need weights of yours.
    LPIPS needs trained weights and is null without them: vgg16-*.pth of torchvision and vgg.pth of LPIPS, in
    weights/lpips or where torch and the package lpips keep them.
    """

    scenes: Positional[tuple[str, ...]]
    """Scene files, folders of SOG chunks, or `demo`."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="REPORT")]
    """Folder for the report; it is made, and what is in it from an earlier run is used."""
    cameras: Annotated[Path | None, arg(metavar="JSON|DIR")] = None
    """cameras.json to look at all scenes from, or a folder with NAME.json for each; else the scene's own cameras."""
    keep: tuple[float, ...] = (0.03, 0.05, 0.1, 0.2, 0.3)
    """Shares of the Gaussians to keep, each above 0 and at most 1."""
    methods: tuple[str, ...] = ("paper", "default", "lightgs", "lightgs-sh", "flexgaussian")
    """Ways to compress, by name."""
    restorers: tuple[str, ...] = ("none",)
    """What repairs the pictures before they are compared; none leaves them as they are."""
    reference: Literal["full", "kept"] = "full"
    """Compare with the uncut scene with all its spherical harmonics, or with as many of them as are kept."""
    size: PictureSize | None = None
    """Width x height of the pictures; without it the cameras' own shape, 960 pixels along the longer side."""
    jobs: int = 1
    """Scenes to measure at the same time, each with its share of the cores."""
    recovery_steps: int = 1000
    """Training steps of lightgs-refined; fewer than the paper's 1000 are told in the report."""
    temporal: FlagCreatePairsOff[bool] = False
    """Also measure flicker: how steady the pictures are on a slow path of 10 between two of the cameras."""
    backend: Backend = "auto"
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object: {rows}."""

    def run(self) -> int:
        from exgs_viewer import evaluate

        plan = evaluate.Plan(
            self.scenes, self.output, self.cameras, self.keep, self.methods, self.restorers, self.reference, self.size,
            self.backend, self.jobs, evaluate.Recovery(steps=self.recovery_steps), self.temporal,
        )  # fmt: skip
        with progress() as report:
            rows = evaluate.run(plan, report)
        if self.json:
            return answer(True, {"rows": [asdict(row) for row in rows]})
        print((self.output / "report.md").read_text())
        print(f"{self.output / 'report.html'} shows the pictures too.")
        return 0


COMMANDS = {
    "view": View,
    "info": Info,
    "compress": Compress,
    "convert": Convert,
    "render": Render,
    "evaluate": Evaluate,
    "bench": Bench,
    "train": Train,
    "doctor": Doctor,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 2 a mistake told in one sentence on stderr, 130 interrupted."""
    try:
        name, *words = _with_command(sys.argv[1:] if arguments is None else arguments)
        if name not in COMMANDS:
            print(f"exgs {__version__}" if name == "--version" else _help())
            return 0
        config = (PositionalMetavarFromFieldName,)
        start = _start(name, words)
        return tyro.cli(COMMANDS[name], prog=f"exgs {name}", args=words, config=config, **start).run()
    except ExgsError as error:
        print(f"exgs: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `exgs info garden.ply | head -1` has read enough; Python must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _start(command: str, words: list[str]) -> dict[str, Compress]:
    """What the flags of a command change, where that is not the usual: for `compress` the preset named among them."""
    named = next((word for flag, word in pairwise(words) if flag == "--preset"), None)
    named = next((word.removeprefix("--preset=") for word in words if word.startswith("--preset=")), named)
    if command != "compress" or named not in PRESETS:
        return {}
    return {"default": Compress(tyro.MISSING, tyro.MISSING, named, CompressionFlags(**asdict(PRESETS[named])))}


def _help() -> str:
    commands = "\n".join(f"  {name:10}{kind.__doc__.splitlines()[0]}" for name, kind in COMMANDS.items())
    return f"""Open a 3D Gaussian Splatting scene, fly through it, make it 100 times smaller, compare.

usage: exgs [SCENE]              open the window on a scene, or on the demo room
       exgs COMMAND ...          one of these:

{commands}

`exgs COMMAND --help` explains a command, `exgs --version` names the version."""


def _with_command(words: list[str]) -> list[str]:
    """`exgs garden.ply` means `exgs view garden.ply`; a word that is neither scene nor command is told so."""
    if not words:
        return ["view"]
    first = words[0]
    if first in COMMANDS or first in ("-h", "--help", "--version"):
        return words
    if first.startswith("-") or first == DEMO or Path(first).suffix or Path(first).exists():
        return ["view", *words]
    near = difflib.get_close_matches(first, [*COMMANDS, DEMO], n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}."
    raise ExgsError(f"'{first}' is neither a command nor a scene file; {hint}")


def _check_there(scene: str) -> None:
    if scene != DEMO and not Path(scene).exists():
        raise ExgsError(f"{scene}: there is no such file.")


def _check_output(path: Path, suffix: str) -> None:
    """Tell before the long work what would be told after it."""
    if path.suffix.lower() != suffix:
        raise ExgsError(f"{path}: the file to write must end in {suffix}.")
    _check_file(path)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ExgsError(f"{path}: this is a folder; name a file in it.")


def _opened(name: str) -> Scene:
    """The scene, its way up guessed where the file says nothing."""
    from exgs_viewer.scene import open_scene
    from exgs_viewer.scene.views import guess_up

    with progress() as report:
        scene = open_scene(name, report)
    _warn(scene.warnings)
    return replace(scene, up=scene.up or guess_up(scene.cloud))


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        print(f"exgs: warning: {warning}", file=sys.stderr)


def _first_view(scene: Scene) -> Camera:
    from exgs_viewer.scene.views import first_view

    return first_view(scene.cloud, scene.up, scene.cameras)


def _compressed(
    scene: Scene, settings: CompressionSettings, renderer: Renderer, seconds: dict[str, float]
) -> GaussianCloud:
    """pipeline.compress with views made of the scene, scores and tree remembered from the last time."""
    from exgs_viewer import pipeline
    from exgs_viewer.scene.views import scoring_views

    with timed(seconds, "compress"), progress() as report:
        report(0.0, "Choosing views to judge the scene from")
        cloud = scene.cloud.to(renderer.device)
        return pipeline.compress(cloud, settings, renderer, scoring_views(cloud, scene.up), report)


def _nearness(output: RenderOutput) -> tuple[Any, dict[str, Any]]:
    """Depth as grey: 1 the nearest, towards 0 the farthest, 0 nothing; with the depths that these stand for."""
    depth, solid = output.depth, output.depth > 0
    near, far = (float(depth[solid].min()), float(depth[solid].max())) if solid.any() else (0.0, 1.0)
    grey = (1 - 0.95 * (depth - near) / max(far - near, 1e-9)) * solid
    return grey, {"white_depth": near, "grey_5_percent_depth": far}
