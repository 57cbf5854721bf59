"""The registry on real sockets, in a thread and as a process."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn

from brolga.registry.options import Options
from brolga.registry.server import running, serve
from brolga.registry.serving.server import NotLoopback, _address, listen
from brolga.registry.storage.repository import Repo
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
SOURCE = str(Path(__file__).parents[3] / "src")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the module's registry."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """Return the address of the module's registry."""
    with running(root) as address:
        yield address


class Reply:
    """One answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def location(self) -> str:
        """Where the answer points."""
        return str(self.headers["Location"])


def ask(
    address: str,
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Reply:
    """Send one request on a connection of its own."""
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        connection.request(method, target, body, headers or {})
        return Reply(connection.getresponse())


def start(address: str, name: str = "a/b") -> str:
    """Open a session; return its location."""
    return ask(address, "POST", f"/v2/{name}/blobs/uploads/").location


def offset(address: str, location: str) -> int:
    """Return how many bytes a session has, where it has more than one."""
    reply = ask(address, "GET", location)
    assert reply.status == 204
    return int(reply.headers["Range"].partition("-")[2]) + 1


@contextmanager
def connected(address: str, head: str) -> Iterator[socket.socket]:
    """Send a request's head by hand."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        yield connection


def raw(address: str, target: str, method: str = "GET") -> int:
    """Ask for a target that no library would send."""
    with connected(
        address, f"{method} {target} HTTP/1.1\nHost: x\nConnection: close"
    ) as connection:
        reply = b""
        while block := connection.recv(65536):
            reply += block
    return int(reply.split(b" ", 2)[1])


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


def wait_for(path: Path, size: int) -> None:
    """Wait until a file has some bytes."""
    deadline = time.monotonic() + 10
    while path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def session_file(root: Path, location: str) -> Path:
    """Return the file of a session."""
    return root / "a/b/.uploads" / location.rpartition("/")[2]


def test_ping(address: str) -> None:
    """A registry's API begins at /v2/, and its answers say so."""
    reply = ask(address, "GET", "/v2/")
    assert reply.status == 200
    assert reply.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("chunked", [True, False])
def test_push_and_pull(address: str, *, chunked: bool) -> None:
    """A blob of several batches comes back as it was, whole and in ranges."""
    data = os.urandom(3 * MIB + 12345)
    digest = Digest.of(data)
    location = start(address)
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        body = iter([data[i : i + 100_003] for i in range(0, len(data), 100_003)])
        headers = {} if chunked else {"Content-Length": str(len(data))}
        connection.request("PATCH", location, body, headers, encode_chunked=chunked)
        reply = Reply(connection.getresponse())
        assert (reply.status, reply.headers["Range"]) == (202, f"0-{len(data) - 1}")
        # The connection can be used again.
        connection.request("PUT", f"{reply.location}?digest={digest}")
        reply = Reply(connection.getresponse())
    assert reply.status == 201
    assert ask(address, "GET", reply.location).body == data
    part = ask(address, "GET", reply.location, headers={"Range": "bytes=1000-2500000"})
    assert (part.status, part.body) == (206, data[1000:2500001])


def test_error_response_during_the_body(address: str) -> None:
    """An upload that cannot go on is answered before its body is there."""
    head = "PATCH /v2/a/b/blobs/uploads/x HTTP/1.1\nHost: x\nContent-Length: 100000000"
    with connected(address, head) as connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 404
        response.close()


def test_bug_is_logged(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is 500 with a code, and its traceback is logged."""

    def fail(_self: Repo) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Repo, "start_upload", fail)
    with running(root / "fault") as address:
        reply = ask(address, "POST", "/v2/x/blobs/uploads/")
    assert reply.status == 500
    assert json.loads(reply.body)["errors"][0]["code"] == "UNKNOWN"
    assert "RuntimeError" in caplog.text


def test_file_in_place_of_repository_is_500(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told of in one line, without a traceback."""
    with running(root / "fault") as address:
        (root / "fault/x").write_text("not a directory")
        reply = ask(address, "POST", "/v2/x/blobs/uploads/")
    assert reply.status == 500
    assert "Not a directory" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "name",
    ["../..", "%2e%2e/%2e%2e", "..%2f..", "/etc", "%2fetc", "a%00", "a/../../..", ".uploads",
     "a/%2e%2e", "%252e%252e", "a%5c..", "%c0%ae%c0%ae"],
)  # fmt: skip
def test_path_traversal_is_rejected(address: str, root: Path, name: str) -> None:
    """No name, id, tag or digest from the network reaches the file system unvalidated."""
    ask(address, "PUT", f"{start(address)}?digest={Digest.of(b'x')}", b"x")
    before = {p for p in root.parent.rglob("*") if "fault" not in p.parts}
    digest = Digest.of(b"x")
    for method, target in (
        ("POST", f"/v2/{name}/blobs/uploads/"),
        ("GET", f"/v2/{name}/blobs/{digest}"),
        ("GET", f"/v2/{name}/tags/list"),
        ("GET", f"/v2/a/b/blobs/{name}"),
        ("GET", f"/v2/a/b/blobs/sha256:{name}"),
        ("PATCH", f"/v2/a/b/blobs/uploads/{name}"),
        ("DELETE", f"/v2/a/b/blobs/uploads/{name}"),
        ("PUT", f"/v2/a/b/blobs/uploads/{name}?digest={digest}"),
        ("GET", f"/v2/a/b/manifests/{name}"),
        ("DELETE", f"/v2/a/b/manifests/{name}"),
        ("DELETE", f"/v2/a/b/blobs/{name}"),
        ("DELETE", f"/v2/{name}/blobs/{digest}"),
        ("GET", f"/v2/a/b/referrers/{name}"),
        ("PUT", f"/v2/a/b/manifests/{digest}?tag={name}"),
        ("PUT", f"/v2/a/b/manifests/{name}"),
    ):
        assert raw(address, target, method) in {400, 404, 405}, target
    assert {p for p in root.parent.rglob("*") if "fault" not in p.parts} == before


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_truncated_body_keeps_session(
    address: str, root: Path, method: str, *, chunked: bool
) -> None:
    """A client that hangs up leaves its session at what arrived, and never a blob."""
    data = os.urandom(MIB + 7)
    digest = Digest.of(data)
    location = start(address)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data) + 1}"
    with connected(
        address, f"{method} {location}?digest={digest} HTTP/1.1\nHost: x\n{framing}"
    ) as connection:
        if chunked:
            connection.sendall(f"{len(data):x}\r\n".encode())
        connection.sendall(data)
        # Wait until it is there: a server may drop what it has not read when a client hangs up.
        if chunked:
            connection.sendall(b"\r\n")
        wait_for(session_file(root, location), MIB)
    # Back at once, as a client that resumes: it is told where to go on.
    have = offset(address, location)
    assert MIB <= have <= len(data)
    assert not (root / "a/b/blobs/sha256" / digest.encoded).exists()
    headers = {"Content-Range": f"{have}-{len(data) - 1}"} if have < len(data) else {}
    ask(address, "PATCH", location, data[have:], headers)
    assert ask(address, "PUT", f"{location}?digest={digest}").status == 201
    assert ask(address, "GET", f"/v2/a/b/blobs/{digest}").body == data


def test_second_writer_is_409(address: str, root: Path) -> None:
    """Two requests to one session are never interleaved: the second is refused."""
    data = os.urandom(2 * MIB)
    location = start(address)
    head = f"PATCH {location} HTTP/1.1\nHost: x\nContent-Length: {len(data)}"
    with connected(address, head) as connection:
        connection.sendall(data[: MIB + 1])
        wait_for(session_file(root, location), MIB)
        assert ask(address, "PATCH", location, b"other").status == 409
        connection.sendall(data[MIB + 1 :])
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 202
        response.close()
    assert ask(address, "PUT", f"{location}?digest={Digest.of(data)}").status == 201


def test_many_clients_push_the_same_blob(address: str) -> None:
    """Clients that push the same blob at once all succeed, and it is whole at any moment."""
    data = os.urandom(MIB)
    digest = Digest.of(data)
    statuses: list[int] = []

    def push() -> None:
        reply = ask(address, "PUT", f"{start(address, 'same')}?digest={digest}", data)
        statuses.append(reply.status)
        if ask(address, "GET", reply.location).body != data:
            statuses.append(0)

    threads = [threading.Thread(target=push) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 12


def test_memory_does_not_grow_with_the_blob(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of a blob is in memory at once than a batch and what the server reads ahead."""
    from brolga.registry.storage.uploads import UploadWriter

    blocks: list[int] = []
    real = UploadWriter.write

    def write(self: UploadWriter, block: bytes | bytearray) -> None:
        blocks.append(len(block))
        real(self, block)

    monkeypatch.setattr(UploadWriter, "write", write)
    data = os.urandom(MIB) * 40
    with running(root / "flat") as address:
        reply = ask(address, "PUT", f"{start(address)}?digest={Digest.of(data)}", data)
    assert reply.status == 201
    assert sum(blocks) == len(data)
    assert max(blocks) < 3 * MIB


def test_session_survives_kill(tmp_path: Path) -> None:
    """After `kill -9` there is no blob, and the session goes on at its offset."""
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
    """What goes wrong before the start is raised in the caller."""
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
    """Without authentication, nobody else may reach it."""
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


def test_push_and_pull_manifest(address: str) -> None:
    """A manifest is there by its tag and by its digest, under the type that it was pushed with."""
    body = b'{"schemaVersion":2,"manifests":[]}'
    target = "/v2/a/b/manifests/v1"
    reply = ask(address, "PUT", target, body, {"Content-Type": OCI_INDEX})
    assert reply.status == 201
    for place in (target, reply.location):
        pulled = ask(address, "GET", place)
        assert (pulled.body, pulled.headers["Content-Type"]) == (body, OCI_INDEX)
        assert ask(address, "HEAD", place).headers["Content-Length"] == str(len(body))
