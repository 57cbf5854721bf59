"""The sync driver: makes a flow's calls over real connections.

Knows the HTTP library (and is the only package that does), sockets and TLS. Must not know what a
blob or a digest is: which call follows which answer is the flow's to say.

Strategy: `run` is the whole driver. Connections come from httpcore's pools; below them,
`connection` hears an answer that comes while a body still goes out. The body is never sent twice.

    outgoing    a request under way: what of its body went out, how a failed one is ended
    answer      an answer: headers, body, warnings
    failures    the library's errors in our words
    pools       which connection a call may have
    proxy       the environment's proxies
    tls         authorities and client certificates
    connection  sockets that hear an early answer
    reach       addresses inside private networks
"""

from __future__ import annotations

import logging
import time
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar

import httpcore2 as httpcore

from brolga._version import __version__
from brolga.errors import ProtocolViolation, TransportError
from brolga.protocol import BodyError, Request, Response, Timeout, redact
from brolga.stream.worker import sleep
from brolga.transport.addresses import Refused
from brolga.transport.answer import Warnings, capped, headers, streamed
from brolga.transport.failures import FAILURES, failure
from brolga.transport.outgoing import HURRY_S, INTERRUPTS, Insisted, Outgoing, Unended, under_way
from brolga.transport.pools import Pools, Route, Target
from brolga.transport.proxy import from_environment
from brolga.transport.tls import CERTS_DIRS, Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from os import PathLike
    from typing import Self

    from brolga.protocol import Flow

__all__ = ["Transport"]

_T = TypeVar("_T")
_A = TypeVar("_A")

_LOG: Final = logging.getLogger("brolga.transport")
_USER_AGENT: Final = f"brolga/{__version__}"
_LONG: Final = 15  # times the usual: the registry moves a whole blob before it answers
_MAX_TIMEOUT_S: Final = 86400.0  # what the operating system's waits take is a little more
_STREAMED: Final = (200, 206)
_PROXY_AUTHENTICATION: Final = 407


def _silent(_host: str, _text: str) -> None:
    """Tell nobody of a warning."""


class Transport:
    """Connections to registries, and the driver that makes a flow's calls over them.

    `insecure` leaves TLS certificates unverified; `ca_cert` is a PEM file of authorities to trust
    beside the system's. `client_cert` and `client_key` are PEM files (the key may be in the
    certificate's) for the hosts that the user names; `certs_dirs` are docker's `certs.d`, where
    the directory HOST or HOST:PORT holds authorities (*.crt) and client pairs (*.cert, *.key).

    `timeout_s` bounds, in seconds, connecting, each write and the wait for the whole head of an
    answer; the answer to an upload's PATCH or PUT has 15 times as long. A body that moves less
    than 1,024 bytes a second in as much waiting has failed. At most `keepalive` idle connections
    are kept. `on_warning` is told host and text of each warning that a registry sends, once.
    `pause` waits so many seconds. Proxies are the environment's, as it is now. Threads may share a
    transport.

    Raises OSError where a file cannot be read as certificates, ValueError where `timeout_s` is
    not a time of up to a day, or a key has no certificate.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own
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
        self._warnings = Warnings(on_warning or _silent)
        self._pause = pause
        trust = Trust(
            insecure=insecure,
            ca_cert=ca_cert,
            client_cert=client_cert,
            client_key=client_key,
            certs_dirs=certs_dirs,
        )
        self._pools = Pools(trust=trust, proxies=from_environment(), keepalive=keepalive)

    def __enter__(self) -> Self:
        """Return the transport itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection; nothing can be run from then on."""
        self._pools.close()

    def close_when_dropped(self) -> None:
        """Close every connection when nobody has this transport any more, or Python ends."""
        weakref.finalize(self, self._pools.close)

    def run(self, flow: Flow[_T]) -> _T:
        """Drive a conversation to its end; return its result.

        What a call raises (TransportError, ProtocolViolation, KeyboardInterrupt) is thrown into
        the flow, which may still make calls before it ends. An error of the body's source, and an
        interrupt while a PATCH goes out, is thrown in as BodyError; where that leaves the flow,
        the error itself is raised. A second interrupt ends the flow: nothing is called after it.

        Raises RuntimeError after `close`.
        """
        try:
            self._pools.check()
            return self._drive(flow)
        except (BodyError, Insisted) as failed:
            error = failed.error
        finally:
            flow.close()
        # Raised here, it is what it was; raised up there, it would get a context of ours.
        try:
            raise error
        finally:
            del error  # its traceback knows this frame

    def _drive(self, flow: Flow[_T]) -> _T:
        try:
            call = next(flow)
            while True:
                try:
                    reply = self._logged(call)
                except Insisted:
                    raise
                except BaseException as error:  # noqa: BLE001 - the flow decides, and re-raises it
                    call = flow.throw(error)
                else:
                    del call  # whose body may be a chunk, while the flow gathers the next one
                    call = flow.send(reply)
        except StopIteration as end:
            result: _T = end.value
            return result

    def stream(self, flow: Generator[Request | _T, Response, None]) -> Generator[_T, None, None]:
        """Drive a conversation that gives bytes, or pages of a list, on its way; yield them.

        Raises what the flow raises, RuntimeError after `close`.
        """
        self._pools.check()
        with closing(flow):
            item = next(flow, None)
            while item is not None:
                if not isinstance(item, Request):
                    yield item
                    item = next(flow, None)
                    continue
                try:
                    reply = self._logged(item)
                except BaseException as error:  # noqa: BLE001 - the flow decides, and re-raises it
                    item = _last(flow.throw, error)
                else:
                    item = _last(flow.send, reply)

    def _logged(self, call: Request) -> Response:
        """Make one call at its time; log it and its answer, and of them no header or body."""
        if call.delay_s > 0:
            self._pause(call.delay_s)
        if not _LOG.isEnabledFor(logging.DEBUG):
            return self._perform(call)
        what = f"{call.method} {redact(call.url)}"
        _LOG.debug("%s", what)
        began = time.monotonic()
        try:
            reply = self._perform(call)
        except BaseException as error:
            ms = 1000 * (time.monotonic() - began)
            _LOG.debug("%s: %s after %.0f ms", what, type(error).__name__, ms)
            raise
        ms = 1000 * (time.monotonic() - began)
        body = "a streamed body" if reply.body_stream else f"{len(reply.body)} bytes received"
        sent = reply.sent
        _LOG.debug("%s: %d, %d bytes sent, %s, %.0f ms", what, reply.status, sent, body, ms)
        return reply

    def _perform(self, call: Request) -> Response:
        """Make one call.

        Raises TransportError where there was no answer, ProtocolViolation where it may not be
        made, BodyError, an interrupt, Insisted.
        """
        target, route = self._way(call)
        outgoing = Outgoing(call.body, call.method, call.size)
        outgoing.is_cleanup = call.timeout is Timeout.SHORT
        what = f"{call.method} to {target.authority}"
        what += f" by the proxy {route.proxy}" if route.proxy else ""

        def failed(error: Exception) -> TransportError:
            return failure(error, what, sent=outgoing.sent, fresh=outgoing.fresh)

        try:
            with under_way(outgoing):
                reply = self._exchange(call, target, route, outgoing, failed)
        except (*FAILURES, Unended) as error:
            outgoing.check(None)
            raise failed(error) from error
        except INTERRUPTS as interrupt:
            if not isinstance(outgoing.error, INTERRUPTS):
                raise
            raise Insisted(interrupt) from None
        except Refused as refused:
            raise ProtocolViolation(
                f"the registry at {call.redirected_from} sent {what}, which leads to {refused.address}, "
                "inside a private network; if that is right, name the registry by its address there"
            ) from None
        finally:
            outgoing.end()
        outgoing.check(reply)
        self._warnings.hear(target.authority, reply.headers.get("warning", ""))
        return reply

    def _way(self, call: Request) -> tuple[Target, Route]:
        """Return where a call goes. Raises TransportError where its URL or proxy is none."""
        try:
            target = Target.of(call.url)
            return target, self._pools.route(target, call.redirected_from)
        except ValueError as error:
            text = f"{call.method}: cannot connect: {error}"
            raise TransportError(text, reason="connect") from error

    def _exchange(
        self,
        call: Request,
        target: Target,
        route: Route,
        outgoing: Outgoing,
        failed: Callable[[Exception], TransportError],
    ) -> Response:
        """Send the request, and take in the answer."""
        seconds = self._timeouts(call.timeout)
        request = httpcore.Request(
            call.method,
            route.url,
            headers=[
                ("Host", target.authority),
                ("User-Agent", _USER_AGENT),
                # A digest is of the stored bytes: nothing on the way may compress them.
                *([("Accept-Encoding", "identity")] if call.stream_response else []),
                *outgoing.headers,
                *call.headers.items(),
            ],
            content=outgoing.blocks,
            extensions={"timeout": seconds, **route.extensions},
        )
        response = route.pool.handle_request(request)
        outgoing.has_head = True
        stopped = response.extensions["network_stream"].stopped
        body, blocks = b"", None
        if call.stream_response and response.status in _STREAMED and outgoing.error is None:
            blocks = streamed(response, failed, seconds["read"])
        else:
            with closing(response):
                body = capped(response.iter_stream(), outgoing.within(seconds["read"]))
        if route.proxy and response.status == _PROXY_AUTHENTICATION:
            raise httpcore.ProxyError("407 Proxy Authentication Required")
        return Response(
            status=response.status,
            headers=headers(response.headers),
            body=body,
            sent=outgoing.sent,
            complete=outgoing.ended and not stopped,
            body_stream=blocks,
        )

    def _timeouts(self, patience: Timeout) -> dict[str, float]:
        """Return the seconds that the library gives each phase of a call."""
        usual = HURRY_S if patience is Timeout.SHORT else self._timeout_s
        read = _LONG * usual if patience is Timeout.LONG else usual
        return {"connect": usual, "read": read, "write": usual, "pool": usual}


def _last(resume: Callable[[_A], Request | _T], value: _A) -> Request | _T | None:
    """Return what a flow yields when it is resumed, None at its end."""
    try:
        return resume(value)
    except StopIteration:
        return None
