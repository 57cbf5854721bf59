"""layer.py, sources.py, pipeline.py: a second pass over a source that can be opened again."""

from __future__ import annotations

import io
import os
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from tests.threads import of_passes

from brolga import LayerError, SourceError, StreamConsumed, StreamLayer
from brolga.stream.compression import BLOCK_SIZE, codec_for
from brolga.stream.layer import LayerStream
from brolga.stream.pipeline import ByteCounts, WorkerPools, one_pass
from brolga.stream.sources import open_source, reopen_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 3 * BLOCK_SIZE + 12345
DATA = os.urandom(BLOCK_SIZE) + bytes(SIZE - BLOCK_SIZE)
CHANGED = "the source changed"


def joined(blocks: object) -> bytes:
    """Return the bytes of blocks."""
    return b"".join(blocks)  # type: ignore[arg-type] # of any kind of block


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write DATA to a file."""
    file = tmp_path / "data"
    file.write_bytes(DATA)
    return file


# --- What can be repeated


def test_reopen_source_opens_a_regular_file(path: Path) -> None:
    """By its path, or by what is open already: with a position of its own."""
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        for source in (str(path), path, buffered, raw):
            with StreamLayer(source).open() as stream:
                assert stream.is_reopenable
                assert stream.read()


def test_reopen_source_returns_none_for_other_sources(path: Path) -> None:
    """A pipe, an iterable and a file of Python code give their bytes once."""
    reading, writing = os.pipe()
    os.write(writing, b"data")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        for source in (pipe, [b"data"], io.BytesIO(b"data")):
            with StreamLayer(source).open() as stream:
                assert not stream.is_reopenable
                assert stream.read()
                with pytest.raises(LayerError, match="only once"):
                    next(stream.reread())


def test_reopen_source_returns_none_if_stat_fails(path: Path) -> None:
    """Opening it says what is wrong: asking whether it can be repeated does not."""
    assert reopen_source(path.with_name("missing")) is None
    assert reopen_source(path.parent) is None
    closed = path.open("rb", buffering=0)
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        reopen_source(closed)


def test_reopen_source_returns_none_without_proc(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second position of an open file is Linux's to give."""
    monkeypatch.setattr(os.path, "exists", lambda _name: False)
    with path.open("rb") as file:
        assert reopen_source(file) is None
    assert reopen_source(path) is not None


# --- What is repeated


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("count", [1, 2, 3, None])
def test_reread_returns_the_bytes_so_far(path: Path, compression: str, count: int | None) -> None:
    """What went out before comes again, byte for byte, from wherever the first pass stands."""
    with StreamLayer(path, compression, threads=2).open() as stream:
        first = joined(islice(stream, count))
        again = joined(stream.reread())
        assert again[: len(first)] == first
        assert joined(stream.reread())[: len(first)] == first  # as often as it is needed
        rest = joined(stream)
    with StreamLayer(path, compression).open() as whole:
        assert first + rest == whole.read()
    assert not of_passes()


def test_reread_repeats_a_whole_stream(path: Path) -> None:
    """After the end the results are known: the second pass must come to the same DiffID."""
    layer = StreamLayer(path)
    with layer.open() as stream:
        first = stream.read()
        assert joined(stream.reread()) == first
    assert layer.digest.algorithm == "sha256"


def test_reread_of_an_unread_stream_is_empty(path: Path) -> None:
    """Only the head of the compressed stream is there, and its empty end."""
    with StreamLayer(path).open() as stream:
        assert len(joined(stream.reread())) < 64
        assert stream.read()


def test_reread_starts_at_the_position_of_an_open_file(path: Path) -> None:
    """A caller may have read a part of it; neither pass moves the other's position."""
    with path.open("rb") as file:
        file.seek(BLOCK_SIZE)
        with StreamLayer(file, "none").open() as stream:
            first = joined(islice(stream, 1))
            assert joined(stream.reread())[: len(first)] == first == DATA[BLOCK_SIZE:][: len(first)]
            assert first + joined(stream) == DATA[BLOCK_SIZE:]


def test_reread_ends_where_a_growing_file_was_read(path: Path) -> None:
    """Appending to a log does not change what was sent of it."""
    with StreamLayer(path, "none").open() as stream:
        first = joined(islice(stream, 2))
        with path.open("ab") as file:
            file.write(b"more")
        assert joined(stream.reread())[: len(first)] == first


def test_dropped_reread_ends_its_threads(path: Path) -> None:
    """An upload that fails again closes what it was reading."""
    with StreamLayer(path, threads=2).open() as stream:
        joined(islice(stream, 1))
        again = stream.reread()
        next(again)
        again.close()  # type: ignore[attr-defined] # it is a generator
        left_open = stream.reread()
        next(left_open)
    assert not of_passes()


# --- A source that changed


def _one_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(BLOCK_SIZE // 2)
        file.write(b"another")


def _shorter(path: Path) -> None:
    os.truncate(path, BLOCK_SIZE // 2)


def _replaced(path: Path) -> None:
    path.unlink()
    path.write_bytes(bytes(SIZE))


@pytest.mark.parametrize("change", [_one_byte, _shorter, _replaced])
@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("whole", [True, False])
def test_reread_raises_if_the_source_changed(
    path: Path, compression: str, change: Callable[[Path], None], whole: bool
) -> None:
    """The repeated bytes must hash as before: else nothing of them may be committed."""
    with StreamLayer(path, compression).open() as stream:
        joined(stream if whole else islice(stream, 2))
        change(path)
        with pytest.raises(SourceError, match=CHANGED):
            joined(stream.reread())


def test_reread_raises_if_the_source_is_gone(path: Path) -> None:
    """Not as a change of its bytes: it cannot be opened."""
    with StreamLayer(path).open() as stream:
        joined(islice(stream, 1))
        path.unlink()
        with pytest.raises(SourceError, match="cannot open the source again"):
            joined(stream.reread())


# --- What lies below


def test_open_first_ends_after_its_bytes(path: Path) -> None:
    """Whatever the source would give after them, nor how often it is asked."""
    again = reopen_source(path)
    assert again is not None
    for count in (0, 1, BLOCK_SIZE, BLOCK_SIZE + 1, SIZE, SIZE + 1):
        source = again(BLOCK_SIZE, count)
        got = b""
        while (block := source.next_block(10.0)) is None or len(block):
            got += block or b""
        assert got == DATA[:count]
        end = source.next_block(0)
        assert end is not None
        assert not end
        source.close()


def test_pass_hashes_the_bytes_so_far(path: Path) -> None:
    """Asked in the lane of the hash, so that no block is under way in it."""
    from brolga.spec.digest import Digest

    source, pools, counts = open_source(path, BLOCK_SIZE), WorkerPools(2), ByteCounts()
    blocks = one_pass(source, codec_for("gzip", None), pools, counts)
    for block in blocks:
        if block and counts.read:
            assert pools.digest_so_far(counts) == Digest.of(DATA[: counts.read])
            break
    blocks.close()
    assert not of_passes()


def test_reread_raises_in_another_process(path: Path) -> None:
    """A forked child has none of the threads (fork(2)): it is told, and does not wait for them."""
    with StreamLayer(path).open() as stream:
        stream._process = -1
        with pytest.raises(LayerError, match="another process"):
            next(stream.reread())
        assert isinstance(stream, LayerStream)


def test_reread_raises_after_close(path: Path) -> None:
    """A stream that was given up before its end has no sums to hold a second pass against."""
    with StreamLayer(path).open() as stream:
        next(stream.blocks())
    with pytest.raises(StreamConsumed, match="closed"):
        next(stream.reread())
