"""An archive that comes down a pipe: its blobs go into a store as they come, in one pass.

Knows which file can go on at once, and which must wait for what tells of it. Must not know which
store it is.

Strategy: what is small and may be a document is kept, within bounds: what has a document's signs in
it, and a little of other JSON. All else is a blob, and goes into the store while it is read: a file
that is compressed, or nothing that is known, as it is; a tar is compressed on the way. Which of
them an image is made of is told by the documents, which most writers put last, so it is looked up
at the end.

One thing cannot be known in time. A tar below blobs/ is a layer of `docker save` (25 and later), to
be compressed, or one of an OCI archive, to be left as it is; manifest.json, which tells, comes
after it. It is left as it is where the form is told, or oci-layout or index.json came first, which
Docker never writes in front. Else it is compressed, since OCI archives seldom have such layers; or
it waits in the spool, where there is one.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from brolga.disk.layout import INDEX_FILE, LAYOUT_FILE
from brolga.errors import CorruptBlob, InvalidManifest
from brolga.images import BlockStream
from brolga.spec.descriptor import Descriptor, Platform
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import detect_compression
from brolga.stores.archive.contents import (
    Contents,
    claimed,
    kind_of,
    of_the_source,
    path_of,
    peeked,
    too_large,
)
from brolga.stores.archive.docker import MANIFEST
from brolga.stores.archive.formats import Images, check_form, whole_is_compressed
from brolga.stores.archive.items import Kept, Passed, Sent
from brolga.stores.archive.section import LAYER_BY_KIND, Packing, Section
from brolga.stream.compression import BLOCK_SIZE
from brolga.stream.sources import open_source
from brolga.stream.spool import spool_factory
from brolga.tar.entries import read_entries

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from brolga.images import Tree
    from brolga.spec.blob import BlockSource
    from brolga.spec.digest import Digest
    from brolga.stores.archive.contents import Item
    from brolga.stores.store import WriteStore
    from brolga.stream.sources import Source
    from brolga.stream.spool import Spool, SpoolChoice
    from brolga.tar.entries import Entry

__all__ = ["stream_archive", "stream_images"]

# Bytes that are kept, 32 MiB together: of JSON that no digest names, as index.json is; of what is
# named by its digest and has a document's signs; of other JSON.
_ROOM: Final = {"unnamed": 8 << 20, "signed": 20 << 20, "other": 4 << 20}
_MAX_DOCUMENTS: Final = 10_000
_PATIENCE_S: Final = 1.0  # seconds until an empty block says that nothing came
_BLOB: Final = "application/octet-stream"  # what a blob is before a manifest tells
_DOCUMENTS: Final = frozenset({MANIFEST, INDEX_FILE, LAYOUT_FILE})
# What every manifest and index has, and every config of an image.
_SIGNS: Final = (b'"schemaVersion"', b'"rootfs"')


def stream_archive(  # noqa: PLR0913 - what can be chosen about an archive and its layers
    source: Source,
    target: WriteStore,
    *,
    form: str = "",
    name: str = "",
    platform: Platform | None = None,
    spool: SpoolChoice = False,
    compression: str = "gzip",
    level: int | None = None,
    threads: int | None = None,
) -> Tree:
    """Put the blobs of an archive into `target` while it is read; return the image, or index.

    `source` is whatever a layer can be streamed from. `form` is `docker`, `oci` or "" for what it
    shows to be; `name` chooses one of several images, and `platform` one of those of a name. The
    blobs of all of them go into the target. Those that went are `SentBlob`s of the tree, which
    `Known(target)` takes without a request; its configs and documents are still to be pushed:
    `copy.push(Known(target), tree, tag)`. What is missing below an index is an InvalidManifest
    there, before anything has a name.

    `spool` is a directory (True: the system's) for what cannot be told in one pass; without it that
    is SpoolRequired, which says what it was. `compression`, `level` and `threads` are for layers
    that are not compressed, as of a `StreamLayer`.

    Raises CorruptBlob for what is no whole tar, DigestMismatch for wrong bytes, InvalidManifest for
    documents that are wrong or name what is not there, SourceError, and what the target raises.
    """
    packing = Packing(compression, level, threads)
    return stream_images(source, target, form=form, spool=spool, packing=packing).tree(
        name, platform
    )


def stream_images(
    source: Source,
    target: WriteStore,
    *,
    form: str = "",
    spool: SpoolChoice = False,
    packing: Packing | None = None,
) -> Images:
    """Do as `stream_archive`; return all images of the archive."""
    check_form(form)
    packing = packing or Packing()
    room = spool_factory(spool)
    blocks = open_source(source, BLOCK_SIZE)
    with closing(blocks):
        intake = _Intake(_Pipe(blocks), target, form, packing, room)
        intake.take_all()
    return Images(intake.contents, form)


class _Pipe:
    """The blocks of a source; an empty one where none came in `patience_s` seconds."""

    def __init__(self, source: BlockSource) -> None:
        self.patience_s = _PATIENCE_S
        self._source = source
        self._is_first = True

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        block = self._source.next_block(self.patience_s)
        if block is None:
            return memoryview(b"")
        if not block:
            raise StopIteration
        if self._is_first:
            self._is_first = False
            if (name := detect_compression(bytes(block[:4]))) != "none":
                raise whole_is_compressed(name)
        return block


class _EntryBlocks:
    """An entry's data as blocks of one size: a source that opens itself."""

    runs_user_code = False

    def __init__(self, pipe: _Pipe, data: Iterator[memoryview]) -> None:
        self._pipe = pipe
        self._data = data
        self._rest = memoryview(b"")
        self._end = memoryview(b"")  # known by being this one
        self._block = memoryview(b"")
        self._filled = 0
        self._size = 0

    def open_blocks(self, block_size: int) -> BlockSource:
        self._size = block_size
        return self

    def next_block(self, timeout_s: float) -> memoryview | None:
        self._pipe.patience_s = timeout_s
        try:
            return self._next()
        finally:
            self._pipe.patience_s = _PATIENCE_S

    def _next(self) -> memoryview | None:
        if not self._filled:
            self._block = memoryview(bytearray(self._size))
        while self._filled < self._size:
            piece = self._rest or next(self._data, self._end)
            if piece is self._end:
                break
            if not piece:
                return None
            count = min(len(piece), self._size - self._filled)
            self._block[self._filled : self._filled + count] = piece[:count]
            self._filled, self._rest = self._filled + count, piece[count:]
        block, self._filled = self._block[: self._filled], 0
        return block

    def close(self) -> None:
        """Leave the pipe open: more comes after this entry."""


class _Passing:
    """A blob that comes past once, under a name that is its digest."""

    def __init__(self, descriptor: Descriptor, data: Iterator[memoryview]) -> None:
        self.descriptor = descriptor
        self._blocks = self._verified(data)

    def open(self) -> BlockStream:
        """Open the bytes, for their one reading."""
        return BlockStream(self._blocks)

    def finish(self) -> None:
        """Read what nobody wanted, and hold it against the digest all the same."""
        for _ in self._blocks:
            pass

    def _verified(self, data: Iterator[memoryview]) -> Generator[bytes, None, None]:
        verifier = self.descriptor.digest.verifier()
        for block in data:
            verifier.update(block)
            yield cast("bytes", block)  # nobody asks it for more than a buffer
        with of_the_source():
            verifier.verify()


class _Intake:
    """What becomes of each entry."""

    def __init__(
        self, pipe: _Pipe, target: WriteStore, form: str, packing: Packing, spool: Spool | None
    ) -> None:
        self.contents = Contents()
        self._pipe = pipe
        self._target = target
        self._form = form
        self._packing = packing
        self._spool = spool
        self._room = dict(_ROOM)
        self._documents = 0

    def take_all(self) -> None:
        """Take every entry to the end of the archive."""
        try:
            for entry in read_entries(self._pipe, needs_end=True):
                self._take(entry)
        except (CorruptBlob, InvalidManifest) as error:
            error.side = error.side or "source"  # a store's own errors say what they are
            raise

    def _take(self, entry: Entry) -> None:
        """Take the next entry, of which something may be left unread."""
        path = path_of(entry)
        if entry.is_directory:
            return
        is_twice = path in self.contents
        self.contents.claim(path)
        if entry.link:
            self.contents.link(path, entry)
        elif entry.is_file:
            head, data = peeked(entry.data)
            kind = kind_of(head)
            file = _File(path, kind, entry.size, claimed(path, kind), data)
            if is_twice and file.digest:
                _Passing(file.descriptor, data).finish()
            else:
                self.contents.add(path, self._item(file))

    def _item(self, file: _File) -> Item:
        if (file.kind == "json" or file.path in _DOCUMENTS) and file.size <= MAX_SIZE:
            return self._document(file)
        if file.path in _DOCUMENTS:
            raise too_large(file.path, file.size)
        if file.kind == "tar":
            return self._tar(file)
        if file.digest:
            return self._pass_on(file)
        if file.kind in {"gzip", "zstd"} and self._form != "oci":
            layer = self._packing.as_is(_EntryBlocks(self._pipe, file.data), file.kind)
            return Sent(file.path, file.kind, file.size, self._target.push(layer))
        return Passed(file.path, file.kind, file.size)

    def _document(self, file: _File) -> Item:
        """Keep what may be a document; where there is no room, let it wait or go as a blob."""
        content = b"".join(file.data)
        kind = "signed" if any(sign in content for sign in _SIGNS) else "other"
        kind = kind if file.digest else "unnamed"
        if len(content) <= self._room[kind] and self._documents < _MAX_DOCUMENTS:
            self._room[kind] -= len(content)
            self._documents += 1
            _check(file.digest, content)
            return Kept(file.path, file.kind, content)
        if not file.digest:
            raise InvalidManifest(
                f"the archive has more than {_MAX_DOCUMENTS} documents, or {_ROOM[kind]} bytes of "
                "them that are not named by their digest: no archive of images has so many"
            )
        again = replace(file, data=iter([memoryview(content)]))
        return self._spooled(again, self._spool) if self._spool else self._pass_on(again)

    def _tar(self, file: _File) -> Item:
        """Let a tar be compressed on its way, or wait where nobody can say whether it should."""
        is_docker = self._form == "docker" or MANIFEST in self.contents
        is_oci = self._form == "oci" or (
            not is_docker and (INDEX_FILE in self.contents or LAYOUT_FILE in self.contents)
        )
        if file.digest and (is_oci or self._packing.compression == "none"):
            return self._pass_on(file)
        if self._form == "oci":
            return Passed(file.path, file.kind, file.size)
        if self._spool and file.path.startswith("blobs/") and not is_docker and file.digest:
            return self._spooled(file, self._spool)
        expected = file.digest if file.digest and file.digest.algorithm == "sha256" else None
        layer = self._packing.layer(_EntryBlocks(self._pipe, file.data), expected)
        descriptor = self._target.push(layer)
        return Sent(file.path, file.kind, file.size, descriptor, layer.diff_id)

    def _spooled(self, file: _File, spool: Spool) -> Section:
        start = spool.size
        with _Passing(file.descriptor, file.data).open() as stream:
            for block in stream:
                spool.add(block)
        return Section(file.path, file.kind, spool, start, file.size, self._packing)

    def _pass_on(self, file: _File) -> Sent:
        passing = _Passing(file.descriptor, file.data)
        self._target.push(passing)
        passing.finish()
        return Sent(file.path, file.kind, file.size, file.descriptor)


@dataclass(frozen=True)
class _File:
    """A file of the archive that comes past: what it begins as, and the digest that it claims."""

    path: str
    kind: str
    size: int
    digest: Digest | None
    data: Iterator[memoryview]

    @property
    def descriptor(self) -> Descriptor:
        """What it is as a blob, where it claims a digest."""
        assert self.digest  # noqa: S101 - for mypy
        return Descriptor(LAYER_BY_KIND.get(self.kind, _BLOB), self.digest, self.size)


def _check(digest: Digest | None, content: bytes) -> None:
    """Raise DigestMismatch for a file that is not what its name claims."""
    if digest:
        with of_the_source():
            verifier = digest.verifier()
            verifier.update(content)
            verifier.verify()
