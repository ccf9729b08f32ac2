"""The knobs of training, free of torch, so that `exgs train --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LossWeights:
    """Share of each term of the loss (losses.py)."""

    charbonnier: float = 0.0
    square: float = 0.0
    relative: float = 1.0
    """Each crop's squared error as a share of what it was before: a good picture spoilt weighs as much as a bad one
    mended."""
    ssim: float = 0.02
    gradient: float = 0.0
    latent: float = 0.02
    """Only where an encoder stood still that says something: after autoencoding, or beside TAESD."""
    features: float = 0.1
    """Only where `Options.squeezenet` names its weights."""


@dataclass(frozen=True)
class Schedule:
    """How long to train, how fast, and how often to look: the same for everything that is trained."""

    steps: int
    """Optimiser steps in all. A resumed run may name another number."""
    rate: float
    """Learning rate on the plateau between warm-up and the cosine of the last part."""
    warm_up: int
    """Steps in which the rate rises from 0."""
    plateau: float
    """Share of the steps after which the rate begins to fall."""
    decay: float
    """Of the weights' average, which is what ships."""
    weight_decay: float
    """How much AdamW shrinks the weights, as a share of the rate."""
    save_every: float
    """Seconds between two writings of the state."""
    tell_every: int
    """Steps that one line of the curve is the mean of."""
    judge_every: int
    """Steps between two looks at what is held out."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0


@dataclass(frozen=True)
class PainterSchedule(Schedule):
    """What every training of a painter shares."""

    rate: float = 1e-3
    warm_up: int = 200
    plateau: float = 0.4
    decay: float = 0.999
    weight_decay: float = 1e-4
    save_every: float = 240.0
    tell_every: int = 50
    judge_every: int = 1000
    preset: str = "lite"
    """Architecture: lite is trained from nothing."""
    threads: int = 0
    """CPU threads; 0 takes all cores."""
    squeezenet: Path | None = None
    """Weights of SqueezeNet 1.1 (features.py) for a perceptual term."""
    losses: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True)
class Options(PainterSchedule):
    """How to train a painter on pairs."""

    steps: int = 60_000
    batch: int = 8
    """Crops in a step; fewer where they are larger."""
    crop: int = 128
    """Pixels along a crop's side; twice that in the last third, since attention needs to see around."""
    autoencode: int = 0
    """Steps that first teach encoder and decoder of lite alone, with uncut pictures. They cost more than they gave."""
    judged: int = 64
    """Crops that are judged."""


@dataclass(frozen=True)
class JointOptions(PainterSchedule):
    """How to train a painter and the amplifier under one loss."""

    steps: int = 20_000
    rate: float = 3e-4
    """Of the painter. With 1e-3 and so few pictures in a step it fell apart after 190 steps."""
    batch: int = 2
    """Pictures in a step, of different scenes."""
    faster: float = 10.0
    """How much faster the amplifier learns than the painter."""


@dataclass(frozen=True)
class AmplifierOptions(Schedule):
    """How to train an amplifier: held-out views gain little after some hundred steps."""

    steps: int = 1000
    rate: float = 4e-3
    warm_up: int = 50
    plateau: float = 0.3
    decay: float = 0.99
    weight_decay: float = 1e-3
    save_every: float = 120.0
    tell_every: int = 20
    judge_every: int = 250
    batch: int = 2
    """Pictures in a step, of different scenes."""
