"""aio/calls.py: blocking functions in threads, with bounds, cancellation and close."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from brolga.aio.calls import CallPool, Kind
from brolga.stream.worker import Stop, current_stop, sleep

if TYPE_CHECKING:
    from collections.abc import Coroutine

PATIENCE_S = 30.0


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


class Blocking:
    """A function that runs until it is let go or stopped; it notes what happens."""

    def __init__(self, stops: int = 1) -> None:
        self.stops = stops
        self.threads: list[threading.Thread] = []
        self.ends: list[str] = []
        self._started: SimpleQueue[None] = SimpleQueue()
        self._release = threading.Semaphore(0)

    def __call__(self) -> str:
        self.threads.append(threading.current_thread())
        self._started.put(None)
        try:
            while not self._release.acquire(timeout=0.001):
                current_stop().check(self.stops - 1)
        except KeyboardInterrupt:
            self.ends.append("stopped")
            raise
        self.ends.append("done")
        return "result"

    async def started(self, count: int = 1) -> None:
        for _ in range(count):
            await asyncio.to_thread(self._started.get, timeout=PATIENCE_S)

    def release(self, count: int = 1) -> None:
        self._release.release(count)


async def request(calls: CallPool, function: Any) -> Any:
    return await calls.run(Kind.REQUEST, function)


def test_run_returns_result_of_another_thread() -> None:
    """The event loop goes on meanwhile."""

    async def main() -> None:
        calls = CallPool(2)
        assert await request(calls, threading.current_thread) is not threading.current_thread()
        await calls.close()

    run(main())


def test_run_raises_error_of_function() -> None:
    """It is the error itself."""
    error = ValueError("wrong")

    def fail() -> None:
        raise error

    async def main() -> None:
        calls = CallPool(1)
        with pytest.raises(ValueError, match="wrong") as raised:
            await request(calls, fail)
        assert raised.value is error
        await calls.close()

    run(main())


def test_function_sees_context_variables_of_task() -> None:
    """What it sets is not seen outside."""
    variable: ContextVar[str] = ContextVar("variable")

    def change() -> str:
        value = variable.get()
        variable.set("changed")
        return value

    async def main() -> None:
        calls = CallPool(1)
        variable.set("task")
        assert await request(calls, change) == "task"
        assert variable.get() == "task"
        await calls.close()

    run(main())


def test_calls_of_a_kind_are_bounded() -> None:
    """1,000 requests at a time use no more threads than `jobs`."""
    peak, running, lock = 0, 0, threading.Lock()

    def count() -> None:
        nonlocal peak, running
        with lock:
            running += 1
            peak = max(peak, running)
        sleep(0.0001)
        with lock:
            running -= 1

    async def main() -> None:
        calls = CallPool(3)
        await asyncio.gather(*(request(calls, count) for _ in range(1000)))
        await calls.close()

    run(main())
    assert 1 <= peak <= 3


def test_push_does_not_keep_request_waiting() -> None:
    """The source of a push may make a request with the same client."""

    async def main() -> None:
        calls, blocking = CallPool(1), Blocking()
        push = asyncio.create_task(calls.run(Kind.PUSH, blocking))
        await blocking.started()
        assert await request(calls, lambda: "answer") == "answer"
        blocking.release()
        assert await push == "result"
        await calls.close()

    run(main())


def test_cancelled_task_stops_its_thread_and_waits_for_it() -> None:
    """Nothing that it began goes on without it."""

    async def main() -> None:
        calls, blocking = CallPool(1), Blocking()
        task = asyncio.create_task(request(calls, blocking))
        await blocking.started()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert blocking.ends == ["stopped"]
        assert await request(calls, lambda: 1) == 1  # the slot is free
        await calls.close()

    run(main())


def test_second_cancellation_requests_again() -> None:
    """After the second request, not even the request that cancels a session is made."""

    async def main() -> None:
        calls, blocking = CallPool(1), Blocking(stops=2)
        task = asyncio.create_task(request(calls, blocking))
        await blocking.started()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.01)
        assert not done
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert blocking.ends == ["stopped"]
        await calls.close()

    run(main())


def test_cancellation_is_raised_if_function_ends_all_the_same() -> None:
    """A task that swallows its cancellation would not end."""

    async def main() -> None:
        calls, blocking = CallPool(1), Blocking(stops=9)
        task = asyncio.create_task(request(calls, blocking))
        await blocking.started()
        task.cancel()
        await asyncio.sleep(0)
        blocking.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert blocking.ends == ["done"]
        await calls.close()

    run(main())


def test_error_after_cancellation_is_not_reported_as_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event loop logs an exception that no caller retrieves."""

    async def main() -> None:
        calls, started = CallPool(1), asyncio.Event()

        def fail() -> None:
            calls.loop.call_soon_threadsafe(started.set)
            with suppress(KeyboardInterrupt):
                sleep(3600.0)
            raise ValueError("wrong")

        task = asyncio.create_task(request(calls, fail))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await calls.close()

    run(main())
    assert not [text for text in caplog.messages if "never retrieved" in text]


def test_task_cancelled_while_it_waits_for_a_slot_calls_nothing() -> None:
    """The bound is not a queue that must be worked off."""

    async def main() -> None:
        calls, first, second = CallPool(1), Blocking(), Blocking()
        running = asyncio.create_task(request(calls, first))
        await first.started()
        waiting = asyncio.create_task(request(calls, second))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        first.release()
        await running
        await calls.close()
        assert second.threads == []

    run(main())


def test_close_stops_calls_and_waits_for_them() -> None:
    """Their tasks, and those that wait for a slot, get a RuntimeError."""

    async def main() -> None:
        calls, blocking = CallPool(1), Blocking()
        tasks = [asyncio.create_task(request(calls, blocking)) for _ in range(2)]
        await blocking.started()
        await calls.close()
        assert blocking.ends == ["stopped"]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(error) for error in errors] == [
            "the client was closed before the call had ended",
            "the client is closed",
        ]
        assert isinstance(errors[0], RuntimeError)
        with pytest.raises(RuntimeError, match="closed"):
            await request(calls, blocking)
        await calls.close()

    run(main())


def test_cancelled_close_requests_again() -> None:
    """A second Ctrl-C ends what cleans up."""

    async def main() -> None:
        calls, blocking = CallPool(1), Blocking(stops=2)
        task = asyncio.create_task(request(calls, blocking))
        await blocking.started()
        closing = asyncio.create_task(calls.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(RuntimeError, match="closed"):
            await task
        assert blocking.ends == ["stopped"]

    run(main())


def test_cancelled_close_waits_for_every_call() -> None:
    """Nothing goes on behind it, however many calls there are."""

    async def main() -> None:
        calls, quick, slow = CallPool(2), Blocking(stops=2), Blocking(stops=3)
        tasks = [asyncio.create_task(request(calls, function)) for function in (quick, slow)]
        await quick.started()
        await slow.started()
        closing = asyncio.create_task(calls.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.01)
        assert not closing.done()
        slow.release()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert (quick.ends, slow.ends) == (["stopped"], ["done"])
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_function_whose_thread_cannot_start_is_never_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The executor keeps it in its queue, where a later thread finds it."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        calls = CallPool(1)
        called: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(RuntimeError, match="can't start"):
                await request(calls, partial(called.append, 1))
        assert await request(calls, lambda: 2) == 2
        await calls.close()
        assert called == []

    run(main())


def test_call_in_another_event_loop_is_runtime_error() -> None:
    """The error says whose the client is."""

    async def make() -> CallPool:
        return CallPool(1)

    async def main(calls: CallPool) -> None:
        with pytest.raises(RuntimeError, match="belongs to the event loop in which it was made"):
            await request(calls, lambda: 1)
        await calls.close()

    run(main(asyncio.run(make())))


def test_interrupt_of_function_itself_is_raised() -> None:
    """It is the user's: no one asked for a stop."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        calls = CallPool(1)
        call = calls.start(interrupt, Stop())
        with pytest.raises(KeyboardInterrupt):
            await call.wait()
        await calls.close()

    run(main())


def test_timeout_of_asyncio_stops_call() -> None:
    """asyncio.timeout cancels, and turns that into its own error."""

    async def main() -> None:
        calls = CallPool(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await request(calls, partial(sleep, 3600.0))
        await calls.close()

    run(main())


def test_calls_without_event_loop_is_runtime_error() -> None:
    """A client belongs to the event loop in which it is made."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        CallPool(1)
