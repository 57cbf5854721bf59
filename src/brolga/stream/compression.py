"""How a stream of blocks becomes a compressed stream, block by block.

Knows gzip, zstd and their libraries. Must not know hashes, nor where bytes go.

Strategy: a codec cuts the stream into blocks of `BLOCK_SIZE` and encodes each one by a pure
function of the block and the 32 KiB before it, so that any number of threads may encode at once
and the joined output is the same bytes for every number of them. What comes before the first
block is `head`; what comes after the last is told by a `Trailer`, which sees every block in order.

The output depends on the codec, the level, the library's version and, with isal, the processor's
vector instructions. It does not depend on threads, on time, or on how the source cuts its bytes.

- gzip (RFC 1952): one member. Each block is raw deflate primed with the window before it and ended
  by a sync flush, as pigz does, so every reader takes the whole as one stream.
- zstd (RFC 8878): one frame a block. Readers take joined frames as one stream (section 3.1).
- none: the bytes themselves.
"""

from __future__ import annotations

import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.blob import Block

__all__ = ["BLOCK_SIZE", "WINDOW_SIZE", "Codec", "Trailer", "codec_for", "parse_compression"]

BLOCK_SIZE = 1 << 20  # bytes; part of the output format: other blocks give other bytes
WINDOW_SIZE = 1 << 15  # bytes; what deflate can look back (RFC 1951, section 2)

_Deflater: TypeAlias = "tuple[Callable[[Block, Block], bytes], Callable[[Block, int], int]]"

# RFC 1952, section 2.3: deflate, no flags, no time, no name, unknown system.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# An empty last block with fixed codes (RFC 1951, section 3.2.6): it ends the deflate stream.
_DEFLATE_END = b"\x03\x00"
_ISAL_LEVELS = range(1, 4)
_ISAL_ROOM = BLOCK_SIZE + BLOCK_SIZE // 8  # bytes; what does not compress is stored, 0.01 % larger

_LEVELS = {"gzip": range(1, 10), "zstd": range(1, 23), "none": range(1)}
_DEFAULT_LEVEL = {"gzip": 1, "zstd": 3, "none": 0}


class Trailer(Protocol):
    """What a codec must know of the whole stream to end it."""

    def update(self, block: Block, /) -> None:
        """Take the next uncompressed block, in order."""

    def end(self) -> bytes:
        """Return the bytes that end the compressed stream."""


@dataclass(frozen=True)
class Codec:
    """One way to compress.

    `encode(block, window)` is pure and releases the GIL; `window` is the last 32 KiB before the
    block. `encode` is None where the compressed stream is the stream itself.
    """

    name: str
    level: int
    head: bytes
    encode: Callable[[Block, Block], bytes] | None
    trailer: Callable[[], Trailer]


def parse_compression(text: str) -> tuple[str, int | None]:
    """Split `NAME[:LEVEL]` as the command line gives it.

    Raises ValueError where the name or the level is none.
    """
    name, colon, digits = text.partition(":")
    if colon and not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"compression {text!r}: the level {digits!r} is not a number")
    level = int(digits) if colon else None
    codec_for(name, level)
    return name, level


def codec_for(name: str, level: int | None = None) -> Codec:
    """Return the codec `gzip`, `zstd` or `none`; `level` None is its default.

    Raises ValueError for another name, or a level that the codec has not.
    """
    levels = _LEVELS.get(name)
    if levels is None:
        raise ValueError(f"compression {name!r} is not one of {', '.join(_LEVELS)}")
    if level is None:
        level = _DEFAULT_LEVEL[name]
    elif name == "none":
        raise ValueError("compression none has no level")
    elif level not in levels:
        raise ValueError(f"{name} has levels {levels[0]} to {levels[-1]}, not {level}")
    return _CODECS[name](level)


def _gzip(level: int) -> Codec:
    deflate, crc32 = _deflater(level)
    return Codec("gzip", level, _GZIP_HEAD, deflate, partial(_GzipTrailer, crc32))


def _zstd(level: int) -> Codec:
    # Frames of their own, not libzstd's threads: at level 3 on 2 cores 1.25 times the rate and a
    # few MiB instead of some tens, for output 2 % larger (benchmarks/kernels.py).
    try:
        zstd = import_module("compression.zstd")  # Python 3.14
    except ImportError:
        zstd = import_module("backports.zstd")

    def frame(block: Block, _window: Block = b"") -> bytes:
        return bytes(zstd.compress(block, level))

    return Codec("zstd", level, b"", frame, partial(_ZstdTrailer, frame(b"")))


def _none(level: int) -> Codec:
    return Codec("none", level, b"", None, _NoTrailer)


_CODECS: dict[str, Callable[[int], Codec]] = {"gzip": _gzip, "zstd": _zstd, "none": _none}


def _deflater(level: int) -> _Deflater:
    """Return the best library's deflate of one block, and its crc32."""
    if level in _ISAL_LEVELS:
        with suppress(ImportError):  # no wheel for this processor
            return _isal(level)
    try:
        return _zlib(level, import_module("zlib_ng.zlib_ng"))
    except ImportError:
        return _zlib(level, zlib)


def _isal(level: int) -> _Deflater:
    # The class below isal's igzip_threaded: it compresses into one buffer of fixed size. The
    # public compressobj grows its buffer step by step, and that scatters the heap of many threads:
    # 30 MiB more after 16 GiB of stream.
    from isal.isal_zlib import _ParallelCompress, crc32

    # Nothing of one block is left for the next but the buffer. It goes with its thread: a codec
    # that is kept must not keep buffers.
    local = threading.local()

    def deflate(block: Block, window: Block) -> bytes:
        compressor: _ParallelCompress | None = getattr(local, "compressor", None)
        if compressor is None:
            compressor = local.compressor = _ParallelCompress(_ISAL_ROOM, level)
        return compressor.compress_and_crc(block, window)[0]

    return deflate, crc32


def _zlib(level: int, library: Any) -> _Deflater:  # noqa: ANN401 - zlib, or zlib_ng, its equal
    new = partial(library.compressobj, level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, 0)

    def deflate(block: Block, window: Block) -> bytes:
        stream = new(window) if window else new()  # an empty dictionary is an error
        data: bytes = stream.compress(block) + stream.flush(zlib.Z_SYNC_FLUSH)
        return data

    return deflate, library.crc32


class _GzipTrailer:
    """RFC 1952, section 2.3.1: CRC32 and size modulo 2**32, both little-endian."""

    def __init__(self, crc32: Callable[[Block, int], int]) -> None:
        self._crc32 = crc32
        self._crc = 0
        self._size = 0

    def update(self, block: Block, /) -> None:
        self._crc = self._crc32(block, self._crc)
        self._size += len(block)

    def end(self) -> bytes:
        words = (self._crc, self._size & 0xFFFFFFFF)
        return _DEFLATE_END + b"".join(word.to_bytes(4, "little") for word in words)


class _ZstdTrailer:
    """Frames need no end, but a stream of no frames is no zstd: it gets one empty frame."""

    def __init__(self, empty_frame: bytes) -> None:
        self._end = empty_frame

    def update(self, _block: Block, /) -> None:
        self._end = b""

    def end(self) -> bytes:
        return self._end


class _NoTrailer:
    def update(self, block: Block, /) -> None:
        """Take nothing in: there is nothing to end."""

    def end(self) -> bytes:
        return b""
