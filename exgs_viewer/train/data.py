"""Pairs on the disk -> batches of crops for training, and a fixed set of crops for judging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from exgs_viewer.errors import SceneError
from exgs_viewer.restore.painter import Frames

HELD_OUT = 0.1
"""Share of each scene's views, the last ones taken, that training never sees."""
PICTURES = ("color", "fill", "alpha", "depth")


@dataclass(frozen=True, eq=False)
class Batch:
    """Compressed renders and the uncut ones, float32."""

    frames: Frames
    target: Tensor
    """[B, 3, H, W] in [0, 1], display sRGB over black."""

    def to(self, device: torch.device) -> Batch:
        """The same in channels_last on a device."""
        moved = {name: getattr(self.frames, name).to(device, non_blocking=True) for name in vars(self.frames)}
        for name in PICTURES:
            moved[name] = moved[name].contiguous(memory_format=torch.channels_last)
        return Batch(Frames(**moved), self.target.to(device).contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True, eq=False)
class _File:
    """One scene's pairs; its tensors stay on the disk."""

    path: Path
    places: int
    shown: int
    crop: int

    @property
    def training(self) -> int:
        """Places that may be trained on; the others are held out."""
        return max(1, round(self.places * (1 - HELD_OUT))) if self.places > 1 else 1


class PairSet:
    """All pairs of a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises SceneError where there are none or a file is damaged."""
        self.folder = Path(folder)
        self.files = [_measured(path) for path in sorted(Path(folder).glob("*.safetensors"))]
        if not self.files:
            raise SceneError(
                f"{folder}: there are no pairs (*.safetensors) in it; make some with `exgs train make-pairs`."
            )
        self._counts = np.array([file.training * file.shown for file in self.files])

    def __len__(self) -> int:
        """Pairs to train on."""
        return int(self._counts.sum())

    def again(self) -> PairSet:
        """The set with what has been added to the folder since."""
        return PairSet(self.folder)

    def batch(self, size: int, crop: int, random: np.random.Generator) -> Batch:
        """`size` random crops of `crop` pixels, each in its own random pose and colours; `random` decides all."""
        chosen = random.choice(len(self.files), size, p=self._counts / self._counts.sum())
        samples = []
        for file in (self.files[number] for number in chosen):
            place, shown = int(random.integers(file.training)), int(random.integers(file.shown))
            samples.append(varied(cropped(_read(file, place, shown), crop, random), random))
        return _stacked(samples)

    def held_out(self, most: int) -> Iterator[tuple[str, Batch]]:
        """Up to `most` whole crops that training never sees, one at a time, with the names of their scenes.

        Evenly spread over scenes and degradations, the same ones every time for the same files.
        """
        every = [
            (file, place, shown)
            for file in self.files
            for place in range(file.training, file.places)
            for shown in range(file.shown)
        ]
        chosen = every if len(every) <= most else [every[int(i)] for i in np.linspace(0, len(every) - 1, most)]
        for file, place, shown in chosen:
            yield file.path.stem, _stacked([_read(file, place, shown)])


def cropped(sample: dict[str, Tensor], crop: int, random: np.random.Generator) -> dict[str, Tensor]:
    """A random window of `crop` pixels, on the lattice of the latent."""
    side = sample["target"].shape[1]
    if crop >= side:
        return sample
    y, x = (8 * int(random.integers((side - crop) // 8 + 1)) for _ in range(2))
    return {name: value[:, y : y + crop, x : x + crop] if value.ndim == 3 else value for name, value in sample.items()}


def varied(sample: dict[str, Tensor], random: np.random.Generator) -> dict[str, Tensor]:
    """Mirrored, turned by quarters, with channels exchanged and other brightness, all its pictures alike."""
    flips = [axis for axis in (1, 2) if random.random() < 0.5]
    turned = random.random() < 0.3
    order = random.permutation(3) if random.random() < 0.5 else np.arange(3)
    gain = random.uniform(0.7, 1.15) if random.random() < 0.5 else 1.0
    changed = {}
    for name, value in sample.items():
        if value.ndim == 3:
            value = value.flip(flips)
            value = value.transpose(1, 2) if turned else value
            value = (value[torch.from_numpy(order)] * gain).clamp(0, 1) if len(value) == 3 else value
        changed[name] = value
    return changed


def clean(batch: Batch) -> Batch:
    """The uncut pictures themselves as input, as an uncut scene would give them."""
    frames = batch.frames
    whole = replace(
        frames,
        color=batch.target,
        fill=batch.target,
        alpha=torch.ones_like(frames.alpha),
        retention=torch.ones_like(frames.retention),
    )
    return Batch(whole, batch.target)


def _measured(path: Path) -> _File:
    try:
        with safe_open(path, "pt") as file:
            places, shown, crop = file.get_slice("color").get_shape()[:3]
            json.loads((file.metadata() or {})["about"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise SceneError(f"{path}: these are no training pairs ({error}); make them again.") from error
    return _File(path, places, shown, crop)


def _read(file: _File, place: int, shown: int) -> dict[str, Tensor]:
    """One pair, float32: pictures [C, H, W] in [0, 1], retention []."""
    with safe_open(file.path, "pt") as stored:
        raw = {name: stored.get_slice(name)[place, shown] for name in (*PICTURES, "retention")}
        raw["target"] = stored.get_slice("target")[place]
    sample = {name: value.float() / 255 for name, value in raw.items() if name != "retention"}
    pictures = {name: value.movedim(2, 0) if value.ndim == 3 else value[None] for name, value in sample.items()}
    return {**pictures, "retention": raw["retention"]}


def _stacked(samples: list[dict[str, Tensor]]) -> Batch:
    columns = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    target = columns.pop("target")
    return Batch(Frames(**columns), target)
