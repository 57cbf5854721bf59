"""A push, end to end: source, pipeline, protocol and sockets, into the embedded registry."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats import DECOMPRESS
from tests.images import digest_of
from tests.processes import (
    BROLGA,
    PATIENCE_S,
    UNTAGGED_WARNING,
    feed,
    finish,
    start_brolga,
    wait_until,
)
from tests.registries import ScriptedRegistry, fetch_blob, refuse_patch
from tests.scripted import Peer, scripted

import brolga
from brolga import errors
from brolga.client import Client
from brolga.protocol import Credentials, Retry
from brolga.server.running import running
from brolga.spec.blob import LayerState
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Embedded

    from brolga.stream.sources import Source

MIB = 1 << 20
ONE_ATTEMPT = Retry(attempts=1)
DATA = {
    "nothing": b"",
    "one byte": b"x",
    "5 MB of random bytes": random.Random(1).randbytes(5_000_000),
}


def check(address: str, layer: StreamLayer, compression: str, data: bytes) -> None:
    """Compare the blob in the registry with what was pushed, by other code."""
    blob = fetch_blob(address, "x", layer.digest)
    assert digest_of(blob) == str(layer.digest)
    assert len(blob) == layer.size
    assert DECOMPRESS[compression](blob) == data
    assert digest_of(data) == str(layer.diff_id)
    assert len(data) == layer.uncompressed_size


def zeros() -> Iterator[bytes]:
    """Give blocks without end."""
    while True:
        yield bytes(MIB)


def by_list(data: bytes, _directory: Path) -> list[bytes]:
    """Give one block."""
    return [data]


def by_generator(data: bytes, _directory: Path) -> Iterator[bytearray]:
    """Give odd pieces in a buffer that changes."""
    buffer = bytearray()
    for start in range(0, len(data), 70_001):
        buffer[:] = data[start : start + 70_001]
        yield buffer


def by_bytesio(data: bytes, _directory: Path) -> io.BytesIO:
    """Give a file object of Python's."""
    return io.BytesIO(data)


def by_path(data: bytes, directory: Path) -> Path:
    """Give a path."""
    path = directory / "source"
    path.write_bytes(data)
    return path


SOURCES = [by_list, by_generator, by_bytesio, by_path]


class TestLibrary:
    """`Client.push_layer` and `brolga.push_layer`."""

    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    @pytest.mark.parametrize("compression", DECOMPRESS)
    @pytest.mark.parametrize("source", SOURCES)
    def test_push_layer_stores_what_a_source_gives(
        self,
        registry: Embedded,
        tmp_path: Path,
        source: Callable[[bytes, Path], Source],
        compression: str,
        data: bytes,
    ) -> None:
        """Digest, DiffID and size are those of the stored blob, for every kind of source."""
        layer = StreamLayer(source(data, tmp_path), compression)
        brolga.push_layer(f"{registry.address}/x", layer)
        check(registry.address, layer, compression, data)
        assert registry.uploads("x") == []

    def test_push_layer_reads_a_pipe_in_one_pass(self, registry: Embedded) -> None:
        """A pipe has no size and cannot seek."""
        data = DATA["5 MB of random bytes"]
        end, start = os.pipe()

        def write() -> None:
            with os.fdopen(start, "wb") as pipe:
                pipe.write(data)

        writer = threading.Thread(target=write)
        writer.start()
        with os.fdopen(end, "rb") as pipe:
            layer = StreamLayer(pipe)
            brolga.push_layer(f"{registry.address}/x", layer)
        writer.join()
        check(registry.address, layer, "gzip", data)

    def test_push_layer_reads_plain_bytes_of_a_gzip_file(
        self, registry: Embedded, tmp_path: Path
    ) -> None:
        """The descriptor below the file object is not read directly."""
        path = tmp_path / "source.gz"
        path.write_bytes(gzip.compress(b"plain" * 1000))
        with gzip.open(path) as source:
            layer = StreamLayer(source)
            brolga.push_layer(f"{registry.address}/x", layer)
        check(registry.address, layer, "gzip", b"plain" * 1000)

    def test_push_layer_writes_one_gzip_member(self, registry: Embedded) -> None:
        """A reader that stops after the first member sees all of it (RFC 1952, section 2.2)."""
        data = DATA["5 MB of random bytes"]
        layer = StreamLayer([data])
        brolga.push_layer(f"{registry.address}/x", layer)
        member = zlib.decompressobj(wbits=31)
        assert member.decompress(fetch_blob(registry.address, "x", layer.digest)) == data
        assert member.eof
        assert member.unused_data == b""

    def test_push_layer_stores_equal_bytes_once(self, registry: Embedded) -> None:
        """The digest is the address."""
        with Client() as client:
            for _ in range(2):
                client.push_layer(f"{registry.address}/x", StreamLayer([b"same"]))
        assert len(registry.blobs("x")) == 1

    @pytest.mark.parametrize("blocks", [0, 1, 3, 8])
    def test_push_layer_commits_nothing_if_the_source_raises(
        self, registry: Embedded, blocks: int
    ) -> None:
        """The error is the source's, the session is cancelled, and the layer has no digest."""
        cause = RuntimeError("the database went away")

        def source() -> Iterator[bytes]:
            for number in range(blocks):
                yield random.Random(number).randbytes(MIB)
            raise cause

        layer = StreamLayer(source())
        with pytest.raises(errors.SourceError, match="the database went away") as caught:
            brolga.push_layer(f"{registry.address}/x", layer)
        assert caught.value.__cause__ is cause
        assert layer.state is LayerState.FAILED
        with pytest.raises(brolga.NotComputed):
            _ = layer.digest
        assert registry.uploads("x") == []
        assert registry.blobs("x") == []

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_push_layer_cancels_the_session_if_the_source_is_interrupted(
        self, registry: Embedded, interrupt: type[BaseException]
    ) -> None:
        """The interrupt itself is raised."""

        def source() -> Iterator[bytes]:
            yield from (bytes([number]) * MIB for number in range(4))
            raise interrupt

        with pytest.raises(interrupt):
            brolga.push_layer(f"{registry.address}/x", StreamLayer(source()))
        assert registry.uploads("x") == []
        assert registry.blobs("x") == []


@pytest.fixture(scope="module")
def shared_registry() -> Iterator[str]:
    """Run one registry for many examples."""
    with tempfile.TemporaryDirectory() as directory, running(directory) as address:
        yield address


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.builds(
                lambda seed, size: random.Random(seed).randbytes(size),
                st.integers(0, 9),
                st.sampled_from([1, MIB - 1, MIB, MIB + 1]),
            ),
        ),
        max_size=6,
    ),
    compression=st.sampled_from(sorted(DECOMPRESS)),
    threads=st.integers(1, 3),
)
def test_push_layer_keeps_the_bytes_of_any_pieces(
    shared_registry: str, pieces: list[bytes], compression: str, threads: int
) -> None:
    """The blob is the whole stream, however it is cut."""
    layer = StreamLayer(pieces, compression, threads=threads)
    brolga.push_layer(f"{shared_registry}/x", layer)
    check(shared_registry, layer, compression, b"".join(pieces))


class TestCommand:
    """`brolga layer push` as a process."""

    @pytest.mark.parametrize("compression", DECOMPRESS)
    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    def test_layer_push_stores_the_bytes_of_stdin(
        self, registry: Embedded, compression: str, data: bytes
    ) -> None:
        """`… | brolga layer push --json REPO` prints one object, whose blob has these bytes."""
        repository = f"{registry.address}/x"
        command = ["layer", "push", "--json", "--compression", compression, repository]
        done = subprocess.run([*BROLGA, *command], input=data, capture_output=True, check=True)
        assert done.stderr == UNTAGGED_WARNING.encode()
        result = json.loads(done.stdout)
        blob = fetch_blob(registry.address, "x", result["digest"])
        assert result["ref"] == f"{repository}@{digest_of(blob)}"
        assert result["size"] == len(blob)
        assert result["diffId"] == digest_of(data)
        assert result["uncompressedSize"] == len(data)
        assert DECOMPRESS[compression](blob) == data

    @pytest.mark.parametrize(
        ("number", "code", "line"),
        [
            (signal.SIGINT, 130, "brolga: interrupted\n"),
            (signal.SIGTERM, 143, "brolga: stopped by SIGTERM\n"),
            (signal.SIGHUP, 129, "brolga: stopped by SIGHUP\n"),
        ],
    )
    def test_layer_push_cancels_the_session_on_a_signal(
        self, registry: Embedded, number: signal.Signals, code: int, line: str
    ) -> None:
        """The source is silent meanwhile: no session, no blob, and the signal's exit code."""
        with start_brolga("layer", "push", f"{registry.address}/x") as process:
            feed(process, random.Random(2).randbytes(8 * MIB))
            wait_until(lambda: any(upload.stat().st_size for upload in registry.uploads("x")))
            process.send_signal(number)
            assert finish(process) == (code, "", line)
        assert registry.uploads("x") == []
        assert registry.blobs("x") == []

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc/self/task here")
    def test_layer_push_ends_on_sigint_before_the_first_byte(self, registry: Embedded) -> None:
        """A user need not wait for a source that is silent."""
        with start_brolga("layer", "push", f"{registry.address}/x") as process:
            # No PATCH is opened before there are bytes for it: the thread that reads the source
            # is started once the POST has its answer.
            wait_until(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 1)
            assert registry.uploads("x") != []
            process.send_signal(signal.SIGINT)
            assert finish(process)[0] == 130
        assert registry.uploads("x") == []

    def test_layer_push_ends_at_second_signal_while_delete_hangs(self) -> None:
        """The session cannot be cancelled if the registry does not answer."""
        patching, deleting, finished = threading.Event(), threading.Event(), threading.Event()

        def watch(peer: Peer, head: list[str]) -> bool:
            if head[0].startswith("PATCH"):
                patching.set()
            elif head[0].startswith("DELETE"):
                deleting.set()
                return finished.wait(PATIENCE_S)
            return False

        with scripted(ScriptedRegistry(watch)) as address:
            with start_brolga("layer", "push", f"{address}/x") as process:
                feed(process, random.Random(4).randbytes(4 * MIB))
                assert patching.wait(PATIENCE_S)
                process.send_signal(signal.SIGINT)
                assert deleting.wait(PATIENCE_S)
                process.send_signal(signal.SIGINT)
                ended = finish(process)
            finished.set()
        assert ended == (130, "", "brolga: interrupted\n")

    def test_layer_push_fails_if_the_registry_dies_in_mid_upload(self, tmp_path: Path) -> None:
        """Exit code 5; the error has how many bytes went out, and what to do."""
        uploads = tmp_path / "x" / ".uploads"
        with start_brolga("registry", "serve", "--port", "0", str(tmp_path)) as registry:
            assert registry.stdout is not None
            address = registry.stdout.readline().decode().strip()
            push = ["layer", "push", "--retries", "0", f"{address}/x"]
            with start_brolga(*push) as process:
                feed(process, random.Random(3).randbytes(8 * MIB))
                wait_until(lambda: any(upload.stat().st_size for upload in uploads.glob("*")))
                registry.kill()
                code, out, err = finish(process)
        assert (code, out) == (5, "")
        assert err.startswith("brolga: registry: the upload was cut after ")
        assert err.endswith("; nothing was committed; push again, or allow more --retries\n")
        assert err.count("\n") == 1

    def test_layer_push_sees_401_while_source_is_idle(self) -> None:
        """Exit code 4 at once, not only when the source goes on."""
        heads: list[str] = []
        refuse = refuse_patch(401, b"", 'WWW-Authenticate: Basic realm="x"')

        def record(peer: Peer, head: list[str]) -> bool:
            heads.append(head[0].rpartition(" ")[0])
            return refuse(peer, head)

        registry = ScriptedRegistry(record, location="/upload/1?_state=a%2Fb")
        with scripted(registry) as address:  # noqa: SIM117 - the process ends before the server
            with start_brolga("layer", "push", "--retries", "0", f"{address}/x") as process:
                feed(process, random.Random(5).randbytes(2 * MIB))
                code, out, err = finish(process)
        assert (code, out) == (4, "")
        assert "with 401" in err
        assert heads == [
            "GET /v2/",
            "POST /v2/x/blobs/uploads/",
            "PATCH /upload/1?_state=a%2Fb",
            "DELETE /upload/1?_state=a%2Fb",
        ]

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc/self/mem here")
    def test_layer_push_exits_with_7_if_the_source_cannot_be_read(self, registry: Embedded) -> None:
        """A file that opens and then fails, as on a bad disk: nothing is committed."""
        arguments = ["layer", "push", f"{registry.address}/x", "/proc/self/mem"]
        done = subprocess.run([*BROLGA, *arguments], capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (7, b"")
        assert done.stderr == (
            b"brolga: source: the source cannot be read: [Errno 5] Input/output error\n"
        )
        assert registry.blobs("x") == []
        assert registry.uploads("x") == []


class TestToken:
    """The token protocol, against a scripted token server (distribution, Token Authentication)."""

    @pytest.mark.parametrize("credentials", [None, Credentials("someone", "secret")])
    def test_push_fetches_and_uses_a_bearer_token(self, credentials: Credentials | None) -> None:
        """Anonymous, or with Basic credentials that go to the realm alone."""
        token_requests: list[tuple[str, list[str]]] = []

        def tokens(peer: Peer) -> None:
            head = peer.head()
            token_requests.append((head[0].split(" ")[1], peer.header("authorization", head)))
            peer.answer(200, json.dumps({"token": "t0ken"}).encode())

        def challenge(peer: Peer, head: list[str]) -> bool:
            authorization = peer.header("authorization", head)
            if authorization == ["Bearer t0ken"]:
                return False
            assert authorization == []
            peer.answer(401, b"", f'WWW-Authenticate: Bearer realm="{realm}",service="here"')
            return True

        registry = ScriptedRegistry(challenge)
        layer = StreamLayer([b"data"], "none")
        with scripted(tokens) as token_address:
            realm = f"http://{token_address}/token?a=b"
            with scripted(registry) as address, Client(credentials=credentials) as client:
                client.push_layer(f"{address}/team/app", layer)
        expected = [] if credentials is None else ["Basic " + b64encode(b"someone:secret").decode()]
        scope = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush&service=here"
        assert token_requests == [(f"/token?a=b&{scope}", expected)]
        assert registry.methods == ["POST", "PATCH", "PUT"]
        assert registry.body == b"data"

    def test_push_commits_nothing_after_401_in_mid_stream(self) -> None:
        """A 401 to the PATCH must never become an empty or a partial blob."""
        challenge = 'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/"'
        registry = ScriptedRegistry(refuse_patch(401, b"", challenge))
        layer = StreamLayer(zeros(), "none")
        with (
            scripted(registry) as address,
            Client(retry=ONE_ATTEMPT) as client,
            pytest.raises(errors.Unauthorized, match="401"),
        ):
            client.push_layer(f"{address}/x", layer)
        assert registry.methods == ["GET", "POST", "DELETE"]
        assert layer.state is LayerState.FAILED


class TestDishonestRegistry:
    """The client checks what a registry says."""

    def test_push_fails_after_202_to_half_a_stream(self) -> None:
        """The upload is interrupted and cancelled."""
        registry = ScriptedRegistry(refuse_patch(202))
        with (
            scripted(registry) as address,
            Client(retry=ONE_ATTEMPT) as client,
            pytest.raises(errors.UploadInterrupted, match="before the end"),
        ):
            client.push_layer(f"{address}/x", StreamLayer(zeros(), "none"))
        assert registry.methods == ["GET", "POST", "DELETE"]

    def test_push_fails_if_the_registry_names_another_digest(self) -> None:
        """`Docker-Content-Digest` of the PUT must be the digest of the bytes."""
        other = digest_of(b"other")
        registry = ScriptedRegistry(put_headers=[f"Docker-Content-Digest: {other}"])
        with (
            scripted(registry) as address,
            Client() as client,
            pytest.raises(errors.DigestMismatch, match=other),
        ):
            client.push_layer(f"{address}/x", StreamLayer([b"data"]))
        assert registry.methods == ["GET", "POST", "PATCH", "PUT", "DELETE"]


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")
def test_layer_push_stores_a_tar_from_a_shell_pipe(registry: Embedded, tmp_path: Path) -> None:
    """`tar -c … | brolga layer push --json REPO`, as the README has it."""
    script = 'tar -C "$1" -c . | tee "$2" | "$3" -m brolga layer push --json "$4"'
    package = Path(brolga.__file__).parent
    copy = tmp_path / "copy.tar"
    repository = f"{registry.address}/x"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(package), str(copy), sys.executable, repository],
        capture_output=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert gzip.decompress(fetch_blob(registry.address, "x", result["digest"])) == copy.read_bytes()
