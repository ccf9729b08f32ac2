"""Which draft is affordable while something moves, from what the pictures of each side cost so far."""

from __future__ import annotations

from collections.abc import Sequence

from exgs_viewer.app import pace
from exgs_viewer.app.frames import Timing
from exgs_viewer.app.state import Side, ViewState, drawn_for, sides_of
from exgs_viewer.compress.select import keep_count


class Drafts:
    """What drawing one scene costs, side by side, and the draft that was chosen last."""

    def __init__(self):
        self.costs: dict[Side, pace.Cost] = {}
        self.last = pace.FULL

    def learn(self, timings: Sequence[Timing]) -> None:
        """Pictures were drawn."""
        for timing in timings:
            known = self.costs.get(timing.side)
            self.costs[timing.side] = pace.learnt(known, timing.pixels, timing.seconds, timing.count)

    def affordable(self, view: ViewState, total: int, ready: bool, turning: bool, live: bool = False) -> pace.Draft:
        """The draft of `total` Gaussians that keeps up with what moves; the full picture where that is quick enough.

        `ready` says whether they are ranked, `turning` whether the camera moves, `live` whether it is restored as well.
        """
        sides = sides_of(view, ready)
        drawn = {drawn_for(side) for side in sides}
        if not turning:
            drawn.discard("original")  # Only the slider moves; the original's picture is still there.
        counts = {side: total if side == "original" else keep_count(total, view.compression.keep) for side in drawn}
        if live and "restored" in sides:
            counts["restored"] = 1  # Its time goes with the pixels alone.
        costs = [self.costs[side].at(count) for side, count in counts.items() if side in self.costs]
        if not costs:
            return pace.FULL
        panes = len(sides) if view.layout == "side" else 1
        size, drafts = (max(1, view.size[0] // panes), view.size[1]), pace.DRAFTS if ready else pace.UNRANKED
        self.last = pace.draft(costs, size, self.last, drafts)
        return self.last
