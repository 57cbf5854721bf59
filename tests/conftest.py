"""Fixtures for all tests: an empty home, a throwaway certificate authority, a registry."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from tests.registries import EmbeddedRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# No example has a deadline: the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# `make soak` draws new examples each time, and a failure prints how to repeat it.
settings.register_profile("soak", max_examples=3000, derandomize=False, print_blob=True)


def pytest_configure() -> None:
    """Handle signals like a program at a terminal.

    A shell starts background jobs with SIGINT ignored, and nohup ignores SIGHUP. Python leaves
    that so, and the processes that tests start inherit it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def _empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a home directory without anything in it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, _empty_home: Path) -> None:
    """Keep the credentials and the config of the user out of the tests."""
    names = ("USERNAME", "PASSWORD", "REGISTRY", "CONFIG")
    for name in (*(f"BROLGA_{name}" for name in names), "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(_empty_home))
    monkeypatch.setenv("DOCKER_CONFIG", str(_empty_home / "docker"))
    # Set, not unset: without XDG_RUNTIME_DIR podman's file is /run/containers/UID/auth.json.
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(_empty_home / name.lower()))


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every image the same time: the digest of an image must not depend on the clock."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")


@dataclass(frozen=True)
class Authority:
    """A certificate authority of this test run, and its certificates.

    `here` is for 127.0.0.1, [::1] and localhost, `elsewhere` for another host.
    """

    directory: Path

    @property
    def ca_cert(self) -> Path:
        """The authority's own certificate."""
        return self.directory / "ca.pem"

    def certificate(self, name: str = "here") -> tuple[Path, Path]:
        """Return a certificate and its key."""
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def server_context(self, name: str = "here") -> ssl.SSLContext:
        """Return the TLS context of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate(name))
        return context


_EXTENSIONS = """
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[here]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost
[elsewhere]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:registry.invalid
[req]
distinguished_name = name
[name]
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority and its certificates with the openssl program."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program, which makes the certificates, is not on PATH")
    directory = tmp_path_factory.mktemp("authority")
    (directory / "openssl.cnf").write_text(_EXTENSIONS)
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf"

    def openssl(command: str) -> None:
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )

    openssl(
        f"req -x509 {new_key} -subj /CN=tests -extensions ca -days 2 -keyout ca.key -out ca.pem"
    )
    for name in ("here", "elsewhere"):
        openssl(f"req {new_key} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
            f"-extfile openssl.cnf -extensions {name} -out {name}.pem"
        )
    return Authority(directory)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    """Run an embedded registry on a free port, with an empty directory."""
    from brolga.registry.server import running

    directory = tmp_path / "registry"
    with running(directory) as address:
        yield EmbeddedRegistry(address, directory)
