"""The state of a request that is being sent, shared by the driver and the connection.

The HTTP library stands between the two, so `CURRENT_REQUEST` holds the state during a request.
A streamed body that fails is ended cleanly, and its response awaited for a short time, since
docker-registry 2.8 takes a session's DELETE only under the Location of that response. The body is
still incomplete: if `error` is set, ignore the status of the response.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import SourceError
from brolga.protocol import BodyError
from brolga.stream.worker import current_stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.protocol import Blocks, Response

# What signal handlers raise (Python's own for SIGINT, the command's for SIGTERM).
INTERRUPTS: Final = (KeyboardInterrupt, SystemExit)

_Seconds = TypeVar("_Seconds", bound=float | None)

# An interrupt waits for the response to these methods, which are not idempotent (RFC 9110, section
# 9.2.2; RFC 5789, section 2): only the response says what they changed, and where a session is.
_DEFERRING: Final = ("PATCH", "POST")
CLEANUP_TIMEOUT_S: Final = 5.0  # for a response whose status does not matter
_MIN_WAIT_S: Final = 0.001  # a socket takes a timeout of zero for "do not block"
MIN_RATE: Final = 1024  # bytes a second


class SecondInterrupt(BaseException):
    """A second interrupt, `error`, came while the first was deferred: make no more requests."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class IncompleteBody(Exception):
    """A body with a Content-Length failed. It has no clean end, so no response will come."""


class RateMonitor:
    """The transfer rate of a body, measured over the time that was spent waiting for the peer.

    Each time that a timeout's worth of waiting is over, the rate must have reached `MIN_RATE`.
    """

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._size = 0

    def is_too_slow(self, waited_s: float, size: int, timeout_s: float | None) -> bool:
        """Add a wait and the bytes that it brought; return whether the rate is too low."""
        self._waited_s += waited_s
        self._size += size
        if timeout_s is None or self._waited_s < timeout_s:
            return False
        is_slow = self._size < MIN_RATE * self._waited_s
        self._waited_s, self._size = 0.0, 0
        return is_slow


class RequestState:
    """The state of a request; `description` names it in errors, `hint` helps with a connect error.

    `sent` counts the bytes of the body that were sent, in whole blocks; `ended` is set after all.
    `error` is what ended a streamed body early, or the deferred interrupt. `is_new_connection` is
    whether a connection was made for this request, `is_cleanup` whether a stopped thread may still
    make it, `has_head` whether the head of the response has come.
    """

    def __init__(
        self, body: bytes | Blocks | None = None, method: str = "", size: int | None = None
    ) -> None:
        self.description = method
        self.hint = ""
        self.sent = 0
        self.ended = False
        self.is_new_connection = False
        self.is_cleanup = False
        self.has_head = False
        self.rate = RateMonitor()
        self.error: BaseException | None = None
        self._head_deadline: float | None = None
        self._error_deadline: float | None = None
        self._defers = method in _DEFERRING
        self._is_sending = False  # a block, or all were sent: the source is not running
        self.headers: list[tuple[str, str]] = []
        if body is None:
            self.body = self._send_pieces(())
        elif isinstance(body, bytes | tuple):
            pieces = (body,) if isinstance(body, bytes) else body
            self.headers = [("Content-Length", str(sum(map(len, pieces))))]
            self.body = self._send_pieces(pieces)
        elif size is not None:
            self.headers = [("Content-Length", str(size))]
            self.body = self._send_stream(_check_size(body, size), is_chunked=False)
        else:
            self.headers = [("Transfer-Encoding", "chunked")]
            self.body = self._send_stream(body, is_chunked=True)

    @property
    def is_overdue(self) -> bool:
        """Whether the time that a failed body has is over."""
        return self._error_deadline is not None and time.monotonic() >= self._error_deadline

    def defer_interrupt(self, interrupt: BaseException) -> bool:
        """Defer an interrupt until the response has come; return whether it is deferred.

        A stream ends with the present block. A second interrupt is not deferred.
        """
        if not self._defers or not self._is_sending or self.error is not None:
            return False
        self._fail(interrupt)
        return True

    def remaining(self, timeout_s: _Seconds) -> float | _Seconds:
        """Return `timeout_s`, or the rest of the time that a failed body has."""
        if self._error_deadline is None:
            return timeout_s
        left = max(self._error_deadline - time.monotonic(), _MIN_WAIT_S)
        return left if timeout_s is None or left < timeout_s else timeout_s

    def remaining_for_head(self, timeout_s: _Seconds) -> float | _Seconds:
        """Return the rest of `timeout_s` for the whole head, interim responses included.

        It counts from the first wait after the last write. Zero or less: the time is over.
        """
        seconds = self.remaining(timeout_s)
        if seconds is None or self.has_head:
            return seconds
        if self._head_deadline is None:
            self._head_deadline = time.monotonic() + seconds
        return min(seconds, self._head_deadline - time.monotonic())

    def begin_write(self) -> None:
        """Record a write: the time for the response has not begun."""
        self._head_deadline = None

    def check_stop(self) -> None:
        """Raise KeyboardInterrupt if another thread asked this one to stop.

        The request that ends an upload session goes on until the second stop request.
        """
        current_stop().check(int(self.is_cleanup or self.error is not None))

    def close(self) -> None:
        """Drop the body: its generator refers to this object, and a cycle would keep its blocks."""
        body, self.body = self.body, iter(())
        close = getattr(body, "close", None)
        if close is not None:
            close()

    def raise_body_error(self, response: Response | None) -> None:
        """Raise BodyError, with the response that came, if the body failed."""
        # The error's traceback refers to the body's frames, and these to this: leave no cycle.
        error, self.error = self.error, None
        if error is not None:
            raise BodyError(error, response)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._error_deadline = time.monotonic() + CLEANUP_TIMEOUT_S

    def _send_pieces(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        self._is_sending = True
        for piece in filter(None, pieces):
            yield piece  # type: ignore[misc] # as below
            self.sent += len(piece)
        self.ended = True

    def _send_stream(self, blocks: Blocks, *, is_chunked: bool) -> Iterator[bytes]:
        try:
            for block in blocks:
                self._is_sending = True
                # An empty block writes nothing, but lets the connection check for a response.
                # The library's types say bytes; h11 below it takes any buffer.
                yield block  # type: ignore[misc]
                self.sent += len(block)
                if self.error is not None:
                    return
                self._is_sending = False
            self.ended = True
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the driver raises it, after the response
            self._fail(error)
            if not is_chunked:
                raise IncompleteBody from None
        self._is_sending = True


def _check_size(blocks: Blocks, size: int) -> Blocks:
    """Yield blocks of `size` bytes in all. Raises SourceError for any other number."""
    left = size
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise SourceError(f"a blob of {size} bytes gave more than that")
        yield block
    if left:
        raise SourceError(f"a blob of {size} bytes ended after {size - left}")


# The body of one request may be the response of another, so requests can be nested.
CURRENT_REQUEST: Final[ContextVar[RequestState]] = ContextVar(
    "CURRENT_REQUEST",
    default=RequestState(),  # noqa: B039 - no state of the default is used
)


@contextmanager
def request_scope(state: RequestState) -> Iterator[None]:
    """Make `state` the current request of this thread's connections."""
    token = CURRENT_REQUEST.set(state)
    try:
        yield
    finally:
        CURRENT_REQUEST.reset(token)
