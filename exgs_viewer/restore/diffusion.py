"""What diffusers' inpainting pipelines need to be a Restorer: they paint anew what the picture does not cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from exgs_viewer import networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Stale, hub, never, weights
from exgs_viewer.settings import RestoreSettings

COVERED = 0.5
"""Coverage from which a pixel is kept as it is: an inpainting model knows only whole pixels, kept or painted."""
STEPS = 30
SEED = 0
"""The same noise for every picture, so that what is painted changes no more than it must."""
PROMPT = ""
"""Nobody says what is in the scene; without words, guidance by words has nothing to do and is left out."""
STRIDE = 8
INPUTS = 9
"""Channels of the UNet: the noisy latent, the mask, and the latent of what is kept."""


class StaleError(Exception):
    """Nobody wants the picture any more."""


@dataclass(frozen=True, eq=False)
class InpaintingRestorer:
    """Restorer with one of diffusers' inpainting pipelines."""

    pipeline: Any
    name: str
    label: str

    @torch.no_grad()
    def restore(
        self, output: RenderOutput, settings: RestoreSettings, stale: Stale = never, retention: float | None = None
    ) -> Tensor | None:
        """See Restorer. Covered pixels come back as they are; depth and `retention` are of no use here."""
        image = output.color
        missing = (output.alpha < COVERED).to(image)
        if not missing.any() or settings.strength == 0:
            return image
        try:
            painted = self._painted(image, missing, stale)
        except StaleError:
            return None
        return torch.lerp(image, painted, settings.strength * missing[..., None])

    def _painted(self, image: Tensor, missing: Tensor, stale: Stale) -> Tensor:
        def check(pipeline: Any, step: int, time: Any, tensors: dict) -> dict:
            if stale():
                raise StaleError
            return tensors

        height, width = missing.shape
        down, along = -height % STRIDE, -width % STRIDE
        both = torch.cat([image, missing[..., None]], 2).movedim(2, 0)[None]
        both = F.pad(both, (0, along, 0, down), mode="replicate").to(self.pipeline.unet.device)
        result = self.pipeline(
            prompt=PROMPT,
            image=both[:, :3],
            mask_image=both[:, 3:],
            height=height + down,
            width=width + along,
            num_inference_steps=STEPS,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(SEED),
            output_type="pt",
            callback_on_step_end=check,
        )
        return result.images[0].movedim(0, 2)[:height, :width].to(image).clamp(0, 1)


def open_pipeline(name: str, repositories: Sequence[str], label: str) -> InpaintingRestorer:
    """The pipeline in networks.folders(name), or in Hugging Face's cache. Raises WeightsError in words."""
    folder = hub.find(name, networks.folders(name), repositories, ["model_index.json", "unet/config.json"])
    quiet_transformers(name)
    from diffusers import StableDiffusionInpaintPipeline

    channels = weights.read_json(folder / "unet" / "config.json").get("in_channels")
    if channels != INPUTS:
        raise WeightsError(f"{folder}: its UNet takes {channels} channels, one for inpainting {INPUTS}: another model.")
    variant = "fp16" if not (folder / "unet" / f"{weights.MODEL}.safetensors").exists() else None
    try:
        pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except MemoryError as error:
        raise WeightsError(f"{folder}: there is not enough memory to load '{name}'.") from error
    except Exception as error:  # diffusers raises anything: OSError, ValueError, KeyError, its own.
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{folder}: '{name}' cannot be loaded ({reason}); get all its safetensors again.") from error
    pipeline.set_progress_bar_config(disable=True)
    place = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    return InpaintingRestorer(pipeline.to(*place), name, label)


def quiet_transformers(name: str) -> None:
    """Have transformers, which reads prompts, without chatter. Raises WeightsError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise WeightsError(f"The restorer '{name}' reads a prompt; `pip install transformers` first.") from error
    from diffusers.utils import logging

    for chatter in (transformers.logging, logging):
        chatter.set_verbosity_error()
        chatter.disable_progress_bar()
