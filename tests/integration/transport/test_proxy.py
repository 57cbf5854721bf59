"""transport/proxy.py: the choice of a proxy, and requests through it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import BLOCK, TEST_TIMEOUT_S, failing, patch, perform, wait
from tests.raw_server import Peer, refusing_port, serve_script

from brolga.protocol import Request
from brolga.transport import Transport
from brolga.transport.proxy import CHECK_PROXY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Authority

DIRECT = "name the registry in NO_PROXY to call it directly"


def tunnel(upstream: str, heads: list[list[str]]) -> Callable[[Peer], None]:
    """Make a proxy's script: it takes a CONNECT, and passes on what comes to `upstream`."""
    host, _, port = upstream.rpartition(":")

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        with socket.create_connection((host, int(port))) as there:
            peer.answer(200)
            pump(peer.socket, there)

    return script


def pump(here: socket.socket, there: socket.socket) -> None:
    """Pass bytes on, both ways, until one side is closed."""
    pairs = [(here, there), (there, here)]
    while ready := select.select([here, there], [], [], TEST_TIMEOUT_S)[0]:
        for source, drain in pairs:
            waiting = source in ready
            while waiting:
                data = source.recv(1 << 16)
                if not data:
                    return
                drain.sendall(data)
                # What TLS has decrypted already does not wake select.
                waiting = isinstance(source, ssl.SSLSocket) and source.pending() > 0


@contextlib.contextmanager
def proxied(
    monkeypatch: pytest.MonkeyPatch,
    script: Callable[[Peer], None],
    *,
    userinfo: str = "",
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Run a proxy that the environment names."""
    with serve_script(script, tls=tls) as address:
        scheme = "https" if tls else "http"
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{userinfo}{address}")
        yield address


class TestForward:
    """Plain http through a proxy."""

    def test_proxy_gets_absolute_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Absolute-form, and credentials for the proxy alone (RFC 9112, 3.2.2; RFC 9110, 11.7)."""
        heads = []

        def script(peer: Peer) -> None:
            while head := peer.head():
                heads.append(head)
                peer.answer(200, b"{}")

        url = "http://registry.example:5000/v2/?a=%2f;b"
        with proxied(monkeypatch, script, userinfo="user:pass@"), Transport() as client:
            for _ in range(2):
                assert client.run(perform(Request("GET", url))).body == b"{}"
        assert [head[0] for head in heads] == [f"GET {url} HTTP/1.1"] * 2
        assert "Host: registry.example:5000" in heads[0]
        assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]

    def test_ipv6_address_keeps_brackets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy has only the URL to find the address by (RFC 3986, section 3.2.2)."""
        heads = []

        def script(peer: Peer) -> None:
            heads.append(peer.head())
            peer.answer(200)

        with proxied(monkeypatch, script), Transport() as client:
            client.run(perform(Request("GET", "http://[2001:db8::1]/v2/")))
        assert heads[0][:2] == ["GET http://[2001:db8::1]/v2/ HTTP/1.1", "Host: [2001:db8::1]"]

    def test_early_response_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy may refuse what is still being sent."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(413)
            peer.drain()

        with proxied(monkeypatch, script), Transport(timeout_s=TEST_TIMEOUT_S) as client:
            response = client.run(patch("http://registry.example/", cycle([BLOCK])))
        assert (response.status, response.complete) == (413, False)

    def test_407_of_proxy_is_transport_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """407 is never the registry's (RFC 9110, section 15.5.8)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(407, b"", "Proxy-Authenticate: Basic")

        with (
            proxied(monkeypatch, script) as address,
            Transport() as client,
            failing("connect", f"by the proxy {address}: the proxy refused: 407", CHECK_PROXY),
        ):
            client.run(perform(Request("GET", "http://registry.example/v2/")))

    def test_unreachable_proxy_is_transport_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the proxy, without its credentials."""
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{refusing_port()}")
        with (
            Transport() as client,
            failing("connect", "by the proxy 127.0.0.1:", CHECK_PROXY) as caught,
        ):
            client.run(perform(Request("GET", "http://registry.example/v2/")))
        assert "secret" not in str(caught[0])

    def test_redirect_through_proxy_is_not_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The proxy finds the address: only it could check, and it is inside itself."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        with proxied(monkeypatch, script), Transport() as client:
            request = Request("GET", "http://storage.example/", redirected_from="registry.example")
            assert client.run(perform(request)).status == 200

    def test_environment_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client goes one way as long as it lives."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        with proxied(monkeypatch, script), Transport() as client:
            monkeypatch.setenv("ALL_PROXY", "http://elsewhere.invalid")
            assert client.run(perform(Request("GET", "http://registry.example/"))).status == 200

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("socks5://u:secret@proxy.example:1080", "HTTPS_PROXY names a socks5 proxy"),
            ("ftp://proxy.example", "HTTPS_PROXY names a ftp proxy"),
            ("http://u:sec/ret@proxy.example:x", "HTTPS_PROXY is not the URL of a proxy"),
            ("http://", "HTTPS_PROXY is not the URL of a proxy"),
            ("http://[secret", "HTTPS_PROXY is not the URL of a proxy"),
            ("http://b\u00fccher.example", "HTTPS_PROXY is not the URL of a proxy"),
        ],
    )
    def test_unsupported_proxy_is_transport_error(
        self, monkeypatch: pytest.MonkeyPatch, value: str, text: str
    ) -> None:
        """The environment may serve other programs; what it holds of secrets is not shown."""
        monkeypatch.setenv("HTTPS_PROXY", value)

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        with Transport(timeout_s=TEST_TIMEOUT_S) as client:
            with serve_script(script) as address:
                assert client.run(perform(Request("GET", f"http://{address}/"))).status == 200
            hint = CHECK_PROXY if "is not" in text else DIRECT
            with failing("connect", text, hint) as caught:
                client.run(perform(Request("GET", "https://registry.example/v2/")))
        assert "sec" not in str(caught[0])


class TestTunnel:
    """TLS through a proxy: CONNECT (RFC 9110, section 9.3.6)."""

    @pytest.mark.parametrize("secure_proxy", [False, True])
    def test_tunnel_hides_request_from_proxy(
        self, monkeypatch: pytest.MonkeyPatch, authority: Authority, secure_proxy: bool
    ) -> None:
        """It gets a host, a port and its own credentials; the registry's name is still proved."""
        heads: list[list[str]] = []
        blocks = [BLOCK * 16, b"", b"x"]

        def script(peer: Peer) -> None:
            head = peer.head()
            assert head[0] == "PATCH /v2/ HTTP/1.1"
            assert peer.header("proxy-authorization", head) == []
            assert peer.chunks() == ([BLOCK * 16, b"x"], True)
            peer.answer(202, b"", "Location: /next")
            assert peer.head()[0].startswith("GET ")  # by the same tunnel
            peer.answer(200)

        with (
            serve_script(script, tls=authority.server_context("elsewhere")) as upstream,
            proxied(
                monkeypatch,
                tunnel(upstream, heads),
                userinfo="user:pass@",
                tls=authority.server_context() if secure_proxy else None,
            ),
            Transport(timeout_s=TEST_TIMEOUT_S, ca_cert=authority.ca_cert) as client,
        ):
            response = client.run(patch("https://registry.invalid/v2/", blocks))
            assert client.run(perform(Request("GET", "https://registry.invalid/"))).status == 200
        assert (response.status, response.complete) == (202, True)
        assert [head[0] for head in heads] == ["CONNECT registry.invalid:443 HTTP/1.1"]
        assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]

    def test_early_response_is_noticed(
        self, monkeypatch: pytest.MonkeyPatch, authority: Authority
    ) -> None:
        """The registry's, through the tunnel, while the body still goes out."""
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.answer(401)
            answered.set()
            peer.drain()

        def body() -> Iterator[bytes]:
            yield BLOCK
            wait(answered)
            yield from cycle([BLOCK])

        with (
            serve_script(script, tls=authority.server_context("elsewhere")) as upstream,
            proxied(monkeypatch, tunnel(upstream, [])),
            Transport(timeout_s=TEST_TIMEOUT_S, ca_cert=authority.ca_cert) as client,
        ):
            response = client.run(patch("https://registry.invalid/", body()))
        assert (response.status, response.complete) == (401, False)

    def test_lost_https_proxy_is_cut(
        self, monkeypatch: pytest.MonkeyPatch, authority: Authority
    ) -> None:
        """Within two layers of TLS early responses are not noticed, but errors are reported."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()

        with (
            serve_script(script, tls=authority.server_context("elsewhere")) as upstream,
            proxied(monkeypatch, tunnel(upstream, []), tls=authority.server_context()),
            Transport(timeout_s=TEST_TIMEOUT_S, ca_cert=authority.ca_cert) as client,
            failing("cut"),
        ):
            client.run(patch("https://registry.invalid/", cycle([BLOCK])))

    def test_ipv6_address_has_brackets_for_proxy_only(
        self, monkeypatch: pytest.MonkeyPatch, authority: Authority
    ) -> None:
        """`CONNECT [2001:db8::1]:443`, and a certificate for the address."""
        heads: list[list[str]] = []

        def script(peer: Peer) -> None:
            assert "Host: [2001:db8::1]" in peer.head()
            peer.answer(200)

        with (
            serve_script(script, tls=authority.server_context("elsewhere")) as upstream,
            proxied(monkeypatch, tunnel(upstream, heads)),
        ):
            with Transport(insecure=True) as client:
                assert client.run(perform(Request("GET", "https://[2001:db8::1]/"))).status == 200
            with (
                Transport(ca_cert=authority.ca_cert) as client,
                failing("certificate", "IP address mismatch.*2001:db8::1"),
            ):
                client.run(perform(Request("GET", "https://[2001:db8::1]/")))
        assert heads[0][0] == "CONNECT [2001:db8::1]:443 HTTP/1.1"

    @pytest.mark.parametrize("status", [403, 407, 502])
    def test_refused_tunnel_is_transport_error(
        self, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        """Nothing of the call went out."""

        def script(peer: Peer) -> None:
            assert peer.head()[0] == "CONNECT registry.example:443 HTTP/1.1"
            peer.answer(status)

        with (
            proxied(monkeypatch, script, userinfo="user:secret@"),
            Transport() as client,
            failing("connect", f"the proxy refused: {status}", CHECK_PROXY) as caught,
        ):
            client.run(perform(Request("GET", "https://registry.example/v2/")))
        assert "secret" not in str(caught[0])
