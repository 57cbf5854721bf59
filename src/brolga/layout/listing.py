"""The index of an image layout: which images it has, and their names.

Knows index.json (image-spec image-layout.md, index.json file). Must not know files.

Strategy: pure functions over `Index`, which keeps what it does not know of the file and of each
entry. One entry for each name, by the annotation `org.opencontainers.image.ref.name`, and one
without it for each image that has no name. A name that moves on leaves its image there, without it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from brolga.descriptor import Descriptor
    from brolga.digest import Digest
    from brolga.manifest import Index

__all__ = ["entered", "forgotten", "full_name_of", "name_of", "names", "unlisted", "unnamed"]

_REF_NAME: Final = "org.opencontainers.image.ref.name"
_FULL_NAME: Final = (
    "io.containerd.image.name"  # containerd's and Docker's; ref.name is the tag then
)


def name_of(entry: Descriptor) -> str:
    """Return the name of an entry, "" where it has none."""
    return entry.annotations.get(_REF_NAME, "")


def full_name_of(entry: Descriptor) -> str:
    """Return the name of an entry with its repository, "" where it has none."""
    return entry.annotations.get(_FULL_NAME, "")


def names(index: Index) -> tuple[str, ...]:
    """Return every name once, in the index's order."""
    return tuple(dict.fromkeys(filter(None, map(name_of, index.manifests))))


def entered(index: Index, image: Descriptor, name: str) -> Index:
    """Return the index with an image in it, under `name` where that is not "".

    Raises InvalidManifest where it grows beyond what is read of one.
    """
    entries = list(index.manifests)
    if name:
        entries = _released(entries, name, image.digest)
    mine = [entry for entry in entries if entry.digest == image.digest]
    if mine and (not name or name in map(name_of, mine)):
        return index.replace(manifests=entries)
    for number, entry in enumerate(entries):
        if entry.digest == image.digest and not name_of(entry):
            entries[number] = _named(entry, name)
            return index.replace(manifests=entries)
    return index.replace(manifests=[*entries, _named(image, name)])


def unnamed(index: Index, name: str) -> Index:
    """Return the index without a name; its image stays."""
    return index.replace(manifests=_released(list(index.manifests), name, None))


def forgotten(index: Index, digest: Digest) -> Index:
    """Return the index without an image and the names that it had."""
    return index.replace(manifests=[one for one in index.manifests if one.digest != digest])


def unlisted(index: Index, digests: Collection[Digest]) -> Index:
    """Return the index without those images of `digests` that have no name."""
    return index.replace(
        manifests=[one for one in index.manifests if name_of(one) or one.digest not in digests]
    )


def _released(entries: list[Descriptor], name: str, but: Digest | None) -> list[Descriptor]:
    """Take a name from the images that have it, but from one; none of them is lost."""
    kept: list[Descriptor] = []
    for number, entry in enumerate(entries):
        if name_of(entry) != name or entry.digest == but:
            kept.append(entry)
        elif all(one.digest != entry.digest for one in (*kept, *entries[number + 1 :])):
            kept.append(_named(entry, ""))
    return kept


def _named(entry: Descriptor, name: str) -> Descriptor:
    annotations = {key: text for key, text in entry.annotations.items() if key != _REF_NAME}
    return replace(entry, annotations={**annotations, **({_REF_NAME: name} if name else {})})
