"""The painter's network: the formula for the clean latent, the layers it walks, where it starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from exgs_viewer.restore.painter import (
    FAINT,
    FILL_AT_FIRST,
    LITE,
    SD_TURBO,
    Frames,
    Painter,
    PainterConfig,
    cored,
    decoder_convolutions,
    schedule,
)

SMALL_UNET = {"block_out_channels": (32, 32, 64), "cross_attention_dim": 16, "attention_head_dim": 2}
SMALL = replace(LITE, unet={**LITE.unet, **SMALL_UNET})
"""lite with a UNet that is quick."""
TINY_TURBO = replace(
    SD_TURBO,
    unet={
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
        "use_linear_projection": True,
    },
)
"""sd-turbo with TAESD at its full size and a UNet that is quick."""


def painter(config: PainterConfig, seed: int = 0) -> Painter:
    torch.manual_seed(seed)
    return Painter(config).eval()


def frames(batch: int = 1, height: int = 64, width: int = 96, seed: int = 0) -> Frames:
    random = torch.Generator().manual_seed(seed)
    color, fill = torch.rand(2, batch, 3, height, width, generator=random)
    alpha, depth = torch.rand(2, batch, 1, height, width, generator=random)
    return Frames(color, fill, alpha, depth, torch.rand(batch, generator=random) * 0.9 + 0.05)


def stirred(network: Painter) -> Painter:
    """All weights a little off where they start, so that nothing is zero any more."""
    torch.manual_seed(7)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return network


def test_the_clean_latent_is_what_the_ddpm_scheduler_steps_to():
    scheduler = DDPMScheduler(
        1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    scheduler.set_timesteps(timesteps=[199])
    latent, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    signal, noise = schedule(199)
    assert_close((latent - noise * eps) / signal, scheduler.step(eps, 199, latent).prev_sample, rtol=1e-4, atol=1e-5)
    assert (signal, noise) == pytest.approx((0.869044, 0.494734), abs=1e-6)
    assert signal**2 + noise**2 == pytest.approx(1)


@torch.no_grad()
def test_walking_the_layers_is_what_the_autoencoder_does_itself():
    network, seen = painter(TINY_TURBO), frames()
    latent, skips = network.encode(seen)
    assert_close(latent, network.vae.encode(seen.color * 2 - 1).latents)
    assert_close(network.decode(latent), network.vae.decode(latent).sample / 2 + 0.5)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(64, 64 // s, 96 // s) for s in (1, 2, 4, 8)]


def test_skips_tap_taesd_where_each_octave_ends_and_begins():
    network = painter(TINY_TURBO)
    assert (network.encoder_taps, network.decoder_taps) == ([1, 5, 9, 13], [1, 6, 11, 16])
    assert len(decoder_convolutions(network.vae)) == 35


@torch.no_grad()
@pytest.mark.parametrize("octave", range(3))
def test_each_skip_carries_its_own_octave(octave):
    network, seen = painter(SMALL), frames()
    torch.nn.init.normal_(network.vae.decoder.layers[-1].weight)
    latent, skips = network.encode(seen)
    for number, adapter in enumerate(network.skip):
        adapter.weight.mul_(number == octave)
    silenced = [skip * (number == octave) for number, skip in enumerate(skips)]
    with_one = network.decode(latent, skips)
    assert torch.equal(with_one, network.decode(latent, silenced))
    assert not torch.allclose(with_one, network.decode(latent))


@torch.no_grad()
def test_an_untrained_lite_takes_a_fixed_share_of_the_fill_and_adds_nothing():
    seen = frames(batch=2)
    share = torch.tensor(FILL_AT_FIRST).sigmoid()
    assert_close(painter(LITE)(seen).picture, seen.color + cored(share * (seen.fill - seen.color)))
    whole = replace(seen, fill=seen.color)
    assert torch.equal(painter(LITE)(whole).picture, seen.color)  # nothing was missing: bit by bit what came in


@pytest.mark.parametrize("config", [SMALL, TINY_TURBO])
def test_only_a_painter_that_begins_from_nothing_keeps_closed_channels_in_reach(config):
    network = painter(config)
    block = network.vae.decoder.layers[2]
    torch.nn.init.constant_(block.conv[-1].bias, -100)
    torch.nn.init.normal_(network.vae.decoder.layers[-1].weight, std=0.01)
    network(frames()).picture.sum().backward()
    assert bool(block.conv[-1].bias.grad.any()) == config.plain_sums
    assert network.config.plain_sums == (config.preset == "lite")


def test_coring_takes_what_is_faint_and_leaves_what_is_plain():
    faint, plain = torch.linspace(0, 0.1 * FAINT, 11), torch.linspace(10 * FAINT, 1, 11)
    assert (cored(faint) <= 0.11 * faint).all() and (cored(plain) > 0.99 * plain).all()
    every = torch.linspace(-1, 1, 2001, dtype=torch.float64, requires_grad=True)
    assert torch.equal(cored(-every), -cored(every))
    (slope,) = torch.autograd.grad(cored(every).sum(), every)
    assert (slope > 0.09).all()  # monotonous, and never deaf to the gradient, not even at 0


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, TINY_TURBO])
def test_painting_is_deterministic_and_each_picture_its_own(config):
    network, both = stirred(painter(config)), frames(batch=2)
    first = Frames(*(getattr(both, name)[:1] for name in vars(both)))
    picture = network(both).picture
    assert torch.equal(picture, network(both).picture)
    # Of one picture and of two the sums are taken in another order: in float32 that shows on some processors.
    network = network.double()
    exact = [Frames(*(getattr(seen, name).double() for name in vars(seen))) for seen in (first, both)]
    assert_close(network(exact[0]).picture, network(exact[1]).picture[:1], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(picture[0], picture[1], atol=0.01)


@torch.no_grad()
@pytest.mark.parametrize("name", ["color", "fill", "alpha", "depth", "retention"])
def test_lite_sees_every_input(name):
    network, seen = stirred(painter(SMALL)), frames()
    other = replace(seen, **{name: getattr(frames(seed=1), name)})
    change = network(seen).picture - seen.fill - (network(other).picture - other.fill)
    assert change.abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize(("mode", "tokens"), [("pooled", 1), ("tokens", 77)])
def test_an_untrained_mask_changes_no_token_and_a_trained_one_does(mode, tokens):
    network = painter(replace(TINY_TURBO, mask_mode=mode))
    mask = torch.rand(2, 1, 64, 96)
    assert network.mask(mask).shape == (2, tokens, 16) and not network.mask(mask).any()
    stirred(network)
    assert not torch.allclose(network.mask(mask)[0], network.mask(mask)[1])


@torch.no_grad()
def test_only_separate_tokens_tell_the_mask_s_places_apart():
    """One vector added to all tokens shifts every key alike, which softmax does not see (research/restoration.md)."""
    left, right = torch.zeros(2, 1, 1, 64, 88)
    left[..., :40], right[..., 48:] = 1, 1
    network = stirred(painter(replace(TINY_TURBO, mask_mode="tokens")))
    tokens = network.mask(left)[0].reshape(7, 11, 16)
    assert_close(tokens[:, :5].flatten(0, 1), tokens[:1, :1].expand(7, 5, 16).flatten(0, 1))
    assert not torch.allclose(tokens[0, 0], tokens[0, 10], atol=1e-3)


@torch.no_grad()
def test_a_latent_mask_is_seen_by_the_unet():
    network, seen = painter(replace(TINY_TURBO, mask_latent=True, mask_mode="none")), frames()
    uncovered = replace(seen, alpha=torch.zeros_like(seen.alpha))
    assert not torch.equal(network(seen).picture, network(uncovered).picture)
    network.unet.conv_in.weight[:, -1:] = 0
    assert torch.equal(network(seen).picture, network(uncovered).picture)


def test_the_presets_have_the_sizes_they_are_known_for():
    with torch.device("meta"):
        lite, turbo = Painter(LITE), Painter(SD_TURBO)
    assert count(turbo.unet) == 865_910_724
    assert count(turbo.vae) == 2_445_063
    assert count(turbo.skip) == 4 * 64 * 64
    assert 2 * count(lite) < 16e6


def count(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())
