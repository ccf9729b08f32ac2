"""Painter weights on the disk: find, verify, load, write; what to say when they are absent.

A painter is a folder of two files. config.json holds the fields of PainterConfig, and under `about` where the weights
come from. model.safetensors holds the network's tensors under the names of its parts: `unet.`, `vae.`, `skip.`,
`mask.`, `prompt_embeds`. Low-rank changes to the decoder that have not been merged lie beside them as
`vae_lora.<convolution>.lora_A.weight` and `lora_B.weight` (peft's names); loading merges them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from exgs_viewer.errors import WeightsError
from exgs_viewer.restore.painter import Painter, PainterConfig
from exgs_viewer.settings import resource, user_folder, write_atomically

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LORA = "vae_lora."


def folders(name: str) -> list[Path]:
    """Where a painter's weights are looked for, first the user's own: $EXGS_WEIGHTS, the user's folder, the program."""
    own = [Path(os.environ["EXGS_WEIGHTS"])] if os.environ.get("EXGS_WEIGHTS") else []
    return [root / name for root in (*own, user_folder() / "weights", resource("weights"))]


def find(name: str) -> Path:
    """The first of `folders` that holds weights. Raises WeightsError that names them all."""
    for folder in folders(name):
        if (folder / WEIGHTS).exists():
            return folder
    places = ", ".join(str(folder) for folder in folders(name))
    raise WeightsError(f"There are no weights of the painter '{name}' in {places}; put {CONFIG} and {WEIGHTS} there.")


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


def frozen(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as JSON gives them, with tuples for lists: then equal configurations compare equal."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as float32. Raises WeightsError."""
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file.") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: the weights are damaged or cut short ({error}); get them again.") from error
    except MemoryError as error:
        raise WeightsError(f"{path}: there is not enough memory to load these weights.") from error


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


def fill(module: torch.nn.Module, stored: dict[str, Tensor], path: Path) -> None:
    """Give a module (on `meta`) its tensors. Raises WeightsError that names the first one that does not fit."""
    wanted = module.state_dict()
    for name, value in wanted.items():
        if name not in stored:
            raise WeightsError(f"{path}: the tensor {name} is missing; these weights are of another network.")
        if stored[name].shape != value.shape:
            found, expected = tuple(stored[name].shape), tuple(value.shape)
            raise WeightsError(
                f"{path}: {name} is {found} instead of {expected}; these weights are of another network."
            )
    more = sorted(set(stored) - set(wanted))
    if more:
        raise WeightsError(f"{path}: it holds {more[0]}, which this network has not; are config and weights a pair?")
    module.load_state_dict(stored, assign=True)


def placed(painter: Painter) -> Painter:
    """The painter where and in the precision it works fastest, its parameters frozen."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = torch.bfloat16 if has_bfloat16(device) else torch.float32
    return painter.to(device, precision, memory_format=torch.channels_last).requires_grad_(False)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16; emulated it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def write_painter(folder: Path, painter: Painter, about: dict[str, Any]) -> None:
    """Write a painter as float16 with its config; `about` says where it comes from."""
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in painter.state_dict().items()}
    write_atomically(Path(folder) / WEIGHTS, save(tensors, {"format": "pt"}))
    config = {**asdict(painter.config), "about": about}
    write_atomically(Path(folder) / CONFIG, json.dumps(config, indent=1).encode())
