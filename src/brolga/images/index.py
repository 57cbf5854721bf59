"""An index as a value: images for several platforms under one name.

Knows indexes, and that their children are images, indexes or blobs. Must not know where they come
from or go to: a loader is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

from brolga.images.blobs import StoredBlob
from brolga.images.image import Image, update_annotations
from brolga.spec.index import Index
from brolga.spec.manifest import INDEX_TYPES, MANIFEST_TYPES
from brolga.spec.mediatypes import IMAGE_CONFIGS, OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor, Platform
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository

__all__ = ["ImageIndex", "Tree", "is_blob", "platforms_of"]

# What a name can stand for: an image, or an index of more of them.
Tree: TypeAlias = "Image | ImageIndex"


def is_blob(child: Descriptor) -> bool:
    """Return whether a child of an index is a blob: what is neither an image nor an index.

    BuildKit's cache is an index of layers and a config of its own ("Encountering an unknown
    `mediaType` MUST NOT generate an error", image-index.md).
    """
    return child.media_type not in MANIFEST_TYPES | INDEX_TYPES


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """An index and its children, which are loaded when they are asked for.

    Make one with `ImageIndex.empty` or `Client.index`, and others from it by `append`, `filter`
    and `with_annotations`. `home` is the repository that its children are in. `_open` gives a child
    that is a blob.
    """

    index: Index
    _load: Callable[[Descriptor], Tree]
    mount_source: Repository | None = None
    _appended: tuple[tuple[Digest, Tree | Blob], ...] = ()
    _open: Callable[[Descriptor], Blob] | None = None

    @classmethod
    def empty(cls, media_type: str = OCI_INDEX) -> ImageIndex:
        """Return an index without children."""
        return cls(Index.new((), media_type=media_type), _nothing)

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
        """Yield each child that is an image or an index, loaded."""
        return (self.child(child) for child in self.index.manifests if not is_blob(child))

    @property
    def blobs(self) -> Iterator[Blob]:
        """Yield each child that is a blob."""
        return map(self.blob, filter(is_blob, self.index.manifests))

    @property
    def mount_sources(self) -> set[Repository]:
        """The repositories that blobs of the children may be in."""
        homes = set(filter(None, [self.mount_source]))
        for _, child in self._appended:
            if isinstance(child, (Image, ImageIndex)):
                homes |= child.mount_sources
            elif isinstance(child, StoredBlob) and child.mount_source:
                homes.add(child.mount_source)
        return homes

    def child(self, descriptor: Descriptor) -> Tree:
        """Return one child, an image or an index. Raises what loading it raises."""
        found = dict(self._appended).get(descriptor.digest) or self._load(descriptor)
        return cast("Tree", found)

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return one child, a blob. Raises what opening it raises."""
        found = dict(self._appended).get(descriptor.digest)
        return cast("Blob", found or (self._open or _nothing)(descriptor))

    def image(self, platform: Platform, *, nearest: bool = False) -> Image:
        """Return the image for a platform; `nearest` takes one like it (`Index.select_nearest`).

        Raises PlatformNotFound, which tells what there is.
        """
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
        """Return the index with another child. Raises NotComputed where its streams are unread.

        `described` is what another index says of the child, to be kept as it is. Where neither it
        nor `platform` is given, the platform is the one that an image's config tells.
        """
        if described is None:
            described = replace(child.descriptor, platform=platform or _platform_of(child))
        return replace(
            self,
            index=self.index.replace(manifests=(*self.index.manifests, described)),
            _appended=(*self._appended, (child.descriptor.digest, child)),
        )

    def filter(self, keep: Callable[[Descriptor], bool]) -> ImageIndex:
        """Return the index with those children whose descriptors `keep` is true for."""
        kept = tuple(filter(keep, self.index.manifests))
        return replace(self, index=self.index.replace(manifests=kept))

    def with_annotations(self, annotations: Mapping[str, str | None]) -> ImageIndex:
        """Return the index with these annotations added to its own; None takes one away."""
        changed = update_annotations(self.index.annotations, annotations)
        return replace(self, index=self.index.replace(annotations=changed))

    def with_subject(self, subject: Descriptor | None) -> ImageIndex:
        """Return the index as one that refers to `subject` (distribution-spec, Referrers)."""
        return replace(self, index=self.index.replace(subject=subject))


def platforms_of(tree: Tree) -> tuple[Platform, ...]:
    """Return what an image or an index is for; an artifact is for no platform.

    Raises what reading an image's config raises.
    """
    if isinstance(tree, ImageIndex):
        return tree.index.platforms
    platform = _platform_of(tree)
    return (platform,) if platform else ()


def _platform_of(child: Tree | Blob) -> Platform | None:
    """Return the platform of an image; None of an index, and of an artifact, which has none."""
    if isinstance(child, Image) and child.manifest.config.media_type in IMAGE_CONFIGS:
        return child.platform
    return None


def _nothing(descriptor: Descriptor) -> NoReturn:
    raise KeyError(f"an empty index has no child {descriptor.digest}")
