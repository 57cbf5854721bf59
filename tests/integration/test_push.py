"""A push, end to end: source, pipeline, protocol and sockets, into the embedded registry."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tempfile
import threading
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats import DECOMPRESS
from tests.images import digest_of
from tests.raw_server import Peer, serve_script
from tests.registries import ScriptedRegistry, fetch_blob, refuse_patch

import brolga
from brolga import errors
from brolga.client import Client
from brolga.protocol import Credentials, Retry
from brolga.registry.server import running
from brolga.spec.blob import LayerState
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.registries import EmbeddedRegistry

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
        registry: EmbeddedRegistry,
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

    def test_push_layer_reads_a_pipe_in_one_pass(self, registry: EmbeddedRegistry) -> None:
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
        self, registry: EmbeddedRegistry, tmp_path: Path
    ) -> None:
        """The descriptor below the file object is not read directly."""
        path = tmp_path / "source.gz"
        path.write_bytes(gzip.compress(b"plain" * 1000))
        with gzip.open(path) as source:
            layer = StreamLayer(source)
            brolga.push_layer(f"{registry.address}/x", layer)
        check(registry.address, layer, "gzip", b"plain" * 1000)

    def test_push_layer_writes_one_gzip_member(self, registry: EmbeddedRegistry) -> None:
        """A reader that stops after the first member sees all of it (RFC 1952, section 2.2)."""
        data = DATA["5 MB of random bytes"]
        layer = StreamLayer([data])
        brolga.push_layer(f"{registry.address}/x", layer)
        member = zlib.decompressobj(wbits=31)
        assert member.decompress(fetch_blob(registry.address, "x", layer.digest)) == data
        assert member.eof
        assert member.unused_data == b""

    def test_push_layer_stores_equal_bytes_once(self, registry: EmbeddedRegistry) -> None:
        """The digest is the address."""
        with Client() as client:
            for _ in range(2):
                client.push_layer(f"{registry.address}/x", StreamLayer([b"same"]))
        assert len(registry.blobs("x")) == 1

    @pytest.mark.parametrize("blocks", [0, 1, 3, 8])
    def test_push_layer_commits_nothing_if_the_source_raises(
        self, registry: EmbeddedRegistry, blocks: int
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
        self, registry: EmbeddedRegistry, interrupt: type[BaseException]
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
        with serve_script(tokens) as token_address:
            realm = f"http://{token_address}/token?a=b"
            with serve_script(registry) as address, Client(credentials=credentials) as client:
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
            serve_script(registry) as address,
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
            serve_script(registry) as address,
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
            serve_script(registry) as address,
            Client() as client,
            pytest.raises(errors.DigestMismatch, match=other),
        ):
            client.push_layer(f"{address}/x", StreamLayer([b"data"]))
        assert registry.methods == ["GET", "POST", "PATCH", "PUT", "DELETE"]
