"""transport/addresses.py: the zones of addresses and hosts."""

from __future__ import annotations

import pytest

from brolga.transport.addresses import ReachedHosts, Zone, zone_of


class TestZone:
    """Addresses (RFC 6890)."""

    @pytest.mark.parametrize(
        ("address", "zone"),
        [
            ("1.1.1.1", Zone.PUBLIC),
            ("2606:4700::1111", Zone.PUBLIC),
            ("::ffff:1.1.1.1", Zone.PUBLIC),
            ("64:ff9b::101:101", Zone.PUBLIC),
            ("127.0.0.1", Zone.PRIVATE),
            ("10.1.2.3", Zone.PRIVATE),
            ("192.168.0.1", Zone.PRIVATE),
            ("100.64.0.1", Zone.PRIVATE),
            ("0.0.0.0", Zone.PRIVATE),  # noqa: S104 - nothing is bound to it
            ("::1", Zone.PRIVATE),
            ("fd00::1", Zone.PRIVATE),
            ("fec0::1", Zone.PRIVATE),
            ("::ffff:10.0.0.1", Zone.PRIVATE),
            ("64:ff9b::a00:1", Zone.PRIVATE),
            ("169.254.169.254", Zone.LINK_LOCAL),
            ("fe80::1%eth0", Zone.LINK_LOCAL),
            ("::ffff:169.254.169.254", Zone.LINK_LOCAL),
            ("64:ff9b::a9fe:a9fe", Zone.LINK_LOCAL),
            ("fd00:ec2::254", Zone.LINK_LOCAL),
            ("100.100.100.200", Zone.LINK_LOCAL),
        ],
    )
    def test_zone_of_address(self, address: str, zone: Zone) -> None:
        """IPv4 in IPv6 is the IPv4 address; clouds' metadata counts as link-local."""
        assert zone_of(address) is zone


class TestReachedHosts:
    """Where a host was seen."""

    def test_public_host_stays_public(self) -> None:
        """DNS may lead a name inside later: that opens nothing."""
        hosts = ReachedHosts()
        assert hosts.zone("unseen") is Zone.PUBLIC
        hosts.add("a", Zone.LINK_LOCAL)
        hosts.add("a", Zone.PRIVATE)
        assert hosts.zone("A") is Zone.PRIVATE
        hosts.add("a", Zone.PUBLIC)
        hosts.add("a", Zone.PRIVATE)
        assert hosts.zone("a") is Zone.PUBLIC
