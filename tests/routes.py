"""Routes without the TLS settings of a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.transport.proxy import Proxies
from brolga.transport.routes import Routes
from brolga.transport.tls import TLSConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["make_routes"]


def make_routes(
    proxies: Mapping[str, tuple[str, str]] | None = None, certs_dirs: tuple[Path, ...] = ()
) -> Routes:
    """Make routes; `proxies` has the proxy variable of each scheme, as name and value."""
    tls = TLSConfig(
        insecure=False, ca_cert=None, client_cert=None, client_key=None, certs_dirs=certs_dirs
    )
    return Routes(tls, Proxies(proxies or {}))
