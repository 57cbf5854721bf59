"""The manifests and tags of one repository.

A manifest is a blob that index.json lists, or that an index in it refers to (graph.py). Its bytes
are stored before the index lists them, and deleted after the index has dropped them. A change may
raise LayoutBusy, and can be repeated then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, TypeVar

from brolga.errors import BrolgaError
from brolga.registry.storage.graph import Graph, Referrer, transaction
from brolga.registry.storage.index import Index, parse_index
from brolga.registry.storage.layout import Layout, LayoutBusy
from brolga.registry.storage.manifest import Manifest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from brolga.registry.storage.database import Databases
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest


_T = TypeVar("_T")

_MAX_ATTEMPTS: Final = 10  # if others change the index during a query


class ManifestUnknown(BrolgaError):
    """The repository has no manifest of that tag or digest."""


class ReferencesUnknown(BrolgaError):
    """A manifest refers to blobs or manifests that the repository lacks: `missing`."""

    def __init__(self, missing: Sequence[Descriptor]) -> None:
        super().__init__(f"{len(missing)} of the blobs and manifests that it refers to are missing")
        self.missing = missing


class SizeMismatch(BrolgaError):
    """A manifest gives a wrong size for a blob or manifest of the repository."""


class IndexStale(BrolgaError):
    """The database may be older than the layout."""


class StoredManifest(NamedTuple):
    """A manifest: its descriptor, and its open file."""

    descriptor: Descriptor
    file: BinaryIO


class ManifestStore:
    """The manifests and tags of one repository.

    Without `may_update`, a query raises IndexStale if the database must be updated first.
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
        manifest: Manifest | None = None,
        *,
        sparse: bool = False,
    ) -> None:
        """Store the exact bytes of a manifest, and tag it.

        `manifest` has its references. Raises ReferencesUnknown if one is missing, unless `sparse`
        allows it, and SizeMismatch if one has another size. Nothing is stored then.
        """
        manifest = manifest or Manifest()
        try:
            self._layout.tree.make(self._layout.uploads)
            with self._layout.lock():
                self._check_references((*manifest.blobs, *manifest.manifests), sparse=sparse)
                with self._index() as index:
                    target = self._layout.blob_path(descriptor.digest)
                    self._layout.write(target, body)
                    index.put(descriptor, tags)
                    self._layout.write(self._layout.index, index.text())
                # Still under the lock, so that no other client deletes it meanwhile.
                self._databases.run(
                    self._layout,
                    lambda database: Graph(self._layout, database).record(descriptor, manifest),
                )
        except BaseException:
            self._layout.remove_empty()
            raise
        self._layout.create()

    def by_tag(self, tag: str) -> StoredManifest:
        """Return the manifest of a tag. Raises RepositoryUnknown, ManifestUnknown."""
        return self._open(self._query(lambda graph: graph.by_tag(tag)), tag)

    def by_digest(self, digest: Digest) -> StoredManifest:
        """Return a manifest by its digest. Raises RepositoryUnknown, ManifestUnknown."""
        return self._open(self._query(lambda graph: graph.find(digest)), str(digest))

    def has(self, digest: Digest) -> bool:
        """Return whether a digest is a manifest's. Raises RepositoryUnknown."""
        return self._query(lambda graph: graph.find(digest)) is not None

    def tags(self, last: str | None = None, count: int = -1) -> list[str]:
        """Return `count` tags after `last` in case-insensitive order; all if it is negative."""
        return self._query(lambda graph: graph.tags(last, count))

    def untag(self, tag: str) -> None:
        """Delete a tag; its manifest stays. Raises RepositoryUnknown, ManifestUnknown."""
        self._layout.require()
        with self._layout.lock(), self._index() as index:
            if not index.untag(tag):
                raise ManifestUnknown(f"no tag {tag} in {self._layout.name}")
            self._layout.write(self._layout.index, index.text())

    def delete(self, digest: Digest) -> None:
        """Delete a manifest and its tags. Raises RepositoryUnknown, ManifestUnknown."""
        self._layout.require()
        with self._layout.lock():
            with self._index() as index:
                is_listed = index.remove(digest)
                if is_listed:
                    self._layout.write(self._layout.index, index.text())
            if not is_listed and not (self.has(digest) and self._layout.has_blob(digest)):
                raise ManifestUnknown(f"no manifest {digest} in {self._layout.name}")
            self._layout.tree.unlink(self._layout.blob_path(digest))

    def referrers(
        self, digest: Digest, artifact_type: str | None, last: str, size: int
    ) -> tuple[list[Referrer], bool]:
        """Return the referrers of a digest after `last`, by digest, and whether there are more.

        `artifact_type` selects those of one type. Their descriptors have at most `size` bytes of
        JSON, unless a single one has more.
        """
        if not self._layout.exists():
            return [], False

        def page(graph: Graph) -> tuple[list[Referrer], bool]:
            referrers: list[Referrer] = []
            left = size
            for referrer in graph.referrers(digest, artifact_type, last):
                if not self._layout.has_blob(referrer.digest):
                    continue  # another program has deleted it
                left -= len(referrer.descriptor)
                if referrers and left < 0:
                    return referrers, True
                referrers.append(referrer)
            return referrers, False

        return self._query(page)

    def _query(self, query: Callable[[Graph], _T]) -> _T:
        """Query the graph of the layout; update it first if it is stale. Raises IndexStale."""
        self._layout.require()

        def work(database: sqlite3.Connection) -> _T:
            graph = Graph(self._layout, database)
            with transaction(database, "BEGIN"):
                if graph.is_current():
                    return query(graph)
            if not self._may_update:
                raise IndexStale(f"the index of {self._layout.name} must be updated")
            for _ in range(_MAX_ATTEMPTS):
                fingerprint = graph.update()
                with transaction(database, "BEGIN"):
                    if graph.is_made_of(fingerprint):
                        return query(graph)
            raise LayoutBusy(f"others change {self._layout.name} all the time")

        return self._databases.run(self._layout, work)

    def _check_references(self, references: Sequence[Descriptor], *, sparse: bool) -> None:
        """Raise ReferencesUnknown if some are missing, SizeMismatch for a wrong size."""
        missing: list[Descriptor] = []
        for reference in dict.fromkeys(references):
            size = self._layout.blob_size(reference.digest)
            if size is None:
                missing.append(reference)
            elif size != reference.size:
                message = f"{reference.digest} has {size} bytes, not {reference.size}"
                raise SizeMismatch(message)
        if missing and not sparse:
            raise ReferencesUnknown(missing)

    def _index(self) -> AbstractContextManager[Index]:
        """Read index.json, to change it under the lock."""
        return parse_index(self._layout.read_index()[1], self._layout.index)

    def _open(self, descriptor: Descriptor | None, reference: str) -> StoredManifest:
        if descriptor is None:
            raise ManifestUnknown(f"no manifest {reference} in {self._layout.name}")
        try:
            file = self._layout.tree.open_file(self._layout.blob_path(descriptor.digest))
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"manifest {reference} of {self._layout.name} has no bytes"
            raise ManifestUnknown(message) from error
        return StoredManifest(descriptor, file)
