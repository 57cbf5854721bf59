"""What can be written to a place: layers, images and indexes, tags.

Knows which store a place is, and what goes into it first. Must not know how a store takes it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from brolga.client import local
from brolga.client.names import as_blob, as_home, as_place, as_reference, named
from brolga.client.reading import Reading
from brolga.client.target import Destination
from brolga.errors import (
    Denied,
    InvalidReference,
    StreamConsumed,
    Unauthorized,
    excerpt,
)
from brolga.images import Image, ImageIndex
from brolga.protocol import Timeout, delete_blob, delete_manifest, remove_referrer
from brolga.spec.mediatypes import UNKNOWN_ARTIFACT
from brolga.spec.platform import DEFAULT_PLATFORM
from brolga.spec.reference import Reference, Repository
from brolga.stores.copy import push as push_into
from brolga.stores.location import FORMS, LocalRef

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from typing import BinaryIO

    from brolga.images import Tree
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef
    from brolga.stores.registry import RegistryStore
    from brolga.stores.store import WriteStore
    from brolga.stream.layer import StreamLayer

__all__ = ["Pushing"]


class Pushing(Reading):
    """A client that reads and pushes: see `Client`."""

    def push_layer(self, repository: Repository | LocalRef | str, layer: Blob) -> Descriptor:
        """Stream a layer into a repository, or a layout, in one pass; return its descriptor.

        The layer's digest and sizes exist from then on. When anything fails, nothing is
        committed and the upload session is cancelled. A stream that this client has pushed to the
        registry before is taken over from there.

        No manifest names the layer: until one does, a garbage collection of the registry may delete
        it. `push_stream` pushes a manifest with it.

        Raises SourceError where the layer's source fails, StreamConsumed for a layer that was
        read before and is not there, UploadInterrupted, RegistryError, TransportError,
        ProtocolViolation, DigestMismatch, InvalidReference (distribution-spec, Pushing blobs).
        """
        home = as_home(repository)
        if isinstance(home, LocalRef):
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
        place: ImageRef | Repository | str,
        tree: Tree,
        *,
        recheck: bool = False,
        expected: Digest | None = None,
    ) -> ImageRef:
        """Push an image or an index, in one pass over its streams; return its name by digest.

        Where a `Repository` stands for the place, it is pushed by its digest alone.

        Layers go before the config and the manifest, several at a time; a blob that is there
        already is not sent, one of another repository of the same registry is mounted. The
        manifest is the last to go: when anything fails before, the name stands for what it stood
        for. A manifest that is there is taken for whole, unless `recheck`: then each blob is asked
        for, and what a registry has lost is sent again.

        `expected` is what the tag must stand for until the end, where the tree is made of that.
        Raises TagConflict where it does not. It is asked just before the manifest goes: no registry
        does both in one step.

        Raises what `push_layer` raises, InvalidReference where `place` has a digest that is not
        the tree's, NotComputed where that is not known yet (distribution-spec, Pushing manifests),
        and OSError for a place on this machine that cannot be written.
        """
        target = Destination.of(place)
        target.check(tree)
        with self._into(target, tree.mount_sources) as (store, jobs):
            pushed = push_into(
                store, tree, target.name, jobs=jobs, recheck=recheck, expected=expected
            )
        return target.at(pushed.digest)

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

        No garbage collection deletes what a manifest names. The manifest goes last: when anything
        fails before, the name stands for what it stood for. A stream that is not a tar has a media
        type of its own (`StreamLayer.stream_media_type`). `title` is the name of the file that ORAS
        makes of it. `pull_stream` gives the bytes back.

        Raises what `push` raises, InvalidManifest for an artifact type that is not valid.
        """
        from brolga.client.streams import artifact_of

        return self.push(place, artifact_of(stream, artifact_type, title, annotations))

    def save(self, home: LocalRef | str, images: Iterable[tuple[str, Tree]]) -> list[ImageRef]:
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
        place: ImageRef | Repository | str,
        blocks: BinaryIO | Iterable[bytes],
        *,
        form: str = "",
        name: str = "",
        platform: Platform | None = None,
        change: Callable[[Tree], Tree] | None = None,
    ) -> ImageRef:
        """Push the image of an archive that is read in one pass, from a pipe; return its name.

        Blobs go as they come past; nothing is kept but what comes too early. `form` is `oci`,
        `docker`, or "" for what it looks like; `name` is the image to choose, "" the only one.
        `change` makes another image of it, which is pushed in its place.

        Raises what `push` raises, and CorruptBlob or InvalidManifest for what is no archive.
        """
        from brolga.stores.archive import Known, stream_archive

        target = Destination.of(place)
        packing = "gzip" if local.packs(place) else "none"
        with self._into(target, set()) as (store, jobs):
            tree = stream_archive(
                blocks,
                store,
                form=form,
                name=name,
                platform=platform,
                spool=self._spool,
                compression=packing,
            )
            if platform is not None and isinstance(tree, ImageIndex):
                tree = tree.image(platform)
            tree = change(tree) if change else tree
            target.check(tree)
            pushed = push_into(Known(store), tree, target.name, jobs=jobs)
        return target.at(pushed.digest)

    def copy(
        self,
        source: ImageRef | str,
        target: ImageRef | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
        recheck: bool = False,
    ) -> ImageRef:
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
        if isinstance(source, LocalRef) and local.single_pass(source):
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
        source: ImageRef | str,
        target: ImageRef | str,
        change: Callable[[Image], Image],
        platform: Platform | None = None,
    ) -> ImageRef:
        """Push what `change` makes of an image; of an index, of the one for `platform`.

        The image may come down a pipe. Raises as `image` and `push`.
        """
        source = as_place(source)
        if not (isinstance(source, LocalRef) and local.single_pass(source)):
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
        source: Repository | LocalRef | str,
        target: Repository | LocalRef | str,
        *,
        platform: Platform | None = None,
        referrers: bool = False,
        but: Container[str] = (),
        recheck: bool = False,
    ) -> Iterator[tuple[str, ImageRef | None]]:
        """Copy each tag of a repository, a layout or an archive; yield it, and its new name.

        Tags in `but` are left alone, and yielded with None. Of a name like `example.com/app:v1` the
        tag counts; between two layouts a name stays as it is. Raises as `copy`, InvalidReference
        where two images would get one tag.
        """
        from brolga.client.referrers import check_referrers
        from brolga.client.tags import tags_between

        source, target = as_home(source), as_home(target)
        if referrers:
            check_referrers(*(one for one in (source, target) if isinstance(one, LocalRef)))
        if isinstance(source, LocalRef) and local.single_pass(source):
            yield from self._stream_all(source, target, platform, but)
            return
        for tag, name in tags_between(self, source, target, platform).items():
            origin, place = named(source, name), named(target, tag)
            copied = None
            if tag not in but:
                copied = self.copy(
                    origin, place, platform=platform, referrers=referrers, recheck=recheck
                )
            yield tag, copied

    def tag(self, place: ImageRef | str, tag: str) -> ImageRef:
        """Give a manifest another tag of its repository; return its name by both tag and digest.

        That of a layout has the digest alone.
        """
        place = as_place(place)
        if isinstance(place, LocalRef):
            layout = local.layout_of(place, "it is written as a whole")
            if replace(place, name=tag).tag != tag or not tag:
                raise InvalidReference(f"{excerpt(tag)} is no name to give: it names what is there")
            return place.with_digest(layout.tag(place.name, tag).digest)
        named = Reference(place.repository, tag)
        remote = self._registries.remote(place.repository, "pull,push")
        document = remote.fetch_manifest(place.identifier)
        remote.push_manifest(document, tag)
        return replace(named, digest=document.digest)

    def delete(self, place: ImageRef | str) -> None:
        """Delete a manifest by digest, or a tag where the registry does that.

        A registry without the referrers API keeps a list of what refers to a manifest under a
        tag: what is deleted by digest is taken out of it. Of a layout, the bytes stay until they
        are collected (`Layout.gc`).

        Raises NotFound, ImageNotFound, RegistryError (distribution-spec, Deleting manifests).
        """
        place = as_place(place)
        if isinstance(place, LocalRef):
            layout = local.layout_of(place, "it is written as a whole")
            if place.tag:
                layout.untag(place.tag)
            else:
                layout.delete(layout.resolve(place.name).digest)
            return
        remote = self._registries.remote(place.repository, "pull,push,delete")
        subject = None
        if place.digest is not None:
            subject = remote.fetch_manifest(place.identifier).subject
        self._transport.run(delete_manifest(remote.access, place.identifier))
        if subject is not None and place.digest is not None:
            self._transport.run(remove_referrer(remote.access, subject.digest, place.digest))

    def delete_blob(self, reference: Reference | str) -> None:
        """Delete the blob that a digest names. Raises NotFound, RegistryError."""
        repository, digest = as_blob(as_reference(reference))
        access = self._registries.access(repository, "pull,push,delete")
        self._transport.run(delete_blob(access, digest))

    def _stream_all(
        self,
        source: LocalRef,
        target: Repository | LocalRef,
        platform: Platform | None,
        but: Container[str],
    ) -> Iterator[tuple[str, ImageRef | None]]:
        """Copy the images of an archive that is read in one pass."""
        from brolga.client.tags import tags_of
        from brolga.stores.archive import Known, stream_images

        home = Destination.of(target)
        with self._into(home, set()) as (store, jobs):
            with local.reading(source) as blocks:
                images = stream_images(blocks, store, form=FORMS[source.kind], spool=self._spool)
            for tag, name in tags_of(images.names(), images.tree).items():
                if tag in but:
                    yield tag, None
                    continue
                tree = images.tree(name, platform)
                if platform is not None and isinstance(tree, ImageIndex):
                    tree = tree.image(platform)
                yield tag, home.at(push_into(Known(store), tree, tag, jobs=jobs).digest)

    @contextmanager
    def _into(
        self, target: Destination, homes: set[Repository]
    ) -> Iterator[tuple[WriteStore, int]]:
        """Give the store that a target is, and how many blobs it takes at a time."""
        home = target.home
        if isinstance(home, LocalRef):
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

    def _authorize(self, remote: RegistryStore) -> None:
        access = remote.access
        self._transport.run(access.registry.authorize(access.scope, Timeout.DEFAULT))
