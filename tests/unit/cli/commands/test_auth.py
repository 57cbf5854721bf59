"""cli.auth: logins, and what they give. Against real registries: tests/real/test_auth.py."""

from __future__ import annotations

import json
import os
import pty
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.raw_server import Peer, serve_script

from brolga.protocol import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from tests.unit.cli.conftest import Brolga

SECRET = "s3cr3t"  # noqa: S105 - of these tests
HUB = "https://index.docker.io/v1/"
NOT_FOUND = "credentials not found in native keychain\n"


@contextmanager
def stdin_of(data: bytes) -> Iterator[TextIOWrapper]:
    """Give a stdin with a descriptor that is no terminal, and these bytes."""
    end, start = os.pipe()
    os.write(start, data)
    os.close(start)
    with os.fdopen(end) as stdin:
        yield stdin


@contextmanager
def terminal() -> Iterator[TextIOWrapper]:
    """Give a stdin that is a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        yield stdin
    os.close(ours)


def asking(name: str, password: str, seen: list[str] | None = None) -> Callable[[Peer], None]:
    """Return a registry that asks for Basic credentials, and knows these."""
    basic = "Basic " + b64encode(f"{name}:{password}".encode()).decode()

    def script(peer: Peer) -> None:
        while head := peer.head():
            given = peer.header("authorization", head)
            if seen is not None:
                seen.extend(given)
            if given == [basic]:
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

    def test_what_the_registry_knows_is_stored(self, brolga: Brolga, docker: Path) -> None:
        """Nothing on stdout; where it is, and that it is in plain text, on stderr."""
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

    def test_what_it_does_not_know_is_not(self, brolga: Brolga, docker: Path) -> None:
        """Exit code 4, and no file."""
        with serve_script(asking("me", "else")) as address, stdin_of(SECRET.encode()) as stdin:
            outcome = brolga("auth", "login", address, "-u", "me", "--password-stdin", stdin=stdin)
        assert (outcome.code, outcome.out) == (4, "")
        assert outcome.err.endswith(
            f"check the name and the password; nothing was stored for {address}\n"
        )
        assert SECRET not in outcome.err
        assert not docker.exists()

    def test_the_environment_s_credentials_are_not_used(
        self, brolga: Brolga, docker: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is checked is what is stored."""
        monkeypatch.setenv("BROLGA_USERNAME", "known")
        monkeypatch.setenv("BROLGA_PASSWORD", "right")
        seen: list[str] = []
        script = asking("known", "right", seen)
        with serve_script(script) as address, stdin_of(SECRET.encode()) as stdin:
            outcome = brolga("auth", "login", address, "-u", "me", "--password-stdin", stdin=stdin)
        assert outcome.code == 4
        assert set(seen) == {"Basic " + b64encode(f"me:{SECRET}".encode()).decode()}
        assert not docker.exists()

    def test_a_terminal_is_asked(
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

    def test_a_helper_keeps_it(
        self, brolga: Brolga, docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is said where it is; a registry that lets everybody in has checked nothing."""
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
    def test_what_makes_no_sense_is_usage(
        self, brolga: Brolga, docker: Path, arguments: list[str], data: str, line: str
    ) -> None:
        """Exit code 2; nobody was asked, and the password is not shown."""
        with stdin_of(data.encode()) as stdin:
            outcome = brolga("auth", "login", "127.0.0.1:1", *arguments, stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith(f"brolga: {line}")
        assert SECRET not in outcome.err
        assert not docker.exists()

    @pytest.mark.parametrize("registry", ["nothing", "a b", "registry.example/team/app"])
    def test_what_is_no_registry_is_usage(self, brolga: Brolga, registry: str) -> None:
        """HOST or HOST:PORT; the line says so."""
        with stdin_of(b"x") as stdin:
            outcome = brolga("auth", "login", registry, "-u", "me", "--password-stdin", stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert "write registry.example or localhost:5000" in outcome.err

    def test_an_empty_answer_is_usage(
        self, brolga: Brolga, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Enter alone is no password."""
        monkeypatch.setattr("getpass.getpass", lambda _prompt: "")
        with terminal() as stdin:
            outcome = brolga("auth", "login", "127.0.0.1:1", "-u", "me", stdin=stdin)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("brolga: the password is empty")


class TestLogout:
    """`brolga auth logout`."""

    def test_the_entry_goes_and_nothing_else(self, brolga: Brolga, docker: Path) -> None:
        """Said on stderr; a second time it is no error."""
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
        assert again.err == "there were no credentials for registry.example\n"

    def test_docker_hub_by_docker_s_own_name(self, brolga: Brolga, docker: Path) -> None:
        """`https://index.docker.io/v1/` is docker.io."""
        stored(docker, **{HUB: entry("me", SECRET)})
        assert brolga("auth", "logout", HUB).err.startswith("logged out of docker.io: ")


class TestGet:
    """`brolga auth get`, as a credential helper."""

    @pytest.mark.parametrize("by_stdin", [True, False])
    def test_name_and_secret_are_one_object(
        self, brolga: Brolga, docker: Path, by_stdin: bool
    ) -> None:
        """docker-credential-helpers: the server by stdin; ServerURL is it as it was named."""
        stored(docker, **{HUB: entry("me", SECRET)})
        with stdin_of(f"{HUB}\n".encode()) as stdin:
            outcome = brolga("auth", "get", *([] if by_stdin else [HUB]), stdin=stdin)
        assert (outcome.code, outcome.err) == (0, "")
        assert json.loads(outcome.out) == {"ServerURL": HUB, "Username": "me", "Secret": SECRET}

    def test_an_identity_token_has_a_name_of_its_own(self, brolga: Brolga, docker: Path) -> None:
        """`<token>` says what the secret is."""
        stored(docker, **{"registry.example": {"identitytoken": SECRET}})
        found: dict[str, Any] = json.loads(brolga("auth", "get", "registry.example").out)
        assert (found["Username"], found["Secret"]) == ("<token>", SECRET)

    def test_a_bearer_token_is_no_pair(self, brolga: Brolga, docker: Path) -> None:
        """Exit code 4, and the verb that prints it."""
        stored(docker, **{"registry.example": {"registrytoken": SECRET}})
        outcome = brolga("auth", "get", "registry.example")
        assert (outcome.code, outcome.out) == (4, "")
        assert "`brolga auth token -H` prints it" in outcome.err
        assert SECRET not in outcome.err

    def test_nothing_is_said_as_helpers_say_it(self, brolga: Brolga, docker: Path) -> None:
        """On stdout, where docker looks; exit code 3."""
        assert not docker.exists()
        outcome = brolga("auth", "get", "registry.example")
        assert (outcome.code, outcome.out, outcome.err) == (3, NOT_FOUND, "")

    def test_a_terminal_names_no_registry(self, brolga: Brolga) -> None:
        """Who forgot it does not wait for ever."""
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

    def test_it_is_for_the_scopes_that_are_asked_for(self, brolga: Brolga) -> None:
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

    def test_a_registry_that_asks_for_nothing(self, brolga: Brolga) -> None:
        """There is no token to print."""

        def script(peer: Peer) -> None:
            while peer.head():
                peer.answer(200, b"{}")

        with serve_script(script) as address:
            outcome = brolga("auth", "token", f"{address}/app")
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err == f"brolga: {address} asks for no credentials: no token\n"

    def test_a_registry_that_knows_passwords_alone(
        self, brolga: Brolga, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its header is Basic, for -H; a token it has none."""
        monkeypatch.setenv("BROLGA_USERNAME", "me")
        monkeypatch.setenv("BROLGA_PASSWORD", SECRET)
        with serve_script(asking("me", SECRET)) as address:
            token = brolga("auth", "token", f"{address}/app")
            header = brolga("auth", "token", "-H", f"{address}/app")
        assert (token.code, token.out) == (1, "")
        assert "uses no tokens, only name and password; -H prints its header" in token.err
        assert header.out == f"Authorization: {Credentials('me', SECRET).basic}\n"


def test_the_group_says_what_there_is(brolga: Brolga) -> None:
    """Help, and a word for who mistypes."""
    listed = brolga("auth", "--help").out
    for name in ("login", "logout", "get", "token"):
        assert f"\n  {name} " in listed
    outcome = brolga("auth", "logn")
    assert outcome.code == 2
    assert "Did you mean 'login'" in outcome.err
