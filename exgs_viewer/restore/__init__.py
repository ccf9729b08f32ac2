"""picture -> better picture. The contract of every restorer, and the table of those there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, runtime_checkable

from torch import Tensor

from exgs_viewer.errors import WeightsError
from exgs_viewer.render import RenderOutput
from exgs_viewer.settings import RestoreSettings

Stale = Callable[[], bool]
"""Answers True once nobody wants the result any more."""


def never() -> bool:
    """The `stale` of a caller who always wants the result."""
    return False


class Restorer(Protocol):
    """Repairs a rendered picture; holds its weights and nothing else."""

    name: str
    """Its key in RESTORERS."""
    label: str
    """What the window calls its result, honest about what it is."""

    def restore(
        self, output: RenderOutput, settings: RestoreSettings, stale: Stale = never, retention: float | None = None
    ) -> Tensor | None:
        """The repaired picture [H, W, 3] in [0, 1], over the same background; None once `stale()` becomes true.

        `retention` in (0, 1] is the share of the Gaussians that the picture was drawn of, where it is known; at 1
        there is nothing to repair.
        """
        ...


@runtime_checkable
class Averaging(Protocol):
    """A Restorer that makes a calmer picture of several, for a camera that rests."""

    def averaged(
        self,
        outputs: Sequence[RenderOutput],
        settings: RestoreSettings,
        stale: Stale = never,
        retention: float | None = None,
    ) -> Tensor | None:
        """The first of `outputs` restored, with the help of the others: the same view moved by parts of a pixel."""
        ...


RESTORERS = {
    "inpaint": "exgs_viewer.restore.inpaint",
    "scene": "exgs_viewer.restore.scene_filter",
    "lite": "exgs_viewer.restore.lite",
    "sd-turbo": "exgs_viewer.restore.sd_turbo",
}
"""Every restorer: a module with `open() -> Restorer`, which raises WeightsError where it cannot work here."""

RIVALS = {
    "sd2-inpaint": "exgs_viewer.restore.sd2_inpaint",
    "prefpaint": "exgs_viewer.restore.prefpaint",
    "difix": "exgs_viewer.restore.difix",
}
"""Restorers of others, for comparisons; they need weights of the user's, and the package transformers."""


def open_restorer(name: str) -> Restorer:
    """Open a restorer by name. Raises WeightsError where there is none of that name or its weights are missing."""
    known = {**RESTORERS, **RIVALS}
    if name not in known:
        raise WeightsError(f"There is no restorer named '{name}'; choose one of {', '.join(known)}.")
    return import_module(known[name]).open()
