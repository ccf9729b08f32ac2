"""Constants folded into a painter's weights: it paints as before, with less to do."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch.testing import assert_close

from exgs_viewer.restore.folded import fold
from tests.restore.test_painter import SMALL, TINY_TURBO, frames, painter, stirred


@pytest.mark.parametrize(
    "config",
    [SMALL, TINY_TURBO, *(replace(SMALL, mask_mode=mode) for mode in ("pooled", "none"))],
    ids=("tokens", "turbo", "pooled", "none"),
)
@torch.no_grad()
def test_a_folded_painter_paints_the_same(config):
    network, seen = stirred(painter(config)), frames(batch=2)
    expected = network(seen)
    found = fold(copy.deepcopy(network))(seen)
    assert_close(found.latent, expected.latent, rtol=1e-5, atol=1e-5)
    scale = float(expected.picture.abs().max())
    assert_close(found.picture / scale, expected.picture / scale, rtol=0, atol=1e-5)


@torch.no_grad()
def test_timestep_and_prompt_are_not_computed_any_more():
    network = fold(stirred(painter(SMALL)))
    assert network.folded and fold(network) is network
    told = []
    for module in network.unet.modules():
        if isinstance(module, Attention) and module.is_cross_attention:
            module.to_k.register_forward_hook(lambda _, given, answer: told.append((given[0].shape, answer.shape)))
    network.unet.time_proj.register_forward_hook(lambda *_: told.append("time"))
    network(frames())
    assert ((1, 77, 1), (1, 77, 64)) in told and network.unet.time_embedding(torch.zeros(1, 32)) is None


def test_a_unet_that_needs_the_embedding_is_left_alone():
    config = replace(SMALL, unet={**SMALL.unet, "resnet_time_scale_shift": "scale_shift"})
    network, seen = stirred(painter(config)), frames()
    with torch.no_grad():
        expected = network(seen).picture
        found = fold(network)
        assert not found.folded
        assert torch.equal(found(seen).picture, expected)
