"""What happens to the blobs that a client moves, as events.

Each blob begins, moves, and ends in one way: done, skipped, mounted or failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from brolga.spec.value import Value

if TYPE_CHECKING:
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository


class BlobsPlanned(Value):
    """So many blobs more will begin.

    `size` is the sum of their sizes, or of their sources'; None if one of these is not known.
    """

    count: int
    size: int | None


class BlobEvent(Value):
    """Something that happened to one blob. `key` is the same in all events of that blob alone."""

    key: int


class BlobBegun(BlobEvent):
    """A blob begins. `digest` is None, and `media_type` empty, if it must be read to know them.

    `action` is `push` if the blob goes into a store, `read` if it only comes from one. `size` is
    how many bytes will move, `source_size` how many bytes the source of a stream has: each is None
    if it is not known. `title` is the name of the file that is pushed, or that a blob is in an
    artifact (by an annotation, which anyone may have written), or empty.
    """

    action: str
    digest: Digest | None
    media_type: str
    size: int | None
    source_size: int | None
    title: str


class BlobMoved(BlobEvent):
    """So many bytes of the blob have moved; fewer than before if some are sent again.

    `read` counts the bytes of a stream's source so far, which `moved` has compressed; of any other
    blob it is the same number. `size` is as in `BlobBegun`, and may be known only by now.
    """

    moved: int
    read: int
    size: int | None


class BlobResumed(BlobEvent):
    """The blob goes on after `kept` bytes, which an earlier run has moved."""

    kept: int


class BlobRetried(BlobEvent):
    """A request failed after `moved` bytes of the blob; the next is sent after `delay_s` seconds.

    `reason` is `cut`, `timeout`, `connect`, `status 503` (or another), or `response` if an answer
    did not fit the request. What is there already is kept if the registry allows that.
    """

    reason: str
    moved: int
    delay_s: float


class BlobDone(BlobEvent):
    """The blob has moved, and is verified."""

    digest: Digest | None
    moved: int
    read: int


class BlobSkipped(BlobEvent):
    """The target has the blob already."""


class BlobMounted(BlobEvent):
    """The registry has taken the blob from another of its repositories."""

    source: Repository


class BlobFailed(BlobEvent):
    """The blob was given up after `moved` bytes: by an error, or because its reader stopped."""

    moved: int


ProgressEvent: TypeAlias = (
    BlobsPlanned
    | BlobBegun
    | BlobMoved
    | BlobResumed
    | BlobRetried
    | BlobDone
    | BlobSkipped
    | BlobMounted
    | BlobFailed
)
