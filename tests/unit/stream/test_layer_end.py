"""stream/layer.py: how a stream ends: at its end, closed early, or by an error."""

from __future__ import annotations

import gc
import os
import random
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from isal import isal_zlib
from tests.threads import none_left, of_passes
from tests.unit.stream.layers import SMALL, assert_not_computed, drain, sha256

from brolga import (
    LayerError,
    LayerState,
    NotComputed,
    SourceError,
    StreamConsumed,
    StreamLayer,
)
from brolga.stream.compression import BLOCK_SIZE
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.stream.sources import Source

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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
        drain(layer)
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
        drain(layer)
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
        drain(layer)


def test_close_after_end_keeps_results(large: bytes) -> None:
    """Done stays done."""
    layer = StreamLayer([large])
    stream = layer.open()
    list(stream)
    stream.close()
    assert layer.state is LayerState.DONE
    assert layer.diff_id == sha256(large)


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
