"""Sources of a stream: paths, files, iterables, and objects that open themselves.

Each becomes a `BlockSource`. Files of the operating system are read ahead by a thread that waits in
poll(2) with a wake-up pipe, so closing never waits for the source. Python code runs in the user's
thread or event loop only. Signal handlers may raise in the user's thread between any two bytecodes,
so it uses no locks of Python code: it talks to the reading thread through SimpleQueues.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import select
import stat
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias, cast, runtime_checkable

from brolga.errors import SourceError
from brolga.spec.blob import UNKNOWN_SOURCE
from brolga.stream.iterables import IterableSource, Readable, is_asynchronous
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from brolga.spec.blob import BlockSource
    from brolga.stream.async_sources import AsyncSource

READ_AHEAD: Final = 3  # blocks
_PIPE_SIZE: Final = 1 << 20  # bytes; what an unprivileged process may ask for (pipe(7))


@runtime_checkable
class Openable(Protocol):
    """A source that opens itself, such as `brolga.stream.command.Command`."""

    def open_blocks(self, block_size: int) -> BlockSource:
        """Open it as blocks of `block_size` bytes. Raises SourceError."""


@runtime_checkable
class Reopenable(Openable, Protocol):
    """A source that can be opened again at its beginning, any number of times."""

    def open_first(self, block_size: int, count: int) -> BlockSource:
        """Open its first `count` bytes as blocks of `block_size` bytes. Raises SourceError."""


Source: TypeAlias = "str | os.PathLike[str] | BinaryIO | Readable | Iterable[Buffer] | Openable"


def bind_source(source: Source | AsyncSource) -> Source:
    """Return a source; an asynchronous one is bound to the event loop that is running.

    Raises RuntimeError if no event loop is running.
    """
    if isinstance(source, str | os.PathLike | io.IOBase) or not is_asynchronous(source):
        return cast("Source", source)
    from brolga.stream.async_sources import BoundSource

    return BoundSource(cast("AsyncSource", source))


def check_source(source: object) -> None:
    """Check that `source` can be a source of bytes, before anything is opened or sent.

    Raises TypeError for text, SourceError for a file that is closed or not open for reading.
    """
    if isinstance(source, io.TextIOBase):
        raise TypeError("the source is a text-mode file: open it with mode 'rb', or pass .buffer")
    if isinstance(source, bytes | bytearray | memoryview):
        raise TypeError("the source is one bytes object: pass a list of it, or io.BytesIO(data)")
    if isinstance(source, str | os.PathLike | Openable):
        return
    if not isinstance(source, io.IOBase) and is_asynchronous(source):
        raise TypeError("the source is asynchronous, and not bound to an event loop")
    if hasattr(source, "read"):
        if getattr(source, "closed", False):
            raise SourceError("the source is a closed file")
        if isinstance(source, io.IOBase) and not source.readable():
            raise SourceError("the source is a file that is not open for reading")
    elif not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(f"a source is a path, a binary file or an iterable of bytes, not {kind}")


def calls_user_code(source: Source) -> bool:
    """Return whether reading `source` calls Python code outside brolga.

    Files of the operating system and bytes in memory do not. A source that opens itself says it by
    its attribute `runs_user_code`.
    """
    if isinstance(source, Openable):
        return getattr(source, "runs_user_code", True)
    plain = isinstance(source, str | os.PathLike) or type(source) in {list, tuple, io.BytesIO}
    return not plain and _raw_file(source) is None


def get_source_size(source: Source) -> int | None:
    """Return how many bytes are left in a regular file, or None for any other source."""
    _path, _position, left = _regular_file(source) or (None, None, None)
    return left


def identify_source(source: Source) -> str:
    """Return a text that is the same if the source is used again.

    A regular file is known by its device, inode, size and time of change; a source that opens
    itself by its attribute `identity`. Sources of which nothing is known have the same one.
    """
    if isinstance(source, Openable):
        return getattr(source, "identity", UNKNOWN_SOURCE)
    file = _regular_file(source)
    if file is not None:
        path, position, _left = file
        with contextlib.suppress(OSError):  # opening it will report the error
            status = os.stat(path)  # noqa: PTH116 - a str needs no Path
            fields = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, position
            return " ".join(map(str, ("file", *fields)))
    if isinstance(source, str | os.PathLike):
        return f"path {os.path.abspath(source)}"  # noqa: PTH100 - as above
    return UNKNOWN_SOURCE


def get_source_name(source: Source) -> str:
    """Return the name of a file that is given by its path, "" for any other source."""
    if not isinstance(source, str | os.PathLike):
        return ""
    return os.path.basename(os.fsdecode(source))  # noqa: PTH119 - a str needs no Path for this


def open_source(source: Source, block_size: int) -> BlockSource:
    """Open `source` as blocks of `block_size` bytes; the first block of an iterable is read here.

    Raises SourceError if it cannot be opened, TypeError as `check_source` does.
    """
    check_source(source)
    if isinstance(source, Openable):
        return source.open_blocks(block_size)
    if isinstance(source, str | os.PathLike):
        try:
            file = open(source, "rb", buffering=0)  # noqa: SIM115, PTH123 - _FileSource closes it
        except OSError as error:
            raise SourceError(f"cannot open the source: {error}") from error
        return _FileSource(file, block_size, owned=True)
    if _raw_file(source) is not None:
        return _FileSource(cast("BinaryIO", source), block_size, owned=False)
    return IterableSource(source, block_size)


def reopen_source(source: Source) -> Callable[[int, int], BlockSource] | None:
    """Return a function that opens `source` again, or None if only one pass is possible.

    Regular files and `Reopenable` sources can be opened again. The function takes a block size and
    the number of bytes to read from the present position on; it raises SourceError.
    """
    if isinstance(source, Reopenable):
        return source.open_first
    file = _regular_file(source)
    if file is None:
        return None
    path, position, _left = file
    is_there = path is source or os.path.exists(path)  # noqa: PTH110 - a str needs no Path
    return partial(_open_first, path, position) if is_there else None


def _regular_file(source: Source) -> tuple[str | os.PathLike[str], int, int] | None:
    """Return the path and position of a regular file, and how many bytes are left; or None."""
    path: str | os.PathLike[str]
    try:
        if isinstance(source, str | os.PathLike):
            path, position, status = source, 0, os.stat(source)  # noqa: PTH116 - a str needs no Path
        elif (raw := _raw_file(source)) is not None:
            path = f"/proc/self/fd/{raw.fileno()}"  # opens the file with its own position (Linux)
            position, status = cast("BinaryIO", source).tell(), os.fstat(raw.fileno())
        else:
            return None
    except OSError:
        return None  # opening it will report the error
    if not stat.S_ISREG(status.st_mode):
        return None
    return path, position, max(0, status.st_size - position)


def _open_first(
    path: str | os.PathLike[str], position: int, block_size: int, count: int
) -> BlockSource:
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 - _FileSource closes it
        file.seek(position)
    except OSError as error:
        raise SourceError(f"cannot open the source again: {error}") from error
    return _FileSource(file, block_size, owned=True, limit=count)


def _raw_file(source: object) -> io.FileIO | None:
    """Return the operating system's file that a plain or buffered binary file reads.

    `fileno()` is not enough: a GzipFile and an HTTP response have one, and give other bytes.
    """
    if type(source) in {io.BufferedReader, io.BufferedRandom}:
        source = source.raw  # type: ignore[attr-defined] # a buffered file has it
    return source if type(source) is io.FileIO else None


class _FileSource:
    """A file of the operating system, read ahead by a thread of its own, up to `limit` bytes."""

    def __init__(
        self, file: BinaryIO, block_size: int, *, owned: bool, limit: int = sys.maxsize
    ) -> None:
        # The thread refers to the reader only, so that dropping this object closes it.
        self._reader = _FileReader(file, block_size, limit, owned=owned)
        self._worker = Worker("brolga-read", self._reader.run)
        self._ended = False

    def next_block(self, timeout_s: float) -> memoryview | None:
        if self._ended:
            return memoryview(b"")
        self._worker.start()
        try:
            block = self._reader.blocks.get(block=timeout_s > 0, timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(block, BaseException):
            self._reader.blocks.put(block)  # the next call raises it again
            why = "" if isinstance(block, SourceError) else "the source cannot be read: "
            raise SourceError(f"{why}{block}") from block
        self._reader.free_slots.put(None)
        self._ended = not block
        return block

    def close(self) -> None:
        if self._worker.is_in_this_process:
            self._reader.stop()
        if self._worker.join():
            self._reader.release()


class _FileReader:
    """The reading thread's side of a _FileSource."""

    def __init__(self, file: BinaryIO, block_size: int, limit: int, *, owned: bool) -> None:
        self._wake: list[int] = []
        raw = cast("io.FileIO", _raw_file(file))
        self._owned = raw if owned else None
        self.blocks: queue.SimpleQueue[memoryview | BaseException] = queue.SimpleQueue()
        self.free_slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(READ_AHEAD - 1):
            self.free_slots.put(None)
        self._raw = raw
        self._file = file
        status = os.fstat(raw.fileno())
        self._size = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._buffered = memoryview(b"")
        self._block_size = block_size
        self._left = limit
        self._stopped = False
        self._wake.extend(os.pipe())
        self._poll = select.poll()
        self._poll.register(raw.fileno(), select.POLLIN)
        self._poll.register(self._wake[0], select.POLLIN)
        enlarge_pipe(raw)

    def run(self) -> None:
        try:
            self._take_buffered()
            while not self._stopped:
                block = self._fill()
                self.blocks.put(block)
                if len(block) < self._block_size:
                    # The first end counts. What a growing file gives later would make a short
                    # block in the middle, and other bytes of the same source.
                    self.blocks.put(memoryview(b""))
                    return
                self.free_slots.get()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that reads the blocks
            self.blocks.put(error)

    def _take_buffered(self) -> None:
        """Take the bytes that an earlier reader left in the file's buffer: poll ignores them."""
        if isinstance(self._file, io.BufferedReader | io.BufferedRandom):
            self._poll.poll()  # if the buffer is empty, peek reads
            if not self._stopped:
                self._buffered = memoryview(self._file.read(len(self._file.peek())))

    def _fill(self) -> memoryview:
        """Return the next block; it is shorter at the end or after `stop`."""
        block = memoryview(bytearray(min(self._block_size, self._left)))
        filled = 0
        while filled < len(block) and not self._stopped:
            count = self._read_into(block[filled:])
            if count == 0:
                self._check_not_truncated()
                break
            filled += count or 0
        self._left -= filled
        return block[:filled]

    def _read_into(self, buffer: memoryview) -> int | None:
        """Return how many bytes came; 0 at the end, None if there was nothing after all."""
        if self._buffered:
            count = min(len(buffer), len(self._buffered))
            buffer[:count], self._buffered = self._buffered[:count], self._buffered[count:]
            return count
        self._poll.poll()
        return None if self._stopped else self._raw.readinto(buffer)

    def _check_not_truncated(self) -> None:
        """Raise SourceError if a regular file is shorter now than it was at first.

        Files of the kernel may give fewer bytes than their size says; that is not an error.
        """
        if self._size is not None:
            size = os.fstat(self._raw.fileno()).st_size
            if self._raw.tell() < self._size > size:
                raise SourceError(
                    f"the file shrank from {self._size} to {size} bytes while it was read"
                )

    def stop(self) -> None:
        self._stopped = True
        self.free_slots.put(None)
        for fd in self._wake[1:]:
            os.write(fd, b"x")

    def release(self) -> None:
        """Close the wake-up pipe, and the file if it was opened here."""
        while self._wake:
            os.close(self._wake.pop())
        if self._owned is not None:
            self._owned.close()

    __del__ = release  # if `close` could not wait for the thread's end


def enlarge_pipe(file: BinaryIO | io.RawIOBase) -> None:
    """Enlarge a pipe's buffer to 1 MiB, so that both ends overlap. Best effort."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fd = file.fileno()
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
