"""LPIPS (Zhang et al. 2018): how different two pictures look to a network that was trained to recognise things.

The published measure is two trained parts: a backbone of torchvision (VGG16 or AlexNet, trained on ImageNet) and the
linear heads of the authors. Neither ships with this program. Where both are found LPIPS is measured, otherwise it is
not; no other network stands in for them, since its figures would compare with nobody's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from torch import Tensor

from exgs_viewer.errors import WeightsError
from exgs_viewer.settings import resource, user_folder

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What the authors take from a picture in [-1, 1] and divide it by, channel by channel."""


@dataclass(frozen=True)
class Net:
    """How one backbone is laid out, by torchvision's numbering of `features`."""

    file: str
    """Pattern of torchvision's file name."""
    layers: tuple[tuple[int, int, int], ...]
    """(number, stride, padding) of each convolution; a ReLU follows each."""
    pools: tuple[int, ...]
    """Numbers of convolutions before which the picture is pooled."""
    pool: int
    """Edge of the pooling window; its stride is 2."""
    taps: tuple[int, ...]
    """Numbers of the convolutions after which features are compared."""


NETS = {
    "vgg": Net(
        "vgg16-*.pth",
        tuple((number, 1, 1) for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        (5, 10, 17, 24),
        2,
        (2, 7, 14, 21, 28),
    ),
    "alex": Net("alexnet-*.pth", ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)), (3, 6), 3, (0, 3, 6, 8, 10)),
}
"""By preference: papers on Gaussian splatting report the one on VGG16."""


@dataclass(frozen=True, eq=False)
class Lpips:
    """The measure with its weights."""

    name: str
    """Key in NETS."""
    weights: dict[str, Tensor]
    """torchvision's `features.N.weight` and `features.N.bias`, and [C] of each head under `head.0`, `head.1` ..."""

    @torch.no_grad()
    def __call__(self, image: Tensor, reference: Tensor) -> float:
        """Distance >= 0 of two pictures [H, W, 3] in [0, 1], at least 32 pixels each way; 0 for equal ones."""
        total = 0.0
        for number, (a, b) in enumerate(zip(self._features(image), self._features(reference), strict=True)):
            apart = (F.normalize(a, eps=1e-10) - F.normalize(b, eps=1e-10)).square()  # [1, C, h, w]
            total += float((apart * self.weights[f"head.{number}"][None, :, None, None]).sum(1).mean())
        return total

    def _features(self, image: Tensor) -> Iterator[Tensor]:
        """[1, C, h, w] after each tap of the backbone."""
        net, device = NETS[self.name], self.weights["head.0"].device
        shift, scale = (torch.tensor(values, device=device)[:, None, None] for values in (SHIFT, SCALE))
        x = ((2 * image.to(device).movedim(2, 0) - 1 - shift) / scale)[None]
        for number, stride, padding in net.layers:
            if number in net.pools:
                x = F.max_pool2d(x, net.pool, 2)
            weight, bias = (self.weights[f"features.{number}.{part}"] for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            if number in net.taps:
                yield x


def find() -> tuple[str, Path, Path] | None:
    """Name of the network, files of backbone and heads; None where no network has both.

    Looked for in weights/lpips beside the program, in `lpips` in the user folder, in torch's download cache and in the
    package `lpips` where that is installed.
    """
    for name, net in NETS.items():
        backbone, heads = (_first(pattern) for pattern in (net.file, f"{name}.pth"))
        if backbone and heads:
            return name, backbone, heads
    return None


def open_lpips(device: torch.device | str = "cpu") -> Lpips | None:
    """The measure, None where its weights are nowhere. Raises WeightsError where they are there but unusable."""
    found = find()
    if found is None:
        return None
    name, backbone, heads = found
    stored, linear = _load(backbone), _load(heads)
    numbers = [number for number, _, _ in NETS[name].layers]
    try:
        weights = {
            f"features.{n}.{part}": stored[f"features.{n}.{part}"] for n in numbers for part in ("weight", "bias")
        }
        for number, tap in enumerate(NETS[name].taps):
            head = linear[f"lin{number}.model.1.weight"].reshape(-1)
            if len(head) != len(weights[f"features.{tap}.bias"]):
                raise WeightsError(f"{heads}: head {number} has {len(head)} channels; this is not LPIPS for {name}.")
            weights[f"head.{number}"] = head
    except KeyError as error:
        raise WeightsError(f"{backbone} and {heads} are not LPIPS for {name}: {error} is missing.") from error
    return Lpips(name, {key: value.float().to(device) for key, value in weights.items()})


def _first(pattern: str) -> Path | None:
    return next((path for folder in _folders() for path in sorted(folder.glob(pattern))), None)


def _folders() -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch_home = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    folders = [resource("weights", "lpips"), user_folder() / "lpips", torch_home / "hub" / "checkpoints"]
    package = find_spec("lpips")
    if package and package.origin:
        folders.append(Path(package.origin).parent / "weights" / "v0.1")
    return folders


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: these weights cannot be read; the file is damaged or of another kind.") from error
