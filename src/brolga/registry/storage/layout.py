"""One image layout on disk (image-spec image-layout.md): its paths, its lock, its atomic writes.

    <path>/oci-layout
    <path>/index.json
    <path>/blobs/<algorithm>/<encoded>
    <path>/.uploads/<id>        upload sessions, and files that are being written
    <path>/.index/              the database of manifests (database.py)

The layout exists if `oci-layout` does, which is written last. The index is changed under a lock on
the directory (flock), which holds between threads and between processes. The lock is only tried:
LayoutBusy says that it is taken. A file that is renamed to its place appears whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import uuid
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from brolga.disk.directory import Directory, UnsafePath
from brolga.errors import BrolgaError
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brolga.spec.digest import Digest

__all__ = [
    "BLOBS",
    "LAYOUT_FILE",
    "MAX_INDEX_SIZE",
    "RESERVED",
    "UPLOADS",
    "BrokenIndex",
    "Disk",
    "Layout",
    "LayoutBusy",
    "RepositoryUnknown",
]

_T = TypeVar("_T")
_log = logging.getLogger("brolga.registry")

UPLOADS: Final = ".uploads"
LAYOUT_FILE: Final = "oci-layout"
BLOBS: Final = "blobs"
_INDEX_FILE: Final = "index.json"
RESERVED: Final = frozenset({LAYOUT_FILE, _INDEX_FILE, BLOBS})

# image-spec image-layout.md, oci-layout file
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}\n'
_EMPTY_INDEX: Final = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}

# About 200,000 tags, which take some hundred MiB of memory while one of them is changed.
MAX_INDEX_SIZE: Final = 64 << 20

_MAX_ATTEMPTS: Final = 10


class RepositoryUnknown(BrolgaError):
    """Nothing was ever stored in a repository of that name."""


class LayoutBusy(BrolgaError):
    """Another thread or program is changing the repository."""


class BrokenIndex(BrolgaError, ValueError):
    """A file index.json that is not an index: another program's mistake, or a damaged disk."""


class Disk(Directory):
    """The files below `root`. A durable disk waits for the device (fsync) before it returns."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        super().__init__(root)
        self._durable = durable

    def make(self, path: Path) -> list[Path]:
        """Make a directory and its parents if they are missing; return the new ones."""
        new = super().make(path)
        for directory in new:
            self._sync(directory.parent)
        return new

    def reader(self, path: Path) -> BinaryIO:
        """Open a regular file for reading."""
        return os.fdopen(self.open(path), "rb")

    def create(self, path: Path) -> int:
        """Create a new file and its parent directories; return its descriptor."""

        def create() -> int:
            self.make(path.parent)
            return self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

        return _retry(create)

    def move(self, descriptor: int, source: Path, target: Path) -> None:
        """Move an open file to its place, which is replaced atomically."""
        if self._durable:
            os.fsync(descriptor)

        def move() -> None:
            self.make(target.parent)
            self.replace(source, target)

        _retry(move)
        self._sync(target.parent)

    def write(self, target: Path, data: bytes, scratch: Path) -> None:
        """Write a file atomically, by way of a temporary one in the directory `scratch`."""
        partial = scratch / f"{target.name[:32]}.{uuid.uuid4().hex}"
        try:
            with os.fdopen(self.create(partial), "wb") as file:
                file.write(data)
                file.flush()
                self.move(file.fileno(), partial, target)
        except BaseException:
            self.unlink(partial)
            raise

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name. Raises OSError if the file system has no hard links."""
        self.make(target.parent)
        super().link(source, target)
        self._sync(target.parent)

    def _sync(self, directory: Path) -> None:
        """Wait until the device has a directory's entries, if the disk is durable."""
        if not self._durable:
            return
        # The directory above the root, in which the root is new, is the user's.
        tree = Directory(directory) if not directory.is_relative_to(self.root) else self
        with tree.opened(directory) as descriptor:
            os.fsync(descriptor)


def _retry(work: Callable[[], _T]) -> _T:
    """Run `work` in a new directory, again if another session deleted that directory."""
    for _ in range(_MAX_ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return work()
    return work()


class Layout:
    """The directory of one repository, `name` in the registry."""

    def __init__(self, name: str, path: Path, disk: Disk) -> None:
        self.name = name
        self.path = path
        self.disk = disk
        self.index = path / _INDEX_FILE
        self.uploads = path / UPLOADS

    def blob(self, digest: Digest) -> Path:
        """Return the path of a blob, which need not exist."""
        return self.path / BLOBS / digest.algorithm / digest.encoded

    def read(self, digest: Digest, limit: int) -> bytes | None:
        """Return a blob's bytes; None if it is missing, unreadable, or larger than `limit`."""
        try:
            with self.disk.reader(self.blob(digest)) as file:
                body = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _log.error("%s", error)
            return None
        return None if len(body) > limit else body

    def has(self, digest: Digest) -> bool:
        """Return whether a blob exists; log why one cannot be used."""
        try:
            return self.disk.is_file(self.blob(digest))
        except OSError as error:
            _log.error("%s", error)
            return False

    def stored_s(self, digest: Digest) -> float | None:
        """Return when a blob was stored, in seconds since the epoch; None if it is missing."""
        with suppress(OSError):
            return self.disk.status(self.blob(digest)).st_mtime
        return None

    def read_index(self) -> tuple[os.stat_result | None, bytes]:
        """Return the status of index.json, None if it is missing, and its text.

        Raises BrokenIndex.
        """
        try:
            with self.disk.reader(self.index) as file:
                status, text = os.fstat(file.fileno()), file.read(MAX_INDEX_SIZE + 1)
        except FileNotFoundError:
            return None, json.dumps(_EMPTY_INDEX).encode()
        except OSError as error:
            raise BrokenIndex(f"{self.index}: {error}") from error
        if len(text) > MAX_INDEX_SIZE:
            raise BrokenIndex(f"{self.index}: more than {MAX_INDEX_SIZE} bytes")
        return status, text

    def write_index(self, text: bytes) -> None:
        """Replace index.json."""
        self.disk.write(self.index, text, self.uploads)

    def exists(self) -> bool:
        """Return whether anything was stored here."""
        return self.disk.is_file(self.path / LAYOUT_FILE)

    def require(self) -> None:
        """Raise RepositoryUnknown if nothing was stored here."""
        if not self.exists():
            raise RepositoryUnknown(f"no repository {self.name}")

    def create(self) -> None:
        """Create the layout if it does not exist. Raises LayoutBusy."""
        if self.exists():
            return
        self.disk.make(self.path / BLOBS)
        with self.locked():
            if not self.disk.is_file(self.index):
                self.write_index((json.dumps(_EMPTY_INDEX, indent=2) + "\n").encode())
            self.disk.write(self.path / LAYOUT_FILE, _LAYOUT, self.uploads)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads and processes from changing the layout. Raises LayoutBusy."""
        with ExitStack() as stack:
            lock = self.disk.locked(self.path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                stack.enter_context(lock)
            except FileNotFoundError as error:
                raise LayoutBusy(f"{self.name} was taken away") from error
            except BlockingIOError as error:
                raise LayoutBusy(f"another program holds the lock of {self.name}") from error
            yield

    def remove_empty(self) -> None:
        """Delete the directories of a repository in which nothing was stored."""
        with suppress(UnsafePath):  # a link took the place of a file: something was stored
            if not self.exists():
                self.disk.prune(self.uploads)
