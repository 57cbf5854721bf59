"""An index as a value: images for several platforms under one name.

Knows indexes and that their children are images or indexes. Must not know where they come from or
go to: a loader is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from brolga.images.view import Image, merged
from brolga.manifest import Index
from brolga.mediatypes import IMAGE_CONFIGS, OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from brolga.descriptor import Descriptor, Platform
    from brolga.digest import Digest
    from brolga.reference import Repository

__all__ = ["ImageIndex", "Tree"]

# What a name can stand for: an image, or an index of more of them.
Tree: TypeAlias = "Image | ImageIndex"


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """An index and its children, which are loaded when they are asked for.

    Make one with `ImageIndex.empty` or `Client.index`, and others from it by `append`, `filter`
    and `with_annotations`. `home` is the repository that its children are in.
    """

    index: Index
    _load: Callable[[Descriptor], Tree]
    home: Repository | None = None
    _appended: tuple[tuple[Digest, Tree], ...] = ()

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
        """Yield each child, loaded."""
        return map(self.child, self.index.manifests)

    @property
    def homes(self) -> set[Repository]:
        """The repositories that blobs of the children may be in."""
        homes = set().union(*(child.homes for _, child in self._appended))
        return homes | ({self.home} if self.home else set())

    def child(self, descriptor: Descriptor) -> Tree:
        """Return one child. Raises what loading it raises."""
        return dict(self._appended).get(descriptor.digest) or self._load(descriptor)

    def image(self, platform: Platform, *, nearest: bool = False) -> Image:
        """Return the image for a platform; `nearest` takes one like it (`Index.select_nearest`).

        Raises NoSuchPlatform, which tells what there is.
        """
        select = self.index.select_nearest if nearest else self.index.select
        child = self.child(select(platform))
        return child if isinstance(child, Image) else child.image(platform, nearest=nearest)

    def append(
        self,
        child: Tree,
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
            _appended=(*self._appended, (child.digest, child)),
        )

    def filter(self, keep: Callable[[Descriptor], bool]) -> ImageIndex:
        """Return the index with those children whose descriptors `keep` is true for."""
        kept = tuple(filter(keep, self.index.manifests))
        return replace(self, index=self.index.replace(manifests=kept))

    def with_annotations(self, annotations: Mapping[str, str | None]) -> ImageIndex:
        """Return the index with these annotations added to its own; None takes one away."""
        changed = merged(self.index.annotations, annotations)
        return replace(self, index=self.index.replace(annotations=changed))

    def with_subject(self, subject: Descriptor | None) -> ImageIndex:
        """Return the index as one that refers to `subject` (distribution-spec, Referrers)."""
        return replace(self, index=self.index.replace(subject=subject))


def _platform_of(child: Tree) -> Platform | None:
    """Return the platform of an image; None of an index, and of an artifact, which has none."""
    if isinstance(child, Image) and child.manifest.config.media_type in IMAGE_CONFIGS:
        return child.platform
    return None


def _nothing(descriptor: Descriptor) -> Tree:
    raise KeyError(f"an empty index has no child {descriptor.digest}")
