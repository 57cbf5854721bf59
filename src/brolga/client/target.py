"""Where a tree is to go: what is told of it by its name alone.

Knows places. Must not know how one is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from brolga.errors import InvalidReference
from brolga.spec.reference import Reference, Repository
from brolga.stores.location import Local, parse_place

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.spec.digest import Digest
    from brolga.stores.location import Place

__all__ = ["Destination"]


@dataclass(frozen=True)
class Destination:
    """Where a tree goes, the name to give it, "" for its digest, and the digest it must have."""

    home: Repository | Local
    name: str
    digest: Digest | None = None

    @classmethod
    def of(cls, place: Place | Repository | str) -> Self:
        """Read where a place is. Raises InvalidReference for one that cannot be written."""
        if isinstance(place, str):
            place = parse_place(place)
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

    def at(self, digest: Digest) -> Place:
        """Return the name by digest of what is there."""
        if isinstance(self.home, Local):
            return replace(self.home, name=self.name).at(digest)
        return Reference(self.home, digest=digest)
