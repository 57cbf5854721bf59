"""The command as a process of its own, and how a test waits for another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "BROLGA",
    "PATIENCE_S",
    "UNTAGGED_WARNING",
    "brolga",
    "brolga_text",
    "feed",
    "finish",
    "in_child",
    "start_brolga",
    "wait_until",
]

BROLGA = [sys.executable, "-m", "brolga"]
PATIENCE_S = 120.0
UNTAGGED_WARNING = (
    "warning: no manifest names this layer, and a garbage collection of the registry may delete "
    "it; REPO:TAG keeps it\n"
)


def brolga(*arguments: str | Path, data: bytes = b"", code: int = 0) -> bytes:
    """Run the command with bytes on stdin; return its stdout, or its stderr if it must fail."""
    done = subprocess.run(
        [*BROLGA, *arguments], input=data, capture_output=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == code, done.stderr
    assert code or done.stderr == b""
    return done.stderr if code else done.stdout


def brolga_text(*arguments: str | Path) -> str:
    """Run the command with an empty stdin; return its stdout as text."""
    return brolga(*arguments).decode()


@contextmanager
def start_brolga(
    *arguments: str | Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command with three pipes; kill it if the test leaves it running."""
    with subprocess.Popen(
        [*BROLGA, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, **(env or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write to a process, and leave its stdin open."""
    assert process.stdin is not None
    written = 0
    while written < len(data):
        written += process.stdin.write(data[written:]) or 0


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait until a process ends, its stdin still open; return exit code, stdout and stderr."""
    assert process.stdout is not None
    assert process.stderr is not None
    code = process.wait(PATIENCE_S)
    return code, process.stdout.read().decode(), process.stderr.read().decode()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that another process or thread brings about."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def in_child(work: Callable[[], bool]) -> bool:
    """Do some work in a child process (fork(2)); return what it returned."""
    with warnings.catch_warnings():
        # Of Python 3.12 and later: the server's thread is another one. That is what is tried.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
