"""Archives of images: Docker's form (`docker save`), and an OCI image layout in a tar.

A file is read in place, a pipe is read or written in one pass.
"""

from brolga.stores.archive.file import Archive
from brolga.stores.archive.pipe import ArchiveStream
from brolga.stores.archive.writer import Writer, open_writer

__all__ = ["Archive", "ArchiveStream", "Writer", "open_writer"]
