"""Trained networks on the disk, each a folder of config.json and model.safetensors: find, read, check, write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from exgs_viewer.errors import WeightsError
from exgs_viewer.settings import resource, user_folder, write_atomically

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def folders(name: str) -> list[Path]:
    """Where a network's weights are looked for, first the user's own: $EXGS_WEIGHTS, the user's folder, the program."""
    own = [Path(os.environ["EXGS_WEIGHTS"])] if os.environ.get("EXGS_WEIGHTS") else []
    return [root / name for root in (*own, user_folder() / "weights", resource("weights"))]


def find(name: str, kind: str = "painter") -> Path:
    """The first of `folders` that holds weights. Raises WeightsError that names them all."""
    for folder in folders(name):
        if (folder / WEIGHTS).exists():
            return folder
    places = ", ".join(str(folder) for folder in folders(name))
    raise WeightsError(f"There are no weights of the {kind} '{name}' in {places}; put {CONFIG} and {WEIGHTS} there.")


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


def write(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write the tensors as they are, and the config beside them."""
    write_tensors(Path(folder) / WEIGHTS, tensors)
    write_atomically(Path(folder) / CONFIG, json.dumps(config, indent=1).encode())


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors from any device, as `read_tensors` reads them."""
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(stored, {"format": "pt"}))
