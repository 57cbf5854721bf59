"""A push, end to end: source, pipeline, wire and sockets, into the embedded registry."""

from __future__ import annotations

import gzip
import hashlib
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
import time
import urllib.request
import zlib
from base64 import b64encode
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.raw_server import Peer, serve_script

import brolga
from brolga.client import Client
from brolga.errors import (
    DigestMismatch,
    SourceError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol import Credentials, Retry
from brolga.registry.server import running
from brolga.spec.blob import LayerState
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.conftest import Embedded

    from brolga.stream.sources import Source

NOT_KEPT = (
    b"warning: no manifest names this layer, and a garbage collection of the registry may delete "
    b"it; REPO:TAG keeps it\n"
)
MIB = 1 << 20
PATIENCE_S = 30.0
ONCE = Retry(attempts=1)
DATA = {
    "nothing": b"",
    "one byte": b"x",
    "5 MB of random bytes": random.Random(1).randbytes(5_000_000),
}


def _unzstd(data: bytes) -> bytes:
    try:
        zstd = import_module("compression.zstd")
    except ImportError:
        zstd = import_module("backports.zstd")
    plain: bytes = zstd.decompress(data)
    return plain


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": _unzstd,
    "none": bytes,
}


def sha256(data: bytes) -> str:
    """Return a digest as the registry's API spells it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_blob(address: str, repository: str, digest: object) -> bytes:
    """Read a blob back with another client."""
    url = f"http://{address}/v2/{repository}/blobs/{digest}"
    with urllib.request.urlopen(url) as answer:
        data: bytes = answer.read()
    return data


def check(address: str, layer: StreamLayer, compression: str, data: bytes) -> None:
    """Hold what the registry has against what was pushed, computed by other code."""
    blob = read_blob(address, "x", layer.digest)
    assert sha256(blob) == str(layer.digest)
    assert len(blob) == layer.size
    assert DECOMPRESS[compression](blob) == data
    assert sha256(data) == str(layer.diff_id)
    assert len(data) == layer.uncompressed_size


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
    def test_what_was_pushed_is_read_back(
        self,
        registry: Embedded,
        tmp_path: Path,
        source: Callable[[bytes, Path], Source],
        compression: str,
        data: bytes,
    ) -> None:
        """Digest, DiffID and size are those of the blob that is there, whatever the source."""
        layer = StreamLayer(source(data, tmp_path), compression)
        brolga.push_layer(f"{registry.address}/x", layer)
        check(registry.address, layer, compression, data)
        assert registry.uploads("x") == []

    def test_a_pipe_is_read_as_it_comes(self, registry: Embedded) -> None:
        """No size, no seek, no end in sight: one pass."""
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

    def test_a_gzip_file_is_a_source_of_its_plain_bytes(
        self, registry: Embedded, tmp_path: Path
    ) -> None:
        """What has a descriptor below it is not read around."""
        path = tmp_path / "source.gz"
        path.write_bytes(gzip.compress(b"plain" * 1000))
        with gzip.open(path) as source:
            layer = StreamLayer(source)
            brolga.push_layer(f"{registry.address}/x", layer)
        check(registry.address, layer, "gzip", b"plain" * 1000)

    def test_the_blob_is_one_gzip_member(self, registry: Embedded) -> None:
        """A reader that stops after the first member sees all of it (RFC 1952, section 2.2)."""
        data = DATA["5 MB of random bytes"]
        layer = StreamLayer([data])
        brolga.push_layer(f"{registry.address}/x", layer)
        member = zlib.decompressobj(wbits=31)
        assert member.decompress(read_blob(registry.address, "x", layer.digest)) == data
        assert member.eof
        assert member.unused_data == b""

    def test_the_same_bytes_twice_are_one_blob(self, registry: Embedded) -> None:
        """The digest is the address."""
        with Client() as client:
            for _ in range(2):
                client.push_layer(f"{registry.address}/x", StreamLayer([b"same"]))
        assert len(registry.blobs("x")) == 1

    @pytest.mark.parametrize("blocks", [0, 1, 3, 8])
    def test_a_source_that_raises_commits_nothing(self, registry: Embedded, blocks: int) -> None:
        """The error is the source's, the session is cancelled, the layer has no digest."""
        cause = RuntimeError("the database went away")

        def source() -> Iterator[bytes]:
            for number in range(blocks):
                yield random.Random(number).randbytes(MIB)
            raise cause

        layer = StreamLayer(source())
        with pytest.raises(SourceError, match="the database went away") as caught:
            brolga.push_layer(f"{registry.address}/x", layer)
        assert caught.value.__cause__ is cause
        assert layer.state is LayerState.FAILED
        with pytest.raises(brolga.NotComputed):
            _ = layer.digest
        assert registry.uploads("x") == []
        assert registry.blobs("x") == []

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_in_the_source_cancels_the_session(
        self, registry: Embedded, interrupt: type[BaseException]
    ) -> None:
        """It comes out as itself."""

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
def test_any_pieces_give_the_blob_whose_decompression_is_the_input(
    shared_registry: str, pieces: list[bytes], compression: str, threads: int
) -> None:
    """However a stream is cut, the blob is the whole of it and nothing else."""
    layer = StreamLayer(pieces, compression, threads=threads)
    brolga.push_layer(f"{shared_registry}/x", layer)
    check(shared_registry, layer, compression, b"".join(pieces))


@contextmanager
def brolga_process(
    *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command as a process with three pipes; kill it if the test leaves it running."""
    # Where the tests run in the background SIGINT is ignored, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "brolga", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **(environment or {})},
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until another process has come so far."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write to a process and leave its stdin open."""
    assert process.stdin is not None
    written = 0
    while written < len(data):
        written += process.stdin.write(data[written:]) or 0


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for the end, with stdin still open; return exit code, stdout and stderr."""
    assert process.stdout is not None
    assert process.stderr is not None
    code = process.wait(PATIENCE_S)
    return code, process.stdout.read().decode(), process.stderr.read().decode()


class TestCommand:
    """`brolga layer push` as a process."""

    @pytest.mark.parametrize("compression", DECOMPRESS)
    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    def test_what_was_piped_in_is_read_back(
        self, registry: Embedded, compression: str, data: bytes
    ) -> None:
        """`… | brolga layer push --json REPO`: one object, whose blob is the bytes sent."""
        repository = f"{registry.address}/x"
        command = ["layer", "push", "--json", "--compression", compression, repository]
        done = subprocess.run(
            [sys.executable, "-m", "brolga", *command], input=data, capture_output=True, check=True
        )
        assert done.stderr == NOT_KEPT
        result = json.loads(done.stdout)
        blob = read_blob(registry.address, "x", result["digest"])
        assert result["ref"] == f"{repository}@{sha256(blob)}"
        assert result["size"] == len(blob)
        assert result["diffId"] == sha256(data)
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
    def test_a_signal_in_mid_upload_cancels_the_session(
        self, registry: Embedded, number: signal.Signals, code: int, line: str
    ) -> None:
        """Ctrl-C while the source says nothing: exit 130, no session, no blob."""
        with brolga_process("layer", "push", f"{registry.address}/x") as process:
            feed(process, random.Random(2).randbytes(8 * MIB))
            wait_for(lambda: any(upload.stat().st_size for upload in registry.uploads("x")))
            process.send_signal(number)
            assert outcome(process) == (code, "", line)
        assert registry.uploads("x") == []
        assert registry.blobs("x") == []

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc/self/task here")
    def test_a_signal_before_the_first_byte_ends_it_too(self, registry: Embedded) -> None:
        """Whoever waits for a source that never speaks can stop waiting."""
        with brolga_process("layer", "push", f"{registry.address}/x") as process:
            # No PATCH is opened before there are bytes for it: the thread that reads the source
            # is started once the POST has its answer.
            wait_for(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 1)
            assert registry.uploads("x") != []
            process.send_signal(signal.SIGINT)
            assert outcome(process)[0] == 130
        assert registry.uploads("x") == []

    def test_a_second_signal_does_not_wait_for_the_registry(self) -> None:
        """The session cannot be cancelled where the registry does not answer: one may leave."""
        deleting, finished = threading.Event(), threading.Event()

        def script(peer: Peer) -> None:
            while head := peer.head():
                method = head[0].partition(" ")[0]
                if method == "GET":
                    peer.answer(200)
                elif method == "POST":
                    peer.answer(202, b"", "Location: /upload/1")
                elif method == "PATCH":
                    patching.set()
                    if peer.chunks()[1]:  # or the connection is cut, where no body had begun yet
                        peer.answer(202, b"", "Location: /upload/2")
                elif method == "DELETE":
                    deleting.set()
                    finished.wait(PATIENCE_S)

        patching = threading.Event()
        with serve_script(script) as address:
            with brolga_process("layer", "push", f"{address}/x") as process:
                feed(process, random.Random(4).randbytes(4 * MIB))
                assert patching.wait(PATIENCE_S)
                process.send_signal(signal.SIGINT)
                assert deleting.wait(PATIENCE_S)
                process.send_signal(signal.SIGINT)
                code, out, err = outcome(process)
            finished.set()
        assert (code, out, err) == (130, "", "brolga: interrupted\n")

    def test_a_registry_that_dies_in_mid_upload_is_said_so(self, tmp_path: Path) -> None:
        """Exit 5: how many bytes went out, that nothing was committed, and what to do."""
        uploads = tmp_path / "x" / ".uploads"
        with brolga_process("registry", "serve", "--port", "0", str(tmp_path)) as registry:
            assert registry.stdout is not None
            address = registry.stdout.readline().decode().strip()
            push = ["layer", "push", "--retries", "0", f"{address}/x"]
            with brolga_process(*push) as process:
                feed(process, random.Random(3).randbytes(8 * MIB))
                wait_for(lambda: any(upload.stat().st_size for upload in uploads.glob("*")))
                registry.kill()
                code, out, err = outcome(process)
        assert (code, out) == (5, "")
        assert err.startswith("brolga: registry: the upload was cut after ")
        assert err.endswith("; nothing was committed; push again, or allow more --retries\n")
        assert err.count("\n") == 1

    def test_a_refusal_is_seen_while_the_source_is_idle(self) -> None:
        """A 401 in the middle of the stream: exit 4 at once, not when the source goes on."""
        heads: list[str] = []

        def script(peer: Peer) -> None:
            while head := peer.head():
                heads.append(head[0].rpartition(" ")[0])
                if head[0].startswith("PATCH"):
                    peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')
                    peer.drain()
                else:
                    peer.answer(202, b"", "Location: /upload/1?_state=a%2Fb")

        def registry(peer: Peer) -> None:
            assert peer.head()[0] == "GET /v2/ HTTP/1.1"
            peer.answer(200)
            script(peer)

        started = threading.Event()

        def dispatch(peer: Peer) -> None:
            first = not started.is_set()
            started.set()
            (registry if first else script)(peer)

        with serve_script(dispatch) as address:  # noqa: SIM117 - the process ends before the server
            with brolga_process("layer", "push", "--retries", "0", f"{address}/x") as process:
                feed(process, random.Random(5).randbytes(2 * MIB))
                code, out, err = outcome(process)
        assert (code, out) == (4, "")
        assert "with 401" in err
        assert heads == [
            "POST /v2/x/blobs/uploads/",
            "PATCH /upload/1?_state=a%2Fb",
            "DELETE /upload/1?_state=a%2Fb",
        ]

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc/self/mem here")
    def test_a_source_that_cannot_be_read_is_exit_code_7(self, registry: Embedded) -> None:
        """A file that opens and then fails, as a bad disk does: nothing is committed."""
        arguments = ["layer", "push", f"{registry.address}/x", "/proc/self/mem"]
        done = subprocess.run(
            [sys.executable, "-m", "brolga", *arguments], capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == (7, b"")
        assert done.stderr == (
            b"brolga: source: the source cannot be read: [Errno 5] Input/output error\n"
        )
        assert registry.blobs("x") == []
        assert registry.uploads("x") == []


class _Registry:
    """A scripted registry that takes one blob, behind whatever `admit` demands."""

    def __init__(self, admit: Callable[[Peer, list[str]], bool]) -> None:
        self._admit = admit
        self.log: list[str] = []
        self.body = b""
        self.put: Iterable[str] = ()

    def __call__(self, peer: Peer) -> None:
        while head := peer.head():
            method, target, _ = head[0].split(" ")
            if not self._admit(peer, head):
                continue
            self.log.append(method)
            getattr(self, f"_{method.lower()}")(peer, target)

    def _get(self, peer: Peer, _target: str) -> None:
        peer.answer(200)

    def _post(self, peer: Peer, _target: str) -> None:
        peer.answer(202, b"", "Location: upload")

    def _patch(self, peer: Peer, _target: str) -> None:
        chunks, whole = peer.chunks()
        if whole:
            self.body = b"".join(chunks)
            peer.answer(202)

    def _put(self, peer: Peer, _target: str) -> None:
        peer.answer(201, b"", *self.put)

    def _delete(self, peer: Peer, _target: str) -> None:
        peer.answer(204)


class TestToken:
    """The token protocol, against a scripted token server (distribution, Token Authentication)."""

    @pytest.mark.parametrize("credentials", [None, Credentials("someone", "secret")])
    def test_a_bearer_token_is_fetched_and_used(self, credentials: Credentials | None) -> None:
        """Anonymous, or with Basic credentials that go to the realm alone."""
        asked: list[tuple[str, list[str]]] = []

        def tokens(peer: Peer) -> None:
            head = peer.head()
            asked.append((head[0].split(" ")[1], peer.header("authorization", head)))
            peer.answer(200, json.dumps({"token": "t0ken"}).encode())

        def admit(peer: Peer, head: list[str]) -> bool:
            authorization = peer.header("authorization", head)
            if authorization == ["Bearer t0ken"]:
                return True
            assert authorization == []
            peer.answer(401, b"", f'WWW-Authenticate: Bearer realm="{realm}",service="here"')
            return False

        registry = _Registry(admit)
        layer = StreamLayer([b"data"], "none")
        with serve_script(tokens) as token_address:
            realm = f"http://{token_address}/token?a=b"
            with serve_script(registry) as address, Client(credentials=credentials) as client:
                client.push_layer(f"{address}/team/app", layer)
        expected = [] if credentials is None else ["Basic " + b64encode(b"someone:secret").decode()]
        scope = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush&service=here"
        assert asked == [(f"/token?a=b&{scope}", expected)]
        assert registry.log == ["POST", "PATCH", "PUT"]
        assert registry.body == b"data"

    def test_a_token_that_is_refused_in_mid_stream_commits_nothing(self) -> None:
        """A 401 to the PATCH must never become an empty or a partial blob."""

        def admit(peer: Peer, head: list[str]) -> bool:
            if not head[0].startswith("PATCH"):
                return True
            peer.chunk()
            peer.answer(401, b"", 'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/"')
            peer.drain()
            return False

        registry = _Registry(admit)

        def endless() -> Iterator[bytes]:
            while True:
                yield bytes(MIB)

        layer = StreamLayer(endless(), "none")
        with (
            serve_script(registry) as address,
            Client(retry=ONCE) as client,
            pytest.raises(Unauthorized, match="401"),
        ):
            client.push_layer(f"{address}/x", layer)
        assert registry.log == ["GET", "POST", "DELETE"]
        assert layer.state is LayerState.FAILED


class TestDishonestRegistry:
    """What a registry says is checked."""

    def test_a_success_before_the_end_is_no_success(self) -> None:
        """202 to half a stream: interrupted, cancelled, and the layer has no digest."""

        def admit(peer: Peer, head: list[str]) -> bool:
            if head[0].startswith("PATCH"):
                peer.chunk()
                peer.answer(202)
                peer.drain()
                return False
            return True

        registry = _Registry(admit)

        def endless() -> Iterator[bytes]:
            while True:
                yield bytes(MIB)

        layer = StreamLayer(endless(), "none")
        with (
            serve_script(registry) as address,
            Client(retry=ONCE) as client,
            pytest.raises(UploadInterrupted, match="before the end"),
        ):
            client.push_layer(f"{address}/x", layer)
        assert registry.log == ["GET", "POST", "DELETE"]

    def test_another_digest_is_a_mismatch(self) -> None:
        """`Docker-Content-Digest` of the PUT is believed only where it agrees."""
        registry = _Registry(lambda _peer, _head: True)
        registry.put = [f"Docker-Content-Digest: {sha256(b'other')}"]
        with (
            serve_script(registry) as address,
            Client() as client,
            pytest.raises(DigestMismatch, match=sha256(b"other")),
        ):
            client.push_layer(f"{address}/x", StreamLayer([b"data"]))
        assert registry.log == ["GET", "POST", "PATCH", "PUT", "DELETE"]


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")
def test_a_tar_through_a_shell_pipe_arrives_whole(registry: Embedded, tmp_path: Path) -> None:
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
    assert gzip.decompress(read_blob(registry.address, "x", result["digest"])) == copy.read_bytes()
