"""The registry over sockets."""

from __future__ import annotations

import http.client
import json
import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.integration.registry.sockets import ask, connected, offset, session_file, start, wait_for
from tests.registries import Reply

from brolga.registry.server import running
from brolga.registry.storage.repository import Repo
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def raw(address: str, target: str, method: str = "GET") -> int:
    """Ask for a target that no library would send."""
    with connected(
        address, f"{method} {target} HTTP/1.1\nHost: x\nConnection: close"
    ) as connection:
        reply = b""
        while block := connection.recv(65536):
            reply += block
    return int(reply.split(b" ", 2)[1])


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
        reply = Reply.read(connection.getresponse())
        assert (reply.status, reply.headers["Range"]) == (202, f"0-{len(data) - 1}")
        # The connection can be used again.
        connection.request("PUT", f"{reply.location}?digest={digest}")
        reply = Reply.read(connection.getresponse())
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
    """An unexpected exception is 500 with a code, and its traceback is logged."""

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
