"""The manifests of one repository: found, stored, listed and deleted.

Knows which files change together, and under which lock. Must not know HTTP. What changes something
raises LayoutBusy where somebody else does, and has changed nothing then that may not be done again.

A manifest is a blob that index.json lists, or that an index in it refers to (see graph). Its
bytes are in their place before the index names them, and go after it has forgotten them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

from brolga.errors import BrolgaError
from brolga.server.documents import Document
from brolga.server.graph import Graph, Referrer, Transaction
from brolga.server.index import Index, memory_for, read_index
from brolga.server.layout import LayoutBusy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from brolga.server.database import Databases
    from brolga.server.layout import Layout
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

__all__ = [
    "IndexStale",
    "ManifestUnknown",
    "Manifests",
    "ReferencesUnknown",
    "SizeMismatch",
    "Stored",
]

_T = TypeVar("_T")

# How often others may change the index under one who asks.
_TRIES = 10


class ManifestUnknown(BrolgaError):
    """The repository has no manifest of that tag or digest."""


class ReferencesUnknown(BrolgaError):
    """A manifest refers to what the repository does not have: `missing`."""

    def __init__(self, missing: Sequence[Descriptor]) -> None:
        super().__init__(f"{len(missing)} of the blobs and manifests that it refers to are missing")
        self.missing = missing


class SizeMismatch(BrolgaError):
    """A manifest gives another size for a blob or manifest than it has here."""


class IndexStale(BrolgaError):
    """What is known of a layout may be older than the layout."""


class Stored(NamedTuple):
    """A manifest: its descriptor, and its file, open."""

    descriptor: Descriptor
    file: BinaryIO


class Manifests:
    """The manifests and tags of one repository.

    With `may_update` false each question raises IndexStale if an answer may take long.
    """

    def __init__(self, layout: Layout, databases: Databases, *, may_update: bool = True) -> None:
        self._layout = layout
        self._databases = databases
        self._may_update = may_update

    def put(
        self,
        body: bytes,
        descriptor: Descriptor,
        tags: Sequence[str],
        document: Document | None = None,
        *,
        sparse: bool = False,
    ) -> None:
        """Store a manifest, exactly these bytes, and let tags name it.

        `document` is what it says. Raises ReferencesUnknown if something of that is not here,
        unless `sparse` allows it, SizeMismatch if it has another size than it says; nothing is
        stored then.
        """
        document = document or Document()
        try:
            self._layout.disk.make(self._layout.uploads)
            with self._layout.locked():
                missing = self._missing((*document.blobs, *document.manifests))
                self._put(body, descriptor, tags, [] if sparse else missing)
                # Still under the lock: nobody deletes it meanwhile.
                self._record(descriptor, document)
        except BaseException:
            self._layout.leave_nothing()
            raise
        self._layout.create()

    def _put(
        self,
        body: bytes,
        descriptor: Descriptor,
        tags: Sequence[str],
        missing: Sequence[Descriptor],
    ) -> None:
        if missing:
            raise ReferencesUnknown(missing)
        with self._index() as index:
            target = self._layout.blob(descriptor.digest)
            self._layout.disk.write(target, body, self._layout.uploads)
            index.put(descriptor, tags)
            self._save(index)

    def _record(self, descriptor: Descriptor, document: Document) -> None:
        """Keep what a manifest says: nobody has to read it again."""
        self._databases.run(
            self._layout,
            lambda database: Graph(self._layout, database).record(descriptor, document),
        )

    def by_tag(self, tag: str) -> Stored:
        """Find what a tag names. Raises RepositoryUnknown, ManifestUnknown."""
        return self._open(self._ask(lambda graph: graph.by_tag(tag)), tag)

    def by_digest(self, digest: Digest) -> Stored:
        """Find a manifest by its digest. Raises RepositoryUnknown, ManifestUnknown."""
        return self._open(self._ask(lambda graph: graph.find(digest)), str(digest))

    def has(self, digest: Digest) -> bool:
        """Whether a digest is a manifest's. Raises RepositoryUnknown."""
        return self._ask(lambda graph: graph.find(digest)) is not None

    def tags(self, last: str | None = None, count: int = -1) -> list[str]:
        """Return so many tags after one, all without bounds, in case-insensitive order.

        Raises RepositoryUnknown.
        """
        return self._ask(lambda graph: graph.tags(last, count))

    def untag(self, tag: str) -> None:
        """Delete a tag; its manifest stays. Raises RepositoryUnknown, ManifestUnknown."""
        self._layout.require()
        with self._layout.locked(), self._index() as index:
            if not index.untag(tag):
                raise ManifestUnknown(f"no tag {tag} in {self._layout.name}")
            self._save(index)

    def delete(self, digest: Digest) -> None:
        """Delete a manifest and its tags. Raises RepositoryUnknown, ManifestUnknown."""
        self._layout.require()
        with self._layout.locked():
            with self._index() as index:
                is_listed = index.remove(digest)
                if is_listed:
                    self._save(index)
            if not is_listed and not (self.has(digest) and self._layout.has(digest)):
                raise ManifestUnknown(f"no manifest {digest} in {self._layout.name}")
            self._layout.disk.unlink(self._layout.blob(digest))

    def referrers(
        self, digest: Digest, artifact_type: str | None, last: str, size: int
    ) -> tuple[list[Referrer], bool]:
        """Return what has a subject of this digest, ordered by digest, and whether there is more.

        They begin after `last`, and are of one type, if that is given. Their descriptors have at
        most `size` bytes in JSON, unless one alone has more.
        """
        if not self._layout.exists():
            return [], False

        def page(graph: Graph) -> tuple[list[Referrer], bool]:
            found: list[Referrer] = []
            left = size
            for one in graph.referrers(digest, artifact_type, last):
                if not self._layout.has(one.digest):
                    continue  # another program has deleted it
                left -= len(one.listed)
                if found and left < 0:
                    return found, True
                found.append(one)
            return found, False

        return self._ask(page)

    def _ask(self, question: Callable[[Graph], _T]) -> _T:
        """Ask about the layout as it is now.

        Raises RepositoryUnknown, BrokenIndex, LayoutBusy, and IndexStale if the index of the
        manifests may be older than the layout, and this object may not update it.
        """
        self._layout.require()

        def work(database: sqlite3.Connection) -> _T:
            graph = Graph(self._layout, database)
            with Transaction(database, "BEGIN"):
                if graph.is_current():
                    return question(graph)
            if not self._may_update:
                raise IndexStale(f"the index of {self._layout.name} must be updated")
            for _ in range(_TRIES):
                fingerprint = graph.update()
                with Transaction(database, "BEGIN"):
                    if graph.is_made_of(fingerprint):
                        return question(graph)
            raise LayoutBusy(f"others change {self._layout.name} all the time")

        return self._databases.run(self._layout, work)

    def _missing(self, needs: Sequence[Descriptor]) -> list[Descriptor]:
        """Return what is not here. Raises SizeMismatch."""
        missing: list[Descriptor] = []
        for need in dict.fromkeys(needs):
            try:
                size = self._layout.disk.status(self._layout.blob(need.digest)).st_size
            except (FileNotFoundError, NotADirectoryError):
                missing.append(need)
                continue
            if size != need.size:
                raise SizeMismatch(f"{need.digest} has {size} bytes, not {need.size}")
        return missing

    @contextmanager
    def _index(self) -> Iterator[Index]:
        """Read index.json, to change it under the lock. Raises BrokenIndex, LayoutBusy."""
        _, text = read_index(self._layout.disk, self._layout.index)
        with memory_for(len(text)):
            yield Index.parse(text, self._layout.index)

    def _save(self, index: Index) -> None:
        self._layout.disk.write(self._layout.index, index.text(), self._layout.uploads)

    def _open(self, found: Descriptor | None, wanted: str) -> Stored:
        if found is None:
            raise ManifestUnknown(f"no manifest {wanted} in {self._layout.name}")
        try:
            return Stored(found, self._layout.disk.reader(self._layout.blob(found.digest)))
        except (FileNotFoundError, NotADirectoryError) as error:
            what = f"manifest {wanted} of {self._layout.name}"
            raise ManifestUnknown(f"{what} has no bytes") from error
