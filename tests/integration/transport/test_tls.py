"""transport/tls.py: authorities and client certificates."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import BLOCK, TEST_TIMEOUT_S, failing, patch, perform
from tests.raw_server import Peer, serve_script

from brolga.errors import TransportError
from brolga.protocol import Request
from brolga.transport import Transport
from brolga.transport.tls import CERTS_DIRS, TLSConfig

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.conftest import Authority
    from tests.integration.transport.conftest import Pair

CLIENT_CERT_HINT = "present one that it trusts with --client-cert"


class TestTLS:
    """Certificates, and servers without TLS."""

    def test_session_tickets_do_not_stop_upload(self, authority: Authority) -> None:
        """TLS 1.3 sends tickets whenever it likes (RFC 8446, section 4.6.1): no answer."""
        blocks = [BLOCK * 16, b"", b"x", BLOCK]

        def script(peer: Peer) -> None:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert peer.socket.version() == "TLSv1.3"
            peer.head()
            assert peer.chunks() == ([block for block in blocks if block], True)
            peer.answer(202)

        with (
            Transport(ca_cert=authority.ca_cert, timeout_s=TEST_TIMEOUT_S) as client,
            serve_script(script, tls=authority.server_context()) as address,
        ):
            response = client.run(patch(f"https://{address}/", blocks))
        assert (response.status, response.complete) == (202, True)

    def test_unknown_authority_is_certificate_error(
        self, client: Transport, authority: Authority
    ) -> None:
        """Nothing is sent to whom the certificate does not prove."""
        heads = []

        def script(peer: Peer) -> None:
            heads.append(peer.head())

        with (
            serve_script(script, tls=authority.server_context()) as address,
            failing("certificate", "the certificate is not trusted"),
        ):
            client.run(perform(Request("GET", f"https://{address}/")))
        assert heads in ([], [[]])

    def test_certificate_for_other_name_is_refused(self, authority: Authority) -> None:
        """The authority is known, the name is not in the certificate (RFC 9110, 4.3.4)."""

        def script(peer: Peer) -> None:
            peer.head()

        with (
            Transport(ca_cert=authority.ca_cert) as client,
            serve_script(script, tls=authority.server_context("elsewhere")) as address,
            failing("certificate", "not valid for"),
        ):
            client.run(perform(Request("GET", f"https://{address}/")))

    @pytest.mark.parametrize("how", ["ca_cert", "insecure"])
    def test_insecure_accepts_unknown_authority(self, authority: Authority, how: str) -> None:
        """`ca_cert` trusts one more authority; `insecure` leaves certificates unverified."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        client = (
            Transport(ca_cert=authority.ca_cert) if how == "ca_cert" else Transport(insecure=True)
        )
        with client, serve_script(script, tls=authority.server_context()) as address:
            assert client.run(perform(Request("GET", f"https://{address}/"))).status == 200

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls"), (b"", "connect")],
    )
    def test_plain_http_server_is_tls_error(
        self, client: Transport, answer: bytes, reason: str
    ) -> None:
        """It answers in plain text, or hangs up: both let a flow fall back to http."""

        def script(peer: Peer) -> None:
            peer.receive()
            if answer:
                peer.send(answer)

        with (
            serve_script(script, refuse_tls=False) as address,
            pytest.raises(TransportError) as caught,
        ):
            client.run(perform(Request("GET", f"https://{address}/")))
        assert caught.value.reason in {"tls", reason}

    def test_plain_http_does_not_load_authorities(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system's are loaded for the first connection by TLS, and once."""
        made: list[ssl.SSLContext] = []
        real = ssl.create_default_context

        def counted() -> ssl.SSLContext:
            made.append(real())
            return made[-1]

        monkeypatch.setattr(ssl, "create_default_context", counted)

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        with Transport() as client, serve_script(script) as address:
            client.run(perform(Request("GET", f"http://{address}/")))
            assert made == []
            for _ in range(2):
                with pytest.raises(TransportError):
                    client.run(perform(Request("GET", f"https://{address}/")))
        assert len(made) == 1

    def test_invalid_ca_cert_raises(self, tmp_path: Path) -> None:
        """Raises OSError if `ca_cert` cannot be read as certificates."""
        empty = tmp_path / "empty.pem"
        empty.touch()
        for path in (empty, tmp_path / "missing.pem"):
            with pytest.raises(OSError, match=r"certificate|No such file"):
                Transport(ca_cert=path)


def asking(authority: Authority, *, required: bool = True, old: bool = False) -> ssl.SSLContext:
    """Make a server that asks for a client certificate."""
    context = authority.server_context()
    context.load_verify_locations(authority.ca_cert)
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class Server:
    """A server that answers every request, and records client certificates."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    def __call__(self, peer: Peer) -> None:
        assert isinstance(peer.socket, ssl.SSLSocket)
        shown = peer.socket.getpeercert() or {}
        subject: Any = shown.get("subject", ((("commonName", ""),),))
        self.subjects.append(subject[0][0][1])
        peer.head()
        peer.answer(200, b"", "Connection: close")


class TestClientCertificate:
    """`client_cert` and `client_key`: authentication by TLS."""

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize("joined", [False, True])
    def test_client_certificate_is_sent_if_requested(
        self, authority: Authority, client_pair: Pair, tmp_path: Path, old: bool, joined: bool
    ) -> None:
        """The key is in a file of its own, or in the certificate's."""
        server, both = Server(), tmp_path / "both.pem"
        both.write_bytes(client_pair.both)
        with (
            Transport(
                ca_cert=authority.ca_cert,
                client_cert=both if joined else client_pair.certificate,
                client_key=None if joined else client_pair.key,
            ) as client,
            serve_script(server, tls=asking(authority, old=old)) as address,
        ):
            assert client.run(perform(Request("GET", f"https://{address}/"))).status == 200
        assert server.subjects == ["someone"]

    def test_client_certificate_is_not_sent_to_redirected_host(
        self, authority: Authority, client_pair: Pair
    ) -> None:
        """Like a password, it is sent only to hosts that the user named."""
        server = Server()
        with (
            serve_script(server, tls=asking(authority, required=False)) as address,
            Transport(
                ca_cert=authority.ca_cert,
                client_cert=client_pair.certificate,
                client_key=client_pair.key,
            ) as client,
        ):
            port = address.rpartition(":")[2]
            client.run(perform(Request("GET", f"https://localhost:{port}/")))
            client.run(perform(Request("GET", f"https://{address}/", redirected_from="localhost")))
        assert sorted(server.subjects) == ["", "someone"]

    @pytest.mark.parametrize("body", [None, [b"a", b"b"]])
    def test_missing_client_certificate_is_reported(
        self, authority: Authority, body: list[bytes] | None
    ) -> None:
        """TLS 1.3 says so after the handshake, in place of an answer (RFC 8446, section 6.2)."""
        with (
            Transport(ca_cert=authority.ca_cert) as client,
            serve_script(Server(), tls=asking(authority)) as address,
            failing("tls", "the server wants a client certificate", CLIENT_CERT_HINT),
        ):
            client.run(perform(Request("PATCH", f"https://{address}/", body=body)))

    def test_missing_client_certificate_is_reported_with_tls_1_2(
        self, authority: Authority
    ) -> None:
        """TLS 1.2 says no more than that the handshake failed."""
        with (
            Transport(ca_cert=authority.ca_cert) as client,
            serve_script(Server(), tls=asking(authority, old=True)) as address,
            failing("tls", "may want a client certificate", CLIENT_CERT_HINT),
        ):
            client.run(perform(Request("GET", f"https://{address}/")))

    @pytest.mark.usefixtures("client_pair")
    def test_unknown_client_certificate_is_reported(self, authority: Authority) -> None:
        """Its authority is not one of the server's."""
        with (
            Transport(
                ca_cert=authority.ca_cert,
                client_cert=authority.directory / "stranger.pem",
                client_key=authority.directory / "stranger.key",
            ) as client,
            serve_script(Server(), tls=asking(authority)) as address,
            failing("tls", "does not know the client certificate's authority", CLIENT_CERT_HINT),
        ):
            client.run(perform(Request("GET", f"https://{address}/")))

    def test_key_without_certificate_is_rejected(self, client_pair: Pair) -> None:
        """Raises ValueError for a key without a certificate."""
        with pytest.raises(ValueError, match="client_cert is missing"):
            Transport(client_key=client_pair.key)

    def test_invalid_pair_is_rejected(
        self, authority: Authority, client_pair: Pair, tmp_path: Path
    ) -> None:
        """Raises OSError that names the files; a password is not asked for on the terminal."""
        missing, here = tmp_path / "missing.pem", client_pair.certificate
        with pytest.raises(OSError, match=r"missing\.pem"):
            Transport(client_cert=missing)
        with pytest.raises(OSError, match=r"missing\.pem"):
            Transport(client_cert=here, client_key=missing)
        with pytest.raises(OSError, match=f"{here}: no certificate with its key"):
            Transport(client_cert=here)
        other = authority.directory / "stranger.key"
        with pytest.raises(OSError, match=f"{here} and {other}: no certificate with its key"):
            Transport(client_cert=here, client_key=other)
        with pytest.raises(OSError, match="is encrypted"):
            Transport(client_cert=here, client_key=authority.directory / "encrypted.key")


class TestDirectories:
    """docker's certs.d: HOST or HOST:PORT has authorities, and client certificates, of its own."""

    def test_directory_applies_to_one_host(
        self, authority: Authority, client_pair: Pair, tmp_path: Path
    ) -> None:
        """`ca.crt` is trusted and `client.cert` with `client.key` sent for that host only."""
        server = Server()
        with serve_script(server, tls=asking(authority)) as address:
            directory = tmp_path / address
            directory.mkdir()
            (directory / "ca.crt").write_bytes(authority.ca_cert.read_bytes())
            (directory / "client.cert").write_bytes(client_pair.certificate.read_bytes())
            (directory / "client.key").write_bytes(client_pair.key.read_bytes())
            with Transport(certs_dirs=[tmp_path / "none", tmp_path]) as client:
                for _ in range(2):
                    assert client.run(perform(Request("GET", f"https://{address}/"))).status == 200
                port = address.rpartition(":")[2]
                with failing("certificate"):
                    client.run(perform(Request("GET", f"https://localhost:{port}/")))
        assert server.subjects == ["someone", "someone"]

    def test_first_directory_with_host_is_used(
        self, authority: Authority, client_pair: Pair, tmp_path: Path
    ) -> None:
        """The user's directory comes before the system's, even if it is empty."""
        with serve_script(Server(), tls=asking(authority)) as address:
            (tmp_path / "user" / address).mkdir(parents=True)
            system = tmp_path / "system" / address
            system.mkdir(parents=True)
            (system / "ca.crt").write_bytes(authority.ca_cert.read_bytes())
            directories = [tmp_path / "user", tmp_path / "system"]
            with Transport(certs_dirs=directories) as client, failing("certificate"):
                client.run(perform(Request("GET", f"https://{address}/")))

    def test_redirected_host_has_own_directory(
        self, authority: Authority, client_pair: Pair, tmp_path: Path
    ) -> None:
        """What the user put under its name is meant for it; what the user gave at large is not."""
        server = Server()
        with serve_script(server, tls=asking(authority, required=False)) as address:
            directory = tmp_path / address
            directory.mkdir()
            (directory / "client.cert").write_bytes(client_pair.certificate.read_bytes())
            (directory / "client.key").write_bytes(client_pair.key.read_bytes())
            with Transport(
                ca_cert=authority.ca_cert,
                client_cert=authority.directory / "elsewhere.pem",
                client_key=authority.directory / "elsewhere.key",
                certs_dirs=[tmp_path],
                insecure=True,
            ) as client:
                port = address.rpartition(":")[2]
                with contextlib.suppress(TransportError):  # it is not a client's certificate
                    client.run(perform(Request("GET", f"https://localhost:{port}/")))
                request = Request("GET", f"https://{address}/", redirected_from="localhost")
                assert client.run(perform(request)).status == 200
        assert server.subjects == ["someone"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("client.cert", r"client\.cert has no key: .*client\.key is missing"),
            ("client.key", r"client\.key has no certificate: .*client\.cert is missing"),
            ("ca.crt", r"ca\.crt holds no certificate in PEM form"),
        ],
    )
    def test_incomplete_pair_raises(
        self, client_pair: Pair, tmp_path: Path, name: str, text: str
    ) -> None:
        """Docker refuses to go on without, and says which file is missing."""
        directory = tmp_path / "registry.example:5000"
        directory.mkdir()
        (directory / name).write_bytes(b"")
        with Transport(certs_dirs=[tmp_path]) as client, pytest.raises(OSError, match=text):
            client.run(perform(Request("GET", "https://registry.example:5000/v2/")))

    @pytest.mark.parametrize("host", ["..", ".", "a/b", "", "a\0b", "a" * 300])
    def test_host_cannot_escape_directories(self, tmp_path: Path, host: str) -> None:
        """A host is used in a path only if it is a plain name."""
        (tmp_path / "certs.d" / "a").mkdir(parents=True)
        (tmp_path / "client.cert").touch()
        trust = TLSConfig(
            insecure=False,
            ca_cert=None,
            client_cert=None,
            client_key=None,
            certs_dirs=["~nobody-of-that-name/certs.d", tmp_path / "certs.d"],
        )
        assert trust.context(host, is_redirect=True) is trust.context("x", is_redirect=False)

    def test_directories_are_those_of_docker_and_podman(self) -> None:
        """docker, "Verify repository client with certificates"; containers-certs.d(5)."""
        assert "/etc/docker/certs.d" in CERTS_DIRS
        assert CERTS_DIRS[0] == "~/.config/containers/certs.d"
