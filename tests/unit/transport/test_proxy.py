"""transport/proxy.py: the proxies of an environment."""

from __future__ import annotations

import pytest

from brolga.transport.proxy import Proxies, Proxy, read_environment

HERE = "http://proxy.example:3128"


def chosen(environ: dict[str, str], scheme: str, host: str, port: int | None = None) -> str:
    """Return the proxy that an environment says, or nothing."""
    proxy = read_environment(environ).choose(scheme, host, port)
    return str(proxy) if proxy else ""


class TestEnvironment:
    """The variables, by the rules of Go's httpproxy and, for ALL_PROXY, curl's."""

    @pytest.mark.parametrize(
        ("environ", "http", "https"),
        [
            ({}, "", ""),
            ({"HTTP_PROXY": "http://a"}, "a:80", ""),
            ({"HTTPS_PROXY": "http://a"}, "", "a:80"),
            ({"https_proxy": "https://a"}, "", "a:443"),
            ({"http_proxy": "a:3128"}, "a:3128", ""),
            ({"HTTP_PROXY": "http://a", "http_proxy": "http://b"}, "a:80", ""),
            ({"HTTP_PROXY": "", "http_proxy": "http://b"}, "b:80", ""),
            ({"ALL_PROXY": "http://a"}, "a:80", "a:80"),
            ({"all_proxy": "http://a", "HTTPS_PROXY": "http://b"}, "a:80", "b:80"),
            ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, "", "[fd00::1]:3128"),
            # In a CGI program it is a header of the request (golang.org/s/cgihttpproxy).
            ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, "", ""),
            ({"http_proxy": "http://a", "REQUEST_METHOD": "GET"}, "a:80", ""),
        ],
    )
    def test_read_environment_finds_variable_of_scheme(
        self, environ: dict[str, str], http: str, https: str
    ) -> None:
        """Upper case before lower case; what is empty is not there."""
        assert chosen(environ, "http", "registry.example") == http
        assert chosen(environ, "https", "registry.example") == https

    @pytest.mark.parametrize(
        ("no_proxy", "host", "port", "direct"),
        [
            ("", "registry.example", 443, False),
            ("", "localhost", 443, True),
            ("", "a.localhost", 443, True),
            ("", "127.3.2.1", 443, True),
            ("", "::1", 443, True),
            ("*", "registry.example", 443, True),
            ("example", "registry.example", 443, True),
            ("registry.example", "registry.example", 443, True),
            ("REGISTRY.example", "Registry.EXAMPLE.", 443, True),
            ("registry.example", "a.registry.example", 443, True),
            ("registry.example", "myregistry.example", 443, False),
            (".example", "registry.example", 443, True),
            (".registry.example", "registry.example", 443, False),
            ("*.example", "registry.example", 443, True),
            ("*.registry.example", "registry.example", 443, False),
            ("registry.example:443", "registry.example", 443, True),
            ("registry.example:443", "registry.example", None, True),
            ("registry.example:443", "registry.example", 5000, False),
            (".example:5000", "registry.example", 5000, True),
            ("10.0.0.0/8", "10.1.2.3", 443, True),
            ("10.1.2.3/8", "10.9.9.9", 443, True),
            ("10.0.0.0/8", "11.1.2.3", 443, False),
            ("10.0.0.0/8", "fd00::1", 443, False),
            ("10.0.0.0/8", "registry.example", 443, False),
            ("10.0.0.0/99", "10.1.2.3", 443, False),
            ("fd00::/8", "fd00::1", 443, True),
            ("10.1.2.3", "10.1.2.3", 443, True),
            ("10.1.2.3:5000", "10.1.2.3", 443, False),
            ("fd00::1", "fd00:0::1", 443, True),
            ("[fd00::1]:443", "fd00::1", 443, True),
            ("[fd00::1]", "fd00::1", 443, True),
            ("[fd00::1]:5000", "fd00::1", 443, False),
            ("2.3", "10.1.2.3", 443, True),
            (" a , ,,:80,[x,registry.example ", "registry.example", 443, True),
        ],
    )
    def test_choose_returns_none_for_no_proxy_hosts(
        self, no_proxy: str, host: str, port: int | None, direct: bool
    ) -> None:
        """Hosts and those below them, suffixes, ports, addresses, networks; loopback always."""
        environ = {"HTTPS_PROXY": HERE, "no_proxy": no_proxy}
        assert chosen(environ, "https", host, port) == ("" if direct else "proxy.example:3128")

    def test_choose_returns_none_without_variable(self) -> None:
        """What is called by it, if anything, is another's to say."""
        assert Proxies().choose("ftp", "registry.example", None) is None

    def test_credentials_of_proxy_are_decoded_and_not_shown(self) -> None:
        """Userinfo is percent-encoded (RFC 3986, section 3.2.1)."""
        proxies = read_environment({"HTTPS_PROXY": "http://us%40er:p%C3%A4ss@proxy.example"})
        proxy = proxies.choose("https", "registry.example", None)
        assert proxy == Proxy("http", "proxy.example", 80, (b"us@er", "päss".encode()))
        assert "us" not in f"{proxy}{proxy!r}{proxies}"
