"""Which image of a layout a name stands for.

Knows tags, digests, and numbers like `@0`. Must not know files.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.digest import Digest
from brolga.errors import InvalidDigest, NoSuchImage, excerpt
from brolga.layout.listing import full_name_of, name_of, names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brolga.descriptor import Descriptor
    from brolga.manifest import Index

__all__ = ["candidates", "digest_of", "no_such", "several"]

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
) -> NoSuchImage:
    """Return the error for a name that more than one image has, which says how to name each.

    `wanted` is the platform that was asked for.
    """
    if not name:
        return no_such(path, name, index)
    listed = ", ".join(map(partial(_shown, index), found[:_MAX_LISTED]))
    if len(found) > _MAX_LISTED:
        listed += f" and {len(found) - _MAX_LISTED} more"
    suits = f" for {excerpt(wanted)}" if wanted else ""
    error = NoSuchImage(f"{path} has {len(found)} images {name}{suits}: {listed}")
    error.add_note("name one by its number or its digest, or choose it by --platform")
    return error


def _shown(index: Index, entry: Descriptor) -> str:
    """Return what tells an entry from others of its name."""
    number = [one.digest for one in index.manifests].index(entry.digest)
    known = (full_name_of(entry), str(entry.platform or ""))
    return " ".join([f"@{number}", *map(excerpt, filter(None, known))])


def no_such(path: Path, name: str, index: Index) -> NoSuchImage:
    """Return the error for a name that is not there, with those that are."""
    available = names(index)
    listed = ", ".join(available[:_MAX_LISTED])
    if len(available) > _MAX_LISTED:
        listed += f" and {len(available) - _MAX_LISTED} more"
    count = len(index.manifests)
    if not count:
        return NoSuchImage(f"{path} has no images")
    there = f"it has {listed}" if listed else f"it has {count} without a name: take @0"
    if name:
        return NoSuchImage(f"{path} has no image {name}: {there}", available=available)
    return NoSuchImage(
        f"{path} has {count} images, and none is named: {there}", available=available
    )
