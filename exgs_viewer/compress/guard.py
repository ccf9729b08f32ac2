"""Pictures of the uncut scene to learn from, and others to be examined with: no step may make the copy worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from exgs_viewer.compress import scores
from exgs_viewer.compress.polish import Exam, evenly
from exgs_viewer.render import Renderer
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
"""dB that solved colours of a calibrated cloud may lose in the exam. From cameras of their own they won 0.2 to 0.9 dB
on seven scenes at three retentions; on one of them the exam was undecided (-0.03 ... 0.00 dB) where they won 0.5."""
EXAM_SIZE: Size = (720, 540)
"""Pictures that judge: larger than those that teach, so that what only fits their pixels is found out."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """The uncut scene from all its scoring views."""

    study: Exam
    """What colours and parameters are fitted to."""
    exam: Exam
    """What every stage is judged by."""


def take_pictures(
    cloud: GaussianCloud, cameras: Sequence[Camera], sh_degree: int, renderer: Renderer, report: Report = quiet
) -> Pictures:
    """Draw the uncut scene with `sh_degree`. With fewer than HELD_OUT cameras all of them do both."""
    held_out = cameras[HELD_OUT // 2 :: HELD_OUT] if len(cameras) >= HELD_OUT else cameras
    taught = [camera for camera in cameras if camera not in held_out] or cameras
    if len(taught) > TAUGHT:
        taught = [taught[number * len(taught) // TAUGHT] for number in range(TAUGHT)]
    settings, total, done = RenderSettings(sh_degree=sh_degree), len(taught) + len(held_out), 0
    exams = []
    for group, size in ((taught, scores.SCORING_SIZE), (held_out, EXAM_SIZE)):
        pictures = []
        for camera in group:
            report(done / total, "Drawing the scene to compare with")
            pictures.append(renderer.render(cloud, camera, size, settings).color)
            done += 1
        exams.append(Exam(tuple(group), size, tuple(pictures)))
    return Pictures(*exams)


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
