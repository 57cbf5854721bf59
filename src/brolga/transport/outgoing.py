"""One request on its way out, as the driver and the connection below the HTTP library both see it.

Knows what of a body went out, and how a body that fails is ended. Must not know sockets, or the
HTTP library.

Strategy: the library stands between the driver and the connection, so what they must tell each
other lies here; `UNDER_WAY` holds it while the call is made. A streamed body that fails is ended
cleanly all the same, and the answer waited for, shortly: some registries take a session's DELETE
only under the Location which comes with that answer (docker-registry 2.8). The bytes that went out
are none the better for it: who reads `error` must not call them whole.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from brolga.wire import BodyFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.wire import Reply

__all__ = ["HURRY_S", "UNDER_WAY", "Outgoing", "under_way"]

HURRY_S: Final = 5.0  # seconds for an answer that nobody waits for
_LEAST_S: Final = 0.001  # seconds; no time at all means something else to a socket


class Outgoing:
    """A request under way.

    `sent` counts the bytes of the body that went out, in whole blocks; `ended` tells that all of
    it did. `error` is what ended a streamed body before its end. `fresh` tells that a connection
    was made for this request.
    """

    def __init__(self, body: bytes | Iterable[bytes | memoryview] | None = None) -> None:
        self.sent = 0
        self.ended = False
        self.fresh = False
        self.error: BaseException | None = None
        self._asking = False  # the source is, or will be, asked for a block
        self._until: float | None = None
        self.headers: list[tuple[str, str]] = []
        if isinstance(body, bytes):
            self.headers = [("Content-Length", str(len(body)))]
            self.blocks = self._whole(body)
        elif body is None:
            self.blocks = self._whole(b"")
        else:
            self.headers = [("Transfer-Encoding", "chunked")]
            self.blocks = self._streamed(body)

    def hold(self, interrupt: BaseException) -> bool:
        """Keep an interrupt back until the block under way went out; tell whether that helps.

        It does in the middle of a streamed body, which ends then. The second is not kept back.
        """
        if not self._asking or self.error is not None:
            return False
        self._fail(interrupt)
        return True

    def within(self, timeout_s: float | None) -> float | None:
        """Return `timeout_s`, or what is left of the seconds that a failed body has."""
        if self._until is None:
            return timeout_s
        left = max(self._until - time.monotonic(), _LEAST_S)
        return left if timeout_s is None else min(timeout_s, left)

    def check(self, reply: Reply | None) -> None:
        """Raise BodyFailed, with the answer that came, where the body failed."""
        # Its traceback knows the body's frames, and these know this: no cycle is left behind.
        error, self.error = self.error, None
        if error is not None:
            raise BodyFailed(error, reply)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._until = time.monotonic() + HURRY_S

    def _whole(self, body: bytes) -> Iterator[bytes]:
        if body:
            yield body
        self.sent = len(body)
        self.ended = True

    def _streamed(self, blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        self._asking = True
        try:
            for block in blocks:
                # An empty block writes nothing, but it comes by the socket and looks at it.
                # The library's types say bytes; h11 below it takes any buffer.
                yield block  # type: ignore[misc]
                self.sent += len(block)
                if self.error is not None:
                    return
            self.ended = True
        except GeneratorExit:
            raise  # dropped
        except BaseException as error:  # noqa: BLE001 - the driver raises it, after the answer
            self._fail(error)
        finally:
            self._asking = False


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
