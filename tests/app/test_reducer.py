"""How the engine merges: at once roughly, then better and better while the sliders rest."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace

from exgs_viewer.app.state import Failed, FrameReady, Saved, SceneOpened, Scored, SizeKnown
from exgs_viewer.compress.rounding import COARSEST, octaves
from exgs_viewer.errors import WeightsError
from exgs_viewer.pipeline import Stage, settled
from exgs_viewer.scene.camera import fly
from exgs_viewer.settings import CompressionSettings
from tests.app.conftest import FakeModel, FakePrepared

PLAIN, FOLDED, BEST = 1.0, 0.25, 0.75
"""Opacities by which the fakes tell what was done to a cloud."""


def drawn(stand) -> list[tuple[int, float]]:
    """Count and opacity of every compressed cloud that was drawn; the original is drawn to be compared with."""
    original = stand.engine.scene.cloud
    clouds = [cloud for cloud, _, _ in stand.renderer.drawn]
    return [(len(cloud), float(cloud.opacities[0])) for cloud in clouds if len(cloud) < len(original)]


def merging(view, keep=0.1, **values):
    return replace(view, compression=CompressionSettings(keep=keep, **values))


def opened(stand, view):
    stand.engine.open("a")
    stand.until(SceneOpened)
    stand.engine.show(view)
    stand.until(Scored)
    stand.rest(view)


def test_a_resting_view_ends_with_the_best_that_merging_makes(stand, view):
    opened(stand, merging(view))
    assert drawn(stand)[-1] == (100, BEST)
    assert stand.engine.settled and stand.engine._sizes.of(merging(view).compression).exact


def test_a_moved_slider_shows_the_plain_cut_until_it_is_merged(stand, view):
    opened(stand, merging(view))
    stand.renderer.drawn.clear()
    stand.engine.show(merging(view, 0.3))
    stand.until(FrameReady)
    assert drawn(stand)[0] == (300, PLAIN)
    stand.rest(merging(view, 0.3))
    opacities = [opacity for _, opacity in drawn(stand)]
    assert opacities[-1] == BEST and opacities == sorted(opacities, key=[PLAIN, FOLDED, 0.5, BEST].index)


def test_a_small_step_of_the_slider_keeps_the_last_merged_picture_meanwhile(stand, view):
    opened(stand, merging(view))
    stand.renderer.drawn.clear()
    stand.rest(merging(view, 0.11))
    assert PLAIN not in [opacity for _, opacity in drawn(stand)]
    assert drawn(stand)[-1] == (110, BEST)


def test_nothing_is_polished_while_the_slider_moves(stand, view):
    opened(stand, merging(view))
    stand.renderer.drawn.clear()
    for keep in (0.2, 0.3, 0.4):
        stand.engine.show(merging(view, keep))
        stand.quiet()  # The clock stands still: nothing has come to rest.
        stand.engine.show(merging(view, keep))
        stand.quiet()
    assert {opacity for _, opacity in drawn(stand)} <= {PLAIN, FOLDED}


def test_another_view_polishes_nothing_again(stand, view):
    calls, polish = [], stand.engine._stages.polish
    stand.engine._reducer._stages = replace(
        stand.engine._stages, polish=lambda *arguments: calls.append(1) or polish(*arguments)
    )
    opened(stand, merging(view))
    moved = merging(view)
    stand.rest(replace(moved, camera=fly(view.camera, 0.1, 0, 0)))
    assert len(calls) == 1


def pruning(view, keep=0.1, **values):
    return merging(view, keep, reduction="prune", **values)


def test_pruning_merges_nothing(stand, view):
    opened(stand, pruning(view, amplify="constant"))
    assert {opacity for _, opacity in drawn(stand)} == {PLAIN}


def test_what_is_pruned_is_amplified_without_a_tree(stand, view):
    opened(stand, pruning(view))
    assert drawn(stand)[-1] == (100, BEST)
    assert stand.engine.settled and stand.engine._reducer.prepared is None
    stand.renderer.drawn.clear()
    stand.rest(pruning(view, 0.3))
    opacities = [opacity for _, opacity in drawn(stand)]
    assert opacities[-1] == BEST and opacities == sorted(opacities, key=[PLAIN, FOLDED, BEST].index)


def test_from_pruning_to_merging_and_back_nothing_is_mixed_up(stand, view):
    opened(stand, pruning(view))
    for wanted, stage in ((merging(view), "recoloured"), (pruning(view), "amplified"), (merging(view), "recoloured")):
        stand.rest(wanted)
        reduced = stand.engine._reducer.exact(wanted.compression)
        assert (reduced.stage, reduced.final) == (stage, True)


def test_other_voxels_are_amplified_anew(stand, view):
    opened(stand, pruning(view))
    stand.rest(pruning(view, voxel_size=0.5))
    reduced = stand.engine._reducer.exact(pruning(view, voxel_size=0.5).compression)
    assert reduced.final and reduced.compression.voxel_size == 0.5


def test_amplified_scenes_are_saved_as_they_are_shown(stand, view, tmp_path):
    opened(stand, pruning(view))
    stand.engine.save(tmp_path / "a.exgs", pruning(view))
    stand.until(Saved)
    assert float(stand.saved[-1][1].opacities[0]) == BEST


def test_without_the_network_s_weights_the_plain_cut_stays_and_it_is_told_once(stand, view):
    def absent(*arguments):
        raise WeightsError("There are no weights.")
        yield

    stand.engine._reducer._stages = replace(stand.engine._stages, amplify=absent)
    stand.engine.open("a")
    stand.until(SceneOpened)
    stand.engine.show(pruning(view))
    stand.until(Scored)
    failed = [event for event in stand.rest(pruning(view)) if isinstance(event, Failed)]
    assert [str(event.error) for event in failed] == ["There are no weights."]
    assert drawn(stand)[-1] == (100, PLAIN)


def test_saving_waits_for_the_best(stand, view, tmp_path):
    opened(stand, merging(view, reduction="prune"))
    stand.engine.show(merging(view, 0.2))
    stand.quiet()
    stand.engine.show(merging(view, 0.2))  # There is a tree now, but nothing has been polished.
    stand.quiet()
    stand.engine.save(tmp_path / "a.exgs", merging(view, 0.2))
    stand.until(Saved)
    _, cloud, _ = stand.saved[-1]
    assert len(cloud) == 200 and float(cloud.opacities[0]) == BEST


def test_if_merging_fails_the_plain_cut_stays_and_it_is_told_once(stand, view):
    def broken(prepared, compression):
        raise MemoryError

    stand.engine._reducer._stages = replace(stand.engine._stages, fold=broken)
    stand.engine.open("a")
    stand.until(SceneOpened)
    stand.engine.show(merging(view))
    stand.until(Scored)
    events = stand.rest(merging(view))
    assert len([event for event in events if isinstance(event, Failed)]) == 1
    assert drawn(stand)[-1] == (100, PLAIN) and stand.engine._sizes.of(merging(view).compression).exact


def test_another_scene_forgets_the_tree(stand, view):
    opened(stand, merging(view))
    stand.renderer.drawn.clear()
    stand.engine.open("b")
    stand.until(SceneOpened)
    stand.engine.show(merging(view))
    stand.until(Scored)
    stand.rest(merging(view))
    assert drawn(stand)[-1] == (50, BEST)


def test_the_scene_says_how_coarsely_its_merged_gaussians_are_stored(stand, view, tmp_path):
    """What was asked for stays the name under which everything is known."""
    asked, encoded = merging(view).compression, []

    def encode(cloud, meta, settings, report):
        encoded.append((meta["compression"], settings))
        return 10 * len(cloud)

    def polish(prepared, compression, renderer, pictures, report):
        kept = prepared.cloud.take(slice(0, 100))
        yield Stage("recoloured", kept, settled(prepared, compression), kept, 30.0)

    drawers = []
    stages = replace(
        stand.engine._stages,
        prepare=lambda cloud, looked, renderer, report: drawers.append(renderer) or FakePrepared(cloud, gaps=(20, 20)),
        polish=polish,
        encode=encode,
    )
    stand.engine._stages = stand.engine._reducer._stages = stand.engine._sizes._stages = stages
    opened(stand, merging(view))
    reduced = stand.engine._reducer.exact(asked)
    coarse = replace(asked, coarser=COARSEST)
    assert drawers == [stand.renderer] and (reduced.compression, reduced.settings) == (asked, coarse)
    assert (asdict(coarse), coarse) in encoded and stand.engine._sizes.of(asked).exact
    calls = len(encoded)
    stand.rest(merging(view))
    assert len(encoded) == calls, "nothing is computed twice"


def test_what_the_scene_says_reaches_the_estimate_without_anchors(stand, view):
    class Model(FakeModel):
        size = 1000

        def bytes(self, count, sh_degree):
            return self.size

        def settled(self, known):
            settled = Model()
            settled.size = 2000
            return settled

    def anchored(model, size_at, total, sh_degree, report):
        while True:  # Until it is unwanted.
            report(0.5, "At leisure")

    stages = replace(
        stand.engine._stages,
        prepare=lambda cloud, looked, renderer, report: FakePrepared(cloud, gaps=(12.0, 9.0)),
        size_model=lambda cloud, report, compression: Model(),
        anchored=anchored,
    )
    stand.engine._stages = stand.engine._reducer._stages = stand.engine._sizes._stages = stages
    opened(stand, merging(view))
    stand.rest(merging(view))
    assert stand.engine._sizes.of(merging(view, keep=0.37).compression).bytes == 2000


def test_estimates_are_anchored_at_files_rounded_as_the_scene_says(stand, view):
    gaps, rounded = [], []

    class Model(FakeModel):
        def settled(self, known):
            gaps.append(known)
            return self

    def anchored(model, size_at, total, sh_degree, report):
        size_at(total // 100, report)
        return model

    stages = replace(
        stand.engine._stages,
        prepare=lambda cloud, looked, renderer, report: FakePrepared(cloud, gaps=(12.0, 9.0)),
        size_model=lambda cloud, report, compression: Model(),
        anchored=anchored,
        encode=lambda cloud, meta, settings, report: rounded.append(settings) or 10 * len(cloud),
    )
    stand.engine._stages = stand.engine._reducer._stages = stand.engine._sizes._stages = stages
    opened(stand, merging(view))
    stand.rest(merging(view))
    while "anchors" in stand.engine.jobs:  # Nobody waits for these.
        stand.engine.poll()
    assert gaps == [(12.0, 9.0)] and rounded[-1] == replace(
        merging(view).compression, keep=0.01, coarser=octaves((12.0, 9.0), 0.01)
    )


class Learning(FakeModel):
    """Remembers the finished files that it was told of."""

    def __init__(self, known=()):
        self.known = known

    def learned(self, count, sh_degree, size):
        return Learning((*self.known, (count, size)))


def unfinished(model, total, sh_degree):
    """Half of the scene, then a fifth."""
    return next((share for share in (0.5, 0.2) if share * total not in dict(model.known)), None)


def learned(stand, view, **values):
    """Counts and bytes of the finished files that the estimate was told of."""
    return list(stand.engine._sizes._sizes.model(merging(view, **values).compression).known)


def at_leisure(stand, **stages):
    """The engine tells sizes by Learning, and finishes what `unfinished` asks for."""
    model = {"size_model": lambda cloud, report, compression: Learning(), "unfinished": unfinished}
    stages = replace(stand.engine._stages, **{**model, **stages})
    stand.engine._stages = stand.engine._reducer._stages = stand.engine._sizes._stages = stages


def idle(stand, view):
    """Let `view` stand until there is nothing left to do at leisure."""
    while True:
        stand.rest(view)
        if not stand.engine.jobs:
            stand.engine.poll()
            stand.engine.show(view)  # Orders what comes next, if anything does.
            if not stand.engine.jobs:
                return


def test_at_leisure_other_retentions_are_finished_to_know_their_sizes(stand, view):
    at_leisure(stand)
    opened(stand, merging(view))
    idle(stand, merging(view))
    shown = stand.engine._reducer.exact(merging(view).compression)
    assert learned(stand, view) == [(100, 1000), (500, 5000), (200, 2000)]
    assert len(shown.cloud) == 100 and shown.final and drawn(stand)[-1] == (100, BEST), "what is shown stays"
    assert stand.engine._sizes.of(merging(view).compression) == SizeKnown(1000, 100, exact=True)
    assert not stand.engine._sizes.of(merging(view, 0.5).compression).exact, "it may have been remembered"


def test_what_is_pruned_is_not_finished_elsewhere(stand, view):
    at_leisure(stand)
    pruned = merging(view, reduction="prune", amplify="adaptive")
    opened(stand, pruned)
    idle(stand, pruned)
    assert learned(stand, view, reduction="prune", amplify="adaptive") == [(100, 1000)]


def test_what_takes_minutes_is_not_finished_elsewhere(stand, view):
    at_leisure(stand)
    opened(stand, merging(view, refine=True))
    idle(stand, merging(view, refine=True))
    assert learned(stand, view, refine=True) == [(100, 1000)]


def test_finishing_at_leisure_makes_way_for_the_slider_and_is_taken_up_again(stand, view):
    began, polished = threading.Event(), stand.engine._stages.polish

    def slow(prepared, compression, renderer, pictures, report):
        if compression.keep == 0.5 and not began.is_set():
            began.set()
            while True:  # Until it is unwanted.
                report(0.5, "At leisure")
                time.sleep(0.005)
        yield from polished(prepared, compression, renderer, pictures, report)

    at_leisure(stand, polish=slow)
    opened(stand, merging(view))
    while not began.is_set():
        stand.rest(merging(view))
    assert not stand.engine.working and stand.engine.settled, "nobody waits for it"
    idle(stand, merging(view, 0.3))
    assert drawn(stand)[-1] == (300, BEST)
    assert (500, 5000) in learned(stand, view)


def test_where_finishing_at_leisure_fails_it_is_said_once(stand, view):
    polished, tries = stand.engine._stages.polish, []

    def broken(prepared, compression, renderer, pictures, report):
        if compression.keep == 0.5:
            tries.append(compression)
            raise WeightsError("weights/amplifier: broken.")
        yield from polished(prepared, compression, renderer, pictures, report)

    at_leisure(stand, polish=broken)
    opened(stand, merging(view))
    idle(stand, merging(view))
    assert len(tries) == 1 and drawn(stand)[-1] == (100, BEST)
