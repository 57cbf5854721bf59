"""The helpers of the tests with foreign programs: registries, tokens, proxies, images."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
from base64 import b64encode, urlsafe_b64decode
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest
from tests.real.cutting import Fault, Seen, proxy
from tests.real.foreign import (
    PLAIN,
    READ_ONLY,
    Access,
    copy,
    docker_registry,
    make_image,
    push,
    require,
    skopeo,
    tree,
    unpack,
    write_auths,
)
from tests.real.tokens import LEEWAY_S, Asked, narrow, token_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.conftest import CredentialHelper
    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry, Image
    from tests.real.tokens import TokenKey, TokenServer

pytestmark = pytest.mark.real

Answer = tuple[int, dict[str, str], bytes]


def call(
    address: str,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Make one call with the standard library's client; by https with a context."""
    host, _, port = address.rpartition(":")
    connection = (
        http.client.HTTPSConnection(host, int(port), context=context)
        if context
        else http.client.HTTPConnection(host, int(port))
    )
    with closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()


def trusting(authority: Authority) -> ssl.SSLContext:
    """Return a context that trusts the tests' authority alone."""
    return ssl.create_default_context(cafile=str(authority.ca_cert))


def start_upload(address: str, repository: str) -> str:
    """Open an upload session; return its path and query."""
    status, headers, _ = call(address, "POST", f"/v2/{repository}/blobs/uploads/")
    assert status == 202
    location = urlsplit(headers["Location"])
    return f"{location.path}?{location.query}"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Write an image for one platform."""
    return make_image(tmp_path_factory.mktemp("image") / "layout")


class TestForms:
    """docker-registry in each form."""

    def test_plain_registry_answers_over_http(self, plain_registry: DockerRegistry) -> None:
        """It needs no credentials."""
        assert call(plain_registry.address, "GET", "/v2/")[0] == 200

    def test_docker_registry_deletes_only_if_enabled(self, image: Image, tmp_path: Path) -> None:
        """202 with `delete` enabled; 405 without (distribution, `storage.delete`)."""
        for enabled, expected in ((True, 202), (False, 405)):
            storage = {"delete": {"enabled": enabled}}
            with docker_registry(tmp_path / str(enabled), storage=storage) as running:
                digest = push(image, f"{running.address}/x:v1")
                path = f"/v2/x/manifests/{digest}"
                assert call(running.address, "DELETE", path)[0] == expected

    def test_tls_registry_has_the_test_certificate(
        self, tls_registry: DockerRegistry, authority: Authority
    ) -> None:
        """No other authority is accepted."""
        assert call(tls_registry.address, "GET", "/v2/", context=trusting(authority))[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            call(tls_registry.address, "GET", "/v2/", context=ssl.create_default_context())

    def test_mutual_tls_registry_needs_a_client_certificate(
        self, mutual_tls_registry: DockerRegistry, authority: Authority, client_trust: Access
    ) -> None:
        """The registry gives no response without a certificate."""
        context = trusting(authority)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            call(mutual_tls_registry.address, "GET", "/v2/", context=context)
        place = client_trust.certificates
        assert place
        context.load_cert_chain(place / "client.cert", place / "client.key")
        assert call(mutual_tls_registry.address, "GET", "/v2/", context=context)[0] == 200

    def test_basic_registry_needs_the_password(
        self, basic_registry: DockerRegistry, authority: Authority
    ) -> None:
        """401 with a Basic challenge, 200 with the right password."""
        context = trusting(authority)
        status, headers, _ = call(basic_registry.address, "GET", "/v2/", context=context)
        assert (status, headers["Www-Authenticate"]) == (401, 'Basic realm="tests"')
        for password, expected in (("secret", 200), ("wrong", 401)):
            given = {"Authorization": basic("someone", password)}
            answer = call(basic_registry.address, "GET", "/v2/", headers=given, context=context)
            assert answer[0] == expected

    def test_read_only_registry_answers_405_to_changes(
        self, own_registry: DockerRegistry, image: Image
    ) -> None:
        """It still answers reads."""
        push(image, f"{own_registry.address}/x:v1")
        own_registry.kill()
        own_registry.start(storage=READ_ONLY)
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        assert call(own_registry.address, "GET", "/v2/x/manifests/v1", headers=accept)[0] == 200
        assert call(own_registry.address, "POST", "/v2/x/blobs/uploads/")[0] == 405

    def test_docker_registry_start_failure_has_the_log(self, tmp_path: Path) -> None:
        """Its log is in the failure."""
        with (
            pytest.raises(pytest.fail.Exception, match=r"does not run.*nonsense"),
            docker_registry(tmp_path, storage={"nonsense": {}}),
        ):
            pass

    def test_require_skips_with_the_name_of_the_program(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A skip says which program is not there."""
        monkeypatch.setenv("PATH", "")
        with pytest.raises(pytest.skip.Exception, match="docker-registry is not on PATH"):
            require("docker-registry")


class TestDeath:
    """A docker-registry that is killed with -9 and started again."""

    def test_docker_registry_restarts_on_its_port_with_its_data(
        self, own_registry: DockerRegistry, image: Image
    ) -> None:
        """While it is down the port refuses connections, and no other process gets it."""
        address = own_registry.address
        push(image, f"{address}/x:v1")
        own_registry.kill()
        with pytest.raises(ConnectionRefusedError):
            call(address, "GET", "/v2/")
        own_registry.start()
        assert own_registry.address == address
        assert call(address, "GET", "/v2/x/tags/list")[2] == b'{"name":"x","tags":["v1"]}\n'

    @pytest.mark.parametrize(("secret", "expected"), [("of the tests", 204), ("another", 404)])
    def test_upload_sessions_survive_a_restart_with_the_same_secret(
        self, own_registry: DockerRegistry, secret: str, expected: int
    ) -> None:
        """`_state` in the Location is signed with `http.secret`."""
        session = start_upload(own_registry.address, "x")
        own_registry.kill()
        own_registry.start(http={"secret": secret})
        assert call(own_registry.address, "GET", session)[0] == expected


def basic(name: str, password: str) -> str:
    """Return the header of Basic credentials."""
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT."""
    body = token.split(".")[1]
    payload: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return payload


def ask(
    server: TokenServer,
    authority: Authority,
    *scopes: str,
    authorization: str = "",
    form: dict[str, str] | None = None,
    offline: bool = False,
) -> tuple[int, dict[str, Any]]:
    """Ask for a token: by POST with a form, else by GET; return status and answer."""
    realm = urlsplit(server.realm)
    asked = [("service", server.service), *(("scope", scope) for scope in scopes)]
    asked += [("offline_token", "true")] if offline else []
    headers = {"Authorization": authorization} if authorization else {}
    if form is None:
        method, path, body = "GET", f"{realm.path}?{urlencode(asked)}", b""
    else:
        whole = {"service": server.service, "client_id": "tests", "scope": " ".join(scopes)} | form
        method, path, body = "POST", realm.path, urlencode(whole).encode()
    context = trusting(authority) if realm.scheme == "https" else None
    status, _, answer = call(realm.netloc, method, path, body, headers=headers, context=context)
    return status, json.loads(answer)


APP = "repository:team/app:pull,push"


class TestTokens:
    """The token server, by itself."""

    @pytest.mark.parametrize(
        ("scopes", "grants", "expected"),
        [
            ([APP], ["repository:team/*:pull,push"], [APP]),
            ([APP], ["repository:team/*:pull"], ["repository:team/app:pull"]),
            ([APP], ["repository:team/*:pull", "repository:*:push"], [APP]),
            ([APP], ["repository:other/*:pull"], []),
            ([APP], ["registry:*:pull"], []),
            ([APP], [], []),
            ([], ["repository:*:pull"], []),
            (["registry:catalog:*"], ["registry:catalog:*"], ["registry:catalog:*"]),
            ([APP, "repository:x:pull"], ["repository:x:pull"], ["repository:x:pull"]),
        ],
    )
    def test_token_server_grants_what_the_account_may_do(
        self, scopes: list[str], grants: list[str], expected: list[str]
    ) -> None:
        """The server may give less than was asked for (distribution)."""
        assert narrow(scopes, grants) == tuple(expected)

    def test_token_get_without_credentials_grants_public_pulls(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """The claims are signed."""
        both = ("repository:public/x:pull,push", APP)
        status, answer = ask(tokens, authority, *both, offline=True)
        assert (status, answer["expires_in"], "refresh_token" in answer) == (200, 300, False)
        payload = claims(answer["token"])
        assert payload["access"] == [
            {"type": "repository", "name": "public/x", "actions": ["pull"]}
        ]
        assert payload["exp"] - payload["iat"] == 300
        granted = ("repository:public/x:pull",)
        assert tokens.asked == [Asked("GET", "anonymous", "", both, granted, 200)]

    @pytest.mark.parametrize("offline", [True, False])
    def test_token_get_with_credentials_gives_a_refresh_token(
        self, tokens: TokenServer, authority: Authority, offline: bool
    ) -> None:
        """With `offline_token=true`."""
        authorization = basic("someone", "secret")
        status, answer = ask(tokens, authority, APP, authorization=authorization, offline=offline)
        assert (status, claims(answer["token"])["sub"]) == (200, "someone")
        assert ("refresh_token" in answer) is offline
        assert tokens.asked == [Asked("GET", "basic", "someone", (APP,), (APP,), 200)]

    @pytest.mark.parametrize(
        "authorization",
        [basic("someone", "wrong"), basic("nobody", "secret"), "Bearer x", "Basic ?", "Basic /w=="],
    )
    def test_token_get_with_wrong_credentials_is_401(
        self, tokens: TokenServer, authority: Authority, authorization: str
    ) -> None:
        """Only the name is recorded."""
        status, answer = ask(tokens, authority, APP, authorization=authorization)
        assert (status, answer) == (401, {"details": "Unauthorized"})
        assert tokens.asked[0].status == 401
        assert "secret" not in repr(tokens.asked)

    def test_token_post_with_a_password(self, tokens: TokenServer, authority: Authority) -> None:
        """OAuth2: the answer has `access_token` and `scope`, and a refresh token if asked for."""
        form = {"grant_type": "password", "username": "reader", "password": "secret too"}
        status, answer = ask(tokens, authority, APP, form=form)
        granted = "repository:team/app:pull"
        assert (status, answer["scope"], "refresh_token" in answer) == (200, granted, False)
        assert claims(answer["access_token"])["sub"] == "reader"
        answer = ask(tokens, authority, APP, form=form | {"access_type": "offline"})[1]
        assert tokens.account_of_refresh_token(answer["refresh_token"]) == "reader"
        expected = Asked("POST", "password", "reader", (APP,), (granted,), 200)
        assert tokens.asked == [expected, expected]

    def test_token_post_with_a_refresh_token(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """It is valid until it is revoked."""
        token = tokens.refresh_token("someone")
        form = {"grant_type": "refresh_token", "refresh_token": token}
        status, answer = ask(tokens, authority, APP, "registry:catalog:*", form=form)
        assert (status, answer["refresh_token"]) == (200, token)
        assert answer["scope"] == f"{APP} registry:catalog:*"
        tokens.revoke()
        assert ask(tokens, authority, APP, form=form) == (401, {"error": "invalid_grant"})
        assert token not in repr(tokens.asked)

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ({"grant_type": "password", "username": "reader", "password": "no"}, 401),
            ({"grant_type": "magic"}, 401),
            ({"grant_type": "magic", "client_id": ""}, 400),
        ],
    )
    def test_token_post_is_refused(
        self, tokens: TokenServer, authority: Authority, form: dict[str, str], expected: int
    ) -> None:
        """401 for an unknown account, 400 if the form is not complete (RFC 6749, section 5.2)."""
        assert ask(tokens, authority, APP, form=form)[0] == expected

    @pytest.mark.parametrize("status", [404, 405])
    def test_token_post_is_404_if_switched_off(
        self, tokens: TokenServer, authority: Authority, status: int
    ) -> None:
        """As at the servers that have only GET."""
        tokens.oauth = status
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token("someone")}
        assert ask(tokens, authority, APP, form=form)[0] == status
        assert tokens.asked == [Asked("POST", "refresh_token", "", (APP,), (), status)]

    def test_token_lifetimes_signed_and_announced_may_differ(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """`exp` in the token and `expires_in` in the response are set separately."""
        tokens.lifetime_s, tokens.expires_in = 7, None
        answer = ask(tokens, authority, APP)[1]
        payload = claims(answer["token"])
        assert payload["exp"] - payload["iat"] == 7
        assert "expires_in" not in answer

    def test_token_server_gives_expired_tokens_on_demand(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """Some number after some good ones; the response is the same."""
        tokens.issue_expired(times=2, after=1)
        answers = [ask(tokens, authority, APP)[1] for _ in range(4)]
        assert {answer["expires_in"] for answer in answers} == {300}
        lives = [claims(answer["token"]) for answer in answers]
        # An expired one was issued, as it says, when it expired.
        assert [payload["exp"] > payload["iat"] for payload in lives] == [True, False, False, True]

    def test_token_server_survives_a_client_that_disconnects(
        self, tokens: TokenServer, authority: Authority, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A client may distrust the certificate; the server goes on, and prints nothing."""
        with pytest.raises(ssl.SSLCertVerificationError):
            call(
                f"127.0.0.1:{tokens.server_port}",
                *("GET", "/token"),
                context=ssl.create_default_context(),
            )
        assert ask(tokens, authority, APP)[0] == 200
        assert capfd.readouterr().err == ""

    def test_token_server_prints_its_exceptions(
        self, token_key: TokenKey, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """On stderr, which pytest shows."""
        with token_server(token_key) as server:
            server.public = None  # type: ignore[assignment]
            with pytest.raises(http.client.RemoteDisconnected):
                call(f"127.0.0.1:{server.server_port}", "GET", "/token")
        assert "TypeError" in capfd.readouterr().err


class TestTokenRegistry:
    """docker-registry with the token server."""

    def test_token_challenge_has_realm_service_and_scope(
        self, token_registry: DockerRegistry, tokens: TokenServer, authority: Authority
    ) -> None:
        """Clients follow it."""
        status, headers, _ = call(
            token_registry.address, "GET", "/v2/team/app/tags/list", context=trusting(authority)
        )
        assert status == 401
        assert headers["Www-Authenticate"] == (
            f'Bearer realm="{tokens.realm}",service="{tokens.service}",'
            'scope="repository:team/app:pull"'
        )

    @pytest.mark.parametrize(
        ("lifetime_s", "expected"),
        [(300, 200), (-LEEWAY_S // 2, 200), (-2 * LEEWAY_S, 401)],
        ids=["good", "expired, within the leeway", "expired"],
    )
    def test_docker_registry_accepts_tokens_60_s_after_expiry(
        self,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        authority: Authority,
        lifetime_s: int,
        expected: int,
    ) -> None:
        """By distribution 2.8.2, which grants 60 seconds of leeway to `exp`."""
        tokens.lifetime_s = lifetime_s
        scopes = ["registry:catalog:*"]
        token = tokens.token("someone", tokens.service, tokens.granted("someone", scopes))
        given = {"Authorization": f"Bearer {token}"}
        context = trusting(authority)
        answer = call(token_registry.address, "GET", "/v2/_catalog", headers=given, context=context)
        assert answer[0] == expected

    def test_skopeo_pushes_with_a_password_and_a_token(
        self,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """A foreign client follows the challenge to the token server."""
        address = token_registry.address
        auths = write_auths(tmp_path / "auths", passwords={address: ("someone", "secret")})
        access = Access(certificates=trust.certificates, authfile=auths)
        assert push(image, f"{address}/team/app:v1", access=access) == image.digest
        scope = "repository:team/app:pull,push"
        assert Asked("GET", "basic", "someone", (scope,), (scope,), 200) in tokens.asked

    def test_skopeo_pushes_with_a_refresh_token(
        self,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """An identity token in the config is a refresh token for POST."""
        address = token_registry.address
        identity = {address: tokens.refresh_token("someone")}
        auths = write_auths(tmp_path / "auths", identity_tokens=identity)
        push(
            image,
            f"{address}/team/app:v1",
            access=Access(certificates=trust.certificates, authfile=auths),
        )
        assert {(asked.method, asked.grant, asked.account) for asked in tokens.asked} == {
            ("POST", "refresh_token", "someone")
        }

    def test_skopeo_push_fails_without_the_grant(
        self,
        token_registry: DockerRegistry,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """`reader` may pull `team/*`, and push nothing."""
        address = token_registry.address
        auths = write_auths(tmp_path / "auths", passwords={address: ("reader", "secret too")})
        access = Access(certificates=trust.certificates, authfile=auths)
        with pytest.raises(AssertionError, match=r"denied|authentication required"):
            push(image, f"{address}/team/app:v1", access=access)


class Echo:
    """A TCP server of one connection at a time, which a test reads and writes itself."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        """Take the next connection."""
        accepted = self.listener.accept()[0]
        accepted.settimeout(30)
        return accepted


@pytest.fixture
def behind() -> Iterator[Echo]:
    """Listen behind a proxy."""
    server = Echo()
    with server.listener:
        yield server


@pytest.fixture
def cutting(behind: Echo) -> Iterator[Proxy]:
    """Run a proxy in front of it."""
    with proxy(behind.address) as running:
        yield running


def connect(running: Proxy) -> socket.socket:
    """Connect as a client does."""
    host, _, port = running.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read_all(side: socket.socket) -> bytes:
    """Read until the end."""
    blocks = []
    while block := side.recv(1 << 16):
        blocks.append(block)
    return b"".join(blocks)


class TestCutting:
    """The proxy, at exact bytes."""

    def test_proxy_forwards_both_directions(self, cutting: Proxy, behind: Echo) -> None:
        """More than buffers hold, with half-closed connections."""
        data = os.urandom(3_000_000)
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"from the client")
            client.shutdown(socket.SHUT_WR)
            assert read_all(server) == b"from the client"

            def answer() -> None:
                server.sendall(data)
                server.shutdown(socket.SHUT_WR)

            writer = threading.Thread(target=answer)
            writer.start()
            assert read_all(client) == data
            writer.join()

    @pytest.mark.parametrize("offset", [0, 1, 99, 100])
    def test_proxy_cuts_the_request_at_an_offset(
        self, cutting: Proxy, behind: Echo, offset: int
    ) -> None:
        """The server gets `offset` bytes, then FIN; the client FIN, though it still sends."""
        cutting.arm(Fault(act="cut", direction="up", offset=offset))
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"x" * 100)
            assert client.recv(1) == b""
            client.sendall(b"more, which are not read")
            assert read_all(server) == b"x" * offset
            cutting.wait_until_struck()

    @pytest.mark.parametrize("offset", [0, 1, 99, 100])
    def test_proxy_cuts_the_response_at_an_offset(
        self, cutting: Proxy, behind: Echo, offset: int
    ) -> None:
        """The client gets `offset` bytes of the answer, then FIN."""
        cutting.arm(Fault(act="cut", direction="down", offset=offset))
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"request")
            assert server.recv(100) == b"request"
            server.sendall(b"x" * 100)
            assert read_all(client) == b"x" * offset
            assert server.recv(1) == b""

    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_proxy_resets_both_sides(self, cutting: Proxy, behind: Echo, direction: str) -> None:
        """Both sides read RST."""
        cutting.arm(Fault(act="reset", direction=direction, offset=5))  # type: ignore[arg-type]
        with connect(cutting) as client, behind.accept() as server:
            (client if direction == "up" else server).sendall(b"x" * 10)
            cutting.wait_until_struck()
            for side in (client, server):
                with pytest.raises(ConnectionResetError):
                    read_all(side)

    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_proxy_stalls_one_direction_until_released(
        self, cutting: Proxy, behind: Echo, direction: str
    ) -> None:
        """The other direction goes on."""
        cutting.arm(Fault(act="stall", direction=direction, offset=5))  # type: ignore[arg-type]
        with connect(cutting) as client, behind.accept() as server:
            speaker, listener = (client, server) if direction == "up" else (server, client)
            speaker.sendall(b"0123456789")
            cutting.wait_until_struck()
            assert listener.recv(100) == b"01234"
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(100)
            listener.settimeout(30)
            listener.sendall(b"other way")
            assert speaker.recv(100) == b"other way"
            cutting.release()
            assert listener.recv(100) == b"56789"

    def test_proxy_release_after_a_disconnect_does_nothing(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """The other side may close a stalled connection."""
        cutting.arm(Fault(act="stall", direction="up", offset=1))
        with connect(cutting) as client:
            with behind.accept() as server:
                client.sendall(b"xy")
                cutting.wait_until_struck()
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        cutting.release()

    def test_proxy_closes_stalled_connections_at_its_end(self, behind: Echo) -> None:
        """It is closed with the proxy."""
        with proxy(behind.address) as cutting:
            cutting.arm(Fault(act="stall", direction="up", offset=1))
            client, server = connect(cutting), behind.accept()
            client.sendall(b"xy")
            cutting.wait_until_struck()
        with client, server:
            assert client.recv(1) == b""
            assert server.recv(100) == b"x"

    @pytest.mark.parametrize("mark", [b"PATCH ", b" "])
    def test_proxy_counts_the_offset_from_the_mark(
        self, cutting: Proxy, behind: Echo, mark: bytes
    ) -> None:
        """The mark may come in pieces."""
        cutting.arm(Fault(act="cut", direction="up", after=mark, offset=3))
        with connect(cutting) as client, behind.accept() as server:
            for piece in (b"PUT,PA", b"TC", b"H", b" 12", b"3456"):
                client.sendall(piece)
                if piece != b"3456":
                    assert server.recv(100) == piece
            assert read_all(server) == b"3"

    def test_proxy_faults_so_many_connections(self, cutting: Proxy, behind: Echo) -> None:
        """Each connection once; after that all bytes pass."""
        cutting.arm(Fault(act="cut", direction="up", offset=2, times=2))
        for _ in range(2):
            with connect(cutting) as client, behind.accept() as server:
                client.sendall(b"1234")
                assert read_all(server) == b"12"
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"1234")
            client.shutdown(socket.SHUT_WR)
            assert read_all(server) == b"1234"
        assert cutting.struck == 2

    def test_proxy_faults_one_connection_in_order_of_offset(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """A stall, then a cut further on."""
        cutting.arm(
            Fault(act="cut", direction="up", offset=6),
            Fault(act="stall", direction="up", offset=3),
        )
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"123456789")
            cutting.wait_until_struck()
            assert server.recv(100) == b"123"
            cutting.release()
            assert read_all(server) == b"456"

    def test_proxy_refuses_and_accepts_again_on_its_port(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """The kernel refuses new connections."""
        with connect(cutting) as client, behind.accept() as server:
            cutting.refuse()
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    connect(cutting)
            client.sendall(b"this one goes on")
            assert server.recv(100) == b"this one goes on"
        cutting.accept()
        cutting.accept()
        with connect(cutting), behind.accept():
            pass
        cutting.refuse()
        cutting.refuse()

    def test_proxy_closes_the_client_if_the_server_is_down(
        self, cutting: Proxy, behind: Echo
    ) -> None:
        """The client's connection is broken off."""
        behind.listener.close()
        # Where the kernel is quick, connect() itself hears of it.
        with pytest.raises(ConnectionResetError), connect(cutting) as client:
            client.recv(1)


class TestRequests:
    """The proxy's list of requests."""

    def test_proxy_records_requests_of_one_connection(self, front: Proxy) -> None:
        """Each request with its status, bodies and HEAD among them."""
        host, _, port = front.address.rpartition(":")
        with closing(http.client.HTTPConnection(host, int(port))) as client:

            def ask(method: str, path: str, body: Any = None) -> str:
                client.request(method, path, body)
                answer = client.getresponse()
                answer.read()
                return answer.headers.get("Location", "")

            ask("GET", "/v2/")
            origin = f"http://{front.address}"
            session = ask("POST", "/v2/seen/blobs/uploads/")
            assert session.startswith(origin)
            session = ask("PATCH", session.removeprefix(origin), iter([b"some ", b"data"]))
            ask("HEAD", "/v2/seen/manifests/v1?x=y")
            ask("DELETE", session.removeprefix(origin))
        upload = urlsplit(session).path
        assert front.requests() == [
            Seen("GET", "/v2/", 200),
            Seen("POST", "/v2/seen/blobs/uploads/", 202),
            Seen("PATCH", upload, 202),
            Seen("HEAD", "/v2/seen/manifests/v1", 404),
            Seen("DELETE", upload, 204),
        ]
        assert front.requests(query=True)[3].path == "/v2/seen/manifests/v1?x=y"

    def test_proxy_records_requests_of_skopeo(self, front: Proxy, image: Image) -> None:
        """Several connections at once: one PUT for each blob, the manifest last."""
        push(image, f"{front.address}/counted:v1")
        seen = front.requests()
        assert [one.path for one in seen if one.method == "PUT"][-1] == "/v2/counted/manifests/v1"
        assert [one.method for one in seen].count("PUT") == 5
        assert all(one.status for one in seen)

    def test_proxy_records_no_status_if_the_response_was_cut(self, front: Proxy) -> None:
        """A request whose answer did not pass has no status."""
        front.arm(Fault(act="cut", direction="down"))
        with pytest.raises(http.client.RemoteDisconnected):
            call(front.address, "GET", "/v2/")
        assert call(front.address, "GET", "/v2/")[0] == 200
        assert front.requests() == [Seen("GET", "/v2/", None), Seen("GET", "/v2/", 200)]

    def test_proxy_records_an_early_response(self, cutting: Proxy, behind: Echo) -> None:
        """It counts when it comes."""
        with connect(cutting) as client, behind.accept() as server:
            client.sendall(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhal")
            server.recv(100)
            server.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            server.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            server.shutdown(socket.SHUT_WR)
            assert b"413" in read_all(client)
            assert cutting.requests() == [Seen("PUT", "/x", 413)]

    def test_proxy_fails_to_list_requests_of_tls(
        self, tls_registry: DockerRegistry, authority: Authority
    ) -> None:
        """TLS passes; to ask for its requests fails rather than to give none."""
        with proxy(tls_registry.address) as running:
            assert call(running.address, "GET", "/v2/", context=trusting(authority))[0] == 200
            with pytest.raises(RuntimeError, match="not HTTP"):
                running.requests()


class TestImages:
    """Images made by hand, pushed and read by foreign programs."""

    def test_make_image_for_one_platform(
        self, plain_registry: DockerRegistry, image: Image, tmp_path: Path
    ) -> None:
        """It has three layers, and umoci unpacks its files; one is removed again."""
        place = f"{plain_registry.address}/made/one:v1"
        assert push(image, place) == image.digest
        inspected = json.loads(skopeo("inspect", *PLAIN.flags(), f"docker://{place}"))
        assert (inspected["Digest"], len(inspected["Layers"])) == (image.digest, 3)
        copy(f"docker://{place}", f"oci:{tmp_path / 'back'}:v1", "--preserve-digests")
        files = tree(unpack(tmp_path / "back", "v1", tmp_path / "bundle"))
        assert list(files) == sorted(
            [
                *("bin", "bin/script", "empty", "etc", "etc/link", "etc/replaced", "platform"),
                *("random", "\u00fcml\u00e4ut"),
            ]
        )
        assert files["etc/link"][:2] == ("lrwxrwxrwx", "replaced")
        assert files["bin/script"].mode == "-rwxr-xr-x"
        assert (tmp_path / "bundle/rootfs/etc/replaced").read_text() == "replaced by this\n"

    def test_make_image_for_several_platforms(
        self, plain_registry: DockerRegistry, tmp_path: Path
    ) -> None:
        """An index of two images that share two layers; all of it is copied."""
        image = make_image(tmp_path / "image", platforms=("linux/amd64", "linux/arm64"))
        place = f"{plain_registry.address}/made/two:v1"
        assert push(image, place) == image.digest
        raw = json.loads(skopeo("inspect", "--raw", *PLAIN.flags(), f"docker://{place}"))
        assert raw["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert [entry["platform"]["architecture"] for entry in raw["manifests"]] == [
            "amd64",
            "arm64",
        ]
        flags = ["--override-arch=arm64", "inspect", *PLAIN.flags()]
        inspected = json.loads(skopeo(*flags, f"docker://{place}"))
        assert inspected["Architecture"] == "arm64"
        # An index, two manifests, two configurations, two layers of both and one of each.
        assert len(list((image.directory / "blobs/sha256").iterdir())) == 9

    @pytest.mark.parametrize(
        ("platforms", "expected"),
        [
            (("linux/amd64",), "application/vnd.docker.distribution.manifest.v2+json"),
            (
                ("linux/amd64", "linux/arm64"),
                "application/vnd.docker.distribution.manifest.list.v2+json",
            ),
        ],
    )
    def test_push_as_docker_schema_2(
        self,
        plain_registry: DockerRegistry,
        tmp_path: Path,
        platforms: tuple[str, ...],
        expected: str,
    ) -> None:
        """`--format=v2s2` writes Docker manifests, with digests of their own."""
        image = make_image(tmp_path / "image", platforms)
        place = f"{plain_registry.address}/made/docker-{len(platforms)}:v1"
        digest = push(image, place, "--format=v2s2")
        assert digest != image.digest
        raw = json.loads(skopeo("inspect", "--raw", *PLAIN.flags(), f"docker://{place}"))
        assert raw["mediaType"] == expected

    def test_tree_finds_each_difference(self, tmp_path: Path) -> None:
        """Names, types, modes, contents and link targets count; times if asked for."""
        one, two = tmp_path / "one", tmp_path / "two"
        for directory in (one, two):
            (directory / "sub").mkdir(parents=True)
            (directory / "sub/file").write_text("text")
            (directory / "link").symlink_to("sub/file")
            os.utime(directory / "sub/file", (0, 0))
        os.utime(two / "sub/file", (9, 9))
        for directory in (one, two):
            os.utime(directory / "sub", (0, 0))
            os.utime(directory / "link", (0, 0), follow_symlinks=False)
        assert tree(one) == tree(two)
        assert tree(one, mtimes=True) != tree(two, mtimes=True)
        (two / "sub/file").chmod(0o600)
        assert tree(one) != tree(two)
        (two / "sub/file").chmod((one / "sub/file").stat().st_mode)
        (two / "sub/file").write_text("taxt")
        assert tree(one) != tree(two)
        (two / "sub/file").write_text("text")
        (two / "link").unlink()
        (two / "link").symlink_to("sub")
        assert tree(one) != tree(two)

    @pytest.mark.parametrize(
        ("form", "right", "wrong"),
        [
            ("tls_registry", "trust", None),
            ("mutual_tls_registry", "client_trust", "trust"),
            ("basic_registry", "basic_access", "trust"),
        ],
    )
    def test_skopeo_reaches_every_form_of_registry(
        self,
        request: pytest.FixtureRequest,
        image: Image,
        form: str,
        right: str,
        wrong: str | None,
    ) -> None:
        """Certificates by a directory, credentials by a file; without them it does not."""
        target = f"{request.getfixturevalue(form).address}/reached:v1"
        with pytest.raises(AssertionError, match=r"certificate|unauthorized|authentication"):
            push(image, target, access=request.getfixturevalue(wrong) if wrong else Access())
        assert push(image, target, access=request.getfixturevalue(right)) == image.digest


@pytest.fixture
def basic_access(basic_registry: DockerRegistry, trust: Access, tmp_path: Path) -> Access:
    """Give skopeo what `basic_registry` asks for."""
    passwords = {basic_registry.address: ("someone", "secret")}
    auths = write_auths(tmp_path / "auths", passwords=passwords)
    return Access(certificates=trust.certificates, authfile=auths)


class TestCredentialHelper:
    """The credential helper, by its protocol and as skopeo uses it."""

    def test_credential_helper_speaks_the_protocol(
        self, credential_helper: CredentialHelper
    ) -> None:
        """get, store, erase and list, as docker-credential-helpers has them."""

        def run(action: str, payload: str = "") -> tuple[int, str]:
            done = subprocess.run(
                ["docker-credential-brolgatest", action],
                input=payload,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stderr == ""
            return done.returncode, done.stdout

        entry = {"ServerURL": "localhost:5000", "Username": "me", "Secret": "s"}
        assert run("get", "localhost:5000") == (1, "credentials not found in native keychain\n")
        assert run("store", json.dumps(entry)) == (0, "")
        assert json.loads(run("get", "localhost:5000\n")[1]) == entry
        assert json.loads(run("list")[1]) == {"localhost:5000": "me"}
        assert run("erase", "localhost:5000") == (0, "")
        assert credential_helper.known() == {}
        assert credential_helper.calls() == [
            "get localhost:5000",
            "store localhost:5000",
            "get localhost:5000",
            "list",
            "erase localhost:5000",
        ]

    def test_skopeo_asks_the_credential_helper(
        self,
        credential_helper: CredentialHelper,
        basic_registry: DockerRegistry,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """`credHelpers` in the config names it for one registry."""
        address = basic_registry.address
        credential_helper.add(address, "someone", "secret")
        auths = write_auths(tmp_path / "auths", helpers={address: credential_helper.name})
        access = Access(certificates=trust.certificates, authfile=auths)
        push(image, f"{address}/helped:v1", access=access)
        assert set(credential_helper.calls()) == {f"get {address}"}
