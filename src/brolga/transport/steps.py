"""Steps: what a connection waits for, as generators that a driver performs.

A generator of steps yields a `Wait`, and is sent the sockets that became ready, or a
`protocol.http.BlockingCall`, and is sent its result. `perform` is the driver that blocks; the one
for asyncio is in `aio`. An interrupt of the wait is thrown in.
"""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from brolga.protocol.http import BlockingCall
from brolga.stream.worker import POLL_INTERVAL_S, current_stop
from brolga.transport.failures import ConnectionFailure

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator, Sequence

_T = TypeVar("_T")


class Wait(NamedTuple):
    """Wait until one of the sockets has one of the events, `seconds` at most.

    The result has the events of each ready socket, as `select.poll` gives them; none is a timeout.
    A stop request of another thread ends the wait (KeyboardInterrupt), except for the first
    `ignored_stops`.
    """

    sockets: Sequence[socket.socket]
    events: int
    seconds: float | None
    ignored_stops: int = 0


Ready: TypeAlias = "dict[socket.socket, int]"
Steps: TypeAlias = "Generator[Wait | BlockingCall, Any, _T]"


def poll(wait: Wait, seconds: float) -> Ready:
    """Return the sockets that become ready within `seconds`. Raises ConnectionFailure."""
    poll, by_number = select.poll(), {}
    for one in wait.sockets:
        number = one.fileno()
        if number < 0:
            raise ConnectionFailure("cut", "the connection was closed here")
        poll.register(number, wait.events)
        by_number[number] = one
    return {by_number[number]: events for number, events in poll.poll(1000 * seconds)}


def perform(steps: Steps[_T]) -> _T:
    """Perform steps to their end, in this thread; return their result.

    Whatever a step raises, an interrupt of this thread too, is thrown into the steps.
    """
    proceed: Any = steps.send
    argument: Any = None
    try:
        while True:
            try:
                while True:
                    step = proceed(argument)
                    proceed, argument = steps.send, None
                    argument = step.function() if isinstance(step, BlockingCall) else _wait(step)
            except StopIteration as end:
                result: _T = end.value
                return result
            except BaseException as error:
                if steps.gi_frame is None:  # type: ignore[attr-defined] # they have ended with it
                    raise
                proceed, argument = steps.throw, error
    finally:
        del argument  # the traceback of an error refers to this frame


def _wait(wait: Wait) -> Ready:
    """Wait in slices, to notice a signal just before the wait, a stop request and a `close`."""
    end = math.inf if wait.seconds is None else time.monotonic() + wait.seconds
    while True:
        current_stop().check(wait.ignored_stops)
        left = end - time.monotonic()
        if (ready := poll(wait, min(POLL_INTERVAL_S, max(0.0, left)))) or left <= 0:
            return ready
