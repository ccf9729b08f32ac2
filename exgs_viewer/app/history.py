"""Undo and redo of parameters: plain values, one entry per change that came to rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from exgs_viewer.app.state import ViewState

DEPTH = 100
PARAMETERS = ("compression", "render", "restore", "layout", "gain", "mode")
"""Fields of the view that can be undone."""


@dataclass(frozen=True)
class History:
    """Values that were, the one that is, and those that were undone."""

    now: Any
    past: tuple[Any, ...] = ()
    future: tuple[Any, ...] = ()

    def changed(self, value: Any) -> History:
        """`value` came to rest; what was undone is gone."""
        return self if value == self.now else History(value, (*self.past, self.now)[-DEPTH:])

    def adjusted(self, adjust: Callable[[Any], Any]) -> History:
        """All of it with `adjust` applied to every value: what is no step and must not come back."""
        past, future = (tuple(map(adjust, values)) for values in (self.past, self.future))
        return History(adjust(self.now), past, future)

    def undone(self) -> History:
        """One step back, if there is one."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.now, *self.future))

    def redone(self) -> History:
        """One step forth, if there is one."""
        if not self.future:
            return self
        return replace(self, now=self.future[0], past=(*self.past, self.now), future=self.future[1:])


def parameters_of(view: ViewState) -> dict[str, Any]:
    """What a history of the view consists of: as fields to put back into it."""
    return {name: getattr(view, name) for name in PARAMETERS}
