"""Calibration, colours and the short fit bring a small copy nearer to its scene; the guard sees to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.compress import guard, polish
from exgs_viewer.compress.cache import key_of
from exgs_viewer.compress.fold import Folded
from exgs_viewer.compress.guard import (
    EXAM_SIZE,
    GLANCE,
    HELD_OUT,
    HOPELESS,
    cached_pictures,
    empty_album,
    marks,
    quality,
    take_pictures,
)
from exgs_viewer.compress.merge import exposure
from exgs_viewer.compress.polish import DOUBT, RIDGE, Exam, calibrate, colors, constant_colors, with_constant_colors
from exgs_viewer.compress.refine import SIZES, refine
from exgs_viewer.compress.scores import SCORING_SIZE, measure
from exgs_viewer.errors import Cancelled
from exgs_viewer.render import open_renderer
from exgs_viewer.scene.camera import look_at
from exgs_viewer.settings import RenderSettings
from tests.conftest import random_cloud

CAMERAS = [look_at((3 * x, -0.4, 3 * z), (0, 0, 0), (0, -1, 0)) for x, z in ((0, -1), (1, 0), (0, 1), (-1, 0))]
SIZE = (64, 48)


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("cpu")


@pytest.fixture(scope="module")
def cloud():
    return random_cloud(300, seed=2, sh_degree=1)


@pytest.fixture(scope="module")
def exam(renderer, cloud):
    drawn = [renderer.render(cloud, camera, SIZE, RenderSettings()).color for camera in CAMERAS]
    return Exam(CAMERAS, SIZE, drawn)


def test_wrong_colors_are_found_again(renderer, cloud, exam):
    grey = with_constant_colors(cloud, torch.full((300, 3), 0.5))
    assert quality(grey, renderer, exam) < 27
    found = colors(grey, renderer, exam)
    assert quality(found, renderer, exam) > quality(grey, renderer, exam) + 6
    assert found.sh[:, 1:].equal(cloud.sh[:, 1:]) and found.opacities.equal(cloud.opacities)


def test_a_candidate_without_a_chance_is_not_examined_to_the_end(renderer, cloud, exam):
    grey = with_constant_colors(cloud, torch.full((300, 3), 0.5))
    alone = marks(grey, renderer, exam)
    assert len(alone) == len(CAMERAS) and quality(grey, renderer, exam) == pytest.approx(sum(alone) / len(alone))
    for lead, examined in ((HOPELESS - 0.1, len(CAMERAS)), (HOPELESS + 0.1, GLANCE)):
        assert marks(grey, renderer, exam, [mark + lead for mark in alone]) == alone[:examined]


def test_what_is_brighter_than_white_stays_as_bright(renderer, cloud):
    """Faint Gaussians three times as bright as white are how trained scenes draw highlights."""
    values = constant_colors(cloud)
    values[::7] = 3.0
    values[3::7] = -0.3
    bright = with_constant_colors(cloud.replaced(opacities=cloud.opacities * 0.3), values)
    assert_close(constant_colors(bright), values)
    own = [renderer.render(bright, camera, SIZE, RenderSettings()).color for camera in CAMERAS]
    assert quality(colors(bright, renderer, Exam(CAMERAS, SIZE, own)), renderer, Exam(CAMERAS, SIZE, own)) > 60


def test_conjugate_gradients_find_what_a_dense_solver_finds(renderer):
    """A scene of few Gaussians, its blending weights written out as a matrix, solved by torch.linalg."""
    few = random_cloud(6, seed=5, sh_degree=0)
    few = few.replaced(scales=few.scales * 6, opacities=few.opacities * 0.3 + 0.1)
    other = with_constant_colors(few, torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3)
    wanted = [renderer.render(other, camera, SIZE, RenderSettings()).color for camera in CAMERAS]
    columns = []
    for i in range(6):
        one = with_constant_colors(few, torch.eye(6)[:, i : i + 1].expand(6, 3))
        seen = [renderer.render(one, camera, SIZE, RenderSettings()).color[..., 0] for camera in CAMERAS]
        columns.append(torch.cat([picture.flatten() for picture in seen]))
    right = torch.cat([picture.reshape(-1, 3) for picture in wanted])
    weights = torch.stack(columns, 1)
    ridge = RIDGE * weights.sum(0).median() + 1e-3
    change = torch.linalg.solve(
        weights.T @ weights + ridge * torch.eye(6), weights.T @ (right - weights @ torch.full((6, 3), 0.5))
    )
    solved = 0.5 + change
    found = colors(with_constant_colors(few, torch.full((6, 3), 0.5)), renderer, Exam(CAMERAS, SIZE, wanted))
    assert_close(constant_colors(found), solved, rtol=0, atol=0.03)


def folded(cloud, wanted):
    """As if each Gaussian were a group of its own."""
    return Folded(cloud, wanted, np.arange(len(cloud), dtype=np.int32))


@pytest.mark.parametrize(("doubt", "left"), [(0.0, 0.35), (DOUBT, 0.6)])
def test_calibration_gives_each_gaussian_the_weight_that_is_wanted(doubt, left, renderer, cloud, monkeypatch):
    monkeypatch.setattr(polish, "DOUBT", doubt)
    seen = renderer.significance(cloud, CAMERAS, SCORING_SIZE).weight
    dim = folded(cloud.replaced(opacities=cloud.opacities * 0.5), seen)
    corrected = calibrate(dim, renderer, CAMERAS)
    errors = [
        (renderer.significance(each, CAMERAS, SCORING_SIZE).weight - seen).abs().sum()
        for each in (dim.cloud, corrected)
    ]
    assert errors[1] < left * errors[0]


def test_what_is_hardly_met_is_hardly_corrected(renderer, cloud):
    """All are to weigh a quarter; those of which the views met less than others of their size stay nearer to it."""
    seen = renderer.significance(cloud, CAMERAS, SCORING_SIZE).weight
    ratio = calibrate(folded(cloud, 0.25 * seen), renderer, CAMERAS).opacities / cloud.opacities
    met = seen / torch.from_numpy(exposure(cloud, seen))
    least, most = (met.topk(75, largest=largest).indices for largest in (False, True))
    assert ratio[most].mean() < 0.4 and ratio[least].mean() > ratio[most].mean() + 0.08


def test_what_opacity_cannot_carry_goes_into_the_size_within_bounds(renderer, cloud):
    seen = renderer.significance(cloud, CAMERAS, SCORING_SIZE).weight
    corrected = calibrate(folded(cloud, 100 * seen), renderer, CAMERAS)
    growth = corrected.scales / cloud.scales
    assert growth.min() >= 1 and 1.4 < growth.max() <= 1.5 + 1e-5
    assert corrected.opacities.max() <= 0.99


def test_a_short_fit_mends_a_disturbed_scene(renderer, cloud, exam):
    generator = torch.Generator().manual_seed(3)
    disturbed = cloud.replaced(
        means=cloud.means + 0.02 * torch.randn(300, 3, generator=generator),
        scales=cloud.scales * torch.exp(0.3 * torch.randn(300, 3, generator=generator)),
        opacities=(cloud.opacities * 0.8).clamp(0.01, 0.99),
    )
    mended = refine(disturbed, renderer, exam)
    assert quality(mended, renderer, exam) > quality(disturbed, renderer, exam) + 1
    assert_close(mended.quats.norm(dim=1), torch.ones(300))


def test_sizes_alone_are_refined_where_only_they_are_asked_for(renderer, cloud, exam):
    disturbed = cloud.replaced(scales=cloud.scales * 1.3)
    mended = refine(disturbed, renderer, exam, rates=SIZES)
    for name in ("means", "quats", "opacities", "sh"):
        assert_close(getattr(mended, name), getattr(disturbed, name), rtol=0, atol=1e-4)
    assert (mended.scales - cloud.scales).abs().mean() < 0.8 * (disturbed.scales - cloud.scales).abs().mean()
    assert quality(mended, renderer, exam) > quality(disturbed, renderer, exam) + 1


def test_a_fit_leaves_alone_what_is_right_already(renderer, cloud, exam):
    assert quality(refine(cloud, renderer, exam), renderer, exam) > 45


@pytest.mark.parametrize("work", [colors, refine])
def test_work_can_be_cancelled(renderer, cloud, exam, work):
    def report(fraction, text):
        assert 0 <= fraction <= 1
        if fraction > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        work(cloud, renderer, exam, report)


def test_what_judges_was_never_learnt_from(renderer, cloud):
    many = [look_at((3, 0.1 * i, 3), (0, 0, 0), (0, -1, 0)) for i in range(2 * HELD_OUT)]
    pictures = take_pictures(cloud, many, 0, renderer)
    assert len(pictures.exam.cameras) == 2 and not set(pictures.exam.cameras) & set(pictures.study.cameras)
    assert pictures.exam.pictures[0].shape == (EXAM_SIZE[1], EXAM_SIZE[0], 3)
    few = take_pictures(cloud, many[:3], 0, renderer)
    assert few.exam.cameras == few.study.cameras == tuple(many[:3])


def test_pictures_taken_while_scoring_are_not_drawn_again(renderer, cloud):
    cameras = [look_at((math.sin(a), 0.1, -3 * math.cos(a)), (0, 0, 0), (0, -1, 0)) for a in np.linspace(0, 1, 13)]
    album = empty_album(cameras, 0)
    measure(cloud, renderer, cameras, album=album)
    drawn = []

    class Counting:
        device = renderer.device

        def render(self, cloud, camera, size, settings):
            drawn.append(camera)
            return renderer.render(cloud, camera, size, settings)

    found = take_pictures(cloud, cameras, 0, Counting(), album=album)
    expected = take_pictures(cloud, cameras, 0, renderer)
    assert drawn == list(expected.exam.cameras) and len(found.study.cameras) == 12
    for one, other in ((found.study, expected.study), (found.exam, expected.exam)):
        assert all(torch.equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))
    assert empty_album(cameras, 1) == {}, "scoring draws colours of degree 0"


def test_uncut_pictures_are_drawn_once(renderer, cloud, monkeypatch):
    cameras = [look_at((3, 0.1 * i, 3), (0, 0, 0), (0, -1, 0)) for i in range(HELD_OUT)]
    drawn = []
    monkeypatch.setattr(guard, "take_pictures", lambda *given: drawn.append(1) or take_pictures(*given))
    first, second = (cached_pictures(cloud, cameras, 0, renderer) for _ in range(2))
    assert len(drawn) == 1
    for one, other in ((first.study, second.study), (first.exam, second.exam)):
        assert one.cameras == other.cameras and one.size == other.size
        assert all(a.equal(b) and a.dtype == b.dtype for a, b in zip(one.pictures, other.pictures, strict=True))
    # Another scene, and the same one with more of its harmonics, look different.
    cached_pictures(cloud.replaced(means=cloud.means + 0.1), cameras, 0, renderer)
    cached_pictures(cloud, cameras, 1, renderer)
    assert len(drawn) == 3


def test_harmonics_that_are_drawn_tell_scenes_apart(cloud):
    assert cloud.sh.shape[1] > 1
    other = cloud.replaced(sh=torch.cat([cloud.sh[:, :1], cloud.sh[:, 1:] + 0.1], dim=1))
    same, differs = ([key_of(each, [], (1, 1), "", sh_degree) for each in (cloud, other)] for sh_degree in (0, 1))
    assert same[0] == same[1] and differs[0] != differs[1] and same[0] != differs[0]
