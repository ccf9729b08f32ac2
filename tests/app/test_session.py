"""The session on the faked engine: what the user does and what the window then says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from exgs_viewer.app.keys import press
from exgs_viewer.app.memory import load_memory
from exgs_viewer.app.readout import restoring_text
from exgs_viewer.app.session import Session
from exgs_viewer.scene import WRITERS, open_scene
from exgs_viewer.scene.camera import fly
from exgs_viewer.settings import PRESETS, RestoreSettings, Settings, load_settings, preset_of
from tests.app.conftest import FakeModel


class Asked:
    """Remembers the questions."""

    def __init__(self):
        self.questions = []

    def __getattr__(self, name):
        return lambda *given: self.questions.append((name, *given))


@pytest.fixture
def session(stand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(restore=RestoreSettings(restorer="inpaint"))
    session = Session(settings, stand.engine, clock=stand.clock)
    session.asker = Asked()
    session.set_size((480, 320))
    session.stand = stand
    return session


def lived(session, turns=12):
    """Let some time pass in which nothing is touched."""
    for _ in range(turns):
        session.step()
        while session.engine.working:
            session.stand.woken.clear()
            session.step()
            if session.engine.working:
                session.stand.woken.wait(0.2)
        session.step()
        session.stand.clock.now += 0.2
    return session


def ready(session):
    session.open("a")
    return lived(session)


def test_at_first_it_says_what_to_do(session):
    assert lived(session).overlay().centre[0] == "Drop a scene here"
    assert not session.panel().scored and session.panel().scene == ""


def test_a_scene_is_named_counted_and_labelled(session):
    ready(session)
    panel, (original, label) = session.panel(), session.overlay().labels
    assert (original.title, original.detail.split(" ")[0]) == ("Original", "1,000")
    assert "1,000 Gaussians" in panel.facts and panel.scored and panel.size == "1.00 kB"
    assert panel.size_lines[1] == "keeps 100 of 1,000, 10.0 bytes each"
    assert (label.title, label.detail) == ("Compressed", "100 Gaussians · 1.00 kB · recoloured")
    assert label.note.endswith("dB")


def test_the_slider_shows_an_estimate_with_a_tilde_and_then_the_exact_size(session):
    ready(session)
    session.set_compression(keep=0.5)
    session.step()
    assert (
        session.panel().size == "~5.50 kB" and session.panel().size_lines[1] == "keeps 500 of 1,000, ~11.0 bytes each"
    )
    assert lived(session).panel().size == "5.00 kB"


def test_every_layout_is_reached_and_labelled_by_its_key(session):
    ready(session)
    titles = []
    for _ in range(4):
        press(session, "C", ctrl=False)
        lived(session, 4)
        titles.append([label.title for label in session.overlay().labels])
    assert titles == [["Original", "Compressed"], ["Difference"], ["Compressed"], ["Original", "Compressed"]]


def test_restoring_is_named_by_the_restorer(session):
    ready(session)
    press(session, "R", ctrl=False)
    press(session, "C", ctrl=False)
    labels = lived(session).overlay().labels
    assert [label.title for label in labels] == ["Original", "Compressed", "Fake fill"]
    assert [(label.left, label.right) for label in labels] == [(0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)]


def test_a_wipe_of_three_has_two_handles_and_can_be_one_of_two(session):
    ready(session)
    press(session, "X", ctrl=False)
    assert "Press R" in session.overlay().toast and session.view.beside == "all"
    press(session, "R", ctrl=False)
    labels = lived(session).overlay().labels
    assert [label.title for label in labels] == ["Original", "Compressed", "Fake fill"]
    assert [label.right for label in labels] == [*session.view.wipes, 1.0]
    assert "restored in" in labels[2].note and "last picture" in restoring_text(session.panel().repairs)
    pairs = []
    for _ in range(2):
        press(session, "X", ctrl=False)
        pairs.append([label.title for label in lived(session, 4).overlay().labels])
    assert pairs == [["Original", "Fake fill"], ["Compressed", "Fake fill"]]


def test_the_trust_map_has_a_legend_and_needs_a_restored_picture(session):
    ready(session)
    press(session, "T", ctrl=False)
    overlay = lived(session).overlay()
    assert session.view.restoring and "levels of 255" in overlay.legend.title
    assert (overlay.legend.left, overlay.legend.right) == (session.view.wipes[1], 1.0)
    press(session, "R", ctrl=False)
    assert session.view.mode == "color" and lived(session).overlay().legend is None


def test_every_scene_opens_as_it_was_trained(session):
    for path, antialiased in (("a", False), ("fine", True), ("b", False)):
        session.open(path)
        lived(session)
        assert session.view.render.antialiased is antialiased
    session.set_render(antialiased=True)
    assert lived(session).frame.request.render.antialiased


def test_undo_leaves_a_scene_drawn_as_it_was_trained(session):
    ready(session)
    session.set_compression(keep=0.5)
    lived(session)
    session.open("fine")
    lived(session)
    for keep in (0.1, 0.1):  # the second time there is nothing left to undo
        press(session, "Z", ctrl=True)
        assert session.view.render.antialiased and session.view.compression.keep == keep
        lived(session)


def test_a_preset_changes_the_way_and_leaves_the_knobs(session):
    ready(session)
    session.set_compression(keep=0.03, sh_degree=1)
    for name in ("paper", "best", "default"):
        session.set_preset(name)
        compression = session.view.compression
        assert preset_of(compression) == name and (compression.keep, compression.sh_degree) == (0.03, 1)
        assert compression.codec == PRESETS[name].codec and compression.refine is (name == "best")
    session.set_preset("paper")
    assert session.panel().size == "…"  # and not that of the codec before
    assert lived(session).panel().size not in ("", "…")
    session.undo()
    assert session.view.compression.codec == "compact" and session.panel().size == "…"
    session.set_compression(colors="full")
    assert preset_of(session.view.compression) is None


def test_undo_brings_the_parameters_back(session):
    ready(session)
    session.set_compression(keep=0.5)
    lived(session)
    session.set_compression(keep=0.7)
    lived(session)
    press(session, "Z", ctrl=True)
    assert session.view.compression.keep == 0.5
    lived(session)
    press(session, "Z", ctrl=True)
    press(session, "Y", ctrl=True)
    assert session.view.compression.keep == 0.5
    press(session, "Y", ctrl=True)
    assert session.view.compression.keep == 0.7


def test_bookmarks_are_kept_for_the_next_session(session):
    ready(session)
    press(session, "3", ctrl=True)
    place = session.nav.camera
    session.nav = session.nav.__class__(**{**session.nav.__dict__, "camera": session.nav.home})
    press(session, "3", ctrl=False)
    lived(session)
    assert session.nav.camera == place
    assert load_memory().bookmark("demo", 3) == place


def test_turning_over_is_remembered_for_the_file(session):
    ready(session)
    press(session, "U", ctrl=False)
    assert session.nav.up == (0.0, 1.0, 0.0) and load_memory().up_of("demo") == (0.0, 1.0, 0.0)


def test_an_error_is_told_and_the_scene_stays(session):
    ready(session)
    session.open("bad.ply")
    lived(session)
    assert session.panel().told.kind == "bad" and "bad.ply" in session.panel().told.text
    assert session.panel().scored and session.overlay().labels


def test_saving_asks_for_a_file_and_tells_success(session, tmp_path):
    ready(session)
    press(session, "S", ctrl=True)
    assert session.asker.questions == [("ask_save", tmp_path / "demo_10pct.exgs")]
    session.save(tmp_path / "out")
    lived(session)
    assert session.stand.saved[0][0] == tmp_path / "out.exgs" and session.panel().told.kind == "good"


def test_a_video_flies_through_the_bookmarks_or_before_what_lies_in_the_middle(session, tmp_path):
    ready(session)
    session.ask_video()
    ((name, path, size, bookmarks),) = session.asker.questions
    assert (name, path.parent, path.suffix, size, bookmarks) == ("ask_video", tmp_path, ".mp4", (480, 320), 0)
    session.film(tmp_path / "x", (64, 48), "bookmarks", 0.2)
    assert session.panel().told.kind == "bad" and "needs two" in session.panel().told.text
    here = session.nav.camera
    press(session, "1", ctrl=True)
    session.travel.stand(fly(here, 0.5, 0, 0))
    press(session, "7", ctrl=True)
    session.ask_video()
    assert session.asker.questions[-1][-1] == 2
    for way in ("bookmarks", "sway", "around"):
        session.film(tmp_path / way, (64, 48), way, 0.2)
        lived(session)
        path, pictures, fps = session.stand.saved[-1]
        assert path == tmp_path / f"{way}.mp4" and fps == 30 and session.panel().told.text.startswith("Saved ")
        assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 6
        reds = [float(picture[0, 0, 0]) for picture in pictures]  # the camera's x
        if way == "bookmarks":
            assert reds[0] == pytest.approx(here.position[0]) and reds[-1] == pytest.approx(here.position[0] + 0.5)
            assert reds == sorted(reds)
        else:
            assert reds[0] == pytest.approx(here.position[0] + 0.5) and max(reds) > reds[0] > min(reds)


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".splat", ".sog"])
def test_exporting_writes_the_compressed_scene_in_the_format_of_the_suffix(session, tmp_path, suffix):
    ready(session)
    press(session, "X", ctrl=True)
    assert session.asker.questions == [("ask_export", tmp_path / "demo_10pct.ply")]
    session.export(tmp_path / f"out{suffix}")
    lived(session)
    assert session.panel().told.kind == "good" and session.panel().told.text.startswith("Saved ")
    found = open_scene(tmp_path / f"out{suffix}").cloud
    assert len(found) == 100


def test_exporting_as_exgs_is_saving(session, tmp_path):
    ready(session)
    session.export(tmp_path / "out.exgs")
    lived(session)
    assert session.stand.saved[0][0] == tmp_path / "out.exgs"


@pytest.mark.parametrize("name", ["out.obj", "out", "out.ply.zip"])
def test_a_format_that_there_is_not_is_refused_with_those_there_are(session, tmp_path, name):
    ready(session)
    session.export(tmp_path / name)
    told = session.panel().told
    assert told.kind == "bad" and all(suffix in told.text for suffix in WRITERS)
    assert "save" not in session.engine.jobs and not list(tmp_path.glob("out*"))


def test_an_export_that_fails_is_told_and_leaves_the_file_that_was_there(session, tmp_path, monkeypatch):
    ready(session)
    (tmp_path / "out.ply").write_bytes(b"before")
    monkeypatch.setattr("exgs_viewer.settings.os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space")))
    session.export(tmp_path / "out.ply")
    lived(session)
    assert session.panel().told.kind == "bad" and "out.ply: cannot be written (No space" in session.panel().told.text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))] == ["out.ply"]
    assert (tmp_path / "out.ply").read_bytes() == b"before"


def test_a_picture_is_saved_at_its_size_with_its_view(session, tmp_path):
    ready(session)
    session.capture(tmp_path / "x.png", (640, 400))
    lived(session)
    _, picture, meta = session.stand.saved[0]
    assert picture.shape == (400, 640, 3) and meta["view"]["compression"]["keep"] == 0.1 and meta["scene"] == "demo"


def test_keys_for_retention_stay_within_the_limits(session):
    ready(session)
    for _ in range(60):
        press(session, "]", ctrl=False)
    assert session.view.compression.keep == 1.0
    press(session, "[", ctrl=False)
    assert session.view.compression.keep == pytest.approx(0.909)


def test_the_field_of_view_and_settings_are_remembered(session):
    ready(session)
    session.set_fov(70)
    session.set_compression(keep=0.25)
    assert math.degrees(session.nav.camera.fov_y) == pytest.approx(70)
    lived(session, 10)
    stored = load_settings()
    assert stored.window.fov_degrees == 70 and stored.compression.keep == 0.25


def test_a_script_leaves_no_trace(stand, tmp_path):
    session = Session(Settings(), stand.engine, remember=False, clock=stand.clock)
    session.stand = stand
    ready(session)
    session.set_compression(keep=0.25)
    press(session, "U", ctrl=False)
    session.close()
    assert load_memory().recent == () and load_settings() == Settings()


def test_double_click_turns_around_the_surface_under_the_mouse(session):
    ready(session)
    session.travel.focus_at(0.5, 0.5)
    # The fake draws a wall two units ahead.
    assert session.nav.focus == pytest.approx((0.25, 0.0, 0.0), abs=1e-3)


def test_a_missing_picture_is_told(session):
    session.open("nothing.png")
    assert session.panel().told.kind == "bad" and "nothing.png" in session.panel().told.text
    assert not Path("nothing.png").exists()


def test_a_size_that_is_typed_is_filled_and_not_exceeded(session, monkeypatch):
    learned = FakeModel()
    learned.bytes = lambda count, degree: 10 * count
    monkeypatch.setattr(FakeModel, "learned", lambda self, count, *_: self if count == 100 else learned)
    ready(session)
    session.fit("4 kB")
    session.step()
    assert session.panel().size.startswith("~")
    for _ in range(4):
        lived(session)
    assert session.panel().size == "3.98 kB" and session.view.compression.keep == pytest.approx(0.398)
    session.set_compression(keep=0.5)
    for _ in range(4):
        lived(session)
    assert session.panel().size == "5.00 kB"


@pytest.mark.parametrize(("size", "keep"), [("1", 0.01), ("1MB", 1.0)])
def test_a_size_beyond_all_retentions_takes_the_last_one(session, size, keep):
    ready(session)
    session.fit(size)
    for _ in range(4):
        lived(session)
    assert session.view.compression.keep == keep
    assert ("Not even 1.00 % of the Gaussians may fit into 1 B" in session.panel().told.text) == (size == "1")


def test_a_size_is_asked_for_too_early(session):
    session.open("a")
    session.fit("4 kB")
    assert "not known yet" in session.panel().told.text


def test_a_size_that_is_none_is_told(session):
    ready(session)
    session.fit("much")
    assert session.panel().told.text == "much: this is no size of a file; type one like 800 kB or 5 MB."
    assert session.view.compression.keep == 0.1
