"""The body of an upload, and how long a request waits for its next bytes.

A proxy bounds the time between two reads of a body (nginx: `client_body_timeout`, 60 s), but not
between two requests. So a PATCH begins when there are bytes for it (`wait_for_bytes`), and ends if
the source is silent for too long (`SilenceLimit`). Errors of the source are raised as `BodyError`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import Final, NamedTuple, Protocol

from brolga.errors import BrolgaError, StreamNotReplayable
from brolga.protocol.http import Blocks, BodyError

# Half of the shortest common timeout in front of registries (30 s; nginx and ALB have 60 s).
_IDLE_S: Final = 15.0
_SHORTEST_S: Final = 0.2  # seconds; a busy machine may need as long between two blocks
_WORTH: Final = 1 << 10  # bytes; the header of a compressor alone is not worth a request


class Body(Protocol):
    """The bytes of an upload, some of which can be read again."""

    @property
    def bytes_read(self) -> int:
        """How many bytes were read so far."""

    @property
    def replayable_from(self) -> int:
        """The offset from which on the bytes can be read again."""

    @property
    def ended(self) -> bool:
        """Whether the source came to its clean end."""

    def retain_from(self, start: int | None) -> None:
        """Retain the bytes from offset `start` on; with None, only those of the buffer."""

    def blocks(self, start: int) -> Blocks:
        """Yield the bytes from offset `start` on, which is `replayable_from` or greater."""


class Chunk(NamedTuple):
    """A part of a blob, in blocks of shared memory."""

    blocks: tuple[bytes | memoryview, ...]
    size: int
    is_last: bool = False


def split_chunks(blocks: Blocks, size: int) -> Iterator[Chunk]:
    """Split a body into chunks of `size` bytes, the last one shorter. No byte is copied."""
    pieces: list[memoryview] = []
    held = 0
    try:
        for block in blocks:
            rest = memoryview(block)
            while held + len(rest) > size:
                missing = size - held
                yield Chunk((*pieces, rest[:missing]) if missing else tuple(pieces), size)
                pieces, held, rest = [], 0, rest[missing:]
            if rest:
                pieces.append(rest)
                held += len(rest)
        if held:
            yield Chunk(tuple(pieces), held, is_last=True)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None


def wait_for_bytes(body: Body) -> None:
    """Read a body until it has retained enough bytes for a request, or has ended."""
    before = body.bytes_read
    try:
        for _ in body.blocks(before):
            if body.bytes_read - before >= _WORTH:
                return
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None


def catch_up(body: Body, start: int, differs: Callable[[], bool]) -> None:
    """Read a body up to offset `start`, unless its bytes turn out to differ before."""
    body.retain_from(start)
    try:
        for _ in body.blocks(body.bytes_read):
            if body.bytes_read >= start or differs():
                return
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None


def check_replayable(body: Body, start: int, cause: BrolgaError) -> None:
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


class SilenceLimit:
    """How long a request stays open while its body gives no bytes.

    `clock` returns monotonic seconds. An empty block means that the source is silent; a body
    without empty blocks is never ended. `waits` is set if a request that must not be split failed
    in a silence: the next one begins when the body has new bytes.
    """

    def __init__(self, clock: Callable[[], float], limit_s: float = _IDLE_S) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._silent_since: float | None = None
        self._ends = False
        self.waits = False

    def watch(
        self, body: Body, start: int, *, ends: bool
    ) -> Generator[bytes | memoryview, None, None]:
        """Wait for the first byte from offset `start` on, and return the blocks from there.

        A source that is opened again may have to read up to there. If the request `ends`, so do the
        blocks, when all that the body has was sent and no more came for too long.
        """
        self._silent_since, self._ends, self.waits = None, ends, False
        return self._watch(_skip_empty(body.blocks(start)), body, start)

    def _watch(
        self, blocks: Iterator[bytes | memoryview], body: Body, start: int
    ) -> Generator[bytes | memoryview, None, None]:
        for block in blocks:
            start += len(block)
            if block:
                self._silent_since = None
            elif self._silent_since is None:
                self._silent_since = self._clock()
            yield block
            since = self._silent_since
            is_over = since is not None and self._clock() - since >= self._limit_s
            if self._ends and start == body.bytes_read and is_over:
                return

    def shorten(self) -> None:
        """Halve the limit, from the length of the silence in which a request failed, if any."""
        if self._silent_since is not None:
            silent_s = self._clock() - self._silent_since
            self._limit_s = min(self._limit_s, max(silent_s / 2, _SHORTEST_S))
            self.waits = not self._ends


def _skip_empty(blocks: Blocks) -> Iterator[bytes | memoryview]:
    """Return blocks without the empty ones before the first bytes."""
    rest = iter(blocks)
    try:
        for block in rest:
            if block:
                return chain((block,), rest)
    except BaseException as error:  # noqa: BLE001 - the upload raises it
        raise BodyError(error) from None
    return rest
