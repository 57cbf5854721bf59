"""What can be read of a place: a registry's repository, a layout, an archive.

Knows which flow, or which store on this machine, answers which question. Must not know how
anything is pushed.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from brolga.client import local
from brolga.client.connected import Connected
from brolga.client.names import as_blob, as_home, as_place
from brolga.errors import (
    InvalidManifest,
    InvalidReference,
)
from brolga.images import BlockStream, Image, ImageIndex
from brolga.protocol import (
    head_manifest,
    list_referrers,
    list_repositories,
    list_tags,
    read_blob,
)
from brolga.spec.platform import DEFAULT_PLATFORM
from brolga.spec.reference import Repository
from brolga.stores.location import LocalRef
from brolga.stores.store import read_tree
from brolga.stream.decompression import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.images import Tree
    from brolga.protocol import ListFlow
    from brolga.spec.blob import BlobStream
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef

__all__ = ["Reading"]

_STREAM_LIMITS: Final = Limits(size=None)


class Reading(Connected):
    """A client that reads: see `Client`."""

    def get(
        self, place: ImageRef | str, *, packed: bool = True, platform: Platform | None = None
    ) -> Tree:
        """Return what a name stands for: an image (or artifact), or an index.

        Where several images of a layout or an archive have the name, `platform` chooses one.

        Layers of a docker archive that are not compressed are compressed when they are pushed, and
        described from then on. Where not `packed`, they stay as they are, and all is known at once.

        Raises NotFound, ImageNotFound, InvalidManifest, InvalidLayout, DigestMismatch,
        RegistryError, TransportError.
        """
        place = as_place(place)
        if isinstance(place, LocalRef):
            return local.tree_of(place, platform, packed=packed)
        return read_tree(self._registries.remote(place.repository), place.identifier)

    def image(
        self, place: ImageRef | str, platform: Platform | None = None, *, packed: bool = True
    ) -> Image:
        """Return an image; of an index, the one for `platform`, linux/amd64 where it is None.

        `packed` is as in `get`. Raises PlatformNotFound, which tells what there is, and what `get`
        raises.
        """
        tree = self.get(place, packed=packed, platform=platform)
        if isinstance(tree, ImageIndex):
            return tree.image(platform or DEFAULT_PLATFORM)
        return tree

    def index(self, place: ImageRef | str) -> ImageIndex:
        """Return an index. Raises InvalidManifest where it is an image, and what `get` raises."""
        tree = self.get(place)
        if isinstance(tree, Image):
            raise InvalidManifest(f"{place} is an image, where an index is wanted")
        return tree

    def manifest(self, place: ImageRef | str, platform: Platform | None = None) -> Manifest | Index:
        """Return the manifest or index, as it is; with `platform`, that image's manifest."""
        tree = self._documents(place, platform)
        while platform is not None and isinstance(tree, ImageIndex):
            tree = tree.child(tree.index.select(platform))
        return local.document_of(tree)

    def config(self, place: ImageRef | str, platform: Platform | None = None) -> bytes:
        """Return an image's config, byte by byte; of an index, that of the image for `platform`.

        Raises as `image`.
        """
        tree = self._documents(place, platform, packed=False)
        if isinstance(tree, ImageIndex):
            tree = tree.image(platform or DEFAULT_PLATFORM)
        with tree.config_blob.open() as stream:
            return b"".join(stream.blocks())

    def head(self, place: ImageRef | str) -> Descriptor:
        """Return the descriptor of what a name stands for, without reading it where it can be."""
        place = as_place(place)
        if isinstance(place, LocalRef):
            return local.document_of(self._documents(place)).descriptor
        access = self._registries.access(place.repository)
        return self._transport.run(head_manifest(access, place.identifier))

    def blob(self, place: ImageRef | str) -> BlobStream:
        """Open a blob that a digest names; a wrong byte is an error at the end of the read."""
        place = as_place(place)
        if isinstance(place, LocalRef):
            layout = local.layout_of(place, "its blobs are read with their image alone")
            if place.digest is None:
                raise InvalidReference("a blob is named by its digest: oci:DIR@sha256:...")
            return layout.blob(place.digest)
        repository, digest = as_blob(place)
        return BlockStream(
            self._transport.stream(read_blob(self._registries.access(repository), digest))
        )

    def pull_stream(
        self, place: ImageRef | str, *, raw: bool = False, limits: Limits = _STREAM_LIMITS
    ) -> BlockStream:
        """Open the only layer of an artifact or image, as it was before it was compressed.

        The media type says how it is compressed. With `raw`, the bytes come as they are stored.
        They are verified while they are read: until the stream has come to its end without an
        error, they must not be used. `limits` bounds what they may grow to: by default no size, but
        no more than 1100 times beyond 4 GiB.

        Raises InvalidManifest for an index, and for more or fewer layers than one, and what `get`
        raises. Reading raises DigestMismatch, CorruptBlob, TransportError.
        """
        from brolga.client.streams import open_stream

        place = as_place(place)
        return open_stream(place, self.get(place, packed=False), limits, raw=raw)

    def tags(self, home: Repository | LocalRef | str) -> list[str]:
        """Return a repository's tags, in the registry's order (distribution-spec, Listing Tags).

        Of a layout or an archive the names of its images.
        """
        return list(self.iter_tags(home))

    def iter_tags(self, home: Repository | LocalRef | str) -> Iterator[str]:
        """Yield a repository's tags page by page, as `tags` returns them."""
        home = as_home(home)
        if isinstance(home, LocalRef):
            yield from local.names_of(home, self._spool)
        else:
            yield from self._listed(list_tags(self._registries.access(home)))

    def catalog(self, registry: str) -> list[str]:
        """Return the repositories of a registry, by docker's catalog API."""
        return list(self.iter_catalog(registry))

    def iter_catalog(self, registry: str) -> Iterator[str]:
        """Yield the repositories of a registry page by page, as `catalog` returns them."""
        found = self._registries.of(Repository(registry, "catalog"))
        yield from self._listed(list_repositories(found.catalog_access()))

    def _listed(self, pages: ListFlow) -> Iterator[str]:
        """Yield the names of a list, whose next page is asked for when it is wanted."""
        with closing(self._transport.stream(pages)) as stream:
            for page in stream:
                yield from page

    def referrers(self, place: ImageRef | str, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, by the API or the tag that stands in for it."""
        place = as_place(place)
        if isinstance(place, LocalRef):
            layout = local.layout_of(place, "nothing in it refers to another")
            found = layout.referrers(
                layout.resolve(place.name).digest,
                lambda one, why: self._warn(layout.path.name, f"{one} is passed over: {why}"),
            )
            return tuple(one for one in found if artifact_type in {"", one.artifact_type})
        digest = place.digest or self.head(place).digest
        access = self._registries.access(place.repository)
        return self._transport.run(list_referrers(access, digest, artifact_type))

    def _documents(
        self, place: ImageRef | str, platform: Platform | None = None, *, packed: bool = True
    ) -> Tree:
        """Return what a name stands for, where no layer will be read."""
        place = as_place(place)
        if isinstance(place, LocalRef):
            return local.documents_of(place, self._spool, platform, packed=packed)
        return self.get(place)
