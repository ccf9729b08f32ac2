"""Workers, driven by events and never by sleeping."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from exgs_viewer.app.workers import NICE, Broke, Done, Dropped, JobWorker, LatestWorker, Progressed

LONG = 20


class Bell:
    """Counts notifications and lets a test wait for the next one."""

    def __init__(self):
        self.rung = threading.Semaphore(0)

    def __call__(self):
        self.rung.release()

    def wait(self):
        assert self.rung.acquire(timeout=LONG)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_workers_leave_the_processor_to_the_window():
    bell, mine = Bell(), os.getpriority(os.PRIO_PROCESS, 0)
    worker = LatestWorker("test", lambda request, stale: os.getpriority(os.PRIO_PROCESS, 0), bell)
    worker.submit(1)
    bell.wait()
    assert worker.poll()[0].result == min(NICE, 19) and os.getpriority(os.PRIO_PROCESS, 0) == mine
    worker.close()


def test_the_newest_request_wins_and_started_work_is_finished():
    started, go, bell = threading.Event(), threading.Event(), Bell()

    def work(request, stale):
        started.set()
        assert go.wait(LONG)
        return request * 10

    worker = LatestWorker("test", work, bell)
    worker.submit(1)
    assert started.wait(LONG)
    for request in (2, 3, 4):
        worker.submit(request)
    go.set()
    bell.wait()
    bell.wait()
    assert [(done.request, done.result) for done in worker.poll()] == [(1, 10), (4, 40)]
    worker.close()


def test_running_work_turns_stale_when_a_newer_request_waits_but_not_before():
    seen, entered, go, bell = [], threading.Event(), threading.Event(), Bell()

    def work(request, stale):
        seen.append(stale())
        entered.set()
        assert go.wait(LONG)
        seen.append(stale())

    worker = LatestWorker("test", work, bell)
    worker.submit("old")
    assert entered.wait(LONG)
    worker.submit("new")
    go.set()
    bell.wait()
    bell.wait()
    assert seen == [False, True, False, False]
    worker.close()


def test_dropping_forgets_what_waits_and_makes_stale_what_runs():
    seen, entered, go, bell = [], threading.Event(), threading.Event(), Bell()

    def work(request, stale):
        entered.set()
        assert go.wait(LONG)
        seen.append((request, stale()))

    worker = LatestWorker("test", work, bell)
    worker.submit("first")
    assert entered.wait(LONG)
    worker.submit("second")
    worker.drop()
    go.set()
    bell.wait()
    worker.close()
    assert seen == [("first", True)]


def test_an_error_is_handed_over_and_the_worker_lives_on():
    bell = Bell()
    worker = LatestWorker("test", lambda request, stale: 1 / request, bell)
    worker.submit(0)
    bell.wait()
    (broken,) = worker.poll()
    worker.submit(2)
    bell.wait()
    (fine,) = worker.poll()
    assert isinstance(broken.error, ZeroDivisionError) and broken.result is None
    assert fine.error is None and fine.result == 0.5
    worker.close()


def test_closing_ends_the_thread():
    worker = LatestWorker("test", lambda request, stale: None)
    worker.close()
    assert not worker._thread.is_alive()


def test_jobs_are_done_in_order_and_a_broken_one_hurts_no_other():
    bell, done = Bell(), []
    jobs = JobWorker(notify=bell)
    hold = threading.Event()
    jobs.submit("first", lambda report: hold.wait(LONG))
    jobs.submit("broken", lambda report: 1 / 0)
    jobs.submit("last", lambda report: done.append("last") or "result")
    assert jobs.names()[-2:] == ["broken", "last"]
    hold.set()
    for _ in range(3):
        bell.wait()
    news = jobs.poll()
    assert [(type(item), item.name) for item in news] == [(Done, "first"), (Broke, "broken"), (Done, "last")]
    assert news[2].result == "result" and done == ["last"]
    jobs.close()


def test_a_cancelled_job_ends_at_its_next_report_and_one_that_waits_never_begins():
    bell, entered, go, begun = Bell(), threading.Event(), threading.Event(), []

    def long_work(report):
        report(0.1, "under way")
        entered.set()
        assert go.wait(LONG)
        report(0.9, "never told")
        begun.append("went on")

    jobs = JobWorker(notify=bell)
    jobs.submit("long", long_work)
    jobs.submit("other", lambda report: begun.append("other"))
    assert entered.wait(LONG)
    jobs.cancel("long", "other")
    assert jobs.names() == []
    go.set()
    bell.wait()  # of the report
    bell.wait()  # of the end
    assert jobs.poll() == [Progressed("long", 0.1, "under way"), Dropped("other"), Dropped("long")]
    assert begun == []
    jobs.close()


def test_only_the_newest_progress_of_a_job_is_kept():
    bell = Bell()
    jobs = JobWorker(notify=bell)
    jobs.submit("job", lambda report: [report(step / 10, str(step)) for step in range(5)] and None)
    for _ in range(6):
        bell.wait()
    news = jobs.poll()
    assert news[0] == Progressed("job", 0.4, "4") and isinstance(news[1], Done) and len(news) == 2
    jobs.close()


def test_closing_waits_for_the_jobs_that_must_finish_and_drops_the_others():
    entered, go, done = threading.Event(), threading.Event(), []
    jobs = JobWorker()

    def save(report):
        entered.set()
        assert go.wait(LONG)
        report(0.5, "still wanted")
        done.append("saved")

    jobs.submit("save", save)
    jobs.submit("size", lambda report: done.append("sized"))
    assert entered.wait(LONG)
    threading.Timer(0.05, go.set).start()
    jobs.close(finish=("save",))
    assert done == ["saved"]
