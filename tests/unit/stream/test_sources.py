"""sources.py: every source becomes blocks of one size, and closing never waits for it."""

from __future__ import annotations

import gc
import gzip
import io
import os
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from typing import TYPE_CHECKING, Any, cast

import pytest

from brolga.errors import SourceError
from brolga.stream.command import Command
from brolga.stream.sources import (
    READ_AHEAD,
    Source,
    _FileSource,
    check,
    open_source,
    reopen_source,
    runs_user_code,
    size_of,
)

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.blob import BlockSource

DATA = bytes(range(256)) * 40
SIZE = 1000


def blocks(source: BlockSource) -> list[bytes]:
    """Read a source to its end; it must be closed by the caller."""
    found = []
    while block := source.next_block(10):
        found.append(bytes(block))
    return found


def read(source: Any) -> list[bytes]:
    opened = open_source(source, SIZE)
    try:
        return blocks(opened)
    finally:
        opened.close()


def test_a_source_may_open_itself() -> None:
    """It knows how; it is of no known size, and opened again where it knows that too."""

    class Own:
        def open_blocks(self, block_size: int) -> BlockSource:
            return open_source([DATA[:block_size]], block_size)

    check(Own())
    assert size_of(Own()) is None
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


def pieces(size: int) -> Iterator[bytes]:
    for at in range(0, len(DATA), size):
        yield DATA[at : at + size]


def assert_whole(found: list[bytes]) -> None:
    assert b"".join(found) == DATA
    assert {len(block) for block in found[:-1]} == {SIZE}
    assert 0 < len(found[-1]) <= SIZE


def test_a_path_is_read_in_blocks_of_one_size(path: Path) -> None:
    """The bytes of a codec depend on its blocks, so these depend on nothing."""
    assert_whole(read(path))
    assert_whole(read(str(path)))


@pytest.mark.parametrize("buffering", [0, 16, 8192, 100_000])
def test_a_binary_file_is_read_from_where_it_stands(path: Path, buffering: int) -> None:
    """What an earlier reader took is not ours; what it left in the buffer is."""
    with path.open("rb", buffering=buffering) as file:
        taken = file.read(5)
        found = read(file)
        assert taken + b"".join(found) == DATA
        assert not file.closed  # whoever opened it closes it


def test_a_pipe_is_read_to_its_end_with_what_its_buffer_held(pipe: Pipe) -> None:
    """A program may look at the first bytes of stdin before it streams the rest."""
    pipe.write(DATA[:3000])
    assert pipe.file.read(7) == DATA[:7]
    source = open_source(pipe.file, SIZE)
    pipe.write(DATA[3000:])
    pipe.end()
    assert DATA[:7] + b"".join(blocks(source)) == DATA
    source.close()


def test_a_slow_pipe_fills_whole_blocks(pipe: Pipe) -> None:
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


def test_a_non_blocking_file_is_waited_for(pipe: Pipe) -> None:
    """A read that gives None has nothing yet; it is no end."""
    os.set_blocking(pipe.file.fileno(), False)
    source = open_source(pipe.file.raw, SIZE)
    assert source.next_block(0.01) is None
    pipe.write(b"abc")
    pipe.end()
    assert blocks(source) == [b"abc"]
    source.close()


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 2500, len(DATA)])
def test_an_iterable_is_cut_anew(size: int) -> None:
    """Blocks of the source may have any size."""
    assert_whole(read(pieces(size)))


def test_empty_blocks_of_an_iterable_are_no_end() -> None:
    """Only its end is its end."""
    assert read([b"", b"a", b"", b"", b"b", b""]) == [b"ab"]


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda data: memoryview(data)[::1].cast("b")]
)
def test_any_buffer_is_bytes_enough(kind: Any) -> None:
    """A block is bytes-like: what the buffer protocol gives."""
    assert read([kind(b"ab"), kind(b"c")]) == [b"abc"]


def test_a_buffer_that_is_filled_again_is_copied() -> None:
    """`readinto` into one bytearray is a common way to read: the blocks before must not change."""

    def refilled() -> Iterator[bytearray]:
        buffer = bytearray(SIZE)
        for value in range(5):
            buffer[:] = bytes([value]) * SIZE
            yield buffer

    opened = open_source(refilled(), SIZE)
    kept = []
    while block := opened.next_block(0):
        kept.append(block)
    assert [block[0] for block in kept] == [0, 1, 2, 3, 4]
    opened.close()


@pytest.mark.parametrize("opener", [io.BytesIO, lambda data: io.BufferedReader(io.BytesIO(data))])
def test_a_file_of_python_code_is_read(opener: Any) -> None:
    """All that is asked of a file object is `read`."""
    with opener(DATA) as file:
        assert_whole(read(file))


def test_a_gzip_file_gives_what_it_reads_not_what_lies_below(tmp_path: Path) -> None:
    """GzipFile has a fileno, of the compressed file: reading that would give other bytes."""
    with gzip.open(tmp_path / "data.gz", "wb") as out:
        out.write(DATA)
    with gzip.open(tmp_path / "data.gz", "rb") as file:
        assert_whole(read(file))


def test_a_temporary_file_is_read_from_its_position() -> None:
    """What was written before the position is not part of the stream."""
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + DATA)
        file.flush()
        file.seek(6)
        assert size_of(file) == len(DATA)
        assert_whole(read(file))


def test_a_process_is_read(path: Path) -> None:
    """Popen.stdout is a pipe like another."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert_whole(read(process.stdout))


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
def test_what_is_no_source_of_bytes_is_refused(source: Any, error: Any, why: str) -> None:
    """A clear TypeError, before anything is opened or sent."""
    with pytest.raises(error, match=why):
        check(source)


def test_a_text_mode_file_is_refused(path: Path) -> None:
    """Text has no bytes until somebody encodes it."""
    with path.open(encoding="latin-1") as file, pytest.raises(TypeError, match="text-mode"):
        check(file)


def test_an_asynchronous_iterable_is_refused() -> None:
    """It would never be awaited here."""

    async def blocks() -> Any:
        yield b""

    with pytest.raises(TypeError, match="asynchronous"):
        check(blocks())


def test_a_closed_file_is_refused(path: Path) -> None:
    """A SourceError before anything is sent."""
    with path.open("rb") as file:
        pass
    with pytest.raises(SourceError, match="closed file"):
        check(file)


def test_a_file_for_writing_is_refused(tmp_path: Path) -> None:
    """It cannot be read."""
    with (tmp_path / "out").open("wb") as file, pytest.raises(SourceError, match="not open for"):
        check(file)


def test_a_path_to_nothing_or_to_a_directory_is_a_source_error(tmp_path: Path) -> None:
    """The operating system's own words, and its error as the cause."""
    with pytest.raises(SourceError, match="No such file") as caught:
        open_source(tmp_path / "none", SIZE)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(SourceError, match="Is a directory"):
        open_source(tmp_path, SIZE)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (["text"], "gave str where bytes were expected"),
        ([1], "gave int where"),
        ([None], "gave NoneType where"),
        ([[1, 2]], "gave list where"),
    ],
)
def test_a_first_block_that_is_not_bytes_is_told_at_open(source: Any, why: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SourceError, match=why):
        open_source(source, SIZE)


def test_a_read_that_gives_text_or_nothing_is_told() -> None:
    """An object with `read` promises bytes, empty at the end."""

    class Text:
        def read(self, size: int) -> str:
            return "x" * size

    with pytest.raises(SourceError, match="gave str"):
        open_source(Text(), SIZE)  # type: ignore[arg-type] # what is tested


@pytest.mark.parametrize("k", [0, 1, 3])
def test_what_an_iterable_raises_is_the_cause(k: int) -> None:
    """The source failed, and the error says where and why."""

    def failing() -> Iterator[bytes]:
        yield from [b"x" * SIZE] * k
        raise RuntimeError("the cursor is closed")

    with pytest.raises(
        SourceError, match=f"after {k * SIZE} bytes: RuntimeError: the cur"
    ) as caught:
        read(failing())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_keyboard_interrupt_in_the_source_stays_what_it_is() -> None:
    """Ctrl-C is no failure of the source."""

    def interrupted() -> Iterator[bytes]:
        yield b"x" * SIZE * 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(interrupted())


def test_an_iterable_runs_in_the_thread_that_reads() -> None:
    """The user's code runs in the user's thread alone."""
    threads = []

    def noting() -> Iterator[bytes]:
        for _ in range(3):
            threads.append(threading.current_thread())
            yield b"x" * SIZE

    read(noting())
    assert set(threads) == {threading.current_thread()}


def test_a_file_closed_while_it_is_read_is_a_source_error(pipe: Pipe) -> None:
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


def test_an_error_of_the_operating_system_is_a_source_error() -> None:
    """A directory can be opened, and not read."""
    fd = os.open("/", os.O_RDONLY)
    with io.FileIO(os.dup(os.open(os.devnull, os.O_RDONLY))) as file:
        os.dup2(fd, file.fileno())
        os.close(fd)
        source = open_source(file, SIZE)
        with pytest.raises(SourceError, match="Is a directory"):
            source.next_block(10)
        source.close()


def test_closing_does_not_wait_for_a_source_that_blocks(pipe: Pipe) -> None:
    """No thread outlives close(), though the pipe's writer says nothing."""
    before = threading.active_count()
    source = open_source(pipe.file, SIZE)
    assert source.next_block(0.01) is None
    assert threading.active_count() == before + 1
    source.close()
    source.close()
    assert threading.active_count() == before
    assert not pipe.file.closed


def test_closing_stops_a_reader_that_is_far_ahead(path: Path) -> None:
    """A thread that waits for room is woken too."""
    before = threading.active_count()
    source = open_source(path, 10)
    assert source.next_block(10)
    source.close()
    assert threading.active_count() == before


def test_no_more_is_read_ahead_than_promised(pipe: Pipe) -> None:
    """Memory is bounded by READ_AHEAD blocks, however fast the source is."""
    source = open_source(pipe.file, 10)
    pipe.write(bytes(1000))
    assert source.next_block(10)
    while source._reader.blocks.qsize() < READ_AHEAD:  # type: ignore[attr-defined]
        pass
    assert source._reader.room.empty()  # type: ignore[attr-defined]
    source.close()


def test_closing_before_reading_starts_no_thread(path: Path) -> None:
    """What was opened here is closed here, read or not."""
    before = threading.active_count()
    things: list[Source] = [path, [b"x"]]
    for thing in things:
        source = open_source(thing, SIZE)
        source.close()
    assert threading.active_count() == before


def test_the_end_stays_the_end(path: Path) -> None:
    """Asking again gives nothing again."""
    source = open_source(path, len(DATA))
    assert source.next_block(10)
    for _ in range(2):
        again = source.next_block(10)
        assert again is not None
        assert not again
    source.close()


def test_the_size_is_known_for_regular_files_alone(path: Path, pipe: Pipe) -> None:
    """Total and time left are shown where the source's size is known."""
    assert size_of(path) == len(DATA)
    assert size_of(str(path)) == len(DATA)
    with path.open("rb") as file:
        file.read(100)
        assert size_of(file) == len(DATA) - 100
    assert size_of(pipe.file) is None
    assert size_of([b"x"]) is None
    assert size_of(io.BytesIO(b"x")) is None
    assert size_of("/no/such/file") is None


def test_runs_user_code_is_false_for_files_and_bytes_alone(path: Path, pipe: Pipe) -> None:
    """Files of the operating system and bytes in memory call no Python code when they are read."""

    class Opens:
        def open_blocks(self, block_size: int) -> BlockSource:
            raise NotImplementedError

    with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
        for plain in (str(path), path, file, pipe.file, [b"x"], (b"x",), io.BytesIO(b"x")):
            assert not runs_user_code(plain)
        assert not runs_user_code(Command(["true"]))
        for own in (iter([b"x"]), (block for block in [b"x"]), unpacked, Opens()):
            assert runs_user_code(own)


def test_a_file_that_grows_while_it_is_read_ends_at_its_first_end(tmp_path: Path) -> None:
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


def test_stop_iteration_out_of_a_read_is_no_end() -> None:
    """A `read` that lets its own StopIteration out has failed (PEP 479 says so of generators)."""

    class Careless:
        parts = iter([b"a"])

        def read(self, size: int) -> bytes:
            return next(self.parts)

    with pytest.raises(SourceError, match="after 1 bytes: StopIteration"):
        read(Careless())


def test_a_source_closed_by_its_own_thread_frees_what_it_holds(pipe: Pipe) -> None:
    """The collector may find a dropped stream in the very thread that reads for it."""
    held = [cast("_FileSource", open_source(pipe.file, SIZE))]
    done = threading.Event()

    def close_from_here(room: object) -> int:
        held[0].close()
        done.set()
        return 0

    held[0]._reader._read_into = close_from_here  # type: ignore[method-assign]
    pipe.write(b"x")
    held[0].next_block(0)
    assert done.wait(10)
    assert held[0]._worker.join()
    wake = held[0]._reader._wake[0]  # nobody could wait for the thread's end
    os.fstat(wake)
    held.clear()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(wake)


@pytest.mark.parametrize("source", ["sys.stdin.buffer", "'/dev/zero'"])
def test_a_program_that_ends_with_an_open_stream_ends(source: str) -> None:
    """A stream left open in a global variable holds nobody up."""
    program = f"""
import faulthandler, sys
from brolga import StreamLayer
faulthandler.dump_traceback_later(60, exit=True)
stream = StreamLayer({source}).open()
beats = stream.blocks()
for _ in range(5):
    next(beats)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize(("kept", "read"), [(2 * SIZE, 0), (SIZE + 1, 1), (0, 1), (SIZE, 2)])
@pytest.mark.parametrize("owned", [True, False])
def test_a_file_that_shrinks_while_it_is_read_is_no_end(
    tmp_path: Path, owned: bool, kept: int, read: int
) -> None:
    """What was there at the beginning and never came would be lost in silence."""
    path = tmp_path / "data"
    path.write_bytes(bytes(10 * SIZE))
    with path.open("rb", buffering=0) as file:
        source = cast("_FileSource", open_source(path if owned else file, SIZE))
        read_into = source._reader._read_into

        def shrink_first(room: memoryview) -> int | None:
            nonlocal read
            if read == 0:
                os.truncate(path, kept)
            read -= 1
            return read_into(room)

        source._reader._read_into = shrink_first  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(
                SourceError, match=f"^the file shrank from {10 * SIZE} to {kept} bytes while"
            ):
                blocks(source)
        source.close()


def test_a_file_read_from_its_middle_is_whole_at_its_end(path: Path) -> None:
    """What counts is the position, not how many bytes came; past the end there is nothing."""
    for position in (SIZE, len(DATA), 2 * len(DATA)):
        with path.open("rb") as file:
            file.seek(position)
            assert b"".join(read(file)) == DATA[position:]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def served(server: socket.socket, answer: bytes) -> http.client.HTTPResponse:
    """Fetch what a server says before it cuts the connection."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    host, port = server.getsockname()
    response = urllib.request.urlopen(f"http://{host}:{port}/")
    thread.join()
    return cast("http.client.HTTPResponse", response)


@pytest.mark.parametrize("sent", [0, 1, SIZE, len(DATA) - 1])
def test_an_http_response_that_was_cut_is_no_end(server: socket.socket, sent: int) -> None:
    """HTTPResponse.read(n) gives nothing, and no error, where the connection ended too early."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA)
    with (
        served(server, head + DATA[:sent]) as response,
        pytest.raises(SourceError, match=f"^the source ended {len(DATA) - sent} bytes early$"),
    ):
        read(response)


@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n" % len(DATA), b""])
def test_an_http_response_is_read_from_where_it_stands(server: socket.socket, head: bytes) -> None:
    """With or without a length, and whatever was read of it before."""
    with served(server, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + DATA) as response:
        assert response.read(10) + b"".join(read(response)) == DATA


def test_a_length_that_does_not_count_down_means_something_else() -> None:
    """A file in a database tells its whole length by that name (gridfs.GridOut)."""

    class Stored(io.BytesIO):
        length = len(DATA)

    assert_whole(read(Stored(DATA)))
