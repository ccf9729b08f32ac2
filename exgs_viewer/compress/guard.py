"""Pictures of the uncut scene to learn from, and others to be examined with: no step may make the copy worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from exgs_viewer.compress import scores
from exgs_viewer.compress.cache import key_of, recall, remember
from exgs_viewer.compress.polish import Exam, evenly
from exgs_viewer.render import Album, Renderer
from exgs_viewer.scene.camera import Camera, Size
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import RenderSettings, Report, quiet

HELD_OUT = 11
"""One camera in this many examines and is never learnt from."""
TAUGHT = 64
"""Most cameras that are learnt from."""
JUDGES = 8
"""Most cameras of the quick exam."""
GLANCE, HOPELESS = 3, 2.0
"""Pictures after which a candidate is given up, and how many dB lower it must be."""
TIE = 0.1
"""dB that growing a calibrated cloud, solving its colours and refining its sizes may lose in the exam. From cameras of
their own solved colours won 0.2 to 0.9 dB on seven scenes at three retentions; on one of them the exam was undecided
(-0.03 ... 0.00 dB) where they won 0.5. Growing won 0.1 to 1.0 on flowers, playbot and the demo at a tenth to 60 %,
where the exam said -0.6 to 1.1. Refined sizes won 0.2 to 0.9 on those and three rooms at a tenth, where the exam said
0.0 to 0.9."""
EXAM_SIZE: Size = (720, 540)
"""Pictures that judge: larger than those that teach, so that what only fits their pixels is found out."""
CACHE_FILES = 4
"""Scenes whose pictures are remembered: 92 MB each."""
VERSION = "pictures-1"
"""Part of the cache key."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """The uncut scene from all its scoring views."""

    study: Exam
    """What colours and parameters are fitted to."""
    exam: Exam
    """What every stage is judged by."""


def empty_album(cameras: Sequence[Camera], sh_degree: int) -> Album:
    """Which views `take_pictures` need not draw where scoring has drawn them: those that teach, of one colour."""
    return dict.fromkeys(_shared_out(cameras)[0][0]) if sh_degree == 0 else {}


def take_pictures(
    cloud: GaussianCloud,
    cameras: Sequence[Camera],
    sh_degree: int,
    renderer: Renderer,
    report: Report = quiet,
    album: Album | None = None,
) -> Pictures:
    """Draw the uncut scene with `sh_degree`. With fewer than HELD_OUT cameras all of them do both.

    Colours are those of float16, so that remembered pictures are the same as these. `album` is an `empty_album` that
    scoring has filled, or not.
    """
    settings, groups = RenderSettings(sh_degree=sh_degree), _shared_out(cameras)
    total, done, exams = sum(len(group) for group, _ in groups), 0, []
    for group, size in groups:
        pictures = []
        for camera in group:
            report(done / total, "Drawing the scene to compare with")
            known = album.get(camera) if album and size == scores.SCORING_SIZE else None
            drawn = renderer.render(cloud, camera, size, settings).color if known is None else known
            pictures.append(drawn.half().float())
            done += 1
        exams.append(Exam(group, size, tuple(pictures)))
    return Pictures(*exams)


def cached_pictures(
    cloud: GaussianCloud,
    cameras: Sequence[Camera],
    sh_degree: int,
    renderer: Renderer,
    report: Report = quiet,
    album: Album | None = None,
) -> Pictures:
    """The same as `take_pictures`, remembered beside the scores; on a GPU drawing is quicker than reading."""
    if renderer.device.type != "cpu":
        return take_pictures(cloud, cameras, sh_degree, renderer, report, album)
    version = f"{VERSION} {HELD_OUT} {TAUGHT} {scores.SCORING_SIZE}"
    groups, key = _shared_out(cameras), key_of(cloud, cameras, EXAM_SIZE, version, sh_degree)
    found = recall("pictures", key, len(groups))
    if found is not None:
        drawn = (tuple(torch.from_numpy(pictures).float()) for pictures in found)
        return Pictures(*(Exam(*group, each) for group, each in zip(groups, drawn, strict=True)))
    pictures = take_pictures(cloud, cameras, sh_degree, renderer, report, album)
    drawn = [torch.stack(list(exam.pictures)).half().numpy() for exam in (pictures.study, pictures.exam)]
    remember("pictures", key, drawn, CACHE_FILES)
    return pictures


def _shared_out(cameras: Sequence[Camera]) -> list[tuple[tuple[Camera, ...], Size]]:
    """Cameras that teach and cameras that judge, each with the size of their pictures."""
    held_out = cameras[HELD_OUT // 2 :: HELD_OUT] if len(cameras) >= HELD_OUT else cameras
    taught = [camera for camera in cameras if camera not in held_out] or cameras
    if len(taught) > TAUGHT:
        taught = [taught[number * len(taught) // TAUGHT] for number in range(TAUGHT)]
    return [(tuple(taught), scores.SCORING_SIZE), (tuple(held_out), EXAM_SIZE)]


def take_exam(cloud: GaussianCloud, cameras: Sequence[Camera], sh_degree: int, renderer: Renderer) -> Exam:
    """Draw the uncut scene with `sh_degree` from JUDGES of the cameras: enough to tell better from worse."""
    chosen = tuple(evenly(cameras, JUDGES))
    settings = RenderSettings(sh_degree=sh_degree)
    pictures = tuple(renderer.render(cloud, camera, scores.SCORING_SIZE, settings).color for camera in chosen)
    return Exam(chosen, scores.SCORING_SIZE, pictures)


def quality(cloud: GaussianCloud, renderer: Renderer, exam: Exam) -> float:
    """Mean PSNR of a cloud's pictures, dB; 120 where they are the same."""
    return fmean(marks(cloud, renderer, exam))


def marks(cloud: GaussianCloud, renderer: Renderer, exam: Exam, rival: Sequence[float] = ()) -> list[float]:
    """PSNR of each picture of a cloud, dB; of the first GLANCE only where it has no chance against a rival's marks."""
    found: list[float] = []
    for camera, wanted in zip(exam.cameras, exam.pictures, strict=True):
        drawn = renderer.render(cloud, camera, exam.size, RenderSettings()).color
        found.append(float(-10 * torch.log10((drawn - wanted).square().mean() + 1e-12)))
        if rival and len(found) == GLANCE and fmean(found) < fmean(rival[:GLANCE]) - HOPELESS:
            break
    return found
