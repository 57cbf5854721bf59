"""The methods of a client that read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from brolga import images, stores
from brolga.errors import InvalidManifest
from brolga.spec.value import replace
from brolga.stores import location

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from brolga.client.opener import StoreOpener
    from brolga.extract import ExtractOptions
    from brolga.images import BlockStream, Image, ImageIndex, Tree
    from brolga.images.seekable import RangeOptions, SeekableBlob
    from brolga.spec.blob import BlobStream
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef, LocalRef
    from brolga.stores.progress import ProgressReporter
    from brolga.stream.decompression import Limits


class Reader:
    """What reads images and blobs, wherever they are: the half of `Client` that changes nothing."""

    progress: ProgressReporter | None
    _stores: StoreOpener

    def get(
        self,
        place: ImageRef | str,
        *,
        compress_layers: bool = True,
        platform: Platform | None = None,
    ) -> Tree:
        """Return the image (or artifact) or the index of a name.

        If several images of a layout or an archive have the name, `platform` chooses one. With
        `compress_layers`, uncompressed layers of a docker archive are compressed by a push. Raises
        NotFound in a registry, ImageNotFound on this machine.
        """
        place = location.parse_image_ref(place)
        store = self._stores.open_rereadable(place, compress_layers=compress_layers)
        return store.tree(place.identifier, platform)

    def image(
        self,
        place: ImageRef | str,
        platform: Platform | None = None,
        *,
        compress_layers: bool = True,
    ) -> Image:
        """Return an image; of an index, the one for `platform`, by default linux/amd64."""
        tree = self.get(place, compress_layers=compress_layers, platform=platform)
        return images.image_of(tree, platform)

    def index(self, place: ImageRef | str) -> ImageIndex:
        """Return an index. Raises InvalidManifest if it is an image."""
        tree = self.get(place)
        if isinstance(tree, images.Image):
            raise InvalidManifest(f"{place} is an image, not an index")
        return tree

    def manifest(self, place: ImageRef | str, platform: Platform | None = None) -> Manifest | Index:
        """Return the manifest or index; with `platform`, the manifest of that image."""
        place = location.parse_image_ref(place)
        store = self._stores.open_manifests(place)
        if platform is None and isinstance(store, stores.RegistryStore):
            return store.fetch_manifest(place.identifier)  # no image needs to be made of it
        tree = store.tree(place.identifier, platform)
        while platform is not None and isinstance(tree, images.ImageIndex):
            tree = tree.child(tree.index.select(platform))
        return stores.complete_manifest(tree)

    def config(self, place: ImageRef | str, platform: Platform | None = None) -> bytes:
        """Return the exact bytes of an image's config."""
        place = location.parse_image_ref(place)
        store = self._stores.open_manifests(place, compress_layers=False)
        tree = store.tree(place.identifier, platform)
        with images.image_of(tree, platform).config_blob.open() as stream:
            return b"".join(stream)

    def head(self, place: ImageRef | str) -> Descriptor:
        """Return the descriptor of a name, without reading its manifest if possible."""
        place = location.parse_image_ref(place)
        return self._stores.open_manifests(place).resolve(place.identifier)

    def blob(
        self, place: ImageRef | Repository | str, descriptor: Descriptor | None = None
    ) -> BlobStream:
        """Open the blob that a place names by digest, or that of a descriptor, in the same home.

        The last bytes come after the digest was verified: a wrong byte is an error before them.
        """
        place = location.parse_image_ref(place)
        store = self._stores.open(place, "blob")
        return store.fetch_blob(descriptor or location.blob_digest(place))

    def open_blob(
        self,
        place: ImageRef | Repository | str,
        descriptor: Descriptor | None = None,
        *,
        verify: bool = False,
        options: RangeOptions | None = None,
    ) -> SeekableBlob:
        """Open a blob, named as in `blob`, as a file that is read at any position.

        Only what is read is requested, so the digest, which is that of the whole blob, does not
        cover it. With `verify`, all is read and verified first; what is read later must be the
        same. `options` are the sizes of requests and cache.
        """
        from brolga.stores.store import stored_blob

        place = location.parse_image_ref(place)
        store = self._stores.open(place, "blob")
        descriptor = descriptor or store.resolve_blob(location.blob_digest(place))
        return stored_blob(store, descriptor).open_seekable(verify=verify, options=options)

    def pull_blob(
        self,
        place: ImageRef | Repository | str,
        path: str | os.PathLike[str],
        descriptor: Descriptor | None = None,
    ) -> None:
        """Write a blob, named as in `blob`, to a file, which appears when it is verified.

        If this fails or is killed, the same call goes on with the bytes that are there by then, in
        a partial file beside it.
        """
        from brolga.stores.fetching import fetch_file

        place = location.parse_image_ref(place)
        store, blob = self._stores.open(place, "blob"), descriptor or location.blob_digest(place)
        fetch_file(path, store, blob, partial(self._stores.on_warning, str(path)))

    def pull_stream(
        self, place: ImageRef | str, *, raw: bool = False, limits: Limits | None = None
    ) -> BlockStream:
        """Open the only layer of an artifact or image, decompressed unless `raw`.

        It is verified while it is read: do not use the bytes if the end raises an error. `limits`
        bounds their size: by default, beyond 4 GiB, 1100 times the compressed size.
        """
        from brolga.client.streams import open_stream

        place = location.parse_image_ref(place)
        return open_stream(place, self.get(place, compress_layers=False), limits, raw=raw)

    def extract(
        self,
        place: ImageRef | str,
        directory: str | os.PathLike[str],
        *,
        only: Iterable[str] = (),
        platform: Platform | None = None,
        options: ExtractOptions | None = None,
    ) -> Descriptor:
        """Extract the files of an image into a new or empty directory; return its descriptor.

        They are the files that all its layers show together in a container. `only` are the paths to
        extract, with all below them, by default everything. Of an index, the image is that of
        `platform`, by default linux/amd64. Nothing outside of the directory changes, whatever the
        layers say. If an error is raised, the directory is not complete; the same call goes on.
        See `extract.extract_layers` for what is raised.
        """
        from brolga.extract import ExtractOptions, extract_layers

        options = options or ExtractOptions()
        if names := tuple(only):
            options = replace(options, only=names)
        image = self.image(place, platform, compress_layers=False)
        plan = self.progress.plan if self.progress else lambda _layers: None
        extract_layers(image.layers, directory, options, on_begin=plan)
        return image.descriptor

    def tags(self, home: Repository | LocalRef | str) -> list[str]:
        """Return the tags of a repository, in its order, or the names in a layout or archive."""
        return list(self.iter_tags(home))

    def iter_tags(self, home: Repository | LocalRef | str) -> Iterator[str]:
        """Yield the tags of a repository page by page, as `tags` returns them."""
        home = location.parse_repository_ref(home)
        yield from self._stores.open_manifests(home, compress_layers=False).tags()

    def referrers(self, place: ImageRef | str, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, by the API or the tag that replaces it."""
        place = location.parse_image_ref(place)
        store = self._stores.open(place, "referrers")
        digest = place.digest
        if digest is None or store.mount_source is None:  # a layout says that it has no such image
            digest = store.resolve(place.identifier).digest
        return store.referrers(digest, artifact_type)
