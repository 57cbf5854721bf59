"""What a client is connected to, and as whom.

Knows what can be chosen about connections and uploads. Must not know what is read or pushed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from brolga.client.names import as_repository
from brolga.client.registries import Registries, UploadOptions
from brolga.protocol import Retry, Timeout, UploadStrategy, check_login
from brolga.spec.reference import Repository
from brolga.stream.replay import DEFAULT_WINDOW
from brolga.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from typing import Self

    from brolga.auth import Keychain
    from brolga.client.explain import Explanation
    from brolga.protocol import Credentials
    from brolga.stream.spool import SpoolChoice

__all__ = ["Connected"]


class Connected:
    """Connections to registries: see `Client`."""

    def __init__(  # noqa: PLR0913 - what can be chosen about a connection
        self,
        *,
        credentials: Keychain | Credentials | None = None,
        insecure: bool = False,
        ca_cert: str | PathLike[str] | None = None,
        client_cert: str | PathLike[str] | None = None,
        client_key: str | PathLike[str] | None = None,
        timeout_s: float = 60.0,
        jobs: int = 4,
        retry: Retry | None = None,
        upload_style: str | Mapping[str, str] = "auto",
        window: int = DEFAULT_WINDOW,
        spool: SpoolChoice = False,
        on_warning: Callable[[str, str], None] | None = None,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be 1 or more, not {jobs}")
        if window < 0:
            raise ValueError(f"a window is 0 bytes or more, not {window}")
        for wish in upload_style.values() if isinstance(upload_style, Mapping) else [upload_style]:
            UploadStrategy().override(wish)
        self._jobs = jobs
        self._spool = spool
        self._warn = on_warning or _unheard
        self._transport = Transport(
            insecure=insecure,
            ca_cert=ca_cert,
            client_cert=client_cert,
            client_key=client_key,
            timeout_s=timeout_s,
            keepalive=2 * jobs,
            on_warning=self._warn,
        )
        self._registries = Registries(
            self._transport,
            credentials,
            retry or Retry(jitter=random.random),
            UploadOptions(upload_style, window, spool),
            insecure,
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def close_when_dropped(self) -> None:
        """Close every connection when neither the client nor anything read by it is in use."""
        self._transport.close_when_dropped()

    def check_login(self, registry: str, credentials: Credentials) -> bool:
        """Hold credentials against a registry; return whether it asked for any.

        A registry that lets everybody in says nothing of them. Raises Unauthorized or Denied where
        they are refused, and what the way to the registry raises.
        """
        return self._transport.run(
            check_login(self._registries.enter(Repository(registry, "any"), credentials))
        )

    def authorization(
        self, repository: Repository | str, actions: str = "pull", *also: Repository | str
    ) -> str:
        """Return the Authorization header for `actions` in a repository, and to pull from others.

        It holds a secret. Empty where the registry asks for none. Raises Unauthorized, Denied, and
        what the way to the registry raises.
        """
        access = self._registries.access(
            as_repository(repository), actions, *map(as_repository, also)
        )
        return self._transport.run(access.registry.authorize(access.scope, Timeout.DEFAULT))

    def explain(self, repository: Repository | str) -> Explanation:
        """Tell how a repository would be pushed to: the registry is asked, and nothing changed.

        Raises TransportError, Unauthorized, ProtocolViolation where it cannot be reached.
        """
        from brolga.client.explain import explained

        repository = as_repository(repository)
        registry = self._registries.of(repository)
        credentials = self._registries.found(repository)
        style = self._registries.uploads.style_for(repository, registry)
        return explained(self._transport, registry, repository, credentials, style)


def _unheard(_host: str, _text: str) -> None:
    """Tell nobody of a warning."""
