"""The protocols of stores of images, and how the contents of a store are read as a tree.

A repository of a registry, an image layout and an archive are stores. Each protocol has few
methods, so that a function can be written once for every store that has them.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, runtime_checkable

from brolga.errors import InvalidManifest, LayerError, NotComputed, excerpt
from brolga.images import Image, ImageIndex, StoredBlob
from brolga.images.index import is_blob, read_platforms
from brolga.spec.index import Index
from brolga.spec.mediatypes import DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED
from brolga.spec.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brolga.images import Tree
    from brolga.spec.blob import Blob, BlobStream, Prefix
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository


# Manifests that refer to others. The last is that of image-spec 1.1.0-rc2, which was withdrawn.
_UNREAD: Final = frozenset(
    {DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED, "application/vnd.oci.artifact.manifest.v1+json"}
)


class HasMountSource(Protocol):
    """A store that may be a repository of a registry."""

    @property
    def mount_source(self) -> Repository | None:
        """The repository that blobs can be mounted from, None if this is not a registry."""


class Fetcher(HasMountSource, Protocol):
    """A store that returns manifests and blobs, as often as needed. Threads may share one."""

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read the manifest or index of a tag or digest. Raises NotFound or ImageNotFound."""

    def fetch_blob(self, blob: Descriptor | Digest) -> BlobStream:
        """Open a blob. Its bytes are verified while they are read."""


@runtime_checkable
class ReadsRanges(Protocol):
    """A source that can read a part of a blob."""

    def resolve_blob(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a blob, without its media type. Raises as `fetch_blob` does."""

    def read_range(self, blob: Descriptor, start: int, stop: int) -> BlobStream:
        """Open the bytes of a blob from `start` to `stop`, not included. They are not verified.

        Raises RangeNotSupported if the source cannot do this after all.
        """


class ReadStore(HasMountSource, Protocol):
    """A store whose images can be listed and read."""

    def tags(self) -> Iterable[str]:
        """Return the names of the images."""

    def tree(self, name: str = "", platform: Platform | None = None) -> Tree:
        """Return the image or index of a name; "" is the only one. No layer is read.

        If several images have the name, `platform` chooses one.
        """

    def resolve(self, name: str = "", platform: Platform | None = None) -> Descriptor:
        """Return the descriptor of the manifest or index that `tree` would return."""


class WriteStore(Protocol):
    """A store that takes blobs and manifests. Threads may share one.

    An attribute `is_serial`, if true, says that it writes one stream: one blob at a time.
    """

    def push(self, blob: Blob) -> Descriptor:
        """Take a blob; return its descriptor. Its bytes are read if the store lacks them."""

    def exists(self, descriptor: Descriptor, tag: str = "") -> bool:
        """Return whether the store has a manifest, and so everything that it refers to.

        With `tag`, return whether that stands for it.
        """

    def find(self, tag: str) -> Descriptor | None:
        """Return what a tag stands for; None if the tag does not exist."""

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        """Take a manifest under tags, or its digest, after all that it refers to."""


class Store(Fetcher, ReadsRanges, ReadStore, WriteStore, Protocol):
    """A store that can be changed in place: a repository of a registry, an image layout."""

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return the manifests whose subject is `digest`."""

    def tag(self, name: str, *tags: str) -> Descriptor:
        """Give a manifest other tags; return its descriptor."""

    def delete(self, name: str) -> None:
        """Delete a tag; or, by its digest, a manifest with all its tags."""


@runtime_checkable
class Preannounces(Protocol):
    """A target that learns which manifests will be pushed before it gets their blobs."""

    def announce(self, manifests: Iterable[Manifest | Index]) -> None:
        """Take note of manifests. They are pushed later all the same."""


@runtime_checkable
class ChecksTags(Protocol):
    """A source whose images may lack names or share one."""

    def check_tags(self, *, unique: bool) -> None:
        """Raise ImageNotFound if no image has a name; if `unique`, also if two have the same."""


@runtime_checkable
class Resumes(Protocol):
    """A source that can go on with a blob whose first bytes were read before."""

    def fetch_rest(self, blob: Descriptor | Digest, prefix: Prefix) -> BlobStream:
        """Open the bytes of a blob after a prefix. They are verified together with it."""


@runtime_checkable
class OnePassStore(HasMountSource, Protocol):
    """A source that can be read only once, such as an archive from a pipe."""

    def stream_into(self, target: WriteStore) -> ReadStore:
        """Push every blob to `target` while reading; return the images, of `PushedBlob`s."""


class PushedBlob(Value):
    """A blob that is in `store` already, and cannot be read here."""

    descriptor: Descriptor
    store: WriteStore = field(repr=False, compare=False)
    known_diff_id: Digest | None = None

    @property
    def media_type(self) -> str:
        """The media type of the bytes."""
        return self.descriptor.media_type

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed if it is not known."""
        if self.known_diff_id is None:
            raise NotComputed(f"the DiffID of {self.descriptor.digest} is not known here")
        return self.known_diff_id

    def open(self) -> NoReturn:
        """Raise LayerError: the bytes are gone."""
        raise LayerError(
            f"the bytes of {self.descriptor.digest} were read once, from a pipe, and pushed to "
            "another store: they cannot be read again"
        )


class NullStore:
    """A store that reads every blob to its end, and so verifies it, and keeps nothing."""

    def push(self, blob: Blob) -> Descriptor:
        """Read a blob; return its descriptor."""
        with blob.open() as stream:
            deque(stream, maxlen=0)
        return blob.descriptor

    def exists(self, descriptor: Descriptor, tag: str = "") -> bool:  # noqa: ARG002 - it has nothing
        """Return False."""
        return False

    def find(self, tag: str) -> Descriptor | None:
        """Return None."""

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        """Keep nothing."""


def read_tree(source: Fetcher, name: str) -> Tree:
    """Read the manifest of a tag or digest, as an image or an index. No blob is read yet."""
    return _tree(source, source.fetch_manifest(name))


def open_image(manifest: Manifest, blob: Callable[..., Blob]) -> Image:
    """Return the image of a manifest. `blob` opens a descriptor, given what returns its DiffID."""

    def diff_id(number: int) -> Digest:
        return image.config.diff_ids[number]

    layers = tuple(
        blob(layer, partial(diff_id, number)) for number, layer in enumerate(manifest.layers)
    )
    image = Image(manifest, blob(manifest.config), layers)
    return image


def offered_platforms(
    entry: Descriptor, load: Callable[[Descriptor], Tree]
) -> tuple[Platform, ...]:
    """Return the platforms of an entry of index.json, which `load` reads if it does not say."""
    if is_blob(entry):
        return ()
    return (entry.platform,) if entry.platform else read_platforms(load(entry))


def complete_manifest(tree: Tree) -> Manifest | Index:
    """Return the manifest or index of a tree. Layers with an unknown digest are read for it."""
    if isinstance(tree, ImageIndex):
        return tree.index
    for layer in tree.layers:
        try:
            layer.descriptor  # noqa: B018 - is it known?
        except NotComputed:
            with layer.open() as stream:
                deque(stream, maxlen=0)
    return tree.manifest


def _tree(source: Fetcher, document: Manifest | Index) -> Tree:
    if isinstance(document, Index):
        return ImageIndex(
            document, partial(_child, source), source.mount_source, _open=partial(_blob, source)
        )
    return open_image(document, partial(stored_blob, source))


def _child(source: Fetcher, descriptor: Descriptor) -> Tree:
    """Read an image or index that an index lists. Raises InvalidManifest if they differ."""
    if is_blob(descriptor):
        raise InvalidManifest(
            f"the index has {descriptor.digest}, which is neither an image nor an index but "
            f"{excerpt(descriptor.media_type)}"
        )
    document = source.fetch_manifest(str(descriptor.digest))
    actual = document.descriptor
    for member, expected, value in (
        ("size", descriptor.size, actual.size),
        ("mediaType", descriptor.media_type, actual.media_type),
    ):
        if expected != value:
            raise InvalidManifest(
                f"{descriptor.digest} has the {member} {value}, and {expected} in the index that "
                "has it"
            )
    return _tree(source, document)


def _blob(source: Fetcher, descriptor: Descriptor) -> StoredBlob:
    """Return a blob of an index, unless it is a manifest: what that refers to is unknown."""
    if descriptor.media_type in _UNREAD:
        raise InvalidManifest(
            f"the index has {descriptor.digest}, a manifest of the type {descriptor.media_type}, "
            "which is deprecated: it cannot be read or copied",
            hint="leave it out with brolga index filter",
        )
    return stored_blob(source, descriptor)


def stored_blob(
    source: Fetcher, descriptor: Descriptor, diff_id_of: Callable[[], Digest] | None = None
) -> StoredBlob:
    """Return a blob of a store that verifies what it reads."""
    opener = partial(source.fetch_blob, descriptor)
    open_rest = partial(source.fetch_rest, descriptor) if isinstance(source, Resumes) else None
    open_range = partial(source.read_range, descriptor) if isinstance(source, ReadsRanges) else None
    return StoredBlob(
        descriptor,
        opener,
        source.mount_source,
        diff_id_of,
        open_rest,
        open_range,
        is_verified=True,
    )
