"""The client: one method for each thing that can be done with images, wherever they are.

A method opens a store and calls it; what is done is in the stores, `copy` and `images`.
"""

from __future__ import annotations

import random
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.client.referrers import copy_referrers
from brolga.client.registries import Registries, TransportOptions, UploadOptions
from brolga.client.tags import tags_for_copy
from brolga.errors import InvalidManifest, InvalidReference, excerpt
from brolga.images import Image, ImageIndex
from brolga.protocol import Retry, Timeout, check_login
from brolga.protocol.listing import repository_pages
from brolga.spec.descriptor import DEFAULT_PLATFORM
from brolga.spec.mediatypes import UNKNOWN_ARTIFACT
from brolga.spec.reference import Reference, Repository
from brolga.stores.copy import push
from brolga.stores.location import (
    StoreOpener,
    check_digest,
    home_of,
    keeps_layers,
    keeps_names,
    name_of,
    parse_image_ref,
    parse_repository_ref,
    pin,
    read_again,
    tag_to_write,
    with_digest,
    with_name,
)
from brolga.stores.store import NullStore, OnePassStore, complete_manifest
from brolga.stream.decompression import Limits
from brolga.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
    from typing import Self

    from brolga.auth import Keychain
    from brolga.client.explain import Explanation
    from brolga.images import BlockStream, Tree
    from brolga.protocol import Credentials
    from brolga.spec.blob import Blob, BlobStream
    from brolga.spec.descriptor import Descriptor, Platform
    from brolga.spec.digest import Digest
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.stores.location import ImageRef, LocalRef
    from brolga.stores.store import ReadStore, Store, WriteStore
    from brolga.stream.layer import StreamLayer

__all__ = ["Client"]


_STREAM_LIMITS: Final = Limits(size=None)


def _ignore(_host: str, _warning: str) -> None:
    """Drop a warning."""


class Client:
    """A client of registries, layouts and archives. Threads may share one; close it at the end.

    A name is one of a registry, or a place on this machine (`brolga.stores.location`): `oci:DIR:TAG`,
    `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME:TAG`.

    `credentials` is a keychain, which is asked for each repository, or credentials for every
    registry; None is anonymous, whatever the environment has. `retry` says how often a request is
    repeated, and after which pauses. `on_warning` is called with the host and the text of each
    warning of a registry, once.

    Raises OSError if a certificate cannot be read, ValueError for invalid options.
    """

    def __init__(
        self,
        *,
        credentials: Keychain | Credentials | None = None,
        transport: TransportOptions | None = None,
        uploads: UploadOptions | None = None,
        retry: Retry | None = None,
        on_warning: Callable[[str, str], None] | None = None,
    ) -> None:
        options = transport or TransportOptions()
        self._uploads = uploads or UploadOptions()
        warn = on_warning or _ignore
        self._transport = Transport(
            **asdict(options), keepalive=2 * self._uploads.jobs, on_warning=warn
        )
        self._registries = Registries(
            self._transport,
            credentials,
            retry or Retry(jitter=random.random),
            self._uploads,
            options.insecure,
        )
        self._stores = StoreOpener(self._registries, self._uploads.spool, warn)

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

    # --- Registries

    def check_login(self, registry: str, credentials: Credentials) -> bool:
        """Check credentials with a registry; return whether it requires authentication.

        Raises Unauthorized or Denied if they are refused.
        """
        session = self._registries.ping(Repository(registry, "any"), credentials)
        return self._transport.run(check_login(session))

    def authorization(
        self, repository: Repository | str, actions: str = "pull", *also: Repository | str
    ) -> str:
        """Return the Authorization header for `actions` in a repository, and to pull from others.

        It holds a secret. It is empty if the registry requires none. Raises Unauthorized, Denied.
        """
        access = self._registries.access(_repository(repository), actions, *map(_repository, also))
        return self._transport.run(access.registry.authorization(access.scope, Timeout.DEFAULT))

    def explain(self, repository: Repository | str) -> Explanation:
        """Return how a repository would be pushed to. The registry is asked; nothing is changed."""
        from brolga.client.explain import explained

        repository = _repository(repository)
        registry = self._registries.registry_for(repository)
        credentials = self._registries.credentials_for(repository)
        style = self._uploads.strategy(repository, registry)
        return explained(self._transport, registry, repository, credentials, style)

    def catalog(self, registry: str) -> list[str]:
        """Return the repositories of a registry, by docker's catalog API."""
        return list(self.iter_catalog(registry))

    def iter_catalog(self, registry: str) -> Iterator[str]:
        """Yield the repositories of a registry page by page, as `catalog` returns them."""
        session = self._registries.registry_for(Repository(registry, "catalog"))
        with closing(self._transport.stream(repository_pages(session.catalog()))) as pages:
            for page in pages:
                yield from page

    # --- Reading

    def get(
        self,
        place: ImageRef | str,
        *,
        compress_layers: bool = True,
        platform: Platform | None = None,
    ) -> Tree:
        """Return the image (or artifact) or the index of a name.

        If several images of a layout or an archive have the name, `platform` chooses one.

        Uncompressed layers of a docker archive are compressed when they are pushed, and described
        from then on. Without `compress_layers` they stay as they are, and all is known at once.

        Raises NotFound, NoSuchImage, InvalidManifest, InvalidLayout, DigestMismatch,
        RegistryError, TransportFailed.
        """
        place = _place(place)
        store = self._stores.open_source(place, compress_layers=compress_layers)
        return read_again(store, place).tree(name_of(place), platform)

    def image(
        self,
        place: ImageRef | str,
        platform: Platform | None = None,
        *,
        compress_layers: bool = True,
    ) -> Image:
        """Return an image; of an index, the one for `platform`, by default linux/amd64.

        Raises NoSuchPlatform, which lists the platforms, and what `get` raises.
        """
        tree = self.get(place, compress_layers=compress_layers, platform=platform)
        return _image_of(tree, platform or DEFAULT_PLATFORM)

    def index(self, place: ImageRef | str) -> ImageIndex:
        """Return an index. Raises InvalidManifest if it is an image, and what `get` raises."""
        tree = self.get(place)
        if isinstance(tree, Image):
            raise InvalidManifest(f"{place} is an image, where an index is wanted")
        return tree

    def manifest(self, place: ImageRef | str, platform: Platform | None = None) -> Manifest | Index:
        """Return the manifest or index; with `platform`, the manifest of that image."""
        place = _place(place)
        tree = self._manifests(place).tree(name_of(place), platform)
        while platform is not None and isinstance(tree, ImageIndex):
            tree = tree.child(tree.index.select(platform))
        return complete_manifest(tree)

    def config(self, place: ImageRef | str, platform: Platform | None = None) -> bytes:
        """Return the exact bytes of an image's config. Raises as `image`."""
        place = _place(place)
        tree = self._manifests(place, compress_layers=False).tree(name_of(place), platform)
        with _image_of(tree, platform or DEFAULT_PLATFORM).config_blob.open() as stream:
            return b"".join(stream.blocks())

    def head(self, place: ImageRef | str) -> Descriptor:
        """Return the descriptor of a name, without reading its manifest if possible."""
        place = _place(place)
        return self._manifests(place).resolve(name_of(place))

    def blob(self, place: ImageRef | str) -> BlobStream:
        """Open the blob of a digest. A wrong byte is an error at the end of the read."""
        place = _place(place)
        store = self._stores.open(place, "blob")
        return store.fetch_blob(_blob_digest(place))

    def pull_stream(
        self, place: ImageRef | str, *, raw: bool = False, limits: Limits = _STREAM_LIMITS
    ) -> BlockStream:
        """Open the only layer of an artifact or image, as it was before it was compressed.

        The media type says how it is compressed. With `raw`, the stored bytes are returned. They
        are verified while they are read: do not use them before the end, without an error.
        `limits` bounds how large they may become: by default no more than 1100 times their
        compressed size beyond 4 GiB.

        Raises InvalidManifest for an index, and unless there is exactly one layer, and what `get`
        raises. Reading raises DigestMismatch, CorruptBlob, TransportFailed.
        """
        from brolga.client.streams import open_stream

        place = _place(place)
        return open_stream(place, self.get(place, compress_layers=False), limits, raw=raw)

    def tags(self, home: Repository | LocalRef | str) -> list[str]:
        """Return the tags of a repository, in the registry's order.

        Of a layout or an archive the names of its images.
        """
        return list(self.iter_tags(home))

    def iter_tags(self, home: Repository | LocalRef | str) -> Iterator[str]:
        """Yield the tags of a repository page by page, as `tags` returns them."""
        yield from self._manifests(_home(home), compress_layers=False).tags()

    def referrers(self, place: ImageRef | str, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, by the API or the tag that replaces it."""
        place = _place(place)
        store = self._stores.open(place, "referrers")
        digest = place.digest or store.resolve(name_of(place)).digest
        return store.referrers(digest, artifact_type)

    # --- Writing

    def push_layer(self, repository: Repository | LocalRef | str, layer: Blob) -> Descriptor:
        """Stream a layer into a repository, or a layout, in one pass; return its descriptor.

        The layer's digest and sizes exist from then on. If anything fails, nothing is committed
        and the upload session is cancelled. A stream that this client has pushed to the registry
        before is mounted from there.

        No manifest names the layer, so a garbage collection of the registry may delete it:
        `push_stream` pushes a manifest with it.

        Raises SourceError, StreamConsumed for a layer that was read before and is not there,
        UploadInterrupted, RegistryError, TransportFailed, ProtocolViolation, DigestMismatch
        (distribution-spec, Pushing blobs).
        """
        return self._stores.open(_home(repository), "push").push(layer)

    def push(
        self,
        place: ImageRef | Repository | str,
        tree: Tree,
        *,
        verify_existing: bool = False,
        expected: Digest | None = None,
    ) -> ImageRef:
        """Push an image or an index, in one pass over its streams; return its name by digest.

        It is pushed to a `Repository` by its digest alone.

        Layers are pushed before the config and the manifest, several at a time; a blob that is
        there already is not sent, one of another repository of the same registry is mounted. The
        manifest is the last: if anything fails before, the name stands for what it did. With
        `verify_existing`, each blob is checked below a manifest that is there, and what a registry
        has lost is sent again.

        `expected` is what the tag must stand for until the end, if the tree is made of that. It is
        checked just before the manifest is pushed: no registry does both in one step.

        Raises what `push_layer` raises, TagMoved, InvalidReference if `place` has a digest that is
        not the tree's, NotComputed if that is not known yet (distribution-spec, Pushing manifests),
        and OSError for a place on this machine that cannot be written.
        """
        place = _target(place)
        tag = tag_to_write(place)
        check_digest(place, tree)
        jobs = self._uploads.jobs
        with self._stores.open_target(place, tree.mount_sources) as store:
            pushed = push(store, tree, tag, jobs=jobs, recheck=verify_existing, expected=expected)
        return with_digest(place, pushed.digest)

    def push_stream(
        self,
        place: ImageRef | str,
        stream: StreamLayer,
        *,
        artifact_type: str = UNKNOWN_ARTIFACT,
        title: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> ImageRef:
        """Push a stream and an artifact manifest that names it, in one pass; return its name.

        No garbage collection deletes what a manifest names. A stream that is not a tar has a media
        type of its own (`StreamLayer.stream_media_type`). `title` is the name of the file that ORAS
        writes. `pull_stream` returns the bytes.

        Raises what `push` raises, InvalidManifest for an artifact type that is not valid.
        """
        from brolga.client.streams import artifact_of

        return self.push(place, artifact_of(stream, artifact_type, title, annotations))

    def write_images(
        self, home: ImageRef | Repository | str, images: Iterable[tuple[str, Tree]]
    ) -> list[ImageRef]:
        """Push images to one place, each under its tag ("" is none); return their new names."""
        home = home_of(_target(home))
        with self._stores.open_target(home) as store:
            return [
                with_digest(
                    with_name(home, tag) if tag else home,
                    push(store, tree, tag, jobs=self._uploads.jobs).digest,
                )
                for tag, tree in images
            ]

    def copy(  # noqa: PLR0913 - what can be chosen about a copy
        self,
        source: ImageRef | OnePassStore | str,
        target: ImageRef | Repository | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
        verify_existing: bool = False,
        change: Callable[[Tree], Tree] | None = None,
    ) -> ImageRef:
        """Copy an image, an index with all its platforms, or an artifact; return its new name.

        Blobs go from store to store in blocks, verified, and touch no other disk. Uncompressed
        layers of a docker archive are compressed, unless the target is another one. With
        `platform`, only that image of an index is copied. With `referrers`, what refers to it is
        copied as well. `verify_existing` is as in `push`. `change` returns another tree, which is
        pushed instead. `source` may be an archive that is read once (`archive.ArchiveStream`).

        Raises what `push` and `get` raise, InvalidReference for referrers of an archive.
        """
        target, jobs = _target(target), self._uploads.jobs
        tag = tag_to_write(target)
        name = "" if isinstance(source, OnePassStore) else name_of(_place(source))
        store, listing = self._open_for_copy(source, target, referrers=referrers)

        def read(images: ReadStore) -> Tree:
            tree = images.tree(name, platform)
            if platform is not None:
                tree = _image_of(tree, platform)
            tree = change(tree) if change else tree
            check_digest(target, tree)
            return tree

        tree = None if isinstance(store, OnePassStore) else read(store)
        with self._copying(store, target, tree.mount_sources if tree else ()) as (images, into):
            tree = tree or read(images)
            pushed = push(into, tree, tag, jobs=jobs, recheck=verify_existing)
            if listing is not None:
                copy_referrers(listing, into, tree, jobs=jobs, recheck=verify_existing)
        return with_digest(target, pushed.digest)

    def push_mutated(
        self,
        source: ImageRef | str,
        target: ImageRef | str,
        change: Callable[[Image], Image],
        platform: Platform | None = None,
    ) -> ImageRef:
        """Push what `change` returns for an image; of an index, for the image for `platform`.

        The image may be read from a pipe. Raises as `copy`.
        """
        return self.copy(
            source,
            target,
            change=lambda tree: change(_image_of(tree, platform or DEFAULT_PLATFORM)),
        )

    def copy_all(  # noqa: PLR0913 - as `copy`, and which tags
        self,
        source: Repository | LocalRef | str,
        target: Repository | LocalRef | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
        exclude: Container[str] = (),
        verify_existing: bool = False,
    ) -> Iterator[tuple[str, ImageRef | None]]:
        """Copy each tag of a repository, a layout or an archive; yield it, and its new name.

        Tags in `exclude` are not copied, and yielded with None. Of a name like `example.com/app:v1`
        the tag counts; between two layouts a name stays as it is. Raises as `copy`,
        InvalidReference if two images would get one tag.
        """
        source, target, jobs = _home(source), _home(target), self._uploads.jobs
        store, listing = self._open_for_copy(source, target, referrers=referrers)
        tags_of = partial(tags_for_copy, platform=platform, keep_names=keeps_names(source, target))
        tags = None if isinstance(store, OnePassStore) else tags_of(store)
        if tags == {}:
            return
        with self._copying(store, target, [store.mount_source]) as (images, into):
            for tag, name in (tags or tags_of(images)).items():
                if tag in exclude:
                    yield tag, None
                    continue
                tree = images.tree(name, platform)
                if platform is not None:
                    tree = _image_of(tree, platform)
                pushed = push(into, tree, tag, jobs=jobs, recheck=verify_existing)
                if listing is not None:
                    copy_referrers(listing, into, tree, jobs=jobs, recheck=verify_existing)
                yield tag, with_digest(with_name(target, tag), pushed.digest)

    def tag(self, place: ImageRef | str, tag: str) -> ImageRef:
        """Give a manifest another tag in its repository or layout.

        Return its name by both tag and digest; of a layout by digest alone.
        """
        place = _place(place)
        store = self._stores.open(place, "tag")
        named = with_name(home_of(place), tag)
        if named.tag != tag or not tag:
            raise InvalidReference(f"{excerpt(tag)} is no name to give: it names what is there")
        return pin(named, store.tag(name_of(place), tag).digest)

    def delete(self, place: ImageRef | str) -> None:
        """Delete a manifest by digest, or a tag if the registry supports that.

        The bytes of a layout's image stay until a garbage collection (`Layout.gc`).

        Raises NotFound, NoSuchImage, RegistryError (distribution-spec, Deleting manifests).
        """
        place = _place(place)
        self._stores.open(place, "delete").delete(name_of(place))

    def delete_blob(self, reference: Reference | str) -> None:
        """Delete the blob of a digest in a registry. Raises NotFound, RegistryError."""
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        digest = _blob_digest(reference)
        self._registries.open(reference.repository, "pull,push,delete").delete_blob(digest)

    # --- Inside

    def _manifests(
        self, place: ImageRef | Repository, *, compress_layers: bool = True
    ) -> ReadStore:
        """Open a place to read manifests alone: an archive may be read from a pipe for that."""
        store = self._stores.open_source(place, compress_layers=compress_layers)
        return store.stream_into(NullStore()) if isinstance(store, OnePassStore) else store

    def _open_for_copy(
        self,
        source: ImageRef | Repository | OnePassStore | str,
        target: ImageRef | Repository,
        *,
        referrers: bool,
    ) -> tuple[ReadStore | OnePassStore, Store | None]:
        """Return the source of a copy, twice if its referrers are wanted."""
        if isinstance(source, OnePassStore):
            return source, None
        source = _target(source)
        if referrers:
            listing = self._stores.open(source, "referrers")
            self._stores.check(target, "referrers")
            return listing, listing
        return self._stores.open_source(source, compress_layers=not keeps_layers(target)), None

    @contextmanager
    def _copying(
        self,
        store: ReadStore | OnePassStore,
        target: ImageRef | Repository,
        mount_sources: Collection[Repository | None],
    ) -> Iterator[tuple[ReadStore, WriteStore]]:
        """Open the target of a copy; yield the images to copy, and the target."""
        with self._stores.open_target(target, mount_sources) as into:
            yield (store.stream_into(into) if isinstance(store, OnePassStore) else store), into


def _place(place: ImageRef | str) -> ImageRef:
    return parse_image_ref(place) if isinstance(place, str) else place


def _target(place: ImageRef | Repository | str) -> ImageRef | Repository:
    return place if isinstance(place, Repository) else _place(place)


def _home(home: Repository | LocalRef | str) -> Repository | LocalRef:
    return parse_repository_ref(home) if isinstance(home, str) else home


def _repository(name: Repository | str) -> Repository:
    return Repository.parse(name) if isinstance(name, str) else name


def _blob_digest(place: ImageRef) -> Digest:
    if place.digest is None:
        raise InvalidReference(
            "a blob is named by its digest: REPO@sha256:... or oci:DIR@sha256:..."
        )
    return place.digest


def _image_of(tree: Tree, platform: Platform) -> Image:
    """Return an image, or the one of an index for `platform`. Raises NoSuchPlatform."""
    return tree.image(platform) if isinstance(tree, ImageIndex) else tree
