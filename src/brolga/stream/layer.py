"""A layer that is read once, and the stream that reads it.

A digest is never wrong: the results are the return value of the pass, so they exist only after its
clean end. Any error makes the layer failed for good, and it keeps its first cause.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Final

from brolga._version import __version__
from brolga.errors import LayerError, NotComputed, SourceError, StreamConsumed
from brolga.spec.blob import Block, BlockReader, LayerState, Progress
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import CANONICAL, hasher
from brolga.spec.mediatypes import LAYER_BY_COMPRESSION, STREAM_BY_COMPRESSION, check_media_type
from brolga.stream.compression import BLOCK_SIZE, Codec, codec_for
from brolga.stream.pipeline import ByteCounts, PassResult, WorkerPools, one_pass
from brolga.stream.sources import (
    Source,
    bind_source,
    calls_user_code,
    check_source,
    get_source_name,
    get_source_size,
    identify_source,
    open_source,
    reopen_source,
)
from brolga.stream.worker import current_stop
from brolga.tar.completeness import CompletenessCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from brolga.spec.blob import BlockSource
    from brolga.spec.digest import Digest
    from brolga.stream.async_sources import AsyncSource

# Compressing threads by default. By then the serial sha256 of the DiffID is the limit, and the peak
# is still under 64 MiB (zstd 3; benchmarks/).
MAX_THREADS: Final = 5


class StreamLayer:
    """A layer whose bytes are read once and never kept (GGCR's `stream.Layer`).

    `source` is a path, a binary file object or an iterable of bytes-like blocks. Within an event
    loop, it may be an asynchronous iterable, or an object whose `read(n)` is a coroutine function.
    `compression` is gzip (levels 1 to 9, default 1), zstd (1 to 22, default 3) or none.
    `media_type` None is the OCI layer media type of the compression. `threads` is the number of
    compressing threads; None is one for each core, at most 5. Each takes about 4 MiB. The output
    does not depend on it. `digest_algorithm` is that of the digest, sha256 or sha512; the DiffID
    is by sha256. `tar` True checks that the source is a complete tar (CorruptBlob), None checks a
    source that begins as a tar, False nothing.

    `runs_user_code` is whether reading calls the user's Python code: `Client.push` reads such a
    layer in the caller's thread. `source_size` is the number of bytes in a regular file, else None;
    `source_name` is the name of a file that is given by its path, else "".

    Raises TypeError for a source of text, SourceError for a closed file, ValueError for an unknown
    compression or level, InvalidDigest for an algorithm that cannot be computed here, RuntimeError
    for an asynchronous source without a running event loop.
    """

    def __init__(  # noqa: PLR0913 - what can be chosen about a layer
        self,
        source: Source | AsyncSource,
        compression: str = "gzip",
        level: int | None = None,
        media_type: str | None = None,
        *,
        threads: int | None = None,
        tar: bool | None = None,
        digest_algorithm: str = CANONICAL,
    ) -> None:
        source = bind_source(source)
        check_source(source)
        hasher(digest_algorithm)
        self.digest_algorithm = digest_algorithm
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        self._codec = codec_for(compression, level)
        self._unread: list[Source] = [source]  # empty once it is opened
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        self._threads = threads or min(cores, MAX_THREADS)
        self._has_default_type = media_type is None
        self._media_type = media_type or LAYER_BY_COMPRESSION[compression]
        check_media_type(self._media_type)
        self._tar = tar
        self.source_size = get_source_size(source)
        self.source_name = get_source_name(source)
        self.runs_user_code = calls_user_code(source)
        self._source_identity = identify_source(source)
        self._state = _StreamState()

    def __repr__(self) -> str:
        """Show the state and the bytes so far, not the source."""
        return f"<StreamLayer {self._state}>"

    @property
    def state(self) -> LayerState:
        """The state of this layer: fresh, open, done or failed."""
        return self._state.phase

    @property
    def media_type(self) -> str:
        """The media type of the compressed bytes."""
        return self._media_type

    @property
    def compression(self) -> str:
        """The compression: gzip, zstd or none."""
        return self._codec.name

    @property
    def source_identity(self) -> str:
        """What is the same if the stream is pushed again."""
        return self._identify(self._source_identity)

    @property
    def stream_media_type(self) -> str:
        """The media type of the compressed bytes outside an image: the given one, if any.

        Without one, only a stream that was checked to be a complete tar has the type of a tar. Any
        other is application/octet-stream, with suffix +gzip or +zstd if it is compressed. Raises
        NotComputed until done.
        """
        self._get_result("stream_media_type")
        if self._has_default_type and not self._state.is_tar:
            return STREAM_BY_COMPRESSION[self.compression]
        return self._media_type

    @property
    def digest(self) -> Digest:
        """The digest of the compressed bytes. Raises NotComputed until done."""
        return self._get_result("digest").digest

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes (image-spec config.md, DiffID).

        Raises NotComputed until done.
        """
        return self._get_result("diff_id").diff_id

    @property
    def size(self) -> int:
        """The number of compressed bytes. Raises NotComputed until done."""
        return self._get_result("size").size

    @property
    def uncompressed_size(self) -> int:
        """The number of the source's bytes. Raises NotComputed until done."""
        return self._get_result("uncompressed_size").uncompressed_size

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size (image-spec descriptor.md). Raises NotComputed until done."""
        result = self._get_result("descriptor")
        return Descriptor(self._media_type, result.digest, result.size)

    @property
    def progress(self) -> Progress:
        """The bytes so far. Any thread may read it."""
        return Progress(self._state.counts.read, self._state.counts.written)

    def open(self) -> LayerStream:
        """Open the compressed bytes for their one reading; use it in a `with` statement.

        Raises StreamConsumed the second time, SourceError if the source cannot be opened.
        """
        state = self._state
        try:
            source = self._unread.pop()  # atomic: only one of two threads gets it
        except IndexError:
            phase = LayerState.OPEN if state.phase is LayerState.FRESH else state.phase
            raise StreamConsumed(
                f"a stream can be opened only once; this one is already {phase.value}"
            ) from state.cause
        state.phase = LayerState.OPEN
        try:
            state.reopen = reopen_source(source)
            opened = open_source(source, BLOCK_SIZE)
            blocks = CompletenessCheck(opened, is_layer=self._tar, on_tar=state.note_tar)
            pools = WorkerPools(self._threads)
            return LayerStream(state, blocks, self._codec, pools, self.digest_algorithm)
        except BaseException as error:
            state.fail(error)
            raise

    def _identify(self, source: str) -> str:
        """Return what makes the bytes of this stream, from a source of which that is known."""
        codec, algorithm = self._codec, self.digest_algorithm
        made_by = f"{codec.name} {codec.level} {algorithm} brolga {__version__}"
        return f"{source} {made_by}"

    def _get_result(self, name: str) -> PassResult:
        state = self._state
        if state.result is None:
            raise NotComputed(
                f"{name} is not known until the stream has been read to its end; it is "
                f"{state.phase.value}"
            ) from state.cause
        return state.result


class _StreamState:
    """What a layer and its stream share: the phase, the bytes so far, and how it ended."""

    def __init__(self) -> None:
        self.phase = LayerState.FRESH
        self.counts = ByteCounts()
        self.result: PassResult | None = None
        self.cause: BaseException | None = None
        self.reopen: Callable[[int, int], BlockSource] | None = None
        self.is_tar = False

    def __str__(self) -> str:
        return f"{self.phase.value}, {self.counts.read} bytes read, {self.counts.written} written"

    def note_tar(self) -> None:
        self.is_tar = True

    def fail(self, cause: BaseException) -> None:
        if self.phase in {LayerState.FRESH, LayerState.OPEN}:
            self.cause, self.phase = cause, LayerState.FAILED


class LayerStream(BlockReader):
    """The compressed bytes of a `StreamLayer`, read once, by iteration or as a file.

    A context manager. Closing it before its end fails the layer. One thread reads; no thread of the
    stream outlives `close()`. If the source is slow, `blocks` yields heartbeats, and a stop request
    is noticed; an iterable, or an object with `read`, is waited for without them.
    """

    def __init__(
        self,
        state: _StreamState,
        source: BlockSource,
        codec: Codec,
        pools: WorkerPools,
        algorithm: str,
    ) -> None:
        self._state = state
        self._process = os.getpid()
        self._codec = codec
        self._pools = pools
        self._blocks = one_pass(source, codec, pools, state.counts, algorithm)
        self._closers: list[Callable[[], None]] = [self._blocks.close, pools.close, source.close]

    def __repr__(self) -> str:
        """Show the state and the bytes so far."""
        return f"<LayerStream {self._state}>"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream; an error in the `with` block becomes the cause that the layer keeps."""
        if error is not None:
            self._state.fail(error)
        super().__exit__(kind, error, traceback)

    def __del__(self) -> None:
        """Close a stream that was dropped open, with a warning, as files do."""
        if self._state.phase is LayerState.OPEN and self._process == os.getpid():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        self.close()

    @property
    def is_reopenable(self) -> bool:
        """Whether the source can be opened again, as a regular file can."""
        return self._state.reopen is not None

    def reread(self) -> Iterator[Block]:
        """Yield the bytes so far again, and perhaps some more, by a second pass over the source.

        This stream keeps its position. Raises SourceError if the source has other bytes now,
        LayerError if it cannot be opened again, StreamConsumed if this stream has failed.
        """
        self._check_usable()
        state = self._state
        if state.reopen is None:
            raise LayerError("the source of this stream can be read only once")
        count = state.counts.read
        read = state.result.diff_id if state.result else self._pools.digest_so_far(state.counts)
        source, pools = state.reopen(BLOCK_SIZE, count), WorkerPools(self._pools.threads)
        blocks = one_pass(source, self._codec, pools, ByteCounts())
        self._closers += (blocks.close, pools.close, source.close)
        result = yield from blocks
        if (result.uncompressed_size, result.diff_id) != (count, read):
            raise SourceError(f"the source changed: its first {count} bytes are others now")

    def close(self) -> None:
        """Stop, and wait until every thread has ended. Before the end, this fails the layer.

        If it was interrupted, closing again finishes it.
        """
        if self._state.phase is LayerState.OPEN:
            written = self._state.counts.written
            self._state.fail(LayerError(f"the stream was closed after {written} bytes"))
        self._rest = memoryview(b"")
        for close in self._closers:
            close()

    def _next(self) -> Block | None:
        self._check_usable()
        if (rest := self._take_rest()) is not None:
            return rest
        try:
            current_stop().check()
            return next(self._blocks)
        except StopIteration as end:
            if end.value is not None:  # only the first StopIteration has it
                self._state.result, self._state.phase = end.value, LayerState.DONE
            return None
        except BaseException as cause:
            self._state.fail(cause)
            raise

    def _check_usable(self) -> None:
        """Raise LayerError in a process without the stream's threads, StreamConsumed if failed."""
        state = self._state
        if state.phase is LayerState.OPEN and self._process != os.getpid():
            error = LayerError("the stream was opened in another process: open it in this one")
            state.fail(error)
            raise error
        if state.phase is LayerState.FAILED:
            raise StreamConsumed("the stream was closed, or has failed") from state.cause
