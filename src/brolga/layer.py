"""A layer that is read once: the pipeline from a source's bytes to compressed bytes.

Knows sources, codecs, hashes and the threads between them. Must not know registries or HTTP.

Strategy: `_pump` is the whole way of a block, in one generator that the reader of the stream
drives. It takes blocks from the source, gives each to the DiffID's hash and to a compressing
thread, and hands the results on in order, hashed once more. What is under way is bounded by
`depth` blocks; nothing else is kept.

    source ──┬─> lane: DiffID, trailer (crc)            uncompressed bytes
             └─> pool: encode ──┬─> lane: Digest        compressed bytes
                                └─> the reader          (an HTTP request's body)

A digest is never wrong: the results are the return value of the generator, so they exist only
after a clean end of the source and of the codec. All else makes the layer failed, for good.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from brolga.compression import BLOCK_SIZE, WINDOW_SIZE, Block, Codec, codec_for
from brolga.descriptor import Descriptor, check_media_type
from brolga.digest import Digest, hasher
from brolga.errors import LayerError, NotComputed, StreamConsumed
from brolga.mediatypes import LAYER_BY_COMPRESSION
from brolga.sources import BlockSource, Source, check, open_source, size_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

__all__ = ["Layer", "LayerState", "LayerStream", "Progress", "StreamLayer"]

_T = TypeVar("_T")

MAX_THREADS: Final = 8  # compressing threads; more cannot outrun the DiffID's serial sha256
_HEARTBEAT_S: Final = 0.05  # seconds without a block after which the reader hears of it


class Layer(Protocol):
    """What a client pushes: compressed bytes, and what is known of them once they were read."""

    @property
    def media_type(self) -> str:
        """The media type of the compressed bytes."""

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size of the compressed bytes. Raises NotComputed too early."""

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed too early."""

    def open(self) -> LayerStream:
        """Open the compressed bytes for reading."""


class LayerState(Enum):
    """Where a stream stands. It goes forward only, and a failed one stays failed."""

    FRESH = "fresh"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes so far: `read` uncompressed ones from the source, `written` compressed ones."""

    read: int
    written: int


@dataclass(frozen=True, slots=True)
class _Sums:
    """What one whole pass has computed."""

    digest: Digest
    diff_id: Digest
    size: int
    uncompressed_size: int


class StreamLayer:
    """A layer whose bytes are read once and never kept (GGCR's `stream.Layer`).

    `source` is a path, a binary file object or an iterable of bytes-like blocks. `compression` is
    gzip (levels 1 to 9, default 1), zstd (1 to 22, default 3) or none. `media_type` None is the
    OCI layer media type of the compression. `threads` is how many compress; None is one for each
    core, at most 8. Each takes about 2.5 MiB. The bytes do not depend on it.

    Raises TypeError for a source of text, SourceError for a closed file, ValueError for a
    compression that is none.
    """

    def __init__(
        self,
        source: Source,
        compression: str = "gzip",
        level: int | None = None,
        media_type: str | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        check(source)
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        self._codec = codec_for(compression, level)
        self._source: Source | None = source
        self._threads = threads or min(_cores(), MAX_THREADS)
        self._media_type = media_type or LAYER_BY_COMPRESSION[compression]
        check_media_type(self._media_type)
        self._total = size_of(source)
        self._course = _Course()

    @property
    def state(self) -> LayerState:
        """Where this layer stands: fresh, open, done or failed."""
        return self._course.state

    @property
    def media_type(self) -> str:
        """The media type of the compressed bytes."""
        return self._media_type

    @property
    def digest(self) -> Digest:
        """The digest of the compressed bytes. Raises NotComputed until done."""
        return self._computed("digest").digest

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes (image-spec config.md, DiffID).

        Raises NotComputed until done.
        """
        return self._computed("diff_id").diff_id

    @property
    def size(self) -> int:
        """The number of compressed bytes. Raises NotComputed until done."""
        return self._computed("size").size

    @property
    def uncompressed_size(self) -> int:
        """The number of the source's bytes. Raises NotComputed until done."""
        return self._computed("uncompressed_size").uncompressed_size

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size (image-spec descriptor.md). Raises NotComputed until done."""
        sums = self._computed("descriptor")
        return Descriptor(self._media_type, sums.digest, sums.size)

    @property
    def source_size(self) -> int | None:
        """The number of bytes that a regular file holds as source; None for all else."""
        return self._total

    @property
    def progress(self) -> Progress:
        """How far the stream has come. Any thread may ask."""
        return Progress(self._course.read, self._course.written)

    def open(self) -> LayerStream:
        """Open the compressed bytes for their one reading; use it in a `with` statement.

        Raises StreamConsumed the second time, SourceError where the source cannot be opened.
        """
        course = self._course
        if course.state is not LayerState.FRESH or self._source is None:
            raise StreamConsumed(
                f"a stream is opened once, and this one is {course.state.value} already"
            ) from course.cause
        source, self._source = self._source, None
        try:
            blocks = open_source(source, BLOCK_SIZE)
        except BaseException as error:
            course.fail(error)
            raise
        course.state = LayerState.OPEN
        return LayerStream(course, blocks, _pump(blocks, self._codec, self._threads, course))

    def _computed(self, name: str) -> _Sums:
        course = self._course
        if course.sums is None:
            raise NotComputed(
                f"{name} is known once the stream was read to its end; it is {course.state.value}"
            ) from course.cause
        return course.sums


class _Course:
    """What a layer and its stream share: the state, the bytes so far, and how it ended."""

    def __init__(self) -> None:
        self.state = LayerState.FRESH
        self.read = 0
        self.written = 0
        self.sums: _Sums | None = None
        self.cause: BaseException | None = None

    def finish(self, sums: _Sums) -> None:
        self.sums, self.state = sums, LayerState.DONE

    def fail(self, cause: BaseException) -> None:
        if self.state in {LayerState.FRESH, LayerState.OPEN}:
            self.cause, self.state = cause, LayerState.FAILED


class LayerStream:
    """The compressed bytes of a `StreamLayer`, read once, by iteration or as a file.

    A context manager. Closing it before its end makes the layer failed. One thread reads; no
    thread of its own outlives `close()`.
    """

    def __init__(
        self, course: _Course, source: BlockSource, blocks: Generator[Block, None, _Sums]
    ) -> None:
        self._course = course
        self._source = source
        self._blocks = blocks
        self._rest = memoryview(b"")

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream; an error of the `with` block is the cause that the layer keeps."""
        if error is not None:
            self._course.fail(error)
        self.close()

    def __del__(self) -> None:
        """Close a stream that was dropped open, and tell of it, as files do."""
        if self._course.state is LayerState.OPEN:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        self.close()

    def __iter__(self) -> Iterator[Block]:
        """Yield the compressed bytes in blocks of any size, none of them empty."""
        return filter(len, self.with_heartbeats())

    def with_heartbeats(self) -> Iterator[Block]:
        """Yield the compressed bytes, and an empty block where the source is slow to give more.

        So that whoever sends the blocks can look at the other side meanwhile. A source of Python
        code is waited for without heartbeats.
        """
        if self._rest:
            rest, self._rest = self._rest, memoryview(b"")
            yield rest
        while (block := self._next()) is not None:
            yield block

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer at the end only; all that is left where `size` is negative."""
        if size < 0:
            return b"".join(self)
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Fill `buffer`; return how many bytes came, fewer than it holds at the end only."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            if not self._rest:
                block = self._next()
                if block is None:
                    break
                self._rest = memoryview(block)
            count = min(len(view) - filled, len(self._rest))
            view[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
        return filled

    def close(self) -> None:
        """Stop, and wait until every thread has ended. Before the end: the layer has failed."""
        if self._course.state is LayerState.OPEN:
            written = self._course.written
            self._course.fail(LayerError(f"the stream was closed after {written} bytes"))
        self._rest = memoryview(b"")
        self._blocks.close()
        self._source.close()

    def _next(self) -> Block | None:
        """Return the next block, None at the clean end. Raises what the pass raised."""
        course = self._course
        if course.state is LayerState.FAILED:
            raise StreamConsumed("the stream was closed, or has failed") from course.cause
        try:
            return next(self._blocks)
        except StopIteration as end:
            if end.value is not None:  # it comes with the first StopIteration alone
                course.finish(end.value)
            return None
        except BaseException as error:
            course.fail(error)
            raise


def _pump(
    source: BlockSource, codec: Codec, threads: int, course: _Course
) -> Generator[Block, None, _Sums]:
    """Yield the compressed stream; return its sums at the clean end of the source.

    An empty block is a heartbeat: nothing came for a while, nothing is wrong.
    """
    depth = threads + 2  # one being read, one being sent, the others being compressed
    with closing(source), _Pass(codec, threads, course) as run:
        yield run.hand_on(codec.head)
        ended = False
        while run.pending or not ended:
            block = None
            if not ended and run.pending < depth:
                block = source.next_block(0 if run.pending else _HEARTBEAT_S)
            if block:
                run.take(block)
            elif block is not None:
                ended = True
            if ended or block is None or run.ready or run.pending == depth:
                yield run.give() if run.pending else b""
        yield run.hand_on(run.trailer.end())
        return run.sums()


class _Pass:
    """The lanes of one pass, and the blocks under way in them, in the order of the source.

    Each hash has a lane of one thread, so its blocks stay in order; encoding has many.
    """

    def __init__(self, codec: Codec, threads: int, course: _Course) -> None:
        self.trailer = codec.trailer()
        self._encode = codec.encode
        self._course = course
        self._window: Block = b""
        self._diff_id, self._digest = hasher(), hasher()
        self._blocks: deque[tuple[Future[None], Future[Block]]] = deque()
        self._hashed: Future[None] = _done(None)
        # A lane starts its threads when it is first used.
        self._lanes = (
            ThreadPoolExecutor(1, "brolga-diff-id"),
            ThreadPoolExecutor(threads, "brolga-encode"),
            ThreadPoolExecutor(1, "brolga-digest"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.shutdown(wait=True, cancel_futures=True)

    @property
    def pending(self) -> int:
        return len(self._blocks)

    @property
    def ready(self) -> bool:
        return bool(self._blocks) and self._blocks[0][1].done()

    def take(self, block: Block) -> None:
        """Start a block on its way."""
        diff_id, pool, _ = self._lanes
        self._course.read += len(block)
        encoded: Future[Block] = _done(block)
        if self._encode:
            encoded = pool.submit(self._encode, block, self._window)
        self._blocks.append((diff_id.submit(self._sum_up, block), encoded))
        self._window = block[-WINDOW_SIZE:]

    def give(self) -> Block:
        """Return the first block under way, when it has been hashed and encoded."""
        summed, encoded = self._blocks.popleft()
        summed.result()
        return self.hand_on(encoded.result())

    def hand_on(self, block: Block) -> Block:
        """Count a compressed block, hash it while the reader has it already, and return it."""
        self._course.written += len(block)
        if self._encode:
            self._hashed.result()  # so that no more than one block waits for this lane
            self._hashed = self._lanes[2].submit(self._digest.update, block)
        return block

    def sums(self) -> _Sums:
        self._hashed.result()
        diff_id = Digest.from_hasher(self._diff_id)
        # Where nothing was compressed, the compressed bytes are the uncompressed ones: hash once.
        digest = Digest.from_hasher(self._digest) if self._encode else diff_id
        return _Sums(digest, diff_id, self._course.written, self._course.read)

    def _sum_up(self, block: Block) -> None:
        self._diff_id.update(block)
        self.trailer.update(block)


def _done(value: _T) -> Future[_T]:
    future: Future[_T] = Future()
    future.set_result(value)
    return future


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
