"""A TCP proxy that fails at a byte that a test names, and lists the requests that passed.

One thread runs an event loop with two pumps for each connection, on bare sockets: nothing is
buffered, and a fault strikes at its exact byte. Two h11 connections parse the bytes before they are
passed on: a request is listed before the server has it, its status before the client has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.real.dialogue import Dialogue, Direction, Request, Seen

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

__all__ = ["Fault", "Proxy", "Seen", "proxy"]

_BLOCK = 1 << 16
_PATIENCE_S = 30.0
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends RST


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a connection when `offset` bytes of a direction have been passed on.

    `up` is from the client to the server. The offset counts from the end of the first `after`
    that is seen, else from the connection's first byte (or the first that passes once the fault
    is armed). It strikes `times` connections, each at most once; at offset 0 of a connection it
    strikes when the first byte arrives, which is not passed on.

    `cut` ends both connections in order (FIN), `reset` breaks both off (RST), `stall` passes
    nothing more in this direction until it is released.
    """

    act: Literal["cut", "reset", "stall"]
    direction: Direction
    offset: int = 0
    after: bytes = b""
    times: int = 1


class _Cut(Exception):
    """End both connections in order."""


class _Reset(Exception):
    """Break both connections off."""


@dataclass(eq=False)
class _Armed:
    """A fault, and how many connections it is still to strike."""

    fault: Fault
    left: int


class _Sight:
    """One direction of one connection, as one fault looks at it."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._left: int | None = None if fault.after else fault.offset
        self._tail = b""  # of what passed: it may hold the beginning of `after`

    def find(self, block: bytes) -> int | None:
        """Return where it would strike, counted from the block's first byte."""
        if self._left is not None:
            return self._left
        at = (self._tail + block).find(self._fault.after)
        if at < 0:
            return None
        return at + len(self._fault.after) - len(self._tail) + self._fault.offset

    def passed(self, block: bytes) -> None:
        """Count a block that was passed on."""
        at = self.find(block)
        if at is not None:
            self._left = at - len(block)
        elif len(self._fault.after) > 1:
            self._tail = (self._tail + block)[1 - len(self._fault.after) :]

    def struck(self) -> None:
        """Stop looking for the mark."""
        self._left = -1


class Proxy:
    """A proxy in front of `HOST:PORT`; `proxy` runs it."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        # Bound and never listening: it keeps the port while connections are refused.
        self._place = _bound(0)
        self._port = self._place.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # one a connection
        self._listening: asyncio.Task[None] | None = None
        self._stalled: set[asyncio.Future[None]] = set()
        self._armed: list[_Armed] = []
        self._changed = threading.Condition()
        self._struck = 0
        self._passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._held: dict[Direction, int] = {}
        self._dialogues: list[Dialogue] = []
        self._seen: list[Request] = []

    # What a test calls, from its thread.

    def arm(self, *faults: Fault) -> None:
        """Add faults."""
        self._armed += [_Armed(fault, fault.times) for fault in faults]

    def passed(self, direction: Direction) -> int:
        """Return how many bytes of a direction have been passed on, by all connections."""
        return self._passed[direction]

    def hold(self, direction: Direction, total: int) -> None:
        """Stall every connection once `total` bytes of a direction, or a few more, have passed.

        Each stalls as by a fault, until it is released.
        """
        self._held[direction] = total

    @property
    def struck(self) -> int:
        """The number of connections on which a fault struck."""
        return self._struck

    def wait_until_struck(self, times: int = 1) -> None:
        """Wait until faults have struck so many times in all."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._struck >= times, _PATIENCE_S)
        assert came, f"{self._struck} faults struck, not {times}"

    def release(self) -> None:
        """Continue the connections that are stalled now; hold none any more."""
        self._held.clear()
        self._call(self._release())

    def refuse(self) -> None:
        """Have new connections refused by the kernel (ECONNREFUSED)."""
        self._call(self._close_listener())

    def accept(self) -> None:
        """Take new connections again."""
        self._call(self._open_listener())

    def requests(self, *, query: bool = False) -> list[Seen]:
        """Return the requests that passed, in order; their paths without the query.

        A request's entry is there before the server has its last header's end, its status before
        the client has it.
        """
        for dialogue in self._dialogues:
            if dialogue.broken:
                raise RuntimeError(f"what passed was not HTTP/1.1: {dialogue.broken}")
        return [
            Seen(
                request.method,
                request.target if query else request.target.partition("?")[0],
                request.status,
            )
            for request in self._seen
        ]

    # The thread's beginning and end.

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
            self._place.close()

    def stop(self) -> None:
        """Close all connections, and end `run`."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _call(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    # The rest runs in the loop.

    async def _close(self) -> None:
        await self._close_listener()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _release(self) -> None:
        for future in self._stalled:
            if not future.done():  # its connection may have ended meanwhile
                future.set_result(None)
        self._stalled.clear()

    async def _open_listener(self) -> None:
        if self._listening is None:
            listener = _bound(self._port)
            listener.listen()
            listener.setblocking(False)
            self._listening = self._loop.create_task(self._listen(listener))

    async def _close_listener(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    async def _listen(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                task = self._loop.create_task(self._serve(client))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket) -> None:
        """Pass one connection on until both sides have ended, or a fault does."""
        dialogue = Dialogue(self._seen)
        self._dialogues.append(dialogue)
        server = socket.socket()
        server.setblocking(False)
        with client, server:
            try:
                await self._loop.sock_connect(server, self._target)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(client, server, "up", dialogue))
                    pumps.create_task(self._pump(server, client, "down", dialogue))
            except* _Cut:
                await self._end(client, server)
            except* _Reset:
                _break_off(client, server)
                self._note()
            except* OSError:  # a peer broke off: so does the other side
                _break_off(client, server)

    async def _pump(
        self, source: socket.socket, target: socket.socket, way: Direction, dialogue: Dialogue
    ) -> None:
        """Pass one direction on until its end, or until a fault ends the connection."""
        sights: dict[_Armed, _Sight] = {}
        while block := await self._loop.sock_recv(source, _BLOCK):
            while block:
                if self._passed[way] >= self._held.get(way, sys.maxsize):
                    await self._stall()
                armed, piece = self._next(way, sights, block)
                dialogue.said(way, piece)
                await self._loop.sock_sendall(target, piece)
                self._passed[way] += len(piece)
                block = block[len(piece) :]
                if armed:
                    armed.left -= 1
                    await self._strike(armed.fault)
        target.shutdown(socket.SHUT_WR)

    def _next(
        self, way: Direction, sights: dict[_Armed, _Sight], block: bytes
    ) -> tuple[_Armed | None, bytes]:
        """Return the fault that strikes first in a block, and the bytes before it."""
        first, end = None, len(block)
        for armed in self._armed:
            if armed.fault.direction != way or not (armed.left or armed in sights):
                continue
            sight = sights.setdefault(armed, _Sight(armed.fault))
            at = sight.find(block)
            if armed.left and at is not None and 0 <= at <= end:
                first, end = armed, at
        for armed, sight in sights.items():
            sight.passed(block[:end])
            if armed is first:
                sight.struck()
        return first, block[:end]

    async def _strike(self, fault: Fault) -> None:
        if fault.act == "cut":
            raise _Cut
        if fault.act == "reset":
            raise _Reset
        await self._stall()

    async def _stall(self) -> None:
        future = self._loop.create_future()
        self._stalled.add(future)
        self._note()
        await future

    async def _end(self, *sides: socket.socket) -> None:
        """Close in order: a socket closed with bytes unread would send RST, so read them all."""
        for side in sides:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_WR)
        self._note()
        await asyncio.gather(*map(self._drain, sides))

    async def _drain(self, side: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while await self._loop.sock_recv(side, _BLOCK):
                pass

    def _note(self) -> None:
        with self._changed:
            self._struck += 1
            self._changed.notify_all()


def _bound(port: int) -> socket.socket:
    """Bind a port that another socket may hold too, as long as that one does not listen."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _break_off(*sides: socket.socket) -> None:
    for side in sides:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        side.close()


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """Run a proxy in front of `HOST:PORT`, on a free port of 127.0.0.1."""
    running = Proxy(target)
    thread = threading.Thread(target=running.run, name="tests-proxy")
    thread.start()
    try:
        running.accept()
        yield running
    finally:
        running.stop()
        thread.join()
