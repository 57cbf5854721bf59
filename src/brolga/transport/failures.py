"""What the HTTP library raises, said in our words.

Knows the library's errors and what lies below them. Must not know what was asked.
"""

from __future__ import annotations

import ssl
from typing import Final

import httpcore2 as httpcore

from brolga.errors import TransportError

__all__ = ["FAILURES", "failure"]

FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
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
    (httpcore.ProxyError, Exception, "connect", "the proxy refused"),
    (httpcore.UnsupportedProtocol, Exception, "connect", "cannot connect"),
    (httpcore.RemoteProtocolError, Exception, "cut", "no valid answer"),
    (Exception, Exception, "cut", "the connection was cut"),
)
# Alerts by which a server says what is wrong with the client's certificate (RFC 8446, section 6.2;
# OpenSSL's names). TLS 1.3 sends them after the handshake, in place of an answer.
_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the client certificate's authority",
    **dict.fromkeys(
        (
            "SSLV3_ALERT_BAD_CERTIFICATE",  # Go's servers say so too where there is none
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            "SSLV3_ALERT_CERTIFICATE_REVOKED",
            "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
            "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        ),
        "the server wants another client certificate",
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "TLS failed; the server may want a client certificate",
}


def failure(error: Exception, what: str, *, sent: int, fresh: bool) -> TransportError:
    """Say in our words what the library raised while `what` was done."""
    # The library keeps what it caught as its error's argument; the pool drops `__cause__`.
    cause = next((part for part in error.args if isinstance(part, Exception)), error)
    alert = cause.reason if isinstance(cause, ssl.SSLError) else None
    reason, words = next(
        (reason, words)
        for kind, cause_kind, reason, words in _REASONS
        if isinstance(error, kind) and isinstance(cause, cause_kind)
    )
    if alert in _ALERTS:
        reason, words = "tls", _ALERTS[alert]
    detail = str(cause).strip()
    text = f"{what}: {words}: {detail}" if detail else f"{what}: {words}"
    return TransportError(text, reason=reason, sent=sent, fresh=fresh)
