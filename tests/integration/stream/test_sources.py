"""stream/sources.py: other processes as sources, and a program that ends with an open stream."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.unit.stream.block_sources import DATA, assert_whole, read

if TYPE_CHECKING:
    from pathlib import Path


def test_stdout_of_process_is_read(tmp_path: Path) -> None:
    """Popen.stdout is a pipe like another."""
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert_whole(read(process.stdout))


@pytest.mark.parametrize("source", ["sys.stdin.buffer", "'/dev/zero'"])
def test_program_exits_with_open_stream(source: str) -> None:
    """A stream left open in a global variable does not block the exit."""
    program = f"""
import faulthandler, sys
from brolga import StreamLayer
faulthandler.dump_traceback_later(60, exit=True)
stream = StreamLayer({source}).open()
beats = stream.blocks()
for _ in range(5):
    next(beats)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 0
