"""registry.serving.connection_limits: driven as asyncio drives a protocol."""

from __future__ import annotations

import asyncio
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from brolga.registry.serving import connection_limits as module
from brolga.registry.serving.connection_limits import (
    IDLE_CONNECTION_S,
    Connection,
    close_connections,
    connection_limits,
    raise_nofile_limit,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock a test can advance, and whose `sendfile` a test can replace."""

    advanced_s = 0.0
    send: Callable[[int], Awaitable[int]]

    def time(self) -> float:
        return super().time() + self.advanced_s

    async def sendfile(  # type: ignore[override] # a test passes no fallback
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None
    ) -> int:
        assert count is not None
        return await self.send(count)


class Socket:
    """A socket that is closed, and remembers its addresses."""

    def fileno(self) -> int:
        return -1

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    getsockname = getpeername


class Transport(asyncio.Transport):
    """A transport of one connection; after `open_checks` checks it is closing."""

    def __init__(self, open_checks: int | None = None) -> None:
        super().__init__({"socket": Socket()})
        self.protocol: Connection | None = None
        self.written = b""
        self.aborts = 0
        self._checks_left = open_checks
        self._is_closed = False

    def is_closing(self) -> bool:
        if self._checks_left is None:
            return self._is_closed
        self._checks_left -= 1
        return self._checks_left < 0

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        if self.protocol is not None and not self._is_closed:
            self._is_closed = True
            self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.aborts += 1
        self.close()


def connect(app: ASGIApp, transport: Transport, idle_s: float = 60.0) -> Connection:
    """Return the protocol of a new connection to an application."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none")
    config.load()
    connection = Connection(config, ServerState(), {})
    connection.idle_s = idle_s
    connection.connection_made(transport)
    transport.protocol = connection
    return connection


async def settle() -> None:
    """Let the tasks run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextmanager
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=Loop) as runner:
        yield runner


async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def wait_for_ever(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.Event().wait()


def send_file(path: Path) -> ASGIApp:
    """Return an application that sends a file through the kernel."""
    size = path.stat().st_size

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with open(path, "rb") as file:  # noqa: ASYNC230, PTH123 - a file of three bytes
            message = {"type": "http.response.zerocopysend", "file": file, "offset": 0}
            await send({**message, "count": size})

    return app


def test_is_overdue_counts_from_the_start_of_a_connection() -> None:
    """A connection on which no request comes is bounded."""

    async def main() -> None:
        connection, now = connect(respond, Transport()), asyncio.get_running_loop().time()
        assert not connection.is_overdue(now + IDLE_CONNECTION_S - 1)
        assert connection.is_overdue(now + IDLE_CONNECTION_S + 1)

    with runner() as run:
        run.run(main())


def test_is_overdue_counts_from_the_last_response() -> None:
    """A response starts the time anew."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        connection = connect(respond, Transport())
        loop.advanced_s = 50.0
        connection.data_received(REQUEST)
        await settle()
        now = loop.time()
        assert not connection.is_overdue(now + IDLE_CONNECTION_S - 1)
        assert connection.is_overdue(now + IDLE_CONNECTION_S + 1)

    with runner() as run:
        run.run(main())


def test_is_overdue_is_false_during_a_request() -> None:
    """A long upload is bounded by its own pace."""

    async def main() -> None:
        transport = Transport()
        connection = connect(wait_for_ever, transport)
        connection.data_received(REQUEST)
        assert not connection.is_overdue(1e9)
        transport.abort()
        connection.cycle.message_event.set()

    with runner() as run:
        run.run(main())


def test_close_connections_closes_only_overdue_connections() -> None:
    """Protocols of another class are ignored."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        old, new = Transport(), Transport()
        connections = {connect(respond, old)}
        loop.advanced_s = IDLE_CONNECTION_S
        connections.add(connect(respond, new))
        close_connections({*connections, object()}, loop.time() + 1)
        assert (old.aborts, new.aborts) == (1, 0)
        close_connections({*connections, object()})
        assert new.aborts == 1

    with runner() as run:
        run.run(main())


def test_send_file_ends_if_the_transport_closes_between_two_slices(tmp_path: Path) -> None:
    """A transport that is closing means that the client left, not an error of asyncio."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")

    async def main() -> Transport:
        transport = Transport(open_checks=2)
        connect(send_file(path), transport).data_received(REQUEST)
        await settle()
        return transport

    with runner() as run:
        transport = run.run(main())
    assert transport.aborts == 1
    assert b"HTTP/1.1 200" in transport.written


def test_close_soon_leaves_an_expired_timeout_alone(tmp_path: Path) -> None:
    """The server may stop just when a client's time is up."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")

    async def main() -> Transport:
        loop: Any = asyncio.get_running_loop()
        transport, ended = Transport(), asyncio.Event()
        connection = connect(send_file(path), transport, idle_s=0.01)

        async def stall(_count: int) -> int:
            try:
                await asyncio.Event().wait()
            finally:
                connection.close_soon()
                assert transport.aborts == 0
                ended.set()
            return 0

        loop.send = stall
        connection.data_received(REQUEST)
        await ended.wait()
        await settle()
        return transport

    with runner() as run:
        assert run.run(main()).aborts == 1


def test_send_file_sends_larger_slices_while_the_client_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow client is sent little at once, so that the idle time is one for little."""
    monkeypatch.setattr(module, "_SLICE", 1)
    monkeypatch.setattr(module, "_MAX_SLICE", 8)
    path = tmp_path / "x"
    path.write_bytes(bytes(20))
    durations = iter([0.5, 0.5, 7.0, 0.5, 0.5, 0.5, 0.5])
    slices: list[int] = []

    async def main() -> bool:
        loop: Any = asyncio.get_running_loop()

        async def send(count: int) -> int:
            slices.append(count)
            loop.advanced_s += next(durations)
            return count

        loop.send = send
        connection = connect(send_file(path), Transport(), idle_s=1e6)
        connection.data_received(REQUEST)
        await settle()
        return bool(connection.cycle.response_complete)

    with runner() as run:
        assert run.run(main())
    assert slices == [1, 2, 4, 1, 2, 4, 6]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (1024, (288, 128)),
        (120, (24, 15)),
        (16, (1, 2)),
        (1 << 20, (4096, 128)),
        (resource.RLIM_INFINITY, (4096, 128)),
    ],
)
def test_connection_limits(
    monkeypatch: pytest.MonkeyPatch, files: int, expected: tuple[int, int]
) -> None:
    """Connections and the files of each fit into the descriptors that the process may have."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert connection_limits() == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1024, 4096), [(4096, 4096)]),
        ((1024, 1 << 20), [(12448, 1 << 20)]),
        ((1024, resource.RLIM_INFINITY), [(12448, resource.RLIM_INFINITY)]),
        ((120, 120), []),
        ((1 << 20, 1 << 20), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ],
)
def test_raise_nofile_limit(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    """The limit is raised as far as it helps, and never lowered."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, wanted: calls.append(wanted))
    raise_nofile_limit()
    assert calls == expected
