"""cli.client_factory: one malloc arena for all threads."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from brolga.cli.client_factory import tune_malloc

# Four threads that allocate at the same time; each line of malloc_info with a heap is an arena.
_COUNT = """
import ctypes, threading
from brolga.cli.client_factory import tune_malloc
assert tune_malloc()
libc = ctypes.CDLL(None)
together = threading.Barrier(4)

def allocate():
    together.wait()
    for _ in range(1000):
        libc.free(ctypes.c_void_p(libc.malloc(5000)))
    together.wait()

libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_tune_malloc_makes_threads_share_one_arena() -> None:
    """M_ARENA_MAX (mallopt(3)): what one thread has freed, another one can use."""
    printed = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, check=True, text=True
    ).stdout
    assert printed.count("<heap nr=") == 1


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_tune_malloc_returns_false_without_glibc(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Musl and macOS have no mallopt."""

    def no_library(_name: None) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert not tune_malloc()
