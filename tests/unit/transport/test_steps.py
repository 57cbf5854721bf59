"""transport/steps.py: the driver that blocks."""

from __future__ import annotations

import gc
import select
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from brolga.protocol.http import BlockingCall
from brolga.stream.worker import Stop, stop_scope
from brolga.transport.failures import ConnectionFailure
from brolga.transport.steps import Wait, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.transport.steps import Ready, Steps


class Failed(Exception):
    """What a call raises."""


def fail() -> None:
    """Raise."""
    raise Failed


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two sockets that are connected."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


class TestPerform:
    """What steps yield is done, and its result sent in."""

    def test_result_of_call_is_sent_in(self) -> None:
        """And the result of the steps is returned."""

        def steps() -> Steps[int]:
            first: int = yield BlockingCall(lambda: 1)
            second: int = yield BlockingCall(lambda: 2)
            return 10 * first + second

        assert perform(steps()) == 12

    def test_error_of_call_is_thrown_in(self) -> None:
        """The steps can go on."""

        def steps() -> Steps[str]:
            with suppress(Failed):
                yield BlockingCall(fail)
            result: str = yield BlockingCall(lambda: "after")
            return result

        assert perform(steps()) == "after"

    @pytest.mark.parametrize("error", [Failed, KeyboardInterrupt, SystemExit, StopIteration])
    def test_error_of_steps_is_raised(self, error: type[BaseException]) -> None:
        """StopIteration is the one that a generator cannot raise (PEP 479)."""

        def steps() -> Steps[None]:
            yield BlockingCall(lambda: None)
            raise error

        with pytest.raises(RuntimeError if error is StopIteration else error):
            perform(steps())

    def test_other_error_than_thrown_in_is_raised(self) -> None:
        """It replaces that of the call, which is its cause."""

        def steps() -> Steps[None]:
            try:
                yield BlockingCall(fail)
            except Failed as error:
                raise OSError from error

        with pytest.raises(OSError) as caught:  # noqa: PT011 - without a text
            perform(steps())
        assert isinstance(caught.value.__cause__, Failed)

    @pytest.mark.parametrize("handles", [True, False])
    def test_error_is_freed_without_collector(self, handles: bool) -> None:
        """Its traceback has the frames of a request, and these a block of the body."""
        gone: list[weakref.ref[Failed]] = []

        def fail_noted() -> None:
            error = Failed()
            gone.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        def steps() -> Steps[None]:
            try:
                yield BlockingCall(fail_noted)
            except Failed:
                if not handles:
                    raise

        def run() -> None:
            try:
                perform(steps())
            except Failed:
                assert not handles

        gc.disable()
        try:
            run()
            assert gone[0]() is None
        finally:
            gc.enable()


class TestWait:
    """Waiting for sockets."""

    def wait(self, wait: Wait) -> Ready:
        """Perform one wait."""

        def steps() -> Steps[Ready]:
            result: Ready = yield wait
            return result

        return perform(steps())

    @pytest.mark.parametrize("seconds", [0.0, 0.01])
    def test_timeout_has_no_socket(
        self, pair: tuple[socket.socket, socket.socket], seconds: float
    ) -> None:
        """Nothing has come."""
        assert self.wait(Wait(pair, select.POLLIN, seconds)) == {}

    @pytest.mark.parametrize("seconds", [0.0, 30.0, None])
    def test_result_has_events_of_ready_socket(
        self, pair: tuple[socket.socket, socket.socket], seconds: float | None
    ) -> None:
        """Only of that one."""
        pair[1].send(b"x")
        assert self.wait(Wait(pair, select.POLLIN, seconds)) == {pair[0]: select.POLLIN}

    def test_wait_is_continued_in_slices(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A slice that ends does not end the wait."""
        monkeypatch.setattr("brolga.transport.steps.POLL_INTERVAL_S", 0.001)
        threading.Timer(0.05, pair[1].send, (b"x",)).start()
        assert self.wait(Wait(pair, select.POLLIN, None)) == {pair[0]: select.POLLIN}

    def test_wait_for_closed_socket_raises(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Another thread has closed the transport."""
        pair[0].close()
        with pytest.raises(ConnectionFailure, match="was closed here") as caught:
            self.wait(Wait(pair, select.POLLIN, 0))
        assert caught.value.reason == "cut"

    @pytest.mark.parametrize(
        ("requests", "ignored", "stops"), [(1, 0, True), (1, 1, False), (2, 1, True)]
    )
    def test_stop_request_ends_wait(
        self,
        pair: tuple[socket.socket, socket.socket],
        requests: int,
        ignored: int,
        stops: bool,
    ) -> None:
        """It is that of another thread; the response to a cleanup is awaited all the same."""
        stop = Stop()
        for _ in range(requests):
            stop.request()
        wait = Wait(pair, select.POLLIN, 0, ignored)
        with stop_scope(stop):
            if stops:
                with pytest.raises(KeyboardInterrupt):
                    self.wait(wait)
            else:
                assert self.wait(wait) == {}


def interrupting(times: int) -> Callable[[], None]:
    """Make a function that is interrupted a number of times."""
    left = [None] * times

    def function() -> None:
        if left:
            left.pop()
            raise KeyboardInterrupt

    return function


def test_interrupt_is_thrown_in_each_time() -> None:
    """Steps may defer the first one."""
    caught = 0

    def steps() -> Steps[int]:
        nonlocal caught
        call = BlockingCall(interrupting(3))
        while True:
            try:
                yield call
            except KeyboardInterrupt:
                caught += 1
            else:
                return caught

    assert perform(steps()) == 3
