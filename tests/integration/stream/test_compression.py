"""stream/compression.py: the gzip program reads the output."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from brolga.stream.compression import BLOCK_SIZE, WINDOW_SIZE, codec_for

if TYPE_CHECKING:
    from collections.abc import Iterable


def encoded(name: str, level: int | None, blocks: Iterable[bytes]) -> bytes:
    """Encode in the plainest way: one block after the other."""
    codec = codec_for(name, level)
    trailer, window, out = codec.trailer(), b"", codec.head
    for block in blocks:
        trailer.update(block)
        out += codec.encode(block, window) if codec.encode else block
        window = block[-WINDOW_SIZE:]
    return out + trailer.end()


@pytest.fixture(scope="module")
def text() -> bytes:
    """Three blocks of words, so that the window before a block is worth having."""
    words = random.Random(1)
    return b" ".join(b"%d" % words.randrange(5000) for _ in range(600_000))[: 2 * BLOCK_SIZE + 77]


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK_SIZE] for at in range(0, len(data), BLOCK_SIZE)]


def test_gzip_program_reads_output(text: bytes) -> None:
    """`gzip -t` checks the structure, CRC and size."""
    out = encoded("gzip", 1, cut(text))
    subprocess.run(["gzip", "-t"], input=out, check=True)
    assert (
        subprocess.run(["gzip", "-dc"], input=out, check=True, capture_output=True).stdout == text
    )
