"""The knobs of training, free of torch, so that `exgs train --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LossWeights:
    """Share of each term of the loss (losses.py)."""

    charbonnier: float = 1.0
    square: float = 0.5
    relative: float = 0.1
    """Each crop's squared error as a share of what it was before: a good picture spoilt weighs as much as a bad one
    mended."""
    ssim: float = 0.1
    gradient: float = 0.05
    latent: float = 0.1
    features: float = 0.1
    """Only where `Options.squeezenet` names its weights."""


@dataclass(frozen=True)
class Options:
    """How to train."""

    preset: str = "lite"
    """Architecture: lite is trained from nothing."""
    steps: int = 60_000
    """Optimiser steps in all. A resumed run may name another number."""
    batch: int = 8
    """Crops in a step; fewer where they are larger."""
    crop: int = 128
    """Pixels along a crop's side; twice that in the last third, since attention needs to see around."""
    rate: float = 6e-4
    """Learning rate on the plateau between warm-up and the cosine of the last part."""
    warm_up: int = 500
    """Steps in which the rate rises from 0."""
    plateau: float = 0.55
    """Share of the steps after which the rate begins to fall."""
    autoencode: int = 3000
    """Steps that teach encoder and decoder alone, with uncut pictures."""
    decay: float = 0.999
    """Of the weights' average, which is what ships."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    weight_decay: float = 1e-2
    seed: int = 0
    threads: int = 0
    """CPU threads; 0 takes all cores."""
    save_every: float = 240.0
    """Seconds between two writings of the state."""
    tell_every: int = 50
    """Steps that one line of the curve is the mean of."""
    judge_every: int = 1000
    """Steps between two validations."""
    judged: int = 64
    """Crops that are judged."""
    squeezenet: Path | None = None
    """Weights of SqueezeNet 1.1 (features.py) for a perceptual term."""
    losses: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True)
class AmplifierOptions:
    """How to train an amplifier."""

    steps: int = 1000
    """Optimiser steps in all; held-out views gain little after some hundred. A resumed run may name another number."""
    batch: int = 2
    """Pictures in a step, of different scenes."""
    rate: float = 4e-3
    """Learning rate on the plateau between warm-up and the cosine of the last part."""
    warm_up: int = 50
    """Steps in which the rate rises from 0."""
    plateau: float = 0.3
    """Share of the steps after which the rate begins to fall."""
    decay: float = 0.99
    """Of the weights' average, which is what ships."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    weight_decay: float = 1e-3
    seed: int = 0
    save_every: float = 120.0
    """Seconds between two writings of the state."""
    tell_every: int = 20
    """Steps that one line of the curve is the mean of."""
    judge_every: int = 250
    """Steps between two looks at the held-out views."""
