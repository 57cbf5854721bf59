"""stream/pipeline.py, with sources.py and layer.py: interrupts at any point."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# What each program below begins with. `faulthandler` is the watchdog: a program that hangs is
# ended, with the stack of every thread; nothing else looks at a clock.
_HEAD = """
import faulthandler, gc, itertools, os, random, signal, sys, threading
import brolga, brolga.stream.layer
from brolga import LayerState, StreamLayer

faulthandler.dump_traceback_later(240, exit=True)
brolga.stream.layer.BLOCK_SIZE = 8192  # small blocks take the same way

def source():
    return sys.argv[1] if sys.argv[2] == "path" else [bytes(5000)] * 10

def ours():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("brolga-")]

class Run:
    '''One pass, from open to close, and then the close that an interrupted one still owes.'''

    stream = None

    def read(self, most):
        self.stream = self.layer.open()
        with self.stream as stream:
            for _ in itertools.islice(stream, most):
                pass

    def whole(self, most, before=lambda: None, after=lambda: None):
        self.layer = StreamLayer(source(), sys.argv[3], threads=2)
        interrupted = False
        try:
            before()
            self.read(most)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            after()
        if self.stream is not None:
            self.stream.close()
        else:
            gc.collect()
        assert not ours(), ours()
        return interrupted
"""

# Each line of Python that the reading thread runs, once at its first and once at its last time.
_EACH_LINE = """
FILES = ("pipeline.py", "sources.py", "iterables.py", "layer.py", "threading.py", "queue.py",
         "contextlib.py", "_weakrefset.py", "_base.py", "thread.py")
seen, target = {}, None

def trace(frame, event, argument):
    if os.path.basename(frame.f_code.co_filename) not in FILES:
        return None
    if event == "line":
        line = frame.f_code.co_filename, frame.f_lineno
        seen[line] = seen.get(line, 0) + 1
        if (line, seen[line]) == target:
            raise KeyboardInterrupt
    return trace

def run(most):
    seen.clear()
    return Run().whole(most, lambda: sys.settrace(trace), lambda: sys.settrace(None))

sys.unraisablehook = lambda unraisable: None  # what `__del__` was interrupted in
count = 0
for most in (4, None):
    assert not run(most)
    for target in {(line, nth) for line, times in seen.items() for nth in (1, 2, times)}:
        count += run(most)
    target = None
print(count)
"""

# A real signal at any moment.
_SIGNALS = """
chance = random.Random(1)
count = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
for turn in range(300):
    try:
        count += Run().whole(
            None if turn % 2 else 4,
            lambda: signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-3)),
            lambda: signal.setitimer(signal.ITIMER_REAL, 0),
        )
    except KeyboardInterrupt:  # between two lines of the program above
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.collect()
print(count)
"""


def run(program: str, *arguments: object) -> str:
    """Run a program, and return what it prints; if it hung, its stacks are in the error.

    Coverage is not measured there: its tracer has a lock of Python code, which an interrupt loses.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=plain,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "data"
    file.write_bytes(bytes(50_000))
    return file


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("kind", ["path", "iterable"])
def test_close_succeeds_after_interrupt_at_any_line(
    path: Path, kind: str, compression: str
) -> None:
    """A signal's handler may raise between any two bytecodes: `close()` returns, no thread is left.

    An interrupt within `close()` leaves a second one able to finish.
    """
    assert int(run(_EACH_LINE, path, kind, compression)) > 100


@pytest.mark.parametrize("kind", ["path", "iterable"])
def test_close_succeeds_after_signal_at_any_moment(path: Path, kind: str) -> None:
    """Ctrl-C ends a pass, and never hangs it."""
    assert int(run(_SIGNALS, path, kind, "gzip")) > 0
