"""Recorded passes of a painter: on the CPU with a recorder that computes anew, on a GPU (marked `gpu`) as they are."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch.testing import assert_close

from exgs_viewer.restore.folded import fold
from exgs_viewer.restore.graphs import KEPT, Graphs, decoded
from tests.restore.test_painter import SMALL, TINY_TURBO, frames, painter, stirred


class Recorder:
    """As CUDA records: what a replay reads and writes is always the same memory."""

    def __init__(self):
        self.recorded = 0
        self.replayed = 0
        self.error: Exception | None = None

    def __call__(self, compute):
        self.recorded += 1
        if self.error is not None:
            raise self.error
        filled = compute()

        def replay():
            self.replayed += 1
            filled.copy_(compute())

        return filled, replay


@pytest.fixture(scope="module")
def network():
    return fold(stirred(painter(SMALL))).requires_grad_(False)


def test_a_replay_sees_the_new_pictures_and_leaves_the_old_answers_alone(network):
    recorder = Recorder()
    graphs, given = Graphs(network, recorder), [frames(seed=seed) for seed in range(3)]
    found = [graphs.decoded(each) for each in given]
    for each, answer in zip(given, found, strict=True):
        assert_close(answer, decoded(network, each), rtol=0, atol=0)
    assert (recorder.recorded, recorder.replayed) == (1, 3)


def test_each_size_is_recorded_once_and_the_last_few_are_kept(network):
    recorder = Recorder()
    graphs, sizes = Graphs(network, recorder), [32 * n for n in range(2, KEPT + 3)]
    for width in (*sizes[:KEPT], *sizes[:KEPT]):
        assert graphs.decoded(frames(width=width)).shape[-1] == width
    assert recorder.recorded == KEPT
    graphs.decoded(frames(width=sizes[KEPT]))  # lets go of the one that was used longest ago
    graphs.decoded(frames(width=sizes[1]))
    assert recorder.recorded == KEPT + 1
    graphs.decoded(frames(width=sizes[0]))
    assert recorder.recorded == KEPT + 2


def test_what_cannot_be_recorded_is_computed_and_said_once(network, caplog):
    recorder = Recorder()
    recorder.error = RuntimeError("operation not permitted when stream is capturing")
    graphs, seen = Graphs(network, recorder), frames()
    for _ in range(2):
        assert_close(graphs.decoded(seen), decoded(network, seen), rtol=0, atol=0)
    assert recorder.recorded == 1 and len(caplog.records) == 1 and "not permitted" in caplog.text


def test_memory_that_runs_out_is_for_the_caller_to_mend(network):
    recorder = Recorder()
    graphs, seen = Graphs(network, recorder), frames()
    graphs.decoded(seen)
    recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        graphs.decoded(frames(width=64))
    recorder.error = None
    assert_close(graphs.decoded(seen), decoded(network, seen), rtol=0, atol=0)
    assert recorder.recorded == 3, "the memory of the others was not let go"


def test_threads_take_turns(network):
    graphs, given = Graphs(network, Recorder()), [frames(seed=seed) for seed in range(6)]
    found = {}

    @torch.no_grad()
    def ask(number):
        found[number] = graphs.decoded(given[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, each in enumerate(given):
        assert_close(found[number], decoded(network, each), rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("config", [SMALL, TINY_TURBO], ids=("lite", "turbo"))
@torch.no_grad()
def test_a_graph_answers_what_the_kernels_answer_one_by_one(config):
    network = stirred(painter(config)).requires_grad_(False)
    plain = copy.deepcopy(network).cuda()
    graphs = Graphs(fold(network).cuda())
    for seed in range(4):
        seen = frames(width=96 if seed < 2 else 64, seed=seed)
        seen = type(seen)(*(value.cuda() for value in vars(seen).values()))
        expected = decoded(plain, seen)
        assert_close(graphs.decoded(seen), expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    assert not graphs._refused and len(graphs._known) == 2


@pytest.mark.gpu
@torch.no_grad()
def test_a_graph_is_recorded_while_another_thread_draws():
    network = fold(stirred(painter(SMALL))).requires_grad_(False).cuda()
    graphs, done, sums = Graphs(network), threading.Event(), []

    def draw():
        with torch.cuda.stream(torch.cuda.Stream()):
            while not done.is_set():
                sums.append(
                    float(torch.rand(512, 512, device="cuda").matmul(torch.ones(512, 512, device="cuda")).sum())
                )

    thread = threading.Thread(target=draw)
    thread.start()
    for width in (64, 96, 128, 160):
        seen = frames(width=width)
        seen = type(seen)(*(value.cuda() for value in vars(seen).values()))
        expected = decoded(network, seen)
        assert_close(graphs.decoded(seen), expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    done.set()
    thread.join()
    assert sums and not graphs._refused
