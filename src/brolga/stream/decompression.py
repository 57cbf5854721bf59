"""How a compressed stream becomes the bytes in it, block by block.

Knows gzip, zstd, their libraries, and when a stream grows too much. Must not know media types,
archives, hashes, or where the bytes come from.

Strategy: the first bytes tell the compression, as a media type may be wrong. Input is fed in small
pieces and output taken in blocks of bounded size, so memory does not depend on what is in the
stream. A gzip stream is one member or more (RFC 1952, section 2.2), a zstd stream one frame or more
(RFC 8878, section 3.1); anything else after one of them is an error, and so is an end in the
middle.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

from brolga.errors import CorruptBlob
from brolga.spec.mediatypes import detect_compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.spec.blob import Block

__all__ = [
    "DEFAULT_LIMITS",
    "UNLIMITED",
    "Limits",
    "decompress",
]

_BLOCK_SIZE: Final = 1 << 20  # bytes of output at a time
_HEAD_SIZE: Final = 4  # bytes that `detect_compression` needs
_GZIP_FLAGS: Final = slice(3, 4)  # section 2.3.1: FLG
_ONE_FIELD: Final = frozenset({b"\x00", b"\x04", b"\x08", b"\x10"})  # none, or one of them
_GZIP_WINDOW: Final = 31  # zlib: the largest window, and a gzip header
# The libraries copy what is left of a piece whenever a member ends. Large pieces of tiny members
# would be copied thousands of times.
_PIECE_SIZE: Final = 1 << 14  # bytes


@dataclass(frozen=True)
class Limits:
    """How much a stream may grow; None is no limit.

    `size` is the most uncompressed bytes. `ratio` is the most of them for each compressed byte,
    and counts when more than `grace` bytes came out.

    The defaults: deflate cannot give more than 1,032 for 1, so no gzip reaches the ratio. zstd
    gives 32,000 for 1 where a file holds zeros alone, as a disk image may; 4 GiB of that take
    seconds.
    """

    size: int | None = 1 << 40
    ratio: int | None = 1100
    grace: int = 4 << 30


DEFAULT_LIMITS: Final = Limits()
UNLIMITED: Final = Limits(None, None)


def decompress(
    blocks: Iterable[Block], limits: Limits = DEFAULT_LIMITS, compression: str | None = None
) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a stream, in blocks of at most 1 MiB but for `none`.

    `compression` is what the stream is known to be; None is what its first bytes tell.

    Raises CorruptBlob for a stream that is broken, ends in the middle, goes on after its end,
    grows beyond the limits, or is not of its `compression`.
    """
    gauge = _Gauge(limits)
    head, rest = _peeked(iter(blocks))
    name = detect_compression(head)
    if compression not in {None, "none", name}:
        raise CorruptBlob(f"the bytes are not {compression}, though their media type says so")
    name = compression or name
    out: Iterator[bytes]
    if name == "none":
        out = map(bytes, gauge.reading(rest))
    else:
        out = _expanded(_FORMATS[name](), gauge, gauge.reading(_pieces(rest)))
    for block in filter(None, out):
        gauge.wrote(len(block))
        yield block


class _Gauge:
    """How many bytes went in and came out, held against the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.read = 0
        self.written = 0

    def reading(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            self.read += len(block)
            yield block

    def wrote(self, count: int) -> None:
        self.written += count
        size, ratio = self._limits.size, self._limits.ratio
        if size is not None and self.written > size:
            raise CorruptBlob(
                f"more than {size} bytes uncompressed, which is the limit: raise it if the blob "
                "is to be trusted"
            )
        if (
            ratio is not None
            and self.written > self._limits.grace
            and self.written > ratio * self.read
        ):
            raise CorruptBlob(
                f"{self.read} bytes grew to {self.written}, more than {ratio} for each: raise "
                "the limit if the blob is to be trusted"
            )


class _Inflater(Protocol):
    """What the libraries' objects for one member or frame share."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Block, max_length: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Format:
    """`new` returns what takes a member or frame that begins with the given bytes."""

    name: str
    new: Callable[[Block], _Inflater]
    errors: tuple[type[Exception], ...]


def _gzip() -> _Format:
    fast = _first("isal.isal_zlib", "zlib_ng.zlib_ng", "zlib")
    sure = _first("zlib_ng.zlib_ng", "zlib")

    def new(head: Block) -> _Inflater:
        # isal (1.9) takes a header of several optional fields for data where pieces cut it.
        library = fast if bytes(head[_GZIP_FLAGS]) in _ONE_FIELD else sure
        inflater: _Inflater = library.decompressobj(_GZIP_WINDOW)
        return inflater

    return _Format("gzip", new, (fast.error, sure.error))


def _zstd() -> _Format:
    library = _first("compression.zstd", "backports.zstd")
    return _Format("zstd", lambda _head: library.ZstdDecompressor(), (library.ZstdError,))


_FORMATS: Final[dict[str, Callable[[], _Format]]] = {"gzip": _gzip, "zstd": _zstd}


def _first(*names: str) -> Any:  # noqa: ANN401 - a module
    """Return the first of the modules that is here; the last one is."""
    for name in names[:-1]:
        with suppress(ImportError):
            return import_module(name)
    return import_module(names[-1])


def _peeked(blocks: Iterator[Block]) -> tuple[bytes, Iterator[Block]]:
    """Return a beginning that is long enough to tell the compression, and all of the stream."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= _HEAD_SIZE:
            break
    return head, chain([head], blocks)


def _pieces(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        view = memoryview(block)
        for start in range(0, len(view), _PIECE_SIZE):
            yield view[start : start + _PIECE_SIZE]


def _expanded(form: _Format, gauge: _Gauge, pieces: Iterable[Block]) -> Iterator[bytes]:
    """Yield what is in one member or frame after the other."""
    ended = True
    for piece in pieces:
        rest = piece
        while rest:
            if ended:
                stream = form.new(rest)
            try:
                yield from _outputs(stream, rest)
            except form.errors as error:
                raise CorruptBlob(
                    f"no valid {form.name} within {gauge.read} bytes, {gauge.written} "
                    f"uncompressed: {error}"
                ) from error
            ended = stream.eof
            rest = stream.unused_data if ended else b""
    if not ended:
        raise CorruptBlob(
            f"the {form.name} stream is cut short: it ends in the middle after {gauge.read} "
            f"bytes, {gauge.written} uncompressed"
        )


def _outputs(stream: _Inflater, data: Block) -> Iterator[bytes]:
    """Yield all that one piece gives, in blocks of bounded size, some of them empty."""
    while not stream.eof:
        out = stream.decompress(data, _BLOCK_SIZE)
        # zlib gives back what it did not come to; zstd keeps it.
        data = getattr(stream, "unconsumed_tail", b"")
        if not out and not data:
            break
        yield out
