"""Adaptive amplification (ExGS eq. 10): how much each kept Gaussian has to grow for what was dropped around it.

f_theta is a small network that reads the surroundings of one Gaussian at a time and answers a factor for each of its
axes and a shift of its opacity. What lost nothing around it is left exactly as it was, and a fresh network changes
nothing at all. The network's parameters are trained by `exgs train amplifier` and shipped in weights/amplifier.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exgs_viewer import networks
from exgs_viewer.compress.surroundings import ALONG, SHARED, Surroundings
from exgs_viewer.errors import WeightsError
from exgs_viewer.scene.cloud import GaussianCloud

DROPPED, MERGED = "amplifier", "amplifier-merged"
"""Folders among the weights: of the network that answers what was dropped, and of the one that answers merging."""
LARGEST = 4.0
"""Bound of the factor, and its inverse that of shrinking."""
STRONGEST = 4.0
"""Bound of the shift of an opacity's logit."""
CHUNK = 1 << 14
"""Gaussians that the network reads at a time, so that its layers stay in the cache."""


@dataclass(frozen=True)
class AmplifierConfig:
    """The architecture."""

    version: int = 1
    hidden: int = 32
    """Width of its layers."""


@dataclass(frozen=True, eq=False)
class Growth:
    """What the network answers for M Gaussians."""

    scales: Tensor
    """[M, 3]. Logarithm of the factor for each axis."""
    opacities: Tensor
    """[M]. Added to the logit of the opacity."""

    def by(self, strength: float) -> Growth:
        """A part of it; 0 is none."""
        return Growth(strength * self.scales, strength * self.opacities)


class Amplifier(nn.Module):
    """f_theta: one row of features for each axis, the same layers for all three, so that their order is no matter."""

    def __init__(self, config: AmplifierConfig = AmplifierConfig()) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(SHARED + ALONG))
        self.register_buffer("deviation", torch.ones(SHARED + ALONG))
        self.whole = nn.Linear(SHARED, config.hidden)
        self.axis = nn.Linear(ALONG, config.hidden, bias=False)
        self.middle = nn.Linear(config.hidden, config.hidden)
        self.last = nn.Linear(config.hidden, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, around: Surroundings) -> Growth:
        shared = (around.shared - self.mean[:SHARED]) / self.deviation[:SHARED]
        along = (around.along - self.mean[SHARED:]) / self.deviation[SHARED:]
        hidden = nn.functional.silu(self.whole(shared)[:, None] + self.axis(along))  # [M, 3, hidden]
        answer = self.last(nn.functional.silu(self.middle(hidden)))  # [M, 3, 2]
        share = around.lost.sqrt()
        scales = math.log(LARGEST) * share[:, None] * torch.tanh(answer[:, :, 0])
        return Growth(scales, STRONGEST * share * torch.tanh(answer[:, :, 1].mean(1)))

    @torch.no_grad()
    def predict(self, around: Surroundings) -> Growth:
        """The same without gradients, in pieces."""
        parts = [self(around.take(slice(at, at + CHUNK))) for at in range(0, len(around.lost), CHUNK)]
        return Growth(torch.cat([part.scales for part in parts]), torch.cat([part.opacities for part in parts]))


def grown(cloud: GaussianCloud, growth: Growth) -> GaussianCloud:
    """The cloud with scales and opacities changed as `growth` says; growth of 0 gives the same values to the bit."""
    scales, shift = growth.scales.to(cloud.device), torch.expm1(growth.opacities.to(cloud.device))
    opacity = cloud.opacities
    # sigmoid(logit(o) + shift) without the poles of the logit.
    more = opacity * (1 - opacity) * shift / (1 + opacity * shift)
    return cloud.replaced(scales=cloud.scales * scales.exp(), opacities=(opacity + more).clamp(0, 1))


def find_amplifier(name: str = DROPPED) -> Amplifier:
    """The amplifier of the user, or the one that is shipped. Raises WeightsError where there is none."""
    return load_amplifier(networks.find(name, "network for adaptive amplification"))


def networks_in_use() -> str:
    """Names both networks by what they hold: a result of others is another result."""
    found = [networks.find(name, "network for adaptive amplification") / networks.WEIGHTS for name in (DROPPED, MERGED)]
    return hashlib.blake2b(b"".join(path.read_bytes() for path in found), digest_size=8).hexdigest()


@lru_cache(maxsize=2)
def load_amplifier(folder: Path) -> Amplifier:
    """An amplifier as it was written. Raises WeightsError in words."""
    path = folder / networks.CONFIG
    try:
        stored = json.loads(path.read_text())
        config = AmplifierConfig(stored["version"], stored["hidden"])
        if config.version != AmplifierConfig.version or not 1 <= int(config.hidden) <= 4096:
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: cannot be read as an amplifier's configuration ({error}).") from error
    amplifier = Amplifier(config)
    networks.fill(amplifier, networks.read_tensors(folder / networks.WEIGHTS), folder / networks.WEIGHTS)
    return amplifier.eval().requires_grad_(False)


def write_amplifier(folder: Path, amplifier: Amplifier, about: dict[str, Any]) -> None:
    """Write an amplifier; `about` says where it comes from."""
    networks.write(folder, amplifier.state_dict(), {**asdict(amplifier.config), "about": about})
