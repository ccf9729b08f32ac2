"""Names for new files."""

from __future__ import annotations

import pytest

from exgs_viewer.app.files import with_suffix
from exgs_viewer.app.modals import FORMAT_WORDS
from exgs_viewer.scene import WRITERS


@pytest.mark.parametrize(
    ("name", "suffix", "wanted"),
    [
        ("/a/room_10pct.ply", ".sog", "/a/room_10pct.sog"),
        ("/a/room.compressed.ply", ".ply", "/a/room.ply"),
        ("/a/room.PLY", ".compressed.ply", "/a/room.compressed.ply"),
        ("/a.b/room_1.5pct", ".spz", "/a.b/room_1.5pct.spz"),
    ],
)
def test_another_format_changes_nothing_but_the_end_of_the_name(name, suffix, wanted):
    assert with_suffix(name, suffix) == wanted


def test_the_window_offers_every_format_that_is_written():
    assert set(FORMAT_WORDS) == set(WRITERS)
