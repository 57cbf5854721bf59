"""nginx in front of a registry, on a free port of 127.0.0.1."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.real.foreign import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Nginx", "free_address", "nginx", "run_nginx"]

_PATIENCE_S = 30.0
_PROGRAM = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/errors;
events {{}}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {http}
}}
"""
_CONFIGURATION = """
    log_format short "$request_method $status";
    access_log {directory}/requests short;
    upstream registry {{
        server {upstream} max_fails=0;
        {second}
    }}
    server {{
        listen {address};
        client_max_body_size 0;
        {settings}
        location / {{
            proxy_pass http://registry;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
        }}
    }}
"""


@dataclass(frozen=True)
class Nginx:
    """A proxy that runs: its address, and its responses."""

    address: str
    directory: Path

    def answers(self) -> list[tuple[str, int]]:
        """Return method and status of the requests that it answered, in order."""
        with suppress(FileNotFoundError):
            lines = (self.directory / "requests").read_text().splitlines()
            return [(line.split()[0], int(line.split()[1])) for line in lines]
        return []


@contextmanager
def nginx(directory: Path, upstream: str, settings: str = "", second: str = "") -> Iterator[Nginx]:
    """Run nginx in front of `upstream`, with `settings` of its server.

    Requests that it sends again go to `second`, if that is an address.
    """
    address = free_address()
    text = _CONFIGURATION.format(
        directory=directory,
        address=address,
        upstream=upstream,
        second=f"server {second} backup;" if second else "",
        settings=settings,
    )
    directory.mkdir()
    with run_nginx(directory, text, address):
        yield Nginx(address, directory)


def free_address() -> str:
    """Return an address of 127.0.0.1 on which no process listens."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{place.getsockname()[1]}"


@contextmanager
def run_nginx(directory: Path, http: str, *addresses: str) -> Iterator[None]:
    """Run nginx with the contents of its block `http`, until it listens on the addresses."""
    require("nginx")
    file = directory / "nginx.conf"
    file.write_text(_PROGRAM.format(directory=directory, http=http))
    process = subprocess.Popen(["nginx", "-p", str(directory), "-c", str(file)])
    try:
        for address in addresses:
            _wait_until_it_listens(process, address)
        yield
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _wait_until_it_listens(process: subprocess.Popen[bytes], address: str) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection((host, int(port))):
            return
        time.sleep(0.02)
    pytest.fail("nginx does not run")
