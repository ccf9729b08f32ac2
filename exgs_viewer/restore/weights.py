"""Painter weights on the disk: verify, load, write (networks.py says where they are looked for).

A painter is a folder of two files. config.json holds the fields of PainterConfig, and under `about` where the weights
come from. model.safetensors holds the network's tensors under the names of its parts: `unet.`, `vae.`, `skip.`,
`mask.`, `prompt_embeds`. Low-rank changes to the decoder that have not been merged lie beside them as
`vae_lora.<convolution>.lora_A.weight` and `lora_B.weight` (peft's names); loading merges them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exgs_viewer import networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.networks import CONFIG, WEIGHTS, fill, read_tensors
from exgs_viewer.restore.folded import fold
from exgs_viewer.restore.painter import Painter, PainterConfig

LORA = "vae_lora."
MODEL = "diffusion_pytorch_model"
"""How diffusers calls the weights beside a config.json."""


def load_painter(folder: Path) -> Painter:
    """A painter as it was written, float32 on the CPU, ready to paint. Raises WeightsError in words."""
    config, about = read_config(folder)
    with torch.device("meta"):
        painter = Painter(config)
    stored = read_tensors(Path(folder) / WEIGHTS)
    stored = merged(stored, about.get("lora_scale", 1.0), Path(folder) / WEIGHTS)
    fill(painter, stored, Path(folder) / WEIGHTS)
    return painter.eval()


def read_config(folder: Path) -> tuple[PainterConfig, dict[str, Any]]:
    """The architecture and what is said about the weights. Raises WeightsError."""
    path = Path(folder) / CONFIG
    try:
        stored = json.loads(path.read_text())
        about = stored.pop("about", {})
        known = {field.name for field in fields(PainterConfig)}
        if set(stored) - known or stored["version"] != 1:
            raise ValueError(
                f"it is of a newer version, with {', '.join(sorted(set(stored) - known)) or 'other rules'}"
            )
        parts = {name: frozen(stored[name]) for name in ("unet", "autoencoder")}
        return PainterConfig(**{**stored, **parts, "inputs": tuple(stored["inputs"])}), about
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file; a painter needs {CONFIG} beside {WEIGHTS}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: cannot be read as a painter's configuration ({error}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """What a model's config.json says. Raises WeightsError."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as a model's configuration ({error}).") from error


def model_file(folder: Path) -> Path:
    """diffusers' weights in float16 on a GPU where they are there, else those in float32, else whichever is there.

    Raises WeightsError where there are none.
    """
    names = [f"{MODEL}.safetensors", f"{MODEL}.fp16.safetensors"]
    if torch.cuda.is_available():
        names.reverse()
    found = next((folder / name for name in names if (folder / name).exists()), None)
    if found is not None:
        return found
    pickled = next(iter([*folder.glob("*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pth")]), None)
    if pickled:
        raise WeightsError(f"{pickled}: a pickle can run code when it is loaded; get {MODEL}.safetensors instead.")
    raise WeightsError(f"{folder}: {MODEL}.safetensors is missing; get it from the same place as config.json.")


def frozen(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as JSON gives them, with tuples for lists: then equal configurations compare equal."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def merged(stored: dict[str, Tensor], scale: float, path: Path) -> dict[str, Tensor]:
    """The tensors with all low-rank changes, W + scale * B A, put into the convolutions. Raises WeightsError."""
    plain = {name: value for name, value in stored.items() if not name.startswith(LORA)}
    for name, down in stored.items():
        if not (name.startswith(LORA) and name.endswith(".lora_A.weight")):
            continue
        layer = name.removeprefix(LORA).removesuffix(".lora_A.weight")
        up, target = stored.get(f"{LORA}{layer}.lora_B.weight"), f"vae.decoder.{layer}.weight"
        if up is None or target not in plain:
            raise WeightsError(f"{path}: the low-rank change {name} belongs to nothing in this file.")
        change = (up.flatten(1) @ down.flatten(1)).view_as(plain[target])
        plain[target] = plain[target] + scale * change
    return plain


def placed(painter: Painter) -> Painter:
    """The painter where and in the precision it works fastest, its parameters frozen and its constants folded."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = torch.bfloat16 if has_bfloat16(device) else torch.float32
    torch.backends.cudnn.benchmark = True  # Few sizes, many pictures: the quickest convolution is worth looking for.
    return fold(painter).to(device, precision, memory_format=torch.channels_last).requires_grad_(False)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16; emulated it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def write_painter(folder: Path, painter: Painter, about: dict[str, Any]) -> None:
    """Write a painter as float16 with its config; `about` says where it comes from."""
    tensors = {name: value.half() for name, value in painter.state_dict().items()}
    networks.write(folder, tensors, {**asdict(painter.config), "about": about})
