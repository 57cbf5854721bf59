"""stream/worker.py: worker threads, and stop requests."""

from __future__ import annotations

import queue
import sys
import threading

import pytest

from brolga.stream.worker import Stop, Worker, current_stop, sleep, stop_scope


def test_start_and_join_may_be_repeated() -> None:
    """An interrupted close is closed again."""
    runs: list[str] = []
    worker = Worker("brolga-test", lambda: runs.append(threading.current_thread().name))
    assert worker.join()  # a thread that never started is over
    worker.start()
    worker.start()
    assert worker.join()
    assert worker.join()
    assert runs == ["brolga-test"]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_worker_runs_if_only_one_thread_can_start(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The helper thread does the work itself if it cannot start another."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "brolga-test":
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = threading.Event()
    worker = Worker("brolga-test", done.set)
    worker.start()
    assert worker.join()
    assert done.is_set()
    # The helper thread is unknown to `threading`, and so to coverage: call it in another one.
    again = threading.Event()
    starter = threading.Thread(target=Worker("brolga-test", again.set)._start)
    starter.start()
    starter.join()
    assert again.is_set()


def test_start_raises_if_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out, and there is nothing to wait for."""

    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    worker = Worker("brolga-test", lambda: None)
    with pytest.raises(RuntimeError, match="start new thread"):
        worker.start()
    assert worker.join()


def test_start_runs_work_in_second_thread() -> None:
    """The helper thread is unknown to `threading`, and so to coverage: call it in another one."""
    done = threading.Event()
    worker = Worker("brolga-test", done.set)
    starter = threading.Thread(target=worker._start)
    starter.start()
    starter.join()
    assert done.wait(10)
    thread = worker._thread
    assert thread is not None
    thread.join()


def test_join_in_worker_thread_does_not_wait() -> None:
    """The collector may find a dropped stream in any of them; two could wait for each other."""
    release: queue.SimpleQueue[None] = queue.SimpleQueue()
    other = Worker("brolga-other", release.get)
    other.start()
    joined: list[bool] = []
    worker = Worker("brolga-test", lambda: joined.append(other.join()))
    worker.start()
    assert worker.join()
    assert joined == [False]
    release.put(None)
    assert other.join()


def test_join_does_not_wait_while_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stop wherever they are by then, and a wait would be for ever."""
    release: queue.SimpleQueue[None] = queue.SimpleQueue()
    worker = Worker("brolga-test", release.get)
    worker.start()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "is_finalizing", lambda: True)
        assert not worker.join()
    release.put(None)
    assert worker.join()


def test_sleep_ends_if_thread_is_asked_to_stop() -> None:
    """An interrupt must wake every wait of every thread: a pause of an hour is one."""
    stop = Stop()
    raised: list[BaseException] = []
    sleeping = threading.Event()

    def work() -> None:
        with stop_scope(stop):
            sleeping.set()
            try:
                sleep(3600.0)
            except KeyboardInterrupt as error:
                raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert sleeping.wait(30)
    stop.request()
    thread.join(30)
    assert [str(error) for error in raised] == ["another thread asked this one to stop"]


def test_sleep_ends_without_request() -> None:
    """A pause between two tries is a pause."""
    assert sleep(0.001) is None  # type: ignore[func-returns-value] # it ends, is what counts


def test_check_allows_given_number_of_requests() -> None:
    """An upload session is cancelled after the first request; the second ends at once."""
    stop = Stop()
    stop.request()
    stop.check(1)
    with pytest.raises(KeyboardInterrupt):
        stop.check()
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        stop.check(1)


def test_stop_scope_applies_to_its_thread_only() -> None:
    """Other threads go on."""
    stop = Stop()
    stop.request()
    with stop_scope(stop):
        assert current_stop() is stop
    current_stop().check()


def test_request_of_parent_applies_to_child() -> None:
    """A push has a stop request of its own, within that of its caller."""
    parent = Stop()
    child = Stop(parent, "another reason")
    child.request_once()
    child.request_once()
    assert (parent.requests, child.requests) == (0, 1)
    parent.request()
    assert child.requests == 1
    parent.request()
    with pytest.raises(KeyboardInterrupt, match="another reason"):
        child.check(1)
