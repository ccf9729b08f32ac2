"""A part of the picture before: noise fades, surfaces stay where they are, nothing is made up where none was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.restore.steady import KEPT, Shown, steadied, warp
from exgs_viewer.scene.camera import fly
from tests.evaluate.test_flicker import VIEWS, plane


@pytest.fixture(scope="module")
def pair():
    """The same plane from two places, a few pixels apart."""
    cameras = VIEWS[0], fly(VIEWS[0], 0.06, 0.02, 0.0)
    return [(plane(camera), camera) for camera in cameras]


def test_a_picture_without_a_predecessor_is_itself(pair):
    (output, camera), _ = pair
    assert steadied(output, camera, output.color, None).color is output.color


def test_a_world_that_stands_still_looks_as_without(pair):
    (before, camera_before), (now, camera) = pair
    shown = steadied(now, camera, now.color, Shown(before, camera_before, before.color))
    assert_close(shown.color, now.color, rtol=0, atol=2e-3)


def test_noise_becomes_less_by_as_much_as_two_pictures_have_in_common(pair):
    (_, camera_before), (now, _) = pair
    noise = 0.1 * torch.randn(2, *now.color.shape, generator=torch.Generator().manual_seed(0))
    last = Shown(now, camera_before, now.color + noise[0])  # from the same place: no blur of moving in it
    shown = steadied(now, camera_before, now.color + noise[1], last)
    left = (shown.color - now.color)[2:-2, 2:-2].std() / 0.1
    assert float(left) == pytest.approx((KEPT**2 + (1 - KEPT) ** 2) ** 0.5, rel=0.02)


def test_what_was_hidden_or_outside_is_not_blended(pair):
    (before, camera_before), (now, camera) = pair
    wrong = Shown(before, camera_before, torch.zeros_like(before.color))
    step = warp(now, camera, before, camera_before)
    shown = steadied(now, camera, now.color, wrong).color
    assert torch.equal(shown[~step.seen], now.color[~step.seen]) and step.seen.any() and (~step.seen).any()
    assert_close(shown[step.seen], (1 - KEPT) * now.color[step.seen], rtol=0, atol=1e-5)
    behind = replace(before, depth=before.depth * 1.5)
    assert torch.equal(steadied(now, camera, now.color, replace(wrong, output=behind)).color, now.color)


def test_a_picture_of_another_size_gives_nothing(pair):
    (before, camera_before), (now, camera) = pair
    smaller = Shown(before, camera_before, before.color[:-1])
    assert steadied(now, camera, now.color, smaller).color is now.color
