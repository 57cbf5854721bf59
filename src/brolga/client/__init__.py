"""What a user of the library calls: a client of registries.

Knows which store and which flow does what, and where credentials and connections come from. Must
not know HTTP or how bytes are compressed.

    remote    one repository of a registry, as a store of images
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from brolga.auth import default_keychain
from brolga.client.explanation import Explanation, explained
from brolga.client.remote import Remote
from brolga.copy import push as push_into
from brolga.descriptor import DEFAULT_PLATFORM
from brolga.errors import InvalidManifest, InvalidReference
from brolga.images import BlockStream, Image, ImageIndex
from brolga.manifest import Index
from brolga.reference import Reference, Repository
from brolga.replay import DEFAULT_WINDOW, Spool, Window
from brolga.store import read_tree
from brolga.transport import Transport
from brolga.wire import (
    Credentials,
    Patience,
    Retry,
    Style,
    check_login,
    delete_blob,
    delete_manifest,
    enter,
    head_manifest,
    list_repositories,
    list_tags,
    profile_of,
    read_blob,
)
from brolga.wire.referrers import list_referrers, remove_referrer

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from typing import Self

    from brolga.auth import Keychain
    from brolga.descriptor import Descriptor, Platform
    from brolga.digest import Digest
    from brolga.images import Tree
    from brolga.layer import Blob, BlobStream
    from brolga.manifest import Manifest
    from brolga.replay import Keep
    from brolga.wire import Access, Registry

__all__ = ["Chunk", "Client", "image", "push", "push_layer"]

# Bytes; True for chunks of the size that suits, 0 for one stream, None for what suits.
Chunk: TypeAlias = int | bool | None


class Client:
    """A client of registries, with its connections. Threads may share one; close it at the end.

    `credentials` is a keychain, which is asked for each repository, or credentials for every
    registry; None is anonymous, whatever the environment holds. `insecure` allows plain http and
    unverified TLS; without it plain http is spoken to loopback addresses alone. `ca_cert` is a PEM
    file of further authorities, `client_cert` and `client_key` are what this client shows of
    itself. `timeout_s` bounds, in seconds, connecting, each write, and the wait for an answer.
    `jobs` is how many blobs are pushed at a time. `retry` says how often a call that may be
    repeated is, and after which pauses. `chunk` sends uploads in chunks of so many bytes, True in
    chunks and 0 in one stream, None as suits the registry; a mapping has that for each registry by
    its name. `window` is how many bytes of uploads are kept in
    memory, to go out again where a connection fails; `spool` keeps all of them instead, in a file
    without a name in that directory, or (True) in the system's for temporary files. `on_warning`
    is told host and text of a registry's warnings, each once.

    Raises OSError where a certificate cannot be read, ValueError where `timeout_s` is not a time
    of up to a day, `jobs` less than 1 or `window` less than 0.
    """

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
        chunk: Chunk | Mapping[str, Chunk] = None,
        window: int = DEFAULT_WINDOW,
        spool: bool | str | PathLike[str] = False,
        on_warning: Callable[[str, str], None] | None = None,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be 1 or more, not {jobs}")
        if window < 0:
            raise ValueError(f"a window is 0 bytes or more, not {window}")
        self._chunk = chunk
        self._window = window
        self._spool = spool
        self._credentials = credentials
        self._insecure = insecure
        self._jobs = jobs
        self._retry = retry or Retry(chance=random.random)
        self._keys: dict[Repository, Credentials | None] = {}
        self._registries: dict[tuple[str, Credentials | None], Registry] = {}
        self._transport = Transport(
            insecure=insecure,
            ca_cert=ca_cert,
            client_cert=client_cert,
            client_key=client_key,
            timeout_s=timeout_s,
            keepalive=2 * jobs,
            on_warning=on_warning or _unheard,
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

    # --- Writing

    def push_layer(self, repository: Repository | str, layer: Blob) -> Descriptor:
        """Stream a layer into a repository as a blob, in one pass; return its descriptor.

        The layer's digest and sizes exist from then on. When anything fails, nothing is
        committed and the upload session is cancelled.

        Raises SourceError where the layer's source fails, StreamConsumed for a layer that was
        read before, UploadInterrupted, RegistryError, TransportFailed, ProtocolViolation,
        DigestMismatch, InvalidReference (distribution-spec, Pushing blobs).
        """
        repository = _repository(repository)
        # The source first: one that gives no bytes is told before anything is sent.
        with layer.open() as stream:
            return self._remote(repository, "pull,push").upload(layer, stream)

    def push(self, reference: Reference | Repository | str, tree: Tree) -> Reference:
        """Push an image or an index, in one pass over its streams; return its name by digest.

        Where a `Repository` stands for the reference, it is pushed by its digest alone.

        Layers go before the config and the manifest, several at a time; a blob that the registry
        has is not sent, one of another of its repositories is mounted. The manifest is the last
        to go: when anything fails before, the name stands for what it stood for.

        Raises what `push_layer` raises, InvalidReference where `reference` has a digest that is not
        the tree's, NotComputed where that is not known yet (distribution-spec, Pushing manifests).
        """
        repository, tag = _place(reference, tree)
        near = {home for home in tree.homes if home.registry == repository.registry}
        remote = self._remote(repository, "pull,push", *near - {repository}, uploads=self._jobs)
        # One token for all threads, before they start.
        self._transport.run(
            remote.access.registry.authorization(remote.access.scope, Patience.USUAL)
        )
        pushed = push_into(remote, tree, tag, jobs=self._jobs)
        return Reference(repository, digest=pushed.digest)

    def copy(
        self,
        source: Reference | str,
        target: Reference | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
    ) -> Reference:
        """Copy an image, an index with all its platforms, or an artifact; return its new name.

        Blobs go from registry to registry in blocks, verified, and never touch the disk. With
        `platform`, that image of an index alone. With `referrers`, what refers to it as well.

        Raises what `push` and reading raise.
        """
        source, target = _reference(source), _reference(target)
        tree = self.image(source, platform) if platform else self.get(source)
        pushed = self.push(target, tree)
        if referrers:
            self._copy_referrers(source.repository, target.repository, tree)
        return pushed

    def tag(self, reference: Reference | str, tag: str) -> Reference:
        """Give a manifest another tag of its repository; return its name by both tag and digest."""
        reference = _reference(reference)
        named = Reference(reference.repository, tag)
        remote = self._remote(reference.repository, "pull,push")
        document = remote.document(reference.identifier)
        remote.put(document, tag)
        return replace(named, digest=document.digest)

    def delete(self, reference: Reference | str) -> None:
        """Delete a manifest by digest, or a tag where the registry does that.

        A registry without the referrers API keeps a list of what refers to a manifest under a
        tag: what is deleted by digest is taken out of it.

        Raises NotFound, RegistryError (distribution-spec, Deleting manifests).
        """
        reference = _reference(reference)
        remote = self._remote(reference.repository, "pull,push,delete")
        subject = None
        if reference.digest is not None:
            subject = remote.document(reference.identifier).subject
        self._transport.run(delete_manifest(remote.access, reference.identifier))
        if subject is not None and reference.digest is not None:
            self._transport.run(remove_referrer(remote.access, subject.digest, reference.digest))

    def delete_blob(self, reference: Reference | str) -> None:
        """Delete the blob that a digest names. Raises NotFound, RegistryError."""
        repository, digest = _by_digest(reference)
        access = self._access(repository, "pull,push,delete")
        self._transport.run(delete_blob(access, digest))

    # --- Reading

    def get(self, reference: Reference | str) -> Tree:
        """Return what a name stands for: an image (or artifact), or an index.

        Raises NotFound, InvalidManifest, DigestMismatch, RegistryError, TransportFailed.
        """
        reference = _reference(reference)
        return read_tree(self._remote(reference.repository), reference.identifier)

    def image(self, reference: Reference | str, platform: Platform | None = None) -> Image:
        """Return an image; of an index, the one for `platform`, linux/amd64 where it is None.

        Raises NoSuchPlatform, which tells what there is, and what `get` raises.
        """
        tree = self.get(reference)
        if isinstance(tree, ImageIndex):
            return tree.image(platform or DEFAULT_PLATFORM)
        return tree

    def index(self, reference: Reference | str) -> ImageIndex:
        """Return an index. Raises InvalidManifest where it is an image, and what `get` raises."""
        tree = self.get(reference)
        if isinstance(tree, Image):
            raise InvalidManifest(f"{reference} is an image, where an index is wanted")
        return tree

    def manifest(
        self, reference: Reference | str, platform: Platform | None = None
    ) -> Manifest | Index:
        """Return the manifest or index, as it is; with `platform`, that image's manifest."""
        reference = _reference(reference)
        remote = self._remote(reference.repository)
        document = remote.document(reference.identifier)
        while platform is not None and isinstance(document, Index):
            document = remote.document(str(document.select(platform).digest))
        return document

    def head(self, reference: Reference | str) -> Descriptor:
        """Return the descriptor of what a name stands for, without reading it where it can be."""
        reference = _reference(reference)
        access = self._access(reference.repository)
        return self._transport.run(head_manifest(access, reference.identifier))

    def blob(self, reference: Reference | str) -> BlobStream:
        """Open a blob that a digest names; a wrong byte is an error at the end of the read."""
        repository, digest = _by_digest(reference)
        return BlockStream(self._transport.stream(read_blob(self._access(repository), digest)))

    def tags(self, repository: Repository | str) -> list[str]:
        """Return a repository's tags, in the registry's order (distribution-spec, Listing Tags)."""
        return self._transport.run(list_tags(self._access(_repository(repository))))

    def catalog(self, registry: str) -> list[str]:
        """Return the repositories of a registry, by docker's catalog API."""
        found = self._registry(Repository(registry, "catalog"))
        return self._transport.run(list_repositories(found.catalog()))

    def referrers(
        self, reference: Reference | str, artifact_type: str = ""
    ) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, by the API or the tag that stands in for it."""
        reference = _reference(reference)
        digest = reference.digest or self.head(reference).digest
        access = self._access(reference.repository)
        return self._transport.run(list_referrers(access, digest, artifact_type))

    # --- Access

    def check_login(self, registry: str, credentials: Credentials) -> bool:
        """Hold credentials against a registry; return whether it asked for any.

        A registry that lets everybody in says nothing of them. Raises Unauthorized or Denied where
        they are refused, and what the way to the registry raises.
        """
        return self._transport.run(
            check_login(self._enter(Repository(registry, "any"), credentials))
        )

    def authorization(
        self, repository: Repository | str, actions: str = "pull", *also: Repository | str
    ) -> str:
        """Return the Authorization header for `actions` in a repository, and to pull from others.

        It holds a secret. Empty where the registry asks for none. Raises Unauthorized, Denied, and
        what the way to the registry raises.
        """
        access = self._access(_repository(repository), actions, *map(_repository, also))
        return self._transport.run(access.registry.authorization(access.scope, Patience.USUAL))

    # --- Inside

    def _copy_referrers(self, source: Repository, target: Repository, tree: Tree) -> None:
        for referrer in self.referrers(Reference(source, digest=tree.digest)):
            name = Reference(source, digest=referrer.digest)
            self.copy(name, Reference(target, digest=referrer.digest), referrers=True)
        if isinstance(tree, ImageIndex):
            for child in tree.children:
                self._copy_referrers(source, target, child)

    def _remote(
        self, repository: Repository, actions: str = "pull", *also: Repository, uploads: int = 1
    ) -> Remote:
        """Return a repository as a store; `uploads` go on at a time, and share the window."""
        access = self._access(repository, actions, *also)
        return Remote(
            repository,
            access,
            self._transport,
            keep=partial(self._keep, uploads),
            retry=self._retry,
            style=self._style(repository, access.registry),
        )

    def _style(self, repository: Repository, registry: Registry) -> Style:
        """Return how blobs go out: as the user said, or as suits the registry."""
        style = profile_of(registry.host, registry.shows).style
        chunk = self._chunk
        if isinstance(chunk, Mapping):
            chunk = chunk.get(repository.registry)
        if chunk is None:
            return style
        if chunk is True:
            # Who wants chunks gets them, from a registry too that is known to take none.
            chunk = style.smaller or Style.smaller
        return replace(style, chunk=int(chunk))

    def _keep(self, uploads: int) -> Keep:
        if self._spool is False:
            return Window(self._window // uploads)
        return Spool(None if self._spool is True else self._spool)

    def _access(self, repository: Repository, actions: str = "pull", *also: Repository) -> Access:
        return self._registry(repository).access(repository, actions, *also)

    def explain(self, repository: Repository | str) -> Explanation:
        """Tell how a repository would be pushed to: the registry is asked, and nothing changed.

        Raises TransportFailed, Unauthorized, ProtocolViolation where it cannot be reached.
        """
        repository = _repository(repository)
        registry = self._registry(repository)
        credentials = self._found(repository)
        style = self._style(repository, registry)
        return explained(self._transport, registry, repository, credentials, style)

    def _registry(self, repository: Repository) -> Registry:
        """Return the registry of a repository, entered as the keychain says."""
        return self._enter(repository, self._found(repository))

    def _enter(self, repository: Repository, credentials: Credentials | None) -> Registry:
        """Return the registry of a repository, which is asked at its first use alone."""
        key = repository.registry, credentials
        if key not in self._registries:
            self._registries[key] = self._transport.run(
                enter(
                    repository.api_host,
                    credentials,
                    schemes=self._schemes(repository),
                    retry=self._retry,
                    clock=time.monotonic,
                )
            )
        return self._registries[key]

    def _found(self, repository: Repository) -> Credentials | None:
        """Ask the keychain, once for each repository: it may run a program."""
        keychain = self._credentials
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
        return ("https", "http") if self._insecure else ("https",)


def _unheard(_host: str, _text: str) -> None:
    """Tell nobody of a warning."""


def push_layer(repository: Repository | str, layer: Blob) -> Descriptor:
    """Stream a layer into a repository: see `Client.push_layer`.

    With a client of its own, and the credentials that the command uses (`default_keychain`).
    """
    with Client(credentials=default_keychain()) as client:
        return client.push_layer(repository, layer)


def push(reference: Reference | str, tree: Tree) -> Reference:
    """Push an image or an index: see `Client.push`; credentials are found as by `push_layer`."""
    with Client(credentials=default_keychain()) as client:
        return client.push(reference, tree)


def image(reference: Reference | str, platform: Platform | None = None) -> Image:
    """Return an image: see `Client.image`; credentials are found as by `push_layer`.

    Its layers are read when they are asked for. The connections are closed when nobody has any
    part of the image any more.
    """
    client = Client(credentials=default_keychain())
    try:
        found = client.image(reference, platform)
    except BaseException:
        client.close()
        raise
    client.close_when_dropped()
    return found


def _repository(name: Repository | str) -> Repository:
    return Repository.parse(name) if isinstance(name, str) else name


def _reference(name: Reference | str) -> Reference:
    return Reference.parse(name) if isinstance(name, str) else name


def _place(name: Reference | Repository | str, tree: Tree) -> tuple[Repository, str]:
    """Return the repository to push into, and the tag to push as; "" for by its digest."""
    if isinstance(name, Repository):
        return name, ""
    reference = _reference(name)
    if reference.digest is not None and reference.digest != tree.digest:
        raise InvalidReference(f"{reference} names another manifest than this one, {tree.digest}")
    return reference.repository, reference.tag or ""


def _by_digest(name: Reference | str) -> tuple[Repository, Digest]:
    reference = _reference(name)
    if reference.digest is None:
        raise InvalidReference("a blob is named by its digest: REPO@sha256:...")
    return reference.repository, reference.digest
