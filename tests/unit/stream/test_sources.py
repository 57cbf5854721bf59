"""stream/sources.py: sources as blocks of one size; closing never waits."""

from __future__ import annotations

import gc
import gzip
import io
import os
import tempfile
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.unit.stream.block_sources import DATA, SIZE, assert_whole, blocks, pieces, read

from brolga.errors import SourceError
from brolga.stream.command import Command
from brolga.stream.sources import (
    READ_AHEAD,
    Source,
    _FileSource,
    calls_user_code,
    check_source,
    get_source_size,
    open_source,
    reopen_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.blob import BlockSource


def test_open_source_calls_openable_source() -> None:
    """Its size is unknown; it can be opened again if it has `open_first`."""

    class Own:
        def open_blocks(self, block_size: int) -> BlockSource:
            return open_source([DATA[:block_size]], block_size)

    check_source(Own())
    assert get_source_size(Own()) is None
    assert reopen_source(Own()) is None
    assert read(Own()) == [DATA[:SIZE]]

    class Again(Own):
        def open_first(self, block_size: int, count: int) -> BlockSource:
            return open_source([DATA[:count]], block_size)

    again = reopen_source(Again())
    assert again is not None
    assert bytes(again(SIZE, 10).next_block(0) or b"") == DATA[:10]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "data"
    file.write_bytes(DATA)
    return file


class Pipe:
    """A pipe whose writing end the test holds."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.file = os.fdopen(reader, "rb")

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)

    def end(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    held = Pipe()
    yield held
    held.end()
    held.file.close()


def test_open_source_reads_path_in_blocks_of_one_size(path: Path) -> None:
    """The bytes of a codec depend on its blocks, so these depend on nothing."""
    assert_whole(read(path))
    assert_whole(read(str(path)))


@pytest.mark.parametrize("buffering", [0, 16, 8192, 100_000])
def test_open_source_reads_file_from_its_position(path: Path, buffering: int) -> None:
    """What an earlier reader took is not ours; what it left in the buffer is."""
    with path.open("rb", buffering=buffering) as file:
        taken = file.read(5)
        result = read(file)
        assert taken + b"".join(result) == DATA
        assert not file.closed  # its owner closes it


def test_open_source_reads_pipe_with_buffered_bytes(pipe: Pipe) -> None:
    """A program may look at the first bytes of stdin before it streams the rest."""
    pipe.write(DATA[:3000])
    assert pipe.file.read(7) == DATA[:7]
    source = open_source(pipe.file, SIZE)
    pipe.write(DATA[3000:])
    pipe.end()
    assert DATA[:7] + b"".join(blocks(source)) == DATA
    source.close()


def test_slow_pipe_fills_whole_blocks(pipe: Pipe) -> None:
    """How a producer cuts its writes does not show in the blocks."""
    source = open_source(pipe.file, SIZE)

    def produce() -> None:
        for piece in pieces(77):
            pipe.write(piece)
        pipe.end()

    writer = threading.Thread(target=produce)
    writer.start()
    assert_whole(blocks(source))
    writer.join()
    source.close()


def test_non_blocking_file_is_awaited(pipe: Pipe) -> None:
    """A read that returns None is not the end."""
    os.set_blocking(pipe.file.fileno(), False)
    source = open_source(pipe.file.raw, SIZE)
    assert source.next_block(0.01) is None
    pipe.write(b"abc")
    pipe.end()
    assert blocks(source) == [b"abc"]
    source.close()


def test_temporary_file_is_read_from_its_position() -> None:
    """What was written before the position is not part of the stream."""
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + DATA)
        file.flush()
        file.seek(6)
        assert get_source_size(file) == len(DATA)
        assert_whole(read(file))


@pytest.mark.parametrize(
    ("source", "error", "why"),
    [
        (io.StringIO("text"), TypeError, "text-mode file: open it with mode 'rb'"),
        (b"abc", TypeError, "pass a list of it"),
        (bytearray(b"abc"), TypeError, "pass a list of it"),
        (memoryview(b"abc"), TypeError, "pass a list of it"),
        (3, TypeError, "an iterable of bytes, not int"),
        (None, TypeError, "not NoneType"),
        (object(), TypeError, "not object"),
    ],
)
def test_check_source_rejects_other_types(source: Any, error: Any, why: str) -> None:
    """A clear TypeError, before anything is opened or sent."""
    with pytest.raises(error, match=why):
        check_source(source)


def test_check_source_rejects_text_mode_file(path: Path) -> None:
    """Text has no bytes until somebody encodes it."""
    with path.open(encoding="latin-1") as file, pytest.raises(TypeError, match="text-mode"):
        check_source(file)


def test_check_source_rejects_unbound_asynchronous_iterable() -> None:
    """It would never be awaited here."""

    async def blocks() -> Any:
        yield b""

    with pytest.raises(TypeError, match="asynchronous"):
        check_source(blocks())


def test_check_source_rejects_closed_file(path: Path) -> None:
    """A SourceError before anything is sent."""
    with path.open("rb") as file:
        pass
    with pytest.raises(SourceError, match="closed file"):
        check_source(file)


def test_check_source_rejects_file_for_writing(tmp_path: Path) -> None:
    """It cannot be read."""
    with (tmp_path / "out").open("wb") as file, pytest.raises(SourceError, match="not open for"):
        check_source(file)


def test_open_source_raises_for_missing_path_or_directory(tmp_path: Path) -> None:
    """The operating system's own words, and its error as the cause."""
    with pytest.raises(SourceError, match="No such file") as caught:
        open_source(tmp_path / "none", SIZE)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(SourceError, match="Is a directory"):
        open_source(tmp_path, SIZE)


def test_file_closed_while_read_is_source_error(pipe: Pipe) -> None:
    """Whatever happens to the file, the reader hears of it, each time it asks."""
    source = open_source(pipe.file, SIZE)
    assert source.next_block(0.01) is None
    pipe.file.close()
    pipe.end()
    for _ in range(2):
        with pytest.raises(SourceError, match="the source cannot be read"):
            while source.next_block(10) is None:
                pass
    source.close()


def test_os_error_is_source_error() -> None:
    """A directory can be opened, and not read."""
    fd = os.open("/", os.O_RDONLY)
    with io.FileIO(os.dup(os.open(os.devnull, os.O_RDONLY))) as file:
        os.dup2(fd, file.fileno())
        os.close(fd)
        source = open_source(file, SIZE)
        with pytest.raises(SourceError, match="Is a directory"):
            source.next_block(10)
        source.close()


def test_close_does_not_wait_for_blocked_source(pipe: Pipe) -> None:
    """No thread outlives close(), though the pipe's writer says nothing."""
    before = threading.active_count()
    source = open_source(pipe.file, SIZE)
    assert source.next_block(0.01) is None
    assert threading.active_count() == before + 1
    source.close()
    source.close()
    assert threading.active_count() == before
    assert not pipe.file.closed


def test_close_stops_reader_waiting_for_free_slot(path: Path) -> None:
    """A thread that waits for room is woken too."""
    before = threading.active_count()
    source = open_source(path, 10)
    assert source.next_block(10)
    source.close()
    assert threading.active_count() == before


def test_read_ahead_is_bounded(pipe: Pipe) -> None:
    """Memory is bounded by READ_AHEAD blocks, however fast the source is."""
    source = open_source(pipe.file, 10)
    pipe.write(bytes(1000))
    assert source.next_block(10)
    while source._reader.blocks.qsize() < READ_AHEAD:  # type: ignore[attr-defined]
        pass
    assert source._reader.free_slots.empty()  # type: ignore[attr-defined]
    source.close()


def test_close_before_reading_starts_no_thread(path: Path) -> None:
    """What was opened here is closed here, read or not."""
    before = threading.active_count()
    things: list[Source] = [path, [b"x"]]
    for thing in things:
        source = open_source(thing, SIZE)
        source.close()
    assert threading.active_count() == before


def test_next_block_stays_empty_at_end(path: Path) -> None:
    """Asking again gives nothing again."""
    source = open_source(path, len(DATA))
    assert source.next_block(10)
    for _ in range(2):
        again = source.next_block(10)
        assert again is not None
        assert not again
    source.close()


def test_get_source_size_is_known_for_regular_files_only(path: Path, pipe: Pipe) -> None:
    """The progress display needs the size for total and time left."""
    assert get_source_size(path) == len(DATA)
    assert get_source_size(str(path)) == len(DATA)
    with path.open("rb") as file:
        file.read(100)
        assert get_source_size(file) == len(DATA) - 100
    assert get_source_size(pipe.file) is None
    assert get_source_size([b"x"]) is None
    assert get_source_size(io.BytesIO(b"x")) is None
    assert get_source_size("/no/such/file") is None


def test_calls_user_code_is_false_for_files_and_bytes_only(path: Path, pipe: Pipe) -> None:
    """Files of the operating system and bytes in memory call no Python code when they are read."""

    class Opens:
        def open_blocks(self, block_size: int) -> BlockSource:
            raise NotImplementedError

    with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
        for plain in (str(path), path, file, pipe.file, [b"x"], (b"x",), io.BytesIO(b"x")):
            assert not calls_user_code(plain)
        assert not calls_user_code(Command(["true"]))
        for own in (iter([b"x"]), (block for block in [b"x"]), unpacked, Opens()):
            assert calls_user_code(own)


def test_growing_file_ends_at_its_first_end(tmp_path: Path) -> None:
    """What came later would make a short block in the middle, and other bytes of one source."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * (SIZE + 10))
    source = open_source(path, SIZE)
    assert [len(block) for block in (source.next_block(10), source.next_block(10)) if block] == [
        SIZE,
        10,
    ]
    with path.open("ab") as log:
        log.write(b"later")
    assert not source.next_block(10)
    source.close()


def test_close_in_reading_thread_releases_later(pipe: Pipe) -> None:
    """The collector may find a dropped stream in the very thread that reads for it."""
    held = [cast("_FileSource", open_source(pipe.file, SIZE))]
    done = threading.Event()

    def close_from_here(buffer: object) -> int:
        held[0].close()
        done.set()
        return 0

    held[0]._reader._read_into = close_from_here  # type: ignore[method-assign]
    pipe.write(b"x")
    held[0].next_block(0)
    assert done.wait(10)
    assert held[0]._worker.join()
    wake = held[0]._reader._wake[0]  # the thread could not wait for its own end
    os.fstat(wake)
    held.clear()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(wake)


@pytest.mark.parametrize(("kept", "read"), [(2 * SIZE, 0), (SIZE + 1, 1), (0, 1), (SIZE, 2)])
@pytest.mark.parametrize("owned", [True, False])
def test_shrinking_file_is_source_error(tmp_path: Path, owned: bool, kept: int, read: int) -> None:
    """What was there at the beginning and never came would be lost in silence."""
    path = tmp_path / "data"
    path.write_bytes(bytes(10 * SIZE))
    with path.open("rb", buffering=0) as file:
        source = cast("_FileSource", open_source(path if owned else file, SIZE))
        read_into = source._reader._read_into

        def shrink_first(buffer: memoryview) -> int | None:
            nonlocal read
            if read == 0:
                os.truncate(path, kept)
            read -= 1
            return read_into(buffer)

        source._reader._read_into = shrink_first  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(
                SourceError, match=f"^the file shrank from {10 * SIZE} to {kept} bytes while"
            ):
                blocks(source)
        source.close()


def test_file_read_from_middle_ends_cleanly(path: Path) -> None:
    """What counts is the position, not how many bytes came; past the end there is nothing."""
    for position in (SIZE, len(DATA), 2 * len(DATA)):
        with path.open("rb") as file:
            file.seek(position)
            assert b"".join(read(file)) == DATA[position:]
