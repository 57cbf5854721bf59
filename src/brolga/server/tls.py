"""The certificate and the key with which https is served.

Knows PEM (RFC 7468), and how OpenSSL says that a file cannot be used. Must not know sockets.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NoReturn

from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["InvalidTls", "check"]


class InvalidTls(BrolgaError, ValueError):
    """A certificate or a key that cannot be used."""


def check(cert: Path, key: Path | None) -> None:
    """Try what the server will do; without `key` it is in the file of the certificate.

    OpenSSL would ask the terminal for the password of a key, and says of most mistakes no more than
    where in its source they were found. Raises InvalidTls, OSError.
    """
    key_file = key or cert
    if b"CERTIFICATE-----" not in cert.read_bytes():
        raise InvalidTls(f"{cert} has no certificate in PEM form")
    if b"PRIVATE KEY-----" not in key_file.read_bytes():
        hint = "" if key else "; name the file that has it"
        raise InvalidTls(f"{key_file} has no private key in PEM form{hint}")

    def encrypted() -> NoReturn:
        raise InvalidTls(
            f"the key in {key_file} is encrypted, and nobody is asked for its password: "
            f"decrypt it with `openssl pkey -in {key_file} -out PLAIN`"
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidTls(f"the key in {key_file} is not that of {cert}") from error
        raise InvalidTls(f"{cert} and its key cannot be used: {error}") from error
