"""URLs that a registry names: where they lead, whether to go there, what of them may be shown.

Knows RFC 3986, and what a hostile Location or token realm looks like. Must not know DNS: a host is
judged by its letters here. A name may still lead inside, which only who connects can see.

Strategy: `check` lets through nothing but visible ASCII with a plain host and port, so that every
other parser, the HTTP library's among them, reads the same host from it. No text makes any function
here raise ValueError, as urllib's do.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

from brolga.errors import ProtocolViolation

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from brolga.spec.digest import Digest

__all__ = ["check", "host_of", "origin", "redact", "resolve", "with_digest"]

_MAX_SHOWN: Final = 300  # characters of a URL in a message
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VISIBLE: Final = re.compile(r"[!-~]++")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+:")
# No userinfo, no zone, no percent-encoded host: nothing that two parsers could read in two ways.
_URL: Final = re.compile(
    r"https?://(?:[a-z0-9._-]++|\[[0-9a-f:.]++\])(?::[0-9]{0,5}+)?(?:[/?][!-~]*+)?",
    re.IGNORECASE | re.ASCII,  # without ASCII, the Kelvin sign is a k
)
_NUMERIC_LABEL: Final = re.compile(r"0x[0-9a-f]*+|[0-9]++")


def resolve(base: str, target: str) -> str:
    """Return `target` as seen from the URL `base` (RFC 3986, section 5); `check` the outcome.

    The query stays byte for byte: urljoin would drop an empty one.
    """
    target = target.partition("#")[0]
    # urljoin takes tabs and line breaks away, and lends our host to an absolute URL without one.
    # Both are for `check` to refuse.
    if not _VISIBLE.fullmatch(target) or _ABSOLUTE.match(target):
        return target
    path, mark, query = target.partition("?")
    try:
        return urljoin(base.partition("?")[0], path) + mark + query
    except ValueError:
        return target


def check(url: str, what: str, *, seen_from: str) -> str:
    """Return `url`, which a registry at `seen_from` named as its `what`, if it is safe to call.

    Raises ProtocolViolation for what is no http(s) URL, has a user in it, falls from https to
    http, or leads to this machine or a private address from a registry that is not there itself.
    """
    parts, home = _parts(url), urlsplit(seen_from)
    if parts is None:
        raise ProtocolViolation(f"the registry's {what} is no http(s) URL: {redact(url)}")
    if parts.scheme == "http" and home.scheme == "https":
        raise ProtocolViolation(f"the registry's {what} falls back to plain http: {redact(url)}")
    there, here = parts.hostname or "", home.hostname or ""
    # Link-local addresses serve a machine's own secrets (169.254.169.254): no registry has
    # business there, private or not.
    strayed = _is_inside(there) and not _is_inside(here)
    if there != here and (strayed or (_may_be_link_local(there) and not _is_link_local(here))):
        raise ProtocolViolation(
            f"the registry's {what} points into a private network: {redact(url)}; "
            "if that is right, name the registry by its address there"
        )
    return url


def with_digest(url: str, digest: Digest) -> str:
    """Add `digest=` to the query of a session's URL, which may have one already (end-6)."""
    return f"{url}{'&' if '?' in url else '?'}digest={quote(str(digest), safe='')}"


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port: what must be equal for credentials to go along."""
    parts = urlsplit(url)
    port = _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    return parts.scheme, parts.hostname or "", port


def host_of(url: str) -> str:
    """Return the host's name of a URL that `check` let through, in lower case, without its port."""
    return urlsplit(url).hostname or ""


def redact(url: str) -> str:
    """Return `url` fit to be shown: without user, password, query and unprintable characters."""
    head = re.split(r"[?#]", url, maxsplit=1)[0]
    shown = re.sub(r"[^!-~]", "?", re.sub(r"[^/]*@", "", head))
    return shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a plain http(s) URL, or None where it is none."""
    if not _URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # an IPv6 address that is none, a port over 65535
        return None
    # Port 0 is none, and HTTP libraries take it for the default one.
    return None if port == 0 else parts


def _is_inside(host: str) -> bool:
    """Tell whether a host, by its letters, can only be this machine or in a private network."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(host)
    return _is_odd(host) if address is None else not address.is_global


def _is_link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _may_be_link_local(host: str) -> bool:
    address = _address(host)
    return _is_odd(host) if address is None else address.is_link_local


def _is_odd(host: str) -> bool:
    """Tell whether a host, which is no plain address, is one to a resolver.

    127.1, 2130706433 and 0x7f.1 are IPv4 (WHATWG URL, "ends in a number"); no honest registry
    writes one so.
    """
    return bool(_NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, an IPv4 one out of its IPv6 form; None for a name."""
    try:
        address = ip_address(host.rstrip("."))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
