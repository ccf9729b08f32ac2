"""The dividers of a wipe, as places from left to right, shares of the width: which one is taken, where a drag ends."""

from __future__ import annotations

from collections.abc import Sequence


def taken(places: Sequence[float], at: float, reach: float) -> int | None:
    """The divider within `reach` of `at`, the nearest; of those that lie on each other the one on the side of `at`."""
    near = [number for number, place in enumerate(places) if abs(place - at) <= reach]
    if not near:
        return None
    # Left of a pile only its first one can be freed, right of it only its last one.
    return min(near, key=lambda number: (abs(places[number] - at), number if at < places[number] else -number))


def dragged(places: Sequence[float], number: int, to: float) -> tuple[float, ...]:
    """The places once divider `number` is dragged `to` somewhere; those in its way are pushed along."""
    to = min(max(to, 0.0), 1.0)
    return tuple(
        min(place, to) if other < number else max(place, to) if other > number else to
        for other, place in enumerate(places)
    )
