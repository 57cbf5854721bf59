"""What a layout has, as it is read: names, documents, blobs.

Knows that nothing is to be believed before it was seen: bytes are held against their digest while
they are read. Must not know how a layout is written.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import (
    BrolgaError,
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidLayout,
    InvalidManifest,
)
from brolga.images import BlockStream, ImageIndex, InMemoryBlob, StoredBlob
from brolga.images.index import is_blob, read_platforms
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest, hasher
from brolga.spec.index import Index, parse_manifest, select_best
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX
from brolga.stores.layout.files import Files, check_digest
from brolga.stores.layout.index import (
    MAX_INDEX_SIZE,
    LayoutIndex,
    ambiguous_name,
    candidates,
    digest_of,
    image_not_found,
    name_of,
    names,
)
from brolga.stores.store import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from brolga.images import Tree
    from brolga.spec.blob import BlobStream
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform

__all__ = ["Reading", "here", "local"]

_BLOCK_SIZE: Final = 1 << 20  # bytes
_DAMAGED: Final = "copy the image there again"


def _pass_by(_digest: Digest, _error: InvalidManifest) -> None:
    """Tell nobody."""


class Reading:
    """An image layout that is there, as a `store.Source`. Threads may share one."""

    mount_source: Final = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files = Files(self.path)
        self._last: LayoutIndex | None = None  # which was read, or written

    def __repr__(self) -> str:
        """Show where it is."""
        return f"{type(self).__name__}({os.fspath(self.path)!r})"

    def tags(self) -> tuple[str, ...]:
        """Return the names of its images, in the index's order. Raises ImageNotFound, and more."""
        return names(self._index())

    def resolve(self, name: str = "", platform: Platform | None = None) -> Descriptor:
        """Return what a name stands for: a tag, a digest, `@N` for the Nth image, "" for the only.

        Of several images of one name, or of all for "", `platform` chooses one.

        Raises ImageNotFound, which tells the names that there are, and those that have one name,
        PlatformNotFound, InvalidLayout, InvalidManifest.
        """
        index = self._index()
        found = candidates(index, name)
        if len(found) > 1 and platform is not None:
            found = self._suited(found, platform)
        if not found and (digest := digest_of(name)) and self._files.blob_size(digest) is not None:
            return self.fetch_manifest(name).descriptor
        if not found:
            raise image_not_found(self.path, name, index)
        if len(found) > 1:
            raise ambiguous_name(self.path, name, index, found, str(platform or ""))
        return found[0]

    def check_tags(self, *, is_one_each: bool) -> None:
        """Raise ImageNotFound if there are images and no name for any.

        If `is_one_each`, raise it for a name that more than one image has, too.
        """
        index = self._index()
        found: dict[str, set[Digest]] = {}
        for entry in index.manifests:
            if name := name_of(entry):
                found.setdefault(name, set()).add(entry.digest)
        if index.manifests and not found:
            count = len(index.manifests)
            error = ImageNotFound(f"{self.path} has {count} images, and none has a name")
            error.add_note("copy each by its number, as oci:DIR:@0")
            raise error
        for name in [name for name, digests in found.items() if len(digests) > 1 and is_one_each]:
            raise ambiguous_name(self.path, name, index, candidates(index, name))

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read the manifest or index that a tag or a digest names.

        Raises ImageNotFound for a name that is not there, CorruptBlob for a digest of which there
        are no bytes, DigestMismatch, InvalidManifest.
        """
        digest = digest_of(name) or self.resolve(name).digest
        raw = self._files.read(self._files.blob_path(digest))
        if raw is None:
            raise local(CorruptBlob(f"manifest {digest} is missing in {self.path}"))
        with here(self.path):
            if len(raw) > MAX_SIZE:
                raise InvalidManifest(f"{digest} has more than {MAX_SIZE} bytes: it is no manifest")
            check_digest(digest, Digest.of(raw, digest.algorithm), self.path)
            return parse_manifest(raw, algorithm=digest.algorithm)

    def fetch_blob(self, descriptor: Descriptor) -> BlobStream:
        """Open a blob's bytes, verified while they are read.

        Raises, when it is read, CorruptBlob where it is not there or of another size,
        DigestMismatch at the end of other bytes.
        """
        if descriptor.data is not None:
            return InMemoryBlob(descriptor.data, descriptor.media_type).open()
        return BlockStream(self._blocks(descriptor))

    def blob(self, digest: Digest) -> BlobStream:
        """Open the blob of a digest. Raises ImageNotFound where there is none."""
        self._files.require()
        size = self._files.blob_size(digest)
        if size is None:
            raise ImageNotFound(f"there is no blob {digest} in {self.path}")
        return self.fetch_blob(Descriptor("application/octet-stream", digest, size))

    def tree(self, name: str = "", platform: Platform | None = None) -> Tree:
        """Return the image or index of a name, as `resolve` has it; no blob is read yet."""
        return read_tree(self, str(self.resolve(name, platform).digest))

    def whole(self) -> ImageIndex:
        """Return all its images as one index: index.json, byte for byte."""
        index = self._index()
        return ImageIndex(
            index,
            lambda child: read_tree(self, str(child.digest)),
            _open=lambda child: StoredBlob(child, lambda: self.fetch_blob(child), is_verified=True),
        )

    def referrers(
        self, digest: Digest, unread: Callable[[Digest, InvalidManifest], None] = _pass_by
    ) -> tuple[Descriptor, ...]:
        """Return the images of the index that refer to a manifest by their subject.

        `unread` is told of a manifest that cannot be read: nobody knows whether it refers to it.
        """
        referring = {}
        for entry in self._index().manifests:
            if entry.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                continue  # an unknown one "MUST NOT generate an error" (image-index.md)
            try:
                document = self.fetch_manifest(str(entry.digest))
            except InvalidManifest as error:
                unread(entry.digest, error)
                continue
            if document.subject is not None and document.subject.digest == digest:
                referring[entry.digest] = document.as_referrer
        return tuple(referring.values())

    def _suited(self, entries: Iterable[Descriptor], platform: Platform) -> tuple[Descriptor, ...]:
        """Return those entries that suit a platform best. Raises PlatformNotFound."""
        offers = (
            (entry, offered)
            for entry in entries
            if not is_blob(entry)
            for offered in (
                [entry.platform]
                if entry.platform
                else read_platforms(read_tree(self, str(entry.digest)))
            )
        )
        return select_best(offers, platform, str(self.path))

    def _index(self) -> LayoutIndex:
        """Read index.json; the same text is not parsed twice."""
        self._files.require()
        raw = self._files.read(self._files.index, MAX_INDEX_SIZE)
        if raw is None:
            raise local(InvalidLayout(f"{self.path} has no index.json"))
        known = self._last
        if known is None or known.raw != raw:
            with here(self.path):
                self._last = known = LayoutIndex.parse(raw, OCI_INDEX)
        return known

    def _blocks(self, descriptor: Descriptor) -> Generator[bytes, None, None]:
        try:
            file = self._files.tree.open(self._files.blob_path(descriptor.digest))
        except FileNotFoundError:
            raise local(
                CorruptBlob(f"blob {descriptor.digest} is missing in {self.path}")
            ) from None
        state, size = hasher(descriptor.digest.algorithm), 0
        try:
            while size <= descriptor.size and (block := os.read(file, _BLOCK_SIZE)):
                state.update(block)
                size += len(block)
                yield block
        finally:
            os.close(file)
        if size != descriptor.size:
            what = "more" if size > descriptor.size else f"{size} bytes"
            raise local(
                CorruptBlob(
                    f"blob {descriptor.digest} in {self.path} has {what}, where its descriptor "
                    f"says {descriptor.size}"
                )
            )
        try:
            check_digest(descriptor.digest, Digest.from_hasher(state), self.path)
        except DigestMismatch as error:
            # One of the right size is not written anew: nobody reads all that is there already.
            place = self._files.blob_path(descriptor.digest)
            raise local(error, f"delete {place} and {_DAMAGED}") from None


E = TypeVar("E", bound=BrolgaError)


def local(error: E, advice: str = _DAMAGED) -> E:
    """Say of an error that it is of this machine, and what to do."""
    error.side = "local"
    error.add_note(advice)
    return error


@contextmanager
def here(path: Path) -> Iterator[None]:
    """Say of a document that cannot be read where it is."""
    try:
        yield
    except InvalidManifest as error:
        raise local(InvalidManifest(f"{path}: {error}")) from error
    except DigestMismatch as error:
        raise local(error) from None
