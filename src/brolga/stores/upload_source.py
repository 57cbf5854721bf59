"""The bytes of a blob that is uploaded to a registry: how they are opened, and read again."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from brolga.errors import NotComputed, StreamConsumed
from brolga.images import BlockStream, StoredBlob
from brolga.spec.blob import Rereadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from brolga.spec.blob import Blob, BlobStream, Block
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository


def open_source(blob: Blob, pushed_blobs: Mapping[tuple[str, Digest], Repository]) -> BlobStream:
    """Open a blob, and read its first block if it comes from a store.

    A registry may hold a lock while it reads the body of a PUT (go-containerregistry's does): a
    later GET of the same registry would block for ever. `pushed_blobs` says where a stream went to.
    """
    try:
        stream = blob.open()
        if isinstance(stream, BlockStream):
            stream.start()
    except StreamConsumed as error:
        with suppress(NotComputed, StopIteration):
            digest = blob.descriptor.digest
            home = next(home for key, home in pushed_blobs.items() if key[1] == digest)
            error.add_note(f"it went to {home}: push an image that is read from there")
        raise
    return stream


def reader_again(blob: Blob, stream: BlobStream) -> Callable[[], Iterator[Block]] | None:
    """Return a function that reads a stream's bytes again; None if that is impossible."""
    if isinstance(blob, StoredBlob):
        return partial(_read_again, blob)
    return stream.reread if isinstance(stream, Rereadable) and stream.is_reopenable else None


def _read_again(blob: Blob) -> Iterator[Block]:
    with blob.open() as stream:
        yield from stream.blocks()
