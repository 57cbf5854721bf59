"""Failures of a connection, and the TransportError that each becomes."""

from __future__ import annotations

from typing import Final

from brolga.errors import TransportError

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


class ConnectionFailure(Exception):
    """A connection failed. `reason` is that of the TransportError; `detail` says why."""

    def __init__(self, reason: str, text: str, detail: object = "") -> None:
        super().__init__(": ".join(filter(None, (text, str(detail).strip()))))
        self.reason = reason
        self.hint = ""


def connection_failure(error: OSError, *, is_handshake: bool = False) -> ConnectionFailure:
    """Return the failure that an error of a socket or of TLS is."""
    if hasattr(error, "verify_code"):  # an ssl.SSLCertVerificationError
        return ConnectionFailure("certificate", "the certificate is not trusted", error)
    if text := _ALERTS.get(getattr(error, "reason", None) or ""):
        failure = ConnectionFailure("tls", text, error)
        failure.hint = _CLIENT_CERT_HINT
        return failure
    if is_handshake and hasattr(error, "reason"):  # an ssl.SSLError
        return ConnectionFailure("tls", "TLS failed", error)
    if is_handshake:
        return ConnectionFailure("connect", "cannot connect", error)
    return ConnectionFailure("cut", "the connection was cut", error)


def transport_error(
    failure: ConnectionFailure, description: str, hint: str, *, sent: int, is_new_connection: bool
) -> TransportError:
    """Return the error of a request, which `description` names; `hint` is of connecting."""
    return TransportError(
        f"{description}: {failure}",
        reason=failure.reason,
        sent=sent,
        is_new_connection=is_new_connection,
        hint=failure.hint or (hint if failure.reason == "connect" else ""),
    )
