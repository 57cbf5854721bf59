"""A TCP proxy that is as slow as a network: a rate for each connection, and a round trip.

    python benchmarks/slow_proxy.py HOST:PORT --rate 75000000 --round-trip 0.02

It prints the port of 127.0.0.1 on which it listens. Only bytes to the client have a rate. Each
direction has a thread that receives and one that sends, so that calls of the kernel overlap.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 18
# What a connection may hold beyond the bytes that are under way: a sender that is late catches up.
_ROOM = 4 << 20
# The fastest that is expected of one connection without a rate, bytes/s: it bounds what is held.
_FASTEST = 3e9
_CATCH_UP_S = 0.01


class _Line:
    """One direction of a connection: the blocks under way, and when each arrives."""

    def __init__(self, rate: float, delay_s: float, first_delay_s: float) -> None:
        self._rate = rate
        self._delay_s = delay_s
        self._due_s = time.monotonic() + first_delay_s  # nothing arrives earlier
        self._room = _ROOM + int((rate or _FASTEST) * delay_s)
        self._blocks: deque[tuple[float, bytes]] = deque()
        self._changed = threading.Condition()

    def receive(self, source: socket.socket) -> None:
        """Take bytes in until their end, as far as there is room."""
        block = b"start"
        while block:
            try:
                block = source.recv(_BLOCK)
            except OSError:
                block = b""
            with self._changed:
                self._changed.wait_for(lambda: self._room > 0)
                self._room -= len(block)
                self._blocks.append((time.monotonic() + self._delay_s, block))
                self._changed.notify_all()

    def send(self, sink: socket.socket) -> None:
        """Send each block when it arrives. Raises OSError."""
        free_s = 0.0  # when the line can take the next block
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks)
                due_s, block = self._blocks.popleft()
            _sleep_until(max(due_s, self._due_s, free_s))
            if not block:
                return
            sink.sendall(block)
            if self._rate:
                free_s = max(free_s, time.monotonic() - _CATCH_UP_S) + len(block) / self._rate
            self.make_room(len(block))

    def make_room(self, size: int) -> None:
        """Let so many bytes more in."""
        with self._changed:
            self._room += size
            self._changed.notify_all()


def _sleep_until(moment_s: float) -> None:
    left_s = moment_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)


def _forward(line: _Line, source: socket.socket, sink: socket.socket) -> None:
    """Pass one direction on until its end; end both if the peer has gone."""
    receiver = threading.Thread(target=line.receive, args=(source,), daemon=True)
    receiver.start()
    try:
        line.send(sink)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        line.make_room(sys.maxsize >> 1)
    receiver.join()


def _serve(
    client: socket.socket, target: tuple[str, int], rate: float, round_trip_s: float
) -> None:
    """Pass a connection on. Its first bytes come a round trip later: that of the handshake."""
    half_s = round_trip_s / 2
    with client, socket.create_connection(target) as server:
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up, down = _Line(0, half_s, round_trip_s + half_s), _Line(rate, half_s, 0)
        upward = threading.Thread(target=_forward, args=(up, client, server), daemon=True)
        upward.start()
        _forward(down, server, client)
        upward.join()


@contextmanager
def running(target: str, *, rate: float = 0, round_trip_s: float = 0) -> Iterator[str]:
    """Run a proxy in a process of its own; give its address."""
    command = [sys.executable, __file__, target, "--rate", str(rate)]
    command += ["--round-trip", str(round_trip_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - for the type
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("target", metavar="HOST:PORT", help="where connections lead to")
    add("--rate", type=float, default=0, help="bytes/s to the client of each connection (no limit)")
    add("--round-trip", type=float, default=0, help="seconds; half of it each way (0)")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    target = (host, int(port))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            arguments = (client, target, options.rate, options.round_trip)
            threading.Thread(target=_serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
