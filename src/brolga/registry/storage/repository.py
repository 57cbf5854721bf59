"""One repository: an OCI image layout with blobs, manifests and upload sessions.

A repository exists from its first complete blob on. Names and digests come as value types, which
check themselves: no text from the network becomes part of a path before that.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar
from weakref import WeakValueDictionary

from brolga.disk.layout import DATABASE
from brolga.errors import BrolgaError, DigestMismatch
from brolga.registry.storage.layout import Layout, LayoutBusy
from brolga.registry.storage.manifest_store import IndexStale, ManifestStore
from brolga.registry.storage.uploads import HashCache, SessionCount, Upload, UploadUnknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brolga.registry.storage.database import Databases
    from brolga.registry.storage.uploads import UploadWriter
    from brolga.spec.digest import Digest


_T = TypeVar("_T")

# uuid4().hex: it becomes a file name.
_UPLOAD_ID: Final = re.compile("[0-9a-f]{32}")

# Longer than any change of an index takes; a change that hangs must not block clients for ever.
WRITE_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02


class BlobUnknown(BrolgaError):
    """The repository has no blob of that digest."""


class BlobIsManifest(BrolgaError):
    """The blob is a manifest, and can only be deleted as one."""


class WriteQueue:
    """Runs one change of a layout at a time, in the order of the calls.

    The lock of a layout may be held by another process, for long. So a change that finds it taken
    is tried again later: no worker thread waits for it.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def run(self, path: Path, work: Callable[[], _T]) -> _T:
        """Run `work` in a worker thread; repeat it if it raises LayoutBusy, until a timeout."""
        loop = asyncio.get_running_loop()
        end = loop.time() + WRITE_TIMEOUT_S
        lock = self._locks.setdefault(path, asyncio.Lock())
        try:
            async with asyncio.timeout_at(end):
                await lock.acquire()
        except TimeoutError as error:
            raise LayoutBusy("the changes before this one take too long") from error
        try:
            while True:
                try:
                    return await asyncio.to_thread(work)
                except LayoutBusy:
                    if loop.time() > end:
                        raise
                    await asyncio.sleep(_POLL_S)
        finally:
            lock.release()


class SharedState:
    """State that the repositories of one registry share."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.hashes = HashCache()
        self.queue = WriteQueue()
        self.sessions = SessionCount()


class Repo:
    """One repository, which need not exist yet."""

    def __init__(self, layout: Layout, shared: SharedState) -> None:
        self.name = layout.name
        self.manifests = ManifestStore(layout, shared.databases)
        self._cached_manifests = ManifestStore(layout, shared.databases, may_update=False)
        self.layout = layout
        self._shared = shared

    async def write(self, work: Callable[[], _T]) -> _T:
        """Run a change of the layout in the write queue. Raises LayoutBusy, and as `work`."""
        return await self._shared.queue.run(self.layout.path, work)

    async def query(self, work: Callable[[ManifestStore], _T]) -> _T:
        """Query the manifests in a worker thread. Raises LayoutBusy, and as `work`."""
        try:
            return await asyncio.to_thread(work, self._cached_manifests)
        except IndexStale:
            # The database must be updated first; requests wait for that in a queue, not in threads.
            path = self.layout.path / DATABASE
            return await self._shared.queue.run(path, lambda: work(self.manifests))

    async def create(self) -> None:
        """Create the repository on disk if it does not exist. Raises LayoutBusy."""
        if not self.layout.exists():
            await self.write(self.layout.create)

    def start_upload(self) -> Upload:
        """Open a new session. Raises TooManyUploads."""
        self._shared.sessions.add()
        upload = self.upload(uuid.uuid4().hex)
        try:
            os.close(self.layout.tree.create(upload.path))
        except BaseException:
            self._end_upload()
            raise
        return upload

    def upload(self, upload_id: str) -> Upload:
        """Return a session by the id in its URL. Raises UploadUnknown if the id is not valid."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadUnknown("no upload has such an id")
        path = self.layout.uploads / upload_id
        return Upload(path, self._shared.hashes, self.layout.tree)

    def discard(self, writer: UploadWriter) -> None:
        """End a session; delete its bytes, and the directories that were made for it."""
        if writer.discard():
            self._end_upload()

    def commit(self, writer: UploadWriter, digest: Digest) -> None:
        """Turn a session into a blob. Raises DigestMismatch; nothing is stored then."""
        try:
            writer.verify(digest)
        except DigestMismatch:
            self._end_upload()
            raise
        writer.commit(self.layout.blob_path(digest))
        self._shared.sessions.remove()

    def _end_upload(self) -> None:
        self._shared.sessions.remove()
        self.layout.remove_empty()

    def mount(self, digest: Digest, source: Repo) -> bool:
        """Add a blob of another repository as a hard link. Return whether that is possible."""
        tree = self.layout.tree
        target, origin = self.layout.blob_path(digest), source.layout.blob_path(digest)
        try:
            if not tree.is_file(target):
                if not tree.is_file(origin):
                    return False
                tree.make(self.layout.uploads)
                tree.link(origin, target)
        except FileExistsError:
            pass
        except OSError:
            tree.prune(target.parent)
            self.layout.remove_empty()
            return False
        self.layout.touch_blob(digest)
        return True

    def blob(self, digest: Digest) -> BinaryIO:
        """Open a blob. Raises RepositoryUnknown, BlobUnknown."""
        self.layout.require()
        try:
            return self.layout.tree.open_file(self.layout.blob_path(digest))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BlobUnknown(f"no blob {digest} in {self.name}") from error

    def delete_blob(self, digest: Digest) -> None:
        """Delete a blob. Raises RepositoryUnknown, BlobUnknown, BlobIsManifest, LayoutBusy."""
        self.layout.require()
        with self.layout.lock():
            if self.manifests.has(digest):
                raise BlobIsManifest(f"{digest} is a manifest, not a blob of one")
            path = self.layout.blob_path(digest)
            if not self.layout.tree.is_file(path):
                raise BlobUnknown(f"no blob {digest} in {self.name}")
            self.layout.tree.unlink(path)
