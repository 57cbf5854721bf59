"""cli.registry: what is said when it cannot serve."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Brolga


def test_a_file_where_a_directory_is_wanted_is_one_line(brolga: Brolga, tmp_path: Path) -> None:
    """Nothing is said to be stored before it can be."""
    file = tmp_path / "file"
    file.write_text("")
    outcome = brolga("registry", "serve", str(file), "--port", "0")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"brolga: cannot serve {file} on 127.0.0.1:0: ")
    assert outcome.err.count("\n") == 1


def test_a_port_in_use_is_one_line(brolga: Brolga, tmp_path: Path) -> None:
    """It says how to get another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = brolga("registry", "serve", str(tmp_path / "new"), "--port", str(port))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"brolga: port {port} on 127.0.0.1 is in use: "
        "choose another with --port, or 0 for a free one\n"
    )
