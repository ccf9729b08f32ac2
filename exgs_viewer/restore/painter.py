"""GaussPainter (ExGS 4.2): one-step latent diffusion that repairs a rendered picture, the whole network in one file.

    inputs --encoder--> z --UNet at a fixed timestep--> eps --formula--> z0 --decoder, skips of the encoder--> picture

Nothing is sampled and no noise is added: z is taken for a latent that is noisy at TIMESTEP, and its clean form is
computed in one pass. What is missing (1 - alpha) is told to the UNet through its context tokens. Two presets run the
same code: `sd-turbo` has the architecture of the paper (Stable Diffusion Turbo's UNet, the tiny autoencoder TAESD),
`lite` is small enough for a CPU and sees more than colours.

Parts are diffusers' own modules. Their `forward` is left alone; the autoencoder's flat lists of layers are walked
here, since the skips tap them. The paper leaves the skips' layout open; it follows img2img-turbo and Difix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

LATENT_STRIDE = 8
"""Pixels along one side of a latent cell."""
TRAIN_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012
"""Stable Diffusion's noise schedule, linear in the square roots of beta."""
TIMESTEP = 199
"""Where on it z is taken to lie: weak noise (+4.9 dB), so that an untrained UNet leaves the picture recognisable."""
MASK_GRID = (7, 11)
"""Cells of the mask, rows and columns: one for each of the 77 tokens of Stable Diffusion's prompts."""
POOLED_GRID = (8, 8)
"""Cells of the mask where it becomes one vector for all tokens, as the paper has it."""
PRETRAINED_SKIP = 1e-5
"""Start of a skip's weights beside a pre-trained decoder, as in img2img-turbo: next to nothing."""

InputName = Literal["color", "fill", "alpha", "depth", "retention"]
CHANNELS: dict[InputName, int] = {"color": 3, "fill": 3, "alpha": 1, "depth": 1, "retention": 1}


@dataclass(frozen=True)
class PainterConfig:
    """Everything that fixes the architecture; stored beside the weights as config.json."""

    preset: str
    unet: dict[str, Any] = field(hash=False)
    """Arguments of UNet2DConditionModel, but for `in_channels`."""
    autoencoder: dict[str, Any] = field(hash=False)
    """Arguments of AutoencoderTiny, but for its picture channels."""
    inputs: tuple[InputName, ...] = ("color",)
    """What the encoder sees."""
    mask_mode: Literal["none", "pooled", "tokens"] = "pooled"
    """How 1 - alpha joins the context: one vector added to all tokens (the paper; it cannot tell places apart), or one
    cell of the picture for each token."""
    mask_latent: bool = False
    """Whether the UNet also sees the mask at latent size."""
    pixel_shuffle: int = 1
    """Side of the pixel blocks that become channels before the encoder and pixels again after the decoder."""
    residual: bool = False
    """Whether the decoder says what to add to the rendered picture, and how much of the fill to take where it differs,
    instead of being the picture: the fill is wrong where the uncut scene has holes of its own."""
    plain_sums: bool = False
    """Whether the sums in the autoencoder's blocks stay as they are, instead of going through a ReLU as in TAESD: when
    trained from nothing, channels that it closes never open again (after 1,700 steps a whole layer was closed)."""
    prompt_tokens: int = 77
    """Context tokens; with mask_mode `tokens` as many as MASK_GRID has cells."""
    prompt_learned: bool = False
    """Whether they start at random to be learnt, instead of at zero to be replaced by a caption's features."""
    timestep: int = TIMESTEP
    version: int = 1

    @property
    def told(self) -> int:
        """Channels that the decoder gives for each pixel: colour, and with `residual` the logit of the fill's share."""
        return 4 if self.residual else 3


LITE = PainterConfig(
    preset="lite",
    unet={
        "out_channels": 16,
        "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        "block_out_channels": (64, 96, 160),
        "layers_per_block": 1,
        "attention_head_dim": 4,  # diffusers' name for the number of heads
        "cross_attention_dim": 64,
        "use_linear_projection": True,
    },
    autoencoder={
        "latent_channels": 16,
        "act_fn": "silu",
        "encoder_block_out_channels": (32, 32, 32),
        "decoder_block_out_channels": (32, 32, 32),
        "num_encoder_blocks": (1, 3, 3),
        "num_decoder_blocks": (3, 3, 1),
    },
    inputs=("color", "fill", "alpha", "depth", "retention"),
    mask_mode="tokens",
    mask_latent=True,
    pixel_shuffle=2,
    residual=True,
    plain_sums=True,
    prompt_learned=True,
)
"""7.2 M parameters and 13.1 G multiplications at 512 x 512, a fortieth of what sd-turbo needs."""

SD_TURBO = PainterConfig(
    preset="sd-turbo",
    unet={
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),  # diffusers' name for the number of heads
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    autoencoder={"latent_channels": 4},
)
"""The paper's: 865.9 M parameters in the UNet, 2.4 M in TAESD, whose latents already are in the UNet's space."""

PRESETS = {config.preset: config for config in (LITE, SD_TURBO)}


@dataclass(frozen=True, eq=False)
class Frames:
    """A batch of rendered pictures and what is known about them; height and width are multiples of LATENT_STRIDE."""

    color: Tensor
    """[B, 3, H, W] in [0, 1], display sRGB over black."""
    fill: Tensor
    """[B, 3, H, W] in [0, 1]. The same with its holes closed by the gated push-pull fill (restore/inpaint.py)."""
    alpha: Tensor
    """[B, 1, H, W] in [0, 1]. Coverage."""
    depth: Tensor
    """[B, 1, H, W] in [0, 1). Distance d as d / (d + median of the picture); 0 where nothing is."""
    retention: Tensor
    """[B] in (0, 1]. Share of the Gaussians that was kept."""

    def channels(self, names: Sequence[InputName]) -> Tensor:
        """[B, C, H, W]. The named inputs, one after the other."""
        known = {"color": self.color, "fill": self.fill, "alpha": self.alpha, "depth": self.depth}
        known["retention"] = self.thinning().to(self.alpha)[:, None, None, None].expand_as(self.alpha)
        return torch.cat([known[name] for name in names], 1)

    def thinning(self) -> Tensor:
        """[B]. Retention as the network sees it: 0 for an uncut scene, 1 for every hundredth Gaussian."""
        return -torch.log10(self.retention.clamp(1e-4, 1)) / 2


@dataclass(frozen=True, eq=False)
class Painted:
    """What one pass makes of a batch."""

    picture: Tensor
    """[B, 3, H, W]. Meant for [0, 1], not clamped, so that training sees by how much it misses."""
    latent: Tensor
    """[B, L, H / 8, W / 8]. The predicted clean latent z0."""


FILL_AT_FIRST = -2.0
"""Logit of the share of the fill that an untrained painter takes: 0.12. Beginning with more of it, painters never quite
unlearnt to spoil what was good (measured: -0.23 dB after 200 steps on crops of 30-40 dB, against -0.13)."""
FAINT = 0.02
"""Changes below this, 5 of 255 steps, are taken for the network's own noise unless it insists (`cored`). With 0.01
crops of 30-40 dB lost 0.2 dB, with 0.02 a quarter of that, and the others kept nine tenths of their gain."""
WHISPER = 0.1
"""What is left of the faintest: enough for a network that says nothing yet to learn to speak."""


class Painter(nn.Module):
    """The network. Its children are what a checkpoint's prefixes name: unet, vae, skip, mask, prompt_embeds."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.config = config
        block = config.pixel_shuffle**2
        seen = sum(CHANNELS[name] for name in config.inputs)
        self.vae = AutoencoderTiny(in_channels=seen * block, out_channels=config.told * block, **config.autoencoder)
        if config.plain_sums:
            open_sums(self.vae)
        latents = config.autoencoder["latent_channels"]
        self.unet = UNet2DConditionModel(in_channels=latents + config.mask_latent, **config.unet)
        self.encoder_taps, self.decoder_taps = encoder_taps(self.vae), decoder_taps(self.vae)
        self.skip, self.mask = fresh_parts(config)
        assert len(self.encoder_taps) == len(self.decoder_taps) == len(self.skip)
        context = config.unet["cross_attention_dim"]
        self.prompt_embeds = nn.Parameter(torch.zeros(1, config.prompt_tokens, context))
        self.signal, self.noise = schedule(config.timestep)
        self.folded = False
        """Whether the UNet's weights hold timestep and prompt (folded.py): it is told only of the mask then."""
        if config.prompt_learned:
            nn.init.normal_(self.prompt_embeds, std=0.02)
        if config.residual:
            self.silence()

    def forward(self, frames: Frames) -> Painted:
        """Repair a batch."""
        latent, skips = self.encode(frames)
        latent = self.denoise(latent, frames)
        return Painted(self.composed(self.decode(latent, skips), frames.color, frames.fill), latent)

    def encode(self, frames: Frames) -> tuple[Tensor, list[Tensor]]:
        """The latent [B, L, H / 8, W / 8] and the activations that the skips carry on, from the finest to the coarsest.

        Pictures go in as [0, 1]: AutoencoderTiny's own `forward` takes [-1, 1] and undoes it first.
        """
        hidden, skips = frames.channels(self.config.inputs), []
        if self.config.pixel_shuffle > 1:
            hidden = F.pixel_unshuffle(hidden, self.config.pixel_shuffle)
        for number, layer in enumerate(self.vae.encoder.layers):
            hidden = layer(hidden)
            if number in self.encoder_taps:
                skips.append(hidden)
        return hidden, skips

    def denoise(self, latent: Tensor, frames: Frames) -> Tensor:
        """z0 of z: (z - sigma eps) / sqrt(alpha bar), what DDPMScheduler.step returns for its last step, unclipped."""
        mask = 1 - frames.alpha
        seen = latent
        if self.config.mask_latent:
            seen = torch.cat([latent, F.adaptive_avg_pool2d(mask, latent.shape[2:])], 1)
        time = torch.full((len(latent),), self.config.timestep, device=latent.device)
        context = self.mask.features(mask)
        if not self.folded:
            context = self.prompt_embeds.expand(len(latent), -1, -1) + self.mask.told(context)
        eps = self.unet(seen, time, encoder_hidden_states=context, return_dict=False)[0]
        return (latent - self.noise * eps) / self.signal

    def decode(self, latent: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """[B, `told`, H, W] of a latent, helped by the encoder's activations where they are given."""
        hidden = torch.tanh(latent / 3) * 3  # TAESD's soft clamp
        adapters = list(zip(self.skip, skips, strict=True))[::-1] if len(skips) else []
        for number, layer in enumerate(self.vae.decoder.layers):
            hidden = layer(hidden)
            if adapters and number in self.decoder_taps:
                adapter, carried = adapters[self.decoder_taps.index(number)]
                hidden = hidden + adapter(carried)
        return F.pixel_shuffle(hidden, self.config.pixel_shuffle) if self.config.pixel_shuffle > 1 else hidden

    def composed(self, decoded: Tensor, color: Tensor, fill: Tensor) -> Tensor:
        """[B, 3, H, W] from what `decode` gives and the pictures that it was told of."""
        if not self.config.residual:
            return decoded
        return color + cored(decoded[:, 3:].sigmoid() * (fill - color) + decoded[:, :3])

    @torch.no_grad()
    def silence(self) -> None:
        """Let the decoder begin with nothing to add: with `residual`, nearly the rendered picture comes out."""
        last = self.vae.decoder.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        last.bias[3 * self.config.pixel_shuffle**2 :] = FILL_AT_FIRST


def open_sums(vae: AutoencoderTiny) -> None:
    """Take the ReLU off the sums of its blocks, and let each block begin with nothing to add."""
    for block in vae.modules():
        if isinstance(block, AutoencoderTinyBlock):
            block.fuse = nn.Identity()
            nn.init.zeros_(block.conv[-1].weight)
            nn.init.zeros_(block.conv[-1].bias)


class MaskEmbedding(nn.Module):
    """The mask as something to add to the context tokens; zero at the start of training."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.mode = config.mask_mode
        width = config.unet["cross_attention_dim"]
        if self.mode == "pooled":
            self.hidden, self.out = nn.Linear(math.prod(POOLED_GRID), width), nn.Linear(width, width)
        elif self.mode == "tokens":
            assert config.prompt_tokens == math.prod(MASK_GRID)
            self.out = nn.Linear(1, width)
        if self.mode != "none":
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def features(self, mask: Tensor) -> Tensor:
        """[B, 1, H, W] in [0, 1] -> [B, 1 or tokens, F]: what is known of the mask, before the last layer."""
        if self.mode == "pooled":
            return F.silu(self.hidden(F.adaptive_avg_pool2d(mask, POOLED_GRID).flatten(1)))[:, None]
        if self.mode == "tokens":
            return F.adaptive_avg_pool2d(mask, MASK_GRID).flatten(2).transpose(1, 2)
        return mask.new_zeros(len(mask), 1, 1)

    def told(self, features: Tensor) -> Tensor | float:
        """What `features` add to the context; 0 where the mask plays no part."""
        return 0.0 if self.mode == "none" else self.out(features)

    def forward(self, mask: Tensor) -> Tensor | float:
        """[B, 1, H, W] in [0, 1] -> [B, 1 or tokens, width]; 0 where the mask plays no part."""
        return self.told(self.features(mask))


def fresh_parts(config: PainterConfig) -> tuple[nn.ModuleList, MaskEmbedding]:
    """Skips and mask embedding where training starts: beside a pre-trained decoder skips carry next to nothing."""
    width, *others = config.autoencoder.get("encoder_block_out_channels", (64, 64, 64, 64))
    skips = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in (width, *others))
    if not config.residual:
        for adapter in skips:
            nn.init.constant_(adapter.weight, PRETRAINED_SKIP)
    return skips, MaskEmbedding(config)


def cored(change: Tensor) -> Tensor:
    """A change of the picture without its faint parts, smoothly: a picture that lacks next to nothing stays as it is.

    Coring, as video denoisers do it: noise of a thousandth would cost a picture of 40 dB a tenth of a dB.
    """
    square = change.square()
    return change * (square + WHISPER * FAINT**2) / (square + FAINT**2)


def schedule(timestep: int) -> tuple[float, float]:
    """Shares of signal, sqrt(alpha bar), and noise, sqrt(1 - alpha bar), in a latent at `timestep`."""
    low, high = math.sqrt(BETA_START), math.sqrt(BETA_END)
    kept = math.prod(1 - (low + (high - low) * t / (TRAIN_STEPS - 1)) ** 2 for t in range(timestep + 1))
    return math.sqrt(kept), math.sqrt(1 - kept)


def encoder_taps(vae: AutoencoderTiny) -> list[int]:
    """Layers of the encoder after which an octave ends: what its skip takes."""
    layers = list(vae.encoder.layers)
    return [i - 1 for i, layer in enumerate(layers) if i and isinstance(layer, nn.Conv2d)]


def decoder_taps(vae: AutoencoderTiny) -> list[int]:
    """Layers of the decoder after which the blocks of an octave begin: what its skip is added to, coarsest first."""
    layers = list(vae.decoder.layers)
    return [1, *(i + 1 for i, layer in enumerate(layers) if isinstance(layer, nn.Upsample))]


def decoder_convolutions(vae: AutoencoderTiny) -> list[str]:
    """Names of the decoder's convolutions, the ones that LoRA adapts (A.2); the skips are trained in full."""
    return [name for name, module in vae.decoder.named_modules() if isinstance(module, nn.Conv2d)]
