"""What a registry lists: the tags of a repository, the repositories of the registry.

Knows the distribution-spec's "Content Discovery" and docker's catalog. Must not know what the names
are for.

Strategy: lists are paged by Link. Pages are on the registry's own host, so that no answer leads
away, and handed on as they come. Their number, bytes and entries are bounded (`ListLimits`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from brolga.errors import ProtocolViolation, excerpt
from brolga.protocol.http import Request
from brolga.protocol.responses import raise_for_status, reject_html
from brolga.protocol.urls import check, redact, resolve
from brolga.spec.reference import is_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow, Response

__all__ = [
    "ListFlow",
    "ListLimits",
    "list_repositories",
    "list_tags",
    "next_page",
    "parse_object",
    "repository_pages",
    "tag_pages",
]

# A conversation that gives pages of names on its way.
ListFlow: TypeAlias = "Generator[Request | list[str], Response, None]"
_T = TypeVar("_T")

_OK: Final = 200
_PAGE: Final = 1000  # names; what ECR gives at most
# What is read of one list.
_MAX_PAGES: Final = 10_000
_MAX_NAMES: Final = 1_000_000
_MAX_SIZE: Final = 256 << 20  # bytes
_MAX_BODY: Final = 4 << 20  # bytes; what the driver keeps of an answer
_MAX_NAME: Final = 1024  # characters
# `rel` may name several relations, and case does not count (RFC 8288, section 3.3).
_NEXT: Final = re.compile(
    r"""<([^<>]*)>\s*;(?:[^,<]*[;\s])?rel\s*=\s*["']?(?:[^"',;<>]{0,99}\s)?next(?![^\s"',;])""",
    re.IGNORECASE,
)


def list_tags(access: Access) -> Flow[list[str]]:
    """Return the tags of a repository, in the registry's order. Raises as `tag_pages`."""
    return (yield from _join(tag_pages(access)))


def list_repositories(access: Access) -> Flow[list[str]]:
    """Return the repositories of a registry. Raises as `tag_pages`."""
    return (yield from _join(repository_pages(access)))


def tag_pages(access: Access) -> ListFlow:
    """Yield the tags of a repository page by page, in the registry's order (end-8a, end-8b).

    Raises NotFound, RegistryError, ProtocolViolation for what is no list of tags (each will be
    printed, and be a part of a path), and for a list that is longer than any honest one.
    """
    return _pages(access, access.url(f"tags/list?n={_PAGE}"), "tags", _check_tags)


def repository_pages(access: Access) -> ListFlow:
    """Yield the repositories of a registry page by page (docker's `/v2/_catalog`).

    Raises as `tag_pages`.
    """
    return _pages(access, access.url(f"_catalog?n={_PAGE}"), "repositories", _check_nothing)


def next_page(access: Access, request: Request, response: Response) -> str:
    """Return the URL of a list's next page, or "" where this was the last (RFC 8288).

    Raises ProtocolViolation where it is on another host, or this very page.
    """
    match = _NEXT.search(response.headers.get("link", ""))
    if match is None:
        return ""
    url = check(resolve(request.url, match[1]), "next page", seen_from=request.url)
    if not access.registry.is_home(url) or url == request.url:
        raise ProtocolViolation(
            f"the next page of {redact(request.url)} is not one of the registry: {redact(url)}"
        )
    return url


@dataclass
class ListLimits:
    """How much of one list is read: so many pages, entries and bytes of answers.

    `what` names the list in the error.
    """

    what: str
    pages: int
    entries: int
    size: int  # bytes

    def spend(self, request: Request, response: Response) -> None:
        """Count the bytes of a page. Raises ProtocolViolation if there are too many of them."""
        self.size -= len(response.body)
        if len(response.body) >= _MAX_BODY:
            raise ProtocolViolation(
                f"the registry's answer to {redact(request.url)} has {_MAX_BODY} bytes or more: "
                "that is too long for one page of a list"
            )
        if self.size < 0:
            raise self._too_long(request, "has too many bytes")

    def take(self, request: Request, entries: int) -> None:
        """Count the entries of a page. Raises ProtocolViolation if there are too many."""
        self.entries -= entries
        if self.entries < 0:
            raise self._too_long(request, "has too many entries")

    def turn_page(self, request: Request) -> None:
        """Count one page more. Raises ProtocolViolation if there are too many."""
        self.pages -= 1
        if self.pages <= 0:
            raise self._too_long(request, "has no end")

    def _too_long(self, request: Request, why: str) -> ProtocolViolation:
        return ProtocolViolation(
            f"{redact(request.url)}: the list of {self.what} {why}; no more of it is read"
        )


def parse_object(request: Request, response: Response) -> dict[str, Any]:
    """Return the JSON object that an answer is. Raises ProtocolViolation where it is none."""
    reject_html(request, response)
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ProtocolViolation(f"the registry's answer to {redact(request.url)} is no JSON object")
    return document


def _pages(
    access: Access, url: str, member: str, check_names: Callable[[Request, list[str]], None]
) -> ListFlow:
    """Yield calls, and the names of each page that is not empty."""
    budget = ListLimits(member, _MAX_PAGES, _MAX_NAMES, _MAX_SIZE)
    while url:
        request = Request("GET", url)
        response = yield from access.send(request)
        raise_for_status(request, response, _OK)
        budget.spend(request, response)
        page = parse_object(request, response).get(member) or []  # null is an empty list, to Go
        if not isinstance(page, list) or not all(map(_is_name, page)):
            raise ProtocolViolation(
                f"the registry's answer to {redact(request.url)} has no list of names as {member}"
            )
        check_names(request, page)
        budget.take(request, len(page))
        url = next_page(access, request, response)
        if url:
            budget.turn_page(request)
        if page:
            yield page


def _join(pages: ListFlow) -> Flow[list[str]]:
    """Return all names of a list."""
    names: list[str] = []
    item = next(pages, None)
    while item is not None:
        if isinstance(item, list):
            names += item
            item = next(pages, None)
            continue
        try:
            response = yield item
        except BaseException as error:  # noqa: BLE001 - it is for the conversation to judge
            item = _last(pages.throw, error)
        else:
            item = _last(pages.send, response)
    return names


def _last(step: Callable[[_T], Request | list[str]], argument: _T) -> Request | list[str] | None:
    try:
        return step(argument)
    except StopIteration:
        return None


def _check_tags(request: Request, tags: list[str]) -> None:
    for tag in tags:
        if not is_tag(tag):
            raise ProtocolViolation(
                f"the registry's answer to {redact(request.url)} lists {excerpt(tag)}, "
                "which is not a tag"
            )


def _check_nothing(request: Request, names: list[str]) -> None:
    """Take the names as they are."""


def _is_name(name: object) -> bool:
    # It will be printed, line by line: no control characters.
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()
