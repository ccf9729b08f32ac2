"""The work the engine orders from the other packages, each as one function; tests put fakes in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from exgs_viewer.compress.guard import Pictures
from exgs_viewer.compress.polish import Exam
from exgs_viewer.compress.pruning import Pruning
from exgs_viewer.compress.rounding import Gaps
from exgs_viewer.compress.select import BestFirst
from exgs_viewer.pipeline import Looked, Prepared, Stage
from exgs_viewer.render import Renderer, open_renderer
from exgs_viewer.restore import Restorer, open_restorer
from exgs_viewer.restore.scene_filter import SceneFilter
from exgs_viewer.scene import Scene, Written, open_scene, save_scene
from exgs_viewer.scene.camera import Camera, Vector
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings, Report


class SizeModel(Protocol):
    """Estimates the bytes of a ranked cloud's first Gaussians, better with every size it has learned."""

    def bytes(self, count: int, sh_degree: int) -> int: ...
    def learned(self, count: int, sh_degree: int, size: int) -> SizeModel: ...
    def settled(self, gaps: Gaps | None) -> SizeModel: ...


@dataclass(frozen=True)
class Stages:
    """What the engine calls; every function runs in a worker's thread."""

    open_renderer: Callable[[str, Report], Renderer]
    open_restorer: Callable[[str], Restorer]
    fetch: Callable[[Report], None]
    """Fetch the weights that the user has agreed to."""
    open_scene: Callable[[str, Report], Scene]
    guess_up: Callable[[GaussianCloud], Vector]
    first_view: Callable[[GaussianCloud, Vector, Sequence[Camera]], Camera]
    extent: Callable[[GaussianCloud], float]
    look: Callable[[GaussianCloud, Vector, Renderer, Report], Looked]
    """What views made of the scene alone see of each Gaussian."""
    score: Callable[[GaussianCloud, Looked, CompressionSettings], Tensor]
    """[N] significance, of the kind that the settings name."""
    best_first: Callable[[GaussianCloud, Tensor], BestFirst]
    """A cloud sorted by its significance [N]."""
    rank: Callable[[BestFirst, float], Tensor]
    """[N] int64, most important first, for a voxel size."""
    prepare: Callable[[GaussianCloud, Looked, Renderer, Report], Prepared]
    """What merging starts from."""
    fold: Callable[[Prepared, CompressionSettings], GaussianCloud]
    """Merged Gaussians, quick enough for a moving slider."""
    pictures: Callable[[GaussianCloud, Sequence[Camera], CompressionSettings, Renderer, Report], Pictures]
    """What polishing and tuning learn from; the same for every retention."""
    polish: Callable[[Prepared, CompressionSettings, Renderer, Pictures, Report], Iterator[Stage]]
    """Merged Gaussians, better with every stage."""
    prepare_pruning: Callable[[GaussianCloud, Looked, Tensor | None], Pruning]
    """What amplified pruning starts from, for a cloud and its order [N]; None where it lies in it."""
    exam: Callable[[Pruning, CompressionSettings, Renderer], Exam]
    """What amplification is judged by; the same for every retention."""
    amplify: Callable[[Pruning, CompressionSettings, Renderer | None, Exam | None], Iterator[Stage]]
    """What pruning keeps, grown as a network answers: at once, then as much as is good for it."""
    tune: Callable[[GaussianCloud, Pictures, Renderer, Report], SceneFilter | None]
    """The filter of a compressed scene's pictures."""
    size_model: Callable[[GaussianCloud, Report, CompressionSettings], SizeModel]
    """The first estimates for a ranked cloud, stored as the settings say."""
    anchored: Callable[[SizeModel, Callable[[int, Report], int], int, int, Report], SizeModel]
    """The model corrected by what `size_at` finds of a scene of so many Gaussians, for an SH degree."""
    unfinished: Callable[[SizeModel, int, int], float | None]
    """The share of so many Gaussians to finish next, so that the model learns most, for an SH degree; None: enough."""
    cached_size: Callable[[GaussianCloud, Looked, CompressionSettings, Callable[[], int]], int]
    """Bytes of a finished file, which the callable finds; remembered."""
    encode: Callable[[GaussianCloud, dict[str, Any], CompressionSettings, Report], int]
    """Exact bytes of a compressed cloud with its metadata."""
    metadata: Callable[[Scene, CompressionSettings], dict[str, Any]]
    """What a saved .exgs says about the scene it came from."""
    write: Callable[[Path, GaussianCloud, dict[str, Any], CompressionSettings, Report], int]
    """Write an .exgs and read it back; bytes."""
    export: Callable[[Path, Scene, Report], Written]
    """Write a scene in the format of the path's suffix."""
    write_png: Callable[[Path, Tensor, dict[str, Any]], None]
    """Write [H, W, 3] in [0, 1] with metadata that says what it shows."""
    video: Callable[[Path, float], AbstractContextManager[Callable[[Tensor], None]]]
    """Write a video of so many pictures a second; takes its pictures one by one."""


def real_stages() -> Stages:
    """The functions of this program. Imported late: the window stands before they are loaded."""
    from exgs_viewer import pipeline
    from exgs_viewer.compress.codec import anchor_counts, anchored, cached_size, size_model, unfinished
    from exgs_viewer.compress.scores import score
    from exgs_viewer.compress.select import best_first, nested_order
    from exgs_viewer.images import video, write_png
    from exgs_viewer.restore.download import fetch
    from exgs_viewer.scene import exgs
    from exgs_viewer.scene.views import extent, first_view, guess_up

    return Stages(
        open_renderer=open_renderer,
        open_restorer=open_restorer,
        fetch=fetch,
        open_scene=open_scene,
        guess_up=guess_up,
        first_view=first_view,
        extent=extent,
        look=pipeline.look,
        score=lambda cloud, looked, settings: score(cloud, looked.seen, settings.score),
        best_first=best_first,
        rank=nested_order,
        prepare=pipeline.prepare_again,
        fold=lambda prepared, settings: pipeline.fold(prepared, settings).cloud,
        pictures=pipeline.pictures,
        polish=pipeline.polish,
        prepare_pruning=pipeline.prepare_pruning,
        exam=pipeline.exam,
        amplify=pipeline.amplify,
        tune=pipeline.tune,
        size_model=size_model,
        anchored=lambda model, size_at, total, sh_degree, report: anchored(
            model, size_at, anchor_counts(total), sh_degree, report
        ),
        unfinished=unfinished,
        cached_size=lambda cloud, looked, settings, measure: cached_size(cloud, looked.cameras, settings, measure),
        encode=lambda cloud, meta, settings, report: len(exgs.encode(cloud, meta, report, settings=settings)),
        metadata=exgs.metadata,
        write=lambda path, cloud, meta, settings, report: exgs.write(path, cloud, meta, report, settings),
        export=save_scene,
        write_png=write_png,
        video=video,
    )
