"""Settings survive a session, and nothing that was stored wrongly breaks the next one."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer import settings as module
from exgs_viewer.settings import (
    CompressionSettings,
    RenderSettings,
    RestoreSettings,
    Settings,
    WindowSettings,
    bytes_of,
    knob_range,
    load_settings,
    resource,
    save_settings,
    user_folder,
    write_atomically,
)

GROUPS = [RenderSettings, CompressionSettings, RestoreSettings, WindowSettings]
KNOBS = [(group, item.name) for group in GROUPS for item in fields(group)]


@given(st.floats(0.01, 1), st.integers(0, 3), st.floats(0.5, 3), st.tuples(*[st.floats(0, 1)] * 3))
def test_what_was_saved_is_loaded(tmp_path_factory, keep, degree, amplification, background):
    path = tmp_path_factory.mktemp("settings") / "settings.json"
    meant = Settings(
        compression=CompressionSettings(keep=keep, sh_degree=degree, amplification=amplification),
        render=RenderSettings(background=background),
        backend="cpu",
    )
    save_settings(meant, path)
    assert load_settings(path) == meant


def test_settings_lie_in_the_user_folder():
    save_settings(replace(Settings(), backend="reference"))
    assert json.loads((user_folder() / "settings.json").read_text())["backend"] == "reference"
    assert load_settings().backend == "reference"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', '{"compression": 3, "backend": ["cpu"]}'])
def test_a_damaged_settings_file_gives_the_defaults(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    assert load_settings(tmp_path / "settings.json") == Settings()


@pytest.mark.parametrize("keep", [0, 7.5, "much", None, True, float("nan"), [0.5]])
def test_a_value_that_does_not_fit_falls_back_alone(tmp_path, keep):
    stored = {"compression": {"keep": keep, "sh_degree": 2, "retired_setting": 1}, "backend": "cpu"}
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    loaded = load_settings(tmp_path / "settings.json")
    assert loaded.compression == CompressionSettings(sh_degree=2)
    assert loaded.backend == "cpu"


@pytest.mark.parametrize(("group", "name"), KNOBS)
def test_the_default_of_every_knob_lies_in_its_range(group, name):
    limits, value = knob_range(group, name), getattr(group(), name)
    if limits is None:
        assert isinstance(value, (str, tuple, bool))
    else:
        assert limits.low <= value <= limits.high
        assert not limits.log or limits.low > 0


def test_settings_are_plain_values():
    """They are compared with != and kept as JSON, so there may be no tensor or path in them."""
    for group in [Settings, *GROUPS]:
        for item in fields(group):
            value = getattr(group(), item.name)
            assert is_dataclass(value) or isinstance(value, (int, float, str, tuple)), get_type_hints(group)[item.name]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    monkeypatch.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_font_and_the_icon_are_found():
    assert resource("assets", "inter-ui-regular.ttf").read_bytes()[:4] == b"\0\1\0\0"
    assert resource("assets", "icon.png").read_bytes()[:4] == b"\x89PNG"


def test_the_digits_of_the_font_are_equally_wide():
    from PIL import ImageFont

    for name in ("inter-ui-regular.ttf", "inter-ui-semibold.ttf"):
        font = ImageFont.truetype(resource("assets", name), 64)
        widths = [font.getlength(digit) for digit in "0123456789"]
        assert max(widths) - min(widths) < 0.1


@pytest.mark.parametrize("text", ["800 kB", " 0.8MB", "800000", "0.0008gb", "800K"])
def test_sizes_are_read_as_people_write_them(text):
    assert bytes_of(text) == 800_000


@pytest.mark.parametrize("text", ["", "0", "0.0001 kB", "-5MB", "much", "5TB", "1e6", "MB", "5,5 MB"])
def test_what_is_no_size_is_none(text):
    assert bytes_of(text) is None
