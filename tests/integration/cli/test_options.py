"""Shared flags against a server: passwords, docker's credentials and warnings."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.command import stdin_of
from tests.raw_server import Peer, serve_script

if TYPE_CHECKING:
    from tests.command import Brolga


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a source."""
    path = tmp_path / "source"
    path.write_bytes(b"data")
    return path


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (b"s3cret", b"s3cret"),
        (b"s3cret\nmore\n", b"s3cret"),
        (b" two words \r\n", b" two words "),
        (b"\xff\xc3\xa9\n", b"\xff\xc3\xa9"),
    ],
)
def test_password_stdin_reads_first_line(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, source: Path, data: bytes, password: bytes
) -> None:
    """Without its line end; the bytes are sent unchanged. Flags win over the environment."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "else")
    seen: list[str] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')
        while head := peer.head():
            seen.extend(peer.header("authorization", head))
            peer.answer(418)

    with serve_script(script) as address, stdin_of(data) as stdin:
        flags = ["--username", "me", "--password-stdin"]
        brolga("layer", "push", *flags, f"{address}/x", str(source), stdin=stdin)
    assert seen[0] == "Basic " + b64encode(b"me:" + password).decode()


def test_open_client_uses_credentials_of_docker(brolga: Brolga, source: Path) -> None:
    """Without flags and environment: docker's config.json, then podman's files."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            authorization = peer.header("authorization", head)
            seen.extend(authorization)
            peer.answer(418 if authorization else 401, b"", 'WWW-Authenticate: Basic realm="x"')

    with serve_script(script) as address:
        file = Path(os.environ["DOCKER_CONFIG"]) / "config.json"
        file.parent.mkdir(exist_ok=True)
        auth = b64encode(b"me:s3cret").decode()
        file.write_text(json.dumps({"auths": {address: {"auth": auth}}}))
        try:
            brolga("layer", "push", f"{address}/x", str(source))
        finally:
            file.unlink()
    assert set(seen) == {f"Basic {auth}"}


def test_registry_warning_is_printed_on_stderr(
    brolga: Brolga, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`Warning: 299 - "text"` (distribution-spec, Warnings): "clients SHOULD report it"."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(418, b"", 'Warning: 299 - "this registry ends soon"')

    with serve_script(script) as address:
        outcome = brolga("layer", "push", f"{address}/x", str(source))
    assert outcome.err.startswith(f"warning: {address}: this registry ends soon\nbrolga: ")
