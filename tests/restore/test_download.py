"""Fetching with a hub that is made up: what is asked for, what is told, every failure in words."""

from __future__ import annotations

import errno

import pytest

from exgs_viewer.errors import Cancelled, WeightsError
from exgs_viewer.restore.download import LICENCE, PARTS, TERMS, fetch


def raising(error):
    def snapshot(*_, **__):
        raise error

    return snapshot


def of_kind(name):
    return type(name, (Exception,), {})("4 0 4")


def test_only_the_parts_that_are_needed_are_asked_for_and_bytes_are_told():
    asked, told = {}, []

    def snapshot(repository, allow_patterns, max_workers, tqdm_class):
        asked[repository] = tuple(allow_patterns)
        tqdm_class(total=2, desc="files").update(1)
        bar = tqdm_class(total=2_000_000, unit="B", unit_scale=True, name="huggingface_hub.snapshot_download")
        bar.update(500_000)
        bar.refresh()

    fetch(lambda share, text: told.append((share, text)), snapshot)
    assert asked == PARTS and not any("text_encoder" in file for files in asked.values() for file in files)
    assert (0.25, "Fetching stabilityai/sd-turbo, 0 MB") in told and told[-1][0] == 1.0
    assert LICENCE in TERMS


def test_it_stops_in_the_middle_of_a_file():
    def report(share, text):
        if share > 0.1:
            raise Cancelled("download")

    def snapshot(repository, tqdm_class, **_):
        bar = tqdm_class(total=100, unit="B")
        for _ in range(100):
            bar.update(1)
        pytest.fail("it went on to the end")

    with pytest.raises(Cancelled):
        fetch(report, snapshot)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (of_kind("GatedRepoError"), "terms agreed to on huggingface.co"),
        (of_kind("RepositoryNotFoundError"), "no longer on huggingface.co"),
        (of_kind("LocalEntryNotFoundError"), "cannot be reached; go online"),
        (ConnectionError("no route"), "cannot be reached; go online"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (of_kind("HfHubHTTPError"), "could not be fetched .4 0 4.; try again"),
    ],
)
def test_every_failure_is_told_in_words(error, said):
    with pytest.raises(WeightsError, match=said):
        fetch(lambda *_: None, raising(error))
