"""Widgets derive from the fields of settings.py; judged without a window."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer.app.widgets import Scale, label_of, scale_of, sentence_of
from exgs_viewer.settings import CompressionSettings, Range, RenderSettings, RestoreSettings, WindowSettings, knob_range

FIELDS = [
    (kind, item.name)
    for kind in (CompressionSettings, RenderSettings, RestoreSettings, WindowSettings)
    for item in dataclasses.fields(kind)
]
RANGED = [(kind, name) for kind, name in FIELDS if knob_range(kind, name)]


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_field_has_a_label_and_a_sentence(kind, name):
    assert label_of(name) and sentence_of(kind, name).endswith(".")


@pytest.mark.parametrize(("kind", "name"), RANGED)
def test_the_slider_covers_its_range_and_shows_the_default_where_it_is(kind, name):
    scale, limits = scale_of(kind, name), knob_range(kind, name)
    assert scale.value(0.0) == pytest.approx(limits.low) and scale.value(1.0) == pytest.approx(limits.high)
    default = getattr(kind(), name)
    assert scale.value(scale.place(default)) == pytest.approx(default, rel=5e-3, abs=1e-9)


def test_retention_is_logarithmic_and_shown_in_per_cent():
    scale = scale_of(CompressionSettings, "keep")
    assert scale.value(0.5) == pytest.approx(0.1) and scale.factor == 100
    assert scale.format % (scale.factor * 0.1) == "10 %" and scale.format % (scale.factor * 0.0123) == "1.23 %"


def test_degrees_are_whole():
    scale = scale_of(CompressionSettings, "sh_degree")
    assert scale.whole and scale.format % 3 == "3"


@given(st.floats(0, 1), st.booleans())
def test_the_slider_is_monotone_and_stays_inside(place, log):
    scale = Scale(Range(0.01, 1.0, log=log))
    value = scale.value(place)
    assert 0.01 <= value <= 1.0 and scale.value(min(place + 0.05, 1.0)) >= value


def test_what_is_typed_is_kept_within_the_limits():
    scale = scale_of(CompressionSettings, "keep")
    assert scale.clamped(7.0) == 1.0 and scale.clamped(0.0) == 0.01 and scale.clamped(0.123456) == 0.123456
