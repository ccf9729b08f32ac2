"""The `sd-turbo` preset as Restorer: the paper's architecture, with weights that the user brings.

Stable Diffusion Turbo may be used under its own licence only, so nothing of it ships and nothing is fetched unasked.
What is looked for is a GaussPainter of this preset (weights.py); failing that its two parts, the UNet of
`stabilityai/sd-turbo` and TAESD, in a folder or in the cache of Hugging Face's tools:

    unet/config.json, unet/diffusion_pytorch_model.safetensors or ….fp16.safetensors
    taesd/ or vae/: config.json and diffusion_pytorch_model.safetensors of an AutoencoderTiny,
        or taesd_encoder.safetensors and taesd_decoder.safetensors as TAESD's author publishes them

The parts alone were never trained to repair pictures; they are where training starts, and are labelled so.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from exgs_viewer import networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.restore import hub, weights
from exgs_viewer.restore.painter import SD_TURBO, Painter, UNet2DConditionModel, fresh_parts
from exgs_viewer.restore.painting import PainterRestorer, ready

NAME = "sd-turbo"
UNET_REPOSITORY, TAESD_REPOSITORY = "stabilityai/sd-turbo", "madebyollin/taesd"
ORIGINAL = ("taesd_encoder.safetensors", "taesd_decoder.safetensors")
TAESD_FOLDERS = ("taesd", "vae", ".")


def open() -> PainterRestorer:
    """The first that is there: a fine-tuned painter, then the base parts. Raises WeightsError that says what to do."""
    for folder in networks.folders(NAME):
        if (folder / networks.WEIGHTS).exists():
            return ready(weights.load_painter(folder), NAME, "Restored (GaussPainter sd-turbo)")
    return ready(load_base(*find_base()), NAME, "Base weights, not fine-tuned (sd-turbo + TAESD)")


def find_base() -> tuple[Path, Path]:
    """Folders of the UNet and of TAESD. Raises WeightsError that lists where they were looked for."""
    own = networks.folders(NAME)
    unets = [root / "unet" for root in (*own, *hub.snapshots(UNET_REPOSITORY))]
    taesds = [root / name for root in own for name in TAESD_FOLDERS] + hub.snapshots(TAESD_REPOSITORY)
    unet = next((folder for folder in unets if (folder / "config.json").exists()), None)
    taesd = next((folder for folder in taesds if _is_taesd(folder)), None)
    if unet is None or taesd is None:
        missing = [name for name, found in ((UNET_REPOSITORY, unet), (TAESD_REPOSITORY, taesd)) if found is None]
        raise WeightsError(
            f"The painter '{NAME}' needs {' and '.join(missing)}: not here, under a licence of their own. "
            f"Put its `unet` and `taesd` folders (config.json, {weights.MODEL}.safetensors) into {own[0]}; "
            f"{', '.join(str(folder) for folder in (*own[1:], hub.cache()))} were searched too."
        )
    return unet, taesd


def load_base(unet: Path, taesd: Path) -> Painter:
    """An untrained painter on pre-trained parts, where fine-tuning starts. Raises WeightsError in words."""
    described, vae = weights.read_json(unet / "config.json"), _taesd(taesd)
    latents = vae["decoder.layers.0.weight"].shape[1]
    if described.get("in_channels") != latents:
        found = described.get("in_channels")
        raise WeightsError(f"{unet}: this UNet takes {found} channels, TAESD in {taesd} gives {latents}: no pair.")
    known = set(inspect.signature(UNet2DConditionModel.__init__).parameters) - {"self", "in_channels", "sample_size"}
    arguments = weights.frozen({name: value for name, value in described.items() if name in known})
    config = replace(SD_TURBO, unet=arguments, autoencoder={"latent_channels": latents})
    with torch.device("meta"):
        painter = Painter(config)
    networks.fill(painter.unet, networks.read_tensors(weights.model_file(unet)), weights.model_file(unet))
    networks.fill(painter.vae, vae, taesd)
    painter.skip, painter.mask = fresh_parts(config)
    painter.prompt_embeds = torch.nn.Parameter(torch.zeros(painter.prompt_embeds.shape))
    return painter.eval()


def _taesd(folder: Path) -> dict[str, Tensor]:
    """AutoencoderTiny's tensors. The author's own files count the decoder's layers from a clamp that has no tensors."""
    if not (folder / ORIGINAL[0]).exists():
        return networks.read_tensors(weights.model_file(folder))
    encoder, decoder = (networks.read_tensors(folder / name) for name in ORIGINAL)
    found = {f"encoder.layers.{name}": value for name, value in encoder.items()}
    for name, value in decoder.items():
        number, rest = re.fullmatch(r"(\d+)(\..+)", name).groups()
        found[f"decoder.layers.{int(number) - 1}{rest}"] = value
    return found


def _is_taesd(folder: Path) -> bool:
    """Whether it holds a tiny autoencoder; sd-turbo's own `vae` folder holds the large one."""
    if all((folder / name).exists() for name in ORIGINAL):
        return True
    try:
        return weights.read_json(folder / "config.json").get("_class_name") == "AutoencoderTiny"
    except WeightsError:
        return False
