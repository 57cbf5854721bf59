"""The requests of a connection, parsed from the bytes that pass through a proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import h11

__all__ = ["Dialogue", "Direction", "Request", "Seen"]

Direction = Literal["up", "down"]

_CLIENT_HELLO = b"\x16"  # the first byte of a TLS handshake (RFC 8446, section 5.1)


class Seen(NamedTuple):
    """A request that passed; `status` is None if no response passed."""

    method: str
    path: str
    status: int | None


@dataclass
class Request:
    """A request whose answer may still come."""

    method: str
    target: str
    status: int | None = None


class Dialogue:
    """The requests of one connection, parsed from the bytes of both peers."""

    def __init__(self, seen: list[Request]) -> None:
        self._seen = seen  # of all connections
        self._request: Request | None = None
        self._server = h11.Connection(h11.SERVER)
        self._client = h11.Connection(h11.CLIENT)
        self._tls: bool | None = None  # what the client speaks, from its first byte on
        self.broken = ""

    def said(self, direction: Direction, block: bytes) -> None:
        """Take in bytes before they are passed on."""
        if self.broken or not block:
            return
        if self._tls is None:
            self._tls = block.startswith(_CLIENT_HELLO)
        if self._tls:
            # Some clients try TLS first: a server of plain HTTP refuses it by an answer in HTTP.
            if direction == "down" and not block.startswith(b"HTTP/1."):
                self.broken = "the peers speak TLS"
            return
        try:
            (self._server if direction == "up" else self._client).receive_data(block)
            while self._move(self._server, self._client) or self._move(self._client, self._server):
                self._turn()
        except h11.ProtocolError as error:
            self.broken = str(error)

    def _move(self, source: h11.Connection, target: h11.Connection) -> bool:
        """Pass on an event; return whether there was one."""
        event = source.next_event()
        if isinstance(event, type):  # NEED_DATA, PAUSED
            return False
        if isinstance(event, h11.Request):
            self._request = Request(event.method.decode(), event.target.decode())
            self._seen.append(self._request)
        elif isinstance(event, h11.Response) and self._request:
            self._request.status = event.status_code
        target.send(event)
        return True

    def _turn(self) -> None:
        """Begin the next exchange if both peers have ended one."""
        sides = (self._server, self._client)
        if all(side.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} for side in sides):
            for side in sides:
                side.start_next_cycle()
