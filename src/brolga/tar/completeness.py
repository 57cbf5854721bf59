"""A tar stream that is watched on its way, so that one cut short is not taken for a whole one.

Knows where a tar's headers stand and where it ends. Must not know what an entry means: `images`
does.

Strategy: a tar has its own end, two blocks of zeros, and a program that dies leaves it out. So the
headers are followed by `tarheaders`, and all data is skipped by its size, unread. `_headers` is a
generator: it yields what it wants next, and is sent that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from brolga.errors import CorruptBlob
from brolga.tar.reader import (
    BLOCK_SIZE,
    KNOWN_KINDS,
    Header,
    is_bare_whiteout,
    is_header,
    printable_name,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.spec.blob import BlockSource

__all__ = ["CompletenessCheck"]

_MAGIC: Final = slice(257, 262)
_USTAR: Final = b"ustar"  # POSIX has a zero behind it, GNU a space

# How many bytes are to be skipped, and how many to be sent then.
_Step: TypeAlias = tuple[int, int]


class CompletenessCheck:
    """The blocks of a source (`sources.BlockSource`), refused where they are no whole tar.

    With `wanted` None only a source is watched that begins as a tar does. What is wanted as a
    layer's tar has no entry of an unknown type, which readers of layers refuse, and nothing behind
    its end, which none of them reads. `on_tar` is called if the source is watched: at its end it is
    a whole tar.
    """

    def __init__(
        self,
        source: BlockSource,
        *,
        wanted: bool | None = None,
        on_tar: Callable[[], object] = bool,
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._on_tar = on_tar
        self._watch: _Progress | None = None
        self._is_first = True

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the next block, as the source does. Raises CorruptBlob for what is no whole tar.

        That is at the source's end, or at the first header that is none.
        """
        block = self._source.next_block(timeout_s)
        if block is None:
            return None
        if self._is_first:
            self._is_first = False
            head = bytes(block[:BLOCK_SIZE])
            if self._wanted or (self._wanted is None and _begins(head)):
                self._watch = _Progress(is_layer=bool(self._wanted))
                self._on_tar()
        if self._watch:
            if block:
                self._watch.add(block)
            else:
                self._watch.end()
        return block

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class _Progress:
    """How far a tar has come."""

    def __init__(self, *, is_layer: bool) -> None:
        self._is_layer = is_layer
        self._headers = _headers(is_layer=is_layer)
        self._skip, self._wants = next(self._headers)
        self._part = b""  # of what is wanted
        self._offset = 0
        self._ended = False

    def add(self, block: memoryview) -> None:
        """Follow the headers in the next bytes. Raises CorruptBlob for what is not valid."""
        at = 0 if self._ended else self._follow(block)
        if self._ended and self._is_layer and (rest := bytes(block[at:])).strip(b"\0"):
            place = self._offset + at + len(rest) - len(rest.lstrip(b"\0"))
            raise _refused(
                f"the source goes on at byte {place}, behind the end of its tar, where no reader "
                "looks: send one tar"
            )
        self._offset += len(block)

    def _follow(self, block: memoryview) -> int:
        """Follow the headers up to the end of a block, or of the tar; return where that is."""
        at, size = self._skip, len(block)
        while at < size:
            piece = bytes(block[at : at + self._wants - len(self._part)])
            part = self._part + piece if self._part else piece
            at += len(piece)
            if len(part) < self._wants:
                self._part = part
                break
            self._part = b""
            try:
                skip, self._wants = self._headers.send(part)
            except StopIteration:
                self._ended = True
                return at
            except CorruptBlob as error:
                place = self._offset + at - len(part)
                raise _refused(f"the source is no whole tar: {error} at byte {place}") from None
            at += skip
        self._skip = at - size
        return size

    def end(self) -> None:
        """Raise CorruptBlob where the tar has not ended."""
        if self._ended:
            return
        if not self._offset:
            raise _refused("the source is empty, where a tar is wanted")
        what = "its end, two blocks of zeros, is missing"
        if self._skip:
            what = f"{self._skip} bytes of an entry are missing"
        elif self._part:
            what = f"{self._wants - len(self._part)} bytes of a header are missing"
        raise _refused(f"the source is a tar cut short: after {self._offset} bytes {what}")


def _refused(text: str) -> CorruptBlob:
    error = CorruptBlob(text)
    error.side = "source"
    return error


def _headers(*, is_layer: bool) -> Generator[_Step, bytes, None]:
    """Ask for each header of a tar; return behind its end."""
    skip = 0
    while True:
        reader = read_header()
        wanted = next(reader)
        try:
            while True:
                data = yield skip, wanted
                skip, wanted = 0, reader.send(data)
        except StopIteration as stop:
            found = stop.value
        if not isinstance(found, Header):
            return
        if is_layer:
            _check_in_layer(found)
        skip = found.size_in_blocks


def _check_in_layer(found: Header) -> None:
    """Raise CorruptBlob for an entry that readers of layers refuse."""
    if found.kind not in KNOWN_KINDS:
        raise CorruptBlob(
            f"the entry {printable_name(found.name)} is of the type {printable_name(found.kind)}, which readers of "
            "layers refuse,"
        )
    if is_bare_whiteout(found.name):
        raise CorruptBlob(f"the whiteout {printable_name(found.name)} names nothing")


def _begins(head: bytes) -> bool:
    """Tell whether a stream that begins so is a tar, or means to be one."""
    return head[_MAGIC] == _USTAR or is_header(head)
