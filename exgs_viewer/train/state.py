"""All that training needs to go on as if it had never stopped, in one file that is replaced whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from exgs_viewer.errors import WeightsError
from exgs_viewer.settings import write_atomically

STATE, CURVE, JUDGED = "state.safetensors", "curve.csv", "validation.csv"
"""What lies in the folder of every run."""
MODEL, AVERAGE = "model.", "average."
ADAM = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW knows of each parameter. Steps are its own: the UNet's begin after the autoencoder's."""


def trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are not frozen: all that has to be remembered."""
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


class Average:
    """Exponential moving average of a network's weights; sets out quickly and settles at `decay`."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.weights = {name: value.detach().clone() for name, value in trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = dict(trained(model))
        torch._foreach_lerp_(list(self.weights.values()), [current[name] for name in self.weights], share)

    @torch.no_grad()
    def lend(self, model: nn.Module) -> None:
        """Put the averaged weights into `model`."""
        for name, value in trained(model):
            value.copy_(self.weights[name])


def save_state(
    path: Path, model: nn.Module, average: Average, optimizer: torch.optim.Optimizer, about: dict[str, Any]
) -> None:
    """Write weights, their average and the optimiser's moments, with `about` as JSON inside."""
    tensors: dict[str, Tensor] = {}
    for name, value in trained(model):
        tensors[MODEL + name] = value.detach().cpu().contiguous()
        tensors[AVERAGE + name] = average.weights[name].cpu().contiguous()
        known = optimizer.state.get(value, {})
        tensors |= {f"{key}.{name}": moment.cpu().contiguous() for key, moment in known.items()}
    write_atomically(path, save(tensors, {"about": json.dumps({**about, "updates": average.updates}, default=str)}))


@torch.no_grad()
def load_state(path: Path, model: nn.Module, average: Average, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put everything back and return `about`. Raises WeightsError where the file is damaged or of another network."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["about"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: this is no state of training ({error}); move it away to begin anew.") from error
    parameters = dict(trained(model))
    _check(path, parameters, stored)
    for name, value in parameters.items():
        value.copy_(stored[MODEL + name])
        average.weights[name].copy_(stored[AVERAGE + name])
        if f"step.{name}" in stored:
            # The fused optimiser walks the memory, so moments must lie as their parameter does (channels_last).
            moments = [torch.empty_like(value).copy_(stored[f"{key}.{name}"]) for key in ADAM[:2]]
            count = stored[f"{ADAM[2]}.{name}"].to(value.device)
            optimizer.state[value] = dict(zip(ADAM, (*moments, count), strict=True))
    average.updates = about["updates"]
    return about


def _check(path: Path, parameters: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    for name, value in parameters.items():
        for key in (MODEL + name, AVERAGE + name):
            if key not in stored or stored[key].shape != value.shape:
                found = str(tuple(stored[key].shape)) if key in stored else "missing"
                raise WeightsError(f"{path}: {key} is {found}, expected {tuple(value.shape)}: another network's state.")


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One line more of a CSV file, its head first where it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a") as file:
        file.writelines([",".join(row) + "\n"] if fresh else [])
        file.write(",".join(_cell(value) for value in row.values()) + "\n")


def cut_rows(path: Path, step: int) -> None:
    """Drop lines of a CSV file after `step`, its first column: they will be written again."""
    if not path.exists():
        return
    head, *rows = path.read_text().splitlines()
    kept = [row for row in rows if int(row.partition(",")[0]) <= step]
    write_atomically(path, ("\n".join([head, *kept]) + "\n").encode())


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
