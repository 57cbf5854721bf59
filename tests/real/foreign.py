"""Programs of others: Debian's docker-registry, with what it needs to ask for credentials."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["TokenKey", "bcrypt", "docker_registry", "require"]

_PATIENCE_S = 30.0


def require(*programs: str) -> None:
    """Skip a test where a program that it needs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")


@contextmanager
def docker_registry(directory: Path, **sections: dict[str, Any]) -> Iterator[str]:
    """Run docker-registry on a free port of 127.0.0.1; give `HOST:PORT`.

    `sections` go into its configuration, over what is there: http, auth.
    """
    require("docker-registry")
    configuration = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "storage")},
            "delete": {"enabled": True},
        },
        **sections,
        "http": {"addr": "127.0.0.1:0", **sections.get("http", {})},
    }
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.yml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(file)], stdout=output, stderr=output
        )
    try:
        yield _address(process, log)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it says where it listens: from then on the kernel takes connections."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        before, said, after = log.read_text().partition("listening on ")
        if said and "\n" in after:
            return after.partition('"')[0].partition(",")[0].strip()
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"docker-registry does not run: {before}")
        time.sleep(0.02)


def bcrypt(password: str) -> str:
    """Return a password's bcrypt hash, the one that docker-registry takes.

    By the htpasswd program, or else by perl, whose crypt is the C library's.
    """
    if shutil.which("htpasswd"):
        command = ["htpasswd", "-nbB", "user", password]
    elif shutil.which("perl"):
        script = 'print "user:", crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))'
        command = ["perl", "-e", script, password]
    else:
        pytest.skip("neither htpasswd nor perl is on PATH: nothing here makes a bcrypt hash")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    hashed = done.stdout.strip().partition(":")[2]
    if not hashed.startswith("$2y$") or len(hashed) != 60:
        pytest.skip("the C library's crypt has no bcrypt")
    return hashed


class TokenKey:
    """A key that signs tokens as distribution wants them (Token Authentication, RS256, x5c)."""

    def __init__(self, directory: Path) -> None:
        require("openssl")
        self._key = directory / "token.key"
        self.certificate = directory / "token.pem"
        command = "req -x509 -newkey rsa:2048 -nodes -subj /CN=tokens -days 2"
        subprocess.run(
            ["openssl", *command.split(), "-keyout", self._key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )

    def token(self, issuer: str, service: str, scope: str) -> str:
        """Sign a token that grants all that `scope` asks for, for five minutes."""
        now = int(time.time())
        kind, name, actions = scope.split(":")
        pem = self.certificate.read_text()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.splitlines()[1:-1])]}
        claims = {
            "iss": issuer,
            "sub": "",
            "aud": service,
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
            "jti": "1",
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._key],
            input=text.encode(),
            capture_output=True,
            check=True,
        )
        return f"{text}.{_base64url(signed.stdout)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
