"""stop: a request to stop, as the waits of a thread see it."""

from __future__ import annotations

import threading

import pytest

from brolga.stream.worker import Stop, current_stop, sleep, stop_scope


def test_a_sleep_ends_if_its_thread_is_asked_to_stop() -> None:
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


def test_a_sleep_without_a_request_comes_to_its_end() -> None:
    """A pause between two tries is a pause."""
    assert sleep(0.001) is None  # type: ignore[func-returns-value] # it ends, is what counts


def test_what_may_still_be_done_after_one_request_is_stopped_by_two() -> None:
    """An upload session is cancelled after the first request; the second ends at once."""
    stop = Stop()
    stop.request()
    stop.check(1)
    with pytest.raises(KeyboardInterrupt):
        stop.check()
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        stop.check(1)


def test_a_request_reaches_the_thread_that_it_is_for() -> None:
    """Other threads go on."""
    stop = Stop()
    stop.request()
    with stop_scope(stop):
        assert current_stop() is stop
    current_stop().check()
