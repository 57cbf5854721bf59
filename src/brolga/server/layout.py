"""One image layout on disk: where its files are, how it comes to be, who may change it.

Knows image-spec image-layout.md. Must not know HTTP, or what is in the files.

    <path>/oci-layout
    <path>/index.json
    <path>/blobs/<algorithm>/<encoded>
    <path>/.uploads/<id>        sessions, and files on their way to their place
    <path>/.index/              what the manifests say (database)

The layout exists when `oci-layout` does, which is written last. Its index is changed under a
lock on the directory (flock), which holds between threads and between processes. It is tried and
never waited for: who finds it taken comes back (see turns).
"""

from __future__ import annotations

import fcntl
import json
import logging
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from brolga.disk.directory import UnsafePath
from brolga.errors import BrolgaError
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.server.disk import Disk
    from brolga.spec.digest import Digest

__all__ = [
    "BLOBS",
    "LAYOUT_FILE",
    "RESERVED",
    "UPLOADS",
    "Layout",
    "LayoutBusy",
    "RepositoryUnknown",
]

_log = logging.getLogger("brolga.server")

UPLOADS = ".uploads"
LAYOUT_FILE = "oci-layout"
BLOBS = "blobs"
_INDEX_FILE = "index.json"
RESERVED = frozenset({LAYOUT_FILE, _INDEX_FILE, BLOBS})

# image-spec image-layout.md, oci-layout file
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}\n'
_EMPTY_INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


class RepositoryUnknown(BrolgaError):
    """Nothing was ever stored in a repository of that name."""


class LayoutBusy(BrolgaError):
    """Somebody else is changing the repository, perhaps another program."""


class Layout:
    """The directory of one repository, `name` in the registry."""

    def __init__(self, name: str, path: Path, disk: Disk) -> None:
        self.name = name
        self.path = path
        self.disk = disk

    @property
    def index(self) -> Path:
        """The file that lists the manifests."""
        return self.path / _INDEX_FILE

    @property
    def uploads(self) -> Path:
        """The directory of sessions and of files on their way."""
        return self.path / UPLOADS

    def blob(self, digest: Digest) -> Path:
        """Return the place of a blob, whether it is there or not."""
        return self.path / BLOBS / digest.algorithm / digest.encoded

    def read(self, digest: Digest, limit: int) -> bytes | None:
        """Return a blob's bytes; None if it is missing, larger, or cannot be read."""
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
        """Return whether a blob is there; the log has why one cannot be used."""
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

    def exists(self) -> bool:
        """Whether anything was stored here yet."""
        return self.disk.is_file(self.path / LAYOUT_FILE)

    def require(self) -> None:
        """Raise RepositoryUnknown where nothing was stored yet."""
        if not self.exists():
            raise RepositoryUnknown(f"no repository {self.name}")

    def create(self) -> None:
        """Make the layout where it is not there; the file that says it is one comes last.

        Raises LayoutBusy.
        """
        if self.exists():
            return
        self.disk.make(self.path / BLOBS)
        with self.locked():
            if not self.disk.is_file(self.index):
                empty = json.dumps(_EMPTY_INDEX, indent=2) + "\n"
                self.disk.write(self.index, empty.encode(), self.uploads)
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

    def leave_nothing(self) -> None:
        """Delete the directories that were made for a repository in which nothing was stored."""
        with suppress(UnsafePath):  # something was stored, whatever it is
            if not self.exists():
                self.disk.prune(self.uploads)
