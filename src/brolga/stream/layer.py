"""A layer that is read once, and the stream that it is read by.

Knows the states of a single pass and what may be asked in each. Must not know how the pass is
made (that is `pipeline`), nor registries or HTTP.

Strategy: a digest is never wrong. The results are the return value of the pass, so they exist
only after its clean end; all else makes the layer failed, for good, and it keeps its first cause.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Final, Protocol

from brolga.errors import LayerError, NotComputed, SourceError, StreamConsumed
from brolga.spec.blob import Block, BlockReader, LayerState, Progress
from brolga.spec.descriptor import Descriptor
from brolga.spec.mediatypes import LAYER_BY_COMPRESSION, STREAM_BY_COMPRESSION, check_media_type
from brolga.stream.compression import BLOCK_SIZE, Codec, codec_for
from brolga.stream.pipeline import ByteCounts, PassResult, WorkerPools, one_pass
from brolga.stream.sources import Source, check, open_source, reopen_source, runs_user_code, size_of
from brolga.tar.completeness import CompletenessCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from brolga.spec.blob import BlockSource
    from brolga.spec.digest import Digest

__all__ = ["LayerStream", "StreamLayer"]

# Compressing threads by default. By then the serial sha256 of the DiffID is the limit, and the peak
# is still under 64 MiB (zstd 3; benchmarks/).
MAX_THREADS: Final = 5


class StreamLayer:
    """A layer whose bytes are read once and never kept (GGCR's `stream.Layer`).

    `source` is a path, a binary file object or an iterable of bytes-like blocks. `compression` is
    gzip (levels 1 to 9, default 1), zstd (1 to 22, default 3) or none. `media_type` None is the
    OCI layer media type of the compression. `threads` is how many compress; None is one for each
    core, at most 5. Each takes about 4 MiB. The bytes do not depend on it. A `tar` is refused where
    it is cut short (CorruptBlob); None looks whether the source begins as one, False never.
    `runs_user_code` is whether reading calls the user's Python code: `Client.push` reads such a
    layer in the caller's thread.

    Raises TypeError for a source of text, SourceError for a closed file, ValueError for a
    compression that is none.
    """

    def __init__(  # noqa: PLR0913 - what can be chosen about a layer
        self,
        source: Source,
        compression: str = "gzip",
        level: int | None = None,
        media_type: str | None = None,
        *,
        threads: int | None = None,
        tar: bool | None = None,
    ) -> None:
        check(source)
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        self._codec = codec_for(compression, level)
        self._unread: list[Source] = [source]  # until it is opened
        self._threads = threads or min(_cores(), MAX_THREADS)
        self._has_default_type = media_type is None
        self._media_type = media_type or LAYER_BY_COMPRESSION[compression]
        check_media_type(self._media_type)
        self._tar = tar
        self._total = size_of(source)
        self.runs_user_code = runs_user_code(source)
        self._course = _StreamState()

    def __repr__(self) -> str:
        """Show state and bytes so far, nothing of the source."""
        return f"<StreamLayer {self._course}>"

    @property
    def state(self) -> LayerState:
        """Where this layer stands: fresh, open, done or failed."""
        return self._course.state

    @property
    def media_type(self) -> str:
        """The media type of the compressed bytes."""
        return self._media_type

    @property
    def compression(self) -> str:
        """How the bytes are compressed: gzip, zstd or none."""
        return self._codec.name

    @property
    def stream_media_type(self) -> str:
        """The media type of the compressed bytes outside an image: that which was given, if any.

        Without one, only a stream that was checked to be a whole tar has the type of a tar: one
        that is not a tar, or was pushed with `tar=False`, is application/octet-stream, with +gzip
        or +zstd behind it if it is compressed. Raises NotComputed until done.
        """
        self._computed("stream_media_type")
        if self._has_default_type and not self._course.is_tar:
            return STREAM_BY_COMPRESSION[self.compression]
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
        return Progress(self._course.tally.read, self._course.tally.written)

    def open(self) -> LayerStream:
        """Open the compressed bytes for their one reading; use it in a `with` statement.

        Raises StreamConsumed the second time, SourceError where the source cannot be opened.
        """
        course = self._course
        try:
            source = self._unread.pop()  # atomic: of two threads that open at once, one gets it
        except IndexError:
            state = LayerState.OPEN if course.state is LayerState.FRESH else course.state
            raise StreamConsumed(
                f"a stream can be opened only once; this one is already {state.value}"
            ) from course.cause
        course.state = LayerState.OPEN
        try:
            course.reopen = reopen_source(source)
            opened = open_source(source, BLOCK_SIZE)
            blocks = CompletenessCheck(opened, is_layer=self._tar, on_tar=course.note_tar)
            return LayerStream(course, blocks, self._codec, WorkerPools(self._threads))
        except BaseException as error:
            course.fail(error)
            raise

    def _computed(self, name: str) -> PassResult:
        course = self._course
        if course.sums is None:
            raise NotComputed(
                f"{name} is not known until the stream has been read to its end; it is "
                f"{course.state.value}"
            ) from course.cause
        return course.sums


class _StreamState:
    """What a layer and its stream share: the state, the bytes so far, and how it ended."""

    def __init__(self) -> None:
        self.state = LayerState.FRESH
        self.tally = ByteCounts()
        self.sums: PassResult | None = None
        self.cause: BaseException | None = None
        self.reopen: Callable[[int, int], BlockSource] | None = None
        self.is_tar = False

    def __str__(self) -> str:
        return f"{self.state.value}, {self.tally.read} bytes read, {self.tally.written} written"

    def note_tar(self) -> None:
        self.is_tar = True

    def finish(self, result: PassResult) -> None:
        self.sums, self.state = result, LayerState.DONE

    def fail(self, cause: BaseException) -> None:
        if self.state in {LayerState.FRESH, LayerState.OPEN}:
            self.cause, self.state = cause, LayerState.FAILED


class _Part(Protocol):
    """Something to close, as often as is needed."""

    def close(self) -> None: ...


class LayerStream(BlockReader):
    """The compressed bytes of a `StreamLayer`, read once, by iteration or as a file.

    A context manager. Closing it before its end makes the layer failed. One thread reads; no
    thread of its own outlives `close()`.
    """

    def __init__(
        self, course: _StreamState, source: BlockSource, codec: Codec, lanes: WorkerPools
    ) -> None:
        self._course = course
        self._process = os.getpid()
        self._codec = codec
        self._lanes = lanes
        self._blocks = one_pass(source, codec, lanes, course.tally)
        self._parts: tuple[_Part, ...] = (self._blocks, lanes, source)

    def __repr__(self) -> str:
        """Show state and bytes so far."""
        return f"<LayerStream {self._course}>"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream; an error of the `with` block is the cause that the layer keeps."""
        if error is not None:
            self._course.fail(error)
        super().__exit__(kind, error, traceback)

    def __del__(self) -> None:
        """Close a stream that was dropped open, and tell of it, as files do."""
        if self._course.state is LayerState.OPEN and self._process == os.getpid():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        self.close()

    def blocks(self) -> Iterator[Block]:
        """Yield the compressed bytes, and an empty block where the source is slow to give more.

        So that whoever sends the blocks can look at the other side meanwhile. A source of Python
        code is waited for without heartbeats.
        """
        return super().blocks()

    @property
    def is_reopenable(self) -> bool:
        """Whether the source can be opened once more: a regular file can."""
        return self._course.reopen is not None

    def reread(self) -> Iterator[Block]:
        """Yield again the bytes that were given so far, and perhaps some more, by a second pass.

        This stream stays where it is. Raises SourceError where the source gives other bytes now,
        LayerError where it cannot be opened once more, StreamConsumed where this stream has failed.
        """
        self._check_process()
        course, tally = self._course, self._course.tally
        if course.state is LayerState.FAILED:
            raise StreamConsumed("the stream was closed, or has failed") from course.cause
        if course.reopen is None:
            raise LayerError("the source of this stream can be read only once")
        count = tally.read
        read = course.sums.diff_id if course.sums else self._lanes.read_so_far(tally)
        source, lanes = course.reopen(BLOCK_SIZE, count), WorkerPools(self._lanes.threads)
        blocks = one_pass(source, self._codec, lanes, ByteCounts())
        self._parts += (blocks, lanes, source)
        sums = yield from blocks
        if (sums.uncompressed_size, sums.diff_id) != (count, read):
            raise SourceError(f"the source changed: its first {count} bytes are others now")

    def close(self) -> None:
        """Stop, and wait until every thread has ended. Before the end: the layer has failed.

        Where this was interrupted, closing again finishes it.
        """
        if self._course.state is LayerState.OPEN:
            written = self._course.tally.written
            self._course.fail(LayerError(f"the stream was closed after {written} bytes"))
        self._rest = memoryview(b"")
        for part in self._parts:
            part.close()

    def _next(self) -> Block | None:
        """Return what is left of a block, or the next one; None at the clean end.

        Raises what the pass raised, LayerError in a process that has none of its threads.
        """
        course = self._course
        self._check_process()
        if course.state is LayerState.FAILED:
            raise StreamConsumed("the stream was closed, or has failed") from course.cause
        if (rest := self._take_rest()) is not None:
            return rest
        try:
            return next(self._blocks)
        except StopIteration as end:
            if end.value is not None:  # it comes with the first StopIteration alone
                course.finish(end.value)
            return None
        except BaseException as cause:
            course.fail(cause)
            raise

    def _check_process(self) -> None:
        """Raise LayerError in a process that has none of the stream's threads."""
        if self._course.state is LayerState.OPEN and self._process != os.getpid():
            error = LayerError("the stream was opened in another process: open it in this one")
            self._course.fail(error)
            raise error


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
