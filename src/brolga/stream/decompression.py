"""Decompress a stream block by block, within limits.

The first bytes tell the compression, as a media type may be wrong. Input is fed in small pieces and
output taken in blocks of bounded size, so memory does not depend on the stream. A stream is one or
more gzip members (RFC 1952, section 2.2) or zstd frames (RFC 8878, section 3.1), nothing else.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from brolga.errors import CorruptBlob
from brolga.spec.mediatypes import detect_compression
from brolga.spec.value import Value
from brolga.stream.compression import ZLIB_MODULES, ZSTD_MODULES, import_first

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from brolga.spec.blob import Block

_BLOCK_SIZE: Final = 1 << 20  # bytes of output at a time
_HEAD_SIZE: Final = 4  # bytes that `detect_compression` needs
_GZIP_FLAGS: Final = slice(3, 4)  # section 2.3.1: FLG
_MAX_ONE_FIELD: Final = frozenset({b"\x00", b"\x04", b"\x08", b"\x10"})  # no flag, or one
_GZIP_WINDOW: Final = 31  # zlib: the largest window, and a gzip header
# The libraries copy the rest of a piece when a member ends: large pieces of tiny members would be
# copied thousands of times. So a member begins with a small piece, and each next one is larger, as
# other threads wait for Python's lock after each piece.
_LEAST_PIECE: Final = 1 << 14  # bytes
_MAX_PIECE: Final = 1 << 17


class Limits(Value):
    """Limits of the uncompressed size; None means unlimited.

    `size` is the maximum in bytes. `ratio` is the maximum for each compressed byte, once more than
    `grace` bytes came out. The default ratio is above deflate's maximum of 1,032. zstd reaches
    32,000 on zeros, as in disk images; 4 GiB of them take seconds.
    """

    size: int | None = 1 << 40
    ratio: int | None = 1100
    grace: int = 4 << 30


DEFAULT_LIMITS: Final = Limits()


def decompress(
    blocks: Iterable[Block], limits: Limits = DEFAULT_LIMITS, compression: str | None = None
) -> Generator[Block, None, None]:
    """Yield the uncompressed bytes of a stream, in blocks of at most 1 MiB except for `none`.

    `compression` None is detected from the first bytes. Raises CorruptBlob for a stream that is
    invalid, truncated, followed by other bytes, over the limits, or not of its `compression`.
    """
    counter = _LimitCheck(limits)
    rest, head = iter(blocks), b""
    for block in rest:
        head += block
        if len(head) >= _HEAD_SIZE:
            break
    rest = chain([head], rest)
    name = detect_compression(head)
    if compression not in {None, "none", name}:
        raise CorruptBlob(f"the bytes are not {compression}, though their media type says so")
    name = compression or name
    out: Iterator[Block]
    if name == "none":
        out = counter.count_input(rest)
    else:
        out = _decompress_members(_FORMATS[name](), counter, rest)
    for block in out:
        counter.count_output(len(block))
        if block:
            yield block


class _LimitCheck:
    """Counts bytes in and out, and checks the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.read = 0
        self.written = 0

    def count_input(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            self.read += len(block)
            yield block

    def count_output(self, count: int) -> None:
        self.written += count
        size, ratio, grace = self._limits.size, self._limits.ratio, self._limits.grace
        if size is not None and self.written > size:
            raise CorruptBlob(
                f"more than {size} bytes uncompressed, which is the limit: raise it if you trust "
                "the blob"
            )
        if ratio is not None and self.written > max(grace, ratio * self.read):
            raise CorruptBlob(
                f"{self.read} bytes grew to {self.written}, more than {ratio} for each: raise "
                "the limit if you trust the blob"
            )


class _Inflater(Protocol):
    """The decompressor of one member or frame, in each of the libraries."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Block, max_length: int, /) -> bytes: ...


class _Format(Value):
    """`new` returns a decompressor for a member or frame that begins with the given bytes."""

    name: str
    new: Callable[[Block], _Inflater]
    errors: tuple[type[Exception], ...]


def _gzip() -> _Format:
    fast = import_first("isal.isal_zlib", *ZLIB_MODULES)
    reliable = import_first(*ZLIB_MODULES)

    def new(head: Block) -> _Inflater:
        # isal (1.9) takes a header of several optional fields for data if pieces cut it.
        library = fast if bytes(head[_GZIP_FLAGS]) in _MAX_ONE_FIELD else reliable
        inflater: _Inflater = library.decompressobj(_GZIP_WINDOW)
        return inflater

    return _Format("gzip", new, (fast.error, reliable.error))


def _zstd() -> _Format:
    library = import_first(*ZSTD_MODULES)
    return _Format("zstd", lambda _head: library.ZstdDecompressor(), (library.ZstdError,))


_FORMATS: Final[dict[str, Callable[[], _Format]]] = {"gzip": _gzip, "zstd": _zstd}


def _decompress_members(
    format_: _Format, counter: _LimitCheck, blocks: Iterable[Block]
) -> Iterator[bytes]:
    ended, size = True, _LEAST_PIECE
    for block in blocks:
        rest = memoryview(block)
        while rest:
            piece = rest[:size]
            counter.read += len(piece)
            if ended:
                stream = format_.new(piece)
            try:
                yield from _decompress_piece(stream, piece)
            except format_.errors as error:
                raise CorruptBlob(
                    f"no valid {format_.name} within {counter.read} bytes, {counter.written} "
                    f"uncompressed: {error}"
                ) from error
            ended = stream.eof
            unused = len(stream.unused_data) if ended else 0
            counter.read -= unused
            rest = rest[len(piece) - unused :]
            size = _LEAST_PIECE if ended else min(2 * size, _MAX_PIECE)
    if not ended:
        raise CorruptBlob(
            f"the {format_.name} stream is cut short: it ends in the middle after {counter.read} "
            f"bytes, {counter.written} uncompressed"
        )


def _decompress_piece(stream: _Inflater, data: Block) -> Iterator[bytes]:
    """Yield the output of one piece, in blocks of bounded size, some of them empty."""
    while not stream.eof:
        out = stream.decompress(data, _BLOCK_SIZE)
        # zlib returns the input that it did not use; zstd keeps it.
        data = getattr(stream, "unconsumed_tail", b"")
        if not out and not data:
            break
        yield out
