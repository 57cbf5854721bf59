"""The blocking driver: performs the requests of a flow over real connections.

Connections come from httpcore's pools. Below them `connection` notices a response that comes while
the body is still being sent. A body is never sent twice.
"""

from __future__ import annotations

import logging
import time
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpcore2 as httpcore

from brolga._version import __version__
from brolga.errors import ProtocolViolation, TransportError
from brolga.protocol import BodyError, Request, Response, Timeout, redact
from brolga.protocol.http import BlockingCall, ReadBlock, Step
from brolga.stream.worker import sleep
from brolga.transport import request_state, responses
from brolga.transport.addresses import AddressRefused
from brolga.transport.pools import PooledRoute, Pools
from brolga.transport.proxy import CHECK_PROXY, InvalidProxy, read_environment
from brolga.transport.request_state import INTERRUPTS, RequestState, SecondInterrupt
from brolga.transport.tls import CERTS_DIRS, TLSConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from os import PathLike

    from brolga.protocol import Flow

_T = TypeVar("_T")
_A = TypeVar("_A")

_LOG: Final = logging.getLogger("brolga.transport")
_USER_AGENT: Final = f"brolga/{__version__}"
_LONG: Final = 15  # times the default: the registry moves a whole blob before it responds
_MAX_TIMEOUT_S: Final = 86400.0  # the operating system's waits take a little more
_STREAMED_STATUSES: Final = (200, 206)
_PROXY_AUTHENTICATION: Final = 407


class Transport:
    """Connections to registries, and the driver that performs a flow's requests over them.

    `insecure` disables the verification of TLS certificates; `ca_cert` is a PEM file of authorities
    to trust in addition to the system's. `client_cert` and `client_key` are PEM files (the key may
    be in the certificate's) for hosts that the user names; `certs_dirs` are docker's `certs.d`, in
    which a directory HOST or HOST:PORT has authorities (*.crt) and client pairs (*.cert, *.key).

    `timeout_s` limits connecting, each write and the wait for the whole head of a response; the
    response to an upload's PATCH or PUT has 15 times as long. A body of less than 1,024 bytes a
    second, over that much waiting, fails. At most `keepalive` idle connections are kept.
    `on_warning` is called with host and text of each new warning of a registry. `pause` sleeps for
    a number of seconds. Proxies are read from the environment now. Threads may share a transport.

    Raises OSError if a file cannot be read as certificates, ValueError if `timeout_s` is not a time
    of up to a day, or a key has no certificate.
    """

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
        pause: Callable[[float], None] = sleep,
    ) -> None:
        if not 0 < timeout_s <= _MAX_TIMEOUT_S:
            raise ValueError(f"a timeout is a time of up to a day, not {timeout_s} s")
        self._timeout_s = timeout_s
        self._warnings = responses.Warnings(on_warning or (lambda _host, _text: None))
        self._pause = pause
        tls = TLSConfig(
            insecure=insecure,
            ca_cert=ca_cert,
            client_cert=client_cert,
            client_key=client_key,
            certs_dirs=certs_dirs,
        )
        self._pools = Pools(tls=tls, proxies=read_environment(), keepalive=keepalive)

    def __enter__(self) -> Self:
        """Return the transport itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection. The transport cannot be used any more."""
        self._pools.close()

    def close_when_dropped(self) -> None:
        """Close every connection when this transport is collected, or Python ends."""
        weakref.finalize(self, self._pools.close)

    def run(self, flow: Flow[_T]) -> _T:
        """Drive a flow to its end; return its result.

        Errors of a request (TransportError, ProtocolViolation, KeyboardInterrupt) are thrown into
        the flow, which may make further requests. Source errors, and interrupts during a PATCH or
        POST, are thrown in as BodyError. If the flow lets it propagate, the original error is
        raised. A second interrupt closes the flow at once.

        Raises RuntimeError after `close`.
        """
        steps: Generator[object, None, _T] = self.stream(flow)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result

    def stream(self, flow: Generator[Step | _A, Any, _T]) -> Generator[_A, None, _T]:
        """Drive a flow as `run` does; yield the bytes, or pages of a list, between its requests."""
        try:
            self._pools.check_open()
            item = next(flow)
            while True:
                if not isinstance(item, Request | BlockingCall | ReadBlock):
                    yield item
                    item = next(flow)
                    continue
                try:
                    result = self._take(item)
                except SecondInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - the flow handles or re-raises it
                    item = flow.throw(error)
                else:
                    del item  # its body may be a chunk, and the flow collects the next one
                    item = flow.send(result)
                    del result
        except StopIteration as end:
            result: _T = end.value
            return result
        except (BodyError, SecondInterrupt) as wrapper:
            cause = wrapper.error
        finally:
            flow.close()
        # Raised outside of the handler, it keeps its own context.
        try:
            raise cause
        finally:
            del cause  # its traceback refers to this frame

    def _take(self, step: Step) -> object:
        if isinstance(step, BlockingCall):
            return step.function()
        if isinstance(step, ReadBlock):
            return next(step.stream, None)
        return self._send(step)

    def _send(self, request: Request) -> Response:
        """Perform a request after its delay; log it and its response, but no header or body."""
        if request.delay_s > 0:
            self._pause(request.delay_s)
        if not _LOG.isEnabledFor(logging.DEBUG):
            return self._perform(request)
        name = f"{request.method} {redact(request.url)}"
        _LOG.debug("%s", name)
        began = time.monotonic()
        try:
            response = self._perform(request)
        except BaseException as error:
            ms = 1000 * (time.monotonic() - began)
            _LOG.debug("%s: %s after %.0f ms", name, type(error).__name__, ms)
            raise
        ms = 1000 * (time.monotonic() - began)
        body = "a streamed body" if response.body_stream else f"{len(response.body)} bytes received"
        status, sent = response.status, response.sent
        _LOG.debug("%s: %d, %d bytes sent, %s, %.0f ms", name, status, sent, body, ms)
        return response

    def _perform(self, request: Request) -> Response:
        route = self._find_route(request)
        state = RequestState(request.body, request.method, request.size)
        state.is_cleanup = request.timeout is Timeout.SHORT
        state.description = f"{request.method} to {route.authority}"
        if route.proxy:
            state.description += f" by the proxy {route.proxy}"
            state.hint = CHECK_PROXY
        try:
            with request_state.request_scope(state):
                response = self._exchange(request, route, state)
        except (*responses.HTTP_ERRORS, request_state.IncompleteBody) as error:
            state.raise_body_error(None)
            raise responses.transport_error(error, state) from error
        except INTERRUPTS as interrupt:
            if not isinstance(state.error, INTERRUPTS):
                raise
            raise SecondInterrupt(interrupt) from None
        except AddressRefused as refused:
            raise ProtocolViolation(
                f"the registry at {request.redirected_from} sent {state.description}, which "
                f"leads to {refused}, inside a private network",
                hint="if that is right, name the registry by its address there",
            ) from None
        finally:
            state.close()
        state.raise_body_error(response)
        self._warnings.report(route.authority, response.headers.get("warning", ""))
        return response

    def _find_route(self, request: Request) -> PooledRoute:
        try:
            return self._pools.route(request.url, request.redirected_from)
        except ValueError as error:
            text = f"{request.method}: cannot connect: {error}"
            hint = error.hint if isinstance(error, InvalidProxy) else ""
            raise TransportError(text, reason="connect", hint=hint) from error

    def _exchange(self, request: Request, route: PooledRoute, state: RequestState) -> Response:
        timeouts = self._timeouts(request.timeout)
        http_request = httpcore.Request(
            request.method,
            route.url,
            headers=[
                ("Host", route.authority),
                ("User-Agent", _USER_AGENT),
                # A digest is of the stored bytes: no proxy may compress them.
                *([("Accept-Encoding", "identity")] if request.stream_response else []),
                *state.headers,
                *request.headers.items(),
            ],
            content=state.body,
            extensions={"timeout": timeouts, **route.extensions},
        )
        http_response = route.pool.handle_request(http_request)
        state.has_head = True
        status = http_response.status
        aborted = http_response.extensions["network_stream"].aborted
        body, blocks = b"", None
        if request.stream_response and status in _STREAMED_STATUSES and state.error is None:
            blocks = responses.stream_body(http_response, state, timeouts["read"])
        else:
            with closing(http_response):
                seconds = state.remaining(timeouts["read"])
                body = responses.read_body(http_response.iter_stream(), seconds)
        if route.proxy and status == _PROXY_AUTHENTICATION:
            raise httpcore.ProxyError("407 Proxy Authentication Required")
        return Response(
            status=status,
            headers=responses.join_headers(http_response.headers),
            body=body,
            sent=state.sent,
            complete=state.ended and not aborted,
            body_stream=blocks,
        )

    def _timeouts(self, timeout: Timeout) -> dict[str, float]:
        is_short = timeout is Timeout.SHORT
        seconds = request_state.CLEANUP_TIMEOUT_S if is_short else self._timeout_s
        read = _LONG * seconds if timeout is Timeout.LONG else seconds
        return {"connect": seconds, "read": read, "write": seconds, "pool": seconds}
