"""transport/failures.py: the failures of a connection, as errors of a request."""

from __future__ import annotations

import ssl

import pytest

from brolga.transport.failures import ConnectionFailure, connection_failure, transport_error


def tls_error(reason: str) -> ssl.SSLError:
    """Make an error of TLS as OpenSSL names it."""
    error = ssl.SSLError(1, f"[SSL: {reason}] an alert")
    error.reason = reason
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    """Make the error of a certificate that is not trusted."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = 20
    return error


@pytest.mark.parametrize(
    ("error", "is_handshake", "reason", "text", "has_hint"),
    [
        (untrusted(), True, "certificate", "the certificate is not trusted", False),
        (tls_error("WRONG_VERSION_NUMBER"), True, "tls", "TLS failed", False),
        (tls_error("WRONG_VERSION_NUMBER"), False, "cut", "the connection was cut", False),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), False, "tls", "wants a client", True),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), True, "tls", "wants another", True),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), False, "tls", "does not know the client", True),
        (ConnectionResetError(104, "reset"), True, "connect", "cannot connect", False),
        (ConnectionResetError(104, "reset"), False, "cut", "the connection was cut", False),
    ],
    ids=repr,
)
def test_connection_failure_tells_errors_apart(
    error: OSError, is_handshake: bool, reason: str, text: str, has_hint: bool
) -> None:
    """The flow decides by the reason whether to repeat a request."""
    failure = connection_failure(error, is_handshake=is_handshake)
    assert failure.reason == reason
    assert text in str(failure)
    assert str(error) in str(failure)
    assert bool(failure.hint) is has_hint


@pytest.mark.parametrize(
    ("reason", "own", "hint"),
    [("connect", "", "check"), ("cut", "", ""), ("tls", "own", "own"), ("connect", "own", "own")],
)
def test_transport_error_describes_request(reason: str, own: str, hint: str) -> None:
    """The hint about a proxy is for the failure to connect."""
    failure = ConnectionFailure(reason, "a text", " a detail\n")
    failure.hint = own
    error = transport_error(failure, "GET to a", "check", sent=3, is_new_connection=True)
    assert str(error) == "GET to a: a text: a detail"
    assert (error.reason, error.sent, error.is_new_connection) == (reason, 3, True)
    assert error.hint == hint


def test_connection_failure_without_detail_has_text() -> None:
    """No colon without something after it."""
    assert str(ConnectionFailure("cut", "a text", OSError())) == "a text"
