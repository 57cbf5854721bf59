"""A closing PUT that may have done its work, whatever it was answered.

Knows when a blob is worth asking for. Must not know what follows.

Strategy: the answer to a PUT may be lost, hidden by a proxy's own, or be the answer to a second one
which a proxy sent (nginx: `proxy_next_upstream`; a PUT is idempotent to it). So the blob is asked
for before its bytes go again, or a failure is told: what lies under a digest is that blob.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from brolga.protocol.session import is_there

if TYPE_CHECKING:
    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow
    from brolga.protocol.retry import Retry
    from brolga.spec.descriptor import Descriptor

__all__ = ["Commit"]


@dataclass(eq=False)
class Commit:
    """What is known of an upload's closing PUTs.

    `descriptor` is the blob that may be there, None before a PUT left that open; `asks` is how
    often it is worth asking for, and `has_asked` tells whether it was asked for since that PUT.
    """

    access: Access
    retry: Retry
    descriptor: Descriptor | None = None
    asks: int = 0
    has_asked: bool = True

    def doubt(self, descriptor: Descriptor, asks: int) -> None:
        """Note that a blob may be there, and how often that is worth asking for."""
        self.descriptor, self.asks = descriptor, max(self.asks, asks)
        self.has_asked = False

    def is_done(self, times: int | None = None) -> Flow[bool]:
        """Ask for the blob, so often at most, where it may be there; return whether it is."""
        if self.descriptor is None:
            return False
        self.has_asked, pause_s = True, 0.0
        for attempt in range(1, 1 + min(self.asks, times or self.asks)):
            there = yield from is_there(self.access, self.descriptor, pause_s)
            longer_s = self.retry.pause_s(attempt)
            if there is not False or longer_s is None:
                return bool(there)
            pause_s = longer_s
        return False
