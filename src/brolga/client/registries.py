"""The registries that a client knows: how a repository becomes a store, and with which options."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from brolga import protocol
from brolga.errors import Denied, SpoolRequired, Unauthorized
from brolga.protocol import Credentials, Timeout
from brolga.spec.reference import Repository
from brolga.spec.value import Value, field, replace
from brolga.stores import DEFAULT_JOBS
from brolga.stores.registry import RegistryStore
from brolga.stream import DEFAULT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from os import PathLike

    from brolga.auth import Keychain
    from brolga.client.explain import Explanation
    from brolga.protocol import Access, RegistrySession, Retry, UploadStrategy
    from brolga.spec.blob import Blob
    from brolga.spec.digest import Digest
    from brolga.stores.journal import FileJournal
    from brolga.stores.progress import ProgressReporter
    from brolga.stores.read_budget import ReadBudget, ReadOptions
    from brolga.stream.replay import ReplayBuffer
    from brolga.stream.spool import SpoolChoice
    from brolga.transport import Transport


class TransportOptions(Value, kw_only=True):
    """How a client connects to registries.

    `insecure` allows plain http and unverified TLS; without it, plain http is used for loopback
    addresses alone. `ca_cert` is a PEM file of further authorities; `client_cert` and `client_key`
    are what the client presents. `timeout_s` bounds, in seconds, connecting, each write, and the
    wait for a response.
    """

    insecure: bool = False
    ca_cert: str | PathLike[str] | None = None
    client_cert: str | PathLike[str] | None = None
    client_key: str | PathLike[str] | None = None
    timeout_s: float = 60.0


class UploadOptions(Value, kw_only=True):
    """How a client pushes blobs, and what it keeps of them meanwhile.

    `jobs` is how many blobs are pushed at a time. `style` is how their bytes are sent: `auto` (as
    suits the registry), `streamed`, `put`, `chunked` or `chunked:BYTES`; or a mapping from names of
    registries to styles. `window` is how many bytes are kept in memory of each stream that can be
    read only once, to send them again if a connection fails; blobs that can be read again share
    another window. `spool` keeps all bytes instead, in a file without a name in that directory, or
    (True) in the system's for temporary files.

    `state` is a directory for journals of uploads. If this process is killed, another one that
    pushes the same bytes with the same `state` goes on in the session, and sends only what the
    registry lacks. A stream that can be read only once needs a `spool` for it.

    Raises ValueError for `jobs` below 1, a `window` below 0, an unknown style.
    """

    jobs: int = DEFAULT_JOBS
    style: str | Mapping[str, str] = "auto"
    window: int = DEFAULT_WINDOW
    spool: SpoolChoice = False
    state: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.jobs < 1:
            raise ValueError(f"jobs must be 1 or more, not {self.jobs}")
        if self.window < 0:
            raise ValueError(f"a window is 0 bytes or more, not {self.window}")
        for style in self.style.values() if isinstance(self.style, Mapping) else [self.style]:
            if style != "auto":  # it loads what a push needs
                protocol.UploadStrategy().override(style)

    def buffer(self, uploads: int, *, is_reopenable: bool) -> ReplayBuffer:
        """Return a buffer for the bytes of one upload of `uploads` at a time.

        A stream that can be read only once has the whole window. Those that can be read again
        share one, which only saves the second reading.
        """
        if self.spool is not False:
            from brolga.stream.spool import make_spool

            return make_spool(self.spool)
        from brolga.stream.replay import MemoryBuffer

        return MemoryBuffer(self.window // uploads if is_reopenable else self.window)

    def journal(
        self, repository: Repository, blob: Blob, *, is_reopenable: bool
    ) -> FileJournal | None:
        """Return the journal of an upload, if it has one. Raises StateError, SpoolRequired."""
        if self.state is None:
            return None
        from pathlib import Path

        from brolga.images import StoredBlob
        from brolga.spec.blob import source_identity
        from brolga.stores.journal import INTERVAL, open_journal

        is_known = isinstance(blob, StoredBlob)
        if is_known and blob.descriptor.size < INTERVAL:
            return None  # no later run could tell that its bytes are the same
        if not is_reopenable and self.spool is False:
            # A later run may have to begin anew after it has read what the session should have.
            raise SpoolRequired(
                "the source can be read only once: its upload can be recorded (--state) only if "
                "its bytes are kept, with --spool"
            )
        source = source_identity(blob)
        return open_journal(Path(self.state), repository, source, keeps_blob=not is_known)

    def strategy(
        self, repository: Repository, registry: RegistrySession, uploads: int = 1
    ) -> UploadStrategy:
        """Return how blobs are sent to a registry: as the user chose, or as suits it."""
        style = self.style
        if isinstance(style, Mapping):
            style = style.get(repository.registry, "auto")
        profile = protocol.identify_registry(registry.host, registry.ping_headers)
        # A chunk is kept in memory until it has arrived, as the window is.
        return profile.strategy.cap_chunk(self.window // uploads).override(style)


class Registries(Value):
    """The registries of one client, each pinged at its first use. Threads may share it.

    `credentials` is a keychain, which is asked for each repository, or credentials for every
    registry; None is anonymous. What happens to blobs is reported to `progress`.
    """

    transport: Transport
    credentials: Keychain | Credentials | None
    retry: Retry
    uploads: UploadOptions
    insecure: bool
    reads: ReadOptions | None = None
    progress: ProgressReporter | None = None
    _credentials: dict[Repository, Credentials | None] = field(default_factory=dict)
    _pushed_blobs: dict[tuple[str, Digest], Repository] = field(default_factory=dict)
    _registries: dict[tuple[str, Credentials | None], RegistrySession] = field(default_factory=dict)
    _read_budgets: dict[int, ReadBudget] = field(default_factory=dict)

    # --- Registries

    def check_login(self, registry: str, credentials: Credentials) -> bool:
        """Return whether a registry requires authentication. Raises Unauthorized, Denied."""
        session = self.ping(Repository(registry, "any"), credentials)
        return self.transport.run(protocol.check_login(session))

    def authorization(
        self, repository: Repository | str, actions: str = "pull", *also: Repository | str
    ) -> str:
        """Return the Authorization header for `actions` in a repository, and to pull from others.

        It holds a secret; it is empty if the registry requires none.
        """
        return self._authorize(self.access(_parsed(repository), actions, *map(_parsed, also)))

    def explain(self, repository: Repository | str) -> Explanation:
        """Return how a repository would be pushed to. The registry is asked; nothing is changed."""
        from brolga.client.explain import explain_push

        repository = _parsed(repository)
        registry = self.registry_for(repository)
        credentials = self.credentials_for(repository)
        strategy = self.uploads.strategy(repository, registry)
        return explain_push(self.transport, registry, repository, credentials, strategy)

    def catalog(self, registry: str) -> Iterator[str]:
        """Yield the repositories of a registry page by page, by docker's catalog API."""
        session = self.registry_for(Repository(registry, "catalog"))
        flow = protocol.list_repositories(session.catalog_access())
        with closing(self.transport.stream(flow)) as pages:
            for page in pages:
                yield from page

    # --- Repositories

    def open(
        self, repository: Repository, actions: str = "pull", *also: Repository, uploads: int = 1
    ) -> RegistryStore:
        """Return a repository as a store, which will push `uploads` blobs at a time."""
        return RegistryStore(
            repository,
            partial(self.access, repository, actions, *also),
            self.transport,
            keep=partial(self.uploads.buffer, uploads),
            open_journal=self.uploads.journal,
            retry=self.retry,
            choose_strategy=partial(self.uploads.strategy, repository, uploads=uploads),
            pushed_blobs=self._pushed_blobs,
            read_budget=self._read_budget,
            progress=self.progress,
        )

    def open_target(
        self, repository: Repository, mount_sources: Collection[Repository | None]
    ) -> RegistryStore:
        """Return a repository to push to, which may mount blobs from some others."""
        near = {
            source for source in mount_sources if source and source.registry == repository.registry
        } - {repository}
        jobs = self.uploads.jobs
        store = self.open(repository, "pull,push", *near, uploads=jobs)
        try:
            self._authorize(store.access)  # before several threads ask for a token
        except (Unauthorized, Denied):
            if not near:
                raise
            # Without the right to read from the others, blobs are uploaded instead.
            store = replace(self.open(repository, "pull,push", uploads=jobs), mounts=False)
            self._authorize(store.access)
        return store

    def _authorize(self, access: Access) -> str:
        return self.transport.run(access.registry.authorize(access.scope, Timeout.DEFAULT))

    def access(self, repository: Repository, actions: str = "pull", *also: Repository) -> Access:
        """Return the access to a repository for `actions`, and to pull from others."""
        return self.registry_for(repository).access(repository, actions, *also)

    def registry_for(self, repository: Repository) -> RegistrySession:
        """Return the registry of a repository, with the credentials of the keychain."""
        return self.ping(repository, self.credentials_for(repository))

    def ping(self, repository: Repository, credentials: Credentials | None) -> RegistrySession:
        """Return the registry of a repository. It is pinged at its first use alone."""
        key = repository.registry, credentials
        if key not in self._registries:
            self._registries[key] = self.transport.run(
                protocol.ping(
                    repository.api_host,
                    credentials,
                    schemes=self._schemes(repository),
                    retry=self.retry,
                    clock=time.monotonic,
                )
            )
        return self._registries[key]

    def _read_budget(self) -> ReadBudget:
        """Return what all blobs that this client reads at a time share."""
        from brolga.stores.read_budget import ReadBudget

        jobs = self.uploads.jobs
        return self._read_budgets.setdefault(jobs, ReadBudget(self.reads, jobs))

    def credentials_for(self, repository: Repository) -> Credentials | None:
        """Return the credentials for a repository. The keychain is asked once: it may be slow."""
        keychain = self.credentials
        if keychain is None or isinstance(keychain, Credentials):
            return keychain
        if repository not in self._credentials:
            self._credentials[repository] = keychain.find(repository)
        return self._credentials[repository]

    def _schemes(self, repository: Repository) -> tuple[str, ...]:
        """Return the schemes to try, in order.

        On loopback http is the first: servers there seldom have TLS, and one that waits for a line
        would let a TLS hello wait for the whole timeout.
        """
        if repository.is_loopback:
            return ("http", "https")
        return ("https", "http") if self.insecure else ("https",)


def _parsed(name: Repository | str) -> Repository:
    return Repository.parse(name) if isinstance(name, str) else name
