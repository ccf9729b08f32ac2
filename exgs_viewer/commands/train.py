"""`exgs train`: make scenes, make pairs, train a painter, validate it; train an amplifier; train both together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from exgs_viewer.errors import ExgsError
from exgs_viewer.settings import Report
from exgs_viewer.terminal import answer, progress
from exgs_viewer.train.options import AmplifierOptions, JointOptions, Options

if TYPE_CHECKING:  # Those import torch, for which `--help` need not wait.
    from exgs_viewer.render import Renderer
    from exgs_viewer.train.lessons import Lessons


@dataclass(frozen=True)
class MakeScenes:
    """Make scenes by code and write them as .ply, to look at or to take elsewhere.

    make-pairs needs no files: it makes the same scenes from their numbers.
    """

    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder for made-0.ply, made-1.ply ..."""
    count: int = 5
    """How many."""
    first: int = 0
    """Number of the first one."""
    photos: Path | None = None
    """Folder with photos (kodak/*.png, panoramas/*.hdr); without one, textures are made by code."""

    def run(self) -> int:
        from exgs_viewer.scene import save_scene
        from exgs_viewer.train.scenes import make_scene
        from exgs_viewer.train.textures import Palette

        palette, sizes = Palette(self.photos), {}
        with progress() as report:
            for number in range(self.first, self.first + self.count):
                report((number - self.first) / self.count, f"making scene {number}")
                cloud = make_scene(number, palette)
                save_scene(self.output / f"made-{number}.ply", cloud)
                sizes[f"made-{number}"] = len(cloud)
        return answer(False, sizes)


@dataclass(frozen=True)
class MakePairs:
    """Take pictures of scenes, uncut and compressed in many ways, to train on.

    Goes on where it was broken off: scenes whose file is there are left alone.
    """

    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder for one file of pairs for each scene."""
    scenes: Path | None = None
    """Folder of trained scenes; of an index.json only those whose use is `train`."""
    photos: Path | None = None
    """Folder with photos (kodak/*.png, panoramas/*.hdr) for the made scenes."""
    made: int = 80
    """Scenes made by code."""
    gatherings: int = 24
    """Scenes of trained objects put together."""
    views: int = 16
    """Views of each scene; twice as many of real ones."""
    variants: tuple[str, ...] = ()
    """Ways to make scenes smaller, all unless named: paper, amplified, global, random, merged, default."""
    drawn: int = 10
    """Compressions of each scene."""
    seed: int = 0
    """Another seed takes other pictures of the same scenes."""

    def run(self) -> int:
        from exgs_viewer.render import open_renderer
        from exgs_viewer.train.pairs import VARIANTS, Plan, write_pairs
        from exgs_viewer.train.sources import Sources

        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise ExgsError(f"There is no variant '{unknown[0]}'; choose of {', '.join(VARIANTS)}.")
        named = f"@{'+'.join(self.variants)}" if self.variants else ""
        chosen = self.variants or tuple(VARIANTS)
        sources, renderer, pairs = Sources(self.scenes, self.photos), open_renderer(), 0
        names = sources.names(self.made, self.gatherings)
        with progress() as report:
            for number, name in enumerate(names):
                path = self.output / f"{name}{named}.safetensors"
                if path.exists():
                    continue
                views = self.views if sources.is_made(name) else 2 * self.views
                plan = Plan(views, chosen, self.drawn, seed=self.seed)
                pairs += write_pairs(
                    path,
                    sources.open(name),
                    plan,
                    renderer,
                    lambda share, text, done=number: report((done + share) / len(names), text),
                )
        return answer(False, {"scenes": len(names), "new pairs": pairs})


@dataclass(frozen=True)
class TrainPainter:
    """Train a painter on pairs; stop it at any moment, the same command goes on.

    The run's folder holds curve.csv, validation.csv and sample sheets to look at.

        exgs train painter run --pairs pairs
    """

    run_folder: Positional[Path]
    """Folder of the run: state, curves, sample sheets, and the painter as the viewer loads it."""
    pairs: Path
    """Folder of pairs; files that are added to it while training are taken up."""
    options: OmitArgPrefixes[Options] = field(default_factory=Options)

    def run(self) -> int:
        from exgs_viewer.train.data import PairSet
        from exgs_viewer.train.painter import train

        with progress() as report:
            run = train(self.run_folder, PairSet(self.pairs), self.options, report)
        return answer(False, {"run": str(self.run_folder), "steps": run.step, "seconds": run.seconds})


@dataclass(frozen=True)
class FromScenes:
    """What is trained on scenes themselves: where they are."""

    run_folder: Positional[Path]
    """Folder of the run: lessons, state, curves, and what was learnt as the viewer loads it."""
    scenes: Path | None = None
    """Folder of trained scenes; of an index.json only those whose use is `train`."""
    photos: Path | None = None
    """Folder with photos (kodak/*.png, panoramas/*.hdr) for the made scenes."""
    made: int = 10
    """Scenes made by code."""
    gatherings: int = 5
    """Scenes of trained objects put together."""

    def lessons(self, merged: bool, renderer: Renderer, report: Report) -> Lessons:
        """Lessons of all the scenes; those that are not there yet are made."""
        from exgs_viewer.train.lessons import Course, Lessons, prepare
        from exgs_viewer.train.sources import Sources

        sources, folder = Sources(self.scenes, self.photos), self.run_folder / "lessons"
        prepare(folder, sources, sources.names(self.made, self.gatherings), Course(merged=merged), renderer, report)
        return Lessons(folder)

    def told(self, steps: int, seconds: float) -> int:
        return answer(False, {"run": str(self.run_folder), "steps": steps, "seconds": seconds})


@dataclass(frozen=True)
class TrainAmplifier(FromScenes):
    """Train the amplifier: how much kept Gaussians grow for what was dropped around them, or merged into them.

    Stop it at any moment, the same command goes on. The run's folder holds curve.csv and validation.csv.

        exgs train amplifier run --scenes scenes
        exgs train amplifier merged-run --scenes scenes --merged
    """

    merged: FlagCreatePairsOff[bool] = False
    """For scenes whose Gaussians are merged (preset default) instead of dropped (paper)."""
    options: OmitArgPrefixes[AmplifierOptions] = field(default_factory=AmplifierOptions)

    def run(self) -> int:
        from exgs_viewer.render import open_renderer
        from exgs_viewer.train.amplifier import train

        renderer = open_renderer()
        with progress() as report:
            lessons = self.lessons(self.merged, renderer, report)
            run = train(self.run_folder, lessons, self.options, renderer, report)
        return self.told(run.step, run.seconds)


@dataclass(frozen=True)
class TrainJoint(FromScenes):
    """Train painter and amplifier under one loss, as ExGS does: growth learns what the painter cannot mend.

    Stop it at any moment, the same command goes on. The run's folder holds curve.csv, validation.csv and sample sheets.

        exgs train joint run --scenes scenes
    """

    options: OmitArgPrefixes[JointOptions] = field(default_factory=JointOptions)

    def run(self) -> int:
        from exgs_viewer.render import open_renderer
        from exgs_viewer.train.joint import train

        renderer = open_renderer()
        with progress() as report:
            lessons = self.lessons(False, renderer, report)
            run = train(self.run_folder, lessons, self.options, renderer, report)
        return self.told(run.step, run.seconds)


@dataclass(frozen=True)
class Validate:
    """Hold a painter against pictures that training never sees: PSNR and SSIM before and after, by retention."""

    pairs: Path
    """Folder of pairs; the last tenth of each scene's views is held out."""
    painter: Path | None = None
    """Folder of the painter; without one, the lite that the viewer would load."""
    crops: int = 200
    """How many pictures to look at."""
    sheet: Annotated[Path | None, arg(metavar="PNG")] = None
    """Also write a sheet of compressed, painted and uncut pictures."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        import torch

        from exgs_viewer import images, networks
        from exgs_viewer.restore import weights
        from exgs_viewer.train.data import PairSet
        from exgs_viewer.train.validate import validate

        painter = weights.load_painter(self.painter or networks.find("lite"))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with progress() as report:
            crops = PairSet(self.pairs).held_out(self.crops)
            counted = (report(number / self.crops, name) or (name, batch) for number, (name, batch) in enumerate(crops))
            result, sheet = validate(painter.to(device, memory_format=torch.channels_last), counted, device)
        if self.sheet:
            images.write_png(self.sheet, sheet)
        return answer(self.json, result)


COMMANDS = (
    Annotated[MakeScenes, subcommand("make-scenes")]
    | Annotated[MakePairs, subcommand("make-pairs")]
    | Annotated[TrainPainter, subcommand("painter")]
    | Annotated[TrainAmplifier, subcommand("amplifier")]
    | Annotated[TrainJoint, subcommand("joint")]
    | Annotated[Validate, subcommand("validate")]
)


@dataclass(frozen=True)
class Train:
    """Train painter and amplifier: make scenes and pairs, then learn from them.

    Everything is fixed by seeds, can be broken off and goes on with the same command.

        exgs train make-pairs -o pairs --scenes scenes --photos photos
        exgs train painter run --pairs pairs
        exgs train amplifier amplifier-run --scenes scenes
        exgs train joint both --scenes scenes
    """

    command: OmitSubcommandPrefixes[OmitArgPrefixes[COMMANDS]]

    def run(self) -> int:
        return self.command.run()
