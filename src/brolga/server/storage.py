"""The registry's disk: one OCI image layout for each repository.

Knows directories. Must not know HTTP. It takes names and digests only as value types, which
check themselves: no text from the network becomes a part of a path before that.

A component of a repository's name cannot begin with a dot (distribution-spec, Pulling
manifests), so `.uploads` is no repository; the layout's own names are refused as components.
A repository exists when its first blob is whole.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

from brolga.disk.directory import UnsafePath
from brolga.errors import BrolgaError, DigestMismatch, InvalidReference
from brolga.server.catalog import directories, names_below
from brolga.server.database import DATABASE, Databases
from brolga.server.disk import Disk
from brolga.server.layout import RESERVED, UPLOADS, Layout
from brolga.server.manifest_store import IndexStale, Manifests
from brolga.server.session import (
    ProgressCache,
    Sessions,
    Upload,
    UploadBusy,
    UploadUnknown,
    Writer,
)
from brolga.server.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository

__all__ = ["BlobIsManifest", "BlobUnknown", "Repo", "Store"]

_T = TypeVar("_T")
_log = logging.getLogger("brolga.server")

# uuid4().hex, and nothing else: it becomes a file name.
_UPLOAD_ID = re.compile("[0-9a-f]{32}")


class BlobUnknown(BrolgaError):
    """The repository has no blob of that digest."""


class BlobIsManifest(BrolgaError):
    """The blob is a manifest's: it is deleted as one, or not at all."""


class Store:
    """A directory of repositories."""

    def __init__(self, root: Path, *, durable: bool = False, read_only: bool = False) -> None:
        self._disk = Disk(root, durable=durable)
        self._told = False
        self._shared = _Shared(ProgressCache(), Turns(), Sessions(), Databases(read_only=read_only))

    def repo(self, repository: Repository) -> Repo:
        """Return a repository, whether it exists or not.

        Raises InvalidReference where its directory would lie inside another's layout.
        """
        reserved = sorted(RESERVED.intersection(repository.path.split("/")))
        if reserved:
            raise InvalidReference(
                f"component {reserved[0]!r} of the name is a name of the image layout "
                "in which repositories are stored here"
            )
        path = self._disk.root / repository.path
        return Repo(Layout(repository.path, path, self._disk), self._shared)

    def names(self, last: str = "") -> Iterator[str]:
        """Yield the name of each repository that exists, after `last`, in their order as texts."""
        return names_below(self._disk, last)

    def expire(self, age_s: float) -> None:
        """Delete the sessions into which nothing was written for `age_s` seconds.

        Directories in which nothing was stored go too. A disk that is read-only is told of once.
        """
        try:
            self._shared.sessions.count = self._sweep(time.time() - age_s)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            if not self._told:
                self._told = True
                _log.warning("uploads do not expire: %s", error)

    def _sweep(self, limit: float) -> int:
        """Delete sessions that are older than a time. Return how many there are still."""
        left = 0
        for directory in directories(self._disk):
            uploads = directory / UPLOADS
            try:
                paths = [uploads / entry.name for entry in self._disk.scan(uploads)]
            except UnsafePath as error:
                _log.warning("uploads do not expire: %s", error)
                continue
            left += sum(not self._expire(path, limit) for path in paths)
            if directory != self._disk.root:
                Layout("", directory, self._disk).leave_nothing()
        return left

    def _expire(self, path: Path, limit: float) -> bool:
        """Delete a session if it is old. Return whether it is gone."""
        try:
            # Gone, or being written, since it was listed: no session to expire.
            with suppress(FileNotFoundError, UploadUnknown, UploadBusy):
                if self._disk.status(path).st_mtime < limit:
                    with Upload(path, self._shared.progress, self._disk).writer() as writer:
                        writer.discard()
                    return True
        except OSError as error:  # a directory, another user's, a link
            if error.errno == errno.EROFS:
                raise
            _log.warning("an old upload cannot be deleted: %s", error)
        return False


class _Shared(NamedTuple):
    """What the repositories of one registry share."""

    progress: ProgressCache
    turns: Turns
    sessions: Sessions
    databases: Databases


class Repo:
    """One repository: blobs, uploads, and its manifests."""

    def __init__(self, layout: Layout, shared: _Shared) -> None:
        self.name = layout.name
        self.manifests = Manifests(layout, shared.databases)
        self._known = Manifests(layout, shared.databases, may_update=False)
        self._layout = layout
        self._shared = shared

    async def in_turn(self, work: Callable[[], _T]) -> _T:
        """Do what changes the layout, once nobody else does. Raises LayoutBusy, and as `work`."""
        return await self._shared.turns.take(self._layout.path, work)

    async def look(self, work: Callable[[Manifests], _T]) -> _T:
        """Ask the manifests in a thread. Raises as `work`, and LayoutBusy."""
        try:
            return await asyncio.to_thread(work, self._known)
        except IndexStale:
            # The layout must be read first. Who waits for that waits here, and not in a thread.
            place = self._layout.path / DATABASE
            return await self._shared.turns.take(place, lambda: work(self.manifests))

    async def create(self) -> None:
        """Let the repository exist: a blob is whole. Raises LayoutBusy."""
        if not self._layout.exists():
            await self.in_turn(self._layout.create)

    def start_upload(self) -> Upload:
        """Open a new session. Raises TooManyUploads."""
        self._shared.sessions.add()
        try:
            path = self._layout.uploads / uuid.uuid4().hex
            os.close(self._layout.disk.create(path))
        except BaseException:
            self._shared.sessions.remove()
            self._layout.leave_nothing()
            raise
        return Upload(path, self._shared.progress, self._layout.disk)

    def upload(self, upload_id: str) -> Upload:
        """Find a session by the id from its URL. Raises UploadUnknown."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadUnknown("no upload has such an id")
        path = self._layout.uploads / upload_id
        return Upload(path, self._shared.progress, self._layout.disk)

    def discard(self, writer: Writer) -> None:
        """End a session, delete its bytes and what was made for it alone."""
        if writer.discard():
            self._end_upload()

    def commit(self, writer: Writer, digest: Digest) -> None:
        """Make a blob of a session's bytes. Raises DigestMismatch; nothing is stored then."""
        try:
            writer.verify(digest)
        except DigestMismatch:
            self._end_upload()
            raise
        writer.commit(self._layout.blob(digest))
        self._shared.sessions.remove()

    def _end_upload(self) -> None:
        self._shared.sessions.remove()
        self._layout.leave_nothing()

    def mount(self, digest: Digest, source: Repo) -> bool:
        """Take a blob from another repository as a second name of the same file.

        False where it is not there, or where the file system has no such names.
        """
        disk, there, here = (
            self._layout.disk,
            source._layout.blob(digest),
            self._layout.blob(digest),
        )
        try:
            if not disk.is_file(here):
                if not disk.is_file(there):
                    return False
                disk.make(self._layout.uploads)
                disk.link(there, here)
        except FileExistsError:
            pass
        except OSError:
            disk.prune(here.parent)
            self._layout.leave_nothing()
            return False
        self.renew(digest)
        return True

    def blob(self, digest: Digest) -> BinaryIO:
        """Open a blob. Raises RepositoryUnknown, BlobUnknown."""
        self.require()
        try:
            return self._layout.disk.reader(self._layout.blob(digest))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BlobUnknown(f"no blob {digest} in {self.name}") from error

    def renew(self, digest: Digest) -> None:
        """Make a blob young: a client was told of it, and who sweeps by age must leave it there."""
        with suppress(OSError):  # gone, or another user's
            self._layout.disk.touch(self._layout.blob(digest))

    def delete_blob(self, digest: Digest) -> None:
        """Delete a blob. Raises RepositoryUnknown, BlobUnknown, BlobIsManifest, LayoutBusy."""
        self.require()
        with self._layout.locked():
            if self.manifests.has(digest):
                raise BlobIsManifest(f"{digest} is a manifest, not a blob of one")
            place = self._layout.blob(digest)
            if not self._layout.disk.is_file(place):
                raise BlobUnknown(f"no blob {digest} in {self.name}")
            self._layout.disk.unlink(place)

    def require(self) -> None:
        """Raise RepositoryUnknown where nothing was stored yet."""
        self._layout.require()
