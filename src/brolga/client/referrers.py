"""Copying what refers to an image: signatures, attestations and whatever else has a subject.

Knows that referrers have referrers, and that an index has them for each platform. Must not know how
they are listed.

Strategy: the list is the registry's word, and nothing says that it is true: one that names a
manifest as its own referrer, or ever more of them, must come to an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.client import local
from brolga.errors import InvalidManifest
from brolga.images import ImageIndex
from brolga.images.index import is_blob
from brolga.stores.location import LocalRef, by_digest

if TYPE_CHECKING:
    from brolga.client.pushing import Pushing
    from brolga.images import Tree
    from brolga.stores.location import ImageRef

__all__ = ["check_referrers", "copy_referrers"]

_MAX_DEPTH: Final = 16  # what refers to what refers to it


def check_referrers(*places: ImageRef) -> None:
    """Raise InvalidReference for an archive: it keeps none."""
    for place in places:
        if isinstance(place, LocalRef):
            local.layout_of(place, "it has no referrers")


def copy_referrers(
    client: Pushing, source: ImageRef, target: ImageRef, tree: Tree, *, recheck: bool = False
) -> None:
    """Copy what refers to a tree, to what is below it, and to what is copied here; each once.

    Raises InvalidManifest where that goes too deep, and what copying raises.
    """
    todo: list[tuple[Tree, int]] = [(tree, 0)]
    seen = {tree.digest}
    while todo:
        one, depth = todo.pop()
        if depth > _MAX_DEPTH:
            raise InvalidManifest(
                f"{one.digest} refers to others, or is below others, {depth} deep: no more is read"
            )
        for referrer in client.referrers(by_digest(source, one.digest)):
            if referrer.digest not in seen:
                seen.add(referrer.digest)
                found = client.get(by_digest(source, referrer.digest))
                client.push(by_digest(target, referrer.digest), found, recheck=recheck)
                todo.append((found, depth + 1))
        if isinstance(one, ImageIndex):
            below = {child.digest: child for child in one.index.manifests if not is_blob(child)}
            new = [child for digest, child in below.items() if digest not in seen]
            seen.update(below)
            todo += ((one.child(child), depth + 1) for child in new)
