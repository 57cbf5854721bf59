"""transport/reach.py: a URL that a registry named leads nowhere inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, serve_script
from tests.unit.transport.calls import one

from brolga.errors import ProtocolViolation
from brolga.protocol import Request
from brolga.transport import connection as connection_module
from brolga.transport.addresses import Sightings, Zone, zone_of

if TYPE_CHECKING:
    from brolga.transport import Transport


class TestZone:
    """Addresses (RFC 6890)."""

    @pytest.mark.parametrize(
        ("address", "zone"),
        [
            ("1.1.1.1", Zone.OUTSIDE),
            ("2606:4700::1111", Zone.OUTSIDE),
            ("::ffff:1.1.1.1", Zone.OUTSIDE),
            ("64:ff9b::101:101", Zone.OUTSIDE),
            ("127.0.0.1", Zone.INSIDE),
            ("10.1.2.3", Zone.INSIDE),
            ("192.168.0.1", Zone.INSIDE),
            ("100.64.0.1", Zone.INSIDE),
            ("0.0.0.0", Zone.INSIDE),  # noqa: S104 - nothing is bound to it
            ("::1", Zone.INSIDE),
            ("fd00::1", Zone.INSIDE),
            ("fec0::1", Zone.INSIDE),
            ("::ffff:10.0.0.1", Zone.INSIDE),
            ("64:ff9b::a00:1", Zone.INSIDE),
            ("169.254.169.254", Zone.LINK_LOCAL),
            ("fe80::1%eth0", Zone.LINK_LOCAL),
            ("::ffff:169.254.169.254", Zone.LINK_LOCAL),
            ("64:ff9b::a9fe:a9fe", Zone.LINK_LOCAL),
            ("fd00:ec2::254", Zone.LINK_LOCAL),
            ("100.100.100.200", Zone.LINK_LOCAL),
        ],
    )
    def test_it_is_that_of_the_address_meant(self, address: str, zone: Zone) -> None:
        """IPv4 in IPv6 is the IPv4 address; clouds' metadata is no private network's."""
        assert zone_of(address) is zone


class TestSightings:
    """Where a host was seen."""

    def test_who_was_outside_once_stays_there(self) -> None:
        """DNS may lead a name inside later: that opens nothing."""
        sightings = Sightings()
        assert sightings.of("unseen") is Zone.OUTSIDE
        sightings.note("a", Zone.LINK_LOCAL)
        sightings.note("a", Zone.INSIDE)
        assert sightings.of("A") is Zone.INSIDE
        sightings.note("a", Zone.OUTSIDE)
        sightings.note("a", Zone.INSIDE)
        assert sightings.of("a") is Zone.OUTSIDE


def silent(peer: Peer) -> None:
    """Expect not a byte: no request, no TLS hello."""
    assert peer.drain() == b""


def friendly(peer: Peer) -> None:
    """Answer."""
    while peer.head():
        peer.answer(200)


class TestNamed:
    """`Request.named_by`: the peer's own address decides, before anything is sent to it."""

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_a_registry_outside_leads_nobody_inside(
        self, client: Transport, scheme: str, host: str
    ) -> None:
        """A name of the enemy's may resolve to a service of ours (oras-go GHSA-28r5-37g7-p6mp)."""
        with (
            serve_script(silent, refuse_tls=False) as address,
            pytest.raises(ProtocolViolation) as caught,
        ):
            port = address.rpartition(":")[2]
            url = f"{scheme}://{host}:{port}/"
            client.run(one(Request("GET", url, redirected_from="registry.example")))
        assert str(caught.value) == (
            f"the registry at registry.example sent GET to {host}:{port}, which leads to "
            "127.0.0.1, inside a private network; if that is right, name the registry by its "
            "address there"
        )
        assert caught.value.__cause__ is None

    def test_a_registry_inside_may(self, client: Transport) -> None:
        """Who was really reached inside can name what is inside; threads and names may differ."""
        with serve_script(friendly) as address, client:
            port = address.rpartition(":")[2]
            assert client.run(one(Request("GET", f"http://LOCALHOST:{port}/"))).status == 200
            request = Request("GET", f"http://{address}/", redirected_from="localhost")
            assert client.run(one(request)).status == 200

    def test_a_connection_that_the_user_asked_for_is_not_lent(self, client: Transport) -> None:
        """The user may call what is inside; a registry outside may not by the same connection."""
        with serve_script(friendly) as address, client:
            assert client.run(one(Request("GET", f"http://{address}/"))).status == 200
            with pytest.raises(ProtocolViolation):
                client.run(
                    one(Request("GET", f"http://{address}/", redirected_from="registry.example"))
                )

    def test_the_metadata_of_a_cloud_is_refused_to_a_registry_inside(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Link-local addresses hold a machine's credentials: only who lives there names them."""
        zones = {"127.0.0.1": Zone.INSIDE}
        monkeypatch.setattr(connection_module, "zone_of", zones.__getitem__)

        with serve_script(friendly) as address, client:
            port = address.rpartition(":")[2]
            assert client.run(one(Request("GET", f"http://localhost:{port}/"))).status == 200
            zones["127.0.0.1"] = Zone.LINK_LOCAL
            named = Request("GET", f"http://{address}/", redirected_from="localhost")
            with pytest.raises(ProtocolViolation):
                client.run(one(named))

    def test_a_name_that_was_outside_leads_nobody_inside_by_another_port(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """DNS rebinding: the registry's own name means this machine when its Location is called."""
        zones = {"127.0.0.1": Zone.OUTSIDE}
        monkeypatch.setattr(connection_module, "zone_of", zones.__getitem__)
        with serve_script(friendly) as address, serve_script(silent) as inside, client:
            own, other = (f"http://localhost:{a.rpartition(':')[2]}/" for a in (address, inside))
            assert client.run(one(Request("GET", own))).status == 200
            zones["127.0.0.1"] = Zone.INSIDE
            with pytest.raises(ProtocolViolation, match="inside a private network"):
                client.run(one(Request("GET", other, redirected_from="localhost")))
