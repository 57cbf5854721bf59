"""The layout of one repository: `disk.layout` with the registry's errors.

Its lock never waits, because a waiting thread serves no client: it raises LayoutBusy if it is held.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from brolga.disk.directory import Directory, UnsafePath
from brolga.disk.layout import EMPTY_INDEX, MAX_INDEX_SIZE, LayoutDirectory
from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.digest import Digest


_log = logging.getLogger("brolga.registry")


class RepositoryUnknown(BrolgaError):
    """Nothing was ever stored in a repository of that name."""


class LayoutBusy(BrolgaError):
    """Another thread or program is changing the repository."""


class BrokenIndex(BrolgaError, ValueError):
    """A file index.json that is not an index: another program's mistake, or a damaged disk."""


class Layout(LayoutDirectory):
    """The layout of one repository, `name` in the registry."""

    def __init__(self, name: str, path: Path, tree: Directory) -> None:
        super().__init__(path, tree)
        self.name = name

    def read_blob(self, digest: Digest, limit: int) -> bytes | None:
        """Return a blob's bytes; None if it is missing, unreadable, or larger than `limit`."""
        try:
            body = self.read(self.blob_path(digest), limit)
        except OSError as error:
            _log.error("%s", error)
            return None
        return None if body is None or len(body) > limit else body

    def has_blob(self, digest: Digest) -> bool:
        """Return whether a blob exists; log why one cannot be used."""
        try:
            return self.blob_size(digest) is not None
        except OSError as error:
            _log.error("%s", error)
            return False

    def blob_mtime_s(self, digest: Digest) -> float | None:
        """Return when a blob was stored, in seconds since the epoch; None if it is missing."""
        with suppress(OSError):
            return self.tree.status(self.blob_path(digest)).st_mtime
        return None

    def read_index(self) -> tuple[os.stat_result | None, bytes]:
        """Return the status of index.json, None if it is missing, and its text."""
        try:
            with self.tree.open_file(self.index) as file:
                status, text = os.fstat(file.fileno()), file.read(MAX_INDEX_SIZE + 1)
        except FileNotFoundError:
            return None, EMPTY_INDEX
        except OSError as error:
            raise BrokenIndex(f"{self.index}: {error}") from error
        if len(text) > MAX_INDEX_SIZE:
            raise BrokenIndex(f"{self.index}: more than {MAX_INDEX_SIZE} bytes")
        return status, text

    def require(self) -> None:
        """Raise RepositoryUnknown if nothing was stored here."""
        if not self.exists():
            raise RepositoryUnknown(f"no repository {self.name}")

    def create(self) -> None:
        """Create the layout if it does not exist. Raises LayoutBusy."""
        if not self.exists():
            super().create()

    @contextmanager
    def lock(self, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Keep other threads and processes from changing the layout. Raises LayoutBusy."""
        with ExitStack() as stack:
            try:
                stack.enter_context(super().lock(operation | fcntl.LOCK_NB))
            except FileNotFoundError as error:
                raise LayoutBusy(f"{self.name} was taken away") from error
            except BlockingIOError as error:
                raise LayoutBusy(f"another program holds the lock of {self.name}") from error
            yield

    def remove_empty(self) -> None:
        """Delete the directories of a repository in which nothing was stored."""
        with suppress(UnsafePath):  # a link took the place of a file: something was stored
            if not self.exists():
                self.tree.prune(self.uploads)
