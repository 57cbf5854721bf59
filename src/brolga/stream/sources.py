"""Where the bytes of a stream come from.

Knows files, paths and iterables, and that a source may open itself. Must not know layers,
compression or registries.

Strategy: every source becomes a `BlockSource`, which gives blocks of one size, the last one
shorter. Two kinds, by one rule: **the user's code runs in the user's thread alone.**

- What the operating system can wait for (a path, a plain binary file, a pipe, stdin) is read by a
  thread of ours, a few blocks ahead. It waits in poll(2) together with a wake-up pipe, so that
  closing never waits for the source.
- What is Python code (an iterable, an object with `read`) is asked in the thread that reads the
  stream. Generators that hold a database cursor or a context variable work as they do elsewhere.

A signal's handler may raise in the user's thread between any two bytecodes. So that thread takes no
lock of Python code: it speaks with ours by SimpleQueues, and `Worker` starts and awaits them.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import select
import stat
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias, cast, runtime_checkable

from brolga.errors import BrolgaError, SourceError
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from brolga.spec.blob import BlockSource

__all__ = [
    "Openable",
    "Readable",
    "Reopenable",
    "Source",
    "check",
    "enlarge_pipe",
    "open_source",
    "reopen_source",
    "runs_user_code",
    "size_of",
]

READ_AHEAD: Final = 3  # blocks
_PIPE_SIZE: Final = 1 << 20  # bytes; what an unprivileged process may ask for (pipe(7))


class Readable(Protocol):
    """What brolga needs of a file object: `read(n)` gives at most n bytes, and none at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, empty at the end."""


@runtime_checkable
class Openable(Protocol):
    """A source that knows by itself how it is opened: `brolga.stream.command.Command`."""

    def open_blocks(self, block_size: int) -> BlockSource:
        """Open it as blocks of `block_size` bytes. Raises SourceError."""


@runtime_checkable
class Reopenable(Openable, Protocol):
    """A source that can be opened again, from where it began, as often as that is wanted."""

    def open_first(self, block_size: int, count: int) -> BlockSource:
        """Open its first `count` bytes as blocks of `block_size` bytes. Raises SourceError."""


Source: TypeAlias = "str | os.PathLike[str] | BinaryIO | Readable | Iterable[Buffer] | Openable"


def check(source: object) -> None:
    """Refuse what cannot be a source of bytes, before anything is opened or sent.

    Raises TypeError for text, SourceError for a file that is closed or not open for reading.
    """
    if isinstance(source, io.TextIOBase):
        raise TypeError("the source is a text-mode file: open it with mode 'rb', or pass .buffer")
    if isinstance(source, bytes | bytearray | memoryview):
        raise TypeError("the source is one bytes object: pass a list of it, or io.BytesIO(data)")
    if isinstance(source, AsyncIterable):
        raise TypeError("the source is an asynchronous iterable: a plain iterable is wanted here")
    if isinstance(source, str | os.PathLike | Openable):
        return
    if hasattr(source, "read"):
        if getattr(source, "closed", False):
            raise SourceError("the source is a closed file")
        if isinstance(source, io.IOBase) and not source.readable():
            raise SourceError("the source is a file that is not open for reading")
    elif not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(f"a source is a path, a binary file or an iterable of bytes, not {kind}")


def runs_user_code(source: Source) -> bool:
    """Return whether reading `source` calls Python code that is not brolga's own.

    Files of the operating system, and bytes in memory, do not. A source that opens itself says so
    by an attribute of this name.
    """
    if isinstance(source, Openable):
        return getattr(source, "runs_user_code", True)
    plain = isinstance(source, str | os.PathLike) or type(source) in {list, tuple, io.BytesIO}
    return not plain and _raw_file(source) is None


def size_of(source: Source) -> int | None:
    """Return how many bytes are left in a regular file, or None where that is not known."""
    try:
        if isinstance(source, str | os.PathLike):
            status, position = os.stat(source), 0  # noqa: PTH116 - a str needs no Path for this
        elif (raw := _raw_file(source)) is not None:
            status = os.fstat(raw.fileno())
            regular = stat.S_ISREG(status.st_mode)
            position = cast("BinaryIO", source).tell() if regular else 0
        else:
            return None
    except OSError:
        return None  # opening it will say what is wrong
    return max(0, status.st_size - position) if stat.S_ISREG(status.st_mode) else None


def open_source(source: Source, block_size: int) -> BlockSource:
    """Open `source` as blocks of `block_size` bytes.

    The first block of an iterable is taken here, so that a source which fails at once, or gives
    what is not bytes, says so before anything is sent.

    Raises SourceError where it cannot be opened, TypeError as `check` does.
    """
    check(source)
    if isinstance(source, Openable):
        return source.open_blocks(block_size)
    if isinstance(source, str | os.PathLike):
        try:
            file = open(source, "rb", buffering=0)  # noqa: SIM115, PTH123 - _FileSource closes it
        except OSError as error:
            raise SourceError(f"cannot open the source: {error}") from error
        return _FileSource(file, file, block_size, owned=True)
    raw = _raw_file(source)
    if raw is not None:
        return _FileSource(cast("BinaryIO", source), raw, block_size, owned=False)
    return _IterableSource(source, block_size)


def reopen_source(source: Source) -> Callable[[int, int], BlockSource] | None:
    """Return what opens a source once more; None where it is no file and no `Reopenable`.

    It takes a block size and how many bytes to read, from where reading begins now. Raises
    SourceError where it cannot be opened.
    """
    if isinstance(source, Reopenable):
        return source.open_first
    try:
        if isinstance(source, str | os.PathLike):
            regular = stat.S_ISREG(os.stat(source).st_mode)  # noqa: PTH116 - a str needs no Path
            return partial(_open_first, source, 0) if regular else None
        raw = _raw_file(source)
        if raw is None or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            return None
        name = f"/proc/self/fd/{raw.fileno()}"  # with a position of its own; Linux has it
        position = cast("BinaryIO", source).tell()
        return partial(_open_first, name, position) if os.path.exists(name) else None  # noqa: PTH110 - the same
    except OSError:
        return None  # opening it will say what is wrong


def _open_first(
    path: str | os.PathLike[str], position: int, block_size: int, count: int
) -> BlockSource:
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 - _FileSource closes it
        file.seek(position)
    except OSError as error:
        raise SourceError(f"cannot open the source again: {error}") from error
    return _Limited(_FileSource(file, file, block_size, owned=True), count)


class _Limited:
    """The first bytes of another source."""

    def __init__(self, source: BlockSource, count: int) -> None:
        self._source = source
        self._left = count

    def next_block(self, timeout_s: float) -> memoryview | None:
        block = self._source.next_block(timeout_s) if self._left else memoryview(b"")
        if block is not None:
            block = block[: self._left]
            self._left -= len(block)
        return block

    def close(self) -> None:
        self._source.close()


def _raw_file(source: object) -> io.FileIO | None:
    """Return the operating system's file below `source`, where it is all that is below it.

    `fileno()` would not do: a GzipFile and an HTTP response have one, and give other bytes.
    """
    if type(source) in {io.BufferedReader, io.BufferedRandom}:
        source = source.raw  # type: ignore[attr-defined] # a buffered file has it
    return source if type(source) is io.FileIO else None


class _FileSource:
    """A file of the operating system, read ahead by a thread of its own."""

    def __init__(self, file: BinaryIO, raw: io.FileIO, block_size: int, *, owned: bool) -> None:
        # The thread knows the reader alone: dropping this object closes it.
        self._reader = _Reader(file, raw, block_size, owned=owned)
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
            self._reader.blocks.put(block)  # whoever asks again is told again
            why = "" if isinstance(block, SourceError) else "the source cannot be read: "
            raise SourceError(f"{why}{block}") from block
        self._reader.room.put(None)
        self._ended = not block
        return block

    def close(self) -> None:
        if self._worker.is_here:
            self._reader.stop()
        if self._worker.join():
            self._reader.free()


class _Reader:
    """The reading thread's side of a _FileSource."""

    def __init__(self, file: BinaryIO, raw: io.FileIO, block_size: int, *, owned: bool) -> None:
        self._wake: list[int] = []
        self._owned = raw if owned else None
        self.blocks: queue.SimpleQueue[memoryview | BaseException] = queue.SimpleQueue()
        self.room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(READ_AHEAD - 1):
            self.room.put(None)
        self._raw = raw
        self._file = file
        self._size = _regular_size(raw)
        self._rest = memoryview(b"")
        self._block_size = block_size
        self._stopped = False
        self._wake.extend(os.pipe())
        self._poll = select.poll()
        self._poll.register(raw.fileno(), select.POLLIN)
        self._poll.register(self._wake[0], select.POLLIN)
        enlarge_pipe(raw)

    def run(self) -> None:
        try:
            self._take_buffer()
            while not self._stopped:
                block = self._fill()
                self.blocks.put(block)
                if len(block) < self._block_size:
                    # The first end counts. What a growing file gives later would make a short
                    # block in the middle, and other bytes of the same source.
                    self.blocks.put(memoryview(b""))
                    return
                self.room.get()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks
            self.blocks.put(error)

    def _take_buffer(self) -> None:
        """Take what an earlier reader left in the file's own buffer: poll does not see it."""
        if isinstance(self._file, io.BufferedReader | io.BufferedRandom):
            self._poll.poll()  # where nothing is left, peek reads
            if not self._stopped:
                self._rest = memoryview(self._file.read(len(self._file.peek())))

    def _fill(self) -> memoryview:
        block = memoryview(bytearray(self._block_size))
        filled = 0
        while filled < self._block_size and not self._stopped:
            count = self._read_into(block[filled:])
            if count == 0:
                self._check_whole()
                break
            filled += count or 0
        return block[:filled]

    def _read_into(self, room: memoryview) -> int | None:
        """Return how many bytes came; 0 at the end, None where there was nothing after all."""
        if self._rest:
            count = min(len(room), len(self._rest))
            room[:count], self._rest = self._rest[:count], self._rest[count:]
            return count
        self._poll.poll()
        return None if self._stopped else self._raw.readinto(room)

    def _check_whole(self) -> None:
        """Raise SourceError where a regular file is shorter now than it was at first."""
        # Not where it merely gave fewer bytes than it says it has, as files of the kernel do.
        if self._size is not None:
            size = os.fstat(self._raw.fileno()).st_size
            if self._raw.tell() < self._size > size:
                raise SourceError(
                    f"the file shrank from {self._size} to {size} bytes while it was read"
                )

    def stop(self) -> None:
        self._stopped = True
        self.room.put(None)
        for fd in self._wake[1:]:
            os.write(fd, b"x")

    def free(self) -> None:
        """Give back what the operating system gave."""
        while self._wake:
            os.close(self._wake.pop())
        if self._owned is not None:
            self._owned.close()

    __del__ = free  # where nobody could wait for the thread's end


def _regular_size(raw: io.FileIO) -> int | None:
    status = os.fstat(raw.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def enlarge_pipe(file: BinaryIO | io.RawIOBase) -> None:
    """Let a pipe hold 1 MiB, so that both its ends work at once. A wish, not a need."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fd = file.fileno()
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


class _IterableSource:
    """Python code that gives bytes, asked in the thread of the one who asks us."""

    def __init__(self, source: Readable | Iterable[Buffer], block_size: int) -> None:
        self._blocks = _reblock(_pieces(source, block_size), block_size)
        self._first = next(self._blocks, None)

    def next_block(self, timeout_s: float) -> memoryview | None:  # noqa: ARG002 - not ours to keep
        block, self._first = self._first, None
        return next(self._blocks, memoryview(b"")) if block is None else block

    def close(self) -> None:
        self._blocks.close()


def _pieces(source: Readable | Iterable[Buffer], size: int) -> Iterator[bytes]:
    """Yield what the source gives, as bytes objects.

    Raises SourceError where it gives what is not bytes or ends early, and from whatever it raises.
    """
    count = 0
    try:
        if hasattr(source, "read"):
            length = getattr(source, "length", None)
            while data := _as_bytes(source.read(size)):
                yield data
                count += len(data)
            _check_length(source, length, count)
        else:
            for piece in source:
                yield (data := _as_bytes(piece))
                count += len(data)
    except BrolgaError:
        raise  # it says already what failed
    except Exception as error:  # StopIteration out of a `read` among them: that is no end
        name = type(error).__name__
        raise SourceError(f"the source failed after {count} bytes: {name}: {error}") from error


def _check_length(source: object, length: object, count: int) -> None:
    """Raise SourceError where a source knows of bytes to come, and gave none.

    http.client.HTTPResponse.read(n) does so when the connection was cut: `length` counts down what
    is missing. Elsewhere that name may stand for the whole length, which does not change.
    """
    missing = getattr(source, "length", None)
    if isinstance(length, int) and isinstance(missing, int) and 0 < missing == length - count:
        raise SourceError(f"the source ended {missing} bytes early")


def _as_bytes(piece: Buffer) -> bytes:
    """Pass bytes on as they are; copy all else, which may change under us when it is refilled."""
    if type(piece) is bytes:
        return piece
    try:
        return bytes(memoryview(piece))
    except TypeError:
        kind = type(piece).__name__
        raise SourceError(f"the source gave {kind} where bytes were expected") from None


def _reblock(pieces: Iterator[bytes], size: int) -> Generator[memoryview, None, None]:
    """Cut pieces of any size into blocks of `size` bytes, copying only what must be joined."""
    joined, filled = bytearray(size), 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            if not filled and len(view) >= size:
                yield view[:size]
                view = view[size:]
                continue
            count = min(size - filled, len(view))
            joined[filled : filled + count] = view[:count]
            filled, view = filled + count, view[count:]
            if filled == size:
                yield memoryview(joined)
                joined, filled = bytearray(size), 0
    if filled:
        yield memoryview(joined)[:filled]
