"""The asyncio driver: performs the steps of flows on an event loop.

The loop waits for sockets. What blocks or computes, such as the next block of a body or its hash,
is called in a thread. `ThreadTransport` is for threads beside the loop, which call that themselves.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

from brolga.protocol.http import BlockingCall, BodyError, ReadBlock, Request
from brolga.stream.async_sources import runs_here
from brolga.stream.worker import current_stop
from brolga.transport.calls import Calls
from brolga.transport.driver import Transport
from brolga.transport.requests import Requests, ResponseBody, SecondInterrupt
from brolga.transport.steps import Wait, poll

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator

    from brolga.protocol import Flow
    from brolga.protocol.http import Step
    from brolga.transport.steps import Ready, Steps

_T = TypeVar("_T")
_A = TypeVar("_A")

_LOOP_ENDED: Final = "the event loop of the client has ended"
_WAITS_FOR_ITSELF: Final = (
    "a request was made in the event loop's own thread, which would wait for itself: await a "
    "method of AsyncClient, or use asyncio.to_thread"
)


class AsyncTransport:
    """Connections to registries, and the driver of flows, for one event loop.

    The options are those of `Transport`. Cancelling a task is as an interrupt of the thread that
    runs a flow: a PATCH or POST whose body has begun ends in order, the flow may cancel its upload
    session, and a second cancellation makes no more requests. The loop must have `add_reader`.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of `Requests`, which checks them
        self.requests = Requests(**options)
        self._waits: set[_SocketWait] = set()

    async def __aenter__(self) -> Self:
        """Return the transport itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection. The transport cannot be used any more."""
        for wait in tuple(self._waits):
            wait.end()
        self.requests.pool.close()

    def check_open(self) -> None:
        """Raise RuntimeError after `close`."""
        self.requests.pool.check_open()

    async def run(self, flow: Flow[_T]) -> _T:
        """Drive a flow to its end; return its result. Raises as `Transport.run` does."""
        calls = Calls.in_new_thread()
        steps = FlowSteps(self, flow, calls)
        try:
            await steps.advance()
        finally:
            steps.close()
            calls.close()
        return steps.result

    async def stream(self, flow: Generator[Step | _A, Any, object]) -> AsyncGenerator[_A, None]:
        """Drive a flow as `run` does; yield the bytes, or pages of a list, between its requests."""
        calls = Calls.in_new_thread()
        steps = FlowSteps(self, flow, calls)
        try:
            while True:
                item = await steps.advance()
                if steps.has_ended:
                    return
                yield cast("_A", item)
        finally:
            steps.close()
            calls.close()

    async def take(self, step: Step, calls: Calls) -> object:
        """Do what a flow yielded; return what it is sent."""
        if isinstance(step, BlockingCall):
            return await calls.make(step.function)
        if isinstance(step, ReadBlock):
            return await self._perform(cast("ResponseBody", step.stream).receive(), calls)
        if step.delay_s > 0:
            await self._wait(Wait((), 0, step.delay_s), calls)
        return await self._perform(self.requests.perform(step), calls)

    async def _perform(self, steps: Steps[_T], calls: Calls) -> _T:
        """Perform steps as `steps.perform` does; a cancellation is thrown in as an interrupt is."""
        proceed: Any = steps.send
        argument: Any = None
        try:
            while True:
                try:
                    step = proceed(argument)
                    proceed, argument = steps.send, None
                    if isinstance(step, BlockingCall):
                        argument = await calls.make(step.function)
                    else:
                        argument = await self._wait(step, calls)
                except StopIteration as end:
                    result: _T = end.value
                    return result
                except BaseException as error:
                    if steps.gi_frame is None:  # type: ignore[attr-defined] # they have ended with it
                        raise
                    proceed, argument = steps.throw, error
        finally:
            del argument  # the traceback of an error refers to this frame

    async def _wait(self, wait: Wait, calls: Calls) -> Ready:
        calls.check(wait.ignored_stops)
        if (ready := poll(wait, 0)) or wait.seconds == 0:
            return ready
        pending = _SocketWait(wait)
        calls.end_wait = pending.end
        self._waits.add(pending)
        try:
            await pending.future
        finally:
            pending.end()
            self._waits.discard(pending)
            calls.end_wait = None
        calls.check(wait.ignored_stops)
        return poll(wait, 0)


class _SocketWait:
    """A wait of the loop. `end` ends it early; it may be called again."""

    def __init__(self, wait: Wait) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = loop.create_future()
        self._numbers = [one.fileno() for one in wait.sockets]
        self._timer = None if wait.seconds is None else loop.call_later(wait.seconds, self.end)
        for number in self._numbers:
            if wait.events & select.POLLIN:
                loop.add_reader(number, self.end)
            if wait.events & select.POLLOUT:
                loop.add_writer(number, self.end)

    def end(self) -> None:
        """Forget the sockets, which may then be closed, and wake the task that waits."""
        while self._numbers:
            number = self._numbers.pop()
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
        if self._timer is not None:
            self._timer.cancel()
        if not self.future.done():
            self.future.set_result(None)


class FlowSteps(Generic[_T]):
    """A flow under way on the loop; `result` is what it returned, if it `has_ended`."""

    result: _T

    def __init__(
        self, transport: AsyncTransport, flow: Generator[Any, Any, _T], calls: Calls
    ) -> None:
        transport.check_open()
        self.has_ended = False
        self._transport = transport
        self._flow = flow
        self._calls = calls

    async def advance(self) -> object:
        """Drive the flow up to the next thing that it yields to its reader, or to its end."""
        flow = self._flow
        try:
            item = next(flow)
            while isinstance(item, Request | BlockingCall | ReadBlock):
                try:
                    result = await self._transport.take(item, self._calls)
                except SecondInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - the flow handles or re-raises it
                    item = flow.throw(error)
                else:
                    del item  # its body may be a chunk, and the flow collects the next one
                    item = flow.send(result)
                    del result
            return item  # noqa: TRY300 - what ended the flow is raised by `next` or `send`
        except StopIteration as end:
            self.result, self.has_ended = end.value, True
            return None
        except (BodyError, SecondInterrupt) as wrapper:
            cause = wrapper.error
        # Raised outside of the handler, it keeps its own context.
        try:
            raise cause
        finally:
            del cause  # its traceback refers to this frame

    def close(self) -> None:
        """Close the flow, if it has not ended."""
        self._flow.close()


class ThreadTransport(Transport):
    """An `AsyncTransport` for threads beside its loop.

    A thread that runs a flow waits for the loop, and makes the flow's blocking calls meanwhile.
    """

    def __init__(self, transport: AsyncTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._requests = transport.requests
        self._transport = transport
        self._loop = loop

    def close(self) -> None:
        """Close every connection. The transport cannot be used any more."""

        async def close() -> None:
            self._transport.close()

        self._run(close(), Calls(self._loop))

    def stream(self, flow: Generator[Step | _A, Any, _T]) -> Generator[_A, None, _T]:
        """Drive a flow as `run` does; yield the bytes, or pages of a list, between its requests."""
        calls = Calls(self._loop)
        steps = FlowSteps(self._transport, flow, calls)
        try:
            while True:
                item = self._run(steps.advance(), calls)
                if steps.has_ended:
                    return steps.result
                yield cast("_A", item)
        finally:
            steps.close()

    def _run(self, coroutine: Coroutine[Any, Any, object], calls: Calls) -> object:
        """Run a coroutine on the loop, and its blocking calls in this thread; return its result."""
        if runs_here(self._loop) or not self._loop.is_running():
            coroutine.close()
            raise RuntimeError(_WAITS_FOR_ITSELF if self._loop.is_running() else _LOOP_ENDED)
        outcome: list[Any] = [None, RuntimeError(_LOOP_ENDED)]

        async def run() -> None:
            try:
                outcome[:] = await coroutine, None
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                outcome[:] = None, error
            calls.close()

        calls.reopen(current_stop())  # each step may be of another call, in another thread
        self._loop.call_soon_threadsafe(self._start, run())
        calls.serve()
        result, error = outcome
        if error is not None:
            try:
                raise error
            finally:
                outcome.clear()  # the error's traceback refers to this frame
                del error
        return result

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        _tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(_tasks.discard)


_tasks: Final[set[asyncio.Task[None]]] = set()
