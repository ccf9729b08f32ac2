"""`exgs evaluate`, `bench` and `doctor`: how good, how fast, and whether at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from exgs_viewer.commands.shared import DEMO, Backend, check_there
from exgs_viewer.flags import PictureSize, knob
from exgs_viewer.settings import CompressionSettings
from exgs_viewer.terminal import answer, progress

EXIT_NOT_HERE = 1
NEEDED_TO_START = ("Python", "PyTorch", "OpenGL", "Display", "CPU")
"""Findings of the doctor without which no window opens."""


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
        exgs evaluate garden.ply --cameras cameras.json --methods paper default --match paper -o equal

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
    match: Annotated[str | None, arg(metavar="METHOD")] = None
    """Compare at equal bytes: the others keep as many Gaussians as fit into what this method takes at each --keep."""
    backend: Backend = "auto"
    """Which renderer draws; auto takes CUDA where it works, otherwise the CPU."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object: {rows}."""

    def run(self) -> int:
        from exgs_viewer import evaluate

        plan = evaluate.Plan(
            self.scenes, self.output, self.cameras, self.keep, self.methods, self.restorers, self.reference, self.size,
            self.backend, self.jobs, evaluate.Recovery(steps=self.recovery_steps), self.temporal, self.match,
        )  # fmt: skip
        with progress() as report:
            rows = evaluate.run(plan, report)
        if self.json:
            return answer(True, {"rows": [asdict(row) for row in rows]})
        print((self.output / "report.md").read_text())
        print(f"{self.output / 'report.html'} shows the pictures too.")
        return 0


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
        check_there(self.scene)
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
class Doctor:
    """Say what works on this machine, with one remedy for each problem.

    Python, PyTorch, CUDA, graphics, display, cores, weights.

        exgs doctor
    """

    compile: FlagCreatePairsOff[bool] = False
    """First compile for this processor what is compiled at first use otherwise; the set-up of a checkout does so."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        from exgs_viewer import doctor

        if self.compile:
            from exgs_viewer.kernels import compile_all

            with progress() as report:
                compile_all(report)
        checks = doctor.examine()
        broken = [check.name for check in checks if check.ok is False and check.name in NEEDED_TO_START]
        if self.json:
            answer(True, {"starts": not broken, "checks": [asdict(check) for check in checks]})
        else:
            print(*checks, sep="\n")
            print(f"\nThe window cannot open here: see {', '.join(broken)}." if broken else "\nThe viewer works here.")
        return EXIT_NOT_HERE if broken else 0
