"""The registry's disk: one OCI image layout for each repository.

Knows directories. Must not know HTTP. It takes names and digests only as value types, which
check themselves: no text from the network becomes a part of a path before that.

A component of a repository's name cannot begin with a dot (distribution-spec, Pulling
manifests), so `.uploads` is no repository; the layout's own names are refused as components.
A repository exists when its first blob is whole.
"""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from brolga.errors import BrolgaError, InvalidReference
from brolga.server.disk import Disk
from brolga.server.graph import GraphCache
from brolga.server.layout import BLOBS, LAYOUT_FILE, RESERVED, UPLOADS, Layout
from brolga.server.manifest_store import Manifests
from brolga.server.session import ProgressCache, Upload, UploadBusy, UploadUnknown, Writer
from brolga.server.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.digest import Digest
    from brolga.reference import Repository

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

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self._root = root
        self._disk = Disk(durable=durable)
        self._progress = ProgressCache()
        self._graphs = GraphCache()
        self._turns = Turns()

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
        layout = Layout(repository.path, self._root / repository.path, self._disk)
        return Repo(layout, self._progress, self._graphs, self._turns)

    def names(self) -> list[str]:
        """Return the name of every repository that exists, in no order."""
        return [
            str(Path(directory).relative_to(self._root))
            for directory, files in self._directories()
            if LAYOUT_FILE in files and directory != str(self._root)
        ]

    def expire(self, age_s: float) -> None:
        """Delete the sessions into which nothing was written for `age_s` seconds."""
        limit = time.time() - age_s
        for directory, _ in self._directories():
            for path in (Path(directory) / UPLOADS).glob("*"):
                self._expire(path, limit)

    def _expire(self, path: Path, limit: float) -> None:
        try:
            # Gone, or being written, since it was listed: no session to expire.
            with suppress(FileNotFoundError, UploadUnknown, UploadBusy):
                if path.stat().st_mtime < limit:
                    with Upload(path, self._progress).writer() as writer:
                        writer.discard()
        except OSError as error:  # a directory, another user's, a disk that is read-only
            _log.warning("an old upload cannot be deleted: %s", error)

    def _directories(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each directory that may be a repository, and the files in it."""
        for directory, below, files in os.walk(self._root):
            below[:] = [name for name in below if name != BLOBS and not name.startswith(".")]
            yield directory, files


class Repo:
    """One repository: blobs, uploads, and its manifests."""

    def __init__(
        self, layout: Layout, progress: ProgressCache, graphs: GraphCache, turns: Turns
    ) -> None:
        self.name = layout.name
        self.manifests = Manifests(layout, graphs)
        self._layout = layout
        self._progress = progress
        self._turns = turns

    async def in_turn(self, work: Callable[[], _T]) -> _T:
        """Do what changes the layout, once nobody else does. Raises LayoutBusy, and as `work`."""
        return await self._turns.take(self._layout.path, work)

    async def create(self) -> None:
        """Let the repository exist: a blob is whole. Raises LayoutBusy."""
        if not self._layout.exists():
            await self.in_turn(self._layout.create)

    def start_upload(self) -> Upload:
        """Open a new session."""
        directory = self._layout.uploads
        self._layout.disk.make(directory)
        path = directory / uuid.uuid4().hex
        path.touch(exist_ok=False)
        return Upload(path, self._progress)

    def upload(self, upload_id: str) -> Upload:
        """Find a session by the id from its URL. Raises UploadUnknown."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadUnknown("no upload has such an id")
        return Upload(self._layout.uploads / upload_id, self._progress)

    def commit(self, writer: Writer, digest: Digest) -> None:
        """Make a blob of a session's bytes. Raises DigestMismatch; nothing is stored then."""
        writer.verify(digest)
        writer.commit(self._layout.blob(digest), self._layout.disk)

    def mount(self, digest: Digest, source: Repo) -> bool:
        """Take a blob from another repository as a second name of the same file.

        False where it is not there, or where the file system has no such names.
        """
        if not self._layout.blob(digest).is_file():
            try:
                self._layout.disk.make(self._layout.uploads)
                self._layout.disk.link(source._layout.blob(digest), self._layout.blob(digest))
            except FileExistsError:
                pass
            except OSError:
                return False
        self.renew(digest)
        return True

    def blob(self, digest: Digest) -> BinaryIO:
        """Open a blob. Raises RepositoryUnknown, BlobUnknown."""
        self.require()
        try:
            return self._layout.blob(digest).open("rb")
        except FileNotFoundError as error:
            raise BlobUnknown(f"no blob {digest} in {self.name}") from error

    def renew(self, digest: Digest) -> None:
        """Make a blob young: a client was told of it, and who sweeps by age must leave it there."""
        with suppress(OSError):  # gone, or another user's
            os.utime(self._layout.blob(digest))

    def delete_blob(self, digest: Digest) -> None:
        """Delete a blob. Raises RepositoryUnknown, BlobUnknown, BlobIsManifest, LayoutBusy."""
        self.require()
        with self._layout.locked():
            if self.manifests.has(digest):
                raise BlobIsManifest(f"{digest} is a manifest, not a blob of one")
            try:
                self._layout.blob(digest).unlink()
            except FileNotFoundError as error:
                raise BlobUnknown(f"no blob {digest} in {self.name}") from error

    def require(self) -> None:
        """Raise RepositoryUnknown where nothing was stored yet."""
        self._layout.require()
