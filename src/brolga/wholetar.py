"""A tar stream that is watched on its way, so that one cut short is not taken for a whole one.

Knows where a tar's headers stand and where it ends. Must not know what an entry means: `images`
does.

Strategy: a tar has its own end, two blocks of zeros, and a program that dies leaves it out. So the
headers are followed, 512 bytes each, and all data is skipped by its size, unread. `_headers` is a
generator: it yields what it wants next, and is sent that. Readers agree on what is followed here;
where they do not, the stream is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from brolga.errors import CorruptBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.sources import BlockSource

__all__ = ["WholeTar"]

_BLOCK: Final = 512  # bytes
_ZEROS: Final = bytes(_BLOCK)
_MAX_EXTENDED: Final = 1 << 20  # bytes of one extended header; Go's readers take no more either
_MAX_DIGITS: Final = 19  # of 2**63
_BASE_256: Final = 0x80  # the first byte of a number that is not in digits

# Places in a header (POSIX pax, ustar Interchange Format; GNU tar manual, Basic Tar Format).
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 136)
_SUM: Final = slice(148, 156)
_TYPE: Final = slice(156, 157)
_MAGIC: Final = slice(257, 262)
_USTAR: Final = b"ustar"  # POSIX has a zero behind it, GNU a space
_SPARSE_GOES_ON: Final = 482
_MORE_SPARSE_GOES_ON: Final = 504

# Types (POSIX ustar and pax, GNU, Solaris), as `tarfile` has them, which is slow to import.
_OLD_FILE: Final = b"\0"  # of Unix V7
_SPARSE: Final = b"S"
# Links, devices, directories, FIFOs: whatever their size says, no data follows them: tarfile and Go
# agree.
_WITHOUT_DATA: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_PAX: Final = frozenset({b"x", b"X"})
# They have data as an entry has, and are none: GNU's long names and links, pax's global header.
_BESIDE: Final = frozenset({b"L", b"K", b"g"})

# How many bytes are to be skipped, and how many to be sent then.
_Wish: TypeAlias = tuple[int, int]


class WholeTar:
    """The blocks of a source (`sources.BlockSource`), refused where they are no whole tar.

    With `wanted` None only a source is watched that begins as a tar does. `on_tar` is called if the
    source is watched: at its end it is a whole tar.
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
        self._watch: _Watch | None = None
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
            head = bytes(block[:_BLOCK])
            if self._wanted or (self._wanted is None and _begins(head)):
                self._watch = _Watch()
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


class _Watch:
    """How far a tar has come."""

    def __init__(self) -> None:
        self._headers = _headers()
        self._skip, self._wants = next(self._headers)
        self._part = b""  # of what is wanted
        self._offset = 0
        self._ended = False

    def add(self, block: memoryview) -> None:
        """Follow the headers in the next bytes. Raises CorruptBlob for what is none."""
        if not self._ended:
            try:
                self._follow(block)
            except StopIteration:
                self._ended = True
        self._offset += len(block)

    def _follow(self, block: memoryview) -> None:
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
            except CorruptBlob as error:
                place = self._offset + at - len(part)
                raise _refused(f"the source is no whole tar: {error} at byte {place}") from None
            at += skip
        self._skip = at - size

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


def _headers() -> Generator[_Wish, bytes, None]:
    """Ask for each header of a tar; return behind its end."""
    skip = 0
    said: int | None = None  # the entry's size, by an extended header
    while True:
        header = yield skip, _BLOCK
        # The magic alone will do: nothing else looks like it where a header is due.
        if header[_MAGIC] != _USTAR and not _is_header(header):
            yield from _end(header)
            return
        kind = header[_TYPE]
        if kind in _WITHOUT_DATA or (kind == _OLD_FILE and _is_directory(header)):
            skip, said = 0, None
            continue
        size = _number(header[_SIZE])
        if kind in _PAX:
            data = yield from _extended(size)
            said = _pax_size(data, said)
            skip = -size % _BLOCK
            continue
        if kind == _SPARSE:
            yield from _sparse(header)
        if said is not None and kind not in _BESIDE:
            size, said = said, None
        skip = size + -size % _BLOCK


def _is_header(header: bytes) -> bool:
    """Tell whether the sum is right: of all bytes, its own field as spaces (POSIX pax, ustar)."""
    try:
        said = _number(header[_SUM])
    except CorruptBlob:
        return False
    summed = header[: _SUM.start] + b" " * 8 + header[_SUM.stop :]
    signed = memoryview(summed).cast("b")  # as some old programs had it
    return said in (sum(summed), sum(signed))


def _is_directory(header: bytes) -> bool:
    """Tell whether an entry of Unix V7, which had no type for them, is a directory."""
    return header[_NAME].partition(b"\0")[0].endswith(b"/")


def _end(block: bytes) -> Generator[_Wish, bytes, None]:
    """Take the two blocks of zeros that a tar ends with. Raises CorruptBlob for any others."""
    if block != _ZEROS:
        raise CorruptBlob("no valid header")
    if (yield 0, _BLOCK) != _ZEROS:
        raise CorruptBlob("one block of zeros, and no second one")


def _extended(size: int) -> Generator[_Wish, bytes, bytes]:
    """Return the data of an extended header."""
    if size > _MAX_EXTENDED:
        raise CorruptBlob(f"an extended header of {size} bytes")
    return (yield 0, size) if size else b""


def _sparse(header: bytes) -> Generator[_Wish, bytes, None]:
    """Go by the rest of a sparse file's map (GNU tar manual, Old GNU Format)."""
    goes_on = header[_SPARSE_GOES_ON]
    while goes_on:
        goes_on = (yield 0, _BLOCK)[_MORE_SPARSE_GOES_ON]


def _pax_size(data: bytes, said: int | None) -> int | None:
    """Return the size that an extended header says, the last one; `said` where it says none."""
    start = 0
    while start < len(data):
        digits, _, _ = data[start : start + _MAX_DIGITS].partition(b" ")
        end = start + _decimal(digits)
        key, _, value = data[start + len(digits) + 1 : end - 1].partition(b"=")
        if not key or data[end - 1 : end] != b"\n":
            raise CorruptBlob("a broken record of an extended header")
        if key == b"size":
            said = _decimal(value) if value else None
        start = end
    return said


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise CorruptBlob("a broken record of an extended header")
    return int(digits)


def _number(field: bytes) -> int:
    """Read octal digits, or a binary number marked by its first bit (GNU tar manual)."""
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise CorruptBlob("no valid header")
    return number


def _begins(head: bytes) -> bool:
    """Tell whether a stream that begins so is a tar, or means to be one."""
    return head[_MAGIC] == _USTAR or (len(head) == _BLOCK and _is_header(head))
