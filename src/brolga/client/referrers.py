"""Copying what refers to an image: signatures, attestations and whatever else has a subject.

Referrers have referrers, and the images of an index have them too. The list is the registry's word
alone: one that names a manifest as its own referrer, or ever more of them, must come to an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.errors import InvalidManifest
from brolga.images import ImageIndex
from brolga.images.index import is_blob
from brolga.stores.copy import push

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.stores.store import Store, WriteStore

__all__ = ["copy_referrers"]

_MAX_DEPTH: Final = 16  # referrers of referrers


def copy_referrers(
    source: Store, target: WriteStore, tree: Tree, *, jobs: int, recheck: bool = False
) -> None:
    """Copy what refers to a tree, to its children, and to what is copied here; each once.

    Raises InvalidManifest if that is too deep, and what copying raises.
    """
    todo: list[tuple[Tree, int]] = [(tree, 0)]
    seen = {tree.digest}
    while todo:
        subject, depth = todo.pop()
        if depth > _MAX_DEPTH:
            raise InvalidManifest(
                f"{subject.digest} refers to others, or is below others, {depth} deep: "
                "no more is read"
            )
        for descriptor in source.referrers(subject.digest):
            if descriptor.digest not in seen:
                seen.add(descriptor.digest)
                referrer = source.tree(str(descriptor.digest))
                push(target, referrer, jobs=jobs, recheck=recheck)
                todo.append((referrer, depth + 1))
        if isinstance(subject, ImageIndex):
            below = {child.digest: child for child in subject.index.manifests if not is_blob(child)}
            new = [child for digest, child in below.items() if digest not in seen]
            seen.update(below)
            todo += ((subject.child(child), depth + 1) for child in new)
