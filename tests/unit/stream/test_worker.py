"""worker.py: threads that an interrupt of their owner can neither break nor lose."""

from __future__ import annotations

import queue
import sys
import threading

import pytest

from brolga.stream.worker import Worker


def test_a_worker_starts_once_and_may_be_awaited_again() -> None:
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
def test_a_worker_works_where_only_one_thread_is_to_be_had(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is started from a thread of its own; where that finds no other, it does the work."""
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
    # The thread that starts it is none that `threading` knows: another, measured, stands for it.
    again = threading.Event()
    starter = threading.Thread(target=Worker("brolga-test", again.set)._start)
    starter.start()
    starter.join()
    assert again.is_set()


def test_a_worker_for_which_there_is_no_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out, and there is nothing to wait for."""

    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    worker = Worker("brolga-test", lambda: None)
    with pytest.raises(RuntimeError, match="start new thread"):
        worker.start()
    assert worker.join()


def test_how_a_worker_starts_is_seen_from_a_thread_that_can_be_measured() -> None:
    """The thread that starts it is none that `threading` knows: this one stands for it."""
    done = threading.Event()
    worker = Worker("brolga-test", done.set)
    starter = threading.Thread(target=worker._start)
    starter.start()
    starter.join()
    assert done.wait(10)
    thread = worker._thread
    assert thread is not None
    thread.join()


def test_none_of_our_threads_waits_for_another() -> None:
    """The collector may find a dropped stream in any of them; two could wait for each other."""
    release: queue.SimpleQueue[None] = queue.SimpleQueue()
    other = Worker("brolga-other", release.get)
    other.start()
    found: list[bool] = []
    worker = Worker("brolga-test", lambda: found.append(other.join()))
    worker.start()
    assert worker.join()
    assert found == [False]
    release.put(None)
    assert other.join()


def test_nobody_waits_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stop wherever they are by then, and a wait would be for ever."""
    release: queue.SimpleQueue[None] = queue.SimpleQueue()
    worker = Worker("brolga-test", release.get)
    worker.start()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "is_finalizing", lambda: True)
        assert not worker.join()
    release.put(None)
    assert worker.join()
