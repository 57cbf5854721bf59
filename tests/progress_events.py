"""What must be true of the events of any blobs, however they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.spec.progress import (
    BlobBegun,
    BlobDone,
    BlobEvent,
    BlobFailed,
    BlobMounted,
    BlobMoved,
    BlobSkipped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.spec.progress import ProgressEvent

__all__ = ["assert_in_order"]

_ENDS = (BlobDone, BlobSkipped, BlobMounted, BlobFailed)


def assert_in_order(events: Iterable[ProgressEvent], *, succeeded: bool) -> None:
    """Assert that each blob begins once and ends once, and moves as many bytes as it has."""
    by_key: dict[int, list[BlobEvent]] = {}
    for event in events:
        if isinstance(event, BlobEvent):
            by_key.setdefault(event.key, []).append(event)
    for begun, *between, end in by_key.values():
        assert isinstance(begun, BlobBegun)
        assert isinstance(end, _ENDS)
        assert not any(isinstance(event, (BlobBegun, *_ENDS)) for event in between)
        if begun.size is not None:
            moved = [event.moved for event in between if isinstance(event, BlobMoved)]
            assert max(moved, default=0) <= begun.size
        if succeeded:
            assert not isinstance(end, BlobFailed)
        if isinstance(end, BlobDone):
            assert begun.size in {None, end.moved}
            assert begun.digest in {None, end.digest}
