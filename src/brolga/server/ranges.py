"""Which bytes of a file a request is for.

Knows RFC 9110, section 14 (Range Requests) and 13 (Conditional Requests). Must not know files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NotSatisfiable", "fresh", "wanted"]

# One range. Several at once are answered with the whole, which "a server MAY" do (section 14.2):
# no client of a registry asks for them.
_RANGE = re.compile("bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE)


class NotSatisfiable(Exception):
    """The range lies outside the file."""


def fresh(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the client has these bytes already (section 13.1.2, If-None-Match)."""
    tags = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return etag in tags or "*" in tags


def wanted(headers: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last, or None for the whole file.

    Raises NotSatisfiable. What is no range, and one of another file (section 13.1.5, If-Range),
    is ignored.
    """
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(size - int(suffix), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or not end > start:
        raise NotSatisfiable
    return start, end
