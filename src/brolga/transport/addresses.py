"""Zones of addresses (RFC 6890): public, private or link-local.

The zone of a host is that of the address that a connection reached, never of a name: DNS may give
one address to a check and another to a connection.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from brolga.transport.forks import ForkSafeLock

_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1
# Metadata services of clouds at addresses that are not link-local.
_METADATA: Final = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})


class Zone(IntEnum):
    """The zone of an address. A connection permitted to lead to one may lead to those before it."""

    PUBLIC = 0
    PRIVATE = 1  # loopback, private, or otherwise not global
    LINK_LOCAL = 2  # clouds serve a machine's credentials here


class AddressRefused(Exception):
    """A connection led to an address, the argument, which its URL must not reach."""


def zone_of(address: str) -> Zone:
    """Return the zone of an IP address as returned by a socket."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):  # it may embed an IPv4 address
        ip = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip
    if ip.is_link_local or ip in _METADATA:
        return Zone.LINK_LOCAL
    site_local = isinstance(ip, IPv6Address) and ip.is_site_local
    return Zone.PUBLIC if ip.is_global and not site_local else Zone.PRIVATE


class ReachedHosts:
    """The zones in which hosts were reached, by name. Threads may share an instance."""

    def __init__(self) -> None:
        self._zones: dict[str, Zone] = {}
        self._lock = ForkSafeLock()

    def add(self, host: str, zone: Zone) -> None:
        """Record the zone of a host. A host that was public once stays public."""
        with self._lock:
            self._zones[host] = min(zone, self._zones.get(host, zone))

    def zone(self, host: str) -> Zone:
        """Return the zone of a host, PUBLIC if it was not reached yet."""
        return self._zones.get(host.lower(), Zone.PUBLIC)
