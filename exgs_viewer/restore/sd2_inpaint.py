"""Stable Diffusion 2 Inpainting as Restorer, one of those that the paper compares with (its table 1)."""

from __future__ import annotations

from exgs_viewer.restore.diffusion import InpaintingRestorer, open_pipeline

NAME = "sd2-inpaint"
REPOSITORIES = ("stabilityai/stable-diffusion-2-inpainting", "sd2-community/stable-diffusion-2-inpainting")


def open() -> InpaintingRestorer:
    """Raises WeightsError where it is not here."""
    return open_pipeline(NAME, REPOSITORIES, "Stable Diffusion 2 Inpainting")
