"""Routes: by which host, proxy and TLS settings a URL is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from brolga.transport.addresses import ReachedHosts, Zone

if TYPE_CHECKING:
    import ssl

    from brolga.transport.proxy import Proxies, Proxy
    from brolga.transport.tls import TLSConfig

_PORTS: Final = {"http": 80, "https": 443}


class Route(NamedTuple):
    """How a URL is reached. Connections can be shared by the requests with an equal `key`.

    `authority` is the host and port as they were written in the URL, `target` the path and query.
    `context` is None for plain http, `proxy_context` for a proxy that is not reached by TLS.
    A connection beyond the zone `limit` is refused.
    """

    host: str
    port: int
    authority: str
    target: str
    context: ssl.SSLContext | None
    proxy: Proxy | None
    proxy_context: ssl.SSLContext | None
    limit: Zone

    @property
    def key(self) -> tuple[object, ...]:
        """What a connection is for: a proxy serves all hosts of plain http."""
        if self.proxy and self.context is None:
            return self.proxy, self.proxy_context
        return self.host, self.port, self.context, self.proxy, self.limit

    @property
    def proxy_headers(self) -> dict[str, str]:
        """The header that holds the user and the password for the proxy."""
        if self.proxy is None or self.proxy.auth is None:
            return {}
        from base64 import b64encode

        return {"Proxy-Authorization": f"Basic {b64encode(b':'.join(self.proxy.auth)).decode()}"}


class Routes:
    """Finds routes. `hosts` records in which zone each host was reached."""

    def __init__(self, tls: TLSConfig, proxies: Proxies) -> None:
        self._tls = tls
        self._proxies = proxies
        self.hosts = ReachedHosts()

    def find(self, url: str, redirected_from: str) -> Route:
        """Return the route to a URL; `redirected_from` is the host that sent the URL, or empty.

        Raises ValueError for an invalid URL or proxy, OSError for TLS settings that cannot be read.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in _PORTS or not host or not host.isascii():
            raise ValueError(
                f"not a valid URL of HTTP, with a host in ASCII: {host or parts.scheme}"
            )
        authority = parts.netloc.rpartition("@")[2]
        proxy = self._proxies.choose(parts.scheme, host, parts.port)
        is_redirect = redirected_from not in {"", host}
        # A proxy is not a registry: it is not sent the user's client certificate.
        has_tls = proxy is not None and proxy.scheme == "https"
        # Through a proxy nothing is checked, as the proxy resolves the address.
        is_limited = redirected_from and not proxy
        return Route(
            host=host,
            port=parts.port or _PORTS[parts.scheme],
            authority=authority,
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            context=(
                self._tls.context(authority, is_redirect=is_redirect)
                if parts.scheme == "https"
                else None
            ),
            proxy=proxy,
            proxy_context=self._tls.context(str(proxy), is_redirect=True) if has_tls else None,
            limit=self.hosts.zone(redirected_from) if is_limited else Zone.LINK_LOCAL,
        )
