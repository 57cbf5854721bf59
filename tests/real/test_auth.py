"""Logins, tokens and certificates at a registry that asks for them, and their errors.

docker-registry over TLS, with htpasswd and with tokens; the command as a process of its own. Each
failure is one line with its side, its cause and what to do, and an exit code; no secret is in any
output, at any verbosity.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.processes import BROLGA, UNTAGGED_WARNING
from tests.raw_server import Peer, serve_script
from tests.real.foreign import (
    Access,
    certificates,
    docker_registry,
    htpasswd,
    make_image,
    push,
    require,
    skopeo,
    tls,
    write_auths,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.conftest import CredentialHelper
    from tests.real.foreign import DockerRegistry
    from tests.real.tokens import TokenServer

pytestmark = pytest.mark.real

NAME, PASSWORD = "someone", "hunter2-of-the-tests"
MIB = 1 << 20
BEYOND_LOOPBACK = "0.0.0.0"  # noqa: S104 - nothing is bound to it; Linux connects to itself
"""A host that is not a loopback name, and leads there."""


@dataclass(frozen=True)
class Done:
    """How a run of the command ended."""

    code: int
    out: str
    err: str


class Brolga:
    """The command, in a home of its own; what it prints never has a secret."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.docker = home / ".docker" / "config.json"
        self.secrets = {PASSWORD, base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()}
        self.ca: list[str] = []

    def __call__(
        self, *arguments: str, data: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run it with bytes on stdin, and with variables of the environment."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DOCKER_CONFIG", "XDG_CONFIG_HOME"}
        }
        done = subprocess.run(
            [*BROLGA, *arguments],
            input=data,
            capture_output=True,
            check=False,
            env={**kept, "HOME": str(self.home), **(env or {})},
        )
        printed = (done.stdout + done.stderr).decode()
        for secret in self.secrets:
            assert secret not in printed
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def fails(
        self, code: int, *arguments: str, data: bytes = b"", env: Mapping[str, str] | None = None
    ) -> str:
        """Run it; it ends with this exit code and one line, which is returned.

        Then again with all that it can tell: no secret is in that either.
        """
        done = self(*arguments, data=data, env=env)
        assert (done.code, done.out) == (code, ""), done.err
        assert done.err.startswith("brolga: ")
        assert done.err.count("\n") == 1
        loud = self("-vv", *arguments, data=data, env=env)
        assert (loud.code, loud.out) == (code, "")
        return done.err

    def login(self, address: str) -> list[str]:
        """Return the arguments of a login, whose password comes by stdin."""
        return ["auth", "login", address, "-u", NAME, "--password-stdin", *self.ca]

    def layer(self, repository: str) -> list[str]:
        """Return the arguments that push stdin as a layer."""
        return ["layer", "push", repository, "--compression", "none", *self.ca]


@pytest.fixture
def brolga(tmp_path: Path, authority: Authority) -> Brolga:
    """Give the command, which trusts the tests' authority."""
    brolga = Brolga(tmp_path / "home")
    brolga.ca = ["--ca-cert", str(authority.ca_cert)]
    return brolga


@pytest.fixture
def locked(tmp_path: Path, authority: Authority) -> Iterator[DockerRegistry]:
    """Run a registry by https with htpasswd."""
    directory = tmp_path / "locked"
    auth = htpasswd(directory, **{NAME: PASSWORD})
    with docker_registry(directory, http=tls(authority), auth=auth) as running:
        yield running


@pytest.fixture
def tokens(tokens: TokenServer) -> TokenServer:
    """Give a token server at which `someone` has the password that must not be printed."""
    account = tokens.accounts[NAME]
    tokens.accounts[NAME] = type(account)(PASSWORD, account.grants)
    return tokens


def known_to(tokens: TokenServer, account: str, password: str) -> dict[str, str]:
    """Return the variables with which the command asks as an account."""
    assert tokens.account_of(password, account)
    return {"BROLGA_USERNAME": account, "BROLGA_PASSWORD": password}


class TestLogin:
    """`brolga auth login`: checked by the registry, stored in docker's file, used from then on."""

    def test_login_writes_docker_config_that_skopeo_reads(
        self, brolga: Brolga, locked: DockerRegistry
    ) -> None:
        """After a logout neither of the two is let in."""
        name = f"{locked.address}/team/app"
        assert "UNAUTHORIZED" in brolga.fails(4, *brolga.layer(name), data=b"data")
        done = brolga(*brolga.login(locked.address), data=f"{PASSWORD}\n".encode())
        assert (done.code, done.out) == (0, "")
        assert done.err.splitlines()[0] == (
            f"logged in to {locked.address}: the credentials are in ~/.docker/config.json"
        )
        assert "keeps the password unencrypted" in done.err
        assert brolga.docker.stat().st_mode & 0o777 == 0o600
        assert brolga(*brolga.layer(name), data=b"data").code == 0
        typed = skopeo("login", "--get-login", "--authfile", brolga.docker, locked.address)
        assert typed == f"{NAME}\n"
        done = brolga("auth", "logout", locked.address)
        assert (done.code, done.out) == (0, "")
        assert json.loads(brolga.docker.read_text()) == {"auths": {}}
        brolga.fails(4, *brolga.layer(name), data=b"data")

    def test_login_of_skopeo_is_found(
        self, brolga: Brolga, locked: DockerRegistry, trust: Access
    ) -> None:
        """The file is podman's."""
        require("skopeo")
        auth = brolga.home / "auth.json"
        flags = [*Access(certificates=trust.certificates, authfile=auth).flags(), "-u", NAME]
        subprocess.run(
            ["skopeo", "login", *flags, "--password-stdin", locked.address],
            input=PASSWORD.encode(),
            capture_output=True,
            check=True,
        )
        name = f"{locked.address}/team/app"
        done = brolga(*brolga.layer(name), data=b"data", env={"REGISTRY_AUTH_FILE": str(auth)})
        assert (done.code, done.err) == (0, UNTAGGED_WARNING)

    @pytest.mark.parametrize("typed", ["wrong\n", f"{PASSWORD} \n"])
    def test_login_stores_no_wrong_password(
        self, brolga: Brolga, locked: DockerRegistry, typed: str
    ) -> None:
        """The registry refuses it: exit code 4."""
        line = brolga.fails(4, *brolga.login(locked.address), data=typed.encode())
        assert line.startswith("brolga: registry: ")
        assert "401" in line
        assert line.endswith(
            f"; check the name and the password; nothing was stored for {locked.address}\n"
        )
        assert not brolga.docker.exists()

    def test_login_stores_in_the_credential_helper(
        self, brolga: Brolga, locked: DockerRegistry, credential_helper: CredentialHelper
    ) -> None:
        """`credsStore` names a program on PATH: the file has no secret, and each verb asks it."""
        brolga.docker.parent.mkdir()
        brolga.docker.write_text(json.dumps({"credsStore": credential_helper.name}))
        done = brolga(*brolga.login(locked.address), data=PASSWORD.encode())
        assert (done.code, done.out) == (0, "")
        assert done.err == (
            f"logged in to {locked.address}: the credentials are in "
            f"docker-credential-{credential_helper.name}\n"
        )
        assert PASSWORD not in brolga.docker.read_text()
        assert credential_helper.known()[locked.address]["Secret"] == PASSWORD
        assert credential_helper.calls() == [f"store {locked.address}"]
        assert brolga(*brolga.layer(f"{locked.address}/x"), data=b"data").code == 0
        assert credential_helper.calls()[1:] == [f"get {locked.address}"]
        assert brolga("auth", "logout", locked.address).code == 0
        assert credential_helper.known() == {}

    def test_missing_credential_helper_is_an_error(
        self, brolga: Brolga, locked: DockerRegistry
    ) -> None:
        """To go on without credentials would hide it."""
        brolga.docker.parent.mkdir()
        brolga.docker.write_text(json.dumps({"credHelpers": {locked.address: "none-here"}}))
        line = brolga.fails(4, *brolga.layer(f"{locked.address}/x"), data=b"data")
        assert line.startswith("brolga: local: docker-credential-none-here is not on PATH; ")

    def test_login_checks_the_password_at_the_token_server(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer
    ) -> None:
        """It asks for a token without a scope; a wrong password is refused."""
        line = brolga.fails(4, *brolga.login(token_registry.address), data=b"wrong")
        assert line.startswith("brolga: registry: the token server answered ")
        assert {(asked.grant, asked.scopes, asked.status) for asked in tokens.asked} == {
            ("basic", (), 401)
        }
        tokens.asked.clear()
        done = brolga(*brolga.login(token_registry.address), data=PASSWORD.encode())
        assert (done.code, done.out) == (0, "")
        assert [(asked.account, asked.scopes) for asked in tokens.asked] == [(NAME, ())]
        assert brolga(*brolga.layer(f"{token_registry.address}/team/x"), data=b"data").code == 0

    def test_login_warns_if_the_registry_needs_no_credentials(
        self, brolga: Brolga, plain_registry: DockerRegistry
    ) -> None:
        """The credentials are stored unchecked."""
        done = brolga(*brolga.login(plain_registry.address), data=b"whatever")
        assert done.code == 0
        assert "lets everybody in: the password was not checked" in done.err
        assert brolga("auth", "logout", plain_registry.address).code == 0

    def test_stored_password_with_a_line_break_is_an_error(
        self, brolga: Brolga, locked: DockerRegistry
    ) -> None:
        """`echo PASSWORD | base64` has one: no registry would accept it, and none is asked."""
        brolga.docker.parent.mkdir()
        write_auths(brolga.docker, passwords={locked.address: (NAME, f"{PASSWORD}\n")})
        line = brolga.fails(4, *brolga.layer(f"{locked.address}/x"), data=b"data")
        assert line == (
            f"brolga: local: ~/.docker/config.json: auths['{locked.address}'] has a control "
            "character (a line break?) in the password; log in again, or correct the file\n"
        )


class TestAuthGet:
    """`brolga auth get` and `brolga auth token`, whose results are secrets."""

    def test_auth_get_speaks_the_credential_helper_protocol(self, brolga: Brolga) -> None:
        """The server by stdin; the answer is a JSON object, or the words for "not found"."""
        brolga.docker.parent.mkdir()
        write_auths(brolga.docker, passwords={"registry.example": (NAME, PASSWORD)})
        brolga.secrets.clear()
        expected = {"ServerURL": "registry.example", "Username": NAME, "Secret": PASSWORD}
        for arguments, data in ((["registry.example"], b""), ([], b"registry.example\n")):
            done = brolga("auth", "get", *arguments, data=data)
            assert (done.code, json.loads(done.out), done.err) == (0, expected, "")
        done = brolga("auth", "get", data=b"other.example")
        assert (done.code, done.out, done.err) == (
            3,
            "credentials not found in native keychain\n",
            "",
        )

    def test_auth_token_has_the_scope_that_was_asked_for(
        self,
        brolga: Brolga,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        authority: Authority,
    ) -> None:
        """As crane: `auth token -H` is a header for curl; --push and --mount widen the scope."""
        name = f"{token_registry.address}/team/app"
        who = known_to(tokens, NAME, PASSWORD)
        assert brolga(*brolga.layer(name), data=b"data", env=who).code == 0
        tokens.asked.clear()
        flags = ["--push", "-m", f"{token_registry.address}/team/other", *brolga.ca]
        done = brolga("auth", "token", name, *flags, env=who)
        assert (done.code, done.err) == (0, "")
        assert set(json.loads(done.out)) == {"token"}
        assert [asked.scopes for asked in tokens.asked] == [
            ("repository:team/app:pull,push", "repository:team/other:pull")
        ]
        header = brolga("auth", "token", "-H", name, *brolga.ca, env=who).out.strip()
        answer = asked(token_registry.address, "/v2/team/app/tags/list", header, authority)
        assert answer == 404  # it has no tag yet; without the token:
        assert asked(token_registry.address, "/v2/team/app/tags/list", "", authority) == 401

    def test_auth_token_prints_the_basic_header_without_a_token_server(
        self, brolga: Brolga, locked: DockerRegistry
    ) -> None:
        """Name and password are all it needs; the header is a secret."""
        who = {"BROLGA_USERNAME": NAME, "BROLGA_PASSWORD": PASSWORD}
        name = f"{locked.address}/x"
        line = brolga.fails(1, "auth", "token", name, *brolga.ca, env=who)
        assert "uses no tokens" in line
        brolga.secrets.clear()
        done = brolga("auth", "token", "-H", name, *brolga.ca, env=who)
        basic = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        assert done.out == f"Authorization: Basic {basic}\n"


def asked(address: str, path: str, header: str, authority: Authority) -> int:
    """Make one call with a header, as curl would; return the status."""
    context = ssl.create_default_context(cafile=str(authority.ca_cert))
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context)
    name, _, value = header.partition(": ")
    try:
        connection.request("GET", path, headers={name: value} if header else {})
        return connection.getresponse().status
    finally:
        connection.close()


class TestTokens:
    """Tokens of a token server: which are asked for, how, and when again."""

    def test_push_exits_with_4_if_the_token_lacks_push(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer
    ) -> None:
        """The source's bytes do not go out."""
        brolga.secrets.add("secret too")
        who = known_to(tokens, "reader", "secret too")
        name = f"{token_registry.address}/team/app"
        line = brolga.fails(4, *brolga.layer(name), data=b"data", env=who)
        assert line.startswith("brolga: registry: ")
        assert not list(token_registry.storage.rglob("_uploads"))

    def test_mount_asks_for_one_token_for_both_repositories(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer, tmp_path: Path
    ) -> None:
        """The base's blobs are mounted, and none is sent."""
        who = known_to(tokens, NAME, PASSWORD)
        brolga.docker.parent.mkdir()
        write_auths(brolga.docker, passwords={token_registry.address: (NAME, PASSWORD)})
        source, target = (f"{token_registry.address}/team/{part}:1" for part in ("a", "b"))
        access = Access(tls=False, authfile=brolga.docker)
        push(make_image(tmp_path / "layout"), source, access=access)
        tokens.asked.clear()
        done = brolga("-v", "copy", source, target, *brolga.ca, env=who)
        assert done.code == 0
        assert ("repository:team/b:pull,push", "repository:team/a:pull") in {
            asked.scopes for asked in tokens.asked
        }
        answers = [line for line in done.err.splitlines() if "POST" in line and ": 201, " in line]
        assert len(answers) == 4  # three layers and the config
        assert "PATCH" not in done.err

    def test_layer_push_renews_a_token_that_expires_in_mid_stream(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer
    ) -> None:
        """The PATCH is refused while its body goes out: it goes out again with a new token."""
        who = known_to(tokens, NAME, PASSWORD)
        name = f"{token_registry.address}/team/app"
        data = os.urandom(12 * MIB)
        # A token for each call, so that it is known which one is refused.
        tokens.expires_in = 1e-6
        first = brolga("-v", *brolga.layer(name), data=data, env=who)
        assert first.code == 0
        # The last one before the PATCH is the one that it goes out with.
        tokens.issue_expired(times=1, after=tokens_before(first.err, "PATCH") - 1)
        again = brolga("-v", *brolga.layer(f"{name}2"), data=data, env=who)
        assert again.code == 0
        assert statuses(again.err, "PATCH") == ["401", "202"]
        assert again.out.partition("@")[2] == first.out.partition("@")[2]

    def test_refresh_token_goes_by_post(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer
    ) -> None:
        """Docker's `identitytoken`, by the OAuth2 form."""
        token = tokens.refresh_token(NAME)
        brolga.secrets.add(token)
        brolga.docker.parent.mkdir()
        write_auths(brolga.docker, identity_tokens={token_registry.address: token})
        name = f"{token_registry.address}/team/app"
        done = brolga(*brolga.layer(name), data=b"data")
        assert (done.code, done.err) == (0, UNTAGGED_WARNING)
        assert {(asked.method, asked.grant, asked.account) for asked in tokens.asked} == {
            ("POST", "refresh_token", NAME)
        }
        tokens.revoke()
        line = brolga.fails(4, *brolga.layer(name), data=b"data")
        assert line.startswith("brolga: registry: the token server answered POST ")

    @pytest.mark.parametrize("status", [404, 405])
    def test_refresh_token_goes_by_get_if_post_is_404(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer, status: int
    ) -> None:
        """Docker tries POST first, then GET."""
        tokens.oauth = status
        brolga.docker.parent.mkdir()
        entry = {
            "auth": base64.b64encode(f"{NAME}:".encode()).decode(),
            "identitytoken": PASSWORD,
        }
        brolga.docker.write_text(json.dumps({"auths": {token_registry.address: entry}}))
        done = brolga(*brolga.layer(f"{token_registry.address}/team/app"), data=b"data")
        assert (done.code, done.err) == (0, UNTAGGED_WARNING)
        assert [(asked.method, asked.account, asked.status) for asked in tokens.asked] == [
            ("POST", "", status),
            ("GET", NAME, 200),
        ]

    def test_anonymous_token_pulls_public_repositories(
        self, brolga: Brolga, token_registry: DockerRegistry, tokens: TokenServer, tmp_path: Path
    ) -> None:
        """A push is refused, and the error says what to do."""
        tokens.public = ("repository:public/*:pull",)
        admin = tokens.accounts[NAME]
        tokens.accounts[NAME] = type(admin)(PASSWORD, ("repository:*:*", "repository:*:pull,push"))
        write_auths(tmp_path / "auth.json", passwords={token_registry.address: (NAME, PASSWORD)})
        image = make_image(tmp_path / "layout")
        access = Access(tls=False, authfile=tmp_path / "auth.json")
        for part in ("public", "private"):
            push(image, f"{token_registry.address}/{part}/app:1", access=access)
        done = brolga("digest", f"{token_registry.address}/public/app:1", *brolga.ca)
        assert (done.code, done.out) == (0, f"{image.digest}\n")
        line = brolga.fails(4, "digest", f"{token_registry.address}/private/app:1", *brolga.ca)
        assert "; log in with brolga auth login" in line


def statuses(log: str, method: str) -> list[str]:
    """Return the answers to a method in a log of -v."""
    return re.findall(f"(?m)^brolga.transport: {method} .*: ([0-9]+), ", log)


def tokens_before(log: str, method: str) -> int:
    """Count the tokens that a log of -v shows before the first call of a method."""
    lines = log.splitlines()
    first = next(number for number, line in enumerate(lines) if method in line)
    return sum("/token: 200, " in line for line in lines[:first])


class TestConnection:
    """TLS, plain http, and a server that is not a registry."""

    def test_untrusted_certificate_exits_with_5(
        self, brolga: Brolga, tls_registry: DockerRegistry
    ) -> None:
        """The error has the cause and the two solutions; --insecure is one of them."""
        brolga.ca = []
        name = f"{tls_registry.address}/x"
        line = brolga.fails(5, *brolga.layer(name), data=b"data")
        assert line.startswith("brolga: registry: ")
        assert "the certificate is not trusted" in line
        assert line.endswith("trust its authority with --ca-cert, or use --insecure\n")
        assert brolga(*brolga.layer(name), "--insecure", data=b"data").code == 0

    def test_certs_d_authority_is_trusted(
        self, brolga: Brolga, tls_registry: DockerRegistry, authority: Authority
    ) -> None:
        """containers-certs.d(5): `~/.config/containers/certs.d/HOST:PORT/*.crt`."""
        brolga.ca = []
        certs = brolga.home / ".config/containers/certs.d"
        certificates(authority, certs / tls_registry.address)
        done = brolga(*brolga.layer(f"{tls_registry.address}/x"), data=b"data")
        assert (done.code, done.err) == (0, UNTAGGED_WARNING)

    def test_client_certificate_is_sent_by_flags_or_certs_d(
        self, brolga: Brolga, mutual_tls_registry: DockerRegistry, client_trust: Access
    ) -> None:
        """Without one: exit code 5, and what to do."""
        name = f"{mutual_tls_registry.address}/x"
        line = brolga.fails(5, *brolga.layer(name), data=b"data")
        assert line.endswith("present one that it trusts with --client-cert\n")
        place = client_trust.certificates
        assert place
        flags = ["--client-cert", f"{place}/client.cert", "--client-key", f"{place}/client.key"]
        assert brolga(*brolga.layer(name), *flags, data=b"data").code == 0

    def test_https_only_beyond_loopback(
        self, brolga: Brolga, plain_registry: DockerRegistry
    ) -> None:
        """Nothing goes out in plain text beyond loopback unless the user says so."""
        name = f"{BEYOND_LOOPBACK}:{plain_registry.address.rpartition(':')[2]}/x"
        line = brolga.fails(5, *brolga.layer(name), data=b"data")
        assert line.endswith(
            "check that it speaks TLS; plain http beyond loopback needs --insecure\n"
        )
        assert brolga(*brolga.layer(name), "--insecure", data=b"data").code == 0

    def test_https_follows_a_400_to_http_on_loopback(
        self, brolga: Brolga, tls_registry: DockerRegistry
    ) -> None:
        """Loopback is tried by http first; a TLS server answers that with 400."""
        done = brolga("-v", *brolga.layer(f"{tls_registry.address}/x"), data=b"data")
        assert done.code == 0
        knocks = [line for line in done.err.splitlines() if "/v2/: " in line]
        assert ["GET http://" in line for line in knocks] == [True, False]
        assert ": 400, " in knocks[0]

    def test_html_page_instead_of_a_registry_exits_with_5(self, brolga: Brolga) -> None:
        """The server answers 200 and HTML to everything; no upload begins."""

        def page(peer: Peer) -> None:
            while peer.head():
                peer.answer(200, b"<!DOCTYPE html><html>Welcome!</html>", "Content-Type: text/html")

        with serve_script(page) as address:
            brolga.ca = []
            line = brolga.fails(5, *brolga.layer(f"{address}/x"), data=b"data")
            assert line.startswith("brolga: registry: ")
            assert "/v2/ is text/html: that is not an OCI registry's answer; check the host" in line
            line = brolga.fails(5, "ls", f"{address}/x")
            assert "check the host" in line
