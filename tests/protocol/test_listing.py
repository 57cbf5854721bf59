"""wire/listing.py: lists of names, page by page."""

from __future__ import annotations

import json

import pytest
from tests.protocol.scripted import BEARER, HOME, access, authorized, drive, later, play, token_call

from brolga.errors import (
    BrolgaError,
    Denied,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import RegistrySession, Request, Response, Retry, list_repositories, list_tags
from brolga.protocol.listing import repository_pages, tag_pages

LIST = f"{HOME}/v2/team/app/tags/list"
FIRST = Request("GET", f"{LIST}?n=1000")
CATALOG = Request("GET", f"{HOME}/v2/_catalog?n=1000")


def page(*names: object, link: str | None = None, member: str = "tags") -> Response:
    """Return a page of a list."""
    headers = {} if link is None else {"link": link}
    return Response(200, headers, json.dumps({"name": "team/app", member: names}).encode())


# --- Pages


def test_a_list_of_one_page_is_that_page() -> None:
    """`{"name": <name>, "tags": [...]}`, in the registry's order (Listing Tags, end-8a)."""
    assert play(list_tags(access()), (FIRST, page("v2", "latest", "v10"))) == [
        "v2",
        "latest",
        "v10",
    ]


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ('</v2/team/app/tags/list?n=2&last=b>; rel="next"', f"{LIST}?n=2&last=b"),
        (f'<{LIST}?last=b>; rel="next"', f"{LIST}?last=b"),
        (f'<{HOME}:443/x?last=b>; rel="next"', f"{HOME}:443/x?last=b"),
        ('<list?last=b>; rel="next"', f"{LIST}?last=b"),
        ('<?last=b>; rel="next"', f"{LIST}?last=b"),
        ('<//registry.example/x>; rel="next"', f"{HOME}/x"),
        ("</x?a=%2F&last=b==>;rel=next", f"{HOME}/x?a=%2F&last=b=="),
        ("</x>; rel='next'", f"{HOME}/x"),
        ('</x> ; title="t"; rel = "next"; a=b', f"{HOME}/x"),
        ('</x>; Rel="NEXT"', f"{HOME}/x"),
        ('</y>; rel="prev", </x>; rel="next"', f"{HOME}/x"),
        ('</x>; rel="next", </y>; rel="prev"', f"{HOME}/x"),
        ('</x>; rel="prev next"', f"{HOME}/x"),
    ],
)
def test_the_next_page_is_the_links(link: str, url: str) -> None:
    """`Link: <url>; rel="next"` (Listing Tags; RFC 8288): relative to the page, as it is said."""
    steps = (FIRST, page("a", "b", link=link)), (Request("GET", url), page("c"))
    assert play(list_tags(access()), *steps) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "link",
    [
        "",
        '</x>; rel="prev"',
        '</x>; rel="nextish"',
        '</x>; rel="not-next"',
        "</x>",
        '/x; rel="next"',
        '</x>, rel="next"',
        'rel="next"; </x>',
        '</x>; note="next"',
    ],
)
def test_without_a_link_the_list_is_at_its_end(link: str) -> None:
    """Its absence means that this is the last page (Listing Tags)."""
    assert play(list_tags(access()), (FIRST, page("a", link=link))) == ["a"]


@pytest.mark.parametrize(
    "target",
    [
        "https://other.example/x?secret",
        "https://registry.example:8443/x?secret",
        "http://registry.example/x?secret",
        "//other.example/x?secret",
        "https://127.0.0.1/x?secret",
        "https://someone:secret@registry.example/x",
        "https:///x?secret",
        "http://[::1",
        "https://registry.example:99999/x?secret",
        "https://registry.example:port/x?secret",
        "https://registry.example/a b?secret",
        "/a\tb?secret",
        "file:///etc/passwd?secret",
        "?n=1000",
        f"{LIST}?n=1000",
        f"{LIST}?n=1000#part",
        "",
        "#part",
    ],
)
def test_a_page_elsewhere_is_a_violation(target: str) -> None:
    """No authorization to another host, and no page for ever: stay on the host, move on."""
    error = play(
        list_tags(access()),
        (FIRST, page("a", link=f'<{target}>; rel="next"')),
        error=ProtocolViolation,
        match="next page",
    )
    assert "secret" not in str(error)
    assert str(error).isprintable()


def test_a_list_without_an_end_is_a_violation() -> None:
    """Pagination without an end must not be followed for ever."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page("a", link=f'</x?{len(requests)}>; rel="next"')

    with pytest.raises(ProtocolViolation, match="list of tags has no end"):
        drive(list_tags(access()), answer)
    assert len(requests) == 10_000


@pytest.mark.parametrize(
    "piece",
    ["<", "<a>;", "rel ", "rel=", ";", '"', "rel   =", "<a>; rel=prev,", "; ", ";rel= ", " "],
)
def test_a_long_link_is_read_in_no_time(piece: str) -> None:
    """No size that the peer chooses makes work without a bound (GHSA-f36w-mj3v-6jqv).

    A reader that tries things twice would need hours here, and this test would not end.
    """
    response = page("a", link="<a>;" + piece * (100_000 // len(piece)))
    assert play(list_tags(access()), (FIRST, response)) == ["a"]


def test_each_page_has_its_own_second_try() -> None:
    """A token that died, a registry that restarts: in the middle of a list as anywhere."""
    second = Request("GET", f"{HOME}/x")
    token = Response(200, body=b'{"token": "t1"}')
    way = access(retry=Retry(attempts=2))
    play(
        list_tags(way),
        (FIRST, page("a", link='</x>; rel="next"')),
        (second, Response(401, BEARER)),
        (token_call(), token),
        (authorized(second, "Bearer t1"), page("b")),
    )


def test_a_page_that_was_cut_off_is_asked_for_again() -> None:
    """The failure of a call is for the conversation to judge, page by page."""
    second, way = Request("GET", f"{HOME}/x"), access(retry=Retry(attempts=2))
    cut = TransportError("cut", reason="cut")
    first = FIRST, page("a", link='</x>; rel="next"')
    again = later(second, 0.5)
    assert play(list_tags(way), first, (second, cut), (again, page("b"))) == ["a", "b"]
    play(list_tags(way), first, (second, cut), (again, cut), error=TransportError)


# --- Bounds


def test_pages_are_handed_on_as_they_come() -> None:
    """Nothing is asked for before it is wanted; an empty page is none."""
    pages = tag_pages(access())
    assert next(pages) == FIRST
    assert pages.send(page("a", "b", link='</x>; rel="next"')) == ["a", "b"]
    assert next(pages) == Request("GET", f"{HOME}/x")
    assert pages.send(page(link='</y>; rel="next"')) == Request("GET", f"{HOME}/y")
    assert pages.send(page("c")) == ["c"]
    assert next(pages, None) is None


def test_repositories_are_handed_on_as_they_come() -> None:
    """The catalog of a large registry has millions of names."""
    pages = repository_pages(RegistrySession(HOME).catalog())
    assert next(pages) == CATALOG
    assert pages.send(page("a/b", member="repositories")) == ["a/b"]


def test_the_names_of_a_list_are_bounded() -> None:
    """No size that the peer chooses takes memory without a bound (GHSA-f36w-mj3v-6jqv)."""
    names = ["a"] * 100_000
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page(*names, link=f'</x?{len(requests)}>; rel="next"')

    with pytest.raises(ProtocolViolation, match="the list of tags has too many entries"):
        drive(list_tags(access()), answer)
    assert len(requests) == 11


def test_the_bytes_of_a_list_are_bounded() -> None:
    """Short names in long pages are work as well, and what is not a name is read all the same."""
    body = b'{"tags": [], "x": "' + b"a" * 1_000_000 + b'"}'
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return Response(200, {"link": f'</x?{len(requests)}>; rel="next"'}, body)

    with pytest.raises(ProtocolViolation, match="the list of tags has too many bytes"):
        drive(list_tags(access()), answer)
    assert len(requests) == (256 << 20) // len(body) + 1


def test_a_page_that_was_cut_is_too_long() -> None:
    """The driver keeps 4 MiB of an answer; what is cut there is no JSON, and that is not why."""
    response = Response(200, body=b'{"tags": ["' + b"a" * (4 << 20))
    play(
        list_tags(access()),
        (FIRST, response),
        error=ProtocolViolation,
        match="has 4194304 bytes or more: that is too long for one page",
    )


# --- Names


@pytest.mark.parametrize("body", [b'{"tags": null}', b'{"tags": []}', b"{}", b'{"name": "x"}'])
def test_an_empty_list_may_be_null(body: bytes) -> None:
    """Go writes an empty list as null."""
    assert play(list_tags(access()), (FIRST, Response(200, body=body))) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"tags": "a"}',
        b'{"tags": {"a": 1}}',
        b'{"tags": 5}',
        b'{"tags": true}',
        b'{"tags": [5]}',
        b'{"tags": [null]}',
        b'{"tags": [["a"]]}',
        b'{"tags": [""]}',
        b'{"tags": ["a", "\\u001b[31m"]}',
        b'{"tags": ["a\\nb"]}',
        b'{"tags": ["a\\u202eb"]}',
        b'{"tags": ["\\ud800"]}',
        b'{"tags": ["' + b"a" * 1025 + b'"]}',
    ],
    ids=repr,
)
def test_what_is_no_list_of_names_is_a_violation(body: bytes) -> None:
    """A name is printed line by line: control characters could forge a line, or the screen."""
    error = play(
        list_tags(access()),
        (FIRST, Response(200, body=body)),
        error=ProtocolViolation,
        match="no list of names as tags",
    )
    assert str(error).isprintable()


@pytest.mark.parametrize("tag", ["../x", ".", "a/b", "a b", "a:b", "-a", "a" * 129, "a?b"])
def test_a_tag_that_is_none_is_a_violation(tag: str) -> None:
    """It would be a part of a path: nothing but the grammar's tags (CVE-2024-3727)."""
    error = play(
        list_tags(access()),
        (FIRST, page("good", tag)),
        error=ProtocolViolation,
        match=r"tags/list lists '.*, which is not a tag$",
    )
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b"[]",
        b'"tags"',
        b"null",
        b"\xff\xfe",
        b'{"tags": ["a"]',
        b"[" * 100_000,
        b'{"tags": [' + b"1" * 5000 + b"]}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_object_is_a_violation(body: bytes) -> None:
    """A login page's 200 is no list of tags."""
    play(
        list_tags(access()),
        (FIRST, Response(200, body=body)),
        error=ProtocolViolation,
        match="no JSON object",
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Denied),
        (404, NotFound),
        (500, RegistryError),
        (204, ProtocolViolation),
    ],
)
def test_a_refusal_is_itself(status: int, kind: type[BrolgaError]) -> None:
    """404 NAME_UNKNOWN where there is no such repository (Error Codes)."""
    play(list_tags(access()), (FIRST, Response(status)), error=kind)
    play(
        list_repositories(RegistrySession(HOME).catalog()),
        (CATALOG, Response(204)),
        error=ProtocolViolation,
    )


# --- Repositories


def test_repositories_are_listed_as_tags_are() -> None:
    """`GET /v2/_catalog` gives `{"repositories": [...]}` (distribution, Listing Repositories)."""
    link = '</v2/_catalog?last=b&n=2>; rel="next"'
    second = Request("GET", f"{HOME}/v2/_catalog?last=b&n=2")
    steps = (
        (CATALOG, page("a", "team/b", link=link, member="repositories")),
        (second, page("c", member="repositories")),
    )
    assert play(list_repositories(RegistrySession(HOME).catalog()), *steps) == ["a", "team/b", "c"]


def test_a_list_called_plain_text_is_a_list() -> None:
    """Go calls JSON so if the handler names no type (`crane registry serve`), and Cloudflare."""
    kind = {"content-type": "text/plain; charset=utf-8"}
    response = Response(200, kind, b'{"tags": ["a"], "repositories": ["b"]}')
    assert play(list_tags(access()), (FIRST, response)) == ["a"]
    assert play(list_repositories(RegistrySession(HOME).catalog()), (CATALOG, response)) == ["b"]


@pytest.mark.parametrize("body", [b"", b"not here", b"[" * 100_000, b"\xff"])
def test_a_plain_text_that_is_no_json_is_no_list(body: bytes) -> None:
    """A proxy's word."""
    response = Response(200, {"content-type": "text/plain"}, body)
    play(list_tags(access()), (FIRST, response), error=ProtocolViolation, match="is text/plain: ")


def test_a_page_is_no_list() -> None:
    """A server that has a page for everything says what it is."""
    response = Response(200, {"content-type": "text/html"}, b"{}")
    play(list_tags(access()), (FIRST, response), error=ProtocolViolation, match="is text/html: ")
