"""The blocking transport: performs the requests of flows over connections, TLS and proxies."""

from brolga.transport.driver import Transport

__all__ = ["Transport"]
