"""PrefPaint as Restorer: inpainting aligned with what people prefer (Liu et al. 2024), a rival of the paper's."""

from __future__ import annotations

from exgs_viewer.restore.diffusion import InpaintingRestorer, open_pipeline

NAME = "prefpaint"
REPOSITORIES = ("kd5678/prefpaint-v1.0",)


def open() -> InpaintingRestorer:
    """Raises WeightsError where it is not here."""
    return open_pipeline(NAME, REPOSITORIES, "PrefPaint")
