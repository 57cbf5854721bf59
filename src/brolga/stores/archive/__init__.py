"""Archives of images: Docker's form (`docker save`), and an OCI image layout in a tar.

A file is read in place, a pipe is read or written in one pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.stores.archive.file import Archive
    from brolga.stores.archive.pipe import ArchiveStream
    from brolga.stores.archive.writer import Writer, open_writer
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.stores.archive.file": "Archive",
            "brolga.stores.archive.pipe": "ArchiveStream",
            "brolga.stores.archive.writer": "Writer open_writer",
        },
    )

__all__ = [
    "Archive",
    "ArchiveStream",
    "Writer",
    "open_writer",
]
