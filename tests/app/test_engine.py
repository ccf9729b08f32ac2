"""The engine without a screen, on fakes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch

from exgs_viewer.app import work
from exgs_viewer.app.pace import FULL, Cost
from exgs_viewer.app.state import (
    Failed,
    Finished,
    FrameReady,
    FrameRestored,
    RendererReady,
    Saved,
    SceneOpened,
    Scored,
    SizeKnown,
)
from exgs_viewer.app.work import Flight
from exgs_viewer.errors import BackendError, Cancelled, WeightsError
from exgs_viewer.restore.steady import KEPT
from exgs_viewer.scene.camera import fly
from exgs_viewer.settings import CompressionSettings, quiet

from .conftest import SIZE


def pruned(**values) -> CompressionSettings:
    """Settings of the paper's way, in which the ranking is cut; merging is test_reducer.py's."""
    return CompressionSettings(reduction="prune", amplify="constant", **values)


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def opened(stand, name="a"):
    return stand.open(name)


def test_opening_tells_renderer_scene_and_score_in_this_order(stand):
    events = stand.open()
    kinds = [type(event) for event in events if isinstance(event, (RendererReady, SceneOpened, Scored))]
    assert kinds == [RendererReady, SceneOpened, Scored]
    assert of(events, RendererReady)[0].label == "Fake, 1 thread"


def test_before_scoring_only_the_original_is_shown(stand, view):
    hold = threading.Event()
    look = stand.engine._stages.look
    stand.engine._stages = replace(stand.engine._stages, look=lambda *given: hold.wait(20) and look(*given))
    stand.engine.open("a")
    stand.until(SceneOpened)
    stand.engine.show(replace(view, layout="wipe"))
    frame = of(stand.until(FrameReady), FrameReady)[0].frame
    assert frame.sides == ("original",) and frame.request.ranked is None
    hold.set()
    stand.until(Scored)
    stand.engine.show(replace(view, layout="wipe"))
    assert of(stand.until(FrameReady), FrameReady)[-1].frame.sides == ("original", "compressed")


def test_scoring_replaces_the_cloud_by_its_permutation(stand):
    opened(stand)
    red = stand.engine.scene.cloud.sh[:, 0, 0]
    assert torch.equal(red, torch.arange(999, -1, -1).float())


@pytest.mark.parametrize("keep", [0.01, 0.0123, 0.1, 0.5, 1.0])
def test_the_slider_keeps_exactly_its_share_of_the_most_important(stand, view, keep):
    opened(stand)
    stand.rest(replace(view, compression=pruned(keep=keep)))
    cloud = [drawn[0] for drawn in stand.renderer.drawn if drawn[0] is not stand.engine.scene.cloud][-1]
    assert len(cloud) == round(1000 * keep)
    assert cloud.sh[:, 0, 0].min() == 1000 - len(cloud)


def test_nothing_is_drawn_when_nothing_changes(stand, view):
    opened(stand)
    stand.rest(view)
    drawn = len(stand.renderer.drawn)
    assert stand.engine.settled
    assert stand.rest(view) == []
    assert len(stand.renderer.drawn) == drawn


def test_moving_draws_a_smaller_draft_and_rest_the_full_picture(stand, view):
    opened(stand)
    stand.rest(view)
    stand.engine._screen.drafts.costs = {"compressed": Cost(0.001, 1e-4, 100, 480 * 320, 1.0)}
    moved = replace(view, camera=fly(view.camera, 0.1, 0, 0))
    stand.engine.show(moved)
    draft = of(stand.until(FrameReady), FrameReady)[-1].frame
    assert draft.request.draft.scale < 1
    assert draft.pixels.shape[:2] == draft.request.draft.size(SIZE)[::-1]
    stand.clock.now += 0.2
    stand.engine.show(moved)
    full = of(stand.until(FrameReady), FrameReady)[-1].frame
    assert full.request.draft == FULL and full.pixels.shape[:2] == SIZE[::-1]


def quick(stand):
    """Let the engine believe that drawing takes no time, however busy this machine is."""
    stand.engine._screen.drafts.costs = {
        side: Cost(1e-5, 1e-10, 1000, 480 * 320, 1e-4) for side in ("original", "compressed")
    }
    stand.engine._screen.drafts.last = FULL


def test_a_quick_renderer_needs_no_drafts(stand, view):
    opened(stand)
    stand.rest(view)
    quick(stand)
    stand.engine.show(replace(view, camera=fly(view.camera, 0.1, 0, 0)))
    assert of(stand.until(FrameReady), FrameReady)[-1].frame.request.draft == FULL


def test_moving_the_divider_draws_no_side_again(stand, view):
    opened(stand)
    stand.rest(replace(view, layout="wipe"))
    drawn = len(stand.renderer.drawn)
    events = stand.rest(replace(view, layout="wipe", wipe=0.25))
    assert len(stand.renderer.drawn) == drawn
    picture = of(events, FrameReady)[-1].frame.pixels
    assert picture[0, 119, 1] == 1.0 and picture[0, 120, 1] == pytest.approx(0.1)


def test_the_slider_does_not_draw_the_original_again(stand, view):
    opened(stand)
    stand.rest(replace(view, layout="wipe"))
    before = len(stand.renderer.drawn)
    quick(stand)
    stand.rest(replace(view, layout="wipe", compression=pruned(keep=0.3)))
    assert [len(drawn[0]) for drawn in stand.renderer.drawn[before:]] == [300]


def test_the_view_is_measured_at_rest(stand, view):
    opened(stand)
    frame = of(stand.rest(view), FrameReady)[-1].frame
    # Green differs by 0.9 in one of three channels.
    assert frame.psnr["compressed"] == pytest.approx(10 * torch.log10(torch.tensor(3 / 0.81)).item(), abs=1e-3)


def test_a_failed_open_keeps_the_scene_and_its_scoring_goes_on(stand, view):
    stand.engine.open("a")
    stand.until(SceneOpened)
    scene = stand.engine.scene
    stand.engine.open("bad.ply")
    events = stand.until(Failed) + stand.quiet()
    assert "bad.ply" in str(of(events, Failed)[0].error)
    assert not of(events, SceneOpened)
    assert len(stand.engine.scene.cloud) == len(scene.cloud)
    stand.engine.poll()
    stand.quiet()
    assert stand.engine.ready


def test_a_failed_open_without_a_scene_leaves_nothing_open(stand, view):
    stand.engine.open("bad.ply")
    stand.until(Failed)
    stand.quiet()
    stand.engine.show(view)
    assert stand.engine.scene is None and stand.renderer.drawn == []


def test_another_scene_replaces_the_first_with_its_sizes_and_pictures(stand, view):
    opened(stand)
    stand.rest(view)
    opened(stand, "b")
    events = stand.rest(view)
    assert of(events, FrameReady)[-1].frame.request.original is stand.engine.scene.cloud
    assert of(events, SizeKnown)[-1] == SizeKnown(500, 50, exact=True)


def test_the_size_is_estimated_at_once_and_exact_after_a_rest(stand, view):
    opened(stand)
    stand.rest(view)
    changed = replace(view, compression=pruned(keep=0.2))
    stand.engine.show(changed)
    assert of(stand.engine.poll(), SizeKnown) == [SizeKnown(2200, 200, exact=False)]
    assert of(stand.rest(changed), SizeKnown)[-1] == SizeKnown(2000, 200, exact=True)
    stand.engine.show(view)
    assert of(stand.engine.poll(), SizeKnown) == [SizeKnown(1000, 100, exact=True)], "known from before"


def test_restoration_is_shown_once_it_is_done(stand, view):
    opened(stand)
    events = stand.rest(replace(view, restoring=True))
    frame = of(events, FrameRestored)[-1].frame
    assert frame.sides == ("restored",) and frame.pixels[0, 0, 2] == 1.0
    [(_, retention)] = stand.restorer.given
    assert retention == view.compression.keep
    plain = of(events, FrameReady)[0].frame
    assert plain.sides == ("compressed",), "until it is done the pane says what it shows"


def test_a_restoration_of_an_old_view_is_not_shown(stand, view):
    opened(stand)
    stand.rest(view)
    stand.restorer.gate = threading.Event()
    restoring = replace(view, restoring=True)
    stand.engine.show(restoring)
    stand.until(FrameReady)
    stand.clock.now += 0.2
    stand.engine.show(restoring)
    assert stand.restorer.entered.wait(20)
    moved = replace(restoring, camera=fly(view.camera, 0.25, 0, 0))
    stand.engine.show(moved)
    stand.until(FrameReady)
    stand.restorer.gate.set()
    events = stand.rest(moved)
    shown = of(events, FrameRestored)
    assert shown and all(event.frame.request.camera == moved.camera for event in shown)
    assert shown[-1].frame.pixels[0, 0, 0] == pytest.approx(0.5)


def test_another_strength_neither_draws_nor_restores_again(stand, view):
    opened(stand)
    stand.rest(replace(view, restoring=True))
    drawn = len(stand.renderer.drawn)
    weaker = replace(view, restoring=True, restore=replace(view.restore, strength=0.5))
    events = stand.rest(weaker)
    assert of(events, FrameReady)[-1].frame.pixels[0, 0, 2] == 0.5
    assert len(stand.renderer.drawn) == drawn and len(stand.restorer.given) == 1


def test_a_renderer_that_runs_out_of_memory_is_told_in_words_and_tried_again(stand, view):
    opened(stand)
    stand.renderer.error = MemoryError()
    stand.engine.show(view)
    failed = of(stand.until(Failed), Failed)[0]
    assert "memory" in str(failed.error) and isinstance(failed.error, BackendError)
    stand.renderer.error = None
    stand.engine.show(replace(view, camera=fly(view.camera, 0.1, 0, 0)))
    assert of(stand.until(FrameReady), FrameReady)


def test_sizes_are_anchored_by_files_with_the_metadata_that_are_saved(stand, view):
    sizes, stages = [], stand.engine._stages

    def anchored(model, size_at, total, sh_degree, report):
        sizes.append(size_at(total // 10, report))
        return model

    def encode(cloud, meta, settings, report):
        return 10 * len(cloud) + 7 * (meta.get("camera") == view.camera)

    stand.engine._sizes._stages = replace(stages, anchored=anchored, encode=encode)
    opened(stand)
    while not sizes:  # Anchors are nothing that rest waits for.
        stand.rest(view)
    assert sizes == [1007]


def test_anchors_that_were_encoded_before_the_user_came_back_are_kept(stand, view):
    encoded, stages = [], stand.engine._stages

    def anchored(model, size_at, total, sh_degree, report):
        sizes = [size_at(total // 10, report), size_at(total // 5, report)]
        if len(encoded) == 2:
            raise Cancelled
        return sizes

    stages = replace(
        stages, anchored=anchored, encode=lambda cloud, meta, settings, report: encoded.append(cloud) or len(cloud)
    )
    opened(stand)
    known = work.Modelled(stand.engine._sizes.ranked, view.compression, None)
    found = {}
    with pytest.raises(Cancelled):
        work.anchor_sizes(stages, known, None, {}, found, quiet)
    encoded.append(None)
    assert work.anchor_sizes(stages, known, None, {}, found, quiet).model == [100, 200] and len(encoded) == 3


@pytest.mark.parametrize("what", ["save", "capture"])
def test_what_the_user_asks_for_does_not_wait_for_better_estimates(stand, view, tmp_path, what):
    started = threading.Event()

    def anchored(model, size_at, total, sh_degree, report):
        started.set()
        while True:  # Until it is unwanted.
            report(0.5, "At leisure")
            time.sleep(0.01)

    stand.engine._sizes._stages = replace(stand.engine._stages, anchored=anchored)
    opened(stand)
    stand.rest(view)
    while not started.is_set():
        stand.engine.poll()
    if what == "save":
        stand.engine.save(tmp_path / "x.exgs", view)
    else:
        stand.engine.capture(tmp_path / "x.png", view, {})
    assert of(stand.until(Saved), Saved)


def test_saving_writes_what_the_slider_shows(stand, view, tmp_path):
    opened(stand)
    stand.engine.save(tmp_path / "x.exgs", replace(view, compression=pruned(keep=0.25)))
    assert of(stand.until(Saved), Saved) == [Saved(tmp_path / "x.exgs", 2500)]
    _, cloud, meta = stand.saved[0]
    assert len(cloud) == 250 and meta["compression"]["keep"] == 0.25 and meta["camera"] == view.camera


def test_saving_before_there_is_a_compressed_scene_says_so(stand, view, tmp_path):
    with pytest.raises(BackendError, match="scored"):
        stand.engine.save(tmp_path / "x.exgs", view)


def test_a_capture_has_its_own_size_and_is_restored(stand, view, tmp_path):
    opened(stand)
    wide = replace(view, size=(300, 200), restoring=True)
    stand.engine.capture(tmp_path / "x.png", wide, {"a": 1})
    stand.until(Saved)
    _, picture, meta = stand.saved[0]
    assert picture.shape == (200, 300, 3) and meta == {"a": 1}
    assert picture[0, 0].tolist() == pytest.approx([0.25, 0.1, 1.0])


def test_a_film_shows_the_layout_from_every_camera_restored(stand, view, tmp_path):
    opened(stand)
    wide = replace(view, size=(300, 200), restoring=True, restore=replace(view.restore, strength=0.5))
    cameras = [fly(view.camera, 0.1 * number, 0, 0) for number in range(4)]
    stand.engine.film(tmp_path / "x.mp4", wide, Flight(cameras, 30.0))
    events = stand.until(Saved)
    ((path, pictures, fps),) = stand.saved
    assert of(events, Saved) == [Saved(tmp_path / "x.mp4", 3)] and (path, fps) == (tmp_path / "x.mp4", 30.0)
    assert [picture.shape for picture in pictures] == [(200, 300, 3)] * 4
    reds = [float(picture[0, 0, 0]) for picture in pictures]
    assert reds == pytest.approx([camera.position[0] for camera in cameras])
    assert all(float(picture[0, 0, 2]) == pytest.approx(0.5) for picture in pictures)


def test_a_film_that_is_cancelled_or_fails_leaves_nothing(stand, view, tmp_path):
    opened(stand)
    stand.restorer.gate = threading.Event()
    flight = Flight([view.camera] * 3, 30.0)
    stand.engine.film(tmp_path / "x.mp4", replace(view, restoring=True), flight)
    assert stand.restorer.entered.wait(20)
    stand.engine.cancel("film")
    stand.restorer.gate.set()
    stand.until(Finished)
    assert not stand.saved and not list(tmp_path.iterdir())
    stand.restorer.error = WeightsError("no weights here")
    stand.engine.film(tmp_path / "x.mp4", replace(view, restoring=True), flight)
    (failed,) = of(stand.until(Failed), Failed)
    assert (failed.job, str(failed.error)) == ("film", "no weights here") and not stand.saved


def test_a_steady_film_leans_on_the_picture_before(stand, view, tmp_path):
    opened(stand)
    restoring = replace(view, restoring=True, restore=replace(view.restore, steady=True))
    blues = iter([1.0, 0.0])
    stand.restorer.restore = lambda output, settings, stale=None, retention=None: torch.full_like(
        output.color, next(blues)
    )
    stand.engine.film(tmp_path / "x.mp4", restoring, Flight([view.camera, fly(view.camera, 0.01, 0, 0)], 30.0))
    stand.until(Saved)
    _, (first, second), _ = stand.saved[0]
    assert float(first[100, 100, 2]) == 1.0 and float(second[100, 100, 2]) == pytest.approx(KEPT)


def test_another_voxel_size_ranks_again(stand, view):
    opened(stand)
    stand.rest(view)
    ranked = stand.engine._ranked
    stand.rest(replace(view, compression=pruned(voxel_size=0.5)))
    assert stand.engine._ranked is not ranked and stand.engine._ranked.compression.voxel_size == 0.5


def test_the_ranking_follows_the_voxel_slider_while_it_moves(stand, view):
    opened(stand)
    stand.rest(view)
    for voxel_size in (0.5, 0.25):
        stand.engine.show(replace(view, compression=pruned(voxel_size=voxel_size)))
        stand.quiet()  # The clock stands still: nothing has come to rest.
        assert stand.engine._ranked.compression.voxel_size == voxel_size


def test_a_new_ranking_chooses_others_and_draws_the_original_no_more(stand, view):
    opened(stand)
    wide = replace(view, layout="wipe")
    stand.rest(wide)
    original = stand.engine.scene.cloud
    stages = stand.engine._stages
    stand.engine._stages = replace(stages, rank=lambda best, voxel: torch.from_numpy(best.index[::-1].copy()))
    stand.renderer.drawn.clear()
    stand.rest(replace(wide, compression=pruned(keep=0.1, voxel_size=0.5)))
    assert original not in [cloud for cloud, _, _ in stand.renderer.drawn]
    least = stand.renderer.drawn[-1][0].sh[:, 0, 0]
    assert least.sort().values.tolist() == list(range(100))


def test_cancelling_the_scoring_leaves_the_original_and_it_can_be_asked_for_again(stand, view):
    entered, hold = threading.Event(), threading.Event()
    look = stand.engine._stages.look

    def slow(cloud, up, renderer, report):
        entered.set()
        assert hold.wait(20)
        report(0.5, "half")
        return look(cloud, up, renderer, report)

    stand.engine._stages = replace(stand.engine._stages, look=slow)
    stand.engine.open("a")
    stand.until(SceneOpened)
    stand.engine.show(view)
    stand.until(FrameReady)
    assert entered.wait(20)
    stand.engine.cancel("score")
    hold.set()
    stand.quiet()
    assert not stand.engine.ready and stand.engine.scene is not None
    stand.engine.score()
    stand.until(Scored)
