"""The registry as a process and as a thread: start, address, signals, kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn
from tests.integration.registry.sockets import ask, connected, offset, session_file, start, wait_for

from brolga.registry.options import Options
from brolga.registry.server import running, serve
from brolga.registry.serving.server import NotLoopback, _address, listen
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


SOURCE = str(Path(__file__).parents[3] / "src")


@contextmanager
def process(directory: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command in a process of its own."""
    code = "from brolga.cli.commands.registry import command as registry; registry()"
    command = [sys.executable, "-c", code, "serve", str(directory), "--port", "0", *flags]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            yield server, server.stdout.readline().strip()
        finally:
            server.kill()


def test_session_survives_kill(tmp_path: Path) -> None:
    """After `kill -9` the blob is missing, and the session continues at its offset."""
    data = os.urandom(2 * MIB)
    digest = Digest.of(data)
    with process(tmp_path) as (server, address):
        location = start(address)
        ask(address, "PATCH", location, data[:1000])
        head = f"PATCH {location} HTTP/1.1\nHost: x\nContent-Length: {len(data)}"
        with connected(address, head) as connection:
            connection.sendall(data[1000 : MIB + 2000])
            wait_for(session_file(tmp_path, location), MIB)
            server.kill()
            server.wait()
    assert not list(tmp_path.rglob("blobs"))
    with process(tmp_path) as (_, address):
        have = offset(address, location)
        assert MIB <= have <= MIB + 2000
        headers = {"Content-Range": f"{have}-{len(data) - 1}"}
        assert ask(address, "PATCH", location, data[have:], headers).status == 202
        assert ask(address, "PUT", f"{location}?digest={digest}").status == 201
        assert ask(address, "GET", f"/v2/a/b/blobs/{digest}").body == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_with_status_zero(tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT and SIGTERM end the command with status 0; open uploads stay on disk."""
    with process(tmp_path) as (server, address):
        assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", address)
        location = start(address)
        head = f"PATCH {location} HTTP/1.1\nHost: x\nContent-Length: 100"
        with connected(address, head) as connection:
            connection.sendall(b"abc")
            ask(address, "GET", "/v2/")
            server.send_signal(number)
            assert server.wait(10) == 0
        assert server.stdout is not None
        assert server.stderr is not None
        # The address is the only line of stdout; no traceback, no noise.
        assert server.stdout.read() == ""
        assert server.stderr.read() == f"registry: storing in {tmp_path}\n"
    assert session_file(tmp_path, location).read_bytes() == b"abc"


def test_port_in_use_raises(tmp_path: Path, address: str) -> None:
    """A port that is taken is one line, and exit status 1."""
    port = address.rpartition(":")[2]
    with process(tmp_path, "--port", port) as (server, line):
        assert line == ""
        assert server.wait(10) == 1
        assert server.stderr is not None
        last = server.stderr.read().splitlines()[-1]
    assert last.startswith(f"Error: port {port} on 127.0.0.1 is in use")


def test_several_registries_in_one_process(tmp_path: Path) -> None:
    """Each `running` has its own port and directory, and leaves no thread."""
    before = threading.active_count()
    with running(str(tmp_path / "a")) as first, running(tmp_path / "b") as second:
        assert first != second
        start(first)
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        ask(first, "GET", "/v2/")


def test_serve_raises_for_invalid_directory(tmp_path: Path) -> None:
    """An error before the start is raised in the caller."""
    (tmp_path / "x").write_text("")
    with pytest.raises(FileExistsError), running(tmp_path / "x"):
        raise AssertionError
    with pytest.raises(FileExistsError):
        serve(tmp_path / "x")


def test_running_raises_if_start_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends before it is ready does not leave the caller waiting."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda _self, _sockets: None)
    with pytest.raises(RuntimeError, match="did not start"), running(tmp_path):
        raise AssertionError


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - refused
def test_serve_rejects_public_address(tmp_path: Path, host: str) -> None:
    """Without authentication, only this machine may reach it."""
    with pytest.raises(NotLoopback, match="can be reached from outside"):
        serve(tmp_path, host)


def test_address_of_ipv6_has_brackets() -> None:
    """The address can be put into a reference as it is (RFC 3986, section 3.2.2)."""
    try:
        listener = listen("::1", 0, Options())
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert re.fullmatch(r"\[::1\]:[0-9]+", _address(listener))
