"""The settings of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings; each default is right for a registry on this machine's loopback.

    Raises ValueError for a key without a certificate, and for a `max_upload` or
    `max_chunk` below 1.
    """

    read_only: bool = False  # reject requests that change anything
    htpasswd: Path | None = None  # a file of `name:bcrypt hash` lines: the users
    allow_anonymous: bool = False  # serve a public address without `htpasswd`
    # Further names that a request's Host may have, if there is neither `htpasswd` nor TLS nor
    # `allow_anonymous`; addresses and local names are always allowed.
    allow_host: tuple[str, ...] = ()
    tls_cert: Path | None = None  # a PEM file: serve https
    tls_key: Path | None = None  # a PEM file; without it the key is in `tls_cert`
    # The largest blob in bytes, more than any layer has and less than an endless body; None for no
    # limit.
    max_upload: int | None = 256 << 30
    # The largest body of one request into an upload session, in bytes, which clients are told by
    # OCI-Chunk-Max-Length; None for no limit.
    max_chunk: int | None = None
    upload_expiry_s: float = 86_400.0  # delete sessions to which nothing was added for so long
    idle_s: float = 60.0  # how long a client may take to send 64 KiB of a body, or to take 1 MiB
    durable: bool = False  # wait for the device before a write is acknowledged
    sparse: bool = False  # accept manifests whose references are missing

    def __post_init__(self) -> None:
        """Check the combination."""
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("a TLS key needs its certificate")
        if any(size is not None and size < 1 for size in (self.max_upload, self.max_chunk)):
            raise ValueError("with a maximum below one byte, nothing can be pushed")
