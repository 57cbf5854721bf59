"""Sources whose completeness is checked, and headers written by hand."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from brolga.tar.completeness import CompletenessCheck

if TYPE_CHECKING:
    from collections.abc import Sequence


ZEROS = bytes(512)
END = 2 * ZEROS


class Blocks:
    """A source of these blocks; None is one that nothing came in time."""

    def __init__(self, blocks: Sequence[bytes | None]) -> None:
        self._blocks = iter(blocks)
        self.closed = False

    def next_block(self, timeout_s: float) -> memoryview | None:
        assert timeout_s == 1.0
        block = next(self._blocks, b"")
        return None if block is None else memoryview(block)

    def close(self) -> None:
        self.closed = True


def watched(data: bytes, *, wanted: bool | None = None, cut: int = 1 << 20) -> bytes:
    """Pass bytes through, in blocks of `cut` bytes; return what came out."""
    blocks = [data[start : start + cut] for start in range(0, len(data), cut)]
    source = CompletenessCheck(Blocks(blocks), is_layer=wanted)
    out = b""
    while block := source.next_block(1.0):
        out += block
    return out


def header(name: str = "x", size: int = 0, kind: bytes = tarfile.REGTYPE, **parts: bytes) -> bytes:
    """Write one header by hand, as GNU tar does; `parts` overwrites from an offset: `at_482=…`."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for place, data in parts.items():
        start = int(place.removeprefix("at_"))
        block[start : start + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(record: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Write an extended header that holds `record`."""
    return header("x", len(record), kind) + record + bytes(-len(record) % 512)


def old(block: bytes) -> bytes:
    """Take the magic from a header, as Unix V7 had it: the sum alone tells what it is."""
    bare = bytearray(block[:257] + bytes(255))
    bare[148:156] = b" " * 8
    bare[148:156] = b"%06o\0 " % sum(bare)
    return bytes(bare)
