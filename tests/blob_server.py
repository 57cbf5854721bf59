"""A registry with one blob, whose response to each GET the test decides."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.raw_server import serve_script

from brolga.client import Client, UploadOptions
from brolga.protocol import Retry
from brolga.spec.digest import Digest
from brolga.stores.read_budget import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.raw_server import Peer

__all__ = ["DATA", "EAGER", "BlobServer", "Get", "make_client", "serve_blob"]

DATA = bytes(range(251)) * 4001
# Parts at once, whatever the time says; none is slow.
EAGER = ReadOptions(
    part_size=1 << 16,
    window=12 << 16,
    patience_s=-1,
    wait_share=-1,
    fast_rate=1e18,
    responses_ahead=0,
    begin_s=60,
    slow_after_s=60,
)


@dataclass(frozen=True)
class Get:
    """A GET of the blob: the bytes from `start` to `stop`, and whether it has a Range."""

    start: int
    stop: int
    is_ranged: bool
    target: str
    authorization: str


class BlobServer:
    """What a registry serves, and what it was asked for.

    `respond` answers a GET; if it returns False, the connection is closed.
    """

    def __init__(
        self, data: bytes, respond: Callable[[BlobServer, Peer, Get], bool] | None = None
    ) -> None:
        self.data = data
        self.digest = Digest.of(data)
        self.gets: list[Get] = []
        self.address = ""
        self._respond = respond or BlobServer.give
        self._lock = threading.Lock()
        self.now = self.most = 0  # responses being sent
        self.ended = 0  # responses that were sent

    @property
    def name(self) -> str:
        """The blob's reference."""
        return f"{self.address}/app@{self.digest}"

    def script(self, peer: Peer) -> None:
        """Answer the requests of a connection."""
        while head := peer.head():
            target = head[0].split()[1]
            if target == "/v2/":
                peer.answer(200)
                continue
            ranged = re.fullmatch("bytes=([0-9]+)-([0-9]*)", "".join(peer.header("range", head)))
            start, last = (int(ranged[1]), ranged[2]) if ranged else (0, "")
            stop = int(last) + 1 if last else len(self.data)
            secret = "".join(peer.header("authorization", head))
            get = Get(start, stop, ranged is not None, target, secret)
            with self._lock:
                self.gets.append(get)
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                if not self._respond(self, peer, get):
                    return
            finally:
                with self._lock:
                    self.now -= 1
                    self.ended += 1

    def give(self, peer: Peer, get: Get, limit: int | None = None) -> bool:
        """Give what was asked for, at most `limit` bytes of it."""
        body = self.data[get.start : get.stop]
        part = f"Content-Range: bytes {get.start}-{get.stop - 1}/{len(self.data)}\r\n"
        head = f"HTTP/1.1 {206 if get.is_ranged else 200} OK\r\nContent-Length: {len(body)}\r\n"
        peer.send((head + (part if get.is_ranged else "") + "\r\n").encode() + body[:limit])
        return limit is None


@contextmanager
def serve_blob(
    data: bytes = DATA, respond: Callable[[BlobServer, Peer, Get], bool] | None = None
) -> Iterator[BlobServer]:
    """Run a registry that has `data` as a blob."""
    server = BlobServer(data, respond)
    with serve_script(server.script) as address:
        server.address = address
        yield server


@contextmanager
def make_client(reads: ReadOptions = EAGER, *, jobs: int = 4) -> Iterator[Client]:
    """Make a client that repeats requests without a delay."""
    retry = Retry(initial_delay_s=0)
    with Client(uploads=UploadOptions(jobs=jobs), reads=reads, retry=retry) as client:
        yield client
