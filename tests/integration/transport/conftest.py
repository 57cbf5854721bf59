"""Fixtures: a transport that must leave nothing open, client certificates."""

from __future__ import annotations

import gc
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import TEST_TIMEOUT_S
from tests.loops import DRIVERS

from brolga.transport import Transport, connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Authority

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxies of the environment."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=DRIVERS, autouse=True)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test with both drivers: the module's `Transport` is the one of the parameter."""
    monkeypatch.setattr(request.module, "Transport", DRIVERS[request.param], raising=False)
    name: str = request.param
    return name


@pytest.fixture
def client(driver: str) -> Iterator[Transport]:
    """Make a transport; nothing of it may be left open."""
    with DRIVERS[driver](timeout_s=TEST_TIMEOUT_S) as transport:
        yield transport
    gc.collect()  # what was not closed says so now


@pytest.fixture
def short_cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the cleanup timeout: the response does not come here."""
    monkeypatch.setattr(connection, "CLEANUP_TIMEOUT_S", 0.1)


@dataclass(frozen=True)
class Pair:
    """A client certificate with its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def both(self) -> bytes:
        """The certificate and its key, as one file has them."""
        return self.certificate.read_bytes() + self.key.read_bytes()


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    """Make a client certificate that the authority signed."""
    pair = Pair(authority.directory / "client.pem", authority.directory / "client.key")
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf"
    for command in (
        f"req {new_key} -subj /CN=someone -keyout client.key -out client.csr",
        "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out client.pem",
        f"req -x509 {new_key} -subj /CN=stranger -days 2 -keyout stranger.key -out stranger.pem",
        "ec -in client.key -aes128 -passout pass:secret -out encrypted.key",
    ):
        subprocess.run(
            ["openssl", *command.split()],
            cwd=authority.directory,
            check=True,
            capture_output=True,
        )
    return pair
