"""What the tests of sources share: data, and how a source is read in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brolga.stream.sources import (
    open_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.spec.blob import BlockSource


DATA = bytes(range(256)) * 40


SIZE = 1000


def blocks(source: BlockSource) -> list[bytes]:
    """Read a source to its end; it must be closed by the caller."""
    result = []
    while block := source.next_block(10):
        result.append(bytes(block))
    return result


def read(source: Any) -> list[bytes]:
    opened = open_source(source, SIZE)
    try:
        return blocks(opened)
    finally:
        opened.close()


def pieces(size: int) -> Iterator[bytes]:
    for at in range(0, len(DATA), size):
        yield DATA[at : at + size]


def assert_whole(result: list[bytes]) -> None:
    assert b"".join(result) == DATA
    assert {len(block) for block in result[:-1]} == {SIZE}
    assert 0 < len(result[-1]) <= SIZE
