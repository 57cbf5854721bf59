"""What every store of images can do, as protocols of a few methods.

Knows the words, and how what a store has is read as a tree of images. Must not know any store: a
repository of a registry is one, a directory and an archive are others.

Strategy: who copies asks for no more than it needs, so that it is written once for all stores.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from brolga.errors import InvalidManifest, excerpt
from brolga.images import Image, ImageIndex, StoredBlob
from brolga.images.index import is_blob
from brolga.spec.index import Index
from brolga.spec.mediatypes import DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brolga.images import Tree
    from brolga.spec.blob import Blob, BlobStream
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.manifest import Manifest
    from brolga.spec.reference import Repository

__all__ = ["Foreseeing", "ReadStore", "WriteStore", "go_on", "read_tree"]

# Manifests that refer to others. The last is that of image-spec 1.1.0-rc2, which was withdrawn.
_UNREAD: Final = frozenset(
    {
        DOCKER_SCHEMA_1,
        DOCKER_SCHEMA_1_SIGNED,
        "application/vnd.oci.artifact.manifest.v1+json",
    }
)


def go_on() -> None:
    """Let a push go on: what is watched where nobody watches."""


class ReadStore(Protocol):
    """A store that gives manifests and blobs, as often as they are asked for. Threads may share it.

    `home` is the repository of a registry that it is, and None of any other store.
    """

    @property
    def mount_source(self) -> Repository | None:
        """Where blobs can be mounted from."""

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read the manifest or index that a tag or a digest names.

        Raises NotFound; ImageNotFound or CorruptBlob where the store is on this machine.
        """

    def fetch_blob(self, descriptor: Descriptor) -> BlobStream:
        """Open a blob's bytes, verified while they are read.

        Raises, here or later, NotFound, or CorruptBlob where the store is on this machine.
        """


class WriteStore(Protocol):
    """A store that takes blobs and manifests. Threads may share one."""

    def push(self, blob: Blob, watch: Callable[[], None] = ...) -> Descriptor:
        """Take a blob, whose bytes are read where the store does not have them; describe it.

        `watch` is called before each block; what it raises ends the push as a failure of the
        blob's source does.
        """

    def exists(self, descriptor: Descriptor, name: str = "") -> bool:
        """Tell whether a manifest is there already, and so what it refers to.

        With `name`, a tag, whether that stands for it.
        """

    def named(self, tag: str) -> Digest | None:
        """Return the digest of what a tag stands for; None where there is no such tag."""

    def push_manifest(self, document: Manifest | Index, name: str) -> None:
        """Take a manifest under `name`, a tag or its digest. What it refers to is there."""


@runtime_checkable
class Foreseeing(Protocol):
    """A target that is told which manifests will be put, before it gets their blobs."""

    def foresee(self, documents: Iterable[Manifest | Index]) -> None:
        """Take note of manifests; they are put later all the same."""


def read_tree(source: ReadStore, name: str) -> Tree:
    """Read what a tag or a digest names, as an image or an index: no blob is read yet."""
    return _tree(source, source.fetch_manifest(name))


def _tree(source: ReadStore, document: Manifest | Index) -> Tree:
    if isinstance(document, Index):
        return ImageIndex(
            document, partial(_child, source), source.mount_source, _open=partial(_blob, source)
        )
    return _image(source, document)


def _child(source: ReadStore, descriptor: Descriptor) -> Tree:
    """Read an image or an index that an index lists.

    Raises InvalidManifest where it is not as the index says, or neither of them.
    """
    if is_blob(descriptor):
        raise InvalidManifest(
            f"the index has {descriptor.digest}, which is neither an image nor an index but "
            f"{excerpt(descriptor.media_type)}"
        )
    document = source.fetch_manifest(str(descriptor.digest))
    found = document.descriptor
    for what, said, actual in (
        ("size", descriptor.size, found.size),
        ("mediaType", descriptor.media_type, found.media_type),
    ):
        if said != actual:
            raise InvalidManifest(
                f"{descriptor.digest} has the {what} {actual}, and {said} in the index that has it"
            )
    return _tree(source, document)


def _blob(source: ReadStore, descriptor: Descriptor) -> StoredBlob:
    """Return a blob that an index lists.

    Raises InvalidManifest for a manifest of a format that is not read here: what it refers to is
    not known, so that a copy of it would not be whole.
    """
    if descriptor.media_type in _UNREAD:
        error = InvalidManifest(
            f"the index has {descriptor.digest}, a manifest of the type {descriptor.media_type}, "
            "which is deprecated: it cannot be read or copied"
        )
        error.add_note("leave it out with brolga index filter")
        raise error
    return StoredBlob(
        descriptor, partial(source.fetch_blob, descriptor), source.mount_source, is_verified=True
    )


def _image(source: ReadStore, manifest: Manifest) -> Image:
    def diff_id(number: int) -> Digest:
        return image.config.diff_ids[number]

    def blob(descriptor: Descriptor, diff_id_of: Callable[[], Digest] | None = None) -> StoredBlob:
        opener = partial(source.fetch_blob, descriptor)
        return StoredBlob(descriptor, opener, source.mount_source, diff_id_of, is_verified=True)

    layers = tuple(
        blob(layer, partial(diff_id, number)) for number, layer in enumerate(manifest.layers)
    )
    image = Image(manifest, blob(manifest.config), layers)
    return image
