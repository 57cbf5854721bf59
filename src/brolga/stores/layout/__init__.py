"""An image layout, a directory, as a store of images.

Knows what a layout keeps, and what of it is whole. Must not know registries, nor how images are
made; it shares the way to open files with the embedded registry, which writes the same format.

    files    where its files are, and who may change them
    listing  index.json as a value
    naming   which image a name stands for
    reading  what is there
    graph    what can be reached from somewhere
    sweep    which blobs nobody needs

Strategy: nothing that a layout says is believed before it was seen. A digest becomes a path after
it was checked, bytes are held against their digest while they are read, and an image is entered
under the lock, after all that it refers to was found to be there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from brolga.errors import CorruptBlob, DigestMismatch, InvalidManifest, NotComputed
from brolga.spec.digest import Digest, hasher
from brolga.spec.index import Index
from brolga.spec.mediatypes import INDEX_TYPES, MANIFEST_TYPES, NONDISTRIBUTABLE
from brolga.stores.layout.files import check_digest
from brolga.stores.layout.gc import DEFAULT_AGE_S, GCResult, collect_garbage, walk
from brolga.stores.layout.index import (
    add,
    ambiguous_name,
    candidates,
    digest_of,
    image_not_found,
    names,
    remove_manifest,
    remove_tag,
    remove_untagged,
)
from brolga.stores.layout.reading import Reading, here, local
from brolga.stores.store import go_on

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Self

    from brolga.spec.blob import Blob, Block
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.manifest import Manifest
    from brolga.stores.layout.index import LayoutIndex

__all__ = ["DEFAULT_AGE_S", "GCResult", "Layout"]


class Layout(Reading):
    """An image layout (image-spec image-layout.md). Threads and processes may share one.

    It is a `Source` and a `Target`. It is made by the first push, with all directories above it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._listed: set[Digest] = set()  # by this object, without a name

    @contextmanager
    def writing(self) -> Iterator[Self]:
        """Make the layout where it is not there, and keep `gc` off it meanwhile.

        Where an error ends it, a layout that was made here and got nothing is taken away again.
        """
        with self._files.create_or_open():
            yield self

    def push(self, blob: Blob, watch: Callable[[], None] = go_on) -> Descriptor:
        """Take a blob, whose bytes are read where it is not there yet; describe it.

        Raises DigestMismatch, CorruptBlob where the bytes are not what it says, OSError where the
        disk is full, and what reading the blob raises. Nothing is left then.
        """
        with self.writing():
            try:
                described = blob.descriptor
            except NotComputed:
                # Its digest is made of the very bytes that are written.
                self._write(blob, watch, lambda size: self._place(blob.descriptor, size))
                return blob.descriptor
            if self._has(described):
                self._files.touch_blob(described.digest)
                return described
            state = hasher(described.digest.algorithm)

            def place(size: int) -> Path:
                check_digest(described.digest, Digest.from_hasher(state))
                return self._place(described, size)

            self._write(blob, watch, place, state.update)
            return described

    def exists(self, descriptor: Descriptor, name: str = "") -> bool:
        """Tell whether a manifest is there, named or below an index, with all that it refers to.

        With `name`, whether that stands for it.
        """
        if not self._files.exists():
            return False
        if name and {one.digest for one in candidates(self._index(), name)} != {descriptor.digest}:
            return False
        try:
            return self._missing([descriptor]) is None and self._is_listed(descriptor.digest)
        except (CorruptBlob, DigestMismatch, InvalidManifest):
            return False  # what is damaged is written anew

    def named(self, tag: str) -> Digest | None:
        """Return the digest of what a tag stands for; None where there is no such tag.

        Raises ImageNotFound if more than one image has it.
        """
        if not self._files.exists():
            return None
        found = candidates(index := self._index(), tag)
        if len(found) > 1:
            raise ambiguous_name(self.path, tag, index, found)
        return found[0].digest if found else None

    def push_manifest(self, document: Manifest | Index, name: str) -> None:
        """Take a manifest under a tag or its digest. What an index refers to needs no entry.

        Raises CorruptBlob where something that it refers to is not there, and OSError.
        """
        with self.writing(), self._files.lock():
            if missing := self._missing(_parts(document)):
                raise local(CorruptBlob(f"{missing} is missing in {self.path}"))
            place = self._files.blob_path(document.digest)
            self._files.write(place, document.raw)
            index = self._index()
            tag = "" if digest_of(name) else name
            if not tag and all(one.digest != document.digest for one in index.manifests):
                self._listed.add(document.digest)
            changed = add(index, document.descriptor, tag)
            if isinstance(document, Index):
                below = {child.digest for child in document.manifests} & self._listed
                changed = remove_untagged(changed, below)
            self._save(index, changed)

    def tag(self, name: str, tag: str) -> Descriptor:
        """Give an image another name, in one step; return its descriptor. Raises as `resolve`."""
        self._files.require()
        with self._files.writing(), self._files.lock():
            found = self.resolve(name)
            index = self._index()
            self._save(index, add(index, found, tag))
            return found

    def untag(self, tag: str) -> None:
        """Take a name away; its image stays. Raises ImageNotFound."""
        self._files.require()
        with self._files.writing(), self._files.lock():
            index = self._index()
            if tag not in names(index):
                raise image_not_found(self.path, tag, index)
            self._save(index, remove_tag(index, tag))

    def delete(self, digest: Digest) -> None:
        """Forget an image and its names; `gc` deletes its bytes. Raises ImageNotFound."""
        self._files.require()
        with self._files.writing(), self._files.lock():
            index = self._index()
            if all(entry.digest != digest for entry in index.manifests):
                raise image_not_found(self.path, str(digest), index)
            self._save(index, remove_manifest(index, digest))

    def gc(
        self,
        *,
        older_than_s: float = DEFAULT_AGE_S,
        untagged: bool = False,
        dry_run: bool = False,
        waiting: Callable[[], None] = go_on,
    ) -> GCResult:
        """Delete blobs that no image of the index refers to, and what broken-off writers left.

        It waits for pushes into the layout that are under way, which tell each other by a lock;
        `waiting` is told of that. A blob younger than `older_than_s` seconds stays: a client of a
        registry on this directory may be about to refer to it. With `untagged`, images without a
        name go too, but for those that refer to one that stays. With `dry_run` nothing goes.

        A manifest that cannot be read is told of in `GCResult.unread`; all that it mentions stays.

        Raises ImageNotFound, InvalidLayout, and DigestMismatch or InvalidManifest where a manifest
        is damaged, or has more than 4 MiB: nobody knows what it refers to.
        """
        self._files.require()
        with self._files.sweeping(waiting), self._files.lock(), here(self.path):
            index = self._index()
            return collect_garbage(
                self._files,
                index,
                lambda after: self._save(index, after),
                older_than_s=older_than_s,
                untagged=untagged,
                dry_run=dry_run,
            )

    # --- Inside

    def _save(self, before: LayoutIndex, after: LayoutIndex) -> None:
        if after.raw != before.raw:
            self._files.write(self._files.index, after.raw)
            self._last = after

    def _write(
        self,
        blob: Blob,
        watch: Callable[[], None],
        place: Callable[[int], Path],
        seen: Callable[[Block], None] | None = None,
    ) -> None:
        with blob.open() as stream:
            self._files.write_blocks(_watched(stream.blocks(), watch, seen), place)

    def _place(self, described: Descriptor, size: int) -> Path:
        """Return where a blob goes. Raises CorruptBlob where it has another size."""
        if size != described.size:
            raise CorruptBlob(
                f"blob {described.digest} has {size} bytes, where its descriptor says "
                f"{described.size}"
            )
        return self._files.blob_path(described.digest)

    def _has(self, descriptor: Descriptor) -> bool:
        return self._files.blob_size(descriptor.digest) == descriptor.size

    def _missing(self, wanted: Iterable[Descriptor]) -> Digest | None:
        """Return what is not there of these blobs, and of all below those that are manifests."""

        def below(descriptor: Descriptor) -> Iterable[Descriptor]:
            is_root = descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES
            return _parts(self.fetch_manifest(str(descriptor.digest))) if is_root else ()

        missing = (one.digest for one in walk(wanted, below) if not self._has(one))
        return next(missing, None)

    def _is_listed(self, digest: Digest) -> bool:
        """Return whether the index names a manifest, or an index below it does."""

        def below(descriptor: Descriptor) -> Iterable[Descriptor]:
            if descriptor.media_type not in INDEX_TYPES or not self._has(descriptor):
                return ()
            document = self.fetch_manifest(str(descriptor.digest))
            return document.manifests if isinstance(document, Index) else ()

        # The index's own entries come first: what is there is found without reading one.
        return any(one.digest == digest for one in walk(self._index().manifests, below))


def _parts(document: Manifest | Index) -> Iterator[Descriptor]:
    """Yield what a manifest refers to and what is kept beside it: a foreign layer is not."""
    if isinstance(document, Index):
        yield from document.manifests
    else:
        yield document.config
        yield from (one for one in document.layers if one.media_type not in NONDISTRIBUTABLE)


def _watched(
    blocks: Iterable[Block], watch: Callable[[], None], seen: Callable[[Block], None] | None
) -> Iterator[Block]:
    for block in blocks:
        watch()
        if seen is not None:
            seen(block)
        yield block
