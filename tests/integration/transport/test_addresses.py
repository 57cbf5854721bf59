"""transport/addresses.py: URLs sent by a registry cannot lead to private addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import perform
from tests.raw_server import Peer, serve_script

from brolga.errors import ProtocolViolation
from brolga.protocol import Request
from brolga.transport import connect as connect_module
from brolga.transport.addresses import Zone

if TYPE_CHECKING:
    from brolga.transport import Transport


def silent(peer: Peer) -> None:
    """Expect not a byte: no request, no TLS hello."""
    assert peer.drain() == b""


def friendly(peer: Peer) -> None:
    """Answer."""
    while peer.head():
        peer.answer(200)


class TestRedirectedFrom:
    """`Request.redirected_from`: the peer's own address decides, before anything is sent to it."""

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_public_registry_cannot_lead_to_private_address(
        self, client: Transport, scheme: str, host: str
    ) -> None:
        """A name of the enemy's may resolve to a service of ours (oras-go GHSA-28r5-37g7-p6mp)."""
        with (
            serve_script(silent, refuse_tls=False) as address,
            pytest.raises(ProtocolViolation) as caught,
        ):
            port = address.rpartition(":")[2]
            url = f"{scheme}://{host}:{port}/"
            client.run(perform(Request("GET", url, redirected_from="registry.example")))
        assert str(caught.value) == (
            f"the registry at registry.example sent GET to {host}:{port}, which leads to "
            "127.0.0.1, inside a private network"
        )
        assert caught.value.hint == "if that is right, name the registry by its address there"
        assert caught.value.__cause__ is None

    def test_private_registry_can_lead_to_private_address(self, client: Transport) -> None:
        """A registry at a private address may name one; the host names may differ."""
        with serve_script(friendly) as address, client:
            port = address.rpartition(":")[2]
            assert client.run(perform(Request("GET", f"http://LOCALHOST:{port}/"))).status == 200
            request = Request("GET", f"http://{address}/", redirected_from="localhost")
            assert client.run(perform(request)).status == 200

    def test_connection_of_user_is_not_reused_for_public_registry(self, client: Transport) -> None:
        """The user may call what is inside; a registry outside may not by the same connection."""
        with serve_script(friendly) as address, client:
            assert client.run(perform(Request("GET", f"http://{address}/"))).status == 200
            with pytest.raises(ProtocolViolation):
                client.run(
                    perform(
                        Request("GET", f"http://{address}/", redirected_from="registry.example")
                    )
                )

    def test_private_registry_cannot_lead_to_cloud_metadata(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Link-local addresses serve a machine's credentials."""
        zones = {"127.0.0.1": Zone.PRIVATE}
        monkeypatch.setattr(connect_module, "zone_of", zones.__getitem__)

        with serve_script(friendly) as address, client:
            port = address.rpartition(":")[2]
            assert client.run(perform(Request("GET", f"http://localhost:{port}/"))).status == 200
            zones["127.0.0.1"] = Zone.LINK_LOCAL
            named = Request("GET", f"http://{address}/", redirected_from="localhost")
            with pytest.raises(ProtocolViolation):
                client.run(perform(named))

    def test_public_name_cannot_lead_to_private_address_by_another_port(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """DNS rebinding: the registry's own name means this machine when its Location is called."""
        zones = {"127.0.0.1": Zone.PUBLIC}
        monkeypatch.setattr(connect_module, "zone_of", zones.__getitem__)
        with serve_script(friendly) as address, serve_script(silent) as inside, client:
            own, other = (f"http://localhost:{a.rpartition(':')[2]}/" for a in (address, inside))
            assert client.run(perform(Request("GET", own))).status == 200
            zones["127.0.0.1"] = Zone.PRIVATE
            with pytest.raises(ProtocolViolation, match="inside a private network"):
                client.run(perform(Request("GET", other, redirected_from="localhost")))
