"""What a request results in: headers, a body, warnings, or the HTTP library's error translated."""

from __future__ import annotations

import re
import ssl
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import httpcore2 as httpcore

from brolga.errors import TransportError, one_line
from brolga.transport.forks import ForkSafeLock
from brolga.transport.request_state import MIN_RATE, RateMonitor, RequestState, request_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_MAX_BODY: Final = 4 << 20  # bytes of a body that is read at once (the spec's limit of a manifest)
_MAX_WARNINGS: Final = 100  # in all
_MAX_HEADER: Final = 8192  # characters of a Warning header that are read
_MAX_WARNING: Final = 300  # characters of one warning
# `299 - "text"`: code, agent, text as a quoted-string (RFC 7234, section 5.5).
_WARNING: Final = re.compile(r'(?:^|,)\s*299 [^\s",]++ "((?:[^"\\]|\\.)*+)"')

HTTP_ERRORS: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
# The library's error, its cause, `TransportError.reason`, the text. The first match counts.
_REASONS: Final[tuple[tuple[type[Exception], type[Exception], str, str], ...]] = (
    (httpcore.ConnectError, ssl.CertificateError, "certificate", "the certificate is not trusted"),
    (httpcore.ConnectError, ssl.SSLError, "tls", "TLS failed"),
    (httpcore.ConnectTimeout, Exception, "timeout", "connecting took too long"),
    (httpcore.WriteTimeout, Exception, "timeout", "the registry takes no more bytes"),
    (httpcore.TimeoutException, Exception, "timeout", "no answer in time"),
    (httpcore.ConnectError, Exception, "connect", "cannot connect"),
    (httpcore.ProxyError, Exception, "connect", "the proxy refused"),
    (httpcore.UnsupportedProtocol, Exception, "connect", "cannot connect"),
    (httpcore.RemoteProtocolError, Exception, "cut", "no valid answer"),
    (Exception, Exception, "cut", "the connection was cut"),
)
_CLIENT_CERT_HINT: Final = "present one that it trusts with --client-cert"
# Alerts by which a server rejects the client's certificate (RFC 8446, section 6.2; OpenSSL's
# names). TLS 1.3 sends them after the handshake, in place of a response.
_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the client certificate's authority",
    **dict.fromkeys(
        (
            "SSLV3_ALERT_BAD_CERTIFICATE",  # Go's servers send it for a missing one too
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            "SSLV3_ALERT_CERTIFICATE_REVOKED",
            "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
            "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        ),
        "the server wants another client certificate",
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "TLS failed; the server may want a client certificate",
}


def transport_error(error: Exception, state: RequestState) -> TransportError:
    """Translate an error that the library raised during a request."""
    # The library keeps what it caught as its error's argument; the pool drops `__cause__`.
    cause = next((part for part in error.args if isinstance(part, Exception)), error)
    alert = cause.reason if isinstance(cause, ssl.SSLError) else None
    reason, text = next(
        (reason, text)
        for kind, cause_kind, reason, text in _REASONS
        if isinstance(error, kind) and isinstance(cause, cause_kind)
    )
    if alert in _ALERTS:
        reason, text = "tls", _ALERTS[alert]
    hints = {"connect": state.hint, "tls": _CLIENT_CERT_HINT if alert in _ALERTS else ""}
    return TransportError(
        ": ".join(filter(None, (state.description, text, str(cause).strip()))),
        reason=reason,
        sent=state.sent,
        is_new_connection=state.is_new_connection,
        hint=hints.get(reason, ""),
    )


def join_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; repeated ones are joined (RFC 9110, section 5.3)."""
    joined: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii").lower(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def read_body(blocks: Iterable[bytes], seconds: float) -> bytes:
    """Return the part of a body that comes in `seconds`, at most `_MAX_BODY` bytes."""
    end = time.monotonic() + seconds
    body = bytearray()
    for block in blocks:
        body += block
        if len(body) >= _MAX_BODY or time.monotonic() > end:
            break
    return bytes(body[:_MAX_BODY])


def stream_body(
    response: httpcore.Response, state: RequestState, seconds: float
) -> Generator[bytes, None, None]:
    """Return the blocks of a body as they come, at most 256 KiB each.

    At the end the connection returns to its pool; if they are closed before, it is closed. They
    raise TransportError if the body is cut, stalls, or comes more slowly than the minimum rate over
    `seconds` of waiting.
    """
    blocks = _blocks(response, state, seconds)
    next(blocks)  # a generator that was not started would not close the response
    return blocks


def _blocks(
    response: httpcore.Response, state: RequestState, seconds: float
) -> Generator[bytes, None, None]:
    with closing(response):
        yield b""
        blocks, rate = iter(response.iter_stream()), RateMonitor()
        try:
            while True:
                began = time.monotonic()
                with request_scope(state):  # they may be the body of another request by now
                    block = next(blocks, None)
                if block is None:
                    return
                if rate.is_too_slow(time.monotonic() - began, len(block), seconds):
                    raise httpcore.ReadTimeout(f"less than {MIN_RATE} bytes a second came")
                yield block
        except HTTP_ERRORS as error:
            raise transport_error(error, state) from error


class Warnings:
    """Warnings of registries (distribution-spec, Warnings); each text of a host is reported once.

    `on_warning` is called with host and text. Threads may share an instance.
    """

    def __init__(self, on_warning: Callable[[str, str], None]) -> None:
        self._on_warning = on_warning
        self._seen: set[tuple[str, str]] = set()
        self._lock = ForkSafeLock()

    def report(self, host: str, header: str) -> None:
        """Report the new texts of a Warning header."""
        for match in _WARNING.finditer(header[:_MAX_HEADER]):
            text = re.sub(r"\\(.)", r"\1", match[1]).encode("latin-1").decode("utf-8", "replace")
            warning = host, one_line(text, _MAX_WARNING)
            with self._lock:
                is_new = warning not in self._seen and len(self._seen) < _MAX_WARNINGS
                if is_new:
                    self._seen.add(warning)
            if is_new:
                self._on_warning(*warning)
