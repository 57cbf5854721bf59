"""The heap of the command: one for all of its threads.

Knows glibc's malloc. Must not know what is kept in it.

Strategy: glibc gives each thread an arena of its own, and what is free in one serves no other.
Blocks go from thread to thread here, so that is 15 to 30 MiB of a push with zstd. A library must
not choose that for its program; the command is one.
"""

from __future__ import annotations

from typing import Final

__all__ = ["share_one_heap"]

_M_ARENA_MAX: Final = -8  # mallopt(3)


def share_one_heap() -> bool:
    """Let all threads that start from now on share one arena; return whether that can be had."""
    import ctypes

    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (AttributeError, OSError):  # another C library
        return False
