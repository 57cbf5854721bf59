"""The registries that a client knows: how a repository becomes a store.

Knows which registry was entered already, who is asked for credentials, and how uploads go out. Must
not know what is done in a repository.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from brolga.errors import NotComputed
from brolga.protocol import Credentials, identify_registry, ping
from brolga.stores.registry import RegistryStore
from brolga.stream.replay import MemoryBuffer
from brolga.stream.spool import spool_factory

if TYPE_CHECKING:
    from brolga.auth import Keychain
    from brolga.protocol import Access, RegistrySession, Retry, UploadStrategy
    from brolga.spec.blob import Blob
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository
    from brolga.stream.replay import ReplayBuffer
    from brolga.stream.spool import SpoolChoice
    from brolga.transport import Transport

__all__ = ["Registries", "UploadOptions"]


@dataclass(frozen=True)
class UploadOptions:
    """How blobs go out, and what is kept of them meanwhile: as `Client` has it."""

    style: str | Mapping[str, str]
    window: int
    spool: SpoolChoice

    def keep(self, uploads: int, *, is_reopenable: bool) -> ReplayBuffer:
        """Return what keeps the bytes of one upload, where `uploads` go on at a time.

        A stream that can be read only once has the whole window. Those that can be read again
        share one: it merely saves the second reading.
        """
        if (spool := spool_factory(self.spool)) is not None:
            return spool
        return MemoryBuffer(self.window // uploads if is_reopenable else self.window)

    def style_for(
        self, repository: Repository, registry: RegistrySession, uploads: int = 1
    ) -> UploadStrategy:
        """Return how blobs go out: as the user said, or as suits the registry."""
        wish = self.style
        if isinstance(wish, Mapping):
            wish = wish.get(repository.registry, "auto")
        profile = identify_registry(registry.host, registry.ping_headers)
        # A chunk lies in memory until it has arrived, as the window does.
        return profile.strategy.cap_chunk(self.window // uploads).override(wish)


@dataclass(frozen=True)
class Registries:
    """The registries behind one transport, each entered at its first use. Threads may share it."""

    transport: Transport
    credentials: Keychain | Credentials | None
    retry: Retry
    uploads: UploadOptions
    insecure: bool
    _keys: dict[Repository, Credentials | None] = field(default_factory=dict)
    _sent: dict[tuple[str, Digest], Repository] = field(default_factory=dict)
    _entered: dict[tuple[str, Credentials | None], RegistrySession] = field(default_factory=dict)

    def remote(
        self, repository: Repository, actions: str = "pull", *also: Repository, uploads: int = 1
    ) -> RegistryStore:
        """Return a repository as a store; `uploads` go on at a time."""
        access = self.access(repository, actions, *also)
        return RegistryStore(
            repository,
            access,
            self.transport,
            keep=partial(self.uploads.keep, uploads),
            retry=self.retry,
            style=self.uploads.style_for(repository, access.registry, uploads),
            sent=self._sent,
        )

    def has_sent(self, repository: Repository, blob: Blob) -> bool:
        """Tell whether a blob that is read once went to the registry of a repository."""
        try:
            return (repository.registry, blob.descriptor.digest) in self._sent
        except NotComputed:
            return False

    def access(self, repository: Repository, actions: str = "pull", *also: Repository) -> Access:
        """Return what may be done in a repository, and pulled from others."""
        return self.of(repository).access(repository, actions, *also)

    def of(self, repository: Repository) -> RegistrySession:
        """Return the registry of a repository, entered as the keychain says."""
        return self.enter(repository, self.found(repository))

    def enter(self, repository: Repository, credentials: Credentials | None) -> RegistrySession:
        """Return the registry of a repository, which is asked at its first use alone."""
        key = repository.registry, credentials
        if key not in self._entered:
            self._entered[key] = self.transport.run(
                ping(
                    repository.api_host,
                    credentials,
                    schemes=self._schemes(repository),
                    retry=self.retry,
                    clock=time.monotonic,
                )
            )
        return self._entered[key]

    def found(self, repository: Repository) -> Credentials | None:
        """Ask the keychain, once for each repository: it may run a program."""
        keychain = self.credentials
        if keychain is None or isinstance(keychain, Credentials):
            return keychain
        if repository not in self._keys:
            self._keys[repository] = keychain.find(repository)
        return self._keys[repository]

    def _schemes(self, repository: Repository) -> tuple[str, ...]:
        """Return what may be spoken, the likelier first.

        On loopback that is plain http: its servers seldom have TLS, and one that waits for a line
        would let a TLS hello wait for the whole timeout.
        """
        if repository.is_loopback:
            return ("http", "https")
        return ("https", "http") if self.insecure else ("https",)
