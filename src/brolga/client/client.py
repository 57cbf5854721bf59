"""The client: one method for each thing that can be done with images, wherever they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from brolga import images, protocol, stores
from brolga.client.opener import StoreOpener
from brolga.client.reading import Reader
from brolga.client.registries import Registries, TransportOptions, UploadOptions
from brolga.spec.mediatypes import UNKNOWN_ARTIFACT
from brolga.spec.reference import Reference, Repository
from brolga.spec.value import as_dict, replace
from brolga.stores import location
from brolga.transport import Transport

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from typing import Self

    from brolga.auth import Keychain
    from brolga.images import Image, Tree
    from brolga.protocol import Credentials, Retry
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.spec.progress import ProgressEvent
    from brolga.stores.copy import Copier
    from brolga.stores.location import ImageRef, LocalRef
    from brolga.stores.read_budget import ReadOptions
    from brolga.stores.store import OnePassStore, ReadStore, Store
    from brolga.stream.layer import StreamLayer


def jitter() -> float:
    """Return a number from 0 to 1 by chance. It is for delays, so random is imported here."""
    import random

    return random.random()  # noqa: S311 - a delay need not be secret


class Client(Reader):
    """A client of registries, layouts and archives. Threads may share one; close it at the end.

    Its methods are about images and blobs; those of `registries` about a registry as a whole. A
    place is a registry's reference, or is on this machine: see `stores.location`.

    `credentials` is a keychain, which is asked for each repository, or credentials for every
    registry; None is anonymous. `state` is a directory for journals of uploads, as in
    `UploadOptions`. `retry` bounds how often, and how soon, a request is repeated. `on_warning` is
    called once with the host and text of each warning of a registry. `progress` is called with each
    `ProgressEvent`, from several threads at once. `make_transport` returns what performs the
    requests, with the options of `Transport`.
    """

    def __init__(  # noqa: PLR0913 - each is an independent option
        self,
        *,
        credentials: Keychain | Credentials | None = None,
        transport: TransportOptions | None = None,
        uploads: UploadOptions | None = None,
        reads: ReadOptions | None = None,
        state: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        on_warning: Callable[[str, str], None] = lambda _host, _text: None,
        progress: Callable[[ProgressEvent], object] | None = None,
        make_transport: Callable[..., Transport] = Transport,
    ) -> None:
        options = transport or TransportOptions()
        uploads = uploads or UploadOptions()
        self._uploads = uploads = uploads if state is None else replace(uploads, state=state)
        retry = retry or protocol.Retry(jitter=jitter)
        self.progress = stores.ProgressReporter(progress) if progress else None
        transport_options = {**as_dict(options), "keepalive": 4 * uploads.jobs}
        self._transport = make_transport(**transport_options, on_warning=on_warning)
        self.registries = Registries(
            self._transport, credentials, retry, uploads, options.insecure, reads, self.progress
        )
        self._stores = StoreOpener(self.registries, on_warning, self.progress)

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

    def push_layer(self, repository: Repository | LocalRef | str, layer: Blob) -> Descriptor:
        """Stream a layer into a repository or a layout, in one pass; return its descriptor.

        No manifest names the layer, so a garbage collection may delete it: see `push_stream`.
        """
        return self._stores.open(location.parse_repository_ref(repository), "push").push(layer)

    def push(
        self,
        place: ImageRef | Repository | str,
        tree: Tree,
        *,
        tags: Iterable[str] = (),
        verify_existing: bool = False,
        expected: Digest | None = None,
    ) -> ImageRef:
        """Push an image or an index, in one pass over its streams; return its name by digest.

        It is pushed to a `Repository` by its digest alone; `tags` are more tags in the same
        repository or layout. A blob that is there already is not sent, one of another repository of
        the same registry is mounted. The manifest is the last: if anything fails before, the name
        stands for what it did.

        With `verify_existing`, each blob is checked below a manifest that is there, and what a
        registry has lost is sent again. `expected` is what the place's tag must stand for until the
        end: else TagConflict is raised.
        """
        from brolga.stores.push import push

        place = location.parse_image_ref(place)
        names = location.tags_to_write(place, tags)
        location.check_digest(place, tree)
        with self._stores.open_target(place, tree.mount_sources) as store:
            jobs, verify = self._uploads.jobs, verify_existing
            pushed = push(store, tree, *names, jobs=jobs, verify_existing=verify, expected=expected)
        return location.with_digest(place, pushed.digest)

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

        `title` is the name of the file that ORAS writes. `pull_stream` returns the bytes.
        """
        from brolga.client.streams import artifact_of

        return self.push(place, artifact_of(stream, artifact_type, title, annotations))

    def write_images(
        self, home: ImageRef | Repository | str, images: Iterable[tuple[str, Tree]]
    ) -> list[ImageRef]:
        """Push images to one place, each under its tag ("" for no tag); return their new names."""
        from brolga.stores.push import push

        home = location.home_of(location.parse_image_ref(home))
        names: list[ImageRef] = []
        with self._stores.open_target(home) as store:
            for tag, tree in images:
                digest = push(store, tree, tag, jobs=self._uploads.jobs).digest
                place = location.with_name(home, tag) if tag else home
                names.append(location.with_digest(place, digest))
        return names

    def copy(  # noqa: PLR0913 - what can be chosen about a copy
        self,
        source: ImageRef | OnePassStore | str,
        target: ImageRef | Repository | str,
        *,
        tags: Iterable[str] = (),
        platform: Platform | None = None,
        referrers: bool = False,
        verify_existing: bool = False,
        change: Callable[[Tree], Tree] | None = None,
    ) -> ImageRef:
        """Copy an image, an index with all its platforms, or an artifact; return its new name.

        Blobs go from store to store in blocks, verified, and touch no other disk. Uncompressed
        layers of a docker archive are compressed, unless the target is another one. With
        `platform`, only that image of an index is copied; with `referrers`, what refers to it as
        well. `change` returns another tree, which is pushed instead. `tags` and `verify_existing`
        are as in `push`. `source` may be an archive that is read once
        (`stores.archive.ArchiveStream`).
        """
        target = location.parse_image_ref(target)
        name = ""
        if not isinstance(source, stores.OnePassStore):
            source = location.parse_image_ref(source)
            name = source.identifier

        def prepare(tree: Tree) -> Tree:
            tree = change(tree) if change else tree
            location.check_digest(target, tree)
            return tree

        names = location.tags_to_write(target, tags)
        copier = self._copier(source, target, platform, referrers, verify_existing)
        return location.with_digest(target, copier.copy(name, names, prepare).digest)

    def push_mutated(
        self,
        source: ImageRef | str,
        target: ImageRef | str,
        change: Callable[[Image], Image],
        platform: Platform | None = None,
        *,
        tags: Iterable[str] = (),
    ) -> ImageRef:
        """Push what `change` returns for an image, or for that of an index for `platform`.

        `tags` are as in `push`.
        """
        return self.copy(
            source, target, tags=tags, change=lambda tree: change(images.image_of(tree, platform))
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
        the tag counts. Raises InvalidReference if two images would get one tag.
        """
        source = location.parse_repository_ref(source)
        target = location.parse_repository_ref(target)
        keep = location.keeps_names(source, target)
        copier = self._copier(source, target, platform, referrers, verify_existing)
        for tag, descriptor in copier.copy_all(exclude, keep_names=keep):
            place = location.with_name(target, tag)
            yield tag, location.with_digest(place, descriptor.digest) if descriptor else None

    def tag(self, place: ImageRef | str, tag: str, *tags: str) -> ImageRef:
        """Give a manifest other tags; return its name by `tag` and digest, or by digest alone.

        A registry that supports it sets several tags by one request; others one by one.
        """
        place = location.parse_image_ref(place)
        store = self._stores.open(place, "tag")
        home = location.home_of(place)
        named, *_ = [location.check_new_tag(home, each) for each in (tag, *tags)]
        return location.pin(named, store.tag(place.identifier, tag, *tags).digest)

    def delete(self, place: ImageRef | str) -> None:
        """Delete a manifest by digest, or a tag. A layout keeps its blobs until `Layout.gc`."""
        place = location.parse_image_ref(place)
        self._stores.open(place, "delete").delete(place.identifier)

    def delete_blob(self, reference: Reference | str) -> None:
        """Delete the blob of a digest in a registry."""
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        digest = location.blob_digest(reference)
        self.registries.open(reference.repository, "pull,push,delete").delete_blob(digest)

    def _copier(
        self,
        source: ImageRef | Repository | OnePassStore,
        target: ImageRef | Repository,
        platform: Platform | None,
        referrers: bool,  # noqa: FBT001 - as in `copy`
        verify_existing: bool,  # noqa: FBT001 - as in `copy`
    ) -> Copier:
        """Open the source of a copy, for its referrers as well if they are wanted."""
        listing: Store | None = None
        store: ReadStore | OnePassStore
        if isinstance(source, stores.OnePassStore):
            store = source
        elif referrers:
            store = listing = self._stores.open(source, "referrers")
            self._stores.check(target, "referrers")
        else:
            compress = not location.keeps_layers(target)
            store = self._stores.open_source(source, compress_layers=compress)
        open_target = partial(self._stores.open_target, target)
        return stores.Copier(
            store, open_target, self._uploads.jobs, platform, listing, verify_existing
        )
