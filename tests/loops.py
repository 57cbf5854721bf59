"""The asynchronous transport on a loop in a thread of its own, used as a blocking one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final

from brolga.transport import Transport
from brolga.transport.aio import AsyncTransport, ThreadTransport


class LoopTransport(ThreadTransport):
    """A transport with the options and methods of `Transport`, whose requests run on a loop."""

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        try:
            transport = AsyncTransport(**options)
        except BaseException:
            self.loop.close()
            raise
        super().__init__(transport, self.loop)
        runs = threading.Event()
        self.loop.call_soon(runs.set)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        runs.wait()

    def close(self) -> None:
        """Close every connection, and end the loop."""
        if self.loop.is_closed():
            return
        if threading.current_thread() is self._thread:
            self._transport.close()
        else:
            super().close()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


# The drivers of flows, under which a test can run.
DRIVERS: Final[dict[str, type[Transport]]] = {"threads": Transport, "asyncio": LoopTransport}
