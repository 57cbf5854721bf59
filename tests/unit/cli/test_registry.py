"""brolga registry serve: errors before it serves."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Brolga


def test_serve_rejects_file_as_directory(brolga: Brolga, tmp_path: Path) -> None:
    """No message says that anything is stored."""
    file = tmp_path / "file"
    file.write_text("")
    outcome = brolga("registry", "serve", str(file), "--port", "0")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"brolga: cannot serve {file} on 127.0.0.1:0: ")
    assert outcome.err.count("\n") == 1


def test_serve_reports_port_in_use(brolga: Brolga, tmp_path: Path) -> None:
    """The error says how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = brolga("registry", "serve", str(tmp_path / "new"), "--port", str(port))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"brolga: port {port} on 127.0.0.1 is in use: "
        "choose another with --port, or 0 for a free one\n"
    )


def test_serve_rejects_missing_htpasswd_file(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 2, one line, and nothing is served."""
    outcome = brolga("registry", "serve", str(tmp_path), "--htpasswd", str(tmp_path / "users"))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("brolga: Invalid value for '--htpasswd': ")
    assert outcome.err.count("\n") == 1


def test_serve_rejects_public_host_without_htpasswd(brolga: Brolga, tmp_path: Path) -> None:
    """A public address requires --htpasswd or --allow-anonymous."""
    outcome = brolga("registry", "serve", str(tmp_path), "--host", "192.0.2.1")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--host: 192.0.2.1 can be reached from outside" in outcome.err
    assert "--htpasswd or --allow-anonymous" in outcome.err


def test_serve_rejects_invalid_size(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 2."""
    outcome = brolga("registry", "serve", str(tmp_path), "--max-upload", "much")
    assert outcome.code == 2
    assert "invalid size 'much'" in outcome.err
