"""Where a tree is to go: what is told of it by its name alone.

Knows places. Must not know how one is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from brolga.errors import InvalidReference
from brolga.spec.reference import Reference, Repository
from brolga.stores.location import LocalRef, parse_image_ref

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.spec.digest import Digest
    from brolga.stores.location import ImageRef

__all__ = ["Destination"]


@dataclass(frozen=True)
class Destination:
    """Where a tree goes, the name to give it, "" for its digest, and the digest it must have."""

    home: Repository | LocalRef
    name: str
    digest: Digest | None = None

    @classmethod
    def of(cls, place: ImageRef | Repository | str) -> Self:
        """Read where a place is. Raises InvalidReference for one that cannot be written."""
        if isinstance(place, str):
            place = parse_image_ref(place)
        if isinstance(place, Repository):
            return cls(place, "")
        if isinstance(place, Reference):
            return cls(place.repository, place.tag or "", place.digest)
        if place.name and not place.tag and place.digest is None:
            error = InvalidReference(f"{place}: a number names what is there already")
            error.add_note("give the image a name")
            raise error
        return cls(place, place.tag, place.digest)

    def check(self, tree: Tree) -> None:
        """Raise InvalidReference where a tree is not the one of the digest."""
        if self.digest is not None and self.digest != tree.digest:
            raise InvalidReference(
                f"{self.at(self.digest)} names another manifest than this one, {tree.digest}"
            )

    def at(self, digest: Digest) -> ImageRef:
        """Return the name by digest of what is there."""
        if isinstance(self.home, LocalRef):
            return replace(self.home, name=self.name).with_digest(digest)
        return Reference(self.home, digest=digest)
