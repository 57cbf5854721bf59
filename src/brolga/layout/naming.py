"""Which image of a layout a name stands for.

Knows tags, digests, and numbers like `@0`. Must not know files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from brolga.digest import Digest
from brolga.errors import InvalidDigest, NoSuchImage
from brolga.layout.listing import name_of, names

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.descriptor import Descriptor
    from brolga.manifest import Index

__all__ = ["digest_of", "found", "no_such"]

_MAX_LISTED: Final = 20  # names in an error's line
_NUMBER: Final = re.compile("@[0-9]{1,9}")


def digest_of(name: str) -> Digest | None:
    """Return the digest that a name is, None of another name."""
    try:
        return Digest.parse(name) if name.startswith(("sha256:", "sha512:")) else None
    except InvalidDigest:
        return None


def found(index: Index, name: str) -> Descriptor | None:
    """Return the entry that a name stands for; "" is the only one. None where there is none."""
    if _NUMBER.fullmatch(name):
        number = int(name[1:])
        return index.manifests[number] if number < len(index.manifests) else None
    if (digest := digest_of(name)) is not None:
        return next((entry for entry in index.manifests if entry.digest == digest), None)
    entries = [entry for entry in index.manifests if not name or name_of(entry) == name]
    # Of several with one name the first counts; without a name there must be no choice.
    is_one = name or len({one.digest for one in entries}) == 1
    return entries[0] if entries and is_one else None


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
