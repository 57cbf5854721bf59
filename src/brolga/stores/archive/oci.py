"""The OCI form of an archive: an image layout in a tar.

Knows image-layout.md of the OCI image-spec, and the annotations that name an image in an
index.json. Must not know where the blobs are.

Strategy: digests stay what they are; so every blob is taken as it is, and what a manifest names
must be there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.disk.layout import INDEX_FILE, LAYOUT_FILE, REF_NAME
from brolga.errors import InvalidManifest, excerpt
from brolga.images import Image, ImageIndex, InMemoryBlob, StoredBlob
from brolga.images.index import is_blob, platforms_of
from brolga.spec.digest import Digest
from brolga.spec.index import Index, parse_manifest
from brolga.spec.json import Members, decode, read_text
from brolga.spec.mediatypes import NONDISTRIBUTABLE
from brolga.stores.archive.contents import Names, blob_path, check_digest, choose, of_the_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.images import Tree
    from brolga.spec.blob import Blob, BlobStream
    from brolga.spec.descriptor import Descriptor, Platform
    from brolga.spec.manifest import Manifest
    from brolga.stores.archive.contents import Contents

__all__ = ["Layout", "read_document"]

_FULL_NAME: Final = "io.containerd.image.name"  # Docker's and BuildKit's; ref.name is the tag then


class Layout:
    """An image layout among the files of an archive. Raises InvalidManifest where it is none."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        if INDEX_FILE not in contents:
            raise InvalidManifest("no OCI archive: index.json is missing")
        if LAYOUT_FILE in contents:
            members = Members(decode(contents.read(LAYOUT_FILE)), "oci-layout: $")
            version = members.need("imageLayoutVersion", read_text)
            if not version.startswith("1."):
                raise InvalidManifest(
                    f"an OCI layout of version {excerpt(version)}, not known here"
                )
        self._index = Index.parse(contents.read(INDEX_FILE))

    @property
    def names(self) -> tuple[str, ...]:
        """How each image can be named: by each of its names, else by its digest."""
        shown = (name for names in self._offered().values() for name in names.shown)
        return tuple(dict.fromkeys(shown))

    def tree(self, name: str, platform: Platform | None = None) -> Tree:
        """Return an image or index by its name or digest; "" is the only one.

        `platform` chooses one of several. Raises ImageNotFound where there are more,
        PlatformNotFound, and InvalidManifest where what it names is not there.
        """
        digest = choose(self._offered(), name, self._platforms, platform)
        return self.load(self._entry(digest))

    def _entry(self, digest: Digest) -> Descriptor:
        return next(one for one in self._index.manifests if one.digest == digest)

    def _platforms(self, digest: Digest) -> tuple[Platform, ...]:
        """Return what an image or an index is for."""
        entry = self._entry(digest)
        if is_blob(entry):
            return ()
        return (entry.platform,) if entry.platform else platforms_of(self.load(entry))

    def load(self, descriptor: Descriptor) -> Tree:
        """Return what a descriptor names. What an image names must be there."""
        with of_the_source():
            document = read_document(self._contents, descriptor.digest, descriptor.media_type)
            if isinstance(document, Index):
                return ImageIndex(document, self.load, _open=self._blob)
            return self._image(document)

    def manifest_of(self, config: Digest) -> Image | None:
        """Return the image that has a config, where its layers are there, and are compressed."""
        for manifest in self._manifests():
            if manifest.config.digest == config and self._is_packed(manifest):
                return self._image(manifest)
        return None

    def _offered(self) -> dict[Digest, Names]:
        first: dict[Digest, list[str]] = {}
        others: dict[Digest, list[str]] = {}
        for one in self._index.manifests:
            names = _names(one)
            first.setdefault(one.digest, []).extend(names[:1])
            others.setdefault(one.digest, []).extend(names[1:])
        return {
            digest: Names(tuple(first[digest]), (str(digest), *others[digest])) for digest in first
        }

    def _manifests(self) -> Iterator[Manifest]:
        """Yield the manifests that are there, below whatever indexes."""
        todo = list(self._index.manifests)
        seen: set[Digest] = set()
        while todo:
            one = todo.pop()
            if one.digest in seen or is_blob(one):
                continue
            seen.add(one.digest)
            try:
                document = read_document(self._contents, one.digest, one.media_type)
            except InvalidManifest:
                continue  # Docker saves the index of all platforms, and the image of one
            if isinstance(document, Index):
                todo += document.manifests
            else:
                yield document

    def _is_packed(self, manifest: Manifest) -> bool:
        paths = [blob_path(one.digest) for one in manifest.layers]
        return all(
            path in self._contents and self._contents.find(path, INDEX_FILE).kind != "tar"
            for path in paths
        )

    def _image(self, manifest: Manifest) -> Image:
        def diff_id(number: int) -> Digest:
            return image.config.diff_ids[number]

        layers = tuple(
            self._blob(layer, partial(diff_id, number))
            for number, layer in enumerate(manifest.layers)
        )
        image = Image(manifest, self._blob(manifest.config), layers)
        return image

    def _blob(self, descriptor: Descriptor, diff_id_of: Callable[[], Digest] | None = None) -> Blob:
        if blob_path(descriptor.digest) in self._contents:
            blob = self._contents.blob(descriptor.digest, "a manifest").blob(descriptor)
            return replace(blob, diff_id_of=diff_id_of) if isinstance(blob, StoredBlob) else blob
        if descriptor.media_type in NONDISTRIBUTABLE:
            return StoredBlob(descriptor, _elsewhere, None, diff_id_of)
        if descriptor.data is not None:
            opener = InMemoryBlob(descriptor.data, descriptor.media_type).open
            return StoredBlob(descriptor, opener, None, diff_id_of)
        return self._contents.blob(descriptor.digest, "a manifest").blob(descriptor)


def _names(entry: Descriptor) -> tuple[str, ...]:
    """Return what an entry of index.json is called, the longer name first."""
    names = (entry.annotations.get(_FULL_NAME), entry.annotations.get(REF_NAME))
    return tuple(filter(None, names))


def read_document(contents: Contents, digest: Digest, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index, and hold it against its digest.

    Raises InvalidManifest where it is not there, or is none, DigestMismatch.
    """
    raw = contents.blob(digest, "the index").data()
    check_digest("a manifest", Digest.of(raw, digest.algorithm), digest)
    return parse_manifest(raw, media_type, digest.algorithm)


def _elsewhere() -> BlobStream:
    raise InvalidManifest("a layer that no archive has: it is where its URLs say")
