"""transport/routes.py: how a URL is reached, and what may share a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.routes import make_routes

from brolga.transport.addresses import Zone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from brolga.transport.routes import Route

PROXY = {"http": ("HTTP_PROXY", "http://user:p%40ss@proxy.example:3128")}
TLS_PROXY = {"http": ("HTTP_PROXY", "https://proxy.example")}


def find(url: str, proxies: Mapping[str, tuple[str, str]] | None = None) -> Route:
    """Find one route."""
    return make_routes(proxies).find(url, "")


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target"),
    [
        ("http://registry.example", "registry.example", 80, "registry.example", "/"),
        ("https://registry.example/v2/", "registry.example", 443, "registry.example", "/v2/"),
        ("http://A.example:5000/?", "a.example", 5000, "A.example:5000", "/"),
        ("http://a.example:/x?a=b&c=%2F#no", "a.example", 80, "a.example:", "/x?a=b&c=%2F"),
        ("http://a.example?a=b", "a.example", 80, "a.example", "/?a=b"),
        ("http://[::1]:5000/v2/", "::1", 5000, "[::1]:5000", "/v2/"),
        ("https://[FD00::1]/", "fd00::1", 443, "[FD00::1]", "/"),
        ("http://user:pass@a.example/", "a.example", 80, "a.example", "/"),
        ("http://user@b:pass@a.example:80/", "a.example", 80, "a.example:80", "/"),
        ("HTTP://a.example//x", "a.example", 80, "a.example", "//x"),
    ],
)
def test_find_splits_url(url: str, host: str, port: int, authority: str, target: str) -> None:
    """The userinfo of a URL is never sent, and its fragment neither."""
    route = find(url)
    assert route[:4] == (host, port, authority, target)
    assert (route.context is None) is (not url.startswith("https"))
    assert (route.proxy, route.proxy_context, route.proxy_headers) == (None, None, {})
    assert route.limit is Zone.LINK_LOCAL


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/v2/",
        "//a.example/",
        "ftp://a.example/",
        "http://",
        "http:///v2/",
        "http://:80/",
        "http://user@/",
        "http://registry.ex\xe4mple/",
        "http://a.example:x/",
        "http://a.example:65536/",
        "http://a.example:-1/",
        "http://[::1/",
    ],
)
def test_find_of_invalid_url_raises(url: str) -> None:
    """A registry may have sent it as its Location."""
    with pytest.raises(ValueError, match=r"."):
        find(url)


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("http://a.example/x", "http://a.example/y?z", True),
        ("http://a.example/", "http://A.example:80/", True),
        ("http://a.example/", "http://b.example/", False),
        ("http://a.example/", "http://a.example:81/", False),
        ("http://a.example:443/", "https://a.example/", False),
        ("https://a.example/", "https://a.example:443/", True),
        ("https://[::1]/", "https://[::1]:443/", True),
    ],
)
def test_connections_are_shared_by_host(first: str, second: str, is_shared: bool) -> None:
    """Whatever the path is."""
    found = make_routes()
    assert (found.find(first, "").key == found.find(second, "").key) is is_shared


@pytest.mark.parametrize("proxies", [PROXY, TLS_PROXY], ids=["http", "https"])
def test_proxy_serves_all_hosts_of_plain_http(
    proxies: Mapping[str, tuple[str, str]],
) -> None:
    """It is asked with the whole URL; a tunnel leads to one host only."""
    both = {**proxies, "https": proxies["http"]}
    found = make_routes(both)
    keys = [
        found.find(url, "").key
        for url in ("http://a.example/", "http://b.example/", "https://a.example/")
    ]
    assert keys[0] == keys[1]
    assert keys[2] not in keys[:2]
    assert found.find("https://b.example/", "").key != keys[2]
    assert found.find("https://a.example/", "").key == keys[2]
    assert make_routes().find("http://a.example/", "").key not in keys


@pytest.mark.parametrize(
    ("proxies", "headers"),
    [(PROXY, {"Proxy-Authorization": "Basic dXNlcjpwQHNz"}), (TLS_PROXY, {})],
    ids=["password", "none"],
)
def test_proxy_headers_have_password(
    proxies: Mapping[str, tuple[str, str]], headers: dict[str, str]
) -> None:
    """It is percent-encoded in the variable."""
    route = find("http://a.example/", proxies)
    assert route.proxy_headers == headers
    assert (route.proxy_context is not None) is (proxies is TLS_PROXY)


class TestRedirect:
    """A URL that a registry sent."""

    @pytest.mark.parametrize(
        ("redirected_from", "limit"),
        [
            ("", Zone.LINK_LOCAL),
            ("public.example", Zone.PUBLIC),
            ("Private.example", Zone.PRIVATE),
            ("unknown.example", Zone.PUBLIC),
        ],
    )
    def test_limit_is_zone_of_sender(self, redirected_from: str, limit: Zone) -> None:
        """A registry must not lead a user into the private network that it is not part of."""
        found = make_routes()
        found.hosts.add("public.example", Zone.PUBLIC)
        found.hosts.add("private.example", Zone.PRIVATE)
        assert found.find("http://storage.example/", redirected_from).limit is limit

    def test_connection_with_other_limit_is_not_shared(self) -> None:
        """It may lead to an address that the URL must not reach."""
        found = make_routes()
        url = "http://storage.example/"
        assert found.find(url, "").key != found.find(url, "public.example").key

    def test_proxy_has_no_limit(self) -> None:
        """The proxy resolves the name."""
        route = make_routes(PROXY).find("http://storage.example/", "public.example")
        assert route.limit is Zone.LINK_LOCAL

    def test_directory_of_host_has_own_connections(self, tmp_path: Path) -> None:
        """The authorities that one host trusts say nothing about another."""
        (tmp_path / "a.example").mkdir()
        found = make_routes(certs_dirs=(tmp_path,))
        contexts = [found.find(f"https://{host}.example/", "").context for host in "abc"]
        assert contexts[0] is not contexts[1]
        assert contexts[1] is contexts[2]
