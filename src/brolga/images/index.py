"""Indexes as values: images for several platforms under one name, loaded lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

from brolga.errors import BrolgaError
from brolga.images.blobs import StoredBlob
from brolga.images.image import Image
from brolga.spec.index import Index
from brolga.spec.json import update_members
from brolga.spec.mediatypes import IMAGE_CONFIGS, INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX
from brolga.spec.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository

# What a reference can name.
Tree: TypeAlias = "Image | ImageIndex"


def is_blob(child: Descriptor) -> bool:
    """Return whether a child of an index is a blob: neither an image nor an index.

    BuildKit's cache is an index of layers and a config of its own ("Encountering an unknown
    `mediaType` MUST NOT generate an error", image-index.md).
    """
    return child.media_type not in MANIFEST_TYPES | INDEX_TYPES


class ImageIndex(Value, eq=False):
    """An index and its children, which are loaded on request.

    Make one with `ImageIndex.empty` or `Client.index`; `append`, `filter` and `with_annotations`
    return others. `mount_source` is the repository of its children. `_load` reads a child that is
    an image or index, `_open` one that is a blob.
    """

    index: Index
    _load: Callable[[Descriptor], Tree]
    mount_source: Repository | None = None
    _appended: tuple[tuple[Digest, Tree | Blob], ...] = ()
    _open: Callable[[Descriptor], Blob] | None = None

    @classmethod
    def empty(cls, media_type: str = OCI_INDEX) -> ImageIndex:
        """Return an index without children."""
        return cls(Index.new((), media_type=media_type), _no_child)

    @property
    def descriptor(self) -> Descriptor:
        """The index's own media type, digest and size."""
        return self.index.descriptor

    @property
    def digest(self) -> Digest:
        """The index's own digest."""
        return self.index.digest

    @property
    def children(self) -> Iterator[Tree]:
        """The children that are images or indexes, loaded one by one."""
        return (self.child(child) for child in self.index.manifests if not is_blob(child))

    @property
    def blobs(self) -> Iterator[Blob]:
        """The children that are blobs."""
        return map(self.blob, filter(is_blob, self.index.manifests))

    @property
    def mount_sources(self) -> set[Repository]:
        """The repositories that may have blobs of the children."""
        repositories = set(filter(None, [self.mount_source]))
        for _, child in self._appended:
            if isinstance(child, (Image, ImageIndex)):
                repositories |= child.mount_sources
            elif isinstance(child, StoredBlob) and child.mount_source:
                repositories.add(child.mount_source)
        return repositories

    def child(self, descriptor: Descriptor) -> Tree:
        """Return a child that is an image or index. Raises what loading it raises."""
        child = dict(self._appended).get(descriptor.digest) or self._load(descriptor)
        return cast("Tree", child)

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return a child that is a blob. Raises what opening it raises."""
        child = dict(self._appended).get(descriptor.digest)
        return cast("Blob", child or (self._open or _no_child)(descriptor))

    def image(self, platform: Platform, *, nearest: bool = False) -> Image:
        """Return the image for a platform; with `nearest`, one like it. Raises PlatformNotFound."""
        select = self.index.select_nearest if nearest else self.index.select
        child = self.child(select(platform))
        return child if isinstance(child, Image) else child.image(platform, nearest=nearest)

    def append(
        self,
        child: Tree | Blob,
        platform: Platform | None = None,
        *,
        described: Descriptor | None = None,
    ) -> ImageIndex:
        """Return the index with another child. Raises NotComputed if its streams were not read.

        `described` is the child's descriptor in another index, to be kept as it is. Without it and
        without `platform`, the platform is that of an image's config.
        """
        if described is None:
            described = replace(child.descriptor, platform=platform or _platform_of(child))
        return replace(
            self,
            index=self.index.replace(manifests=(*self.index.manifests, described)),
            _appended=(*self._appended, (child.descriptor.digest, child)),
        )

    def filter(self, keep: Callable[[Descriptor], bool]) -> ImageIndex:
        """Return the index with the children for whose descriptors `keep` is true."""
        kept = tuple(filter(keep, self.index.manifests))
        return replace(self, index=self.index.replace(manifests=kept))

    def for_platforms(self, platforms: Sequence[Platform]) -> ImageIndex:
        """Return the index with the images for any of these platforms alone."""

        def is_wanted(child: Descriptor) -> bool:
            offered = child.platform
            return offered is not None and any(map(offered.matches, platforms))

        return self.filter(is_wanted)

    def with_loaded(self, children: Mapping[Digest, Tree | BrolgaError]) -> ImageIndex:
        """Return the index with children that were read before, or the errors that they raise."""

        def load(descriptor: Descriptor) -> Tree:
            child = children.get(descriptor.digest) or self._load(descriptor)
            if isinstance(child, BrolgaError):
                raise child
            return child

        return replace(self, _load=load)

    def with_annotations(self, annotations: Mapping[str, str | None]) -> ImageIndex:
        """Return the index with these annotations added to its own; None removes one."""
        updated = update_members(self.index.annotations, annotations)
        return replace(self, index=self.index.replace(annotations=updated))

    def with_subject(self, subject: Descriptor | None) -> ImageIndex:
        """Return the index as a referrer of `subject` (distribution-spec, Referrers)."""
        return replace(self, index=self.index.replace(subject=subject))


def image_of(tree: Tree, platform: Platform | None) -> Image:
    """Return an image, or the one of an index for `platform`, by default linux/amd64.

    Raises PlatformNotFound.
    """
    from brolga.spec.platform import DEFAULT_PLATFORM

    return tree if isinstance(tree, Image) else tree.image(platform or DEFAULT_PLATFORM)


def choose(tree: Tree, platforms: Sequence[Platform]) -> Tree:
    """Return the image of an index for one platform, or an index of those for several.

    Without `platforms` it is all of the tree. Raises PlatformNotFound for one without an image.
    """
    if isinstance(tree, Image) or not platforms:
        return tree
    if len(platforms) == 1:
        return tree.image(platforms[0])
    for platform in platforms:
        tree.index.select(platform)
    return tree.for_platforms(platforms)


def read_platforms(tree: Tree) -> tuple[Platform, ...]:
    """Return the platforms of an image or index, which reads configs; an artifact has none."""
    if isinstance(tree, ImageIndex):
        return tree.index.platforms
    platform = _platform_of(tree)
    return (platform,) if platform else ()


def _platform_of(child: Tree | Blob) -> Platform | None:
    """Return the platform of an image, or None for another child."""
    if isinstance(child, Image) and child.manifest.config.media_type in IMAGE_CONFIGS:
        return child.platform
    return None


def _no_child(descriptor: Descriptor) -> NoReturn:
    raise KeyError(f"an empty index has no child {descriptor.digest}")
