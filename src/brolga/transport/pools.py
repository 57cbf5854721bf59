"""Where a call goes: the URL as the library wants it, and the pool that its connection is from.

Knows the HTTP library's pools, and what may not be shared between two calls' connections: TLS
settings, a proxy, how far a connection may lead. Must not know what is called.

Strategy: a pool for each combination of these that comes up. Most clients have one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpcore2 as httpcore

from brolga.transport.addresses import Sightings, Zone
from brolga.transport.connection import Backend
from brolga.transport.forks import after_fork

if TYPE_CHECKING:
    import ssl

    from brolga.transport.proxy import Proxies, Proxy
    from brolga.transport.tls import Trust

__all__ = ["Pools", "Route", "Target"]

_EXPIRY_S: Final = 30.0  # seconds that an idle connection is kept


@dataclass(frozen=True)
class Target:
    """What a URL says; `authority` is host and port as they were written.

    The library's own reading of a URL loses the brackets of an IPv6 address in the Host header,
    and what stands after a semicolon in the path.
    """

    scheme: str
    host: str
    port: int | None
    authority: str
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        """Read a URL. Raises ValueError where it is none, a registry's Location say."""
        parts = urlsplit(url)
        return cls(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port,
            authority=parts.netloc.rpartition("@")[2],
            path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )


@dataclass(frozen=True)
class Route:
    """A pool, and a call's address in it."""

    pool: httpcore.ConnectionPool
    url: httpcore.URL
    extensions: dict[str, Any]
    proxy: Proxy | None


class Pools:
    """The connections of a client. Threads may share one."""

    def __init__(self, *, trust: Trust, proxies: Proxies, keepalive: int) -> None:
        self._trust = trust
        self._proxies = proxies
        self._keepalive = keepalive
        self._sightings = Sightings()
        self._lock = threading.Lock()
        self._is_closed = False
        self._pools: dict[
            tuple[ssl.SSLContext | None, Proxy | None, Zone], httpcore.ConnectionPool
        ] = {}
        after_fork(self)

    def renew(self) -> None:
        """Connect anew in a child process: the parent's connections would mix up both's answers."""
        self._lock = threading.Lock()
        self._pools = {}

    def route(self, target: Target, named_by: str) -> Route:
        """Return the way to a target; `named_by` is the host that named it, or empty.

        Raises ValueError for a host or a proxy that cannot be, OSError for TLS settings that
        cannot be read, RuntimeError after `close`.
        """
        proxy = self._proxies.choose(target.scheme, target.host, target.port)
        context = (
            self._trust.context(target.authority, is_named=named_by not in {"", target.host})
            if target.scheme == "https"
            else None
        )
        # By way of a proxy nothing is checked: it is the proxy that finds the address.
        limit = self._sightings.of(named_by) if named_by and not proxy else Zone.LINK_LOCAL
        # The library leaves out the brackets that a proxy needs to read an IPv6 address, and would
        # look for them in the certificate.
        bracketed = proxy is not None and ":" in target.host
        try:
            url = httpcore.URL(
                scheme=target.scheme,
                host=f"[{target.host}]" if bracketed else target.host,
                port=target.port,
                target=target.path,
            )
        except TypeError as error:  # letters outside ASCII
            raise ValueError(error) from error
        return Route(
            pool=self._pool(context, proxy, limit),
            url=url,
            extensions={"sni_hostname": target.host} if bracketed else {},
            proxy=proxy,
        )

    def check(self) -> None:
        """Raise RuntimeError after `close`."""
        if self._is_closed:
            raise RuntimeError("the client is closed")

    def close(self) -> None:
        """Close every connection; there will be no further ones."""
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
            self.check()
            if key not in self._pools:
                self._pools[key] = httpcore.ConnectionPool(
                    ssl_context=context,
                    proxy=self._by(proxy) if proxy else None,
                    # As many as there are threads at work: none waits for another's upload.
                    max_connections=None,
                    max_keepalive_connections=self._keepalive,
                    keepalive_expiry=_EXPIRY_S,
                    network_backend=Backend(None if proxy else self._sightings, limit=limit),
                )
            return self._pools[key]

    def _by(self, proxy: Proxy) -> httpcore.Proxy:
        secure = proxy.scheme == "https"
        return httpcore.Proxy(
            httpcore.URL(scheme=proxy.scheme, host=proxy.host, port=proxy.port, target="/"),
            auth=proxy.auth,
            # A proxy is no registry: it is not shown a client certificate of the user's.
            ssl_context=self._trust.context(str(proxy), is_named=True) if secure else None,
        )
