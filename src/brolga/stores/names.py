"""The names of images in a layout or an archive: numbers, digests, and the lists in errors."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from brolga.errors import InvalidDigest
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable


_MAX_LISTED: Final = 20  # names in an error's line
_NUMBER: Final = "@[0-9]{1,9}"


def number_of(name: str) -> int | None:
    """Return N for the name `@N` of the Nth image, None for another name."""
    return int(name[1:]) if re.fullmatch(_NUMBER, name) else None


def digest_of(name: str) -> Digest | None:
    """Return the digest that a name is, None for another name."""
    try:
        return Digest.parse(name) if name.startswith(("sha256:", "sha512:")) else None
    except InvalidDigest:
        return None


def join_first(texts: Iterable[str], count: int) -> str:
    """Join the first 20 of `count` texts, and say how many more there are."""
    more = f" and {count - _MAX_LISTED} more" if count > _MAX_LISTED else ""
    return ", ".join(islice(texts, _MAX_LISTED)) + more
