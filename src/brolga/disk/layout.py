"""The files of an OCI image layout (image-spec image-layout.md), as client and registry share them.

    <path>/oci-layout                      written last: the layout exists when it does
    <path>/index.json                      changed under an exclusive lock on <path>
    <path>/blobs/<algorithm>/<encoded>
    <path>/.uploads/                       files in progress; writers share a lock on this directory
    <path>/.index/                         the registry's database

A temporary file is moved to its path when it is complete. So a reader, even after a `kill -9`,
finds each file as it was or as it will be. The locks are the kernel's (flock).
"""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from brolga.disk.directory import Directory, UnsafePath
from brolga.disk.partial import PartialFile, open_partial
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from brolga.spec.digest import Digest


LAYOUT_FILE: Final = "oci-layout"
LAYOUT_JSON: Final = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE: Final = "index.json"
EMPTY_INDEX: Final = b'{"schemaVersion":2,"mediaType":"%b","manifests":[]}' % OCI_INDEX.encode()
# About 200,000 names. An index.json may be larger than a manifest: it is never pushed.
MAX_INDEX_SIZE: Final = 64 << 20  # bytes
BLOBS: Final = "blobs"
UPLOADS: Final = ".uploads"
DATABASE: Final = ".index"
LAYOUT_NAMES: Final = frozenset({LAYOUT_FILE, INDEX_FILE, BLOBS, UPLOADS, DATABASE})
# No upload session of the registry has such names.
TEMPORARY_PREFIX: Final = "blob."
PARTIAL_PREFIX: Final = "partial."
# The annotations that name an entry of index.json. Docker and containerd write both: then the first
# has the tag alone, and the second the whole name.
REF_NAME: Final = "org.opencontainers.image.ref.name"
FULL_NAME: Final = "io.containerd.image.name"


class LayoutDirectory:
    """The directory of one image layout, which need not exist.

    `tree` is the directory below which no link is followed; the default is the layout itself.
    Methods raise OSError, and UnsafePath for a link.
    """

    def __init__(self, path: Path, tree: Directory | None = None) -> None:
        self.path = path
        self.tree = tree or Directory(path)
        self.marker = path / LAYOUT_FILE
        self.index = path / INDEX_FILE
        self.blobs = path / BLOBS
        self.uploads = path / UPLOADS

    def exists(self) -> bool:
        """Return whether the directory is an image layout."""
        return self.tree.is_file(self.marker)

    def create(self) -> None:
        """Create the files that are missing, under the lock; the marker comes last."""
        self.tree.make(self.blobs)
        with self.lock():
            if not self.tree.is_file(self.index):
                self.write(self.index, EMPTY_INDEX)
            self.write(self.marker, LAYOUT_JSON)

    def lock(self, operation: int = fcntl.LOCK_EX) -> AbstractContextManager[None]:
        """Lock index.json against other threads and processes. Raises as `Directory.locked`."""
        return self.tree.locked(self.path, operation)

    def lock_uploads(self, operation: int) -> AbstractContextManager[None]:
        """Lock `.uploads`: shared to add blobs, exclusive to delete blobs that no image needs."""
        return self.tree.locked(self.uploads, operation)

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of a blob, whether it exists or not."""
        return self.blobs / digest.algorithm / digest.encoded

    def blob_size(self, digest: Digest) -> int | None:
        """Return the size of a blob, None if it is missing."""
        try:
            return self.tree.status(self.blob_path(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def touch_blob(self, digest: Digest) -> None:
        """Set the times of a blob to now, so that garbage collection by age keeps it."""
        with suppress(OSError):  # deleted meanwhile, or another user's
            self.tree.touch(self.blob_path(digest))

    def read(self, path: Path, limit: int = MAX_SIZE) -> bytes | None:
        """Return a file's bytes, at most `limit` and one more; None if it is missing."""
        try:
            with self.tree.open_file(path) as file:
                return file.read(limit + 1)
        except FileNotFoundError:
            return None

    def write(self, path: Path, content: bytes) -> None:
        """Replace a file atomically."""
        with self.temporary_file() as file:
            file.write(content)
            file.move(path)

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Give an OSError the layout's name instead of a temporary file's."""
        try:
            yield
        except (NotADirectoryError, UnsafePath):  # these name the path that is wrong
            raise
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, os.fspath(self.path)) from error

    def temporary_file(self) -> TemporaryFile:
        """Create a file in `.uploads`. The caller holds one of the two locks."""
        return TemporaryFile(self)

    def partial_blob(
        self, digest: Digest, wait: Callable[[], None]
    ) -> AbstractContextManager[PartialFile | None]:
        """Open the partial file of a blob, as `open_partial`. The caller holds `lock_uploads`.

        A pull that is run again goes on with it, so `gc` keeps it as long as an upload session.
        """
        path = self.uploads / f"{PARTIAL_PREFIX}{digest.algorithm}-{digest.encoded}"
        return open_partial(self.tree, path, self.blob_path(digest), wait, self.write_errors)

    def scan_blobs(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the path and status of each entry below `blobs`."""
        for algorithm in list(self.tree.scan(self.blobs)):
            if algorithm.is_dir(follow_symlinks=False):
                yield from self._scan(self.blobs / algorithm.name)

    def scan_uploads(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the path and status of each entry of `.uploads`."""
        return self._scan(self.uploads)

    def _scan(self, directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
        for entry in self.tree.scan(directory):
            with suppress(FileNotFoundError):  # deleted by another process meanwhile
                yield directory / entry.name, entry.stat(follow_symlinks=False)


class TemporaryFile(PartialFile):
    """A new file, open for writing and locked, which is deleted unless it is moved."""

    def __init__(self, layout: LayoutDirectory) -> None:
        path = layout.uploads / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        with layout.write_errors():
            descriptor = layout.tree.create(path)
        # The registry and `gc` delete no file of `.uploads` that is locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        super().__init__(layout.tree, path, descriptor, layout.write_errors)

    def __exit__(self, *exception: object) -> None:
        """Delete the file if it was not moved, and close it."""
        try:
            self.delete()
        finally:
            super().__exit__(*exception)
