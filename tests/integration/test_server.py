"""The registry on real sockets, in a thread and as a process."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from tests.processes import finish, start_brolga, wait_until
from tests.registries import Reply, connect, request

from brolga.server.options import Options
from brolga.server.running import NotLoopback, _bind, _spelled, running, serve
from brolga.server.storage import Repo
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the module's registry."""
    return tmp_path_factory.mktemp("registry") / "root"


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """Return the address of the module's registry."""
    with running(root) as address:
        yield address


def start(address: str, name: str = "a/b") -> str:
    """Open a session; return its location."""
    return request(address, "POST", f"/v2/{name}/blobs/uploads/").location


def offset(address: str, location: str) -> int:
    """Return how many bytes a session has; it must have more than one."""
    reply = request(address, "GET", location)
    assert reply.status == 204
    return int(reply.headers["Range"].partition("-")[2]) + 1


def raw(address: str, target: str, method: str = "GET") -> int:
    """Return the status of a request for a target that no library would send."""
    with connect(address, f"{method} {target} HTTP/1.1\nHost: x\nConnection: close") as connection:
        reply = b""
        while block := connection.recv(65536):
            reply += block
    return int(reply.split(b" ", 2)[1])


@contextmanager
def serve_process(directory: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `brolga registry serve` in a process of its own; give the process and its address."""
    with start_brolga("registry", "serve", directory, "--port", "0", *flags) as server:
        assert server.stdout is not None
        yield server, server.stdout.readline().decode().strip()


def wait_for_bytes(path: Path, size: int) -> None:
    """Wait until a file has so many bytes."""
    wait_until(lambda: path.stat().st_size >= size)


def session_file(root: Path, location: str) -> Path:
    """Return the file of a session."""
    return root / "a/b/.uploads" / location.rpartition("/")[2]


def test_get_v2_answers_200(address: str) -> None:
    """A registry's API begins at /v2/, and its answers say so."""
    reply = request(address, "GET", "/v2/")
    assert reply.status == 200
    assert reply.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("chunked", [True, False])
def test_upload_can_be_read_whole_and_in_ranges(address: str, *, chunked: bool) -> None:
    """A blob of several batches comes back as it was, whole and in ranges."""
    data = os.urandom(3 * MIB + 12345)
    digest = Digest.of(data)
    location = start(address)
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        body = iter([data[i : i + 100_003] for i in range(0, len(data), 100_003)])
        headers = {} if chunked else {"Content-Length": str(len(data))}
        connection.request("PATCH", location, body, headers, encode_chunked=chunked)
        reply = Reply.read(connection.getresponse())
        assert (reply.status, reply.headers["Range"]) == (202, f"0-{len(data) - 1}")
        # The connection can be used again.
        connection.request("PUT", f"{reply.location}?digest={digest}")
        reply = Reply.read(connection.getresponse())
    assert reply.status == 201
    assert request(address, "GET", reply.location).body == data
    part = request(address, "GET", reply.location, headers={"Range": "bytes=1000-2500000"})
    assert (part.status, part.body) == (206, data[1000:2500001])


def test_patch_of_an_unknown_session_is_answered_before_its_end(address: str) -> None:
    """An upload that cannot go on is answered before its body is there."""
    head = "PATCH /v2/a/b/blobs/uploads/x HTTP/1.1\nHost: x\nContent-Length: 100000000"
    with connect(address, head) as connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 404
        response.close()


def test_unexpected_exception_is_500_and_logged(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has a code, and the log has the traceback."""

    def fail(_self: Repo) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Repo, "start_upload", fail)
    with running(root / "fault") as address:
        reply = request(address, "POST", "/v2/x/blobs/uploads/")
    assert reply.status == 500
    assert json.loads(reply.body)["errors"][0]["code"] == "UNKNOWN"
    assert "RuntimeError" in caplog.text


def test_post_answers_500_if_the_repository_is_a_file(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has one line about it, without a traceback."""
    with running(root / "fault") as address:
        (root / "fault/x").write_text("not a directory")
        reply = request(address, "POST", "/v2/x/blobs/uploads/")
    assert reply.status == 500
    assert "Not a directory" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "name",
    ["../..", "%2e%2e/%2e%2e", "..%2f..", "/etc", "%2fetc", "a%00", "a/../../..", ".uploads",
     "a/%2e%2e", "%252e%252e", "a%5c..", "%c0%ae%c0%ae"],
)  # fmt: skip
def test_requests_with_traversal_names_change_no_file(address: str, root: Path, name: str) -> None:
    """No name, id, tag or digest from the network reaches the file system unvalidated."""
    request(address, "PUT", f"{start(address)}?digest={Digest.of(b'x')}", b"x")
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
def test_truncated_body_leaves_the_session_and_no_blob(
    address: str, root: Path, method: str, *, chunked: bool
) -> None:
    """The session has what arrived before the client closed the connection."""
    data = os.urandom(MIB + 7)
    digest = Digest.of(data)
    location = start(address)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data) + 1}"
    with connect(
        address, f"{method} {location}?digest={digest} HTTP/1.1\nHost: x\n{framing}"
    ) as connection:
        if chunked:
            connection.sendall(f"{len(data):x}\r\n".encode())
        connection.sendall(data)
        # Wait until it is there: a server may drop what it has not read when a client hangs up.
        if chunked:
            connection.sendall(b"\r\n")
        wait_for_bytes(session_file(root, location), MIB)
    # Back at once, as a client that resumes: it is told where to go on.
    have = offset(address, location)
    assert MIB <= have <= len(data)
    assert not (root / "a/b/blobs/sha256" / digest.encoded).exists()
    headers = {"Content-Range": f"{have}-{len(data) - 1}"} if have < len(data) else {}
    request(address, "PATCH", location, data[have:], headers)
    assert request(address, "PUT", f"{location}?digest={digest}").status == 201
    assert request(address, "GET", f"/v2/a/b/blobs/{digest}").body == data


def test_second_patch_of_a_session_is_409_during_the_first(address: str, root: Path) -> None:
    """Two requests to one session are never interleaved."""
    data = os.urandom(2 * MIB)
    location = start(address)
    head = f"PATCH {location} HTTP/1.1\nHost: x\nContent-Length: {len(data)}"
    with connect(address, head) as connection:
        connection.sendall(data[: MIB + 1])
        wait_for_bytes(session_file(root, location), MIB)
        assert request(address, "PATCH", location, b"other").status == 409
        connection.sendall(data[MIB + 1 :])
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 202
        response.close()
    assert request(address, "PUT", f"{location}?digest={Digest.of(data)}").status == 201


def test_concurrent_uploads_of_one_blob_succeed(address: str) -> None:
    """The blob is whole at any moment."""
    data = os.urandom(MIB)
    digest = Digest.of(data)
    statuses: list[int] = []

    def push() -> None:
        reply = request(address, "PUT", f"{start(address, 'same')}?digest={digest}", data)
        statuses.append(reply.status)
        if request(address, "GET", reply.location).body != data:
            statuses.append(0)

    threads = [threading.Thread(target=push) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 12


def test_upload_is_written_in_blocks_below_3_mib(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of a blob is in memory at once than a batch and what the server reads ahead."""
    from brolga.server.session import Writer

    blocks: list[int] = []
    real = Writer.write

    def write(self: Writer, block: bytes | bytearray) -> None:
        blocks.append(len(block))
        real(self, block)

    monkeypatch.setattr(Writer, "write", write)
    data = os.urandom(MIB) * 40
    with running(root / "flat") as address:
        reply = request(address, "PUT", f"{start(address)}?digest={Digest.of(data)}", data)
    assert reply.status == 201
    assert sum(blocks) == len(data)
    assert max(blocks) < 3 * MIB


def test_session_resumes_after_sigkill_of_the_registry(tmp_path: Path) -> None:
    """The blob does not exist, and the session continues at its offset."""
    data = os.urandom(2 * MIB)
    digest = Digest.of(data)
    with serve_process(tmp_path) as (server, address):
        location = start(address)
        request(address, "PATCH", location, data[:1000])
        head = f"PATCH {location} HTTP/1.1\nHost: x\nContent-Length: {len(data)}"
        with connect(address, head) as connection:
            connection.sendall(data[1000 : MIB + 2000])
            wait_for_bytes(session_file(tmp_path, location), MIB)
            server.kill()
            server.wait()
    assert not list(tmp_path.rglob("blobs"))
    with serve_process(tmp_path) as (_, address):
        have = offset(address, location)
        assert MIB <= have <= MIB + 2000
        headers = {"Content-Range": f"{have}-{len(data) - 1}"}
        assert request(address, "PATCH", location, data[have:], headers).status == 202
        assert request(address, "PUT", f"{location}?digest={digest}").status == 201
        assert request(address, "GET", f"/v2/a/b/blobs/{digest}").body == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_exits_with_0_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """Open uploads stay on disk."""
    with serve_process(tmp_path) as (server, address):
        assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", address)
        location = start(address)
        head = f"PATCH {location} HTTP/1.1\nHost: x\nContent-Length: 100"
        with connect(address, head) as connection:
            connection.sendall(b"abc")
            request(address, "GET", "/v2/")
            server.send_signal(number)
            # The address is the only line of stdout; stderr has no traceback.
            assert finish(server) == (0, "", f"registry: storing in {tmp_path}\n")
    assert session_file(tmp_path, location).read_bytes() == b"abc"


def test_serve_exits_with_1_if_the_port_is_in_use(tmp_path: Path, address: str) -> None:
    """The error is one line."""
    port = address.rpartition(":")[2]
    with serve_process(tmp_path, "--port", port) as (server, line):
        assert line == ""
        code, out, err = finish(server)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"brolga: port {port} on 127.0.0.1 is in use")


def test_running_serves_several_registries_at_once(tmp_path: Path) -> None:
    """Each has its own port and directory, and leaves no thread."""
    before = threading.active_count()
    with running(str(tmp_path / "a")) as first, running(tmp_path / "b") as second:
        assert first != second
        start(first)
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        request(first, "GET", "/v2/")


def test_running_raises_if_the_directory_is_a_file(tmp_path: Path) -> None:
    """An error before the start is raised in the caller."""
    (tmp_path / "x").write_text("")
    with pytest.raises(FileExistsError), running(tmp_path / "x"):
        raise AssertionError
    with pytest.raises(FileExistsError):
        serve(tmp_path / "x")


def test_running_raises_if_the_server_ends_before_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends before it is ready does not leave the caller waiting."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda _self, _sockets: None)
    with pytest.raises(RuntimeError, match="did not start"), running(tmp_path):
        raise AssertionError


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - refused
def test_serve_refuses_other_hosts_without_authentication(tmp_path: Path, host: str) -> None:
    """Other machines may not reach a registry without authentication."""
    with pytest.raises(NotLoopback, match="can be reached from outside"):
        serve(tmp_path, host)


def test_ipv6_address_has_brackets() -> None:
    """The address can be put into a reference as it is (RFC 3986, section 3.2.2)."""
    try:
        listener = _bind("::1", 0, Options())
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert re.fullmatch(r"\[::1\]:[0-9]+", _spelled(listener))


def test_put_manifest_can_be_read_by_tag_and_digest(address: str) -> None:
    """Its media type is the one with which it was pushed."""
    body = b'{"schemaVersion":2,"manifests":[]}'
    target = "/v2/a/b/manifests/v1"
    reply = request(address, "PUT", target, body, {"Content-Type": OCI_INDEX})
    assert reply.status == 201
    for place in (target, reply.location):
        pulled = request(address, "GET", place)
        assert (pulled.body, pulled.headers["Content-Type"]) == (body, OCI_INDEX)
        assert request(address, "HEAD", place).headers["Content-Length"] == str(len(body))
