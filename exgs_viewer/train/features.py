"""What a frozen network that recognises things (SqueezeNet 1.1) sees differently in two pictures: a perceptual loss.

This is not LPIPS, whose trained heads are not at hand: channels count alike. The weights are torchvision's tensors
under its names, for Caffe's input (blue, green, red; means subtracted), and do not ship with the program.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exgs_viewer.errors import WeightsError

MEANS = (103.939, 116.779, 123.68)
"""Of blue, green and red, in levels of 255."""
FIRES = (3, 4, 6, 7, 9)
"""Numbers of the modules that are used; the later ones see little that painting could mend."""
POOLED = (3, 6, 9)
"""Those before which the picture is pooled."""
TAPS = (0, 4, 7, 9)
"""Modules after which features are compared."""


class Features(nn.Module):
    """The frozen network."""

    def __init__(self, path: Path) -> None:
        """Raises WeightsError where the file does not hold SqueezeNet's first modules."""
        super().__init__()
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            names = [f"{number}.{part}" for number in FIRES for part in ("squeeze", "expand1x1", "expand3x3")]
            for name in ("0", *names):
                for kind in ("weight", "bias"):
                    value = stored[f"features.{name}.{kind}"].float()
                    self.register_buffer(f"{name}.{kind}".replace(".", "_"), value, persistent=False)
        except (OSError, UnpicklingError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            raise WeightsError(f"{path}: these are no features of SqueezeNet 1.1 ({error}).") from error

    def forward(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Scalar >= 0 of [B, 3, H, W] in [0, 1]: mean squared distance of unit feature vectors, over all taps."""
        both = self._features(torch.cat([pictures, targets]))
        apart = [(a - b).square().sum(1).mean() for a, b in (F.normalize(tap, eps=1e-6).chunk(2) for tap in both)]
        return sum(apart) / len(apart)

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """[B, C, h, w] after each tap."""
        means = pictures.new_tensor(MEANS)[:, None, None]
        hidden = F.relu(F.conv2d(255 * pictures.flip(1) - means, *self._layer("0"), stride=2))
        found = [hidden]
        for number in FIRES:
            if number in POOLED:
                hidden = F.max_pool2d(hidden, 3, 2, ceil_mode=True)
            squeezed = F.relu(F.conv2d(hidden, *self._layer(f"{number}.squeeze")))
            near = F.conv2d(squeezed, *self._layer(f"{number}.expand1x1"))
            wide = F.conv2d(squeezed, *self._layer(f"{number}.expand3x3"), padding=1)
            hidden = F.relu(torch.cat([near, wide], 1))
            found += [hidden] if number in TAPS else []
        return found

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return tuple(getattr(self, f"{name}.{kind}".replace(".", "_")) for kind in ("weight", "bias"))
