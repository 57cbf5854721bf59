"""Proxies from the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

The rules are those of Go's `golang.org/x/net/http/httpproxy`, as in docker, podman and crane;
ALL_PROXY is as in curl. A proxy's URL may hold a password: messages show only its host and port.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from brolga.spec.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECK_PROXY: Final = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# HOST, HOST:PORT, [IPV6], [IPV6]:PORT or a bare IPv6 address.
_RULE: Final = r"(?:\[([^]]+)\]|([^:]+))(?::([0-9]*))?|([0-9a-f:.]+)"


class InvalidProxy(ValueError):
    """A proxy of the environment that cannot be used; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Proxy(Value):
    """A proxy; `auth` is its user and password."""

    scheme: str
    host: str
    port: int
    auth: tuple[bytes, bytes] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Show host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxies(Value):
    """The proxy variable, as name and value, of each scheme, and the hosts without a proxy."""

    by_scheme: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    no_proxy: str = ""

    def choose(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Return the proxy for a host, or None for a direct connection.

        Raises InvalidProxy if the variable is not the URL of a supported proxy.
        """
        variable, value = self.by_scheme.get(scheme, ("", ""))
        port = _DEFAULT_PORTS.get(scheme, 0) if port is None else port
        if not value or _is_excluded(self.no_proxy, host.lower().rstrip("."), port):
            return None
        return _parse_proxy(variable, value)


def read_environment(environ: Mapping[str, str] = os.environ) -> Proxies:
    """Read the environment. Upper-case names take precedence; empty values are ignored.

    In a CGI program HTTP_PROXY is the `Proxy` header of the request, so it is ignored.
    """

    def first(*names: str) -> tuple[str, str]:
        return next(((name, environ[name]) for name in names if environ.get(name)), ("", ""))

    forged = {"HTTP_PROXY"} if environ.get("REQUEST_METHOD") else set()
    by_scheme = {
        scheme: first(*(name for name in names if name not in forged))
        for scheme, names in {
            "http": ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
            "https": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
        }.items()
    }
    return Proxies(by_scheme, first("NO_PROXY", "no_proxy")[1])


def _parse_proxy(variable: str, value: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.hostname or not parts.hostname.isascii():
        raise InvalidProxy(
            f"{variable} is not the URL of a proxy, such as http://proxy.example:3128", CHECK_PROXY
        )
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidProxy(
            f"{variable} names a {parts.scheme} proxy, and only http and https ones can be used",
            "name the registry in NO_PROXY to call it directly",
        )
    auth = None
    if parts.username is not None:
        auth = unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or "")
    return Proxy(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], auth)


def _is_excluded(exceptions: str, host: str, port: int) -> bool:
    """Return whether a host is reached directly: loopback always, others if NO_PROXY has them."""
    address = _parse_address(host)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if address is not None and address.is_loopback:
        return True
    rules = (rule.strip().lower() for rule in exceptions.split(","))
    return any(_matches(rule, host, address, port) for rule in rules)


def _matches(rule: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    """Return whether a rule of NO_PROXY matches a host: `*`, a network, an address, a domain.

    A domain includes the hosts below it; with a leading dot or `*.` it means only these. Addresses
    and domains may have a port.
    """
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ip_network(rule, strict=False)
        except ValueError:
            return False
    parts = re.fullmatch(_RULE, rule)
    if parts is None or (parts[3] and parts[3] != str(port)):
        return False
    name = (parts[1] or parts[2] or parts[4]).removeprefix("*")
    literal = _parse_address(name)
    if literal is not None:
        return address == literal
    return host.endswith(name if name.startswith(".") else f".{name}") or host == name


def _parse_address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
