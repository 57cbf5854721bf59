"""The threads that read, hash and compress a source."""

from __future__ import annotations

import threading
import time

# Not that of an embedded registry, which a fixture may keep.
_PREFIXES = ("brolga-pool-", "brolga-read")


def of_passes() -> list[str]:
    """Return the names of the threads that read, hash and compress."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(_PREFIXES)]


def none_left(patience_s: float = 30.0) -> bool:
    """Wait until all of them have ended by themselves; return whether they did."""
    end = time.monotonic() + patience_s
    while of_passes() and time.monotonic() < end:
        time.sleep(0.001)
    return not of_passes()
