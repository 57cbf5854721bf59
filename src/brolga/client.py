"""What a user of the library calls: a client of registries.

Knows which flow does what, and where credentials and connections come from. Must not know HTTP or
how bytes are compressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.reference import Repository
from brolga.transport import Transport
from brolga.wire import enter, upload_stream

if TYPE_CHECKING:
    from os import PathLike
    from typing import Self

    from brolga.descriptor import Descriptor
    from brolga.layer import Blob
    from brolga.wire import Credentials

__all__ = ["Client", "push_layer"]


class Client:
    """A client of registries, with its connections. Threads may share one; close it at the end.

    `credentials` go to every registry that asks this client for some; None is anonymous, whatever
    the environment holds. `insecure` allows plain http and unverified TLS; without it plain http
    is spoken to loopback addresses alone. `ca_cert` is a PEM file of further authorities.
    `timeout_s` bounds, in seconds, connecting, each write, and the wait for an answer.

    Raises OSError where `ca_cert` cannot be read as certificates, ValueError where `timeout_s` is
    not a time of up to a day.
    """

    def __init__(
        self,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        ca_cert: str | PathLike[str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._credentials = credentials
        self._insecure = insecure
        self._transport = Transport(insecure=insecure, ca_cert=ca_cert, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def push_layer(self, repository: Repository | str, layer: Blob) -> Descriptor:
        """Stream a layer into a repository as a blob, in one pass; return its descriptor.

        The layer's digest and sizes exist from then on. When anything fails, nothing is
        committed and the upload session is cancelled.

        Raises SourceError where the layer's source fails, StreamConsumed for a layer that was
        read before, UploadInterrupted, RegistryError, TransportFailed, ProtocolViolation,
        DigestMismatch, InvalidReference (distribution-spec, Pushing blobs).
        """
        if isinstance(repository, str):
            repository = Repository.parse(repository)
        # The source first: one that gives no bytes is told before anything is sent.
        with layer.open() as stream:
            access = self._transport.run(
                enter(repository, self._credentials, schemes=self._schemes(repository))
            )
            return self._transport.run(
                upload_stream(access, stream.with_heartbeats(), lambda: layer.descriptor)
            )

    def _schemes(self, repository: Repository) -> tuple[str, ...]:
        """Return what may be spoken, the likelier first.

        On loopback that is plain http: its servers seldom have TLS, and one that waits for a line
        would let a TLS hello wait for the whole timeout.
        """
        if repository.is_loopback:
            return ("http", "https")
        return ("https", "http") if self._insecure else ("https",)


def push_layer(repository: Repository | str, layer: Blob) -> Descriptor:
    """Stream a layer into a repository with a client of its own: see `Client.push_layer`."""
    with Client() as client:
        return client.push_layer(repository, layer)
