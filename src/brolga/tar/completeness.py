"""Check that a source which is a tar is a complete one.

A program that dies leaves out the end of its tar, two blocks of zeros. So the headers are read as
the blocks pass by; an entry's data is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.errors import CorruptBlob
from brolga.tar import reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.blob import BlockSource


class CompletenessCheck:
    """The blocks of a source (`sources.BlockSource`), checked to be a complete tar.

    If `is_layer` is None, only a source that begins like a tar is checked. A layer's tar must not
    have entries of an unknown type, which readers of layers refuse, or bytes after its end, which
    they ignore. `on_tar` is called if the source is checked.
    """

    def __init__(
        self,
        source: BlockSource,
        *,
        is_layer: bool | None = None,
        on_tar: Callable[[], object] = bool,
    ) -> None:
        self._source = source
        self._is_layer = is_layer
        self._on_tar = on_tar
        self._progress: _Progress | None = None
        self._is_first = True

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the source's next block. Raises CorruptBlob if it is not a complete tar."""
        block = self._source.next_block(timeout_s)
        if block is None:
            return None
        if self._is_first:
            self._is_first = False
            is_layer, head = self._is_layer, bytes(block[: reader.BLOCK_SIZE])
            if is_layer or (is_layer is None and reader.begins_tar(head)):
                self._progress = _Progress(is_layer=bool(is_layer))
                self._on_tar()
        if self._progress:
            if block:
                self._progress.add(block)
            else:
                self._progress.finish()
        return block

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class _Progress:
    """The position in a tar that comes in blocks."""

    def __init__(self, *, is_layer: bool) -> None:
        self._is_layer = is_layer
        self._skip = 0
        self._part = b""  # of the bytes needed
        self._offset = 0
        self._has_ended = False
        self._start_entry()

    def _start_entry(self) -> None:
        self._is_at_entry = True
        self._headers = reader.read_header()
        self._needed = next(self._headers)

    def add(self, block: memoryview) -> None:
        """Read the headers in the next bytes. Raises CorruptBlob if one is not valid."""
        at = 0 if self._has_ended else self._follow(block)
        if self._has_ended and self._is_layer and (rest := bytes(block[at:])).strip(b"\0"):
            place = self._offset + at + len(rest) - len(rest.lstrip(b"\0"))
            raise CorruptBlob(
                f"the source goes on at byte {place}, after the end of its tar, where no reader "
                "looks: send one tar",
                side="source",
            )
        self._offset += len(block)

    def _follow(self, block: memoryview) -> int:
        """Read headers up to the end of a block or of the tar; return the position of that."""
        at, size = self._skip, len(block)
        while at < size and not self._has_ended:
            if self._is_at_entry and (entry_size := self._measure_plain_entry(block, at)):
                at += entry_size
                continue
            piece = bytes(block[at : at + self._needed - len(self._part)])
            at += len(piece)
            at += self._read(piece, at)
        if self._has_ended:
            return at
        self._skip = at - size
        return size

    def _measure_plain_entry(self, block: memoryview, at: int) -> int | None:
        """Return the size of the entry at `at`, or None if its headers must be read one by one."""
        head = bytes(block[at : at + reader.PLAIN_SIZE])
        if self._is_layer and b".wh." in head:
            return None
        return reader.measure_plain_entry(head)

    def _read(self, piece: bytes, at: int) -> int:
        """Read a piece of a header that ends at `at`; return how many bytes to skip then."""
        self._is_at_entry = False
        part, self._part = self._part + piece, b""
        if len(part) < self._needed:
            self._part = part
            return 0
        try:
            return self._send(part)
        except CorruptBlob as error:
            place = self._offset + at - len(part)
            raise CorruptBlob(
                f"the source is not a complete tar: {error} at byte {place}", side="source"
            ) from None

    def _send(self, part: bytes) -> int:
        """Send the bytes needed; return the size of the data if that completes the headers."""
        try:
            self._needed = self._headers.send(part)
        except StopIteration as stop:
            header = stop.value
        else:
            return 0
        if not isinstance(header, reader.Header):
            self._has_ended = True
            return 0
        if self._is_layer:
            _check_readable(header)
        self._start_entry()
        return header.size_in_blocks

    def finish(self) -> None:
        """Raise CorruptBlob if the tar has not ended."""
        if self._has_ended:
            return
        if not self._offset:
            raise CorruptBlob("the source is empty, but must be a tar", side="source")
        missing = "its end, two blocks of zeros, is missing"
        if self._skip:
            missing = f"{self._skip} bytes of an entry are missing"
        elif self._part:
            missing = f"{self._needed - len(self._part)} bytes of a header are missing"
        raise CorruptBlob(
            f"the source is a tar cut short: after {self._offset} bytes {missing}", side="source"
        )


def _check_readable(header: reader.Header) -> None:
    """Raise CorruptBlob for an entry that readers of layers refuse."""
    if header.kind not in reader.KNOWN_KINDS:
        raise CorruptBlob(
            f"the entry {reader.printable_name(header.name)} is of the type "
            f"{reader.printable_name(header.kind)}, which readers of layers refuse,"
        )
    reader.check_whiteout(header.name)
