from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any

import pytest

from brolga.server import connections
from brolga.server.connections import FREE_S, Connection, _Sender, cut_all, cut_overdue, room, widen
from brolga.server.running import _Complaints

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Message


class Cycle:
    """An answer: whether it is complete."""

    def __init__(self, *, complete: bool) -> None:
        self.response_complete = complete


def connection(cycle: Cycle | None, free_since: float) -> Connection:
    """Return a connection in some state, without a socket."""
    made: Any = Connection.__new__(Connection)
    made.cycle = cycle
    made._free_since = free_since
    return made  # type: ignore[no-any-return] # it is one


@pytest.mark.parametrize("cycle", [None, Cycle(complete=True)])
def test_overdue(cycle: Cycle | None) -> None:
    """The bound counts from the last answer, or from the start."""
    assert not connection(cycle, 100.0).overdue(100.0 + FREE_S)
    assert connection(cycle, 100.0).overdue(100.1 + FREE_S)


def test_a_request_that_is_served_is_never_overdue() -> None:
    """A long upload is bounded by its own pace."""
    assert not connection(Cycle(complete=False), 0.0).overdue(1e9)


def test_only_those_that_are_overdue_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no connection of ours is left to its own."""
    cut: list[Connection] = []
    monkeypatch.setattr(Connection, "cut", lambda self: cut.append(self))  # noqa: PLW0108 - a method
    old, new = connection(None, 0.0), connection(None, FREE_S)
    cut_overdue({old, new, object()}, FREE_S + 1)
    assert cut == [old]
    cut.clear()
    cut_all({old, new, object()})
    assert set(cut) == {old, new}


class Transport:
    """A transport that closes while a file is being sent."""

    def __init__(self) -> None:
        self.asked = 0
        self.aborted = False

    def is_closing(self) -> bool:
        """Say no once, for the answer's head."""
        self.asked += 1
        return self.asked > 1

    def abort(self) -> None:
        """Note it."""
        self.aborted = True

    def get_extra_info(self, name: str) -> Any:
        """Return a socket that is closed."""
        return type("Closed", (), {"fileno": lambda _self: -1})() if name == "socket" else None


def test_a_connection_that_closes_between_two_slices(tmp_path: Path) -> None:
    """A transport that is closing is a client that left, and no mistake as asyncio has it."""
    transport: Any = Transport()
    path = tmp_path / "x"
    path.write_bytes(b"abc")

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        with path.open("rb") as file:
            await send(
                {"type": "http.response.zerocopysend", "file": file, "offset": 0, "count": 3}
            )
        raise AssertionError

    async def send(_message: Message) -> None:
        raise AssertionError

    async def main() -> None:
        sender = _Sender(application, transport, 1.0)
        sender.lost.set()
        await sender({"type": "http"}, asyncio.Event().wait, send)  # type: ignore[arg-type] # never asked

    asyncio.run(main())
    assert transport.aborted


def test_a_wait_that_is_over_is_not_ended_again() -> None:
    """The server may stop just when a client's time is up."""
    transport: Any = Transport()

    async def main() -> None:
        sender = _Sender(None, transport, 1.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0) as sender._waiting:
                try:
                    await asyncio.Event().wait()
                finally:
                    sender.cut()

    asyncio.run(main())
    assert not transport.aborted


def test_slices_grow_while_the_client_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow client is given little at once, so that the idle time is one for little."""
    monkeypatch.setattr(connections, "_SLICE", 1)
    monkeypatch.setattr(connections, "_LARGEST_SLICE", 8)
    now = iter([0.0, 0.5, 1.0, 1.5, 2.0, 9.0, 10.0, 10.5, 11.0, 11.5, 12.0, 12.5, 13.0, 13.5])
    slices: list[int] = []

    class Loop:
        def time(self) -> float:
            return next(now)

        async def sendfile(self, _to: Any, _file: Any, _offset: int, count: int) -> int:
            slices.append(count)
            return count

    class Open(Transport):
        def is_closing(self) -> bool:
            return False

    class Answer:
        expected_content_length = 20

        async def send(self, message: Message) -> None:
            assert message["type"] == "http.response.body"

    answer = Answer()

    async def main() -> None:
        transport: Any = Open()
        sender = _Sender(None, transport, 1.0)
        loop: Any = Loop()
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
        message = {"file": (tmp_path / "x"), "offset": 0, "count": 20}
        monkeypatch.setattr(asyncio, "timeout", lambda _s: Unlimited())
        await sender._send_file(message, answer.send)

    class Unlimited:
        async def __aenter__(self) -> None:
            """Begin."""

        async def __aexit__(self, *_: object) -> None:
            """End."""

    asyncio.run(main())
    assert slices == [1, 2, 4, 1, 2, 4, 6]
    assert answer.expected_content_length == 0


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
def test_room(monkeypatch: pytest.MonkeyPatch, files: int, expected: tuple[int, int]) -> None:
    """Connections and what they open fit into the descriptors that the process may have."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert room() == expected


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
def test_widen(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    """What the process may open is raised as far as it helps, and never lowered."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, wanted: given.append(wanted))
    widen()
    assert given == expected


def test_complaints_of_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """That no connection can be accepted is told once, anything else as ever."""
    passed: list[Any] = []
    now = iter([1000.0, 1000.1, 1000.2, 1061.0, 1061.1])

    class Loop:
        def time(self) -> float:
            return next(now)

        def default_exception_handler(self, context: Any) -> None:
            passed.append(context)

    loop: Any = Loop()
    complaints = _Complaints()
    full = {"message": "socket.accept() out of system resource", "exception": OSError("too many")}
    for context in (full, full, {"message": "other"}, full):
        complaints(loop, context)
    assert caplog.text.count("connections must wait: too many") == 2
    assert passed == [{"message": "other"}]
