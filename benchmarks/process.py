"""Run one program and measure it.

Peak memory is ru_maxrss, which Linux keeps over exec: a program that is started by a large process
begins with the peak of that process. A program that measures must therefore stay small; `floor`
measures a program that does nothing.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from resource import struct_rusage

# ru_maxrss counts KiB, on macOS bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_TIMEOUT_S = 1800.0


class Failed(Exception):
    """A program could not do its job; the message is one line."""


@dataclass(frozen=True)
class Usage:
    """The cost of a run, in seconds and bytes; `feed_cpu_s` is that of the process at its stdin."""

    wall_s: float
    cpu_s: float
    rss: int
    feed_cpu_s: float
    stdout: str


def run(
    command: Sequence[str],
    *,
    feed: Sequence[Path] = (),
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    discard: bool = False,
) -> Usage:
    """Run a command to its end, its stdin a pipe from `cat FEED...`, or empty.

    With `discard`, its stdout is /dev/null. Raises Failed with its last line on stderr.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        feeder = subprocess.Popen(["cat", *feed], stdout=subprocess.PIPE) if feed else None
        source = feeder.stdout if feeder else subprocess.DEVNULL
        try:
            child = subprocess.Popen(
                command,
                stdin=source,
                stdout=subprocess.DEVNULL if discard else out,
                stderr=err,
                cwd=cwd,
                env=env,
            )
        except OSError as problem:
            raise Failed(str(problem)) from problem
        finally:
            if feeder and feeder.stdout:
                feeder.stdout.close()
        usage = _reap(child)
        wall_s = time.perf_counter() - start
        fed = _reap(feeder) if feeder else None
        if child.returncode:
            raise Failed(f"exit {child.returncode}: {_last_line(err)}")
        return Usage(wall_s, _cpu_s(usage), usage.ru_maxrss * _RSS_UNIT, _cpu_s(fed), _text(out))


def compile_brolga() -> None:
    """Write brolga's bytecode, as installing it does; a checkout may have none."""
    found = importlib.util.find_spec("brolga")
    for directory in found.submodule_search_locations or () if found else ():
        compileall.compile_dir(directory, quiet=1)


def floor() -> int:
    """Return the measured peak memory, in bytes, of a program that does nothing."""
    return run(["true"]).rss


def _reap(child: subprocess.Popen[bytes]) -> struct_rusage:
    """Wait for a child; kill it if it takes too long or the wait is interrupted."""
    timer = threading.Timer(_TIMEOUT_S, child.kill)
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage


def _cpu_s(usage: struct_rusage | None) -> float:
    return usage.ru_utime + usage.ru_stime if usage else 0.0


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _last_line(file: IO[bytes]) -> str:
    lines = _text(file).strip().splitlines() or ["(nothing on stderr)"]
    return lines[-1][:200]
