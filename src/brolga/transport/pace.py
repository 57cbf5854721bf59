"""How fast a body goes, and which rate is the lowest.

Knows seconds and bytes. Must not know sockets.

Strategy: the time that is spent in waiting for the peer is added up, and the bytes that went
meanwhile. Each time that a timeout's worth of waiting is over, the rate must have reached
`MIN_RATE`. What the other side of a pipe takes is not the peer's time, and does not count.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MIN_RATE", "RateMonitor"]

MIN_RATE: Final = 1024  # bytes a second


class RateMonitor:
    """The waits and the bytes of one body."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._size = 0

    def is_too_slow(self, waited_s: float, size: int, timeout_s: float | None) -> bool:
        """Add a wait and the bytes that it brought; return whether the rate is too low."""
        self._waited_s += waited_s
        self._size += size
        if timeout_s is None or self._waited_s < timeout_s:
            return False
        is_slow = self._size < MIN_RATE * self._waited_s
        self._waited_s, self._size = 0.0, 0
        return is_slow
