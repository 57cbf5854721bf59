"""List the tags of a repository, and the repositories of a registry (Content Discovery, docker).

Lists are paged by Link. All pages must be on the registry's own host, and are yielded one by one.
`ListLimits` bounds their number, bytes and entries.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from brolga.errors import ProtocolViolation, excerpt
from brolga.protocol.http import Request, Response
from brolga.protocol.responses import raise_for_status, reject_html
from brolga.protocol.urls import check_url, redact, resolve
from brolga.spec.reference import is_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from brolga.protocol.auth import Access
    from brolga.protocol.http import Step

# A flow that yields pages of names between its requests.
ListFlow: TypeAlias = "Generator[Step | list[str], Any, None]"

_PAGE: Final = 1000  # names; the most that ECR sends
_MAX_PAGES: Final = 10_000
_MAX_NAMES: Final = 1_000_000
_MAX_SIZE: Final = 256 << 20  # bytes
_MAX_BODY: Final = 4 << 20  # bytes; what the driver keeps of a body
_MAX_NAME: Final = 1024  # characters
# `rel` may name several relations, in any case (RFC 8288, section 3.3).
_NEXT: Final = (
    r"""(?i)<([^<>]*)>\s*;(?:[^,<]*[;\s])?rel\s*=\s*["']?(?:[^"',;<>]{0,99}\s)?next(?![^\s"',;])"""
)


def list_tags(access: Access) -> ListFlow:
    """Yield the tags of a repository page by page, in the registry's order (end-8a, end-8b).

    Raises ProtocolViolation for a name that is not a valid tag: it becomes a part of a path.
    """
    return _pages(access, access.url(f"tags/list?n={_PAGE}"), "tags", is_tag)


def list_repositories(access: Access) -> ListFlow:
    """Yield the repositories of a registry (docker's `/v2/_catalog`). Raises as `list_tags`."""
    return _pages(access, access.url(f"_catalog?n={_PAGE}"), "repositories", lambda _name: True)


def next_page(access: Access, request: Request, response: Response) -> str:
    """Return the URL of a list's next page, which the registry must have (RFC 8288), or ""."""
    match = re.search(_NEXT, response.headers.get("link", ""))
    if match is None:
        return ""
    url = check_url(resolve(request.url, match[1]), "next page", named_by=request.url)
    if not access.registry.is_same_origin(url) or url == request.url:
        raise ProtocolViolation(
            f"the next page of {redact(request.url)} is not one of the registry: {redact(url)}"
        )
    return url


class ListLimits:
    """How many more pages, entries and bytes of one list may be read; `what` is its name."""

    def __init__(self, what: str, pages: int, entries: int, size: int) -> None:
        self.what = what
        self.pages = pages
        self.entries = entries
        self.size = size  # bytes

    def count_bytes(self, request: Request, response: Response) -> None:
        """Count the bytes of a page. Raises ProtocolViolation if there are too many."""
        self.size -= len(response.body)
        if len(response.body) >= _MAX_BODY:
            raise ProtocolViolation(
                f"the registry's answer to {redact(request.url)} has {_MAX_BODY} bytes or more: "
                "that is too long for one page of a list"
            )
        if self.size < 0:
            raise self._too_long(request, "has too many bytes")

    def count_page(self, request: Request, entries: int, *, is_last: bool) -> None:
        """Count a page and its entries. Raises ProtocolViolation if there are too many."""
        self.entries -= entries
        self.pages -= not is_last
        if self.entries < 0:
            raise self._too_long(request, "has too many entries")
        if self.pages <= 0:
            raise self._too_long(request, "has no end")

    def _too_long(self, request: Request, why: str) -> ProtocolViolation:
        return ProtocolViolation(
            f"{redact(request.url)}: the list of {self.what} {why}; no more of it is read"
        )


def _pages(access: Access, url: str, member: str, is_valid: Callable[[str], bool]) -> ListFlow:
    """Yield requests, and the names of each page that is not empty."""
    limits = ListLimits(member, _MAX_PAGES, _MAX_NAMES, _MAX_SIZE)
    while url:
        request = Request("GET", url)
        response = yield from access.send(request)
        raise_for_status(request, response, HTTPStatus.OK)
        limits.count_bytes(request, response)
        reject_html(request, response)
        answer = f"the registry's answer to {redact(request.url)}"
        try:
            document = json.loads(response.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise ProtocolViolation(f"{answer} is not a JSON object")
        names = document.get(member) or []  # Go writes an empty list as null
        if not isinstance(names, list) or not all(map(_is_name, names)):
            raise ProtocolViolation(f"{answer} has no list of names as {member}")
        for name in names:
            if not is_valid(name):
                raise ProtocolViolation(f"{answer} lists {excerpt(name)}, which is not a tag")
        url = next_page(access, request, response)
        limits.count_page(request, len(names), is_last=not url)
        if names:
            yield names


def _is_name(name: object) -> bool:
    # Names are printed line by line, so they have no control characters.
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()
