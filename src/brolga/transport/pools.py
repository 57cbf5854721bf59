"""The connection pools, one for each combination of TLS settings, proxy and permitted zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpcore2 as httpcore

from brolga.transport.addresses import ReachedHosts, Zone
from brolga.transport.connection import NetworkBackend
from brolga.transport.forks import ForkSafeLock, renew_in_child

if TYPE_CHECKING:
    import ssl

    from brolga.transport.proxy import Proxies, Proxy
    from brolga.transport.tls import TLSConfig

_EXPIRY_S: Final = 30.0  # seconds that an idle connection is kept


@dataclass(frozen=True)
class PooledRoute:
    """A pool, and what a request needs to use it.

    `authority` is the host and port as they were written in the URL.
    """

    pool: httpcore.ConnectionPool
    url: httpcore.URL
    authority: str
    extensions: dict[str, Any]
    proxy: Proxy | None


class Pools:
    """The connection pools of a transport. Threads may share an instance."""

    def __init__(self, *, tls: TLSConfig, proxies: Proxies, keepalive: int) -> None:
        self._tls = tls
        self._proxies = proxies
        self._keepalive = keepalive
        self._hosts = ReachedHosts()
        self._lock = ForkSafeLock()
        self._is_closed = False
        self._pools: dict[tuple[object, ...], httpcore.ConnectionPool] = {}
        renew_in_child(self)

    def renew(self) -> None:
        """Drop the parent's connections in a child process, which must not read their responses."""
        self._pools = {}

    def route(self, url: str, redirected_from: str) -> PooledRoute:
        """Return the route to a URL; `redirected_from` is the host that sent the URL, or empty.

        Raises ValueError for an invalid URL or proxy, OSError for TLS settings that cannot be
        read, RuntimeError after `close`.
        """
        # The library's own parser loses the brackets of an IPv6 address in the Host header, and the
        # part of the path after a semicolon.
        parts = urlsplit(url)
        host, port, authority = parts.hostname or "", parts.port, parts.netloc.rpartition("@")[2]
        proxy = self._proxies.choose(parts.scheme, host, port)
        context = (
            self._tls.context(authority, is_redirect=redirected_from not in {"", host})
            if parts.scheme == "https"
            else None
        )
        # Through a proxy nothing is checked, as the proxy resolves the address.
        limit = (
            self._hosts.zone(redirected_from) if redirected_from and not proxy else Zone.LINK_LOCAL
        )
        # The library omits the brackets of an IPv6 address, which a proxy needs; with brackets in
        # the host, it would look for them in the certificate.
        bracketed = proxy is not None and ":" in host
        try:
            http_url = httpcore.URL(
                scheme=parts.scheme,
                host=f"[{host}]" if bracketed else host,
                port=port,
                target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            )
        except TypeError as error:  # letters outside ASCII
            raise ValueError(error) from error
        return PooledRoute(
            pool=self._pool(context, proxy, limit),
            url=http_url,
            authority=authority,
            extensions={"sni_hostname": host} if bracketed else {},
            proxy=proxy,
        )

    def check_open(self) -> None:
        """Raise RuntimeError after `close`."""
        if self._is_closed:
            raise RuntimeError("the client is closed")

    def close(self) -> None:
        """Close every connection, and open no more."""
        with self._lock:
            self._is_closed = True
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.close()

    def _pool(
        self, context: ssl.SSLContext | None, proxy: Proxy | None, limit: Zone
    ) -> httpcore.ConnectionPool:
        key = context, proxy, limit
        with self._lock:
            self.check_open()
            if key not in self._pools:
                self._pools[key] = httpcore.ConnectionPool(
                    ssl_context=context,
                    proxy=self._http_proxy(proxy) if proxy else None,
                    # No limit, so that no thread waits for another's upload.
                    max_connections=None,
                    max_keepalive_connections=self._keepalive,
                    keepalive_expiry=_EXPIRY_S,
                    network_backend=NetworkBackend(None if proxy else self._hosts, limit=limit),
                )
            return self._pools[key]

    def _http_proxy(self, proxy: Proxy) -> httpcore.Proxy:
        secure = proxy.scheme == "https"
        return httpcore.Proxy(
            httpcore.URL(scheme=proxy.scheme, host=proxy.host, port=proxy.port, target="/"),
            auth=proxy.auth,
            # A proxy is not a registry: do not send it the user's client certificate.
            ssl_context=self._tls.context(str(proxy), is_redirect=True) if secure else None,
        )
