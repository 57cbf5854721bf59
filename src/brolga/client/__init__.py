"""What a user of the library calls: a client of registries, and of what is on this machine.

Knows which store and which flow does what, and where credentials and connections come from. Must
not know HTTP or how bytes are compressed.

    registries  which registries there are, and how a repository becomes a store
    remote      one repository of a registry, as a store of images
    local       layouts and archives, as stores of images
    target      where a tree is to go, by its name
    names       what a call is given, as a text or read already
    tags        which tag each image of an archive gets elsewhere
    referrers   what refers to a tree, copied with it
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from brolga.auth import default_keychain
from brolga.client import local
from brolga.client.names import as_blob, as_home, as_place, as_reference, as_repository, named
from brolga.client.registries import Registries, Uploads
from brolga.client.target import Destination
from brolga.copy import push as push_into
from brolga.descriptor import DEFAULT_PLATFORM
from brolga.errors import (
    Denied,
    InvalidManifest,
    InvalidReference,
    StreamConsumed,
    Unauthorized,
    excerpt,
)
from brolga.images import BlockStream, Image, ImageIndex
from brolga.place import FORMS, Local
from brolga.reference import Reference, Repository
from brolga.replay import DEFAULT_WINDOW
from brolga.store import read_tree
from brolga.transport import Transport
from brolga.wire import (
    Patience,
    Retry,
    Style,
    check_login,
    delete_blob,
    delete_manifest,
    head_manifest,
    list_repositories,
    list_tags,
    read_blob,
)
from brolga.wire.referrers import list_referrers, remove_referrer

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from os import PathLike
    from typing import BinaryIO, Self

    from brolga.auth import Keychain
    from brolga.blob import Blob, BlobStream
    from brolga.client.explanation import Explanation
    from brolga.client.remote import Remote
    from brolga.descriptor import Descriptor, Platform
    from brolga.digest import Digest
    from brolga.images import Tree
    from brolga.manifest import Index, Manifest
    from brolga.place import Place
    from brolga.spool import SpoolChoice
    from brolga.store import Target
    from brolga.wire import Credentials

__all__ = ["Client", "image", "push", "push_layer"]


class Client:
    """A client of registries, with its connections. Threads may share one; close it at the end.

    Where it takes a name it takes a place on this machine too (`brolga.place`): `oci:DIR:TAG`,
    `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME:TAG`.

    `credentials` is a keychain, which is asked for each repository, or credentials for every
    registry; None is anonymous, whatever the environment holds. `insecure` allows plain http and
    unverified TLS; without it plain http is spoken to loopback addresses alone. `ca_cert` is a PEM
    file of further authorities, `client_cert` and `client_key` are what this client shows of
    itself. `timeout_s` bounds, in seconds, connecting, each write, and the wait for an answer.
    `jobs` is how many blobs are pushed at a time. `retry` says how often a call that may be
    repeated is, and after which pauses. `upload_style` is how blobs go out: `auto` (as suits the
    registry), `streamed`, `put`, `chunked` or `chunked:BYTES` (`brolga.wire.Style.wished`); a
    mapping has that for registries by their names. `window` is how many bytes of uploads are kept
    in memory, to go out again where a connection fails; `spool` keeps all of them instead, in a
    file without a name in that directory, or (True) in the system's for temporary files.
    `on_warning` is told host and text of a registry's warnings, each once.

    Raises OSError where a certificate cannot be read, ValueError where `timeout_s` is not a time
    of up to a day, `jobs` less than 1, `window` less than 0 or a style not one.
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
            Style().wished(wish)
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
            retry or Retry(chance=random.random),
            Uploads(upload_style, window, spool),
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

    # --- Writing

    def push_layer(self, repository: Repository | Local | str, layer: Blob) -> Descriptor:
        """Stream a layer into a repository, or a layout, in one pass; return its descriptor.

        The layer's digest and sizes exist from then on. When anything fails, nothing is
        committed and the upload session is cancelled. A stream that this client has pushed to the
        registry before is taken over from there.

        Raises SourceError where the layer's source fails, StreamConsumed for a layer that was
        read before and is not there, UploadInterrupted, RegistryError, TransportFailed,
        ProtocolViolation, DigestMismatch, InvalidReference (distribution-spec, Pushing blobs).
        """
        home = as_home(repository)
        if isinstance(home, Local):
            return local.layout_of(home, "a layer alone is no image").push(layer)
        # The source first: one that gives no bytes is told before anything is sent.
        try:
            stream = layer.open()
        except StreamConsumed:
            if not self._registries.has_sent(home, layer):
                raise
            return self._registries.remote(home, "pull,push").push(layer)
        with stream:
            remote = self._registries.remote(home, "pull,push")
            return remote.note(layer, remote.upload(layer, stream))

    def push(
        self,
        place: Place | Repository | str,
        tree: Tree,
        *,
        recheck: bool = False,
        expected: Digest | None = None,
    ) -> Place:
        """Push an image or an index, in one pass over its streams; return its name by digest.

        Where a `Repository` stands for the place, it is pushed by its digest alone.

        Layers go before the config and the manifest, several at a time; a blob that is there
        already is not sent, one of another repository of the same registry is mounted. The
        manifest is the last to go: when anything fails before, the name stands for what it stood
        for. A manifest that is there is taken for whole, unless `recheck`: then each blob is asked
        for, and what a registry has lost is sent again.

        `expected` is what the tag must stand for until the end, where the tree is made of that.
        Raises TagMoved where it does not. It is asked just before the manifest goes: no registry
        does both in one step.

        Raises what `push_layer` raises, InvalidReference where `place` has a digest that is not
        the tree's, NotComputed where that is not known yet (distribution-spec, Pushing manifests),
        and OSError for a place on this machine that cannot be written.
        """
        target = Destination.of(place)
        target.check(tree)
        with self._into(target, tree.homes) as (store, jobs):
            pushed = push_into(
                store, tree, target.name, jobs=jobs, recheck=recheck, expected=expected
            )
        return target.at(pushed.digest)

    def save(self, home: Local | str, images: Iterable[tuple[str, Tree]]) -> list[Place]:
        """Write images into one layout or archive, each under its name; return their new names.

        "" is a name for none. Raises as `push`.
        """
        target = Destination.of(home)
        with self._into(replace(target, name=""), set()) as (store, jobs):
            return [
                replace(target, name=name).at(push_into(store, tree, name, jobs=jobs).digest)
                for name, tree in images
            ]

    def push_archive(  # noqa: PLR0913 - which image of an archive, and what becomes of it
        self,
        place: Place | Repository | str,
        blocks: BinaryIO | Iterable[bytes],
        *,
        form: str = "",
        name: str = "",
        platform: Platform | None = None,
        change: Callable[[Tree], Tree] | None = None,
    ) -> Place:
        """Push the image of an archive that is read in one pass, from a pipe; return its name.

        Blobs go as they come past; nothing is kept but what comes too early. `form` is `oci`,
        `docker`, or "" for what it looks like; `name` is the image to choose, "" the only one.
        `change` makes another image of it, which is pushed in its place.

        Raises what `push` raises, and CorruptBlob or InvalidManifest for what is no archive.
        """
        from brolga.archive import Known, stream_archive

        target = Destination.of(place)
        packing = "gzip" if local.packs(place) else "none"
        with self._into(target, set()) as (store, jobs):
            tree = stream_archive(
                blocks, store, form=form, name=name, spool=self._spool, compression=packing
            )
            if platform is not None and isinstance(tree, ImageIndex):
                tree = tree.image(platform)
            tree = change(tree) if change else tree
            target.check(tree)
            pushed = push_into(Known(store), tree, target.name, jobs=jobs)
        return target.at(pushed.digest)

    def copy(
        self,
        source: Place | str,
        target: Place | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
        recheck: bool = False,
    ) -> Place:
        """Copy an image, an index with all its platforms, or an artifact; return its new name.

        Blobs go from place to place in blocks, verified, and touch no other disk. Layers of a
        docker archive that are not compressed are, unless it goes into another one. With
        `platform`, that image of an index alone. With `referrers`, what refers to it as well.
        `recheck` is as in `push`.

        Raises what `push` and reading raise, InvalidReference for referrers of an archive.
        """
        from brolga.client.referrers import check_referrers, copy_referrers

        source, target = as_place(source), as_place(target)
        if referrers:
            check_referrers(source, target)
        if isinstance(source, Local) and local.single_pass(source):
            form, name = FORMS[source.kind], source.name
            with local.reading(source) as blocks:
                return self.push_archive(target, blocks, form=form, name=name, platform=platform)
        packed = local.packs(target)
        tree = (
            self.image(source, platform, packed=packed)
            if platform
            else self.get(source, packed=packed)
        )
        pushed = self.push(target, tree, recheck=recheck)
        if referrers:
            copy_referrers(self, source, target, tree, recheck=recheck)
        return pushed

    def derive(
        self,
        source: Place | str,
        target: Place | str,
        change: Callable[[Image], Image],
        platform: Platform | None = None,
    ) -> Place:
        """Push what `change` makes of an image; of an index, of the one for `platform`.

        The image may come down a pipe. Raises as `image` and `push`.
        """
        source = as_place(source)
        if not (isinstance(source, Local) and local.single_pass(source)):
            return self.push(target, change(self.image(source, platform)))

        def changed(tree: Tree) -> Image:
            if isinstance(tree, ImageIndex):
                tree = tree.image(platform or DEFAULT_PLATFORM)
            return change(tree)

        form, name = FORMS[source.kind], source.name
        with local.reading(source) as blocks:
            return self.push_archive(target, blocks, form=form, name=name, change=changed)

    def copy_all(  # noqa: PLR0913 - as `copy`, and which tags
        self,
        source: Repository | Local | str,
        target: Repository | Local | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
        but: Container[str] = (),
        recheck: bool = False,
    ) -> Iterator[tuple[str, Place | None]]:
        """Copy each tag of a repository, a layout or an archive; yield it, and its new name.

        Tags in `but` are left alone, and yielded with None. Of a name like `example.com/app:v1` the
        tag counts; between two layouts a name stays as it is. Raises as `copy`, InvalidReference
        where two images would get one tag.
        """
        from brolga.client.referrers import check_referrers
        from brolga.client.tags import tags_between

        source, target = as_home(source), as_home(target)
        if referrers:
            check_referrers(*(one for one in (source, target) if isinstance(one, Local)))
        if isinstance(source, Local) and local.single_pass(source):
            yield from self._stream_all(source, target, platform, but)
            return
        for tag, name in tags_between(self, source, target).items():
            origin, place = named(source, name), named(target, tag)
            copied = None
            if tag not in but:
                copied = self.copy(
                    origin, place, platform=platform, referrers=referrers, recheck=recheck
                )
            yield tag, copied

    def tag(self, place: Place | str, tag: str) -> Place:
        """Give a manifest another tag of its repository; return its name by both tag and digest.

        That of a layout has the digest alone.
        """
        place = as_place(place)
        if isinstance(place, Local):
            layout = local.layout_of(place, "it is written as a whole")
            if replace(place, name=tag).tag != tag or not tag:
                raise InvalidReference(f"{excerpt(tag)} is no name to give: it names what is there")
            return place.at(layout.tag(place.name, tag).digest)
        named = Reference(place.repository, tag)
        remote = self._registries.remote(place.repository, "pull,push")
        document = remote.document(place.identifier)
        remote.put(document, tag)
        return replace(named, digest=document.digest)

    def delete(self, place: Place | str) -> None:
        """Delete a manifest by digest, or a tag where the registry does that.

        A registry without the referrers API keeps a list of what refers to a manifest under a
        tag: what is deleted by digest is taken out of it. Of a layout, the bytes stay until they
        are collected (`Layout.gc`).

        Raises NotFound, NoSuchImage, RegistryError (distribution-spec, Deleting manifests).
        """
        place = as_place(place)
        if isinstance(place, Local):
            layout = local.layout_of(place, "it is written as a whole")
            if place.tag:
                layout.untag(place.tag)
            else:
                layout.delete(layout.resolve(place.name).digest)
            return
        remote = self._registries.remote(place.repository, "pull,push,delete")
        subject = None
        if place.digest is not None:
            subject = remote.document(place.identifier).subject
        self._transport.run(delete_manifest(remote.access, place.identifier))
        if subject is not None and place.digest is not None:
            self._transport.run(remove_referrer(remote.access, subject.digest, place.digest))

    def delete_blob(self, reference: Reference | str) -> None:
        """Delete the blob that a digest names. Raises NotFound, RegistryError."""
        repository, digest = as_blob(as_reference(reference))
        access = self._registries.access(repository, "pull,push,delete")
        self._transport.run(delete_blob(access, digest))

    # --- Reading

    def get(self, place: Place | str, *, packed: bool = True) -> Tree:
        """Return what a name stands for: an image (or artifact), or an index.

        Layers of a docker archive that are not compressed are compressed when they are pushed, and
        described from then on. Where not `packed`, they stay as they are, and all is known at once.

        Raises NotFound, NoSuchImage, InvalidManifest, InvalidLayout, DigestMismatch,
        RegistryError, TransportFailed.
        """
        place = as_place(place)
        if isinstance(place, Local):
            return local.tree_of(place, packed=packed)
        return read_tree(self._registries.remote(place.repository), place.identifier)

    def image(
        self, place: Place | str, platform: Platform | None = None, *, packed: bool = True
    ) -> Image:
        """Return an image; of an index, the one for `platform`, linux/amd64 where it is None.

        `packed` is as in `get`. Raises NoSuchPlatform, which tells what there is, and what `get`
        raises.
        """
        tree = self.get(place, packed=packed)
        if isinstance(tree, ImageIndex):
            return tree.image(platform or DEFAULT_PLATFORM)
        return tree

    def index(self, place: Place | str) -> ImageIndex:
        """Return an index. Raises InvalidManifest where it is an image, and what `get` raises."""
        tree = self.get(place)
        if isinstance(tree, Image):
            raise InvalidManifest(f"{place} is an image, where an index is wanted")
        return tree

    def manifest(self, place: Place | str, platform: Platform | None = None) -> Manifest | Index:
        """Return the manifest or index, as it is; with `platform`, that image's manifest."""
        tree = self._documents(place)
        while platform is not None and isinstance(tree, ImageIndex):
            tree = tree.child(tree.index.select(platform))
        return local.document_of(tree)

    def config(self, place: Place | str, platform: Platform | None = None) -> bytes:
        """Return an image's config, byte by byte; of an index, that of the image for `platform`.

        Raises as `image`.
        """
        tree = self._documents(place, packed=False)
        if isinstance(tree, ImageIndex):
            tree = tree.image(platform or DEFAULT_PLATFORM)
        with tree.config_blob.open() as stream:
            return b"".join(stream.with_heartbeats())

    def head(self, place: Place | str) -> Descriptor:
        """Return the descriptor of what a name stands for, without reading it where it can be."""
        place = as_place(place)
        if isinstance(place, Local):
            return local.document_of(self._documents(place)).descriptor
        access = self._registries.access(place.repository)
        return self._transport.run(head_manifest(access, place.identifier))

    def blob(self, place: Place | str) -> BlobStream:
        """Open a blob that a digest names; a wrong byte is an error at the end of the read."""
        place = as_place(place)
        if isinstance(place, Local):
            layout = local.layout_of(place, "its blobs are read with their image alone")
            if place.digest is None:
                raise InvalidReference("a blob is named by its digest: oci:DIR@sha256:...")
            return layout.blob(place.digest)
        repository, digest = as_blob(place)
        return BlockStream(
            self._transport.stream(read_blob(self._registries.access(repository), digest))
        )

    def tags(self, home: Repository | Local | str) -> list[str]:
        """Return a repository's tags, in the registry's order (distribution-spec, Listing Tags).

        Of a layout or an archive the names of its images.
        """
        home = as_home(home)
        if isinstance(home, Local):
            return local.names_of(home, self._spool)
        return self._transport.run(list_tags(self._registries.access(home)))

    def catalog(self, registry: str) -> list[str]:
        """Return the repositories of a registry, by docker's catalog API."""
        found = self._registries.of(Repository(registry, "catalog"))
        return self._transport.run(list_repositories(found.catalog()))

    def referrers(self, place: Place | str, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, by the API or the tag that stands in for it."""
        place = as_place(place)
        if isinstance(place, Local):
            layout = local.layout_of(place, "nothing in it refers to another")
            found = layout.referrers(
                layout.resolve(place.name).digest,
                lambda one, why: self._warn(layout.path.name, f"{one} is passed over: {why}"),
            )
            return tuple(one for one in found if artifact_type in {"", one.artifact_type})
        digest = place.digest or self.head(place).digest
        access = self._registries.access(place.repository)
        return self._transport.run(list_referrers(access, digest, artifact_type))

    # --- Access

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
        return self._transport.run(access.registry.authorization(access.scope, Patience.USUAL))

    def explain(self, repository: Repository | str) -> Explanation:
        """Tell how a repository would be pushed to: the registry is asked, and nothing changed.

        Raises TransportFailed, Unauthorized, ProtocolViolation where it cannot be reached.
        """
        from brolga.client.explanation import explained

        repository = as_repository(repository)
        registry = self._registries.of(repository)
        credentials = self._registries.found(repository)
        style = self._registries.uploads.style_for(repository, registry)
        return explained(self._transport, registry, repository, credentials, style)

    # --- Inside

    def _documents(self, place: Place | str, *, packed: bool = True) -> Tree:
        """Return what a name stands for, where no layer will be read."""
        place = as_place(place)
        if isinstance(place, Local):
            return local.documents_of(place, self._spool, packed=packed)
        return self.get(place)

    def _stream_all(
        self,
        source: Local,
        target: Repository | Local,
        platform: Platform | None,
        but: Container[str],
    ) -> Iterator[tuple[str, Place | None]]:
        """Copy the images of an archive that is read in one pass."""
        from brolga.archive import Known, stream_images
        from brolga.client.tags import tags_of

        home = Destination.of(target)
        with self._into(home, set()) as (store, jobs):
            with local.reading(source) as blocks:
                images = stream_images(blocks, store, form=FORMS[source.kind], spool=self._spool)
            for tag, name in tags_of(images.names(), images.tree).items():
                if tag in but:
                    yield tag, None
                    continue
                tree = images.tree(name)
                if platform is not None and isinstance(tree, ImageIndex):
                    tree = tree.image(platform)
                yield tag, home.at(push_into(Known(store), tree, tag, jobs=jobs).digest)

    @contextmanager
    def _into(self, target: Destination, homes: set[Repository]) -> Iterator[tuple[Target, int]]:
        """Give the store that a target is, and how many blobs it takes at a time."""
        home = target.home
        if isinstance(home, Local):
            with local.writing(replace(home, name=target.name), self._spool) as store:
                # An archive is one stream.
                yield store, self._jobs if home.kind == "oci" else 1
            return
        near = {one for one in homes if one.registry == home.registry} - {home}
        remote = self._registries.remote(home, "pull,push", *near, uploads=self._jobs)
        # One token for all threads, before they start.
        try:
            self._authorize(remote)
        except (Unauthorized, Denied):
            if not near:
                raise
            # Who may push here may not read there: what is there is uploaded then.
            remote = self._registries.remote(home, "pull,push", uploads=self._jobs)
            remote = replace(remote, mounts=False)
            self._authorize(remote)
        yield remote, self._jobs

    def _authorize(self, remote: Remote) -> None:
        access = remote.access
        self._transport.run(access.registry.authorization(access.scope, Patience.USUAL))


def _unheard(_host: str, _text: str) -> None:
    """Tell nobody of a warning."""


def push_layer(repository: Repository | Local | str, layer: Blob) -> Descriptor:
    """Stream a layer into a repository: see `Client.push_layer`.

    With a client of its own, and the credentials that the command uses (`default_keychain`).
    """
    with Client(credentials=default_keychain()) as client:
        return client.push_layer(repository, layer)


def push(place: Place | str, tree: Tree) -> Place:
    """Push an image or an index: see `Client.push`; credentials are found as by `push_layer`."""
    with Client(credentials=default_keychain()) as client:
        return client.push(place, tree)


def image(place: Place | str, platform: Platform | None = None) -> Image:
    """Return an image: see `Client.image`; credentials are found as by `push_layer`.

    Its layers are read when they are asked for. The connections are closed when nobody has any
    part of the image any more.
    """
    client = Client(credentials=default_keychain())
    try:
        found = client.image(place, platform)
    except BaseException:
        client.close()
        raise
    client.close_when_dropped()
    return found
