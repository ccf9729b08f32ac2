"""The README names what there is, and nothing it points to is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exgs_viewer.app.overlay import KEYS
from exgs_viewer.cli import COMMANDS
from exgs_viewer.render import BACKENDS
from exgs_viewer.restore import RESTORERS
from exgs_viewer.scene import FORMATS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_opens_with_the_two_commands():
    first = README.split("```")[1]
    assert [line.split(" #")[0].strip() for line in first.strip().splitlines()[1:]] == [
        "python3 run_viewer.py",
        "python3 run_viewer.py test",
    ]


@pytest.mark.parametrize("name", [f"exgs {command}" for command in COMMANDS] + sorted(set(FORMATS) - {".json"}))
def test_commands_and_formats_are_named(name):
    assert f"`{name}" in README


@pytest.mark.parametrize("name", [*BACKENDS, *RESTORERS])
def test_renderers_and_restorers_are_named(name):
    assert re.search(rf"\b{name}\b", README)


@pytest.mark.parametrize("keys", [keys for keys, _ in KEYS])
def test_every_key_of_the_window_stands_in_the_table(keys):
    rows = [line for line in README.splitlines() if line.startswith("| ")]
    for key in re.findall(r"[A-Z]\w+ \+ [A-Z]|F\d+|[A-Z][a-z]+(?: drag)?|\b[A-Z]\b|[\[\],.←→]", keys):
        assert any(key.lower() in row.lower() for row in rows), key


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link
