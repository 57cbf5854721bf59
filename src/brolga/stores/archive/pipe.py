"""An archive from a pipe: its blobs are pushed into a store as they come, in one pass.

Small JSON files are buffered within `ArchiveLimits`, because they may be manifests or configs.
Everything else is pushed as a blob while it is read. Most writers put the documents last, so the
image is put together at the end.
"""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from brolga.disk.layout import INDEX_FILE, LAYOUT_FILE
from brolga.errors import CorruptBlob, InvalidManifest, SourceError
from brolga.spec.json import MAX_SIZE
from brolga.spec.value import replace
from brolga.stores.archive.contents import ArchiveLimits, Contents, document_too_large
from brolga.stores.archive.docker import MANIFEST
from brolga.stores.archive.entries import (
    BufferedEntry,
    CompressionOptions,
    FileRange,
    IgnoredEntry,
    PushedEntry,
)
from brolga.stores.archive.formats import Images, check_form, check_not_compressed
from brolga.stream.compression import BLOCK_SIZE
from brolga.stream.sources import bind_source, open_source
from brolga.stream.spool import open_spool
from brolga.stream.worker import current_stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.spec.blob import BlockSource, Layer
    from brolga.spec.descriptor import Descriptor
    from brolga.stores.archive.contents import ArchiveEntry, TarFile
    from brolga.stores.store import WriteStore
    from brolga.stream.async_sources import AsyncSource
    from brolga.stream.sources import Source
    from brolga.stream.spool import Spool, SpoolChoice


_WAIT_S: Final = 1.0  # seconds until an empty block says that nothing came
_DOCUMENTS: Final = frozenset({MANIFEST, INDEX_FILE, LAYOUT_FILE})
# Every manifest and index has the first, and every image config the second.
_DOCUMENT_MEMBERS: Final = (b'"schemaVersion"', b'"rootfs"')


class ArchiveStream:
    """An archive of images that is read once, as a `store.OnePassStore`.

    `source` is the path of a pipe, `-` for stdin, or any source of a layer. `form` is `docker`,
    `oci` or "" to detect it. `spool` is a directory (True: the system's) for files that one pass
    cannot decide about; without it such a file raises SpoolRequired. `compression`, `level` and
    `threads` are for layers that are not compressed, as in `StreamLayer`.
    """

    mount_source: Final = None

    def __init__(  # noqa: PLR0913 - the options of an archive and of its layers
        self,
        source: Source | AsyncSource,
        form: str = "",
        *,
        spool: SpoolChoice = False,
        compression: str = "gzip",
        level: int | None = None,
        threads: int | None = None,
        limits: ArchiveLimits | None = None,
    ) -> None:
        check_form(form)
        self._source = bind_source(source)
        self._form = form
        self._spool = spool
        self._compression = CompressionOptions(compression, level, threads)
        self._limits = limits or ArchiveLimits()

    def stream_into(self, target: WriteStore) -> Images:
        """Push every blob to `target` while reading; return the images, of `PushedBlob`s."""
        spool = open_spool(self._spool)
        with self._open() as source, closing(open_source(source, BLOCK_SIZE)) as opened:
            blocks = _SourceBlocks(opened)
            receiver = _Receiver(
                blocks,
                target,
                self._form,
                compression=self._compression,
                spool=spool,
                limits=self._limits,
            )
            receiver.receive()
        return Images(receiver.contents, self._form)

    @contextmanager
    def _open(self) -> Iterator[Source]:
        if not isinstance(self._source, str):
            yield self._source
            return
        if self._source == "-":
            if sys.stdin is None or sys.stdin.closed:
                raise SourceError("stdin is closed")
            yield sys.stdin.buffer
            return
        try:
            file = open(self._source, "rb")  # noqa: PTH123, SIM115 - closed below
        except OSError as error:
            raise SourceError(f"cannot open the archive: {error}") from error
        with file:
            yield file


class _SourceBlocks:
    """The blocks of a source; an empty block if none came in `timeout_s` seconds."""

    def __init__(self, source: BlockSource) -> None:
        self.timeout_s = _WAIT_S
        self._source = source
        self._is_first = True

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        current_stop().check()
        block = self._source.next_block(self.timeout_s)
        if block is None:
            return memoryview(b"")
        if not block:
            raise StopIteration
        if self._is_first:
            self._is_first = False
            check_not_compressed(bytes(block[:4]))
        return block


class _EntryBlocks:
    """The data of an entry as blocks of one size, a source of a layer."""

    runs_user_code = False

    def __init__(self, blocks: _SourceBlocks, data: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._data = data
        self._rest = memoryview(b"")
        self._end = memoryview(b"")  # compared by identity
        self._block = memoryview(b"")
        self._filled = 0
        self._size = 0

    def open_blocks(self, block_size: int) -> BlockSource:
        self._size = block_size
        return self

    def next_block(self, timeout_s: float) -> memoryview | None:
        if not self._filled:
            self._block = memoryview(bytearray(self._size))
        self._blocks.timeout_s = timeout_s
        try:
            while self._filled < self._size:
                piece = self._rest or next(self._data, self._end)
                if piece is self._end:
                    break
                if not piece:
                    return None
                count = min(len(piece), self._size - self._filled)
                self._block[self._filled : self._filled + count] = piece[:count]
                self._filled, self._rest = self._filled + count, piece[count:]
        finally:
            self._blocks.timeout_s = _WAIT_S
        block, self._filled = self._block[: self._filled], 0
        return block

    def close(self) -> None:
        """Leave the pipe open: more entries follow."""


class _Receiver:
    """Turns each file of an archive into an ArchiveEntry, and pushes the blobs."""

    def __init__(  # noqa: PLR0913 - where from, where to, and how
        self,
        blocks: _SourceBlocks,
        target: WriteStore,
        form: str,
        *,
        compression: CompressionOptions,
        spool: Spool | None,
        limits: ArchiveLimits,
    ) -> None:
        self.blocks = blocks
        self.target = target
        self.form = form
        self.compression = compression
        self.spool = spool
        self.limits = limits
        self.contents = Contents(limits)
        self._documents = 0
        self._free = {  # bytes
            "unnamed": limits.unnamed_json,
            "manifest": limits.manifests,
            "other": limits.other_json,
        }

    def receive(self) -> None:
        """Read the archive to its end."""
        try:
            for file in self.contents.read_files(self.blocks):
                if file.is_duplicate and file.digest:
                    file.finish()
                else:
                    self.contents.add(file.path, self._receive_file(file))
        except (CorruptBlob, InvalidManifest) as error:
            error.side = error.side or "source"  # a store's own errors have a side
            raise

    def _receive_file(self, file: TarFile) -> ArchiveEntry:
        if (file.kind == "json" or file.path in _DOCUMENTS) and file.size <= MAX_SIZE:
            return self._receive_document(file)
        if file.path in _DOCUMENTS:
            raise document_too_large(file.path, file.size)
        if file.kind == "tar":
            return self._receive_tar(file)
        if file.digest:
            return self._push(file)
        if file.kind in {"gzip", "zstd"} and self.form != "oci":
            source = _EntryBlocks(self.blocks, file.data)
            layer = self.compression.stored_layer(source, file.kind)
            return self._pushed_entry(file, self.target.push(layer))
        return IgnoredEntry(file.path, file.kind)

    def _receive_document(self, file: TarFile) -> ArchiveEntry:
        """Buffer what may be a document; beyond the limits, spool or push it if it has a digest."""
        content = b"".join(file.data)
        kind = "unnamed"
        if file.digest:
            is_document = any(member in content for member in _DOCUMENT_MEMBERS)
            kind = "manifest" if is_document else "other"
        file = replace(file, data=iter([memoryview(content)]))
        if len(content) <= self._free[kind] and self._documents < self.limits.documents:
            self._free[kind] -= len(content)
            self._documents += 1
            if file.digest:
                file.finish()
            return BufferedEntry(file.path, file.kind, content)
        if not file.digest:
            raise InvalidManifest(
                f"the archive has more than {self.limits.documents} documents, or "
                f"{self.limits.unnamed_json} bytes of them that are not named by their digest: "
                "no archive of images has so many"
            )
        return self._add_to_spool(file, self.spool) if self.spool else self._push(file)

    def _receive_tar(self, file: TarFile) -> ArchiveEntry:
        """Push a tar as it is if it belongs to an OCI archive, else compress it on the way.

        A tar below blobs/ can be a layer of `docker save` (25 and later), to be compressed, or of
        an OCI archive, to be left as it is. If neither `form` nor an earlier file shows which, it
        waits in the spool. Without a spool it is compressed: OCI archives seldom have such layers.
        """
        form = self.form
        if not form and MANIFEST in self.contents:
            form = "docker"
        elif not form and (INDEX_FILE in self.contents or LAYOUT_FILE in self.contents):
            form = "oci"
        if file.digest:
            if form == "oci" or self.compression.compression == "none":
                return self._push(file)
            if self.spool and form != "docker" and file.path.startswith("blobs/"):
                return self._add_to_spool(file, self.spool)
        elif self.form == "oci":
            return IgnoredEntry(file.path, file.kind)
        expected = file.digest if file.digest and file.digest.algorithm == "sha256" else None
        source = _EntryBlocks(self.blocks, file.data)
        layer = self.compression.compressed_layer(source, expected)
        return self._pushed_entry(file, self.target.push(layer), layer)

    def _add_to_spool(self, file: TarFile, spool: Spool) -> FileRange:
        start = spool.size
        with file.open() as stream:
            for block in stream:
                spool.add(block)
        return FileRange(file.path, file.kind, spool, start, file.size, self.compression)

    def _push(self, file: TarFile) -> PushedEntry:
        self.target.push(file)
        file.finish()
        return self._pushed_entry(file, file.descriptor)

    def _pushed_entry(
        self, file: TarFile, descriptor: Descriptor, layer: Layer | None = None
    ) -> PushedEntry:
        diff_id = None if layer is None else layer.diff_id
        return PushedEntry(file.path, file.kind, file.size, self.target, descriptor, diff_id)
