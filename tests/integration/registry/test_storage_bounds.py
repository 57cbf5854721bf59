"""The bounds of sessions, locks, connections, sizes and the disk."""

from __future__ import annotations

import fcntl
import http.client
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of
from tests.integration.registry.conftest import Client
from tests.tars import tar

from brolga import client as brolga_client
from brolga.images import Image
from brolga.registry.options import Options
from brolga.registry.server import running
from brolga.registry.serving import server
from brolga.registry.storage import repository
from brolga.registry.storage.store import Store
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator


MIB = 1 << 20


SOURCE = str(Path(__file__).parents[3] / "src")


def test_old_sessions_expire_at_start(tmp_path: Path) -> None:
    """The server SHOULD eventually timeout unfinished uploads; after a restart it begins so."""
    with running(tmp_path) as address:
        client = Client(address, "a")
        old, new = client.start(), client.start()
    file = tmp_path / "a/.uploads" / old.rpartition("/")[2]
    os.utime(file, (1, 1))
    with running(tmp_path, Options(upload_expiry_s=3600)) as address:
        again = Client(address, "a")
        end = time.monotonic() + 10
        while file.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert again("GET", old).status == 404
        assert again("GET", new).status == 204


def test_read_only_registry_expires_nothing(tmp_path: Path) -> None:
    """A read-only registry deletes no session either."""
    with running(tmp_path) as address:
        old = Client(address, "a").start()
    file = tmp_path / "a/.uploads" / old.rpartition("/")[2]
    os.utime(file, (1, 1))
    checks = threading.Semaphore(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_CHECK_S", 0.01)
        patch.setattr(server, "close_connections", lambda *_: checks.release())
        with running(tmp_path, Options(read_only=True, upload_expiry_s=0.01)) as address:
            for _ in range(5):
                assert checks.acquire(timeout=10)
            assert Client(address, "a")("GET", old).status == 204
    assert file.exists()


def test_expiry_continues_after_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error does not end the rounds."""
    calls = threading.Semaphore(0)

    def expire(_self: Store, _age_s: float) -> None:
        calls.release()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Store, "expire", expire)
    monkeypatch.setattr(server, "_CHECK_S", 0.01)
    with running(tmp_path, Options(upload_expiry_s=0.01)):
        assert calls.acquire(timeout=10)
        assert calls.acquire(timeout=10)
    assert "a bug" in caplog.text


def test_held_lock_blocks_no_other_repository(tmp_path: Path) -> None:
    """Requests that wait for one repository do not block others, and are served afterwards."""
    with running(tmp_path) as address:
        held, other = Client(address, "held"), Client(address, "other")
        image = held.image()
        other.image()
        with ExitStack() as stack:
            directory = os.open(tmp_path / "held", os.O_RDONLY)
            stack.callback(os.close, directory)
            fcntl.flock(directory, fcntl.LOCK_EX)
            replies: list[int] = []
            threads = [
                threading.Thread(
                    target=lambda tag=f"v{n}": replies.append(held.put(tag, image).status)
                )
                for n in range(20)
            ]
            for thread in threads:
                thread.start()
            for n in range(3):
                other.pushed(f"v{n}")
            assert held("GET", "tags/list").status == 200
            assert replies == []
        for thread in threads:
            thread.join()
        assert replies == [201] * 20
        assert len(held("GET", "tags/list").json["tags"]) == 20


def test_lock_held_for_ever_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110, 15.6.4: 503, [...] which will likely be alleviated after some delay."""
    monkeypatch.setattr(repository, "WRITE_TIMEOUT_S", 0.1)
    with running(tmp_path) as address:
        client = Client(address, "a")
        image = client.image()
        directory = os.open(tmp_path / "a", os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        reply = client.put("v1", image)
        os.close(directory)
        assert (reply.status, reply.codes) == (503, ["UNKNOWN"])
        assert reply.headers["Retry-After"] == "10"
        assert client.put("v1", image).status == 201


def test_connections_over_the_limit_are_503(tmp_path: Path) -> None:
    """The registry refuses what it has no room for, says little of it, and serves afterwards."""
    code = (
        "import sys; from pathlib import Path; from brolga.registry.server import serve;"
        "serve(Path(sys.argv[1]), on_ready=lambda address: print(address, flush=True))"
    )
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCE},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120)),  # noqa: PLW1509 - it takes no lock
        ) as server,
    ):
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            host, _, port = address.rpartition(":")
            with ExitStack() as stack:
                crowd = []
                for _ in range(160):
                    client = stack.enter_context(socket.socket())
                    client.setblocking(False)  # a waiting connection need not be accepted yet
                    client.connect_ex((host, int(port)))
                    crowd.append(client)
                ready, _, _ = select.select(crowd, [], [], 30)
                refused = {client.recv(12) for client in ready}
                assert refused == {b"HTTP/1.1 503"}
            end = time.monotonic() + 30
            while True:
                try:
                    Client(address, "a").pushed("v1")
                    break
                except (OSError, AssertionError, http.client.HTTPException):
                    assert time.monotonic() < end
        finally:
            server.terminate()
        server.wait()
        log.seek(0)
        assert len(log.readlines()) < 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Client]:
    """Run a registry that takes blobs of ten bytes."""
    with running(tmp_path, Options(max_upload=10)) as address:
        yield Client(address, "a")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("chunked", [False, True])
def test_blob_over_max_upload_is_413(small: Client, method: str, *, chunked: bool) -> None:
    """RFC 9110, 15.5.14: 413, the request content is larger than the server is [...] able.

    The session goes on: nothing of the request was taken.
    """
    location = small.start()
    assert small("PATCH", location, b"12345").status == 202
    body = iter([b"678", b"901"]) if chunked else b"678901"
    reply = small(method, f"{location}?digest={digest_of(b'x')}", body)
    assert (reply.status, reply.codes) == (413, ["SIZE_INVALID"])
    assert small("GET", location).headers["Range"] == "0-4"
    reply = small("PUT", f"{location}?digest={digest_of(b'1234567890')}", b"67890")
    assert reply.status == 201


@pytest.fixture
def chunking(tmp_path: Path) -> Iterator[Client]:
    """Run a registry that takes requests of four bytes into a session."""
    with running(tmp_path, Options(max_chunk=4, max_upload=10)) as address:
        yield Client(address, "a")


@pytest.mark.parametrize("chunked", [False, True])
def test_chunk_over_max_chunk_is_413(chunking: Client, *, chunked: bool) -> None:
    """Clients are told before; the session goes on, and each bound holds for itself."""
    response = chunking("POST", "blobs/uploads/")
    assert response.headers["OCI-Chunk-Max-Length"] == "4"
    location = response.location
    assert chunking("PATCH", location, b"1234").status == 202
    body = iter([b"567", b"89"]) if chunked else b"56789"
    reply = chunking("PATCH", location, body)
    assert (reply.status, reply.codes) == (413, ["SIZE_INVALID"])
    assert chunking("GET", location).headers["Range"] == "0-3"
    assert chunking("PATCH", location, b"5678").status == 202
    assert chunking("PATCH", location, b"901").status == 413
    reply = chunking("PUT", f"{location}?digest={digest_of(b'1234567890')}", b"90")
    assert reply.status == 201


def test_start_tells_no_max_chunk_without_one(small: Client) -> None:
    """A client would send streams in chunks."""
    assert small("POST", "blobs/uploads/").headers["OCI-Chunk-Max-Length"] is None


def test_client_pushes_in_chunks_of_max_chunk(tmp_path: Path) -> None:
    """A stream, and what is in memory."""
    image = Image.empty().append(StreamLayer([tar("a") * 3], "none", tar=False))
    with running(tmp_path, Options(max_chunk=1000)) as address, brolga_client.Client() as client:
        client.push(f"{address}/a:v1", image)
        with client.image(f"{address}/a:v1").layers[0].open() as stream:
            assert stream.read() == tar("a") * 3


def test_single_post_over_max_upload_is_413(small: Client, tmp_path: Path) -> None:
    """Nothing of it stays."""
    data = b"12345678901"
    reply = small("POST", f"blobs/uploads/?digest={digest_of(data)}", iter([data]))
    assert reply.status == 413
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@contextmanager
def limited(directory: Path) -> Iterator[str]:
    """Run a registry in a process that can write no file over a mebibyte."""
    code = (
        "import sys; from pathlib import Path; from brolga.registry.server import serve;"
        "serve(Path(sys.argv[1]), on_ready=lambda address: print(address, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)),  # noqa: PLW1509 - it takes no lock
    ) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@contextmanager
def tmpfs(directory: Path) -> Iterator[str]:
    """Run a registry on a file system of its own, of a mebibyte."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    try:
        process = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("mount is not on PATH")
    if process.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with running(directory) as address:
            yield address
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("disk", [limited, tmpfs])
def test_full_disk_is_507(tmp_path: Path, disk: object) -> None:
    """RFC 4918, 11.5: 507, unable to store the representation needed.

    What was committed stays, the session keeps what was written, and smaller things can still be
    pushed where there is room again.
    """
    assert callable(disk)
    with disk(tmp_path / "store") as address:
        client = Client(address, "a")
        digest = client.push(b"abc")
        client.pushed("v1")
        location = client.start()
        large = os.urandom(2 * MIB)
        reply = client("PUT", f"{location}?digest={digest_of(large)}", large)
        assert (reply.status, reply.codes) == (507, ["UNKNOWN"])
        assert client("GET", f"blobs/{digest_of(large)}").status == 404
        assert client("GET", location).status == 204
        assert client("DELETE", location).status == 204
        assert client("GET", f"blobs/{digest}").body == b"abc"
        assert client("GET", "manifests/v1").status == 200
        client.push(b"def")
        client.pushed("v2")
        assert client("GET", "tags/list").json["tags"] == ["v1", "v2"]


@pytest.mark.parametrize("count", [int(os.environ.get("BROLGA_TEST_CROWD", "200"))])
def test_many_clients_at_once(tmp_path: Path, count: int) -> None:
    """Clients that push, tag and pull the same and different things at once lose nothing."""
    shared = os.urandom(30_000)
    problems: list[str] = []

    def push_and_pull(client: Client, number: int) -> None:
        try:
            mine = os.urandom(20_000)
            digests = {client.push(shared): shared, client.push(mine): mine}
            subject = {"mediaType": "application/x", "digest": digest_of(b"s"), "size": 1}
            image = client.image(annotations={"n": str(number)})
            for tag in (f"v{number}", "latest"):
                manifest = client.put(tag, image).headers["Docker-Content-Digest"]
            assert client.put(f"r{number}", image | {"subject": subject}).status == 201
            for digest, data in digests.items():
                if client("GET", f"blobs/{digest}").body != data:
                    problems.append(f"{number}: {digest} is another")
            if client("HEAD", f"manifests/v{number}").headers["Docker-Content-Digest"] != manifest:
                problems.append(f"{number}: the tag is another's")
        except Exception as error:  # noqa: BLE001 - told by the test
            problems.append(f"{number}: {error!r}")

    with running(tmp_path) as address:
        client = Client(address, "crowd/all")
        threads = [
            threading.Thread(
                target=push_and_pull, args=(client if n % 2 else client.of(f"crowd/{n}"), n)
            )
            for n in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        tags = client("GET", "tags/list").json["tags"]
        odd = range(1, count, 2)
        assert set(tags) == {"latest"} | {f"{kind}{n}" for kind in "vr" for n in odd}
        referrers = client("GET", f"referrers/{digest_of(b's')}").json["manifests"]
        assert len(referrers) == len(odd)
        assert len(client("GET", "/v2/_catalog").json["repositories"]) == 1 + len(
            range(0, count, 2)
        )
    assert not list(tmp_path.rglob(".uploads/*"))
