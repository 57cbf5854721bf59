"""The index of an image layout: which images it has, and their names.

Knows index.json (image-spec image-layout.md, index.json file). Must not know files.

Strategy: pure functions over `Index`, which keeps what it does not know of the file and of each
entry. One entry for each name, by the annotation `org.opencontainers.image.ref.name`, and one
without it for each image that has no name. A name that moves on leaves its image there, without it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from brolga.disk.layout import MAX_INDEX_SIZE, REF_NAME
from brolga.errors import ImageNotFound, InvalidDigest, excerpt
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.json import encode, reuse_originals, wrong

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from brolga.spec.descriptor import Descriptor


__all__ = [
    "MAX_INDEX_SIZE",
    "LayoutIndex",
    "candidates",
    "digest_of",
    "entered",
    "forgotten",
    "full_name_of",
    "name_of",
    "names",
    "no_such",
    "several",
    "unlisted",
    "unnamed",
]

_FULL_NAME: Final = (
    "io.containerd.image.name"  # containerd's and Docker's; ref.name is the tag then
)


class LayoutIndex(Index):
    """An index.json, which may be larger than a manifest. Raises InvalidManifest."""

    __slots__ = ()

    max_size: ClassVar[int] = MAX_INDEX_SIZE

    def with_entries(self, entries: Iterable[Descriptor]) -> Self:
        """Return the index with other entries; what was read already is not read again.

        Raises InvalidManifest if it grows beyond what is read of one.
        """
        entries = tuple(entries)
        if entries == self.manifests:
            return self
        originals = reuse_originals(entries, self.manifests, self._document["manifests"])
        document = {**self._document, "manifests": originals}
        raw = encode(document)
        if len(raw) > self.max_size:
            raise wrong("$", f"{len(raw)} bytes, where at most {self.max_size} are read")
        changed = object.__new__(type(self))
        for name in ("media_type", "artifact_type", "subject", "annotations", "algorithm"):
            changed._set(**{name: getattr(self, name)})
        changed._set(raw=raw, digest=Digest.of(raw), _document=document, manifests=entries)
        return changed


def name_of(entry: Descriptor) -> str:
    """Return the name of an entry, "" where it has none."""
    return entry.annotations.get(REF_NAME, "")


def full_name_of(entry: Descriptor) -> str:
    """Return the name of an entry with its repository, "" where it has none."""
    return entry.annotations.get(_FULL_NAME, "")


def names(index: Index) -> tuple[str, ...]:
    """Return every name once, in the index's order."""
    return tuple(dict.fromkeys(filter(None, map(name_of, index.manifests))))


def entered(index: LayoutIndex, image: Descriptor, name: str) -> LayoutIndex:
    """Return the index with an image in it, under `name` where that is not "".

    Raises InvalidManifest where it grows beyond what is read of one.
    """
    entries = list(index.manifests)
    if name:
        entries = _released(entries, name, image.digest)
    mine = [entry for entry in entries if entry.digest == image.digest]
    if mine and (not name or name in map(name_of, mine)):
        return index.with_entries(entries)
    for number, entry in enumerate(entries):
        if entry.digest == image.digest and not name_of(entry):
            entries[number] = _named(entry, name)
            return index.with_entries(entries)
    return index.with_entries([*entries, _named(image, name)])


def unnamed(index: LayoutIndex, name: str) -> LayoutIndex:
    """Return the index without a name; its image stays."""
    return index.with_entries(_released(list(index.manifests), name, None))


def forgotten(index: LayoutIndex, digest: Digest) -> LayoutIndex:
    """Return the index without an image and the names that it had."""
    return index.with_entries(one for one in index.manifests if one.digest != digest)


def unlisted(index: LayoutIndex, digests: Collection[Digest]) -> LayoutIndex:
    """Return the index without those images of `digests` that have no name."""
    return index.with_entries(
        one for one in index.manifests if name_of(one) or one.digest not in digests
    )


def _released(entries: list[Descriptor], name: str, but: Digest | None) -> list[Descriptor]:
    """Take a name from the images that have it, but from one; none of them is lost."""
    left = Counter(entry.digest for entry in entries)
    kept: list[Descriptor] = []
    for entry in entries:
        if name_of(entry) != name or entry.digest == but:
            kept.append(entry)
        elif left[entry.digest] > 1:
            left[entry.digest] -= 1
        else:
            kept.append(_named(entry, ""))
    return kept


def _named(entry: Descriptor, name: str) -> Descriptor:
    annotations = {key: text for key, text in entry.annotations.items() if key != REF_NAME}
    return replace(entry, annotations={**annotations, **({REF_NAME: name} if name else {})})


_MAX_LISTED: Final = 20  # names in an error's line
_NUMBER: Final = re.compile("@[0-9]{1,9}")


def digest_of(name: str) -> Digest | None:
    """Return the digest that a name is, None of another name."""
    try:
        return Digest.parse(name) if name.startswith(("sha256:", "sha512:")) else None
    except InvalidDigest:
        return None


def candidates(index: Index, name: str) -> tuple[Descriptor, ...]:
    """Return the entries that a name may stand for, one of each digest; "" is the name of all.

    A name with its repository will do, where a tool has written it.
    """
    if _NUMBER.fullmatch(name):
        number = int(name[1:])
        return index.manifests[number : number + 1]
    if (digest := digest_of(name)) is not None:
        found = [entry for entry in index.manifests if entry.digest == digest]
    else:
        found = [
            entry
            for entry in index.manifests
            if not name or name in {name_of(entry), full_name_of(entry)}
        ]
    firsts: dict[Digest, Descriptor] = {}
    for entry in found:
        firsts.setdefault(entry.digest, entry)
    return tuple(firsts.values())


def several(
    path: Path, name: str, index: Index, found: Sequence[Descriptor], wanted: str = ""
) -> ImageNotFound:
    """Return the error for a name that more than one image has, which says how to name each.

    `wanted` is the platform that was asked for.
    """
    if not name:
        return no_such(path, name, index)
    listed = ", ".join(map(partial(_shown, index), found[:_MAX_LISTED]))
    if len(found) > _MAX_LISTED:
        listed += f" and {len(found) - _MAX_LISTED} more"
    suits = f" for {excerpt(wanted)}" if wanted else ""
    error = ImageNotFound(f"{path} has {len(found)} images {name}{suits}: {listed}")
    error.add_note("name one by its number or its digest, or choose it by --platform")
    return error


def _shown(index: Index, entry: Descriptor) -> str:
    """Return what tells an entry from others of its name."""
    number = [one.digest for one in index.manifests].index(entry.digest)
    known = (full_name_of(entry), str(entry.platform or ""))
    return " ".join([f"@{number}", *map(excerpt, filter(None, known))])


def no_such(path: Path, name: str, index: Index) -> ImageNotFound:
    """Return the error for a name that is not there, with those that are."""
    available = names(index)
    listed = ", ".join(available[:_MAX_LISTED])
    if len(available) > _MAX_LISTED:
        listed += f" and {len(available) - _MAX_LISTED} more"
    count = len(index.manifests)
    if not count:
        return ImageNotFound(f"{path} has no images")
    there = f"it has {listed}" if listed else f"it has {count} without a name: take @0"
    if name:
        return ImageNotFound(f"{path} has no image {name}: {there}", available=available)
    return ImageNotFound(
        f"{path} has {count} images, and none is named: {there}", available=available
    )
