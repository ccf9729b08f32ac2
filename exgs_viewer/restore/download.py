"""Fetch the base weights of sd-turbo from Hugging Face, after the user has agreed to their licence; never unasked."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from exgs_viewer.errors import Cancelled, WeightsError
from exgs_viewer.settings import Report

PARTS = {
    "stabilityai/sd-turbo": ("unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors"),
    "madebyollin/taesd": ("config.json", "diffusion_pytorch_model.safetensors"),
}
"""What is fetched of which repository: of Stable Diffusion Turbo the UNet in float16 alone."""
BYTES = 1_740_000_000
"""About as much as that is, as the repositories list it."""
LICENCE = "Stability AI Community Licence"
LICENCE_PAGE = "https://stability.ai/license"
TERMS = (
    f"Stable Diffusion Turbo is under the {LICENCE}: free for research and personal use, and for companies with less"
    f" than 1 million US dollars of revenue a year; larger ones need a licence of their own. TAESD is under the MIT"
    f" licence. Read the terms at {LICENCE_PAGE}; the licence in the repository itself is what counts,"
    f" huggingface.co/stabilityai/sd-turbo."
)

UNREACHABLE = {
    *("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"),
    *("TimeoutError", "TimeoutException", "Timeout", "gaierror"),
}
"""Names of the errors of huggingface_hub and of its HTTP libraries that mean: no connection."""

Snapshot = Callable[..., str]
"""huggingface_hub.snapshot_download, or what stands in for it."""


def fetch(report: Report, snapshot: Snapshot | None = None) -> None:
    """Put PARTS into Hugging Face's cache, where restore/sd_turbo.py finds them; what is there already is not fetched.

    `report` may raise Cancelled: what has arrived by then is kept, and the next attempt goes on from there.
    Raises WeightsError in words.
    """
    for repository, patterns in PARTS.items():
        report(0.0, f"Fetching {repository}")
        try:
            (snapshot or _hub())(
                repository, allow_patterns=list(patterns), max_workers=1, tqdm_class=bar(repository, report)
            )
        except (Cancelled, WeightsError):
            raise
        except MemoryError as error:
            raise WeightsError(f"{repository}: there is not enough memory to fetch it.") from error
        except Exception as error:  # huggingface_hub raises its own, those of its HTTP library, and OSError.
            raise WeightsError(in_words(repository, error)) from error
    report(1.0, "Fetched")


def _hub() -> Snapshot:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise WeightsError("Fetching weights needs huggingface_hub; `pip install huggingface_hub` first.") from error
    return snapshot_download


def bar(repository: str, report: Report) -> type:
    """A progress bar as huggingface_hub wants it, which draws nothing and tells `report`."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *given: Any, **named: Any):
            named.pop("name", None)
            self._counts_bytes = named.get("unit") == "B"
            super().__init__(*given, **{**named, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self._counts_bytes:
                share = min(self.n / max(self.total or 0, 1), 1.0) if self.total else 0.0
                report(share, f"Fetching {repository}, {self.n / 1e6:,.0f} MB")

    return Bar


def in_words(repository: str, error: Exception) -> str:
    """What went wrong, and what to do."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if getattr(error, "errno", None) == errno.ENOSPC:
        return f"{repository}: the disk is full; this takes {BYTES / 1e9:.1f} GB where HF_HOME says."
    if kinds & UNREACHABLE:
        return f"{repository}: huggingface.co cannot be reached; go online (and unset HF_HUB_OFFLINE), then try again."
    if "GatedRepoError" in kinds:
        return f"{repository} wants its terms agreed to on huggingface.co too; do so, then `hf auth login`."
    if kinds & {"RepositoryNotFoundError", "EntryNotFoundError"}:
        return f"{repository} is no longer on huggingface.co in this form; get its files elsewhere."
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{repository} could not be fetched ({reason}); try again, it goes on from where it stopped."
