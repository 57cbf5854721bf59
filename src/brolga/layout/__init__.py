"""An image layout, a directory, as a store of images.

Knows what a layout keeps, and what of it is whole. Must not know registries, nor how images are
made; it shares no code with the embedded registry, which writes the same format.

    files    where its files are, and who may change them
    listing  index.json as a value
    sweep    which blobs nobody needs

Strategy: nothing that a layout says is believed before it was seen. A digest becomes a path after
it was checked, bytes are held against their digest while they are read, and an image is entered
under the lock, after all that it refers to was found to be there.
"""

from __future__ import annotations

import os
import re
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.descriptor import Descriptor
from brolga.digest import Digest, hasher
from brolga.errors import (
    BrolgaError,
    CorruptBlob,
    DigestMismatch,
    InvalidDigest,
    InvalidLayout,
    InvalidManifest,
    NoSuchImage,
    NotComputed,
)
from brolga.images import BlockStream, BytesBlob, ImageIndex
from brolga.layout.files import Files, check
from brolga.layout.listing import entered, forgotten, name_of, names, unlisted, unnamed
from brolga.layout.sweep import DEFAULT_AGE_S, Swept, discard, left_over, needed, rooted, unneeded
from brolga.manifest import MAX_SIZE, Index, parse_manifest
from brolga.manifest.root import INDEX_TYPES, MANIFEST_TYPES
from brolga.mediatypes import NONDISTRIBUTABLE, OCI_INDEX
from brolga.store import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Self

    from brolga.compression import Block
    from brolga.images import Tree
    from brolga.layer import Blob, BlobStream
    from brolga.manifest import Manifest

__all__ = ["DEFAULT_AGE_S", "Layout", "Swept"]

_BLOCK_SIZE: Final = 1 << 20  # bytes
_DAMAGED: Final = "copy the image there again"
_MAX_LISTED: Final = 20  # names in an error's line
_NUMBER: Final = re.compile("@[0-9]{1,9}")


def _go_on() -> None:
    return None


class Layout:
    """An image layout (image-spec image-layout.md). Threads and processes may share one.

    It is a `Source` and a `Target`. It is made by the first push, with all directories above it.
    """

    home: Final = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files = Files(self.path)
        self._listed: set[Digest] = set()  # by this object, without a name

    def __repr__(self) -> str:
        """Show where it is."""
        return f"Layout({os.fspath(self.path)!r})"

    # --- Reading

    def tags(self) -> tuple[str, ...]:
        """Return the names of its images, in the index's order. Raises NoSuchImage, and more."""
        return names(self._index())

    def resolve(self, name: str = "") -> Descriptor:
        """Return what a name stands for: a tag, a digest, `@N` for the Nth image, "" for the only.

        Raises NoSuchImage, which tells the names that there are, InvalidLayout, InvalidManifest.
        """
        index = self._index()
        found = self._found(index, name)
        if found is None:
            raise _no_such(self, name, index)
        return found

    def document(self, name: str) -> Manifest | Index:
        """Read the manifest or index that a tag or a digest names.

        Raises NoSuchImage for a name that is not there, CorruptBlob for a digest of which there
        are no bytes, DigestMismatch, InvalidManifest.
        """
        digest = _digest(name) or self.resolve(name).digest
        raw = self._files.read(self._files.blob(digest))
        if raw is None:
            raise _local(CorruptBlob(f"manifest {digest} is missing in {self.path}"))
        with _here(self.path):
            if len(raw) > MAX_SIZE:
                raise InvalidManifest(f"{digest} has more than {MAX_SIZE} bytes: it is no manifest")
            check(digest, Digest.of(raw, digest.algorithm), self.path)
            return parse_manifest(raw)

    def read(self, descriptor: Descriptor) -> BlobStream:
        """Open a blob's bytes, verified while they are read.

        Raises, when it is read, CorruptBlob where it is not there or of another size,
        DigestMismatch at the end of other bytes.
        """
        if descriptor.data is not None:
            return BytesBlob(descriptor.data, descriptor.media_type).open()
        return BlockStream(self._blocks(descriptor))

    def blob(self, digest: Digest) -> BlobStream:
        """Open the blob of a digest. Raises NoSuchImage where there is none."""
        self._files.require()
        size = self._files.size(digest)
        if size is None:
            raise NoSuchImage(f"there is no blob {digest} in {self.path}")
        return self.read(Descriptor("application/octet-stream", digest, size))

    def tree(self, name: str = "") -> Tree:
        """Return the image or index of a name, as `resolve` has it; no blob is read yet."""
        return read_tree(self, str(self.resolve(name).digest))

    def whole(self) -> ImageIndex:
        """Return all its images as one index: index.json, byte for byte."""
        index = self._index()
        return ImageIndex(index, lambda child: read_tree(self, str(child.digest)))

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the images of the index that refer to a manifest by their subject."""
        found = {}
        for entry in self._index().manifests:
            if entry.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                continue  # an unknown one "MUST NOT generate an error" (image-index.md)
            document = self.document(str(entry.digest))
            if document.subject is not None and document.subject.digest == digest:
                found[entry.digest] = document.as_referrer
        return tuple(found.values())

    # --- Writing

    @contextmanager
    def writing(self) -> Iterator[Self]:
        """Make the layout where it is not there, and keep `gc` off it meanwhile.

        Where an error ends it, a layout that was made here and got nothing is taken away again.
        """
        with self._files.making():
            yield self

    def push(self, blob: Blob, watch: Callable[[], None] = _go_on) -> Descriptor:
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
                self._files.renew(described.digest)
                return described
            state = hasher(described.digest.algorithm)

            def place(size: int) -> Path:
                check(described.digest, Digest.from_hasher(state))
                return self._place(described, size)

            self._write(blob, watch, place, state.update)
            return described

    def holds(self, descriptor: Descriptor, name: str = "") -> bool:
        """Tell whether a manifest is there, named or below an index, with all that it refers to.

        With `name`, whether that stands for it.
        """
        if not self._files.is_there() or (name and self.named(name) != descriptor.digest):
            return False
        try:
            return self._missing([descriptor]) is None and descriptor.digest in self._reachable()
        except (CorruptBlob, DigestMismatch, InvalidManifest):
            return False  # what is damaged is written anew

    def named(self, tag: str) -> Digest | None:
        """Return the digest of what a tag stands for; None where there is no such tag."""
        if not self._files.is_there():
            return None
        found = self._found(self._index(), tag)
        return found.digest if found else None

    def put(self, document: Manifest | Index, name: str) -> None:
        """Take a manifest under a tag or its digest. What an index refers to needs no entry.

        Raises CorruptBlob where something that it refers to is not there, and OSError.
        """
        with self.writing(), self._files.locked():
            if missing := self._missing(_parts(document)):
                raise _local(CorruptBlob(f"{missing} is missing in {self.path}"))
            place = self._files.blob(document.digest)
            self._files.write([document.raw], lambda _: place)
            index = self._index()
            tag = "" if _digest(name) else name
            if not tag and all(one.digest != document.digest for one in index.manifests):
                self._listed.add(document.digest)
            changed = entered(index, document.descriptor, tag)
            if isinstance(document, Index):
                below = {child.digest for child in document.manifests} & self._listed
                changed = unlisted(changed, below)
            self._save(index, changed)

    def tag(self, name: str, tag: str) -> Descriptor:
        """Give an image another name, in one step; return its descriptor. Raises as `resolve`."""
        self._files.require()
        with self._files.writing(), self._files.locked():
            found = self.resolve(name)
            index = self._index()
            self._save(index, entered(index, found, tag))
            return found

    def untag(self, tag: str) -> None:
        """Take a name away; its image stays. Raises NoSuchImage."""
        self._files.require()
        with self._files.writing(), self._files.locked():
            index = self._index()
            if tag not in names(index):
                raise _no_such(self, tag, index)
            self._save(index, unnamed(index, tag))

    def delete(self, digest: Digest) -> None:
        """Forget an image and its names; `gc` deletes its bytes. Raises NoSuchImage."""
        self._files.require()
        with self._files.writing(), self._files.locked():
            index = self._index()
            if all(entry.digest != digest for entry in index.manifests):
                raise _no_such(self, str(digest), index)
            self._save(index, forgotten(index, digest))

    def gc(
        self,
        *,
        older_than_s: float = DEFAULT_AGE_S,
        untagged: bool = False,
        dry_run: bool = False,
        waiting: Callable[[], None] = _go_on,
    ) -> Swept:
        """Delete blobs that no image of the index refers to, and what broken-off writers left.

        It waits for pushes into the layout that are under way, which tell each other by a lock;
        `waiting` is told of that. A blob younger than `older_than_s` seconds stays: a client of a
        registry on this directory may be about to refer to it. With `untagged`, images without a
        name go too, but for those that refer to one that stays. With `dry_run` nothing goes.

        Raises NoSuchImage, InvalidLayout, and InvalidManifest or DigestMismatch where a manifest
        cannot be read: nobody knows what it refers to.
        """
        self._files.require()
        with self._files.sweeping(waiting), self._files.locked(), _here(self.path):
            before = self._index()
            after = rooted(self._files, before) if untagged else before
            doomed, young = unneeded(self._files, needed(self._files, after), older_than_s)
            if not dry_run:
                self._save(before, after)
                for path in doomed:
                    path.unlink(missing_ok=True)
            left = [
                one for one in left_over(self._files, older_than_s) if discard(one, dry=dry_run)
            ]
            return Swept(len(doomed), sum(doomed.values()), young, len(left))

    # --- Inside

    def _index(self) -> Index:
        self._files.require()
        raw = self._files.read(self._files.index)
        if raw is None:
            raise _local(InvalidLayout(f"{self.path} has no index.json"))
        with _here(self.path):
            return Index.parse(raw, OCI_INDEX)

    def _save(self, before: Index, after: Index) -> None:
        if after.raw != before.raw:
            self._files.write([after.raw], lambda _: self._files.index)

    def _found(self, index: Index, name: str) -> Descriptor | None:
        if _NUMBER.fullmatch(name):
            number = int(name[1:])
            return index.manifests[number] if number < len(index.manifests) else None
        if (digest := _digest(name)) is not None:
            return self._by_digest(index, digest)
        entries = [entry for entry in index.manifests if not name or name_of(entry) == name]
        # Of several with one name the first counts; without a name there must be no choice.
        return (
            entries[0] if entries and (name or len({one.digest for one in entries}) == 1) else None
        )

    def _by_digest(self, index: Index, digest: Digest) -> Descriptor | None:
        for entry in index.manifests:
            if entry.digest == digest:
                return entry
        if self._files.size(digest) is None:
            return None
        return self.document(str(digest)).descriptor

    def _blocks(self, descriptor: Descriptor) -> Generator[bytes, None, None]:
        try:
            file = self._files.open(self._files.blob(descriptor.digest))
        except FileNotFoundError:
            raise _local(
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
            raise _local(
                CorruptBlob(
                    f"blob {descriptor.digest} in {self.path} has {what}, where its descriptor "
                    f"says {descriptor.size}"
                )
            )
        try:
            check(descriptor.digest, Digest.from_hasher(state), self.path)
        except DigestMismatch as error:
            # One of the right size is not written anew: nobody reads all that is there already.
            place = self._files.blob(descriptor.digest)
            raise _local(error, f"delete {place} and {_DAMAGED}") from None

    def _write(
        self,
        blob: Blob,
        watch: Callable[[], None],
        place: Callable[[int], Path],
        seen: Callable[[Block], None] | None = None,
    ) -> None:
        with blob.open() as stream:
            self._files.write(_watched(stream.with_heartbeats(), watch, seen), place)

    def _place(self, described: Descriptor, size: int) -> Path:
        """Return where a blob goes. Raises CorruptBlob where it has another size."""
        if size != described.size:
            raise CorruptBlob(
                f"blob {described.digest} has {size} bytes, where its descriptor says "
                f"{described.size}"
            )
        return self._files.blob(described.digest)

    def _has(self, descriptor: Descriptor) -> bool:
        return self._files.size(descriptor.digest) == descriptor.size

    def _missing(self, wanted: Iterable[Descriptor]) -> Digest | None:
        """Return what is not there of these blobs, and of all below those that are manifests."""
        todo, read = deque(wanted), set[Digest]()
        while todo:
            descriptor = todo.popleft()
            if not self._has(descriptor):
                return descriptor.digest
            is_root = descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES
            if is_root and descriptor.digest not in read:
                read.add(descriptor.digest)
                todo.extend(_parts(self.document(str(descriptor.digest))))
        return None

    def _reachable(self) -> set[Digest]:
        """Return the digests of the manifests that the index names, and of those below them."""
        found: set[Digest] = set()
        todo = list(self._index().manifests)
        while todo:
            descriptor = todo.pop()
            if descriptor.digest in found:
                continue
            found.add(descriptor.digest)
            if descriptor.media_type in INDEX_TYPES and self._has(descriptor):
                document = self.document(str(descriptor.digest))
                todo.extend(document.manifests if isinstance(document, Index) else ())
        return found


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


def _digest(name: str) -> Digest | None:
    """Return the digest that a name is, None of another name."""
    try:
        return Digest.parse(name) if name.startswith(("sha256:", "sha512:")) else None
    except InvalidDigest:
        return None


E = TypeVar("E", bound=BrolgaError)


def _local(error: E, advice: str = _DAMAGED) -> E:
    """Say of an error that it is of this machine, and what to do."""
    error.side = "local"
    error.add_note(advice)
    return error


@contextmanager
def _here(path: Path) -> Iterator[None]:
    """Say of a document that cannot be read where it is."""
    try:
        yield
    except InvalidManifest as error:
        raise _local(InvalidManifest(f"{path}: {error}")) from error
    except DigestMismatch as error:
        raise _local(error) from None


def _no_such(layout: Layout, name: str, index: Index) -> NoSuchImage:
    available = names(index)
    listed = ", ".join(available[:_MAX_LISTED])
    if len(available) > _MAX_LISTED:
        listed += f" and {len(available) - _MAX_LISTED} more"
    count = len(index.manifests)
    if not count:
        return NoSuchImage(f"{layout.path} has no images")
    there = f"it has {listed}" if listed else f"it has {count} without a name: take @0"
    if name:
        return NoSuchImage(f"{layout.path} has no image {name}: {there}", available=available)
    return NoSuchImage(
        f"{layout.path} has {count} images, and none is named: {there}", available=available
    )
