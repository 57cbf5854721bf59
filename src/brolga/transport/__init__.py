"""The sync driver: makes a flow's calls over real connections.

Knows the HTTP library (and is the only module that does), sockets and TLS. Must not know what a
blob or a digest is: which call follows which answer is the flow's to say.

Strategy: `run` is the whole driver. Connections come from httpcore's pool; below it, `connection`
hears an answer that comes while a body still goes out. The body is never sent twice.
"""

from __future__ import annotations

import ssl
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import httpcore2 as httpcore

from brolga._version import __version__
from brolga.errors import TransportFailed
from brolga.transport.connection import Backend
from brolga.wire import Patience, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike
    from typing import Self

    from brolga.wire import Call, Flow

__all__ = ["Transport"]

_T = TypeVar("_T")

_USER_AGENT: Final = f"brolga/{__version__}"
_MAX_BODY: Final = 4 << 20  # bytes of an answer that are kept (the spec's bound of a manifest)
_HURRY_S: Final = 5.0  # seconds for a call that nobody waits for
_PHASES: Final = ("connect", "read", "write", "pool")  # that httpcore bounds the time of
_MAX_TIMEOUT_S: Final = 86400.0  # what the operating system's waits take is a little more


class Transport:
    """Connections to registries, and the driver that makes a flow's calls over them.

    `insecure` leaves TLS certificates unverified; `ca_cert` is a PEM file of authorities to trust
    beside the system's. `timeout_s` bounds, in seconds, connecting, each write and the wait for
    an answer. Threads may share one.

    Raises OSError where `ca_cert` cannot be read as certificates, ValueError where `timeout_s` is
    not a time of up to a day.
    """

    def __init__(
        self,
        *,
        insecure: bool = False,
        ca_cert: str | PathLike[str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        if not 0 < timeout_s <= _MAX_TIMEOUT_S:
            raise ValueError(f"a timeout is a time of up to a day, not {timeout_s} s")
        self._timeout_s = timeout_s
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(insecure=insecure, ca_cert=ca_cert),
            # As many as there are threads at work: none of them waits for another's upload.
            max_connections=None,
            max_keepalive_connections=8,
            keepalive_expiry=30.0,
            network_backend=Backend(),
        )

    def __enter__(self) -> Self:
        """Return the transport itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def run(self, flow: Flow[_T]) -> _T:
        """Drive a conversation to its end; return its result.

        What a call raises (TransportFailed, an error of the body's source, KeyboardInterrupt) is
        thrown into the flow, which may still make calls before it ends.
        """
        try:
            call = next(flow)
            while True:
                try:
                    reply = self._perform(call)
                except BaseException as error:  # noqa: BLE001 - the flow decides, and re-raises it
                    call = flow.throw(error)
                else:
                    call = flow.send(reply)
        except StopIteration as end:
            result: _T = end.value
            return result
        finally:
            flow.close()

    def _perform(self, call: Call) -> Reply:
        """Make one call. Raises what the body raised, TransportFailed where there was no answer."""
        url, host = _address(call)
        body = _Body(call.body)
        seconds = _HURRY_S if call.patience is Patience.HURRY else self._timeout_s
        request = httpcore.Request(
            call.method,
            url,
            headers=[
                ("Host", host),
                ("User-Agent", _USER_AGENT),
                *body.headers,
                *call.headers.items(),
            ],
            content=body.blocks,
            extensions={"timeout": dict.fromkeys(_PHASES, seconds)},
        )
        try:
            with closing(self._pool.handle_request(request)) as response:
                stopped = response.extensions["network_stream"].stopped
                return Reply(
                    status=response.status,
                    headers=_headers(response.headers),
                    body=_capped(response.iter_stream(), seconds),
                    sent=body.sent,
                    whole=body.ended and not stopped,
                )
        except _FAILURES as error:
            raise _failure(error, f"{call.method} to {host}", body.sent) from error
        except _BodyFailed as failed:
            cause = failed.error
        # Raised here, it is what it was; raised up there, it would get a context of ours.
        try:
            raise cause
        finally:
            del cause  # its traceback knows this frame, and this frame the body


def _address(call: Call) -> tuple[httpcore.URL, str]:
    """Return a call's URL as the library wants it, and the Host header.

    The library's own reading of a URL loses the brackets of an IPv6 address in the Host header,
    and what stands after a semicolon in the path.

    Raises TransportFailed where it is no URL, a registry's Location say.
    """
    try:
        parts = urlsplit(call.url)
        url = httpcore.URL(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port,
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )
    except (ValueError, TypeError) as error:  # a port that is none; letters outside ASCII
        text = f"{call.method}: cannot connect: not a usable URL: {error}"
        raise TransportFailed(text, reason="connect") from error
    return url, parts.netloc.rpartition("@")[2]


class _BodyFailed(Exception):
    """What the body's source raised, on its way past the library, which has errors of its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Body:
    """A call's body on its way: what of it went out, in whole blocks, and whether it ended."""

    def __init__(self, body: bytes | Iterable[bytes | memoryview] | None) -> None:
        self.sent = 0
        self.ended = False
        self.headers: list[tuple[str, str]] = []
        if isinstance(body, bytes):
            self.headers = [("Content-Length", str(len(body)))]
            body = [body] if body else []
        elif body is not None:
            self.headers = [("Transfer-Encoding", "chunked")]
        self.blocks = self._counted([] if body is None else body)

    def _counted(self, blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        try:
            for block in blocks:
                # An empty block writes nothing, but it comes by the socket and looks at it.
                # httpcore's types say bytes; h11 below it takes any buffer.
                yield block  # type: ignore[misc]
                self.sent += len(block)
        except GeneratorExit:
            raise  # dropped
        except BaseException as error:
            raise _BodyFailed(error) from error
        self.ended = True


def _tls(*, insecure: bool, ca_cert: str | PathLike[str] | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_cert is not None:
        context.load_verify_locations(ca_cert)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; those that came twice are joined (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _capped(blocks: Iterable[bytes], seconds: float) -> bytes:
    """Return what comes of an answer in `seconds`, at most `_MAX_BODY` bytes.

    The rest is not read: an answer that drips must not hold anybody up.
    """
    end = time.monotonic() + seconds
    body = bytearray()
    for block in blocks:
        body += block
        if len(body) >= _MAX_BODY or time.monotonic() > end:
            break
    return bytes(body[:_MAX_BODY])


# What the library raises, what raised that, our reason, how it reads. The first match counts.
_REASONS: Final[tuple[tuple[type[Exception], type[Exception], str, str], ...]] = (
    (
        httpcore.ConnectError,
        ssl.SSLCertVerificationError,
        "certificate",
        "the certificate is not trusted",
    ),
    (httpcore.ConnectError, ssl.SSLError, "tls", "TLS failed"),
    (httpcore.ConnectTimeout, Exception, "timeout", "connecting took too long"),
    (httpcore.WriteTimeout, Exception, "timeout", "the registry takes no more bytes"),
    (httpcore.TimeoutException, Exception, "timeout", "no answer in time"),
    (httpcore.ConnectError, Exception, "connect", "cannot connect"),
    (httpcore.UnsupportedProtocol, Exception, "connect", "cannot connect"),
    (httpcore.RemoteProtocolError, Exception, "cut", "no valid answer"),
    (Exception, Exception, "cut", "the connection was cut"),
)
_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


def _failure(error: Exception, what: str, sent: int) -> TransportFailed:
    """Say in our words what the library raised."""
    # The library keeps what it caught as its error's argument; the pool drops `__cause__`.
    cause = next((part for part in error.args if isinstance(part, Exception)), error)
    reason, words = next(
        (reason, words)
        for kind, cause_kind, reason, words in _REASONS
        if isinstance(error, kind) and isinstance(cause, cause_kind)
    )
    detail = str(cause).strip()
    text = f"{what}: {words}: {detail}" if detail else f"{what}: {words}"
    return TransportFailed(text, reason=reason, sent=sent)
