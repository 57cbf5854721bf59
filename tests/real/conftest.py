"""Fixtures of the tests with foreign programs: registries, tokens, a credential helper."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from tests.command import brolga, restore_signal_handlers  # noqa: F401 - fixtures
from tests.real.cutting import proxy
from tests.real.foreign import (
    Access,
    certificates,
    docker_registry,
    htpasswd,
    make_image,
    mutual_tls,
    tls,
)
from tests.real.tokens import Account, TokenKey, token_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry, Image
    from tests.real.tokens import TokenServer

ACCOUNTS = {
    "someone": Account("secret", ("repository:team/*:pull,push,delete", "registry:catalog:*")),
    "reader": Account("secret too", ("repository:team/*:pull",)),
}
"""The accounts of the token server; all clients may pull `public/*`."""


# Shared by all tests: each uses its own repositories.


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Write an image of three layers for one platform by hand."""
    return make_image(tmp_path_factory.mktemp("image") / "layout", size=3_000_000)


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Run a docker-registry by http, for everybody; it allows to delete."""
    with docker_registry(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture(scope="session")
def tls_registry(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[DockerRegistry]:
    """Run one by https, with a certificate of the tests' authority."""
    with docker_registry(tmp_path_factory.mktemp("tls"), http=tls(authority)) as running:
        yield running


@pytest.fixture(scope="session")
def mutual_tls_registry(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[DockerRegistry]:
    """Run one that wants a certificate of the client's, by the same authority."""
    directory = tmp_path_factory.mktemp("mutual-tls")
    with docker_registry(directory, http=mutual_tls(authority)) as running:
        yield running


@pytest.fixture(scope="session")
def basic_registry(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[DockerRegistry]:
    """Run one by https that knows `someone` with `secret`."""
    directory = tmp_path_factory.mktemp("basic")
    auth = htpasswd(directory, someone="secret")
    with docker_registry(directory, http=tls(authority), auth=auth) as running:
        yield running


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Access:
    """Give skopeo the tests' authority."""
    return Access(certificates=certificates(authority, tmp_path_factory.mktemp("trust") / "certs"))


@pytest.fixture(scope="session")
def client_trust(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Access:
    """Give skopeo the tests' authority, and a client's certificate by it.

    `client.cert` and `client.key` in its directory are for other clients too.
    """
    directory = tmp_path_factory.mktemp("client-trust") / "certs"
    return Access(certificates=certificates(authority, directory, client=True))


@pytest.fixture(scope="session")
def token_key(tmp_path_factory: pytest.TempPathFactory) -> TokenKey:
    """Make the key that signs tokens."""
    return TokenKey(tmp_path_factory.mktemp("token-key"))


# A test's own: it may kill, reconfigure and count.


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """Run a docker-registry by http for one test, which may kill it and start it again."""
    with docker_registry(tmp_path / "own-registry") as running:
        yield running


@pytest.fixture
def front(plain_registry: DockerRegistry) -> Iterator[Proxy]:
    """Run a proxy in front of `plain_registry`, which counts requests and cuts connections."""
    with proxy(plain_registry.address) as running:
        yield running


@pytest.fixture
def tokens(token_key: TokenKey, authority: Authority) -> Iterator[TokenServer]:
    """Run a token server by https that knows `ACCOUNTS`."""
    with token_server(
        token_key,
        accounts=ACCOUNTS,
        public=("repository:public/*:pull",),
        context=authority.server_context(),
    ) as running:
        yield running


@pytest.fixture
def token_registry(
    tmp_path: Path, authority: Authority, tokens: TokenServer
) -> Iterator[DockerRegistry]:
    """Run a docker-registry by https that trusts `tokens`."""
    directory = tmp_path / "token-registry"
    with docker_registry(directory, http=tls(authority), auth=tokens.section()) as running:
        yield running


@pytest.fixture
def credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialHelper:
    """Put `docker-credential-brolgatest` on PATH; it knows nothing yet."""
    helper = CredentialHelper(tmp_path / "credential-helper")
    monkeypatch.setenv("PATH", str(helper.directory), prepend=os.pathsep)
    return helper


_HELPER = """\
#!{python} -I
import json, pathlib, sys
here = pathlib.Path(__file__).parent
file, calls = here / "credentials.json", here / "calls"
known = json.loads(file.read_text())
action = sys.argv[1]
said = "" if action == "list" else sys.stdin.read().strip()
server = json.loads(said)["ServerURL"] if action == "store" else said
with calls.open("a") as log:
    log.write(f"{{action}} {{server}}".strip() + chr(10))
if action == "list":
    print(json.dumps({{name: entry["Username"] for name, entry in known.items()}}))
elif action == "store":
    known[server] = json.loads(said)
elif server not in known:
    sys.exit(print("credentials not found in native keychain") or 1)
elif action == "get":
    print(json.dumps(known[server]))
elif action == "erase":
    del known[server]
file.write_text(json.dumps(known))
"""


class CredentialHelper:
    """The program `docker-credential-brolgatest` in a directory, on a JSON file beside it.

    It speaks the protocol of docker-credential-helpers: get, store, erase, list.
    """

    name = "brolgatest"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._calls = directory / "calls"
        self._calls.touch()
        self._file = directory / "credentials.json"
        self._file.write_text("{}")
        program = directory / f"docker-credential-{self.name}"
        program.write_text(_HELPER.format(python=sys.executable))
        program.chmod(0o755)

    def add(self, server: str, username: str, secret: str) -> None:
        """Let it know credentials."""
        entry = {"ServerURL": server, "Username": username, "Secret": secret}
        self._file.write_text(json.dumps({**self.known(), server: entry}))

    def known(self) -> dict[str, dict[str, str]]:
        """Return its credentials by the name of the server."""
        known: dict[str, dict[str, str]] = json.loads(self._file.read_text())
        return known

    def calls(self) -> list[str]:
        """Return how it was called, in order: the action and the server."""
        return self._calls.read_text().splitlines()
