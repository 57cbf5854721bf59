"""The manifests of one repository: found, stored, listed and deleted.

Knows which files change together, and under which lock. Must not know HTTP. What changes something
raises LayoutBusy where somebody else does, and has changed nothing then that may not be done again.

A manifest is a blob that index.json lists, or that an index in it refers to (see graph). Its
bytes are in their place before the index names them, and go after it has forgotten them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from brolga.errors import BrolgaError
from brolga.server import documents
from brolga.server.graph import Graph
from brolga.server.index import Index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.descriptor import Descriptor
    from brolga.digest import Digest
    from brolga.server.documents import Document
    from brolga.server.graph import GraphCache
    from brolga.server.layout import Layout

__all__ = ["ManifestUnknown", "Manifests", "ReferencesUnknown", "SizeMismatch", "Stored"]

_log = logging.getLogger("brolga.server")


class ManifestUnknown(BrolgaError):
    """The repository has no manifest of that tag or digest."""


class ReferencesUnknown(BrolgaError):
    """A manifest refers to what the repository does not have: `missing`."""

    def __init__(self, missing: Sequence[Descriptor]) -> None:
        super().__init__(f"{len(missing)} of the blobs and manifests that it refers to are missing")
        self.missing = missing


class SizeMismatch(BrolgaError):
    """A manifest gives another size for a blob or manifest than it has here."""


class Stored(NamedTuple):
    """A manifest: its descriptor, and its file, open."""

    descriptor: Descriptor
    file: BinaryIO


class Manifests:
    """The manifests and tags of one repository."""

    def __init__(self, layout: Layout, graphs: GraphCache) -> None:
        self._layout = layout
        self._graphs = graphs

    def put(
        self,
        body: bytes,
        descriptor: Descriptor,
        tags: Sequence[str],
        needs: Sequence[Descriptor] = (),
        *,
        sparse: bool = False,
    ) -> None:
        """Store a manifest, exactly these bytes, and let tags name it.

        Raises ReferencesUnknown where something of `needs` is not here, unless `sparse` allows it,
        SizeMismatch where it has another size than it says; nothing is stored then.
        """
        self._layout.disk.make(self._layout.uploads)
        with self._layout.locked():
            missing = self._missing(needs)
            if missing and not sparse:
                raise ReferencesUnknown(missing)
            index = Index.load(self._layout.index)
            target = self._layout.blob(descriptor.digest)
            self._layout.disk.write(target, body, self._layout.uploads)
            index.put(descriptor, tags)
            self._save(index)
        self._layout.create()

    def by_tag(self, tag: str) -> Stored:
        """Find what a tag names. Raises RepositoryUnknown, ManifestUnknown."""
        return self._open(self._index().by_tag(tag), tag)

    def by_digest(self, digest: Digest) -> Stored:
        """Find a manifest by its digest. Raises RepositoryUnknown, ManifestUnknown."""
        return self._open(self._find(digest), str(digest))

    def has(self, digest: Digest) -> bool:
        """Whether a digest is a manifest's. Raises RepositoryUnknown."""
        return self._find(digest) is not None

    def tags(self) -> list[str]:
        """Return every name in the index, in no order. Raises RepositoryUnknown."""
        return self._index().tags()

    def untag(self, tag: str) -> None:
        """Delete a tag; its manifest stays. Raises RepositoryUnknown, ManifestUnknown."""
        self._layout.require()
        with self._layout.locked():
            index = Index.load(self._layout.index)
            if not index.untag(tag):
                raise ManifestUnknown(f"no tag {tag} in {self._layout.name}")
            self._save(index)

    def delete(self, digest: Digest) -> None:
        """Delete a manifest and its tags. Raises RepositoryUnknown, ManifestUnknown."""
        self._layout.require()
        with self._layout.locked():
            index = Index.load(self._layout.index)
            bytes_of_it = self._layout.blob(digest)
            if index.remove(digest):
                self._save(index)
            elif self._graph(index).find(str(digest)) is None or not bytes_of_it.is_file():
                raise ManifestUnknown(f"no manifest {digest} in {self._layout.name}")
            bytes_of_it.unlink(missing_ok=True)

    def referrers(self, digest: Digest) -> Iterator[tuple[Descriptor, Document]]:
        """Yield what has a subject of this digest, ordered by digest; nothing if unknown."""
        if not self._layout.exists():
            return
        for descriptor in self._graph(self._index()).referrers(str(digest)):
            document = self._read(descriptor)
            if document is not None:
                yield descriptor, document

    def _missing(self, needs: Sequence[Descriptor]) -> list[Descriptor]:
        """Return what is not here. Raises SizeMismatch."""
        missing: list[Descriptor] = []
        for need in needs:
            try:
                size = self._layout.blob(need.digest).stat().st_size
            except FileNotFoundError:
                missing.append(need)
                continue
            if size != need.size:
                raise SizeMismatch(f"{need.digest} has {size} bytes, not {need.size}")
        return missing

    def _save(self, index: Index) -> None:
        self._layout.disk.write(self._layout.index, index.text(), self._layout.uploads)

    def _index(self) -> Index:
        self._layout.require()
        return Index.load(self._layout.index)

    def _find(self, digest: Digest) -> Descriptor | None:
        index = self._index()
        return index.by_digest(digest) or self._graph(index).find(str(digest))

    def _graph(self, index: Index) -> Graph:
        """Return the graph of an index as it was read."""

        def grow(before: Graph | None) -> Graph:
            return Graph.grow(index.descriptors(), self._read, before)

        return self._graphs.get(self._layout.index, index.fingerprint, grow)

    def _read(self, descriptor: Descriptor) -> Document | None:
        """Read what a manifest says; None where it cannot be read, or is not a manifest."""
        try:
            with self._layout.blob(descriptor.digest).open("rb") as file:
                # No more than a manifest can have, whatever another program put there.
                body = file.read(documents.LIMIT + 1)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                _log.error("%s", error)
            return None
        return documents.read(descriptor.media_type, body)

    def _open(self, found: Descriptor | None, wanted: str) -> Stored:
        if found is None:
            raise ManifestUnknown(f"no manifest {wanted} in {self._layout.name}")
        try:
            return Stored(found, self._layout.blob(found.digest).open("rb"))
        except FileNotFoundError as error:
            what = f"manifest {wanted} of {self._layout.name}"
            raise ManifestUnknown(f"{what} has no bytes") from error
