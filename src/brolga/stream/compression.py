"""Compress a stream block by block.

A codec encodes each block of `BLOCK_SIZE` by a pure function of the block and the 32 KiB before it.
So any number of threads may encode, and the output is always the same. It depends on the codec, the
level, the library's version and, with isal, the processor's vector instructions, on nothing else.
"""

from __future__ import annotations

import threading
import zlib
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from brolga.spec.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.blob import Block

BLOCK_SIZE = 1 << 20  # bytes; part of the output format
WINDOW_SIZE = 1 << 15  # bytes; deflate's window (RFC 1951, section 2)
ZLIB_MODULES = ("zlib_ng.zlib_ng", "zlib")
ZSTD_MODULES = ("compression.zstd", "backports.zstd")  # the first is of Python 3.14

_Deflater: TypeAlias = "tuple[Callable[[Block, Block], bytes], Callable[[Block, int], int]]"

# RFC 1952, section 2.3: deflate, no flags, no time, no name, unknown system.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# An empty last block with fixed codes (RFC 1951, section 3.2.6): it ends the deflate stream.
_DEFLATE_END = b"\x03\x00"
_ISAL_LEVELS = range(1, 4)
_ISAL_BUFFER_SIZE = BLOCK_SIZE + BLOCK_SIZE // 8  # bytes; stored blocks are 0.01 % larger


class Trailer(Protocol):
    """The end of a compressed stream, computed from all of its blocks."""

    def update(self, block: Block, /) -> None:
        """Take the next uncompressed block, in order."""

    def end(self) -> bytes:
        """Return the bytes that end the compressed stream."""


class Codec(Value):
    """A compression and its level.

    `encode(block, window)` is pure and releases the GIL; `window` is the last 32 KiB before the
    block. `encode` is None for no compression. `head` comes before the first block.
    """

    name: str
    level: int
    head: bytes
    encode: Callable[[Block, Block], bytes] | None
    trailer: Callable[[], Trailer]


def parse_compression(text: str) -> tuple[str, int | None]:
    """Split `NAME[:LEVEL]`. Raises ValueError for an unknown name or level."""
    name, colon, digits = text.partition(":")
    if colon and not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"compression {text!r}: the level {digits!r} is not a number")
    level = int(digits) if colon else None
    codec_for(name, level)
    return name, level


def codec_for(name: str, level: int | None = None) -> Codec:
    """Return the codec `gzip`, `zstd` or `none`; `level` None is its default.

    Raises ValueError for any other name or level.
    """
    if name not in _CODECS:
        raise ValueError(f"compression {name!r} is not one of {', '.join(_CODECS)}")
    new, levels, default = _CODECS[name]
    if level is None:
        level = default
    elif name == "none":
        raise ValueError("compression none has no level")
    elif level not in levels:
        raise ValueError(f"{name} has levels {levels[0]} to {levels[-1]}, not {level}")
    return new(level)


def _gzip(level: int) -> Codec:
    # One member (RFC 1952). Each block is raw deflate primed with the window before it and ended by
    # a sync flush, as in pigz.
    deflate, crc32 = _deflater(level)
    return Codec("gzip", level, _GZIP_HEAD, deflate, partial(_GzipTrailer, crc32))


def _zstd(level: int) -> Codec:
    # One frame for each block (RFC 8878, section 3.1), instead of libzstd's threads: 1.25 times the
    # rate at level 3 on 2 cores, less memory, for output 2 % larger (benchmarks/kernels.py).
    zstd = import_first(*ZSTD_MODULES)

    def frame(block: Block, _window: Block = b"") -> bytes:
        return bytes(zstd.compress(block, level))

    return Codec("zstd", level, b"", frame, partial(_ConstantTrailer, frame(b"")))


def _none(level: int) -> Codec:
    return Codec("none", level, b"", None, partial(_ConstantTrailer, b""))


# What returns the codec, its levels, the default level.
_CODECS: dict[str, tuple[Callable[[int], Codec], range, int]] = {
    "gzip": (_gzip, range(1, 10), 1),
    "zstd": (_zstd, range(1, 23), 3),
    "none": (_none, range(1), 0),
}


def import_first(*names: str) -> Any:  # noqa: ANN401 - a module
    """Return the first of the modules that is installed; the last one always is."""
    for name in names[:-1]:
        with suppress(ImportError):
            return import_module(name)
    return import_module(names[-1])


def _deflater(level: int) -> _Deflater:
    """Return the deflate function of the best library, and its crc32."""
    if level in _ISAL_LEVELS:
        with suppress(ImportError):  # no wheel for this processor
            return _isal(level)
    return _zlib(level, import_first(*ZLIB_MODULES))


def _isal(level: int) -> _Deflater:
    # This private class of isal compresses into one buffer of fixed size. The public compressobj
    # grows its buffer in steps, which fragments the heap: 30 MiB more after 16 GiB of stream.
    from isal.isal_zlib import _ParallelCompress, crc32

    # Only the buffer is reused. It is thread-local, so that it is freed with its thread.
    local = threading.local()

    def deflate(block: Block, window: Block) -> bytes:
        compressor: _ParallelCompress | None = getattr(local, "compressor", None)
        if compressor is None:
            compressor = local.compressor = _ParallelCompress(_ISAL_BUFFER_SIZE, level)
        return compressor.compress_and_crc(block, window)[0]

    return deflate, crc32


def _zlib(level: int, library: Any) -> _Deflater:  # noqa: ANN401 - zlib or zlib_ng
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


class _ConstantTrailer:
    """Ends an empty stream with `end`: zstd without any frame is not valid."""

    def __init__(self, end: bytes) -> None:
        self._end = end

    def update(self, _block: Block, /) -> None:
        self._end = b""

    def end(self) -> bytes:
        return self._end
