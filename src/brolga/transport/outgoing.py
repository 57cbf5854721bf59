"""One request on its way out, as the driver and the connection below the HTTP library both see it.

Knows what of a body went out, how a body that fails is ended, and which interrupts wait. Must not
know sockets, or the HTTP library.

Strategy: the library stands between the driver and the connection, so what they must tell each
other lies here; `UNDER_WAY` holds it while the call is made. A streamed body that fails is ended
cleanly all the same, and the answer waited for, shortly: some registries take a session's DELETE
only under the Location which comes with that answer (docker-registry 2.8). The bytes that went out
are none the better for it: who reads `error` must not call them whole.

For the same answer an interrupt waits, from the first block of a body on, whatever that body is,
where the method is PATCH or POST. What these changed, and where an upload session is, only their
answer says: they are not idempotent (RFC 9110, section 9.2.2; RFC 5789, section 2). Of every other
method it can be asked again, or nobody needs to know.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import SourceError
from brolga.protocol import BodyError
from brolga.stream.worker import current_stop
from brolga.transport.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.protocol import Blocks, Response

__all__ = ["HURRY_S", "INTERRUPTS", "UNDER_WAY", "Insisted", "Outgoing", "Unended", "under_way"]

# What a signal's handler raises (Python's own for SIGINT, a command's for SIGTERM).
INTERRUPTS: Final = (KeyboardInterrupt, SystemExit)

_Seconds = TypeVar("_Seconds", bound=float | None)

_AWAITED: Final = ("PATCH", "POST")
HURRY_S: Final = 5.0  # seconds for an answer that nobody waits for
_LEAST_S: Final = 0.001  # seconds; no time at all means something else to a socket


class Insisted(BaseException):
    """A second interrupt, `error`, came while the first one waited: nothing more may be called."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Unended(Exception):
    """A body of known length failed: it has no clean end, and no answer will come."""


class Outgoing:
    """A request under way.

    `sent` counts the bytes of the body that went out, in whole blocks; `ended` tells that all of
    it did. `error` is what ended a streamed body before its end, or the interrupt that waits.
    `fresh` tells that a connection was made for this request, `is_cleanup` that it is one which a
    stopped thread may still make. `pace` is how fast the body goes out.
    """

    def __init__(
        self, body: bytes | Blocks | None = None, method: str = "", size: int | None = None
    ) -> None:
        self.sent = 0
        self.ended = False
        self.fresh = False
        self.is_cleanup = False
        self.has_head = False  # of its answer
        self.pace = Pace()
        self._head_until: float | None = None
        self.error: BaseException | None = None
        self._is_awaited = method in _AWAITED
        self._is_out = False  # a block is, or all of them are: the source is not being asked
        self._until: float | None = None
        self.headers: list[tuple[str, str]] = []
        if body is None:
            self.blocks = self._whole(())
        elif isinstance(body, bytes | tuple):
            pieces = (body,) if isinstance(body, bytes) else body
            self.headers = [("Content-Length", str(sum(map(len, pieces))))]
            self.blocks = self._whole(pieces)
        elif size is not None:
            self.headers = [("Content-Length", str(size))]
            self.blocks = self._streamed(_exactly(body, size), has_end=False)
        else:
            self.headers = [("Transfer-Encoding", "chunked")]
            self.blocks = self._streamed(body, has_end=True)

    @property
    def is_late(self) -> bool:
        """Whether the seconds that a failed body has are over."""
        return self._until is not None and time.monotonic() >= self._until

    def hold(self, interrupt: BaseException) -> bool:
        """Keep an interrupt back until the answer came; tell whether that helps.

        A stream ends with the block that is under way. The second is not kept back.
        """
        if not self._is_awaited or not self._is_out or self.error is not None:
            return False
        self._fail(interrupt)
        return True

    def within(self, timeout_s: _Seconds) -> float | _Seconds:
        """Return `timeout_s`, or what is left of the seconds that a failed body has."""
        if self._until is None:
            return timeout_s
        left = max(self._until - time.monotonic(), _LEAST_S)
        return left if timeout_s is None or left < timeout_s else timeout_s

    def head_within(self, timeout_s: _Seconds) -> float | _Seconds:
        """Return what is left of `timeout_s` for the whole head, interim answers included.

        It counts from the first wait after the last write. Zero or less: the time is over.
        """
        seconds = self.within(timeout_s)
        if seconds is None or self.has_head:
            return seconds
        if self._head_until is None:
            self._head_until = time.monotonic() + seconds
        left = self._head_until - time.monotonic()
        return min(seconds, left)

    def begin_write(self) -> None:
        """Note that more of the request goes out: the answer is not awaited yet."""
        self._head_until = None

    def check_stop(self) -> None:
        """Raise KeyboardInterrupt if another thread asked this one to stop.

        What ends an upload session is still done; a second request stops that, too.
        """
        current_stop().check(int(self.is_cleanup or self.error is not None))

    def end(self) -> None:
        """Drop the body: its generator knows this object, a cycle that would keep its blocks."""
        blocks, self.blocks = self.blocks, iter(())
        close = getattr(blocks, "close", None)
        if close is not None:
            close()

    def check(self, response: Response | None) -> None:
        """Raise BodyError, with the answer that came, where the body failed."""
        # Its traceback knows the body's frames, and these know this: no cycle is left behind.
        error, self.error = self.error, None
        if error is not None:
            raise BodyError(error, response)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._until = time.monotonic() + HURRY_S

    def _whole(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        self._is_out = True
        for piece in filter(None, pieces):
            yield piece  # type: ignore[misc] # as below
            self.sent += len(piece)
        self.ended = True

    def _streamed(self, blocks: Blocks, *, has_end: bool) -> Iterator[bytes]:
        try:
            for block in blocks:
                self._is_out = True
                # An empty block writes nothing, but it comes by the socket and looks at it.
                # The library's types say bytes; h11 below it takes any buffer.
                yield block  # type: ignore[misc]
                self.sent += len(block)
                if self.error is not None:
                    return
                self._is_out = False
            self.ended = True
        except GeneratorExit:
            raise  # dropped
        except BaseException as error:  # noqa: BLE001 - the driver raises it, after the answer
            self._fail(error)
            if not has_end:
                raise Unended from None
        self._is_out = True


def _exactly(blocks: Blocks, size: int) -> Blocks:
    """Yield blocks that come to `size` bytes. Raises SourceError where they do not."""
    left = size
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise SourceError(f"a blob of {size} bytes gave more than that")
        yield block
    if left:
        raise SourceError(f"a blob of {size} bytes ended after {size - left}")


# Calls are synchronous: what the connection is asked to do meanwhile is this request's. A body may
# be made of other calls' answers, so one request can lie within another.
UNDER_WAY: Final[ContextVar[Outgoing]] = ContextVar("UNDER_WAY", default=Outgoing())  # noqa: B039 - of the default nothing is read that changes


@contextmanager
def under_way(outgoing: Outgoing) -> Iterator[None]:
    """Let the connections know whose request they carry."""
    token = UNDER_WAY.set(outgoing)
    try:
        yield
    finally:
        UNDER_WAY.reset(token)
