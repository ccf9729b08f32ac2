"""Fakes of everything the engine orders, so that its own behaviour can be told apart."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import pytest
import torch

from exgs_viewer.app.engine import Engine
from exgs_viewer.app.stages import Stages
from exgs_viewer.app.state import SceneOpened, Scored, ViewState
from exgs_viewer.compress.select import BestFirst, keep_count
from exgs_viewer.errors import SceneError
from exgs_viewer.pipeline import Stage
from exgs_viewer.render import RenderOutput
from exgs_viewer.scene import Scene, save_scene
from exgs_viewer.scene.camera import look_at
from exgs_viewer.scene.cloud import GaussianCloud
from exgs_viewer.settings import CompressionSettings, RestoreSettings

SIZE = (480, 320)
VIEW = ViewState(
    look_at((0.25, 0.0, -2.0), (0.25, 0.0, 0.0), (0.0, -1.0, 0.0)),
    SIZE,
    compression=CompressionSettings(reduction="prune", amplify="constant"),
    restore=RestoreSettings(restorer="inpaint"),
)


def plain_cloud(n: int) -> GaussianCloud:
    """`n` Gaussians whose red constant colour counts up: a selection can be read off it."""
    sh = torch.zeros(n, 1, 3)
    sh[:, 0, 0] = torch.arange(n)
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1
    return GaussianCloud(torch.zeros(n, 3), torch.ones(n, 3), quats, torch.ones(n), sh)


def by_significance(cloud: GaussianCloud, significance: torch.Tensor) -> BestFirst:
    """As select.best_first, without looking at the scene."""
    index = torch.argsort(significance, descending=True, stable=True).numpy()
    return BestFirst(index, cloud.means.numpy()[index], 2.0)


@dataclass(frozen=True, eq=False)
class FakeLooked:
    """What the views saw: just scores."""

    scores: torch.Tensor

    def moved(self, order):
        return FakeLooked(self.scores[order])


@dataclass(frozen=True, eq=False)
class FakePrepared:
    """What merging starts from: just the cloud."""

    cloud: GaussianCloud
    cameras: tuple = ()
    gaps: tuple[float, float] | None = None


def merged(prepared: FakePrepared, compression: CompressionSettings, opacity: float) -> GaussianCloud:
    """As many Gaussians as are asked for; their opacity tells what was done to them."""
    kept = prepared.cloud.take(slice(0, keep_count(len(prepared.cloud), compression.keep)))
    return kept.replaced(opacities=torch.full_like(kept.opacities, opacity))


def polish(prepared, compression, renderer, pictures, report):
    """Two stages after the cut."""
    for name, opacity in (("calibrated", 0.5), ("recoloured", 0.75)):
        report(opacity, name)
        cloud = merged(prepared, compression, opacity)
        yield Stage(name, cloud, compression, cloud, 30.0)


def amplify(pruning, compression, renderer, exam):
    """What the network answers, then what is found good for the scene."""
    for opacity in (0.25, 0.75):
        cloud = merged(pruning, compression, opacity)
        yield Stage("amplified", cloud, compression, cloud, 30.0)


@dataclass
class FakeRenderer:
    """A picture whose red is the camera's x and whose green is the share of Gaussians; remembers what it drew."""

    total: int = 1000
    name: str = "fake"
    label: str = "Fake, 1 thread"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    drawn: list = field(default_factory=list)
    gate: threading.Event | None = None
    """Where set, drawing waits for it."""
    entered: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def render(self, cloud, camera, size, settings):
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.drawn.append((cloud, camera, size))
        color = torch.zeros(size[1], size[0], 3)
        color[..., 0] = camera.position[0]
        color[..., 1] = len(cloud) / self.total
        return RenderOutput(color, torch.ones(size[1], size[0]), torch.full((size[1], size[0]), 2.0))


@dataclass
class FakeRestorer:
    """Adds blue; remembers what it was given; gives up when stale."""

    name: str = "inpaint"
    label: str = "Fake fill"
    blue: float = 1.0
    error: Exception | None = None
    given: list = field(default_factory=list)
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)

    def restore(self, output, settings, stale=lambda: False, retention=None):
        self.given.append((output, retention))
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if stale():
            return None
        if self.error is not None:
            raise self.error
        result = output.color.clone()
        result[..., 2] = settings.strength * self.blue
        return result


class FakeModel:
    """Every Gaussian takes 11 bytes, it thinks."""

    def bytes(self, count, sh_degree):
        return 11 * count

    def learned(self, count, sh_degree, size):
        return self

    def settled(self, gaps):
        return self


class Clock:
    """A time that only tests move on."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stand:
    """An engine on fakes, with what the fakes remember."""

    engine: Engine
    renderer: FakeRenderer
    restorer: FakeRestorer
    painter: FakeRestorer
    """The restorer by any other name than `inpaint`."""
    clock: Clock
    woken: threading.Event
    saved: list

    def until(self, *kinds):
        """Poll until an event of one of `kinds` came; all events up to then."""
        events = []
        while True:
            self.woken.clear()
            events += self.engine.poll()
            if any(isinstance(event, kinds) for event in events):
                return events
            assert self.woken.wait(20), f"waited for {kinds}, got {events}"

    def open(self, name="a"):
        """Open a scene, look at it and wait until it is scored; all events up to then."""
        self.engine.open(name)
        events = self.until(SceneOpened)
        self.engine.show(VIEW)
        return events + self.until(Scored)

    def quiet(self):
        """Poll until no worker has anything to do; the events."""
        events = []
        while self.engine.working:
            self.woken.clear()
            events += self.engine.poll()
            if self.engine.working:
                self.woken.wait(0.2)
        return events + self.engine.poll()

    def rest(self, view: ViewState):
        """Let `view` stand until nothing remains to be done; the events."""
        events = []
        for _ in range(8):
            self.engine.show(view)
            events += self.quiet()
            self.clock.now += 0.2
        return events


@pytest.fixture
def stand():
    """A Stand with a scene named `a` (1000 Gaussians) to open; any name that starts with `bad` fails."""
    renderer, restorer, clock, woken, saved = FakeRenderer(), FakeRestorer(blue=1.0), Clock(), threading.Event(), []
    painter = FakeRestorer("lite", "Fake painter", blue=0.5)

    def open_scene(path, report):
        report(0.5, f"reading {path}")
        if path.startswith("bad"):
            raise SceneError(f"{path}: broken.")
        meta = {"antialias": path == "fine"}
        return Scene(plain_cloud(1000 if path == "a" else 500), None, "fake", 4000, up=(0.0, -1.0, 0.0), meta=meta)

    def write(path, cloud, meta, settings, report):
        saved.append((path, cloud, meta))
        return 10 * len(cloud)

    def write_png(path, picture, meta):
        saved.append((path, picture, meta))
        path.write_bytes(b"png")

    @contextmanager
    def video(path, fps):
        pictures = []
        yield pictures.append
        saved.append((path, pictures, fps))
        path.write_bytes(b"mp4")

    stages = Stages(
        open_renderer=lambda name, report: renderer,
        open_restorer=lambda name: restorer if name == "inpaint" else painter,
        fetch=lambda report: report(0.5, "half of it"),
        open_scene=open_scene,
        guess_up=lambda cloud: (0.0, -1.0, 0.0),
        first_view=lambda cloud, up, cameras: look_at((0.25, 0.0, -2.0), (0.25, 0.0, 0.0), up),
        extent=lambda cloud: 2.0,
        look=lambda cloud, up, renderer, report: FakeLooked(cloud.sh[:, 0, 0].clone()),
        score=lambda cloud, looked, compression: looked.scores,
        best_first=by_significance,
        rank=lambda best_first, voxel: torch.from_numpy(best_first.index),
        prepare=lambda cloud, looked, renderer, report: FakePrepared(cloud),
        fold=lambda prepared, compression: merged(prepared, compression, 0.25),
        pictures=lambda cloud, cameras, compression, renderer, report: None,
        tune=lambda cloud, pictures, renderer, report: None,
        polish=polish,
        prepare_pruning=lambda cloud, looked, order: FakePrepared(cloud),
        exam=lambda pruning, compression, renderer: None,
        amplify=amplify,
        size_model=lambda cloud, report, compression: FakeModel(),
        anchored=lambda model, size_at, total, sh_degree, report: model,
        unfinished=lambda model, total, sh_degree: None,
        cached_size=lambda cloud, looked, compression, measure: measure(),
        encode=lambda cloud, meta, settings, report: 10 * len(cloud),
        metadata=lambda scene, compression: {"compression": asdict(compression), "camera": scene.cameras[0]},
        write=write,
        export=save_scene,
        write_png=write_png,
        video=video,
    )
    engine = Engine("auto", stages, notify=woken.set, clock=clock)
    yield Stand(engine, renderer, restorer, painter, clock, woken, saved)
    renderer.gate = restorer.gate = painter.gate = None
    engine.close()


@pytest.fixture
def view():
    """A small view of whatever `stand` opens."""
    return VIEW
