"""Where an address is: outside, inside a private network, or link-local.

Knows the address registries (RFC 6890), and in which zone each host was seen. Must not know URLs,
or whose request it is.

Strategy: a host is judged by the address that it was really reached at, never by its name: DNS may
say one thing to whoever checks and another to whoever connects.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from brolga.transport.forks import after_fork

__all__ = ["Refused", "Sightings", "Zone", "zone_of"]

_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1
# Clouds' metadata under addresses that are not link-local.
_METADATA: Final = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})


class Zone(IntEnum):
    """Where an address is, the open net first.

    A connection that may lead to one zone may lead to those before it.
    """

    OUTSIDE = 0
    INSIDE = 1  # loopback, private, or otherwise not for everybody
    LINK_LOCAL = 2  # where clouds keep a machine's credentials


class Refused(Exception):
    """A connection led to `address`, to which its URL must not lead."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def zone_of(address: str) -> Zone:
    """Return the zone of an IP address, as a socket gives it."""
    there = _embedded(ip_address(address.partition("%")[0]))
    if there.is_link_local or there in _METADATA:
        return Zone.LINK_LOCAL
    site_local = isinstance(there, IPv6Address) and there.is_site_local
    return Zone.OUTSIDE if there.is_global and not site_local else Zone.INSIDE


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


class Sightings:
    """The zone in which each host was reached, by name. Threads may share one."""

    def __init__(self) -> None:
        self._zones: dict[str, Zone] = {}
        self.renew()
        after_fork(self)

    def renew(self) -> None:
        """Make a new lock: a child process has the old one as it stood."""
        self._lock = threading.Lock()

    def note(self, host: str, zone: Zone) -> None:
        """Keep the zone of a host; one that was outside once stays outside."""
        with self._lock:
            self._zones[host] = min(zone, self._zones.get(host, zone))

    def of(self, host: str) -> Zone:
        """Return the zone of a host; OUTSIDE if it was not reached yet."""
        return self._zones.get(host.lower(), Zone.OUTSIDE)
