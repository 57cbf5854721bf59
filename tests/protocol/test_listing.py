"""protocol.listing: lists of names, page by page."""

from __future__ import annotations

import json

import pytest
from tests.protocol.driver import (
    BEARER,
    HOME,
    collect_names,
    drive,
    make_access,
    play,
    token_request,
    with_authorization,
    with_delay,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import (
    Access,
    Flow,
    RegistrySession,
    Request,
    Response,
    Retry,
    list_repositories,
    list_tags,
)

LIST = f"{HOME}/v2/team/app/tags/list"
FIRST = Request("GET", f"{LIST}?n=1000")
CATALOG = Request("GET", f"{HOME}/v2/_catalog?n=1000")


def all_tags(access: Access) -> Flow[list[str]]:
    """Return the tags of all pages."""
    return collect_names(list_tags(access))


def all_repositories(access: Access) -> Flow[list[str]]:
    """Return the repositories of all pages."""
    return collect_names(list_repositories(access))


def page(*names: object, link: str | None = None, member: str = "tags") -> Response:
    """Return a page of a list."""
    headers = {} if link is None else {"link": link}
    return Response(200, headers, json.dumps({"name": "team/app", member: names}).encode())


# --- Pages


def test_list_tags_returns_one_page() -> None:
    """`{"name": <name>, "tags": [...]}`, in the registry's order (Listing Tags, end-8a)."""
    assert play(all_tags(make_access()), (FIRST, page("v2", "latest", "v10"))) == [
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
def test_list_tags_follows_link(link: str, url: str) -> None:
    """`Link: <url>; rel="next"` (Listing Tags; RFC 8288), resolved against the page's URL."""
    steps = (FIRST, page("a", "b", link=link)), (Request("GET", url), page("c"))
    assert play(all_tags(make_access()), *steps) == ["a", "b", "c"]


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
def test_list_tags_ends_without_next_link(link: str) -> None:
    """Its absence means that this is the last page (Listing Tags)."""
    assert play(all_tags(make_access()), (FIRST, page("a", link=link))) == ["a"]


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
def test_list_tags_rejects_page_elsewhere(target: str) -> None:
    """No authorization to another host, and no endless loop on one page."""
    error = play(
        all_tags(make_access()),
        (FIRST, page("a", link=f'<{target}>; rel="next"')),
        error=ProtocolViolation,
        match="next page",
    )
    assert "secret" not in str(error)
    assert str(error).isprintable()


def test_list_tags_bounds_pages() -> None:
    """Pagination without an end must not be followed for ever."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page("a", link=f'</x?{len(requests)}>; rel="next"')

    with pytest.raises(ProtocolViolation, match="list of tags has no end"):
        drive(all_tags(make_access()), answer)
    assert len(requests) == 10_000


@pytest.mark.parametrize(
    "piece",
    ["<", "<a>;", "rel ", "rel=", ";", '"', "rel   =", "<a>; rel=prev,", "; ", ";rel= ", " "],
)
def test_next_page_takes_linear_time(piece: str) -> None:
    """No size that the peer chooses makes work without a bound (GHSA-f36w-mj3v-6jqv).

    A reader that tries things twice would need hours here, and this test would not end.
    """
    response = page("a", link="<a>;" + piece * (100_000 // len(piece)))
    assert play(all_tags(make_access()), (FIRST, response)) == ["a"]


def test_list_tags_renews_token_between_pages() -> None:
    """A token may expire in the middle of a list."""
    second = Request("GET", f"{HOME}/x")
    token = Response(200, body=b'{"token": "t1"}')
    access = make_access(retry=Retry(attempts=2))
    play(
        all_tags(access),
        (FIRST, page("a", link='</x>; rel="next"')),
        (second, Response(401, BEARER)),
        (token_request(), token),
        (with_authorization(second, "Bearer t1"), page("b")),
    )


def test_list_tags_repeats_page_after_cut() -> None:
    """The flow handles the failure of each page."""
    second, access = Request("GET", f"{HOME}/x"), make_access(retry=Retry(attempts=2))
    cut = TransportError("cut", reason="cut")
    first = FIRST, page("a", link='</x>; rel="next"')
    again = with_delay(second, 0.5)
    assert play(all_tags(access), first, (second, cut), (again, page("b"))) == ["a", "b"]
    play(all_tags(access), first, (second, cut), (again, cut), error=TransportError)


# --- Bounds


def test_list_tags_yields_pages_lazily() -> None:
    """A page is requested when it is needed; an empty page is not yielded."""
    pages = list_tags(make_access())
    assert next(pages) == FIRST
    assert pages.send(page("a", "b", link='</x>; rel="next"')) == ["a", "b"]
    assert next(pages) == Request("GET", f"{HOME}/x")
    assert pages.send(page(link='</y>; rel="next"')) == Request("GET", f"{HOME}/y")
    assert pages.send(page("c")) == ["c"]
    assert next(pages, None) is None


def test_list_repositories_yields_pages_lazily() -> None:
    """The catalog of a large registry has millions of names."""
    pages = list_repositories(RegistrySession(HOME).catalog_access())
    assert next(pages) == CATALOG
    assert pages.send(page("a/b", member="repositories")) == ["a/b"]


def test_list_tags_bounds_names() -> None:
    """No size that the peer chooses takes unbounded memory (GHSA-f36w-mj3v-6jqv)."""
    names = ["a"] * 100_000
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page(*names, link=f'</x?{len(requests)}>; rel="next"')

    with pytest.raises(ProtocolViolation, match="the list of tags has too many entries"):
        drive(all_tags(make_access()), answer)
    assert len(requests) == 11


def test_list_tags_bounds_bytes() -> None:
    """Long pages of few names are work as well."""
    body = b'{"tags": [], "x": "' + b"a" * 1_000_000 + b'"}'
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return Response(200, {"link": f'</x?{len(requests)}>; rel="next"'}, body)

    with pytest.raises(ProtocolViolation, match="the list of tags has too many bytes"):
        drive(all_tags(make_access()), answer)
    assert len(requests) == (256 << 20) // len(body) + 1


def test_list_tags_rejects_page_cut_by_driver() -> None:
    """The driver keeps 4 MiB of a body; the error does not call the cut one invalid JSON."""
    response = Response(200, body=b'{"tags": ["' + b"a" * (4 << 20))
    play(
        all_tags(make_access()),
        (FIRST, response),
        error=ProtocolViolation,
        match="has 4194304 bytes or more: that is too long for one page",
    )


# --- Names


@pytest.mark.parametrize("body", [b'{"tags": null}', b'{"tags": []}', b"{}", b'{"name": "x"}'])
def test_list_tags_accepts_null(body: bytes) -> None:
    """Go writes an empty list as null."""
    assert play(all_tags(make_access()), (FIRST, Response(200, body=body))) == []


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
def test_list_tags_rejects_other_than_names(body: bytes) -> None:
    """A name is printed line by line: control characters could forge a line, or the screen."""
    error = play(
        all_tags(make_access()),
        (FIRST, Response(200, body=body)),
        error=ProtocolViolation,
        match="no list of names as tags",
    )
    assert str(error).isprintable()


@pytest.mark.parametrize("tag", ["../x", ".", "a/b", "a b", "a:b", "-a", "a" * 129, "a?b"])
def test_list_tags_rejects_invalid_tag(tag: str) -> None:
    """A tag becomes a part of a path (CVE-2024-3727)."""
    error = play(
        all_tags(make_access()),
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
def test_list_tags_rejects_other_than_object(body: bytes) -> None:
    """A login page's 200 is not a list of tags."""
    play(
        all_tags(make_access()),
        (FIRST, Response(200, body=body)),
        error=ProtocolViolation,
        match="not a JSON object",
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
def test_list_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """404 NAME_UNKNOWN if the repository does not exist (Error Codes)."""
    play(all_tags(make_access()), (FIRST, Response(status)), error=kind)
    play(
        all_repositories(RegistrySession(HOME).catalog_access()),
        (CATALOG, Response(204)),
        error=ProtocolViolation,
    )


# --- Repositories


def test_list_repositories_follows_link() -> None:
    """`GET /v2/_catalog` gives `{"repositories": [...]}` (distribution, Listing Repositories)."""
    link = '</v2/_catalog?last=b&n=2>; rel="next"'
    second = Request("GET", f"{HOME}/v2/_catalog?last=b&n=2")
    steps = (
        (CATALOG, page("a", "team/b", link=link, member="repositories")),
        (second, page("c", member="repositories")),
    )
    assert play(all_repositories(RegistrySession(HOME).catalog_access()), *steps) == [
        "a",
        "team/b",
        "c",
    ]


def test_list_accepts_json_as_plain_text() -> None:
    """The HTTP servers of Go (`crane registry serve`) and Cloudflare call JSON so by default."""
    kind = {"content-type": "text/plain; charset=utf-8"}
    response = Response(200, kind, b'{"tags": ["a"], "repositories": ["b"]}')
    assert play(all_tags(make_access()), (FIRST, response)) == ["a"]
    assert play(all_repositories(RegistrySession(HOME).catalog_access()), (CATALOG, response)) == [
        "b"
    ]


@pytest.mark.parametrize("body", [b"", b"not here", b"[" * 100_000, b"\xff"])
def test_list_tags_rejects_plain_text(body: bytes) -> None:
    """Such a text is a proxy's."""
    response = Response(200, {"content-type": "text/plain"}, body)
    play(
        all_tags(make_access()), (FIRST, response), error=ProtocolViolation, match="is text/plain: "
    )


def test_list_tags_rejects_html() -> None:
    """A server that has a page for every URL names its type."""
    response = Response(200, {"content-type": "text/html"}, b"{}")
    play(
        all_tags(make_access()), (FIRST, response), error=ProtocolViolation, match="is text/html: "
    )
