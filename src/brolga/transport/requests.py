"""Performs requests, as steps that the drivers for threads and for asyncio share.

A connection is taken from the pool or made, the request sent, the response received, and what
failed told as a TransportError or a BodyError. A body is never sent twice.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from brolga._version import __version__
from brolga.errors import ProtocolViolation, TransportError
from brolga.protocol.http import BodyError, Request, Response, Timeout
from brolga.protocol.urls import redact
from brolga.transport import connection
from brolga.transport.addresses import AddressRefused
from brolga.transport.connect import open_stream
from brolga.transport.connection import IncompleteBody, Timeouts, Transfer
from brolga.transport.failures import ConnectionFailure, transport_error
from brolga.transport.http11 import Exchange, is_interrupt
from brolga.transport.pool import Pool
from brolga.transport.proxy import CHECK_PROXY, InvalidProxy, read_environment
from brolga.transport.responses import Warnings
from brolga.transport.routes import Routes
from brolga.transport.steps import perform
from brolga.transport.tls import CERTS_DIRS, TLSConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from logging import Logger
    from os import PathLike
    from typing import Self

    from brolga.spec.blob import Block
    from brolga.transport.routes import Route
    from brolga.transport.steps import Steps

_USER_AGENT: Final = f"brolga/{__version__}"
_LONG: Final = 15  # times the default: the registry moves a whole blob before it responds
_MAX_TIMEOUT_S: Final = 86400.0  # the operating system's waits take a little more
_MAX_BODY: Final = 4 << 20  # bytes of a body that is read at once (the spec's limit of a manifest)
_STREAMED_STATUSES: Final = (200, 206)
_PROXY_AUTHENTICATION: Final = 407


class SecondInterrupt(BaseException):
    """A second interrupt, `error`, came while the first was deferred: make no more requests."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Requests:
    """What performs requests, with the options of `Transport`. Threads may share an instance."""

    def __init__(  # noqa: PLR0913 - each is an independent option
        self,
        *,
        insecure: bool = False,
        ca_cert: str | PathLike[str] | None = None,
        client_cert: str | PathLike[str] | None = None,
        client_key: str | PathLike[str] | None = None,
        certs_dirs: Iterable[str | PathLike[str]] = CERTS_DIRS,
        timeout_s: float = 60.0,
        keepalive: int = 8,
        on_warning: Callable[[str, str], None] | None = None,
    ) -> None:
        if not 0 < timeout_s <= _MAX_TIMEOUT_S:
            raise ValueError(f"a timeout is a time of up to a day, not {timeout_s} s")
        self._timeout_s = timeout_s
        self._warnings = Warnings(on_warning or (lambda _host, _text: None))
        tls = TLSConfig(
            insecure=insecure,
            ca_cert=ca_cert,
            client_cert=client_cert,
            client_key=client_key,
            certs_dirs=certs_dirs,
        )
        self._routes = Routes(tls, read_environment())
        self.pool = Pool(keepalive)

    def perform(self, request: Request) -> Steps[Response]:
        """Perform a request, and log it and its response, but no header or body.

        Raises TransportError; BodyError if the body failed, or an interrupt came meanwhile;
        SecondInterrupt; ProtocolViolation for an address that the URL must not lead to.
        """
        if (log := _find_log()) is None:
            return (yield from self._perform(request))
        name = f"{request.method} {redact(request.url)}"
        log.debug("%s", name)
        began = time.monotonic()
        try:
            response = yield from self._perform(request)
        except BaseException as error:
            ms = 1000 * (time.monotonic() - began)
            log.debug("%s: %s after %.0f ms", name, type(error).__name__, ms)
            raise
        ms = 1000 * (time.monotonic() - began)
        body = "a streamed body" if response.body_stream else f"{len(response.body)} bytes received"
        status, sent = response.status, response.sent
        log.debug("%s: %d, %d bytes sent, %s, %.0f ms", name, status, sent, body, ms)
        return response

    def _perform(self, request: Request) -> Steps[Response]:
        self.pool.check_open()
        route = self._find_route(request)
        attempt = _Attempt(request, route, self._timeouts(request.timeout))
        exchange = attempt.exchange
        response: Response | None = None
        try:
            response = yield from self._exchange(request, route, attempt)
        except (ConnectionFailure, IncompleteBody) as failure:
            if isinstance(failure, ConnectionFailure) and exchange.error is None:
                raise attempt.error(failure) from failure
        except AddressRefused as refused:
            raise ProtocolViolation(
                f"the registry at {request.redirected_from} sent {attempt.description}, which "
                f"leads to {refused}, inside a private network",
                hint="if that is right, name the registry by its address there",
            ) from None
        except BaseException as interrupt:
            if is_interrupt(interrupt) and is_interrupt(exchange.error):
                raise SecondInterrupt(interrupt) from None
            if not (exchange.defer(interrupt) and exchange.status):
                raise
            response = attempt.response()
        finally:
            error = exchange.error
            exchange.close()
        if error is not None:
            try:
                raise BodyError(error, response)
            finally:
                del error  # its traceback refers to this frame
        assert response is not None  # noqa: S101 - else the body failed
        self._warnings.report(route.authority, response.headers.get("warning", ""))
        return response

    def _find_route(self, request: Request) -> Route:
        try:
            return self._routes.find(request.url, request.redirected_from)
        except ValueError as error:
            text = f"{request.method}: cannot connect: {error}"
            hint = error.hint if isinstance(error, InvalidProxy) else ""
            raise TransportError(text, reason="connect", hint=hint) from error

    def _timeouts(self, timeout: Timeout) -> Timeouts:
        if timeout is Timeout.SHORT:
            seconds = connection.CLEANUP_TIMEOUT_S
            return Timeouts(seconds, seconds, seconds, ignored_stops=1)
        seconds = self._timeout_s
        return Timeouts(seconds, seconds, _LONG * seconds if timeout is Timeout.LONG else seconds)

    def _exchange(self, request: Request, route: Route, attempt: _Attempt) -> Steps[Response]:
        exchange = attempt.exchange
        stream = self.pool.take(route.key)
        if stream is None:
            attempt.is_new_connection = True
            stream = yield from open_stream(route, attempt.timeouts, self._routes.hosts)
            self.pool.add(stream)
        body = ResponseBody(Transfer(stream, exchange, attempt.timeouts), route, self.pool, attempt)
        try:
            yield from body.transfer.run()
            _check_proxy(route, exchange)
            is_streamed = exchange.status in _STREAMED_STATUSES and exchange.error is None
            if request.stream_response and is_streamed:
                return attempt.response(stream=body)
            data = yield from _receive_all(body.transfer, attempt.timeouts.read_s)
        except BaseException:
            body.close()
            raise
        body.close()
        return attempt.response(data)


class _Attempt:
    """One attempt to perform a request, as errors describe it."""

    def __init__(self, request: Request, route: Route, timeouts: Timeouts) -> None:
        is_proxied = route.proxy is not None and route.context is None
        headers = {
            "Host": route.authority,
            "User-Agent": _USER_AGENT,
            # A digest is of the stored bytes: no proxy may compress them.
            **({"Accept-Encoding": "identity"} if request.stream_response else {}),
            **(route.proxy_headers if is_proxied else {}),
            **request.headers,
        }
        target = f"http://{route.authority}{route.target}" if is_proxied else route.target
        self.timeouts = timeouts
        self.is_new_connection = False
        self.description = f"{request.method} to {route.authority}"
        self._hint = CHECK_PROXY if route.proxy else ""
        if route.proxy:
            self.description += f" by the proxy {route.proxy}"
        try:
            self.exchange = Exchange(request.method, target, headers, request.body, request.size)
        except ValueError as error:
            text = f"{self.description}: the request is not valid: {error}"
            raise TransportError(text, reason="cut") from error

    def error(self, failure: ConnectionFailure) -> TransportError:
        """Return the error of this request."""
        return transport_error(
            failure,
            self.description,
            self._hint,
            sent=self.exchange.sent,
            is_new_connection=self.is_new_connection,
        )

    def response(self, body: bytes = b"", stream: ResponseBody | None = None) -> Response:
        """Return the response, of which the head has come."""
        exchange = self.exchange
        return Response(
            status=exchange.status,
            headers=exchange.headers,
            body=body,
            sent=exchange.sent,
            complete=exchange.is_sent,
            body_stream=stream,
        )


class ResponseBody:
    """The body of a response, in blocks of 2 MiB at most.

    At its end the connection returns to the pool; if it is closed before, so is the connection.
    """

    _is_open = False  # for `__del__`, if an interrupt ends `__init__`

    def __init__(self, transfer: Transfer, route: Route, pool: Pool, attempt: _Attempt) -> None:
        self.transfer = transfer
        self._route = route
        self._pool = pool
        self._attempt = attempt
        self._is_open = True

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Block:
        """Return the next block; wait for it in this thread. Raises TransportError."""
        if (block := perform(self.receive())) is None:
            raise StopIteration
        return block

    def receive(self) -> Steps[Block | None]:
        """Return the next block, None at the end. Raises TransportError."""
        if not self._is_open:
            return None
        try:
            block = yield from self.transfer.receive_block()
        except ConnectionFailure as failure:
            self.close()
            raise self._attempt.error(failure) from failure
        except BaseException:
            self.close()
            raise
        if block is None:
            self.close()
        return block

    def close(self) -> None:
        """Keep the connection if the body has ended, close it if not. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        stream = self.transfer.stream
        if self.transfer.exchange.is_reusable:
            self._pool.put(self._route.key, stream)
        else:
            self._pool.discard(stream)

    __del__ = close  # it was dropped


def _find_log() -> Logger | None:
    """Return the log of requests, if anything reads it."""
    if "logging" not in sys.modules:  # slow to import; a program with a log has done so
        return None
    import logging

    log = logging.getLogger("brolga.transport")
    return log if log.isEnabledFor(logging.DEBUG) else None


def _check_proxy(route: Route, exchange: Exchange) -> None:
    if route.proxy and exchange.status == _PROXY_AUTHENTICATION:
        raise ConnectionFailure("connect", "the proxy refused", "407 Proxy Authentication Required")


def _receive_all(transfer: Transfer, seconds: float) -> Steps[bytes]:
    """Return the part of a body that comes in `seconds`, at most `_MAX_BODY` bytes.

    A peer that closes a connection with unread bytes of a request resets it, which can destroy the
    end of its response (RFC 9112, section 9.6): then what has come counts.
    """
    end, body = time.monotonic() + seconds, bytearray()
    while len(body) < _MAX_BODY and time.monotonic() <= end:
        try:
            block = yield from transfer.receive_block()
        except ConnectionFailure:
            if transfer.exchange.is_sent:
                raise
            break
        if block is None:
            break
        body += block
    return bytes(body[:_MAX_BODY])
