"""stream/layer.py: a stream that is open when its process forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FORK = """
import faulthandler, os, signal, sys
from brolga import LayerError, LayerState, StreamLayer

faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(60)  # ends a program that hangs, and shows its stacks
kind, deed, threads_run = sys.argv[1:]
reader, writer = os.pipe()
layer = StreamLayer(os.fdopen(reader, "rb") if kind == "pipe" else [bytes(100_000)] * 99, "none")
stream = layer.open()
if threads_run == "yes":
    for _, block in zip(range(3), stream.blocks()):
        pass
child = os.fork()
if child == 0:
    signal.alarm(50)
    if deed == "read":
        try:
            stream.read(10_000_000)
        except LayerError as error:
            print(error, layer.state.value, flush=True)
        try:
            stream.read(10_000_000)
        except LayerError as error:
            print(error.__cause__ or error, flush=True)
    elif deed == "close":
        stream.close()
        print(layer.state.value, flush=True)
    elif deed == "drop":
        del stream
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
if kind == "pipe":
    os.write(writer, bytes(50_000))
for _, block in zip(range(4), stream.blocks()):
    assert len(block) == (0 if kind == "pipe" else 1 << 20) or not layer.progress.written
stream.close()
"""


def forked(kind: str, deed: str, threads_run: str) -> list[str]:
    """Fork with a stream open; return what the child said. The parent reads on and closes."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORK, kind, deed, threads_run],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("threads_run", ["yes", "no"])
@pytest.mark.parametrize("kind", ["pipe", "iterable"])
def test_read_in_forked_child_raises(kind: str, threads_run: str) -> None:
    """fork(2): the child has none of its parent's threads, and would wait for ever."""
    why = "the stream was opened in another process"
    lines = forked(kind, "read", threads_run)
    assert [line.split(":")[0] for line in lines] == [why, why]
    assert lines[0].endswith(" failed")


@pytest.mark.parametrize("threads_run", ["yes", "no"])
@pytest.mark.parametrize("kind", ["pipe", "iterable"])
@pytest.mark.parametrize("deed", ["close", "drop", "exit"])
def test_stream_dropped_in_child_continues_in_parent(
    kind: str, deed: str, threads_run: str
) -> None:
    """Closing there waits for no thread, and does not stop the parent's reader."""
    assert forked(kind, deed, threads_run) == (["failed"] if deed == "close" else [])
