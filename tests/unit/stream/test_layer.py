"""stream/layer.py: the states and results of a layer that is read once."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import random
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.stream.layers import SMALL, assert_not_computed, drain, sha256

from brolga import (
    Descriptor,
    Digest,
    LayerState,
    StreamConsumed,
    StreamLayer,
)
from brolga.errors import InvalidDigest
from brolga.spec.blob import Progress, digest_algorithm
from brolga.stream.compression import BLOCK_SIZE
from brolga.stream.layer import MAX_THREADS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from brolga import LayerStream

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("threads", [1, 3])
def test_stream_computes_digest_size_and_diff_id(
    compression: str, threads: int, large: bytes
) -> None:
    """DiffID of the uncompressed bytes; digest and size of the compressed ones."""
    layer = StreamLayer([large], compression, threads=threads)
    assert layer.state.value == "fresh"
    out = drain(layer)
    assert layer.state is LayerState.DONE
    assert layer.digest == sha256(out)
    assert layer.size == len(out)
    assert layer.diff_id == sha256(large)
    assert layer.uncompressed_size == len(large)
    assert layer.descriptor == Descriptor(layer.media_type, layer.digest, layer.size)
    assert layer.progress == Progress(len(large), len(out))
    if compression == "gzip":
        assert gzip.decompress(out) == large


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_stream_computes_digest_by_the_algorithm(
    compression: str, algorithm: str, large: bytes
) -> None:
    """The DiffID is by sha256 in any case, as config.md has it."""
    layer = StreamLayer([large], compression, digest_algorithm=algorithm)
    assert digest_algorithm(layer) == algorithm
    out = drain(layer)
    assert layer.digest == layer.descriptor.digest == Digest.of(out, algorithm)
    assert layer.diff_id == sha256(large)
    assert digest_algorithm(layer) == algorithm


def test_layer_rejects_unknown_algorithm() -> None:
    """Before anything is read."""
    with pytest.raises(InvalidDigest, match="'md5' cannot be computed here: sha256 and sha512 can"):
        StreamLayer([b"a"], digest_algorithm="md5")


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_reread_after_sha512_stream(compression: str, tmp_path: Path) -> None:
    """The second pass compares what was read, whatever the digest is."""
    path = tmp_path / "source"
    path.write_bytes(SMALL)
    layer = StreamLayer(path, compression, digest_algorithm="sha512")
    with layer.open() as stream:
        first = b"".join(stream)
        assert b"".join(stream.reread()) == first


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layer_of_empty_stream(compression: str) -> None:
    """An empty stream is legal and gives a valid layer."""
    layer = StreamLayer([], compression)
    out = drain(layer)
    assert layer.diff_id == sha256(b"")
    assert layer.digest == sha256(out)
    assert (layer.size, layer.uncompressed_size) == (len(out), 0)


def test_layer_of_any_source(tmp_path: Path) -> None:
    """A path, a binary file, a file of Python code, an iterable: the same layer."""
    path = tmp_path / "data"
    path.write_bytes(SMALL)
    with path.open("rb") as file:
        sources: list[Any] = [path, str(path), file, io.BytesIO(SMALL), [SMALL], iter([SMALL])]
        layers = [StreamLayer(source) for source in sources]
        assert len({drain(layer) for layer in layers}) == 1
    assert [layer.source_size for layer in layers] == [len(SMALL)] * 3 + [None] * 3


def test_media_type_defaults_to_compression() -> None:
    """image-spec media-types.md: the layer's media type names its compression."""
    of = {name: StreamLayer([], name).media_type for name in ("gzip", "zstd", "none")}
    assert of == {
        "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        "none": "application/vnd.oci.image.layer.v1.tar",
    }
    assert StreamLayer([], media_type="application/x-dump").media_type == "application/x-dump"


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"compression": "lzma"}, ValueError, "'lzma' is not one of"),
        ({"level": 11}, ValueError, "levels 1 to 9"),
        ({"threads": 0}, ValueError, "threads must be 1 or more, not 0"),
        ({"media_type": "no type"}, ValueError, "media type 'no type' is not"),
        ({"source": "text"}, None, ""),
        ({"source": io.StringIO()}, TypeError, "text-mode"),
    ],
)
def test_layer_rejects_invalid_arguments_before_reading(
    arguments: dict[str, Any], error: type[Exception] | None, why: str
) -> None:
    """A wrong argument is told by the constructor, not after a hundred gigabytes."""
    arguments = {"source": [], **arguments}
    if error is None:
        StreamLayer(**arguments)
        return
    with pytest.raises(error, match=why):
        StreamLayer(**arguments)


def test_threads_default_to_cores_up_to_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than five cannot outrun the serial sha256 of the DiffID."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert StreamLayer([])._threads == MAX_THREADS
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert StreamLayer([])._threads == 1


def test_results_raise_not_computed_before_end(large: bytes) -> None:
    """Digest, DiffID and sizes raise NotComputed until done."""
    layer = StreamLayer([large])
    assert_not_computed(layer)
    with layer.open() as stream:
        assert layer.state is LayerState.OPEN
        assert_not_computed(layer)
        for _ in stream:
            assert_not_computed(layer)
    assert layer.size


def test_open_raises_the_second_time(large: bytes) -> None:
    """A second open raises StreamConsumed, whatever became of the first."""
    layer = StreamLayer([large])
    with layer.open() as stream:
        with pytest.raises(StreamConsumed, match="is already open"):
            layer.open()
        for _ in stream:
            pass
    with pytest.raises(StreamConsumed, match="is already done") as caught:
        layer.open()
    assert caught.value.__cause__ is None


def test_open_by_two_threads_succeeds_once() -> None:
    """Exactly one has the stream, and the other hears StreamConsumed, wherever they meet."""
    opened: list[LayerStream] = []
    messages: list[str] = []

    def try_to_open(layer: StreamLayer) -> None:
        try:
            opened.append(layer.open())
        except StreamConsumed as error:
            messages.append(str(error))

    def meet(nth: int) -> None:
        """Open a layer, and once more just before the nth line of that."""
        layer = StreamLayer([b"x"])
        line = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal line
            if event == "line":
                line += 1
                if line == nth:
                    try_to_open(layer)
            return trace if frame.f_code is StreamLayer.open.__code__ else None

        sys.settrace(trace)
        try_to_open(layer)
        sys.settrace(None)

    for nth in itertools.count(1):
        thread = threading.Thread(target=meet, args=(nth,))  # tracing is of one thread
        thread.start()
        thread.join()
        opened.pop().close()
        assert not opened
        if not messages:  # there is no such line
            break
        assert messages.pop() == "a stream can be opened only once; this one is already open"
    assert nth > 5


def test_blocks_yields_heartbeats_while_source_is_silent() -> None:
    """A sender can check for a response meanwhile."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb", buffering=0) as out:
        layer = StreamLayer(file, "none")
        with layer.open() as stream:
            beats = stream.blocks()
            assert [bytes(next(beats)) for _ in range(3)] == [b"", b"", b""]
            out.write(b"abc")
            out.close()
            assert b"".join(beats) == b"abc"
    assert layer.diff_id == sha256(b"abc")


def test_iteration_omits_heartbeats() -> None:
    """No block that a user sees is empty."""
    layer = StreamLayer([b"", SMALL, b""], "none")
    with layer.open() as stream:
        assert all(stream)


def read_whole(stream: LayerStream) -> bytes:
    return stream.read()


def read_by_sizes(stream: LayerStream) -> bytes:
    sizes = random.Random(4)
    parts = []
    while part := stream.read(sizes.randrange(1, 3 * BLOCK_SIZE)):
        parts.append(part)
    return b"".join(parts)


def read_into(stream: LayerStream) -> bytes:
    buffer, parts = bytearray(100_003), []
    while count := stream.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


def read_some_then_iterate(stream: LayerStream) -> bytes:
    return stream.read(7) + b"".join(stream)


@pytest.mark.parametrize("how", [read_whole, read_by_sizes, read_into, read_some_then_iterate])
def test_read_returns_same_bytes_as_iteration(how: Any, large: bytes) -> None:
    """Iterable, `read` and `readinto` are one stream."""
    expected = drain(StreamLayer([large]))
    layer = StreamLayer([large])
    with layer.open() as stream:
        assert how(stream) == expected
        assert stream.read() == b""
        assert stream.read(5) == b""
    assert layer.digest == sha256(expected)


def test_read_returns_fewer_bytes_only_at_end(large: bytes) -> None:
    """As a raw file would not: a reader of records needs whole ones."""
    layer = StreamLayer([large], "none")
    with layer.open() as stream:
        sizes = [len(stream.read(BLOCK_SIZE - 1)) for _ in range(7)]
    assert sizes[:5] == [BLOCK_SIZE - 1] * 5
    assert sum(sizes) == len(large)


def test_read_after_close_raises() -> None:
    """It says so, and does not look like an end."""
    layer = StreamLayer([SMALL])
    stream = layer.open()
    stream.close()
    stream.close()
    for again in (stream.read, lambda: stream.read(1), lambda: list(stream)):
        with pytest.raises(StreamConsumed, match="was closed"):
            again()


def test_blocks_in_pools_are_bounded() -> None:
    """Memory does not grow with the stream: a reader that waits stops the source."""
    asked = 0

    def counting() -> Iterator[bytes]:
        nonlocal asked
        while asked < 1000:
            asked += 1
            yield bytes(BLOCK_SIZE)

    layer = StreamLayer(counting(), threads=2)
    with layer.open() as stream:
        blocks = iter(stream)
        for _ in range(3):
            next(blocks)
        assert asked <= 3 + 2 + 2  # given, under way, one taken at open and one more


def test_state_is_open_while_source_is_read() -> None:
    """The first block is read during `open`; the layer cannot be opened again meanwhile."""
    seen = []

    def curious() -> Iterator[bytes]:
        seen.append(layer.state)
        yield b"x"

    layer = StreamLayer(curious())
    drain(layer)
    assert seen == [LayerState.OPEN]


def test_repr_shows_state_and_not_source() -> None:
    """It may end in a log."""
    layer = StreamLayer([b"secret"], "none")
    assert repr(layer) == "<StreamLayer fresh, 0 bytes read, 0 written>"
    with layer.open() as stream:
        stream.read()
        assert repr(stream) == "<LayerStream done, 6 bytes read, 6 written>"
