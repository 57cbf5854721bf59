"""Reading the blobs of a registry: verified, and over several connections if that pays.

A blob is read by one request. If its reader waits for bytes most of the time, the rest is read in
parts (`stores/parts.py`); if that does not work, one request goes on.
"""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga import protocol
from brolga.errors import BrolgaError, DigestMismatch
from brolga.protocol import BlobHead
from brolga.spec.digest import Digest, hasher
from brolga.spec.value import Value, field
from brolga.stores.progress import BlobReport
from brolga.stores.read_budget import ReadBudget, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from brolga.protocol import Access
    from brolga.protocol.blobs import ReadFlow
    from brolga.spec.blob import Block, Prefix
    from brolga.stores.parts import Parts
    from brolga.transport import Transport

_LEAST_PARTS: Final = 2  # for fewer, no further connection pays
_ATTEMPTS: Final = 3  # at parts; each one begins further away


class BlobReader(Value):
    """Reads blobs of one repository. `connect` returns the access to it. Threads may share it."""

    transport: Transport
    connect: Callable[[], Access]
    budget: ReadBudget = field(default_factory=ReadBudget)

    def read(
        self,
        digest: Digest,
        size: int | None,
        prefix: Prefix | None = None,
        report: BlobReport | None = None,
    ) -> Generator[Block, None, None]:
        """Yield the bytes of a blob after `prefix`, verified together with it.

        `report` gets the retries, and the size if it is not known before. Raises what
        `protocol.read_blob` raises, and DigestMismatch.
        """
        hasher(digest.algorithm)  # raises InvalidDigest before a request is made
        report = report or BlobReport()
        access, start = report.watch(self.connect()), prefix.size if prefix else 0
        blocks = _Reading(self, access, digest, size, start, report.note_size).blocks()
        return verify(blocks, digest, size, access.registry.base, prefix)

    def read_range(self, digest: Digest, start: int, stop: int) -> Generator[Block, None, None]:
        """Yield the bytes from `start` to `stop`, which is not included. They are not verified."""
        flow = protocol.read_range(self.connect(), digest, start, stop)
        yield from _drive(self.transport, flow, lambda _head: None)


def _drive(
    transport: Transport, flow: ReadFlow, note_head: Callable[[BlobHead], object]
) -> Generator[Block, None, None]:
    """Drive a flow; yield its bytes, and give its heads to `note_head`."""
    items: Generator[BlobHead | Block, None, None] = transport.stream(flow)
    with closing(items):
        for item in items:
            if isinstance(item, BlobHead):
                note_head(item)
            else:
                yield item


def verify(
    blocks: Generator[Block, None, None],
    digest: Digest,
    size: int | None,
    server: str,
    prefix: Prefix | None = None,
) -> Generator[Block, None, None]:
    """Yield blocks, the last one when the digest of all bytes, `prefix` included, was checked.

    So a reader that stops at the size still gets DigestMismatch, which names `server`.
    """
    state = prefix.state.copy() if prefix else hasher(digest.algorithm)
    count = prefix.size if prefix else 0
    last: Block = b""
    with closing(blocks):
        for block in blocks:
            state.update(block)
            count += len(block)
            if last:
                yield last
            last = block
    if size not in {None, count}:
        text = f"{server} gave {count} bytes as {digest}, not the expected {size}"
        raise DigestMismatch(text, expected=digest)
    if (actual := Digest.from_hasher(state)) != digest:
        text = f"{server} gave other bytes as {digest}: they hash to {actual}"
        raise DigestMismatch(text, expected=digest, actual=actual)
    if last:
        yield last


class _Reading:
    """One blob that is being read, from offset `start` on."""

    def __init__(  # noqa: PLR0913, PLR0917 - what is read, and how
        self,
        reader: BlobReader,
        access: Access,
        digest: Digest,
        size: int | None,
        start: int,
        note_size: Callable[[int], object],
    ) -> None:
        self._transport = reader.transport
        self._budget = reader.budget
        self._access = access
        self._digest = digest
        self._size = size
        self._position = start
        self._note_size = note_size
        self._url = ""  # where the registry redirects to
        self._parts: Parts | None = None

    def blocks(self) -> Generator[Block, None, None]:
        """Yield the bytes, not verified."""
        if self._position == self._size:
            return
        connections = Share(self._budget.connections)
        try:
            connections.require()
            yield from self._read_by_one_request(connections)
            if self._parts is None:
                return
            try:
                yield from self._count(self._parts.blocks())
            except BrolgaError:
                self._close_parts()
            else:
                return
            yield from self._count(self._request())
        finally:
            try:
                self._close(connections)
            finally:
                self._close(connections)  # again, since an interrupt may have ended the first call

    def _count(self, blocks: Iterator[Block]) -> Generator[Block, None, None]:
        for block in blocks:
            self._position += len(block)
            yield block

    def _read_by_one_request(self, connections: Share) -> Generator[Block, None, None]:
        """Yield bytes, up to the end, or up to the first part of those that have begun."""
        wait, attempt = _Wait(), 0
        with closing(self._request(wait)) as blocks:
            while block := wait.measure(blocks):
                if self._parts is not None and self._position + len(block) >= self._parts.start:
                    if self._parts.wait_begun():
                        block = block[: self._parts.start - self._position]
                        self._position += len(block)
                        if block:
                            yield block
                        return
                    self._close_parts()
                self._position += len(block)
                yield block
                if self._parts is None and attempt < _ATTEMPTS and self._is_slow(wait):
                    attempt += self._split(wait, 1 << attempt, connections)
        self._close_parts()

    def _request(self, wait: _Wait | None = None) -> Generator[Block, None, None]:
        """Yield the rest of the blob, read by one request."""
        flow = protocol.read_blob(self._access, self._digest, self._size, self._position)
        return _drive(self._transport, flow, partial(self._note_head, wait))

    def _note_head(self, wait: _Wait | None, head: BlobHead) -> None:
        if self._size is None and head.size is not None:
            self._note_size(head.size)
        self._size, self._url = head.size, head.url
        if wait is not None:
            wait.begin()

    def _is_slow(self, wait: _Wait) -> bool:
        options = self._budget.options
        is_long = wait.is_longer(options.patience_s, options.wait_share)
        return is_long and wait.rate < options.fast_rate

    def _split(self, wait: _Wait, distance: int, connections: Share) -> bool:
        """Begin the parts of the rest, if that is large enough and a connection is free.

        They begin where this request will be when their first responses have come.
        """
        size, options = self._size, self._budget.options
        part_size, seconds = options.part_size, options.responses_ahead * wait.response_s
        start = self._position + distance * (part_size + int(wait.rate * seconds))
        if size is None or size - start < _LEAST_PARTS * part_size:
            return False
        if not connections.take():
            return False
        from brolga.stores.parts import Parts

        # It is known here before it takes anything: an interrupt cannot lose it.
        self._parts = Parts(self._fetch, start, size, self._budget, connections)
        try:
            self._parts.begin()
        except RuntimeError:  # no thread is available
            self._close_parts()
            return False
        return True

    def _close(self, connections: Share) -> None:
        try:
            self._close_parts()
        finally:
            connections.close()

    def _close_parts(self) -> None:
        if self._parts is not None:
            self._parts.close()
            self._parts = None

    def _fetch(self, start: int, stop: int) -> Iterator[BlobHead | Block]:
        """Return what one request for a part yields."""
        flow = protocol.read_range(self._access, self._digest, start, stop, self._url)
        return self._transport.stream(flow)


class _Wait:
    """How long the reader of a request waits for its bytes, and how many come."""

    def __init__(self) -> None:
        self._request_s = self._head_s = time.monotonic()
        self._waited_s = 0.0
        self._size = 0

    def begin(self) -> None:
        """Begin to measure: the response has begun."""
        self._head_s, self._waited_s, self._size = time.monotonic(), 0.0, 0

    @property
    def response_s(self) -> float:
        """The time that the response took to begin."""
        return self._head_s - self._request_s

    @property
    def rate(self) -> float:
        """Bytes a second since then."""
        return self._size / max(time.monotonic() - self._head_s, 1e-6)

    def measure(self, blocks: Iterator[Block]) -> Block | None:
        """Return the next block, None at the end."""
        began = time.monotonic()
        block = next(blocks, None)
        self._waited_s += time.monotonic() - max(began, self._head_s)
        self._size += len(block or b"")
        return block

    def is_longer(self, seconds: float, share: float) -> bool:
        """Return whether the waits are longer than `seconds`, and than a share of the time."""
        return seconds < self._waited_s > share * (time.monotonic() - self._head_s)
