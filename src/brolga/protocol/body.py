"""The body of an upload, and how long a request waits for its next bytes.

Knows that a source may be silent for longer than a proxy waits for a request's body. Must not know
registries, or what the bytes are.

Strategy: a proxy bounds the time between two reads of a body (nginx: `client_body_timeout`, 60 s),
not the time between two requests of a session. So no PATCH is opened before there are bytes for it
(`wait_for_bytes`), and one whose source is silent for a while is ended in order (`IdleLimit`): the
registry acknowledges what it has, and the next PATCH goes on with the next bytes. How the bytes are
cut into requests depends on time; the bytes do not.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from brolga.errors import StreamNotReplayable
from brolga.protocol.http import BodyError
from brolga.protocol.session import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from brolga.errors import BrolgaError
    from brolga.protocol.http import Blocks
    from brolga.protocol.session import Chunk

__all__ = ["Body", "IdleLimit", "check_kept", "chunks_of", "wait_for_bytes"]

# Half of the shortest bound that is common in front of registries (30 s; nginx and ALB have 60 s).
_IDLE_S: Final = 15.0
_SHORTEST_S: Final = 0.2  # seconds; below it a busy machine would end a request
_WORTH: Final = 1 << 10  # bytes; the header of a compressor alone is not worth a request


class Body(Protocol):
    """The bytes of an upload, some of which can be given again."""

    @property
    def bytes_read(self) -> int:
        """How many bytes were given so far."""

    @property
    def replayable_from(self) -> int:
        """The offset from which on they can be given again."""

    @property
    def ended(self) -> bool:
        """Whether the source came to its clean end."""

    def retain_from(self, start: int | None) -> None:
        """Keep the bytes from offset `start` on, whatever else; None: no longer."""

    def blocks(self, start: int) -> Blocks:
        """Yield the bytes from offset `start` on, not less than `kept_from`."""


def wait_for_bytes(body: Body) -> None:
    """Read a body until it has given bytes that are worth a request, or has ended.

    The body keeps them, and all from the offset on that it holds. Raises BodyError: what its
    source raises is the source's.
    """
    before = body.bytes_read
    try:
        for _ in body.blocks(before):
            if body.bytes_read - before >= _WORTH:
                return
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None


def chunks_of(body: Body, start: int, size: int) -> Iterator[Chunk]:
    """Cut a body into chunks. Raises BodyError: what its source raises is the source's."""
    try:
        yield from chunks(body.blocks(start), size)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None


def check_kept(body: Body, start: int, cause: BrolgaError) -> None:
    """Raise StreamNotReplayable if a body cannot give its bytes from offset `start` on again."""
    if start < body.replayable_from:
        kept = body.bytes_read - body.replayable_from
        raise StreamNotReplayable(
            f"{cause}; the registry has {start} of the {body.bytes_read} bytes sent, and "
            f"only the last {kept} are kept: a larger window, or a spool, would have kept more",
            sent=body.bytes_read,
            acknowledged=start,
            kept=kept,
        ) from cause


class IdleLimit:
    """How long a request stays open while its body gives no bytes.

    `clock` gives monotonic seconds. An empty block of the body says that nothing came for a while;
    a body that gives none is never ended. `waits` tells that a request failed in such a silence and
    may not be ended: the next one is opened when the body has given new bytes.
    """

    def __init__(self, clock: Callable[[], float], limit_s: float | None = None) -> None:
        self._clock = clock
        self._limit_s = _IDLE_S if limit_s is None else limit_s
        self._silent_since: float | None = None
        self._ends = False
        self.waits = False

    def watch(
        self, body: Body, start: int, *, ends: bool
    ) -> Generator[bytes | memoryview, None, None]:
        """Return the blocks of a body from offset `start` on, when the first one is there.

        A source that is opened again may have to read up to there. If the request `ends`, they end
        when all that the body has given went out and no more came for too long.

        Raises BodyError: what the body's source raises meanwhile is the source's.
        """
        self._silent_since, self._ends, self.waits = None, ends, False
        return self._watched(_from_first(body.blocks(start)), body, start)

    def _watched(
        self, blocks: Iterator[bytes | memoryview], body: Body, start: int
    ) -> Generator[bytes | memoryview, None, None]:
        for block in blocks:
            start += len(block)
            if block:
                self._silent_since = None
            elif self._silent_since is None:
                self._silent_since = self._clock()
            yield block
            if self._ends and start == body.bytes_read and self._is_over():
                return

    def shorten(self) -> None:
        """Wait half as long from now on as the silence that a request failed in, if it did."""
        if self._silent_since is not None:
            silent_s = self._clock() - self._silent_since
            self._limit_s = min(self._limit_s, max(silent_s / 2, _SHORTEST_S))
            self.waits = not self._ends

    def _is_over(self) -> bool:
        since = self._silent_since
        return since is not None and self._clock() - since >= self._limit_s


def _from_first(blocks: Blocks) -> Iterator[bytes | memoryview]:
    """Return blocks without the empty ones before the first bytes."""
    rest = iter(blocks)
    try:
        for block in rest:
            if block:
                return chain((block,), rest)
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None
    return rest
