"""An archive that is a file, as a store that is read in place.

The headers are read once, and the data between them is skipped. Each file of the archive is then a
section of the one open file.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob, InvalidManifest, SourceError
from brolga.images import Image
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCTET_STREAM
from brolga.stores.archive.contents import Contents, blob_path, source_errors
from brolga.stores.archive.entries import CompressionOptions, FileRange, OpenFile
from brolga.stores.archive.formats import Images, check_not_compressed
from brolga.stores.archive.oci import read_document
from brolga.stores.names import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from typing import Self

    from brolga.spec.blob import BlobStream
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest


_BLOCK_SIZE: Final = 1 << 14  # bytes: headers, and now and then a small file


class Archive(Images):
    """An archive of images in a file, as a `store.ReadStore`. Threads may share it.

    `form` is `docker`, `oci` or "" to detect it. `compression`, `level` and `threads` are for
    uncompressed layers of a docker archive, which are compressed when they are pushed. The file is
    open until `close`, or until no part of the archive is in use.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        form: str = "",
        *,
        compression: str = "gzip",
        level: int | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(Contents(), form)
        self._compression = CompressionOptions(compression, level, threads)
        self._blobs: dict[Digest, FileRange] = {}
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe may have no end
        except OSError as error:
            raise SourceError(f"cannot open the archive: {error}") from error
        self._file = OpenFile(fd)
        try:
            with source_errors():
                self._read_headers(os.fstat(fd))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file: nothing of the archive can be read then."""
        self._file.close()

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read a manifest or index. Raises NotComputed if its layers are not compressed yet."""
        if (digest := digest_of(name)) and blob_path(digest) in self.contents:
            with source_errors():
                return read_document(self.contents, digest)
        tree = self.tree(name)
        return tree.manifest if isinstance(tree, Image) else tree.index

    def fetch_blob(self, blob: Descriptor | Digest) -> BlobStream:
        """Open a blob. Its bytes are verified while they are read. Raises InvalidManifest."""
        if isinstance(blob, Digest):
            blob = self.resolve_blob(blob)
        return self._section(blob.digest).blob(blob).open()

    def resolve_blob(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a blob. Raises InvalidManifest."""
        return Descriptor(OCTET_STREAM, digest, self._section(digest).size)

    def read_range(self, blob: Descriptor, start: int, stop: int) -> BlobStream:
        """Open the bytes of a blob from `start` to `stop`. They are not verified."""
        return self._section(blob.digest).open_range(start, stop)

    def _section(self, digest: Digest) -> FileRange:
        if digest not in self._blobs:
            raise InvalidManifest(f"the archive has no file of the digest {digest}")
        return self._blobs[digest]

    def _read_headers(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise SourceError("the archive is not a regular file: it cannot be read in place")
        size = status.st_size
        check_not_compressed(bytes(self._file.read_at(min(4, size), 0)))
        for file in self.contents.read_files(_Skipping(self._file, size)):
            if file.is_duplicate:
                continue
            section = FileRange(
                file.path, file.kind, self._file, file.start, file.size, self._compression
            )
            self.contents.add(file.path, section)
            if file.digest:
                self._blobs[file.digest] = section


class _Skipping:
    """The blocks of a file, and a way to go on further behind."""

    def __init__(self, file: OpenFile, size: int) -> None:
        self.file = file
        self.size = size
        self.position = 0

    def __iter__(self) -> Iterator[memoryview]:
        while self.position < self.size:
            start, self.position = self.position, min(self.position + _BLOCK_SIZE, self.size)
            yield self.file.read_at(self.position - start, start)

    def skip(self, size: int) -> None:
        """Go on `size` bytes further behind. Raises CorruptBlob if the file ends before."""
        self.position += size
        if (missing := self.position - self.size) > 0:
            raise CorruptBlob(f"the tar is cut short: {missing} bytes are missing")
