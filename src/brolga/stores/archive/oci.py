"""An OCI archive: an image layout in a tar (image-spec image-layout.md).

Digests are kept, so every blob is taken as it is, and every blob that a manifest names must exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.disk.layout import FULL_NAME, INDEX_FILE, LAYOUT_FILE, REF_NAME
from brolga.errors import InvalidManifest, excerpt
from brolga.images import ImageIndex, InMemoryBlob, StoredBlob
from brolga.images.index import is_blob
from brolga.spec.digest import Digest
from brolga.spec.index import Index, parse_manifest
from brolga.spec.json import Members, decode, read_string
from brolga.spec.mediatypes import NONDISTRIBUTABLE
from brolga.spec.value import replace
from brolga.stores.archive.contents import Names, blob_path, check_digest, choose, source_errors
from brolga.stores.store import offered_platforms, open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.images import Image, Tree
    from brolga.spec.blob import Blob, BlobStream
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.stores.archive.contents import Contents


class ArchiveLayout:
    """An image layout among the files of an archive. Raises InvalidManifest if it is not valid."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        if INDEX_FILE not in contents:
            raise InvalidManifest("not an OCI archive: index.json is missing")
        if LAYOUT_FILE in contents:
            members = Members(decode(contents.read(LAYOUT_FILE)), "oci-layout: $")
            version = members.need("imageLayoutVersion", read_string)
            if not version.startswith("1."):
                raise InvalidManifest(
                    f"an OCI layout of version {excerpt(version)}, not known here"
                )
        self._index = Index.parse(contents.read(INDEX_FILE))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of each image; its digest if it has no other."""
        shown = (name for names in self._offered().values() for name in names.shown)
        return tuple(dict.fromkeys(shown))

    def tree(self, name: str, platform: Platform | None = None) -> Tree:
        """Return an image or index by its name or digest. `platform` chooses one of several."""
        entries = {entry.digest: entry for entry in reversed(self._index.manifests)}

        def platforms(digest: Digest) -> tuple[Platform, ...]:
            return offered_platforms(entries[digest], self.load)

        return self.load(entries[choose(self._offered(), name, platforms, platform)])

    def load(self, descriptor: Descriptor) -> Tree:
        """Return the image or index of a descriptor. All blobs of an image must exist."""
        with source_errors():
            document = read_document(self._contents, descriptor.digest, descriptor.media_type)
            if isinstance(document, Index):
                return ImageIndex(document, self.load, _open=self._blob)
            return open_image(document, self._blob)

    def manifest_of(self, config: Digest) -> Image | None:
        """Return the image of a config if the archive has its layers, compressed."""
        for manifest in self._manifests():
            if manifest.config.digest == config and all(map(self._is_compressed, manifest.layers)):
                return open_image(manifest, self._blob)
        return None

    def _offered(self) -> dict[Digest, Names]:
        first: dict[Digest, list[str]] = {}
        others: dict[Digest, list[str]] = {}
        for entry in self._index.manifests:
            # The longer name first.
            annotations = (entry.annotations.get(key) for key in (FULL_NAME, REF_NAME))
            names = [name for name in annotations if name]
            first.setdefault(entry.digest, []).extend(names[:1])
            others.setdefault(entry.digest, []).extend(names[1:])
        return {
            digest: Names(tuple(first[digest]), (str(digest), *others[digest])) for digest in first
        }

    def _manifests(self) -> Iterator[Manifest]:
        """Yield the manifests that the archive has, at any depth of indexes."""
        todo = list(self._index.manifests)
        seen: set[Digest] = set()
        while todo:
            entry = todo.pop()
            if entry.digest in seen or is_blob(entry):
                continue
            seen.add(entry.digest)
            try:
                document = read_document(self._contents, entry.digest, entry.media_type)
            except InvalidManifest:
                continue  # Docker saves the index of all platforms, and the image of one
            if isinstance(document, Index):
                todo += document.manifests
            else:
                yield document

    def _is_compressed(self, layer: Descriptor) -> bool:
        path = blob_path(layer.digest)
        return path in self._contents and self._contents.find(path, INDEX_FILE).kind != "tar"

    def _blob(self, descriptor: Descriptor, diff_id_of: Callable[[], Digest] | None = None) -> Blob:
        path = blob_path(descriptor.digest)
        if path not in self._contents:
            if descriptor.media_type in NONDISTRIBUTABLE:
                return StoredBlob(descriptor, _raise_nondistributable, None, diff_id_of)
            if descriptor.data is not None:
                opener = InMemoryBlob(descriptor.data, descriptor.media_type).open
                return StoredBlob(descriptor, opener, None, diff_id_of)
        blob = self._contents.find(path, "a manifest").blob(descriptor)
        return replace(blob, diff_id_of=diff_id_of) if isinstance(blob, StoredBlob) else blob


def read_document(contents: Contents, digest: Digest, media_type: str = "") -> Manifest | Index:
    """Read and verify a manifest or index."""
    raw = contents.find(blob_path(digest), "the index").data()
    check_digest("a manifest", Digest.of(raw, digest.algorithm), digest)
    return parse_manifest(raw, media_type, digest.algorithm)


def _raise_nondistributable() -> BlobStream:
    raise InvalidManifest("a nondistributable layer is not in the archive: it is at its URLs")
