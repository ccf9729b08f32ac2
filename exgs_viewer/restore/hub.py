"""Weights that other programs may have fetched: Hugging Face's cache, read without its tools and without a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from exgs_viewer.errors import WeightsError


def cache() -> Path:
    """Where Hugging Face's tools keep what they fetched."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"


def snapshots(repository: str) -> list[Path]:
    """All fetched versions of a repository, the newest first."""
    folder = cache() / f"models--{repository.replace('/', '--')}" / "snapshots"
    return sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)


def find(name: str, own: Sequence[Path], repositories: Sequence[str], needed: Sequence[str]) -> Path:
    """The first folder that holds all `needed` files: of the user's `own`, then of the cache.

    Raises WeightsError that says what is missing, and how to come by it.
    """
    folders = [*own, *(folder for repository in repositories for folder in snapshots(repository))]
    found = next((folder for folder in folders if all((folder / file).exists() for file in needed)), None)
    if found is not None:
        return found
    begun = next((folder for folder in folders if any((folder / file).exists() for file in needed)), None)
    if begun is not None:
        missing = ", ".join(file for file in needed if not (begun / file).exists())
        raise WeightsError(f"{begun}: {missing} is missing; '{name}' needs all files of {repositories[0]}.")
    raise WeightsError(
        f"The restorer '{name}' needs {repositories[0]}, which is not here and is not fetched unasked. Accept its"
        f" licence on huggingface.co, then `hf download {repositories[0]}` or put its files into {own[0]}."
    )
