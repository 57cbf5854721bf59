"""brolga auth. Against real registries: tests/real/test_auth.py."""

from __future__ import annotations

import json
import os
import pty
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.command import stdin_of
from tests.raw_server import Peer, serve_script

from brolga.protocol import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from tests.command import Brolga

SECRET = "s3cr3t"  # noqa: S105 - of these tests
HUB = "https://index.docker.io/v1/"
NOT_FOUND = "credentials not found in native keychain\n"


@contextmanager
def terminal() -> Iterator[TextIOWrapper]:
    """Yield a stdin that is a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        yield stdin
    os.close(ours)


def asking(name: str, password: str, seen: list[str] | None = None) -> Callable[[Peer], None]:
    """Return a registry that asks for Basic credentials, and knows these."""
    basic = "Basic " + b64encode(f"{name}:{password}".encode()).decode()

    def script(peer: Peer) -> None:
        while head := peer.head():
            authorization = peer.header("authorization", head)
            if seen is not None:
                seen.extend(authorization)
            if authorization == [basic]:
                peer.answer(200, b"{}")
            else:
                peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')

    return script


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name docker's config.json, which is not there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


def stored(docker: Path, **auths: dict[str, str]) -> None:
    """Write entries into docker's file."""
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(json.dumps({"auths": auths}))


def entry(name: str, password: str) -> dict[str, str]:
    """Return an entry as docker writes it."""
    return {"auth": b64encode(f"{name}:{password}".encode()).decode()}


class TestLogin:
    """`brolga auth login`."""

    def test_login_stores_accepted_credentials(self, brolga: Brolga, docker: Path) -> None:
        """Nothing on stdout; stderr names the file, and warns that it is plain text."""
        with (
            serve_script(asking("me", SECRET)) as address,
            stdin_of(f"{SECRET}\n".encode()) as stdin,
        ):
            outcome = brolga("auth", "login", address, "-u", "me", "--password-stdin", stdin=stdin)
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err == (
            f"logged in to {address}: the credentials are in {docker}\n"
            f"warning: {docker} keeps the password unencrypted; "
            'a credential helper would not: name one there as "credsStore"\n'
        )
        assert json.loads(docker.read_text()) == {"auths": {address: entry("me", SECRET)}}

    def test_login_does_not_store_refused_credentials(self, brolga: Brolga, docker: Path) -> None:
        """Exit code 4, and no file."""
        with serve_script(asking("me", "else")) as address, stdin_of(SECRET.encode()) as stdin:
            outcome = brolga("auth", "login", address, "-u", "me", "--password-stdin", stdin=stdin)
        assert (outcome.code, outcome.out) == (4, "")
        assert outcome.err.endswith(
            f"check the name and the password; nothing was stored for {address}\n"
        )
        assert SECRET not in outcome.err
        assert not docker.exists()

    def test_login_ignores_environment_credentials(
        self, brolga: Brolga, docker: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only the given credentials are checked and stored."""
        monkeypatch.setenv("BROLGA_USERNAME", "known")
        monkeypatch.setenv("BROLGA_PASSWORD", "right")
        seen: list[str] = []
        script = asking("known", "right", seen)
        with serve_script(script) as address, stdin_of(SECRET.encode()) as stdin:
            outcome = brolga("auth", "login", address, "-u", "me", "--password-stdin", stdin=stdin)
        assert outcome.code == 4
        assert set(seen) == {"Basic " + b64encode(f"me:{SECRET}".encode()).decode()}
        assert not docker.exists()

    def test_login_prompts_in_terminal(
        self, brolga: Brolga, docker: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without --password-stdin, by getpass, which shows nothing."""
        asked: list[str] = []

        def getpass(prompt: str) -> str:
            asked.append(prompt)
            return SECRET

        monkeypatch.setattr("getpass.getpass", getpass)
        with serve_script(asking("me", SECRET)) as address, terminal() as stdin:
            outcome = brolga("auth", "login", address, "-u", "me", stdin=stdin)
        assert outcome.code == 0
        assert asked == [f"Password of me at {address}: "]
        assert docker.exists()

    def test_login_stores_in_helper(
        self, brolga: Brolga, docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stderr names the helper, and warns if the registry requires no login."""
        helper = tmp_path / "bin" / "docker-credential-keep"
        helper.parent.mkdir()
        helper.write_text('#!/bin/sh\ncat > "$0.$1"\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", str(helper.parent), prepend=os.pathsep)
        docker.parent.mkdir()
        docker.write_text(json.dumps({"credsStore": "keep"}))

        def script(peer: Peer) -> None:
            while peer.head():
                peer.answer(200, b"{}")

        with serve_script(script) as address, stdin_of(SECRET.encode()) as stdin:
            outcome = brolga("auth", "login", address, "-u", "me", "--password-stdin", stdin=stdin)
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err == (
            f"warning: {address} lets everybody in: the password was not checked\n"
            f"logged in to {address}: the credentials are in docker-credential-keep\n"
        )
        kept = json.loads(helper.with_name("docker-credential-keep.store").read_text())
        assert kept == {"ServerURL": address, "Username": "me", "Secret": SECRET}

    @pytest.mark.parametrize(
        ("arguments", "data", "line"),
        [
            (["-u", "me"], SECRET, "no terminal to ask for the password: pipe it in, with"),
            ([], "", "Missing option '-u' / '--username'"),
            (["-u", "me", "-p", SECRET], "", "No such option"),
            (["-u", "me", "--password", SECRET], "", "there is no --password: anyone who lists"),
            (["-u", "m:e", "--password-stdin"], SECRET, "--username: a name cannot have a colon"),
            (["-u", "", "--password-stdin"], SECRET, "Invalid value for '-u' / '--username'"),
            (["-u", "me", "--password-stdin"], "", "--password-stdin: the first line of stdin"),
            (
                ["-u", "me", "--password-stdin"],
                f"{SECRET}\x00",
                "there is a control character (a line break?) in the password",
            ),
            (
                ["-u", "m\ne", "--password-stdin"],
                SECRET,
                "there is a control character (a line break?) in the username",
            ),
        ],
    )
    def test_login_rejects_invalid_arguments(
        self, brolga: Brolga, docker: Path, arguments: list[str], data: str, line: str
    ) -> None:
        """Exit code 2; no registry was asked, and the password is not shown."""
        with stdin_of(data.encode()) as stdin:
            outcome = brolga("auth", "login", "127.0.0.1:1", *arguments, stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith(f"brolga: {line}")
        assert SECRET not in outcome.err
        assert not docker.exists()

    @pytest.mark.parametrize("registry", ["nothing", "a b", "registry.example/team/app"])
    def test_login_rejects_invalid_registry(self, brolga: Brolga, registry: str) -> None:
        """HOST or HOST:PORT, as the error says."""
        with stdin_of(b"x") as stdin:
            outcome = brolga("auth", "login", registry, "-u", "me", "--password-stdin", stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert "write registry.example or localhost:5000" in outcome.err

    def test_login_rejects_empty_password(
        self, brolga: Brolga, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Enter alone is not a password."""
        monkeypatch.setattr("getpass.getpass", lambda _prompt: "")
        with terminal() as stdin:
            outcome = brolga("auth", "login", "127.0.0.1:1", "-u", "me", stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("brolga: the password is empty")


class TestLogout:
    """`brolga auth logout`."""

    def test_logout_removes_only_the_entry(self, brolga: Brolga, docker: Path) -> None:
        """Reported on stderr; a second time it is not an error."""
        other = entry("me", "else")
        stored(docker, **{"registry.example": entry("me", SECRET), "other.example": other})
        outcome = brolga("auth", "logout", "registry.example")
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err == (
            f"logged out of registry.example: its credentials were in {docker}\n"
        )
        assert json.loads(docker.read_text()) == {"auths": {"other.example": other}}
        again = brolga("auth", "logout", "registry.example")
        assert (again.code, again.out) == (0, "")
        assert again.err == "no credentials were stored for registry.example\n"

    def test_logout_accepts_key_of_docker_hub(self, brolga: Brolga, docker: Path) -> None:
        """`https://index.docker.io/v1/` is docker.io."""
        stored(docker, **{HUB: entry("me", SECRET)})
        assert brolga("auth", "logout", HUB).err.startswith("logged out of docker.io: ")


class TestGet:
    """`brolga auth get`, as a credential helper."""

    @pytest.mark.parametrize("by_stdin", [True, False])
    def test_get_prints_name_and_secret(self, brolga: Brolga, docker: Path, by_stdin: bool) -> None:
        """docker-credential-helpers: the server by stdin; ServerURL is it as it was named."""
        stored(docker, **{HUB: entry("me", SECRET)})
        with stdin_of(f"{HUB}\n".encode()) as stdin:
            outcome = brolga("auth", "get", *([] if by_stdin else [HUB]), stdin=stdin)
        assert (outcome.code, outcome.err) == (0, "")
        assert json.loads(outcome.out) == {"ServerURL": HUB, "Username": "me", "Secret": SECRET}

    def test_get_prints_identity_token(self, brolga: Brolga, docker: Path) -> None:
        """The name is `<token>`."""
        stored(docker, **{"registry.example": {"identitytoken": SECRET}})
        result: dict[str, Any] = json.loads(brolga("auth", "get", "registry.example").out)
        assert (result["Username"], result["Secret"]) == ("<token>", SECRET)

    def test_get_rejects_bearer_token(self, brolga: Brolga, docker: Path) -> None:
        """Exit code 4, with the verb that prints it."""
        stored(docker, **{"registry.example": {"registrytoken": SECRET}})
        outcome = brolga("auth", "get", "registry.example")
        assert (outcome.code, outcome.out) == (4, "")
        assert "`brolga auth token -H` prints it" in outcome.err
        assert SECRET not in outcome.err

    def test_get_without_credentials_prints_text_of_helpers(
        self, brolga: Brolga, docker: Path
    ) -> None:
        """On stdout, which docker reads; exit code 3."""
        assert not docker.exists()
        outcome = brolga("auth", "get", "registry.example")
        assert (outcome.code, outcome.out, outcome.err) == (3, NOT_FOUND, "")

    def test_get_rejects_terminal_as_stdin(self, brolga: Brolga) -> None:
        """The verb does not wait for input."""
        with terminal() as stdin:
            outcome = brolga("auth", "get", stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("brolga: name a registry, or write its name to stdin")


class TestToken:
    """`brolga auth token`."""

    @staticmethod
    def answering(seen: list[str]) -> Callable[[Peer], None]:
        """Return a registry and token server in one."""

        def script(peer: Peer) -> None:
            while head := peer.head():
                host = peer.header("host", head)[0]
                target = head[0].split()[1]
                if target.startswith("/token"):
                    seen.append(target.partition("?")[2])
                    peer.answer(200, json.dumps({"token": SECRET}).encode())
                else:
                    realm = f'WWW-Authenticate: Bearer realm="http://{host}/token",service="x"'
                    peer.answer(401, b"", realm)

        return script

    def test_token_requests_given_scopes(self, brolga: Brolga) -> None:
        """Crane: pull, with --push more, with --mount of others too; -H prints the header."""
        seen: list[str] = []
        with serve_script(self.answering(seen)) as address:
            plain = brolga("auth", "token", f"{address}/app")
            flags = ["--push", "-m", f"{address}/b,{address}/c", "-H"]
            header = brolga("auth", "token", *flags, f"{address}/app")
        assert (plain.code, plain.err, json.loads(plain.out)) == (0, "", {"token": SECRET})
        assert header.out == f"Authorization: Bearer {SECRET}\n"
        more = [f"scope=repository:{name}:pull" for name in ("b", "c")]
        assert [query.replace("%3A", ":").replace("%2C", ",").split("&") for query in seen] == [
            ["scope=repository:app:pull", "service=x"],
            ["scope=repository:app:pull,push", *more, "service=x"],
        ]

    def test_token_fails_without_authentication(self, brolga: Brolga) -> None:
        """Exit code 1."""

        def script(peer: Peer) -> None:
            while peer.head():
                peer.answer(200, b"{}")

        with serve_script(script) as address:
            outcome = brolga("auth", "token", f"{address}/app")
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err == f"brolga: {address} asks for no credentials: no token\n"

    def test_token_fails_with_basic_authentication(
        self, brolga: Brolga, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With -H, the header is Basic."""
        monkeypatch.setenv("BROLGA_USERNAME", "me")
        monkeypatch.setenv("BROLGA_PASSWORD", SECRET)
        with serve_script(asking("me", SECRET)) as address:
            token = brolga("auth", "token", f"{address}/app")
            header = brolga("auth", "token", "-H", f"{address}/app")
        assert (token.code, token.out) == (1, "")
        assert "uses no tokens, only name and password; -H prints its header" in token.err
        assert header.out == f"Authorization: {Credentials('me', SECRET).basic}\n"


def test_auth_prints_help_and_suggestions(brolga: Brolga) -> None:
    """A mistyped verb is corrected."""
    listed = brolga("auth", "--help").out
    for name in ("login", "logout", "get", "token"):
        assert f"\n  {name} " in listed
    outcome = brolga("auth", "logn")
    assert outcome.code == 2
    assert "Did you mean 'login'" in outcome.err
