"""What is trained: lite from nothing; sd-turbo from its base parts, the decoder by low-rank changes only (A.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from exgs_viewer.errors import WeightsError
from exgs_viewer.restore.painter import PRESETS, SD_TURBO, Painter, decoder_convolutions

RANK = 4
"""Of the low-rank changes; they count in full (scale 1)."""
FRESH = 5.0
"""How much faster than the pre-trained UNet what starts from nothing learns."""


def subject(preset: str) -> Painter:
    """A painter to train, its frozen parts marked. Raises WeightsError where base parts or peft are missing."""
    if preset != SD_TURBO.preset:
        return Painter(PRESETS[preset])
    from exgs_viewer.restore.sd_turbo import find_base, load_base

    return adapted(load_base(*find_base()))


def adapted(painter: Painter) -> Painter:
    """The painter with its autoencoder frozen but for low-rank changes, Gaussian at the start, of the decoder."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise WeightsError(
            f"Training sd-turbo needs the package peft ({error}): pip install 'exgs-viewer[train]'."
        ) from error
    painter.vae.requires_grad_(False)
    config = LoraConfig(
        r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=decoder_convolutions(painter.vae)
    )
    inject_adapter_in_model(config, painter.vae.decoder, adapter_name="gausspainter")
    return painter


def merge_adapters(painter: Painter) -> Painter:
    """Put low-rank changes into the convolutions they belong to, in place; without any, nothing happens."""
    for parent, name, layer in list(_adapters(painter.vae.decoder)):
        layer.merge()
        setattr(parent, name, layer.get_base_layer())
    return painter


def parameter_groups(painter: Painter) -> list[dict[str, Any]]:
    """Groups for the optimiser, each with the `factor` that its learning rate is multiplied by."""
    tuned = {name: value for name, value in painter.named_parameters() if value.requires_grad}
    pretrained = [value for name, value in tuned.items() if name.startswith("unet.")]
    others = [value for name, value in tuned.items() if not name.startswith("unet.")]
    fresh = FRESH if painter.config.preset == SD_TURBO.preset else 1.0
    return [{"params": pretrained, "factor": 1.0}, {"params": others, "factor": fresh}]


def _adapters(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """(parent, name, layer) of each convolution that has been wrapped."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if hasattr(child, "get_base_layer"):
                yield parent, name, child
