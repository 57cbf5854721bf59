"""transport/connect.py: new connections, by addresses that are tried side by side."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from tests.routes import make_routes

from brolga.protocol.http import BlockingCall
from brolga.transport.addresses import AddressRefused, Zone
from brolga.transport.connect import open_stream
from brolga.transport.connection import Timeouts
from brolga.transport.failures import ConnectionFailure
from brolga.transport.steps import Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.transport.streams import Stream

Resolved: TypeAlias = "tuple[int, int, int, str, Any]"

TIMEOUTS = Timeouts(3.0, 30.0, 900.0, ignored_stops=1)
V4, V6 = socket.AF_INET, socket.AF_INET6


class Attempt:
    """A socket that connects as its address says: at once, with an error, when told, or never."""

    made: list[Attempt]

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self.family = family
        self.is_closed = False
        self.address = ""
        self.error = 0
        self.made.append(self)

    def setsockopt(self, *_: int) -> None:
        """Take any option."""

    def setblocking(self, flag: bool) -> None:
        """Take only sockets that do not block."""
        assert flag is False

    def connect(self, target: tuple[str, int]) -> None:
        """Raise the error that the address says, if it comes at once."""
        self.address = target[0]
        at_once = {"10.0.0.1": errno.ENETUNREACH, "10.0.0.2": errno.EMFILE, "10.0.0.3": 0}
        if number := at_once.get(self.address, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))

    def getsockopt(self, *_: int) -> int:
        """Return the error of connecting."""
        return self.error

    def getpeername(self) -> tuple[str, int]:
        """Return the address."""
        if self.address == "192.0.2.99":
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return self.address, 80

    def close(self) -> None:
        """Note it."""
        self.is_closed = True

    def sendmsg(self, buffers: Sequence[bytes]) -> int:
        """Send all."""
        return sum(map(len, buffers))

    def recv(self, *_: object) -> int:
        """Say that nothing has come."""
        raise BlockingIOError

    recv_into = recv


class Connecting:
    """Drives the steps of a connection to some addresses; the time is the test's."""

    def __init__(self, addresses: list[str], redirected_from: str = "") -> None:
        self.routes = make_routes()
        route = self.routes.find("http://registry.example/", redirected_from)
        self.steps = open_stream(route, TIMEOUTS, self.routes.hosts)
        self.result: Stream | None = None
        lookup = next(self.steps)
        assert isinstance(lookup, BlockingCall)
        found = [(V6 if ":" in a else V4, 1, 6, "", (a, 80)) for a in addresses]
        self.wait = self._advance(found)

    def _advance(self, result: object) -> Wait | None:
        try:
            wait = self.steps.send(result)
        except StopIteration as end:
            self.result = end.value
            return None
        assert isinstance(wait, Wait)
        assert (wait.events, wait.ignored_stops) == (select.POLLOUT, 1)
        return wait

    def finish(self, *addresses: str, error: int = 0) -> None:
        """Let attempts connect, or fail with an error; without any, the wait is over."""
        ready = {}
        for attempt in Attempt.made:
            if attempt.address in addresses:
                attempt.error = error
                ready[attempt] = select.POLLOUT
        self.wait = self._advance(ready)

    @property
    def waits_for(self) -> list[str]:
        """The addresses that are being tried."""
        sockets: Any = self.wait.sockets if self.wait else ()
        return [attempt.address for attempt in sockets]

    @property
    def connected(self) -> str:
        """The address of the result; every other socket is closed."""
        chosen: Any = self.result.socket if self.result else None
        assert [a for a in Attempt.made if not a.is_closed] == [chosen]
        return str(chosen.address)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make the sockets and the clock; at the end no attempt may be open."""
    now = [100.0]
    Attempt.made = []
    monkeypatch.setattr("brolga.transport.connect.socket.socket", Attempt)
    monkeypatch.setattr("brolga.transport.connect.time.monotonic", lambda: now[0])
    return now


def open_attempts() -> list[str]:
    """Return the addresses of sockets that are open."""
    return [attempt.address for attempt in Attempt.made if not attempt.is_closed]


class TestAddresses:
    """RFC 8305: a second address is tried while the first one does not answer."""

    def test_only_address_is_awaited_until_timeout(self) -> None:
        """There is nothing else to try."""
        connecting = Connecting(["192.0.2.1"])
        assert connecting.wait is not None
        assert (connecting.waits_for, connecting.wait.seconds) == (["192.0.2.1"], 3.0)
        connecting.finish("192.0.2.1")
        assert connecting.connected == "192.0.2.1"

    @pytest.mark.parametrize("winner", ["192.0.2.1", "192.0.2.2"])
    def test_next_address_is_tried_after_delay(self, winner: str, now: list[float]) -> None:
        """The first one that connects is used, and the other closed."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        assert connecting.wait is not None
        assert (connecting.waits_for, connecting.wait.seconds) == (["192.0.2.1"], 0.25)
        now[0] += 0.25
        connecting.finish()
        assert connecting.waits_for == ["192.0.2.1", "192.0.2.2"]
        assert connecting.wait.seconds == 2.75
        connecting.finish(winner)
        assert connecting.connected == winner

    def test_both_connect_at_once(self, now: list[float]) -> None:
        """One of them is used, and the other closed."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        now[0] += 0.25
        connecting.finish()
        connecting.finish("192.0.2.1", "192.0.2.2")
        assert connecting.connected == "192.0.2.1"

    def test_next_address_is_tried_at_once_after_refusal(self) -> None:
        """No one has to wait for nothing."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        connecting.finish("192.0.2.1", error=errno.ECONNREFUSED)
        assert connecting.waits_for == ["192.0.2.2"]
        connecting.finish("192.0.2.2")
        assert connecting.connected == "192.0.2.2"

    def test_unreachable_network_is_skipped(self) -> None:
        """A machine may have addresses of one family only."""
        connecting = Connecting(["10.0.0.1", "10.0.0.1", "192.0.2.1"])
        assert connecting.waits_for == ["192.0.2.1"]
        connecting.finish("192.0.2.1")
        assert connecting.connected == "192.0.2.1"

    def test_connection_at_once_is_used(self) -> None:
        """The loopback may connect before it is waited for."""
        connecting = Connecting(["10.0.0.3"])
        connecting.finish("10.0.0.3")
        assert connecting.connected == "10.0.0.3"

    def test_families_take_turns(self, now: list[float]) -> None:
        """A broken IPv6 delays by one attempt, not by one for each of its addresses."""
        connecting = Connecting(["::1", "::2", "::3", "192.0.2.1", "192.0.2.2"])
        for _ in range(4):
            now[0] += 0.25
            connecting.finish()
        assert connecting.waits_for == ["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]
        connecting.finish("::3")
        assert connecting.connected == "::3"

    def test_all_addresses_refuse(self) -> None:
        """The last error is shown."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        connecting.finish("192.0.2.1", error=errno.EHOSTUNREACH)
        with pytest.raises(ConnectionFailure, match=r"cannot connect: .*refused") as caught:
            connecting.finish("192.0.2.2", error=errno.ECONNREFUSED)
        assert caught.value.reason == "connect"
        assert open_attempts() == []

    def test_last_attempt_of_several_is_awaited(self, now: list[float]) -> None:
        """One refusal does not end the others."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        now[0] += 0.25
        connecting.finish()
        connecting.finish("192.0.2.2", error=errno.ECONNREFUSED)
        assert connecting.waits_for == ["192.0.2.1"]
        connecting.finish("192.0.2.1")
        assert connecting.connected == "192.0.2.1"

    def test_time_of_all_attempts_is_limited(self, now: list[float]) -> None:
        """Every one of them is closed."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        now[0] += 0.25
        connecting.finish()
        now[0] += 2.75
        with pytest.raises(ConnectionFailure, match="connecting took too long") as caught:
            connecting.finish()
        assert caught.value.reason == "timeout"
        assert open_attempts() == []

    @pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
    def test_interrupt_closes_attempts(self, error: type[BaseException], now: list[float]) -> None:
        """Nothing is left open."""
        connecting = Connecting(["192.0.2.1", "192.0.2.2"])
        now[0] += 0.25
        connecting.finish()
        with pytest.raises(error):
            connecting.steps.throw(error())
        assert open_attempts() == []

    def test_error_of_this_machine_is_raised(self, now: list[float]) -> None:
        """Another address would not help, and the registry is not at fault."""
        connecting = Connecting(["192.0.2.1", "10.0.0.2", "192.0.2.2"])
        now[0] += 0.25
        with pytest.raises(OSError, match="open files") as caught:
            connecting.finish()
        assert caught.value.errno == errno.EMFILE
        assert open_attempts() == []

    def test_peer_that_hangs_up_at_once_is_closed(self) -> None:
        """A socket without a peer has no address."""
        connecting = Connecting(["192.0.2.99"])
        with pytest.raises(ConnectionFailure, match="cannot connect") as caught:
            connecting.finish("192.0.2.99")
        assert caught.value.reason == "connect"
        assert open_attempts() == []


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        UnicodeError("label empty or too long"),
    ],
)
def test_unknown_name_is_connect_error(error: Exception) -> None:
    """A name of DNS may also be one that cannot be."""
    routes = make_routes()
    steps = open_stream(routes.find("http://registry.example/", ""), TIMEOUTS, routes.hosts)
    next(steps)
    with pytest.raises(ConnectionFailure, match="cannot connect") as caught:
        steps.throw(error)
    assert caught.value.reason == "connect"


def test_proxy_has_time_to_connect() -> None:
    """The response to a CONNECT is not one of a registry, which may take a quarter of an hour."""
    routes = make_routes({"https": ("HTTPS_PROXY", "http://proxy.example:3128")})
    steps = open_stream(routes.find("https://registry.example/", ""), TIMEOUTS, routes.hosts)
    next(steps)
    wait = steps.send([(V4, 1, 6, "", ("192.0.2.1", 3128))])
    result: Any = {Attempt.made[0]: select.POLLOUT}
    while True:
        wait = steps.send(result)
        assert isinstance(wait, Wait)
        if wait.seconds:
            break
        result = {}
    assert (wait.events, wait.ignored_stops) == (select.POLLIN, 1)
    assert wait.seconds <= TIMEOUTS.connect_s
    steps.close()
    assert open_attempts() == []


class TestZones:
    """The addresses of a host that a registry named are checked before they are tried."""

    def test_refused_address_is_not_tried(self) -> None:
        """Connecting alone may have an effect."""
        connecting = Connecting(["169.254.169.254", "8.8.8.8"], "public.example")
        assert connecting.waits_for == ["8.8.8.8"]
        assert [attempt.address for attempt in Attempt.made] == ["8.8.8.8"]
        connecting.finish("8.8.8.8")
        assert connecting.connected == "8.8.8.8"
        assert connecting.routes.hosts.zone("registry.example") is Zone.PUBLIC

    @pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1"])
    def test_only_refused_addresses_raise(self, address: str) -> None:
        """The error names the last of them."""
        with pytest.raises(AddressRefused, match=address):
            Connecting(["192.168.0.1", address], "public.example")
        assert Attempt.made == []

    def test_address_of_user_is_not_checked(self) -> None:
        """The user may name any host; its zone is recorded."""
        connecting = Connecting(["169.254.169.254"])
        connecting.finish("169.254.169.254")
        assert connecting.connected == "169.254.169.254"
        assert connecting.routes.hosts.zone("registry.example") is Zone.LINK_LOCAL
