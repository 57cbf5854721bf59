"""Writing the blobs of a layout: streams, and blobs of other stores, which may be resumed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from brolga.errors import CorruptBlob
from brolga.images.blobs import verify_blocks
from brolga.stores.fetching import fetch_into, waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.images import StoredBlob
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.stores.layout.files import Files
    from brolga.stores.progress import BlobReport


def write_stream(
    files: Files, blob: Blob, report: BlobReport, known: Digest | None = None
) -> Descriptor:
    """Write a blob whose bytes come once; return its descriptor. A failure leaves nothing."""
    with blob.open() as stream, files.temporary_file() as file:
        # The digest of a stream is computed from the bytes that are written.
        for block in report.count(verify_blocks(known, stream) if known else stream):
            file.write(block)
        descriptor = blob.descriptor
        if file.size != descriptor.size:
            raise CorruptBlob(
                f"blob {descriptor.digest} has {file.size} bytes, but its descriptor "
                f"says {descriptor.size}"
            )
        file.move(files.blob_path(descriptor.digest))
    return descriptor


def fetch_blob(
    files: Files, blob: StoredBlob, report: BlobReport, on_wait: Callable[[str], object]
) -> None:
    """Fetch a blob, or wait for another thread or process that does."""
    known = blob.descriptor
    with files.partial_blob(known.digest, waits(on_wait)) as file:
        if file is None:
            report.skip()
        elif has_blob(files, known):  # another one completed it before the file was opened
            file.delete()
            report.skip()
        else:
            open_rest = blob.open_rest and partial(report.open, blob.open_rest)
            open_whole = partial(report.open, blob.open)
            fetch_into(file, known.digest, known.size, open_whole, open_rest)
            file.move(files.blob_path(known.digest))


def has_blob(files: Files, descriptor: Descriptor) -> bool:
    """Return whether a blob is there, by its size."""
    return files.blob_size(descriptor.digest) == descriptor.size
