"""stream/compression.py: the gzip program reads the output."""

from __future__ import annotations

import random
import subprocess

from brolga import StreamLayer
from brolga.stream.compression import BLOCK_SIZE


def test_gzip_program_reads_output() -> None:
    """`gzip -t` checks the structure, CRC and size."""
    words = random.Random(1)
    text = b" ".join(b"%d" % words.randrange(5000) for _ in range(600_000))[: 2 * BLOCK_SIZE + 77]
    with StreamLayer([text], "gzip", 1).open() as stream:
        out = stream.read()
    subprocess.run(["gzip", "-t"], input=out, check=True)
    assert (
        subprocess.run(["gzip", "-dc"], input=out, check=True, capture_output=True).stdout == text
    )
