"""What a registry lists: the tags of a repository, the repositories of the registry.

Knows the distribution-spec's "Content Discovery" and docker's catalog. Must not know what the names
are for.

Strategy: lists are paged by Link. Pages are bounded and on the registry's own host, so that no
answer leads away or on for ever.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from brolga.errors import ProtocolViolation, excerpt
from brolga.reference import is_tag
from brolga.wire.http import Call
from brolga.wire.replies import expect, refuse_page
from brolga.wire.urls import check, redacted, resolve

if TYPE_CHECKING:
    from brolga.wire.access import Access
    from brolga.wire.http import Flow, Reply

__all__ = ["list_repositories", "list_tags", "next_page", "parse_object"]

_OK: Final = 200
_PAGE: Final = 1000  # names; what ECR gives at most
_MAX_PAGES: Final = 10_000
_MAX_NAME: Final = 1024  # characters
# `rel` may name several relations, and case does not count (RFC 8288, section 3.3).
_NEXT: Final = re.compile(
    r"""<([^<>]*)>\s*;(?:[^,<]*[;\s])?rel\s*=\s*["']?(?:[^"',;<>]{0,99}\s)?next(?![^\s"',;])""",
    re.IGNORECASE,
)


def list_tags(access: Access) -> Flow[list[str]]:
    """Return the tags of a repository, in the registry's order (end-8a, end-8b).

    Raises NotFound, RegistryError, ProtocolViolation for what is no list of tags: each will be
    printed, and be a part of a path.
    """
    url = access.url(f"tags/list?n={_PAGE}")
    tags = yield from _names(access, url, "tags")
    for tag in tags:
        if not is_tag(tag):
            raise ProtocolViolation(
                f"the registry's answer to {redacted(url)} lists {excerpt(tag)}, which is not a tag"
            )
    return tags


def list_repositories(access: Access) -> Flow[list[str]]:
    """Return the repositories of a registry (docker's `/v2/_catalog`). Raises as `list_tags`."""
    return (yield from _names(access, access.url(f"_catalog?n={_PAGE}"), "repositories"))


def next_page(access: Access, call: Call, reply: Reply) -> str:
    """Return the URL of a list's next page, or "" where this was the last (RFC 8288).

    Raises ProtocolViolation where it is on another host, or this very page.
    """
    match = _NEXT.search(reply.headers.get("link", ""))
    if match is None:
        return ""
    url = check(resolve(call.url, match[1]), "next page", seen_from=call.url)
    if not access.registry.is_home(url) or url == call.url:
        raise ProtocolViolation(
            f"the next page of {redacted(call.url)} is not one of the registry: {redacted(url)}"
        )
    return url


def parse_object(call: Call, reply: Reply) -> dict[str, Any]:
    """Return the JSON object that an answer is. Raises ProtocolViolation where it is none."""
    refuse_page(call, reply)
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ProtocolViolation(f"the registry's answer to {redacted(call.url)} is no JSON object")
    return document


def _names(access: Access, url: str, member: str) -> Flow[list[str]]:
    names: list[str] = []
    for _ in range(_MAX_PAGES):
        call = Call("GET", url)
        reply = yield from access.send(call)
        expect(call, reply, _OK)
        page = parse_object(call, reply).get(member) or []  # null is an empty list, to Go
        if not isinstance(page, list) or not all(map(_is_name, page)):
            raise ProtocolViolation(
                f"the registry's answer to {redacted(call.url)} has no list of names as {member}"
            )
        names += page
        url = next_page(access, call, reply)
        if not url:
            return names
    raise ProtocolViolation(f"{redacted(url)}: the list of {member} has no end")


def _is_name(name: object) -> bool:
    # It will be printed, line by line: no control characters.
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()
