"""One scene -> its rows: compress, decode, draw from the test cameras, compare."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from exgs_viewer import methods, metrics, pipeline
from exgs_viewer.compress.guard import Pictures
from exgs_viewer.evaluate import flicker
from exgs_viewer.evaluate.plan import NO_RESTORER, Case, Plan, Row, View
from exgs_viewer.evaluate.store import Store, scene_key
from exgs_viewer.images import encode_jpeg
from exgs_viewer.lpips import open_lpips
from exgs_viewer.render import RenderOutput, open_renderer
from exgs_viewer.restore import Restorer, open_restorer
from exgs_viewer.restore.scene_filter import SceneRestorer
from exgs_viewer.scene import open_scene
from exgs_viewer.scene.camera import Camera
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.scene.views import guess_up
from exgs_viewer.settings import (
    CompressionSettings,
    RenderSettings,
    Report,
    RestoreSettings,
    part,
    quiet,
    write_atomically,
)

REMEMBERED = 64
"""Reference pictures that are kept in memory with what FLIP sees of them: about 20 MB each at 960 x 640."""
SHOWN = 2
"""Views of a scene whose pictures go into the report."""
JPEG_QUALITY = 88


@dataclass(frozen=True, eq=False)
class Reference:
    """The uncut scene from one view."""

    picture: Tensor
    """[H, W, 3]"""
    perceived: metrics.Perceived


class Measurer:
    """A scene that is open, with everything that its rows share."""

    def __init__(self, plan: Plan, case: Case, pool: Executor, report: Report) -> None:
        self.report = report
        report(0.0, f"{case.name}: opening")
        self.restorers: dict[str, Restorer | None] = {
            name: open_restorer(name) for name in plan.restorers if name != NO_RESTORER
        }
        self.renderer = open_renderer(plan.backend, report)
        scene = open_scene(case.path)
        up = scene.up or guess_up(scene.cloud)
        self.plan, self.case, self.pool, self.store = plan, case, pool, Store(plan.folder)
        self.subject = methods.Subject(
            scene.cloud.to(self.renderer.device),
            up,
            self.renderer,
            report=lambda _, text: self.report(0.0, f"{case.name}: {text}"),
            recovery=plan.recovery,
        )
        self.lpips = open_lpips(self.renderer.device)
        self._taught: dict[int, Pictures] = {}
        self._bytes: dict[tuple[str, float], int] = {}
        self._references: dict[tuple[int, int], Reference] = {}
        self._walk: tuple[list[Camera], list[flicker.Warp]] | None = None

    def rows(self, method: str, keep: float, wanted: dict[str, str], report: Report) -> None:
        """Measure one compressed scene, once for each restorer in `wanted` ({restorer: key}), and store the rows."""
        self.report, words = report, f"{self.case.name}: {method} at {keep:.3g}"
        report(0.0, f"{words}, compressing")
        done = self._compressed(method, keep)
        extra = dict.fromkeys(wanted, 0)
        if SceneRestorer.name in wanted:
            report(0.15, f"{words}, fitting its filter")
            fitted = pipeline.tune(done.cloud, self._pictures(done.cloud.sh_degree), self.renderer)
            # Where no filter helps, the picture counts as it is; the fill has rows of its own.
            self.restorers[SceneRestorer.name] = SceneRestorer(fitted) if fitted else None
            extra[SceneRestorer.name] = fitted.bytes if fitted else 0
        found: dict[str, list[Future]] = {restorer: [] for restorer in wanted}
        for number, view in enumerate(self.case.views):
            report(0.2 + 0.8 * number / len(self.case.views), f"{words}, view {number + 1} of {len(self.case.views)}")
            output = pipeline.picture(done.cloud, view.camera, view.size, self.renderer, RenderSettings())
            reference = self.reference(number, done.cloud.sh_degree)
            for restorer, key in wanted.items():
                image = self._finished(restorer, output, keep)
                found[restorer].append(self.pool.submit(self._compared, image, reference))
                if number in shown(self.case):
                    write_atomically(self.store.picture(key, number), encode_jpeg(image, JPEG_QUALITY))
        steady = self._flickers(done.cloud, keep, list(wanted)) if self.plan.temporal else {}
        uncut = self.subject.cloud.ply_bytes
        for restorer, key in wanted.items():
            compared = [future.result() for future in found[restorer]]
            psnr, ssim, distance, flip = (_mean(values) for values in zip(*compared, strict=True))
            size = done.bytes + extra[restorer]
            row = Row(
                self.case.name, method, restorer, keep, len(done.cloud), size, uncut / size,
                psnr, ssim, distance, flip, done.seconds,
                *steady.get(restorer, (None, None)), steady.get(NO_RESTORER, (None,))[0],
            )  # fmt: skip
            self.store.keep(key, row)

    def _compressed(self, method: str, keep: float) -> methods.Compressed:
        """By a method that keeps this share, or as much as fits where the plan matches its bytes to another's."""
        match = self.plan.match_of(method)
        if match is None:
            done = methods.compress(method, self.subject, keep)
            self._bytes[method, keep] = done.bytes
            return done
        if (match, keep) not in self._bytes:
            self._compressed(match, keep)
        return methods.compress_within(method, self.subject, self._bytes[match, keep], keep)

    def reference(self, number: int, sh_degree: int) -> Reference:
        """The uncut scene from view `number`, with the SH that the plan compares with."""
        degree = sh_degree if self.plan.reference == "kept" else self.subject.cloud.sh_degree
        if (number, degree) in self._references:
            return self._references[number, degree]
        picture = self.uncut(self.case.views[number], degree)
        reference = Reference(picture, metrics.perceive(picture))
        if len(self._references) < REMEMBERED:
            self._references[number, degree] = reference
        return reference

    def _pictures(self, sh_degree: int) -> Pictures:
        """What scene filters are fitted to: the uncut scene with as much SH as is kept."""
        if sh_degree not in self._taught:
            subject, settings = self.subject, CompressionSettings(sh_degree=sh_degree)
            found = pipeline.pictures(subject.cloud, subject.views, settings, self.renderer)
            self._taught[sh_degree] = found
        return self._taught[sh_degree]

    def uncut(self, view: View, sh_degree: int) -> Tensor:
        settings = RenderSettings(sh_degree=sh_degree)
        return pipeline.picture(self.subject.cloud, view.camera, view.size, self.renderer, settings).color

    def _flickers(
        self, cloud: GaussianCloud, keep: float, restorers: list[str]
    ) -> dict[str, tuple[float | None, float | None]]:
        """Flicker of a compressed scene bare and with each restorer: plain, and with the picture before blended in."""
        cameras, steps = self._path()
        size = self.case.views[0].size
        outputs = [pipeline.picture(cloud, camera, size, self.renderer, RenderSettings()) for camera in cameras]
        found = {}
        for restorer in dict.fromkeys((NO_RESTORER, *restorers)):
            pictures = [self._finished(restorer, output, keep) for output in outputs]
            blended = flicker.steady(pictures, outputs, cameras)
            found[restorer] = flicker.flicker(pictures, steps), flicker.flicker(blended, steps)
        return found

    def _path(self) -> tuple[list[Camera], list[flicker.Warp]]:
        """A short path through the scene, the same for all rows, and what the movement alone changes."""
        if self._walk is None:
            size, cameras = self.case.views[0].size, [view.camera for view in self.case.views]

            def uncut(camera: Camera) -> RenderOutput:
                return pipeline.picture(self.subject.cloud, camera, size, self.renderer, RenderSettings())

            cameras = flicker.path(cameras, flicker.distance_of(uncut(cameras[0])))
            self._walk = cameras, flicker.warps([uncut(camera) for camera in cameras], cameras)
        return self._walk

    def _finished(self, restorer: str, output: RenderOutput, keep: float) -> Tensor:
        if restorer == NO_RESTORER or self.restorers[restorer] is None:
            return output.color
        settings = RestoreSettings(restorer=restorer)
        return self.restorers[restorer].restore(output, settings, retention=keep)

    def _compared(self, image: Tensor, reference: Reference) -> tuple[float, float, float | None, float]:
        """PSNR, SSIM, LPIPS and FLIP."""
        return (
            metrics.psnr(image, reference.picture),
            float(metrics.ssim(image, reference.picture)),
            self.lpips(image, reference.picture) if self.lpips else None,
            float(metrics.flip_between(metrics.perceive(image), reference.perceived).mean()),
        )


@torch.no_grad()
def measure_scene(plan: Plan, case: Case, report: Report = quiet) -> None:
    """Measure and store every row of a scene that is not there yet."""
    store = Store(plan.folder)
    todo = list(_missing(plan, case, store))
    pictures = [number for number in shown(case) if not store.picture(scene_key(plan, case), number).exists()]
    if not todo and not pictures:
        return
    threads = torch.get_num_threads()
    # Pictures are compared beside each other on one thread each: torch's own threads would wait for each other at the
    # end of every small operation, and drawing goes on meanwhile.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        measurer = Measurer(plan, case, pool, report)
        for number in pictures:
            picture = measurer.uncut(case.views[number], measurer.subject.cloud.sh_degree)
            write_atomically(store.picture(scene_key(plan, case), number), encode_jpeg(picture, JPEG_QUALITY))
        for number, (method, keep, wanted) in enumerate(todo):
            measurer.rows(method, keep, wanted, part(report, number / len(todo), 1 / len(todo)))
    torch.set_num_threads(threads)  # What the pool's threads were told had become the default of threads made later.


def shown(case: Case) -> list[int]:
    """The views whose pictures are shown, evenly from all of them."""
    count = min(SHOWN, len(case.views))
    return [number * len(case.views) // count for number in range(count)]


def _missing(plan: Plan, case: Case, store: Store) -> Iterator[tuple[str, float, dict[str, str]]]:
    """(method, keep, {restorer: key}) of what is not measured yet."""
    for (method, keep), entries in groupby(store.keys(plan, case).items(), key=lambda entry: entry[0][:2]):
        wanted = {restorer: key for (_, _, restorer), key in entries if not store.has(key)}
        if wanted:
            yield method, keep, wanted


def _mean(values: tuple) -> float | None:
    return None if None in values else statistics.fmean(values)
