"""The registry's directory: the repositories below it.

The directory is walked for each list: other programs add and remove layouts at any time. A walk
holds one directory at a time and yields names in their order, so that a page costs only its own
entries.
"""

from __future__ import annotations

import errno
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from brolga.disk.directory import Directory, Sync, UnsafePath
from brolga.disk.layout import BLOBS, LAYOUT_FILE, LAYOUT_NAMES, UPLOADS
from brolga.errors import InvalidReference
from brolga.registry.storage.database import Databases
from brolga.registry.storage.layout import Layout
from brolga.registry.storage.repository import Repo, SharedState
from brolga.registry.storage.uploads import Upload, UploadBusy, UploadUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.reference import Repository


_log = logging.getLogger("brolga.registry")


class Store:
    """A directory of repositories."""

    def __init__(self, root: Path, *, durable: bool = False, read_only: bool = False) -> None:
        self._tree = Directory(root, Sync.ALWAYS if durable else Sync.NEVER)
        self._has_warned = False
        self._shared = SharedState(Databases(read_only=read_only))

    def repo(self, repository: Repository) -> Repo:
        """Return a repository, which need not exist. Raises InvalidReference if it is reserved."""
        reserved = sorted(LAYOUT_NAMES.intersection(repository.path.split("/")))
        if reserved:
            raise InvalidReference(
                f"component {reserved[0]!r} of the name is a name of the image layout "
                "in which repositories are stored here"
            )
        path = self._tree.root / repository.path
        return Repo(Layout(repository.path, path, self._tree), self._shared)

    def names(self, last: str = "") -> Iterator[str]:
        """Yield the name of each repository after `last`, sorted as text."""
        # A stack: a name is a layout to yield; a name with a slash is a directory to visit.
        pending = [""]
        while pending:
            name = pending.pop()
            if name and not name.endswith("/"):
                if name > last and self._is_layout(self._tree.root / name):
                    yield name
                continue
            inside = [name + entry for entry in self._subdirectories(self._tree.root / name)]
            # "a" comes before "a-b", and "a-b" before "a/b".
            words = sorted([*inside, *(f"{entry}/" for entry in inside)], reverse=True)
            pending += [w for w in words if w > last or (w.endswith("/") and last.startswith(w))]

    def expire(self, age_s: float) -> None:
        """Delete the sessions to which nothing was written for `age_s` seconds.

        Repositories without content are deleted too. A read-only disk is logged once.
        """
        limit, left = time.time() - age_s, 0
        try:
            for directory in self._directories():
                uploads = directory / UPLOADS
                try:
                    paths = [uploads / entry.name for entry in self._tree.scan(uploads)]
                except UnsafePath as error:
                    _log.warning("uploads do not expire: %s", error)
                    continue
                left += sum(not self._expire_session(path, limit) for path in paths)
                if directory != self._tree.root:
                    Layout("", directory, self._tree).remove_empty()
            self._shared.sessions.count = left
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            if not self._has_warned:
                self._has_warned = True
                _log.warning("uploads do not expire: %s", error)

    def _expire_session(self, path: Path, limit: float) -> bool:
        """Delete a session if it is old. Return whether it was deleted."""
        try:
            # It may have ended since it was listed, or a request may be writing to it.
            with suppress(FileNotFoundError, UploadUnknown, UploadBusy):
                if self._tree.status(path).st_mtime < limit:
                    with Upload(path, self._shared.hashes, self._tree).writer() as writer:
                        writer.discard()
                    return True
        except OSError as error:  # a directory, another user's file, a link
            if error.errno == errno.EROFS:
                raise
            _log.warning("an old upload cannot be deleted: %s", error)
        return False

    def _directories(self) -> Iterator[Path]:
        """Yield each directory that may be a repository, children before parents."""
        pending = [(self._tree.root, False)]
        while pending:
            path, is_visited = pending.pop()
            if is_visited:
                yield path
            else:
                pending.append((path, True))
                pending += [(path / name, False) for name in self._subdirectories(path)]

    def _subdirectories(self, path: Path) -> list[str]:
        """Return the subdirectories whose names may be components of a repository's name."""
        try:
            return [
                entry.name
                for entry in self._tree.scan(path)
                if entry.name != BLOBS
                and not entry.name.startswith(".")
                and entry.is_dir(follow_symlinks=False)
            ]
        except (UnsafePath, PermissionError):  # a link took its place, or it is another user's
            return []

    def _is_layout(self, path: Path) -> bool:
        try:
            return self._tree.is_file(path / LAYOUT_FILE)
        except OSError:
            return False
