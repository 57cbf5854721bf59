"""New connections: addresses that are tried side by side (RFC 8305), tunnels of proxies, TLS."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brolga.protocol.http import BlockingCall
from brolga.transport.addresses import AddressRefused, zone_of
from brolga.transport.connection import Transfer
from brolga.transport.failures import ConnectionFailure, connection_failure
from brolga.transport.http11 import Exchange
from brolga.transport.steps import Wait
from brolga.transport.streams import PlainStream, TLSStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from brolga.transport.addresses import ReachedHosts
    from brolga.transport.connection import Timeouts
    from brolga.transport.routes import Route
    from brolga.transport.steps import Ready, Steps
    from brolga.transport.streams import Stream

_Address: TypeAlias = "tuple[int, int, int, str, Any]"  # as getaddrinfo returns it

_ATTEMPT_DELAY_S: Final = 0.25  # until the next address is tried too (RFC 8305, section 5)
# Errors of this machine: no descriptors, no memory.
_LOCAL_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# A vanished peer is noticed after a minute and a half, however long a response may take.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
        if hasattr(socket, name)
    ),
)


def open_stream(route: Route, timeouts: Timeouts, hosts: ReachedHosts) -> Steps[Stream]:
    """Connect to the host of a route, or to its proxy, and agree on TLS.

    Raises ConnectionFailure; AddressRefused; OSError if this machine lacks descriptors or memory:
    the registry is not at fault.
    """
    stream: Stream
    if route.proxy is None:

        def check(address: str) -> None:
            if zone_of(address) > route.limit:
                raise AddressRefused(address)

        stream = PlainStream((yield from _connect(route.host, route.port, timeouts, check)))
    else:
        proxy = route.proxy
        stream = PlainStream((yield from _connect(proxy.host, proxy.port, timeouts)))
    try:
        if route.proxy is None:
            hosts.add(route.host, zone_of(stream.socket.getpeername()[0]))
        elif route.proxy_context is not None:
            stream = yield from _start_tls(stream, route.proxy_context, route.proxy.host, timeouts)
        if route.context is not None:
            if route.proxy is not None:
                yield from _open_tunnel(stream, route, timeouts)
            stream = yield from _start_tls(stream, route.context, route.host, timeouts)
    except OSError as error:  # the peer hung up at once
        stream.close()
        raise connection_failure(error, is_handshake=True) from error
    except BaseException:
        stream.close()
        raise
    return stream


def _connect(
    host: str,
    port: int,
    timeouts: Timeouts,
    check: Callable[[str], None] = lambda _address: None,
) -> Steps[socket.socket]:
    """Connect to the first address that answers; `check` is called with each before."""
    end = time.monotonic() + timeouts.connect_s
    addresses = yield from _resolve(host, port)
    attempts: list[socket.socket] = []
    failure: OSError | AddressRefused | None = None
    try:
        while addresses or attempts:
            if addresses:
                try:
                    _start_attempt(addresses.popleft(), attempts, check)
                except AddressRefused as error:
                    failure = error
                    continue
                except OSError as error:
                    _raise_if_local(error)
                    failure = error
                    continue
            left = end - time.monotonic()
            seconds = min(left, _ATTEMPT_DELAY_S) if addresses else left
            wait = Wait(attempts, select.POLLOUT, max(0.0, seconds), timeouts.ignored_stops)
            ready: Ready = yield wait
            for connected in ready:
                number = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                attempts.remove(connected)
                if not number:
                    return connected
                connected.close()
                failure = OSError(number, os.strerror(number))
            if time.monotonic() >= end:
                raise ConnectionFailure("timeout", "connecting took too long")
    finally:
        for attempt in attempts:
            attempt.close()
    if isinstance(failure, AddressRefused):
        raise failure
    raise ConnectionFailure("connect", "cannot connect", failure) from failure


def _resolve(host: str, port: int) -> Steps[deque[_Address]]:
    """Return the addresses of a host, of both families by turns (RFC 8305, section 4)."""
    try:
        # Bytes: for a str, Python loads its codec of international names.
        name = host.encode("ascii")
        lookup = partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM)
        found: list[_Address] = yield BlockingCall(lookup)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid name of DNS
        raise ConnectionFailure("connect", "cannot connect", error) from error
    first = [address for address in found if address[0] == found[0][0]]
    others = [address for address in found if address[0] != found[0][0]]
    return deque(filter(None, chain.from_iterable(zip_longest(first, others))))


def _start_attempt(
    address: _Address, attempts: list[socket.socket], check: Callable[[str], None]
) -> None:
    """Begin to connect to an address. Raises OSError, AddressRefused."""
    family, kind, protocol, _, target = address
    check(target[0])
    attempt = socket.socket(family, kind, protocol)
    attempts.append(attempt)
    attempt.setblocking(False)  # noqa: FBT003 - the standard library's signature
    try:
        for option in _OPTIONS:
            attempt.setsockopt(*option)
        with suppress(BlockingIOError):
            attempt.connect(target)
    except BaseException:
        attempts.remove(attempt)
        attempt.close()
        raise


def _raise_if_local(error: OSError) -> None:
    if error.errno in _LOCAL_ERRNOS:
        raise error


def _start_tls(
    below: Stream, context: ssl.SSLContext, host: str, timeouts: Timeouts
) -> Steps[Stream]:
    try:
        stream = TLSStream(below, context, host)
        yield from stream.handshake(timeouts.connect_s, timeouts.ignored_stops)
    except TimeoutError:
        raise ConnectionFailure("timeout", "connecting took too long") from None
    except ValueError as error:  # a name that cannot be in a certificate
        raise ConnectionFailure("connect", "cannot connect", error) from error
    return stream


def _open_tunnel(stream: Stream, route: Route, timeouts: Timeouts) -> Steps[None]:
    """Let a proxy connect the stream to a host (RFC 9110, section 9.3.6)."""
    bracketed = f"[{route.host}]" if ":" in route.host else route.host
    target = f"{bracketed}:{route.port}"
    exchange = Exchange("CONNECT", target, {"Host": target, **route.proxy_headers})
    yield from Transfer(stream, exchange, timeouts._replace(read_s=timeouts.connect_s)).run()
    if exchange.status // 100 != 2:  # noqa: PLR2004 - 2xx
        raise ConnectionFailure("connect", "the proxy refused", exchange.status)
