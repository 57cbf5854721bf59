"""Check, resolve and redact the URLs that a registry names.

`check_url` accepts only visible ASCII with a plain host and port, so that every other parser reads
the same host. It judges a host by its letters; the transport checks the addresses of names.
No function here raises ValueError, as those of urllib do.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from brolga.errors import ProtocolViolation

if TYPE_CHECKING:
    from brolga.spec.digest import Digest

_MAX_SHOWN: Final = 300  # characters of a URL in a message
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VISIBLE: Final = r"[!-~]++"
_ABSOLUTE: Final = r"[A-Za-z][A-Za-z0-9+.-]*+:"
# No userinfo, zone or percent-encoded host: nothing that two parsers could read differently.
# Without the flag for ASCII, the Kelvin sign is a k.
_URL: Final = r"(?ia)https?://(?:[a-z0-9._-]++|\[[0-9a-f:.]++\])(?::[0-9]{0,5}+)?(?:[/?][!-~]*+)?"
_NUMERIC_LABEL: Final = r"0x[0-9a-f]*+|[0-9]++"


def resolve(base: str, target: str) -> str:
    """Resolve `target` against the URL `base` (RFC 3986, section 5); `check_url` the result.

    The query stays byte for byte: urljoin would drop an empty one.
    """
    target = target.partition("#")[0]
    # urljoin removes tabs and line breaks, and adds our host to an absolute URL without one.
    # `check_url` must see both, to reject them.
    if not re.fullmatch(_VISIBLE, target) or re.match(_ABSOLUTE, target):
        return target
    path, mark, query = target.partition("?")
    try:
        return urljoin(base.partition("?")[0], path) + mark + query
    except ValueError:
        return target


def check_url(url: str, what: str, *, named_by: str) -> str:
    """Return `url` if it is safe to call; the registry at the URL `named_by` named it as `what`.

    Raises ProtocolViolation if it is not a plain http(s) URL, falls back from https to http, or
    leads to a private address from a registry that is not at one.
    """
    parts, base = _split(url), urlsplit(named_by)
    if parts is None:
        raise ProtocolViolation(f"the registry's {what} is not a valid http(s) URL: {redact(url)}")
    if parts.scheme == "http" and base.scheme == "https":
        raise ProtocolViolation(f"the registry's {what} falls back to plain http: {redact(url)}")
    host, registry = parts.hostname or "", base.hostname or ""
    # A link-local address serves the secrets of the machine itself (169.254.169.254): a registry
    # at another private address must not name it either.
    enters_private = _is_private(host) and not _is_private(registry)
    may_be_link_local = _is_link_local(host) or (
        _address(host) is None and _is_unusual_address(host)
    )
    enters_link_local = may_be_link_local and not _is_link_local(registry)
    if host != registry and (enters_private or enters_link_local):
        raise ProtocolViolation(
            f"the registry's {what} points into a private network: {redact(url)}",
            hint="if that is right, name the registry by its address there",
        )
    return url


def with_digest(url: str, digest: Digest) -> str:
    """Add `digest=` to the query of a session's URL, which may have one already (end-6)."""
    return f"{url}{'&' if '?' in url else '?'}digest={quote(str(digest), safe='')}"


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port: credentials are sent to the same origin only."""
    parts = urlsplit(url)
    port = _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    return parts.scheme, parts.hostname or "", port


def hostname(url: str) -> str:
    """Return the host of a URL that `check_url` accepted: in lower case, without the port."""
    return urlsplit(url).hostname or ""


def redact(url: str) -> str:
    """Return `url` for a message: without user, password, query and unprintable characters."""
    head = re.split(r"[?#]", url, maxsplit=1)[0]
    shown = re.sub(r"[^!-~]", "?", re.sub(r"[^/]*@", "", head))
    return shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."


def _split(url: str) -> SplitResult | None:
    """Return the parts of a plain http(s) URL, or None if it is not one."""
    if not re.fullmatch(_URL, url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # an invalid IPv6 address, or a port over 65535
        return None
    # Port 0 is not a valid port, and HTTP libraries read it as the default one.
    return None if port == 0 else parts


def _is_private(host: str) -> bool:
    """Return whether a host, by its letters, is this machine or in a private network."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(host)
    return _is_unusual_address(host) if address is None else not address.is_global


def _is_link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _is_unusual_address(host: str) -> bool:
    """Return whether a resolver reads a host, not a plain address, as an IPv4 address.

    127.1, 2130706433 and 0x7f.1 are such (WHATWG URL, "ends in a number").
    """
    return bool(re.fullmatch(_NUMERIC_LABEL, host.rstrip(".").rpartition(".")[2]))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, IPv4-mapped ones as IPv4; None for a name."""
    try:
        address = ip_address(host.rstrip("."))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
