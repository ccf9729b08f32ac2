"""As many as fit: never more than the limit, hardly less, in few attempts; whatever the sizes do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer.compress.budget import FULL, MOST, fill
from exgs_viewer.errors import ExgsError


def filled(limit, total, start, size_of):
    """What fits, and the counts that were tried."""
    tried = []

    def attempt(count, report):
        tried.append(count)
        return count, size_of(count)

    return fill(limit, total, start, attempt), tried


@given(
    limit=st.integers(1000, 10**8),
    total=st.integers(1, 10**7),
    start=st.integers(0, 10**7),
    rate=st.floats(1, 60),
    power=st.floats(0.8, 1.2),
)
def test_it_is_full_and_never_more_than_full(limit, total, start, rate, power):
    def size_of(count):
        return round(400 + rate * count**power)

    if size_of(1) > limit:
        with pytest.raises(ExgsError, match="bytes are too few"):
            filled(limit, total, start, size_of)
        return
    found, tried = filled(limit, total, start, size_of)
    assert size_of(found) <= limit
    assert found == total or size_of(found) >= FULL * limit or size_of(found + 1) > limit
    assert len(tried) == len(set(tried)) <= MOST and all(1 <= count <= total for count in tried)


def test_bytes_that_follow_the_gaussians_take_two_attempts():
    assert filled(10**6, 10**6, 10_000, lambda count: 20 * count) == (49_750, [10_000, 49_750])


def test_everything_is_kept_where_it_fits():
    assert filled(10**6, 1000, 100, lambda count: 20 * count)[0] == 1000


def test_the_first_guess_is_taken_where_it_is_good():
    assert filled(1000, 1000, 50, lambda count: 20 * count) == (50, [50])


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=300), st.integers(1, 300), st.integers(200, 2000))
def test_sizes_that_jump_about_are_no_reason_to_go_beyond_the_limit(sizes, start, limit):
    try:
        found, tried = filled(limit, len(sizes), start, lambda count: sizes[count - 1])
    except ExgsError:
        return
    assert sizes[found - 1] <= limit
    assert found == max(count for count in tried if sizes[count - 1] <= limit)


def test_where_one_is_too_many_its_bytes_are_told():
    with pytest.raises(ExgsError, match=r"^300 bytes are too few: 1 of 50 Gaussians take 420; allow more\.$"):
        filled(300, 50, 20, lambda count: 400 + 20 * count)


def test_progress_rises_to_the_end_whatever_the_attempts():
    seen = []

    def attempt(count, report):
        report(0.0, "half")
        report(1.0, "done")
        return count, 20 * count + 4000

    fill(10**6, 10**6, 10, attempt, lambda share, _: seen.append(share))
    assert seen == sorted(seen) and 0 == seen[0] < seen[-1] < 1
