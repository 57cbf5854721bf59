"""stream/layer.py: the states and results of a layer that is read once."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import itertools
import os
import random
import subprocess
import sys
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from isal import isal_zlib
from tests.threads import none_left, of_passes

from brolga import (
    Descriptor,
    Digest,
    LayerError,
    LayerState,
    NotComputed,
    SourceError,
    StreamConsumed,
    StreamLayer,
)
from brolga.spec.blob import Progress
from brolga.stream.compression import BLOCK_SIZE
from brolga.stream.layer import MAX_THREADS
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from brolga import LayerStream
    from brolga.stream.sources import Source

SMALL = b"brolga wades in streams\n" * 1000
RESULTS = ("digest", "diff_id", "size", "uncompressed_size", "descriptor")


@pytest.fixture(scope="module")
def large() -> bytes:
    """Several blocks and a bit, of bytes that compress somewhat."""
    words = random.Random(3)
    return b" ".join(b"%d" % words.randrange(9999) for _ in range(1_200_000))[: 5 * BLOCK_SIZE + 33]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """No thread outlives a test, whatever it did to the stream."""
    before = living()
    yield
    assert living() <= before


def living() -> set[threading.Thread]:
    """Return the threads there are.

    What Python calls a dummy is an entry for a thread of C that it came across (one that starts a
    worker, while garbage is collected in it), and stays after its end.
    """
    return {one for one in threading.enumerate() if not isinstance(one, threading._DummyThread)}


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def drained(layer: StreamLayer) -> bytes:
    with layer.open() as stream:
        return b"".join(stream)


def assert_state(layer: StreamLayer, state: LayerState) -> None:
    assert layer.state is state


def assert_not_computed(layer: StreamLayer) -> None:
    for name in RESULTS:
        with pytest.raises(NotComputed, match=f"{name} is not known until"):
            getattr(layer, name)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("threads", [1, 3])
def test_stream_computes_digest_size_and_diff_id(
    compression: str, threads: int, large: bytes
) -> None:
    """DiffID of the uncompressed bytes; digest and size of the compressed ones."""
    layer = StreamLayer([large], compression, threads=threads)
    assert_state(layer, LayerState.FRESH)
    out = drained(layer)
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
def test_layer_of_empty_stream(compression: str) -> None:
    """An empty stream is legal and gives a valid layer."""
    layer = StreamLayer([], compression)
    out = drained(layer)
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
        assert len({drained(layer) for layer in layers}) == 1
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
    told: list[str] = []

    def try_to_open(layer: StreamLayer) -> None:
        try:
            opened.append(layer.open())
        except StreamConsumed as error:
            told.append(str(error))

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
        if not told:  # there is no such line
            break
        assert told.pop() == "a stream can be opened only once; this one is already open"
    assert nth > 5


def test_failed_layer_keeps_first_cause() -> None:
    """NotComputed and StreamConsumed are chained to what ended the pass."""

    def failing() -> Iterator[bytes]:
        yield bytes(2 * BLOCK_SIZE)
        raise OSError("the disk is gone")

    layer = StreamLayer(failing())
    stream = layer.open()
    with pytest.raises(SourceError, match="OSError: the disk is gone") as caught:
        list(stream)
    first = caught.value
    stream.close()
    assert layer.state is LayerState.FAILED
    assert_not_computed(layer)
    for again in (layer.open, stream.read, lambda: layer.digest):
        with pytest.raises(LayerError) as later:
            again()
        assert later.value.__cause__ is first


def test_open_fails_layer_if_source_cannot_be_opened(tmp_path: Path) -> None:
    """A second attempt could read other bytes."""
    layer = StreamLayer(tmp_path / "none")
    with pytest.raises(SourceError):
        layer.open()
    assert layer.state is LayerState.FAILED
    with pytest.raises(StreamConsumed, match="is already failed"):
        layer.open()


@pytest.mark.parametrize("k", [0, 1, 2, 4])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_stream_fails_if_source_raises(k: int, compression: str) -> None:
    """The exception comes out, and no digest does."""

    def failing() -> Iterator[bytes]:
        yield from [random.Random(k).randbytes(BLOCK_SIZE)] * k
        raise RuntimeError("at k")

    layer = StreamLayer(failing(), compression)
    with pytest.raises(SourceError, match="at k"):
        drained(layer)
    assert layer.state is LayerState.FAILED


@pytest.mark.parametrize("k", [0, 1, 2, 5])
@pytest.mark.parametrize("threads", [1, 4])
def test_close_after_k_blocks_leaves_no_thread(
    k: int, threads: int, large: bytes, tmp_path: Path
) -> None:
    """An early close makes the layer failed, and stops every thread."""
    path = tmp_path / "data"
    path.write_bytes(large)
    sources: list[Source] = [path, [large]]
    for source in sources:
        layer = StreamLayer(source, threads=threads)
        with layer.open() as stream:
            for _, _block in zip(range(k), stream, strict=False):
                pass
        assert layer.state is LayerState.FAILED
        with pytest.raises(NotComputed) as caught:
            _ = layer.digest
        assert "the stream was closed after" in str(caught.value.__cause__)


def test_close_just_before_end_fails_layer() -> None:
    """The last block is the last only when there was no other."""
    layer = StreamLayer([SMALL])
    with layer.open() as stream:
        blocks = iter(stream)
        for _ in range(3):  # header, the one block, trailer
            next(blocks)
    assert layer.state is LayerState.FAILED


def test_exception_in_with_block_is_cause() -> None:
    """What the reader of the stream died of is what the layer remembers."""
    layer = StreamLayer([SMALL])
    with pytest.raises(ZeroDivisionError), layer.open():
        _ = 1 / 0
    with pytest.raises(StreamConsumed) as caught:
        layer.open()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_close_does_not_wait_for_blocked_source() -> None:
    """No thread outlives close(), though the writer of the pipe says nothing."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb"):
        layer = StreamLayer(file)
        with layer.open() as stream:
            beats = stream.blocks()
            while next(beats):
                pass  # the header; then nothing comes, which is a heartbeat
            assert threading.active_count() > 1
        assert layer.state is LayerState.FAILED
        assert of_passes() == []


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


def test_keyboard_interrupt_leaves_no_thread(large: bytes, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a pass is an early close."""
    path = tmp_path / "data"
    path.write_bytes(large)
    layer = StreamLayer(path)
    with pytest.raises(KeyboardInterrupt), layer.open() as stream:
        next(iter(stream))
        raise KeyboardInterrupt
    assert layer.state is LayerState.FAILED


def test_keyboard_interrupt_in_pass_propagates() -> None:
    """A source interrupted in the reader's own thread."""

    def interrupted() -> Iterator[bytes]:
        yield bytes(3 * BLOCK_SIZE)
        raise KeyboardInterrupt

    layer = StreamLayer(interrupted())
    with pytest.raises(KeyboardInterrupt), layer.open() as stream:
        list(stream)
    assert layer.state is LayerState.FAILED


def test_dropped_stream_warns_and_closes(large: bytes, tmp_path: Path) -> None:
    """As files do: ResourceWarning, and nothing stays open."""
    path = tmp_path / "data"
    path.write_bytes(large)
    layer = StreamLayer(path)
    stream = layer.open()
    next(iter(stream))
    with pytest.warns(ResourceWarning, match="unclosed <LayerStream open, "):
        del stream
    assert layer.state is LayerState.FAILED


def test_dropped_stream_at_end_does_not_warn(large: bytes) -> None:
    """There is nothing left to close."""
    layer = StreamLayer([large])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(layer.open())
    assert layer.state is LayerState.DONE


def test_error_in_encoding_thread_propagates(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in any stage ends the stream, and leaves no thread."""
    layer = StreamLayer([SMALL] * 100, threads=3)

    def broken(block: Any, window: Any) -> bytes:
        raise MemoryError("no room")

    object.__setattr__(layer._codec, "encode", broken)
    with pytest.raises(MemoryError, match="no room"):
        drained(layer)
    assert layer.state is LayerState.FAILED
    monkeypatch.undo()


def test_error_in_hashing_thread_propagates(large: bytes) -> None:
    """The thread that hashes the uncompressed bytes raises it too."""

    class Broken:
        def update(self, block: Any) -> None:
            raise MemoryError("no sum")

        def end(self) -> bytes:
            return b""

    layer = StreamLayer([large])
    object.__setattr__(layer._codec, "trailer", Broken)
    with pytest.raises(MemoryError, match="no sum"):
        drained(layer)


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
    expected = drained(StreamLayer([large]))
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


def test_close_after_end_keeps_results(large: bytes) -> None:
    """Done stays done."""
    layer = StreamLayer([large])
    stream = layer.open()
    list(stream)
    stream.close()
    assert layer.state is LayerState.DONE
    assert layer.diff_id == sha256(large)


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


def test_close_in_worker_thread_does_not_wait(large: bytes) -> None:
    """The collector may find a dropped stream in a thread of ours, which cannot join itself."""
    layer = StreamLayer([large])
    stream = layer.open()
    next(iter(stream))
    worker = Worker("brolga-test", stream.close)
    worker.start()
    assert worker.join()
    assert layer.state is LayerState.FAILED
    assert none_left()  # they end by themselves


def test_state_is_open_while_source_is_read() -> None:
    """The first block is read during `open`; the layer cannot be opened again meanwhile."""
    seen = []

    def curious() -> Iterator[bytes]:
        seen.append(layer.state)
        yield b"x"

    layer = StreamLayer(curious())
    drained(layer)
    assert seen == [LayerState.OPEN]


def test_repr_shows_state_and_not_source() -> None:
    """It may end in a log."""
    layer = StreamLayer([b"secret"], "none")
    assert repr(layer) == "<StreamLayer fresh, 0 bytes read, 0 written>"
    with layer.open() as stream:
        stream.read()
        assert repr(stream) == "<LayerStream done, 6 bytes read, 6 written>"


_FORK = """
import faulthandler, os, signal, sys
from brolga import LayerError, LayerState, StreamLayer

faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(60)  # ends a program that hangs, and shows its stacks
kind, deed, threads_run = sys.argv[1:]
reader, writer = os.pipe()
layer = StreamLayer(os.fdopen(reader, "rb") if kind == "pipe" else [bytes(100_000)] * 99, "none")
stream = layer.open()
if threads_run == "yes":
    for _, block in zip(range(3), stream.blocks()):
        pass
child = os.fork()
if child == 0:
    signal.alarm(50)
    if deed == "read":
        try:
            stream.read(10_000_000)
        except LayerError as error:
            print(error, layer.state.value, flush=True)
        try:
            stream.read(10_000_000)
        except LayerError as error:
            print(error.__cause__ or error, flush=True)
    elif deed == "close":
        stream.close()
        print(layer.state.value, flush=True)
    elif deed == "drop":
        del stream
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
if kind == "pipe":
    os.write(writer, bytes(50_000))
for _, block in zip(range(4), stream.blocks()):
    assert len(block) == (0 if kind == "pipe" else 1 << 20) or not layer.progress.written
stream.close()
"""


def forked(kind: str, deed: str, threads_run: str) -> list[str]:
    """Fork with a stream open; return what the child said. The parent reads on and closes."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORK, kind, deed, threads_run],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("threads_run", ["yes", "no"])
@pytest.mark.parametrize("kind", ["pipe", "iterable"])
def test_read_in_forked_child_raises(kind: str, threads_run: str) -> None:
    """fork(2): the child has none of its parent's threads, and would wait for ever."""
    why = "the stream was opened in another process"
    said = forked(kind, "read", threads_run)
    assert [line.split(":")[0] for line in said] == [why, why]
    assert said[0].endswith(" failed")


@pytest.mark.parametrize("threads_run", ["yes", "no"])
@pytest.mark.parametrize("kind", ["pipe", "iterable"])
@pytest.mark.parametrize("deed", ["close", "drop", "exit"])
def test_stream_dropped_in_child_continues_in_parent(
    kind: str, deed: str, threads_run: str
) -> None:
    """Closing there waits for no thread, and does not stop the parent's reader."""
    assert forked(kind, deed, threads_run) == (["failed"] if deed == "close" else [])


_ISAL: Any = isal_zlib._ParallelCompress


class _Compressor:
    """What isal's class does, and a count of those that are alive."""

    alive: weakref.WeakSet[_Compressor]

    def __init__(self, size: int, level: int) -> None:
        self._inner = _ISAL(size, level)
        self.alive.add(self)

    def compress_and_crc(self, *arguments: Any) -> Any:
        return self._inner.compress_and_crc(*arguments)


@pytest.mark.parametrize("fails", [False, True])
def test_finished_layer_keeps_no_compressor(
    large: bytes, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Each has a buffer of more than 1 MiB: an image of 40 streams would keep 200 MiB of them."""
    monkeypatch.setattr(_Compressor, "alive", weakref.WeakSet(), raising=False)
    monkeypatch.setattr(isal_zlib, "_ParallelCompress", _Compressor)

    def blocks() -> Iterator[bytes]:
        yield large
        if fails:
            raise OSError("the disk is on fire")

    layer = StreamLayer(blocks(), threads=2)
    stream = layer.open()
    seen = 0
    try:
        for _ in stream:
            seen = max(seen, len(_Compressor.alive))
    except SourceError as error:
        assert fails
        kept = error  # the error refers to the frames that it went through
        assert kept.__traceback__ is not None
    gc.collect()
    assert 1 <= seen <= 2
    assert layer.state is (LayerState.FAILED if fails else LayerState.DONE)
    assert len(_Compressor.alive) == 0
