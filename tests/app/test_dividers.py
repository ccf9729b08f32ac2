"""The dividers of a wipe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer.app.dividers import dragged, taken

SHARES = st.floats(0, 1)


def test_the_nearest_divider_within_reach_is_taken():
    assert taken((0.3, 0.6), 0.31, 0.02) == 0 and taken((0.3, 0.6), 0.59, 0.02) == 1
    assert taken((0.3, 0.6), 0.45, 0.02) is None and taken((), 0.5, 0.1) is None


def test_of_two_on_each_other_the_one_that_can_be_freed_is_taken():
    assert taken((0.5, 0.5), 0.49, 0.02) == 0 and taken((0.5, 0.5), 0.51, 0.02) == 1
    assert taken((1.0, 1.0), 0.995, 0.02) == 0 and taken((0.0, 0.0), 0.005, 0.02) == 1


@given(SHARES, SHARES, st.integers(0, 1), st.floats(-1, 2))
def test_dragging_keeps_their_order_and_the_one_that_is_dragged_where_the_mouse_is(a, b, number, to):
    places = dragged((min(a, b), max(a, b)), number, to)
    assert 0 <= places[0] <= places[1] <= 1 and places[number] == min(max(to, 0), 1)
