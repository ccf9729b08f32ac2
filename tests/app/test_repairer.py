"""Restoring beside the drawing, on fakes: what comes first, how it fades in, when it is dropped."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import chain, repeat

import pytest
import torch

from exgs_viewer.app import repairer
from exgs_viewer.app.drafts import Drafts
from exgs_viewer.app.frames import Timing
from exgs_viewer.app.pace import FULL
from exgs_viewer.app.repairer import FADE
from exgs_viewer.app.state import Failed, Fetched, Finished, FrameReady, FrameRestored, Progress, Saved, SizeKnown
from exgs_viewer.errors import WeightsError
from exgs_viewer.restore.scene_filter import from_meta
from exgs_viewer.scene.camera import fly
from exgs_viewer.settings import CompressionSettings, RestoreSettings
from tests.conftest import tinting

LITE = RestoreSettings(restorer="lite")
BLUE = (0, 0, 2)
"""Of the first pixel: 0 in what is drawn, 1 in the fill, 0.5 in what the painter makes of it."""


@pytest.fixture
def resting(stand, view):
    """A scene whose full picture is on the screen, and the same view with the painter switched on."""
    stand.open()
    stand.rest(view)
    return replace(view, restoring=True, restore=LITE)


def turn(stand, view, seconds=0.0):
    """One turn of the main loop, `seconds` after the last one; the newest picture, once the drawing is done."""
    stand.clock.now += seconds
    stand.engine.show(view)
    while stand.engine._screen.busy:
        stand.woken.wait(0.02)
    stand.engine.poll()
    return stand.engine.frame


def blue_of(frame):
    return float(frame.pixels[BLUE])


def test_the_fill_stands_in_while_the_painter_works_and_both_fade_in(stand, resting):
    stand.painter.gate = threading.Event()
    turn(stand, resting)
    turn(stand, resting)
    assert stand.painter.entered.wait(20)
    shades = [blue_of(turn(stand, resting, FADE / 4)) for _ in range(7)]
    assert stand.engine.frame.sides == ("filled",) and shades[-1] == 1.0
    assert shades == sorted(shades) and any(0 < shade < 1 for shade in shades)
    stand.painter.gate.set()
    while stand.engine._repairer.busy:
        stand.woken.wait(0.02)
    stand.engine.poll()
    shades = [blue_of(turn(stand, resting, FADE / 4)) for _ in range(6)]
    assert stand.engine.frame.sides == ("restored",) and shades[-1] == 0.5
    assert shades == sorted(shades, reverse=True) and any(0.5 < shade < 1 for shade in shades)
    assert not stand.engine.fading


def test_a_quick_painter_needs_nobody_to_stand_in(stand, resting):
    stand.rest(resting)
    stand.restorer.given.clear()
    stand.rest(replace(resting, camera=fly(resting.camera, 0.1, 0, 0)))
    assert stand.restorer.given == [] and len(stand.painter.given) == 2


def test_a_moved_camera_drops_the_restored_picture_at_once(stand, resting):
    stand.rest(resting)
    assert stand.engine.frame.sides == ("restored",)
    moved = replace(resting, camera=fly(resting.camera, 0.1, 0, 0))
    frame = turn(stand, moved, 0.01)
    assert frame.request.camera == moved.camera and frame.sides == ("compressed",) and blue_of(frame) == 0


def test_a_moved_camera_stops_the_restorer(stand, resting):
    stand.painter.gate = threading.Event()
    turn(stand, resting)
    turn(stand, resting)
    assert stand.painter.entered.wait(20)
    turn(stand, replace(resting, camera=fly(resting.camera, 0.1, 0, 0)), 0.01)
    stand.painter.gate.set()
    events = stand.rest(resting)  # Back again: it is asked for anew, and what was given up on is not missed.
    assert any(isinstance(event, FrameRestored) for event in events) and len(stand.painter.given) == 2


def test_nothing_is_restored_while_a_button_is_held(stand, resting):
    held = replace(resting, held=True, camera=fly(resting.camera, 0.1, 0, 0))
    stand.rest(held)
    assert stand.engine.frame.sides == ("compressed",) and not stand.painter.given + stand.restorer.given
    stand.rest(replace(held, held=False))
    assert stand.engine.frame.sides == ("restored",)


def test_what_cannot_work_is_told_once_and_the_pane_says_compressed(stand, resting):
    stand.painter.error = WeightsError("no weights here")
    events = stand.rest(resting)
    assert [str(event.error) for event in events if isinstance(event, Failed)] == ["no weights here"]
    assert stand.engine.repairs.trouble == "no weights here" and stand.engine.settled
    stand.painter.error = None
    stand.rest(replace(resting, camera=fly(resting.camera, 0.1, 0, 0)))
    assert stand.engine.frame.sides == ("restored",) and not stand.engine.repairs.trouble


def test_fetched_weights_are_tried_at_once(stand, resting):
    stand.painter.error = WeightsError("no weights here")
    stand.rest(resting)
    stand.painter.error = None
    stand.engine.fetch()
    events = stand.until(Fetched)
    assert [event.text for event in events if isinstance(event, Progress)] == ["half of it"]
    stand.rest(resting)
    assert stand.engine.frame.sides == ("restored",) and not stand.engine.repairs.trouble


def test_fetching_can_be_stopped_and_holds_up_nothing(stand, resting):
    entered, let_go = threading.Event(), threading.Event()

    def fetch(report):
        entered.set()
        assert let_go.wait(20)
        report(0.5, "half of it")

    stand.engine._stages = replace(stand.engine._stages, fetch=fetch)
    stand.engine.fetch()
    assert entered.wait(20) and "download" in stand.engine.jobs
    stand.rest(resting)
    assert stand.engine.settled
    stand.engine.cancel("download")
    let_go.set()
    assert not [event for event in stand.until(Finished) if isinstance(event, Fetched)]


def test_the_engine_tells_who_restores_and_how_quickly(stand, resting):
    stand.rest(resting)
    repairs = stand.engine.repairs
    assert (repairs.preset, repairs.label) == ("lite", "Fake painter") and 0 <= repairs.seconds < 20


def test_the_trust_map_needs_no_second_restoration(stand, resting):
    stand.rest(resting)
    events = stand.rest(replace(resting, mode="trust"))
    assert len(stand.painter.given) == 1 and stand.engine.frame.sides == ("restored",)
    pixels = [event.frame for event in events if isinstance(event, FrameReady)][-1].pixels
    assert blue_of(stand.engine.frame) != 0.5 and pixels.shape == (320, 480, 4)


SCENE = RestoreSettings(restorer="scene")
MERGED = CompressionSettings(keep=0.1)


def filters(stand, found):
    """Let every compressed scene get the filter `found`; the counts of Gaussians that one was fitted for."""
    tuned = []

    def tune(cloud, pictures, renderer, report):
        tuned.append(len(cloud))
        report(0.5, "fitting")
        return found

    stand.engine._reducer._stages = replace(stand.engine._stages, tune=tune)
    return tuned


def bluer():
    return tinting(0.0, 0.0, 0.25)  # Of alpha, which is 1 everywhere.


def test_a_scene_s_filter_is_fitted_once_it_is_wanted_and_the_sliders_rest(stand, resting):
    tuned, wanted = filters(stand, bluer()), replace(resting, restore=SCENE, compression=MERGED)
    stand.rest(replace(wanted, restoring=False))
    assert tuned == []
    stand.engine.show(wanted)
    stand.rest(wanted)
    assert tuned == [100] and stand.engine.frame.sides == ("restored",) and blue_of(stand.engine.frame) == 0.25
    stand.rest(replace(wanted, camera=fly(wanted.camera, 0.1, 0, 0)))
    assert tuned == [100] and stand.engine.frame.sides == ("restored",)
    stand.rest(replace(wanted, compression=replace(wanted.compression, keep=0.3)))
    assert tuned == [100, 300] and stand.engine.settled


def test_a_filter_is_saved_with_the_scene_that_it_belongs_to(stand, resting, tmp_path):
    filters(stand, bluer())
    wanted = replace(resting, restore=SCENE, compression=MERGED)
    stand.rest(wanted)
    stand.engine.save(tmp_path / "a.exgs", wanted)
    stand.until(Saved)
    assert torch.equal(from_meta(stand.saved[-1][2]).biases[-1], bluer().biases[-1])
    stand.rest(replace(wanted, compression=replace(wanted.compression, keep=0.3), restoring=False))
    stand.engine.save(tmp_path / "b.exgs", replace(wanted, compression=replace(wanted.compression, keep=0.3)))
    stand.until(Saved)
    assert from_meta(stand.saved[-1][2]) is None


def test_the_exact_size_counts_the_filter(stand, resting):
    filters(stand, bluer())
    stages, wanted = stand.engine._stages, replace(resting, restore=SCENE, compression=MERGED)
    sizes = replace(stages, encode=lambda cloud, meta, settings, report: 10 * len(cloud) + 1000 * ("filter" in meta))
    stand.engine._stages = stand.engine._sizes._stages = sizes
    stand.rest(replace(wanted, restoring=False))
    assert stand.engine._sizes.of(MERGED).bytes == 1000
    known = [event for event in stand.rest(wanted) if isinstance(event, SizeKnown)]
    assert (known[-1].bytes, known[-1].exact) == (2000, True) == (stand.engine._sizes.of(MERGED).bytes, True)


def test_where_no_filter_helps_the_fill_stays_and_is_called_that(stand, resting):
    tuned = filters(stand, None)
    wanted = replace(resting, restore=SCENE, compression=MERGED)
    events = stand.rest(wanted)
    assert tuned == [100] and stand.engine.settled and "no scene filter" in stand.engine.repairs.label
    assert not [event for event in events if isinstance(event, Failed)]
    stand.rest(replace(wanted, camera=fly(wanted.camera, 0.1, 0, 0)))
    assert tuned == [100]


def test_a_filter_that_cannot_be_fitted_is_told_once(stand, resting):
    def fail(*arguments):
        raise MemoryError

    stand.engine._reducer._stages = replace(stand.engine._stages, tune=fail)
    events = stand.rest(replace(resting, restore=SCENE, compression=MERGED))
    failed = [event for event in events if isinstance(event, Failed)]
    assert [event.job for event in failed] == ["tune"] and stand.engine.settled


def test_an_opened_file_brings_its_filter(stand, view):
    open_scene = stand.engine._stages.open_scene
    stand.engine._stages = replace(
        stand.engine._stages,
        open_scene=lambda path, report: replace(open_scene(path, report), meta=bluer().stored()),
    )
    tuned = filters(stand, None)
    whole = replace(view, restoring=True, restore=SCENE, compression=replace(view.compression, keep=1.0))
    stand.open()
    stand.rest(whole)
    assert stand.engine.frame.sides == ("restored",) and blue_of(stand.engine.frame) == 0.25 and tuned == []


def test_a_plain_cut_has_no_filter(stand, resting):
    tuned = filters(stand, bluer())
    stand.rest(replace(resting, restore=SCENE))
    assert tuned == [] and stand.engine.frame.sides == ("restored",)
    assert "no scene filter" in stand.engine.repairs.label


def test_a_picture_is_saved_with_the_filter_that_is_there(stand, resting, tmp_path):
    filters(stand, bluer())
    wanted = replace(resting, restore=SCENE, compression=MERGED, size=(90, 60))
    stand.engine.capture(tmp_path / "before.png", wanted, {})
    stand.until(Saved)
    before = stand.saved[-1][1]
    stand.rest(wanted)
    stand.engine.capture(tmp_path / "after.png", wanted, {})
    stand.until(Saved)
    assert float(before[..., 2].max()) == 0 and float(stand.saved[-1][1][..., 2].min()) == 0.25


# In flight, as on a GPU: there pictures are restored as they are drawn.

QUICK = 10.0
"""Seconds, so that a busy machine changes nothing."""


@pytest.fixture
def flying(stand, resting, monkeypatch):
    """The same view restored once, where that was quick enough to go on with while the camera moves."""
    monkeypatch.setattr(repairer, "LIVE_ON", ("cpu",))
    monkeypatch.setattr(repairer, "QUICK", QUICK)
    stand.rest(resting)
    pixels = resting.size[0] * resting.size[1]
    stand.engine._repairer._paces["lite"] = (0.5 * QUICK / pixels, "cpu")
    stand.painter.given.clear()
    return resting


def moved(view, number):
    return replace(view, held=True, camera=fly(view.camera, 0.1 * number, 0, 0))


def test_a_quick_restorer_restores_every_picture_in_flight(stand, flying):
    for number in range(1, 4):
        frame = turn(stand, moved(flying, number), 0.01)
        assert frame.request.camera == moved(flying, number).camera
        assert frame.sides == ("restored",) and blue_of(frame) == 0.5
    assert len(stand.painter.given) == 3 and not stand.engine.fading


def test_at_rest_what_was_restored_in_flight_is_final(stand, flying):
    stand.rest(replace(moved(flying, 1), held=False))
    frame = stand.engine.frame
    assert frame.sides == ("restored",) and "restored" in frame.psnr and stand.engine.settled
    assert len(stand.painter.given) == 1, "it was restored again"
    assert stand.engine.repairs.seconds == frame.restoring or stand.engine.repairs.seconds < 0.01


def test_strength_and_divider_need_no_restorer_in_flight(stand, flying):
    wiped = replace(moved(flying, 1), layout="wipe", beside="compressed")
    turn(stand, wiped, 0.01)
    turn(stand, replace(wiped, wipe=0.2), 0.01)
    shown = turn(stand, replace(moved(flying, 1), restore=replace(flying.restore, strength=0.5)), 0.01)
    assert blue_of(shown) == 0.25
    assert len(stand.painter.given) == 1


def test_a_slow_restorer_waits_for_rest(stand, flying):
    pixels = flying.size[0] * flying.size[1]
    stand.engine._repairer._paces["lite"] = (2 * QUICK / pixels, "cpu")
    assert turn(stand, moved(flying, 1), 0.01).sides == ("compressed",) and not stand.painter.given


def test_it_does_not_come_and_go_where_it_is_just_quick_enough(stand, flying):
    turn(stand, moved(flying, 1), 0.01)
    pixels = flying.size[0] * flying.size[1]
    stand.engine._repairer._paces["lite"] = (1.2 * QUICK / pixels, "cpu")
    stand.engine._repairer._heed = lambda frame: None
    assert turn(stand, moved(flying, 2), 0.01).sides == ("restored",)
    stand.engine._repairer._paces["lite"] = (2 * QUICK / pixels, "cpu")
    assert turn(stand, moved(flying, 3), 0.01).sides == ("compressed",)


def test_what_goes_wrong_in_flight_is_told_at_rest_and_not_tried_again(stand, flying):
    stand.painter.error = WeightsError("no memory")
    frame = turn(stand, moved(flying, 1), 0.01)
    assert frame.sides == ("compressed",) and blue_of(frame) == 0
    asked = len(stand.painter.given)
    assert turn(stand, moved(flying, 2), 0.01).sides == ("compressed",)
    assert turn(stand, moved(flying, 3), 0.01).sides == ("compressed",)
    assert len(stand.painter.given) <= asked + 1
    events = stand.rest(replace(moved(flying, 3), held=False))
    assert [str(event.error) for event in events if isinstance(event, Failed)] == ["no memory"]


def test_in_flight_a_part_of_the_picture_before_is_blended_in_and_gone_at_rest(stand, flying):
    steady = replace(flying, restore=replace(flying.restore, steady=True))
    blues = chain([0.0], repeat(1.0))
    stand.painter.restore = lambda output, settings, stale=None, retention=None: torch.full_like(
        output.color, next(blues)
    )
    turn(stand, moved(steady, 1), 0.01)
    middle = (stand.engine.frame.pixels.shape[0] // 2, stand.engine.frame.pixels.shape[1] // 2, 2)
    turn(stand, moved(steady, 1.01), 0.01)
    assert float(stand.engine.frame.pixels[middle]) == pytest.approx(0.7, abs=0.01)
    stand.rest(moved(steady, 1.01))
    assert float(stand.engine.frame.pixels[middle]) == 1.0


def test_the_time_of_restoring_counts_where_it_is_decided_how_much_is_drawn(view):
    restoring = replace(view, restoring=True, size=(960, 540))
    drafts = Drafts()
    drafts.learn([Timing("compressed", 960 * 540, 100_000, 0.02)])
    assert drafts.affordable(restoring, 1_000_000, True, turning=True, live=True) == FULL
    drafts.learn([Timing("restored", 960 * 540, 1, 0.03)])
    assert drafts.affordable(restoring, 1_000_000, True, turning=True, live=False) == FULL
    assert drafts.affordable(restoring, 1_000_000, True, turning=True, live=True).scale < 1


# At rest, restorers with a latent average it over pictures that lie a little beside.


class Averager:
    """Makes blue of how many pictures it was given; remembers from where these were drawn."""

    name, label = "lite", "Fake painter"

    def __init__(self):
        self.given, self.gate, self.entered = [], None, threading.Event()

    def restore(self, output, settings, stale=lambda: False, retention=None):
        return self.averaged([output], settings, stale, retention)

    def averaged(self, outputs, settings, stale=lambda: False, retention=None):
        self.given.append(outputs)
        self.entered.set()
        if self.gate is not None and len(outputs) > 1:
            assert self.gate.wait(20)
        if stale():
            return None
        result = outputs[0].color.clone()
        result[..., 2] = 0.1 * len(outputs)
        return result


@pytest.fixture
def averager(stand, resting):
    made = Averager()
    stages = stand.engine._stages
    opened = replace(stages, open_restorer=lambda name: made if name == "lite" else stages.open_restorer(name))
    stand.engine._repairer._stages = opened
    return made


def test_at_rest_a_calmer_picture_replaces_the_first_one(stand, resting, averager):
    averager.gate = threading.Event()
    turn(stand, resting)
    turn(stand, resting)
    while len(averager.given) < 2:
        stand.woken.wait(0.02)
    turn(stand, resting, FADE)
    frame = turn(stand, resting, FADE)
    assert frame.sides == ("restored",) and blue_of(frame) == pytest.approx(0.1)
    averager.gate.set()
    stand.rest(resting)
    assert blue_of(stand.engine.frame) == pytest.approx(0.5) and stand.engine.frame.sides == ("restored",)
    assert [len(outputs) for outputs in averager.given] == [1, 5] and stand.engine.settled
    (_, camera, _), *others = stand.renderer.drawn[-5:]
    pixel = 1 / resting.camera.focal(resting.size)
    for (_, beside, size), (right, down) in zip(others, repairer.NEARBY, strict=True):
        assert size == resting.size and beside.position == camera.position
        seen = [sum(a * b for a, b in zip(camera.forward, axis, strict=True)) for axis in (beside.right, beside.down)]
        assert seen == pytest.approx([-right * pixel, -down * pixel], abs=0.02 * pixel)


def test_an_average_is_dropped_when_the_camera_moves(stand, resting, averager):
    averager.gate = threading.Event()
    turn(stand, resting)
    turn(stand, resting)
    while len(averager.given) < 2:
        stand.woken.wait(0.02)
    frame = turn(stand, replace(resting, camera=fly(resting.camera, 0.1, 0, 0)), 0.01)
    assert frame.sides == ("compressed",)
    averager.gate.set()
    stand.rest(resting)
    assert blue_of(stand.engine.frame) == pytest.approx(0.5)


def test_what_was_restored_in_flight_is_made_calmer_at_rest(stand, resting, averager, monkeypatch):
    monkeypatch.setattr(repairer, "LIVE_ON", ("cpu",))
    monkeypatch.setattr(repairer, "QUICK", QUICK)
    stand.rest(resting)
    averager.given.clear()
    for number in range(1, 4):
        frame = turn(stand, moved(resting, number), 0.01)
        assert frame.sides == ("restored",) and blue_of(frame) == pytest.approx(0.1)
    assert [len(outputs) for outputs in averager.given] == [1, 1, 1]
    stand.rest(replace(moved(resting, 3), held=False))
    assert blue_of(stand.engine.frame) == pytest.approx(0.5)
    *alone, last = [len(outputs) for outputs in averager.given[3:]]
    assert set(alone) == {1} and last == 5, "a slow machine draws a draft first, so there may be two alone"
