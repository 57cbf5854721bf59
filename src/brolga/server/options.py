"""How the registry is set up: the choices of whoever runs it.

Knows names and defaults. Must not know what is done about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.server.injection import Injector

__all__ = ["Options"]

_DAY_S = 24 * 60 * 60.0

# More than any layer has, and less than a body without end.
_MAX_UPLOAD = 256 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices; each default is right for a registry on this machine's loopback.

    Raises ValueError for a key without a certificate, and where no blob could be pushed.

    read_only         refuse what would change anything
    htpasswd          a file of `name:bcrypt hash` lines: who may use the registry
    allow_anonymous   serve an address that others can reach without `htpasswd`
    allow_host        names that a request's Host may have beside addresses and local names, where
                      there is neither `htpasswd` nor TLS nor `allow_anonymous`
    tls_cert, tls_key PEM files: serve https. The key may be in the file of the certificate
    max_upload        bytes that a blob may have at most; None for any number
    upload_expiry_s   sessions to which nothing was added for so long are deleted
    idle_s            how long a client may take to send 64 KiB of a body, or to take 1 MiB
    durable           wait for the device before something is acknowledged
    sparse            take manifests of which not all is there
    injector          what is to go wrong, for tests
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
    injector: Injector | None = None

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("a TLS key needs its certificate")
        if self.max_upload is not None and self.max_upload < 1:
            raise ValueError("where a blob may have no byte, nothing can be pushed")
