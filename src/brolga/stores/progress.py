"""Reports on the blobs that the stores of one client move, as events (`spec.progress`).

A store asks for the report of each blob by `report_push` or `report_read`, and gives it what passes
through. A blob that is read to be pushed is one blob: its reading reports only what is retried.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final

from brolga.errors import NotComputed
from brolga.images import BlockStream
from brolga.spec.blob import MeasuresSource
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator

    from brolga.protocol import Access
    from brolga.spec.blob import Blob, BlobStream, Block, Prefix
    from brolga.spec.progress import BlobDone, ProgressEvent
    from brolga.spec.reference import Repository

_STEP: Final = 1 << 18  # bytes between two events
_TITLE: Final = "org.opencontainers.image.title"


class BlobReport:
    """The report on one blob. This one is silent, for a client without `progress`."""

    def watch(self, access: Access) -> Access:
        """Return an access whose retries are reported."""
        return access

    def count(self, blocks: Iterable[Block], start: int = 0) -> Iterator[Block]:
        """Return blocks that begin at byte `start` of the blob; they report how far they are."""
        del start
        return iter(blocks)

    def read(
        self, blocks: Generator[Block, None, None], start: int = 0
    ) -> Generator[Block, None, None]:
        """Count the blocks of a blob that is only read; its begin and end are reported too."""
        del start
        return blocks

    def open(self, opener: Callable[..., BlobStream], *prefix: Prefix) -> BlobStream:
        """Open the bytes of a blob, after a prefix if there is one, and count them."""
        return opener(*prefix)

    def note_size(self, size: int) -> None:
        """Take note of the size of the blob, which was not known when it began."""

    def skip(self) -> None:
        """Report that the target has the blob already."""

    def mount(self, source: Repository) -> None:
        """Report that the registry has taken the blob from another repository."""


class ProgressReporter:
    """What all stores of one client report to. `emit` is called in the thread of each event."""

    def __init__(self, emit: Callable[[ProgressEvent], object]) -> None:
        self.emit = emit
        self.pushes: dict[Digest, BlobReport] = {}  # under way
        self.keys = count(1)

    def plan(self, blobs: Collection[Blob]) -> None:
        """Report that blobs will begin."""
        from brolga.spec.progress import BlobsPlanned

        facts = [_Facts(blob) for blob in blobs]
        sizes = [each.source_size if each.size is None else each.size for each in facts]
        size = None if None in sizes else sum(filter(None, sizes))
        self.emit(BlobsPlanned(len(sizes), size))


@contextmanager
def report_push(progress: ProgressReporter | None, blob: Blob) -> Iterator[BlobReport]:
    """Report on a blob that is pushed while the block runs."""
    if progress is None:
        yield BlobReport()
        return
    report = _Report(progress, blob, "push")
    digest = report.facts.digest
    if digest is not None:
        progress.pushes[digest] = report
    try:
        with report.within():
            yield report
    finally:
        if digest is not None:
            progress.pushes.pop(digest, None)


def report_read(progress: ProgressReporter | None, blob: Descriptor | Digest) -> BlobReport:
    """Return the report on a blob that is read from a store."""
    if progress is None:
        return BlobReport()
    digest = blob if isinstance(blob, Digest) else blob.digest
    push = progress.pushes.get(digest)
    return _Report(progress, blob, "read") if push is None else _PartOf(push)


class _Facts:
    """What is known of a blob before it moves."""

    def __init__(self, blob: Blob | Descriptor | Digest) -> None:
        self.digest: Digest | None = None
        self.media_type = self.title = ""
        self.size: int | None = None
        self.source: MeasuresSource | None = None
        if isinstance(blob, Digest):
            self.digest = blob
            return
        try:
            descriptor = blob if isinstance(blob, Descriptor) else blob.descriptor
        except NotComputed:
            self._look_within(blob)
        else:
            self.digest, self.media_type = descriptor.digest, descriptor.media_type
            self.size, self.title = descriptor.size, descriptor.annotations.get(_TITLE, "")

    @property
    def source_size(self) -> int | None:
        return self.source.source_size if self.source else None

    def _look_within(self, blob: object) -> None:
        """Find the source and the title of a stream, which other blobs may wrap."""
        while blob is not None:
            self.title = self.title or getattr(blob, "title", "")
            if isinstance(blob, MeasuresSource):
                self.source, self.title = blob, self.title or blob.source_name
            blob = getattr(blob, "blob", None)


class _Report(BlobReport):
    """The report on one blob that is pushed, or only read."""

    def __init__(
        self, progress: ProgressReporter, blob: Blob | Descriptor | Digest, action: str
    ) -> None:
        self.facts = _Facts(blob)
        self._blob = blob
        self._progress = progress
        self._action = action
        self._key = next(progress.keys)
        self._size = self.facts.size
        self._moved = self._told = self._farthest = 0
        self._has_ended = False

    def watch(self, access: Access) -> Access:
        return replace(access, on_retry=self._retry, on_resume=self._resume)

    def count(self, blocks: Iterable[Block], start: int = 0) -> Iterator[Block]:
        if start > self._farthest:
            self._resume(start)
        self._move(start)
        for block in blocks:
            start += len(block)
            self._move(start)
            yield block

    def read(
        self, blocks: Generator[Block, None, None], start: int = 0
    ) -> Generator[Block, None, None]:
        with closing(blocks), self.within():
            yield from self.count(blocks, start)

    def open(self, opener: Callable[..., BlobStream], *prefix: Prefix) -> BlobStream:
        return BlockStream(self._count_opened(opener, prefix))

    def _count_opened(
        self, opener: Callable[..., BlobStream], prefix: tuple[Prefix, ...]
    ) -> Generator[Block, None, None]:
        with opener(*prefix) as stream:
            yield from self.count(stream, sum(each.size for each in prefix))

    def note_size(self, size: int) -> None:
        self._size = size

    def skip(self) -> None:
        from brolga.spec.progress import BlobSkipped

        self._end(BlobSkipped(self._key))

    def mount(self, source: Repository) -> None:
        from brolga.spec.progress import BlobMounted

        self._end(BlobMounted(self._key, source))

    @contextmanager
    def within(self) -> Iterator[None]:
        """Report the begin of the blob, and how it ends with the block."""
        from brolga.spec.progress import BlobFailed

        self._begin()
        try:
            yield
        except BaseException as error:
            # A reader that stops at the size does not wait for the end of the stream.
            is_whole = isinstance(error, GeneratorExit) and self._moved == self._size
            self._end(self._done() if is_whole else BlobFailed(self._key, self._moved))
            raise
        self._end(self._done())

    @property
    def _read(self) -> int:
        return self.facts.source.progress.read if self.facts.source else self._moved

    def _resume(self, start: int) -> None:
        from brolga.spec.progress import BlobResumed

        self._moved = self._told = self._farthest = start
        self._progress.emit(BlobResumed(self._key, start))

    def _move(self, moved: int) -> None:
        self._moved, self._farthest = moved, max(moved, self._farthest)
        if abs(moved - self._told) >= _STEP:
            from brolga.spec.progress import BlobMoved

            self._told = moved
            self._progress.emit(BlobMoved(self._key, moved, self._read, self._size))

    def _retry(self, reason: str, delay_s: float) -> None:
        from brolga.spec.progress import BlobRetried

        if not self._has_ended:  # a request for a part may fail after the blob was given up
            self._progress.emit(BlobRetried(self._key, reason, self._moved, delay_s))

    def _begin(self) -> None:
        from brolga.spec.progress import BlobBegun

        facts = self.facts
        sizes = facts.size, facts.source_size
        about = facts.digest, facts.media_type, *sizes, facts.title
        self._progress.emit(BlobBegun(self._key, self._action, *about))

    def _done(self) -> BlobDone:
        from brolga.spec.progress import BlobDone

        if self._size is not None:
            self._moved = self._size  # a small blob goes at once, and is not counted
        digest = self.facts.digest or _Facts(self._blob).digest
        return BlobDone(self._key, digest, self._moved, self._read)

    def _end(self, event: ProgressEvent) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._progress.emit(event)


class _PartOf(BlobReport):
    """The report on the reading of a blob that is being pushed: what is retried is its own."""

    def __init__(self, push: BlobReport) -> None:
        self._push = push

    def watch(self, access: Access) -> Access:
        return self._push.watch(access)
