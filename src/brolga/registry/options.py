"""The settings of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Options"]

_DAY_S: Final = 24 * 60 * 60.0

# More than any layer has, and less than an endless body.
_MAX_UPLOAD: Final = 256 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings; each default is right for a registry on this machine's loopback.

    read_only         reject requests that change anything
    htpasswd          a file of `name:bcrypt hash` lines: who may use the registry
    allow_anonymous   serve a public address without `htpasswd`
    allow_host        further names that a request's Host may have, if there is neither `htpasswd`
                      nor TLS nor `allow_anonymous`; addresses and local names are always allowed
    tls_cert, tls_key PEM files: serve https. The file of the certificate may contain the key
    max_upload        the largest blob in bytes; None for no limit
    upload_expiry_s   delete sessions to which nothing was added for so long
    idle_s            how long a client may take to send 64 KiB of a body, or to take 1 MiB
    durable           wait for the device before a write is acknowledged
    sparse            accept manifests whose references are missing

    Raises ValueError for a key without a certificate, and for a `max_upload` below 1.
    """

    read_only: bool = False
    htpasswd: Path | None = None
    allow_anonymous: bool = False
    allow_host: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_upload: int | None = _MAX_UPLOAD
    upload_expiry_s: float = _DAY_S
    idle_s: float = 60.0
    durable: bool = False
    sparse: bool = False

    def __post_init__(self) -> None:
        """Check the combination."""
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("a TLS key needs its certificate")
        if self.max_upload is not None and self.max_upload < 1:
            raise ValueError("with a maximum below one byte, nothing can be pushed")
