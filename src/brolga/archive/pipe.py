"""An archive that comes down a pipe: its blobs go into a store as they come, in one pass.

Knows which file can go on at once, and which must wait for what tells of it. Must not know which
store it is.

Strategy: what is small and may be a document is kept, within bounds. All else is a blob, and goes
into the store while it is read: a file that is compressed, or nothing that is known, as it is; a
tar is compressed on the way. Which of them an image is made of is told by the documents, which most
writers put last, so it is looked up at the end.

One thing cannot be known in time. A tar below blobs/ is a layer of `docker save` (25 and later), to
be compressed, or one of an OCI archive, to be left as it is; manifest.json, which tells, comes
after it. Unless the form is told it is compressed, since OCI archives seldom have such layers; or
it waits in the spool, where there is one.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from brolga.archive.contents import (
    Contents,
    check_digest,
    claimed,
    kind_of,
    of_the_source,
    path_of,
    peeked,
    too_large,
)
from brolga.archive.docker import MANIFEST, docker_image
from brolga.archive.oci import INDEX, LAYOUT, Layout
from brolga.archive.section import (
    LAYER_BY_KIND,
    Kept,
    Packing,
    Section,
    Spool,
    check_diff_id,
    check_size,
    no_layer,
)
from brolga.archive.sent import SentBlob
from brolga.compression import BLOCK_SIZE
from brolga.decompression import compression_of
from brolga.descriptor import Descriptor
from brolga.errors import CorruptBlob, InvalidManifest, LayerError, excerpt
from brolga.images import BlockStream
from brolga.images.entries import entries
from brolga.manifest import MAX_SIZE
from brolga.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from os import PathLike

    from brolga.archive.contents import Item
    from brolga.blob import Blob, Layer
    from brolga.digest import Digest
    from brolga.images import Tree
    from brolga.images.entries import Entry
    from brolga.sources import BlockSource, Source
    from brolga.store import Target

__all__ = ["FORMS", "check_form", "stream_archive", "tree_of", "whole_is_compressed"]

FORMS: Final = ("", "docker", "oci")
_MAX_KEPT: Final = 32 << 20  # bytes of all documents
_MAX_DOCUMENTS: Final = 10_000
_PATIENCE_S: Final = 1.0  # seconds until an empty block says that nothing came
_BLOB: Final = "application/octet-stream"  # what a blob is before a manifest tells
_DOCUMENTS: Final = frozenset({MANIFEST, INDEX, LAYOUT})


def stream_archive(  # noqa: PLR0913 - what can be chosen about an archive and its layers
    source: Source,
    target: Target,
    *,
    form: str = "",
    name: str = "",
    spool: str | PathLike[str] | bool | None = None,
    compression: str = "gzip",
    level: int | None = None,
    threads: int | None = None,
) -> Tree:
    """Put the blobs of an archive into `target` while it is read; return the image, or index.

    `source` is whatever a layer can be streamed from. `form` is `docker`, `oci` or "" for what it
    shows to be; `name` chooses one of several images. The blobs of all of them go into the target.
    Those that went are `SentBlob`s of the tree, which `Known(target)` takes without a request; its
    configs and documents are still to be pushed: `copy.push(Known(target), tree, tag)`. What is
    missing below an index is an InvalidManifest there, before anything has a name.

    `spool` is a directory (True: the system's) for what cannot be told in one pass; without it that
    is a LayerError, which says what it was. `compression`, `level` and `threads` are for layers
    that are not compressed, as of a `StreamLayer`.

    Raises CorruptBlob for what is no whole tar, DigestMismatch for wrong bytes, InvalidManifest for
    documents that are wrong or name what is not there, SourceError, and what the target raises.
    """
    check_form(form)
    packing = Packing(compression, level, threads)
    room = Spool(spool) if spool else None
    blocks = open_source(source, BLOCK_SIZE)
    with closing(blocks):
        pipe = _Pipe(blocks)
        intake = _Intake(pipe, target, form, packing, room)
        intake.take_all()
    return tree_of(intake.contents, form, name)


def tree_of(contents: Contents, form: str, name: str) -> Tree:
    """Return an image of an archive; what has a manifest.json is Docker's, where nothing is said.

    Raises InvalidManifest where it has not what its form needs.
    """
    with of_the_source():
        if not form and MANIFEST not in contents and INDEX not in contents:
            raise InvalidManifest(
                "no archive of images: it has neither manifest.json nor index.json at its root"
            )
        if form == "docker" or (not form and MANIFEST in contents):
            return docker_image(contents, name)
        return Layout(contents).tree(name)


def check_form(form: str) -> None:
    """Raise ValueError for the name of no form."""
    if form not in FORMS:
        raise ValueError(f"an archive's form is docker or oci, or not said; not {form!r}")


def whole_is_compressed(name: str) -> CorruptBlob:
    """Return the error for an archive that is in gzip or zstd itself."""
    return CorruptBlob(f"the archive is compressed as a whole: stream it out of `{name} -dc`")


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
            if (name := compression_of(bytes(block[:4]))) != "none":
                raise whole_is_compressed(name)
        return block


class _EntryBlocks:
    """An entry's data as blocks of one size: a source that opens itself."""

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


@dataclass(frozen=True)
class _Sent:
    """A file that went into the target as `descriptor`, compressed on the way where it is a tar.

    `diff_id` is what it was before; None where it went as it is.
    """

    path: str
    kind: str
    size: int
    descriptor: Descriptor
    diff_id: Digest | None = None

    def data(self) -> bytes:
        """Raise InvalidManifest: a document is small, and JSON."""
        raise too_large(self.path, self.size)

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return it as the blob that it is.

        Raises DigestMismatch where a link led here from another's name, LayerError where it is
        compressed now.
        """
        check_size(self.size, descriptor)
        if self.diff_id is not None:
            raise LayerError(
                f"the layer {descriptor.digest} is not compressed and came before index.json, so "
                "that it was taken for one of docker save and compressed: say that this is an OCI "
                "archive (oci-archive:), or let --spool keep what cannot be told in one pass"
            )
        check_digest("a file", self.descriptor.digest, descriptor.digest)
        return SentBlob(descriptor)

    def layer(self, diff_id: Digest) -> Layer:
        """Return it as a layer. Raises DigestMismatch where it is known to be another."""
        if self.kind not in {"tar", "gzip", "zstd"}:
            raise no_layer(self.path)
        if self.kind == "tar":
            check_diff_id(self.diff_id or self.descriptor.digest, diff_id)
        return SentBlob(self.descriptor, diff_id)


@dataclass(frozen=True)
class _Passed:
    """A file that is nothing an image is made of."""

    path: str
    kind: str
    size: int

    def data(self) -> bytes:
        """Raise InvalidManifest."""
        raise InvalidManifest(f"{excerpt(self.path)} of the archive is no JSON of bounded size")

    def blob(self, descriptor: Descriptor) -> Blob:
        """Raise InvalidManifest: what it is called is no digest."""
        raise InvalidManifest(f"{excerpt(self.path)} of the archive is not {descriptor.digest}")

    def layer(self, diff_id: Digest) -> Layer:  # noqa: ARG002 - it is none
        """Raise InvalidManifest."""
        raise no_layer(self.path)


class _Intake:
    """What becomes of each entry."""

    def __init__(
        self, pipe: _Pipe, target: Target, form: str, packing: Packing, spool: Spool | None
    ) -> None:
        self.contents = Contents()
        self._pipe = pipe
        self._target = target
        self._form = form
        self._packing = packing
        self._spool = spool
        self._kept = 0  # bytes
        self._documents = 0

    def take_all(self) -> None:
        """Take every entry to the end of the archive."""
        try:
            for entry in entries(self._pipe, needs_end=True):
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
        is_document = file.kind == "json" or file.path in _DOCUMENTS
        if is_document and self._has_room(file.size):
            return self._keep(file)
        if file.path in _DOCUMENTS:
            raise too_large(file.path, file.size)
        if is_document and not file.digest and file.size <= MAX_SIZE:
            raise InvalidManifest(
                f"the archive has more than {_MAX_DOCUMENTS} documents, or {_MAX_KEPT} bytes of "
                "them: no archive of images has so many"
            )
        if file.kind == "tar" and not (self._form == "oci" and file.digest):
            return self._pack(file)
        if file.digest:
            return self._pass_on(file)
        if file.kind in {"gzip", "zstd"} and self._form != "oci":
            layer = self._packing.as_is(_EntryBlocks(self._pipe, file.data), file.kind)
            return _Sent(file.path, file.kind, file.size, self._target.push(layer))
        return _Passed(file.path, file.kind, file.size)

    def _has_room(self, size: int) -> bool:
        return size <= min(MAX_SIZE, _MAX_KEPT - self._kept) and self._documents < _MAX_DOCUMENTS

    def _keep(self, file: _File) -> Kept:
        content = b"".join(file.data)
        self._kept += len(content)
        self._documents += 1
        if file.digest:
            verifier = file.digest.verifier()
            verifier.update(content)
            with of_the_source():
                verifier.verify()
        return Kept(file.path, file.kind, content)

    def _pack(self, file: _File) -> Item:
        """Let a tar be compressed on its way, or wait where nobody can say whether it should."""
        if self._form == "oci":
            return _Passed(file.path, file.kind, file.size)
        if self._packing.compression == "none" and file.digest:
            return self._pass_on(file)
        is_told = self._form or MANIFEST in self.contents or not file.path.startswith("blobs/")
        if self._spool and not is_told:
            return self._spooled(file, self._spool)
        expected = file.digest if file.digest and file.digest.algorithm == "sha256" else None
        layer = self._packing.layer(_EntryBlocks(self._pipe, file.data), expected)
        descriptor = self._target.push(layer)
        return _Sent(file.path, file.kind, file.size, descriptor, layer.diff_id)

    def _spooled(self, file: _File, spool: Spool) -> Section:
        start = spool.size
        passing = _Passing(file.descriptor, file.data)
        with passing.open() as stream:
            for block in stream:
                spool.add(block)
        return Section(file.path, file.kind, spool.file, start, file.size, self._packing)

    def _pass_on(self, file: _File) -> _Sent:
        passing = _Passing(file.descriptor, file.data)
        self._target.push(passing)
        passing.finish()
        return _Sent(file.path, file.kind, file.size, file.descriptor)


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
