"""The content of regular files, of sparse ones too (GNU tar manual, Sparse Formats)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final, cast

from brolga.errors import CorruptBlob
from brolga.images.blobs import BlockStream
from brolga.spec.value import Value
from brolga.tar.reader import BLOCK_SIZE

if TYPE_CHECKING:
    from brolga.spec.blob import Block
    from brolga.tar.entries import Entry

_PIECE_SIZE: Final = 1 << 20  # bytes
_MAX_MAP: Final = 1 << 20  # bytes of a map; the reader of headers has the same limit
_MAX_SIZE: Final = 2**63 - 1
_NUMBERS: Final = rb"[0-9]{1,19}(?:,[0-9]{1,19})*"


class _Sparse(Value):
    """Where the data of a sparse file belongs: offsets and sizes; and the size of the whole."""

    parts: list[tuple[int, int]]
    size: int


def write_content(descriptor: int, entry: Entry, count_hole: Callable[[int], None]) -> None:
    """Write the data of an entry to a new file. `count_hole` is called with the size of its holes.

    Raises CorruptBlob for a sparse file whose map is not valid.
    """
    if entry.is_file:
        for piece in entry.data:
            write_all(descriptor, piece)
        return
    data = BlockStream(cast("Generator[Block, None, None]", entry.data))
    sparse, stored = _read_sparse(entry, data)
    _check_sparse(sparse, stored)
    count_hole(sparse.size - stored)
    for offset, size in sparse.parts:
        os.lseek(descriptor, offset, os.SEEK_SET)
        for start in range(0, size, _PIECE_SIZE):
            write_all(descriptor, data.read(min(_PIECE_SIZE, size - start)))
    os.ftruncate(descriptor, sparse.size)


def write_all(descriptor: int, block: Block) -> None:
    """Write a block, however many calls that takes."""
    written = os.write(descriptor, block)
    while written < len(block):
        block = memoryview(block)[written:]
        written = os.write(descriptor, block)


def _read_sparse(entry: Entry, data: BlockStream) -> tuple[_Sparse, int]:
    """Return the map of a sparse file, and how many bytes of data follow in the archive."""
    records = entry.records
    if b"GNU.sparse.map" in records:  # versions 0.0 and 0.1, and GNU's old format
        size = _parse_numbers(records.get(b"GNU.sparse.size", b""))
        text = records[b"GNU.sparse.map"]
        return _Sparse(_pairs(_parse_numbers(text) if text else []), size[0]), entry.size
    size = _parse_numbers(records.get(b"GNU.sparse.realsize", b""))
    lines, read = list[bytes](), 0
    rest, count = b"", None
    while count is None or len(lines) < 1 + 2 * count:
        block = data.read(BLOCK_SIZE)
        read += len(block)
        if len(block) < BLOCK_SIZE or read > _MAX_MAP:
            raise CorruptBlob("a sparse file whose map is cut short, or too long")
        *more, rest = (rest + block).split(b"\n")
        lines += more
        if lines and count is None:
            (count,) = _parse_numbers(lines[0])
    numbers = _parse_numbers(b",".join(lines[1 : 1 + 2 * count])) if count else []
    return _Sparse(_pairs(numbers), size[0]), entry.size - read


def _parse_numbers(text: bytes) -> list[int]:
    if not re.fullmatch(_NUMBERS, text):
        raise CorruptBlob("a sparse file with a map that is not of numbers")
    return [int(digits) for digits in text.split(b",")]


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise CorruptBlob("a sparse file with an offset without a size")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_sparse(sparse: _Sparse, stored: int) -> None:
    """Raise CorruptBlob unless the parts are in order, within the file, and as much as there is."""
    end, is_whole = 0, True
    for offset, size in sparse.parts:
        if offset < end:
            raise CorruptBlob("a sparse file whose parts overlap")
        if size and not is_whole:  # GNU tar pads each part to a block, others do not
            raise CorruptBlob("a sparse file with a part of an odd size: readers differ on it")
        end, is_whole = offset + size, is_whole and not size % BLOCK_SIZE
    if end > sparse.size or sparse.size > _MAX_SIZE:
        raise CorruptBlob("a sparse file with parts beyond its end")
    if sum(size for _, size in sparse.parts) != stored:
        raise CorruptBlob("a sparse file with more or less data than its map says")
