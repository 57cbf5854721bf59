"""An upload in progress: a file that grows, and the hash of what is in it.

Knows files, locks and hashes. Must not know HTTP, or where a finished blob goes.

The file is the whole truth: its size is the offset, so a session outlives the process. The
hash of its bytes is kept in memory as they arrive and, where it was lost (a restart, a session
long idle, another algorithm), computed again from the file at the end.

Whoever writes holds a lock on the file (flock): requests of one process and of several are
kept apart alike, and the kernel frees it when the process dies. A finished file is moved to its
place (see disk), so a blob appears whole or not at all, wherever the process is killed.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from brolga.errors import BrolgaError, DigestMismatch
from brolga.spec.digest import Digest, Hasher, hasher

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from brolga.server.disk import Disk

__all__ = [
    "DEFAULT_ALGORITHM",
    "Progress",
    "ProgressCache",
    "Sessions",
    "TooManyUploads",
    "Upload",
    "UploadBusy",
    "UploadUnknown",
    "Writer",
]

# Idle sessions whose hash is remembered: clients that open sessions without end cost no memory.
_REMEMBERED = 1024

# More than clients of a workstation or a build machine ever have, and few enough to look through.
_MOST_SESSIONS = 10_000

DEFAULT_ALGORITHM = "sha256"


class UploadUnknown(BrolgaError):
    """No session of that id: never started, cancelled, or finished."""


class UploadBusy(BrolgaError):
    """Another request is writing into the session."""


class TooManyUploads(BrolgaError):
    """As many sessions are open as may be."""


class Progress(NamedTuple):
    """The hash of the first `size` bytes of a file that was last changed at `changed_ns`."""

    state: Hasher
    size: int
    changed_ns: int


class ProgressCache:
    """The hashes of idle sessions, the least recently used forgotten first."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._known: OrderedDict[Path, Progress] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, path: Path, progress: Progress) -> None:
        """Remember how far the hash of a session has come."""
        with self._lock:
            self._known[path] = progress
            if len(self._known) > self._limit:
                self._known.popitem(last=False)

    def take(self, path: Path, size: int, changed_ns: int) -> Hasher | None:
        """Return the hash if it is that of the file as it is now, and forget it."""
        with self._lock:
            progress = self._known.pop(path, None)
        if progress is None or (progress.size, progress.changed_ns) != (size, changed_ns):
            return None
        return progress.state


class Sessions:
    """How many sessions are open. Each is a file: clients that leave them behind fill no disk."""

    def __init__(self, limit: int = _MOST_SESSIONS) -> None:
        self.count = 0
        self._limit = limit
        self._lock = threading.Lock()

    def add(self) -> None:
        """Count one more. Raises TooManyUploads."""
        with self._lock:
            if self.count >= self._limit:
                raise TooManyUploads(f"{self._limit} uploads are open: finish or cancel some")
            self.count += 1

    def remove(self) -> None:
        """Count one less."""
        with self._lock:
            self.count = max(self.count - 1, 0)


class Upload:
    """A session by its file; nothing is open until somebody writes."""

    def __init__(self, path: Path, cache: ProgressCache, disk: Disk) -> None:
        self.path = path
        self._cache = cache
        self._disk = disk

    @property
    def id(self) -> str:
        """The session's id, as it stands in its URL."""
        return self.path.name

    def size(self) -> int:
        """Return how many bytes have arrived. Raises UploadUnknown."""
        try:
            return self._disk.status(self.path).st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UploadUnknown(f"no upload {self.id}") from error

    def writer(self) -> Writer:
        """Open the session for one writer. Raises UploadUnknown, UploadBusy."""
        try:
            descriptor = self._disk.open(self.path, os.O_RDWR | os.O_APPEND)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UploadUnknown(f"no upload {self.id}") from error
        try:
            self._lock(descriptor)
            return Writer(self.path, descriptor, self._cache, self._disk)
        except BaseException:
            os.close(descriptor)
            raise

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UploadBusy(f"another request is writing to upload {self.id}") from error
        # The last holder may have finished the session between the open and the lock.
        if not self._is_at_its_path(descriptor):
            raise UploadUnknown(f"no upload {self.id}")

    def _is_at_its_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._disk.status(self.path))
        except FileNotFoundError:
            return False


class Writer:
    """The one writer of a session: a context manager that keeps what has arrived.

    `write` runs in a worker thread; the lock lets `close` wait for it.
    """

    def __init__(self, path: Path, descriptor: int, cache: ProgressCache, disk: Disk) -> None:
        status = os.fstat(descriptor)
        self.size = status.st_size
        self._path = path
        self._descriptor = descriptor
        self._cache = cache
        self._disk = disk
        self._lock = threading.Lock()
        self._state = cache.take(path, status.st_size, status.st_mtime_ns)
        if self._state is None:
            self.expect(DEFAULT_ALGORITHM)

    def __enter__(self) -> Self:
        """Return itself: the session is open since it was made."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close, whatever happened: the bytes that arrived are the session's."""
        self.close()

    def expect(self, algorithm: str) -> None:
        """Hash with an algorithm from the start, where nothing has arrived yet."""
        if self.size == 0:
            self._state = hasher(algorithm)

    def write(self, block: bytes | bytearray) -> None:
        """Append bytes to the file and to the hash. Raises OSError, for a full disk among others.

        After an error the size is still that of the file.
        """
        with self._lock, memoryview(block) as view:
            done = 0
            while done < len(view):
                written = os.write(self._descriptor, view[done:])
                if self._state is not None:
                    self._state.update(view[done : done + written])
                done += written
                self.size += written

    def roll_back(self, size: int) -> None:
        """Forget what came after the first `size` bytes."""
        with self._lock:
            os.ftruncate(self._descriptor, size)
            self.size = size
            self._state = None

    def verify(self, digest: Digest) -> None:
        """Hold what has arrived against a digest.

        Raises DigestMismatch; the session is gone then, since its bytes are wrong.
        """
        actual = self._digest(digest.algorithm)
        if actual != digest:
            self.discard()
            raise DigestMismatch(
                f"the {self.size} bytes that arrived are {actual}",
                expected=str(digest),
                actual=str(actual),
            )

    def commit(self, target: Path) -> None:
        """Move the file to its place as a blob, at once and whole, and young.

        Who sweeps by age must not take for old what has only now a digest: the session may have
        stood still for long.
        """
        os.utime(self._descriptor)
        # Where the blob is there already, the same bytes take its place.
        self._disk.move(self._descriptor, self._path, target)

    def discard(self) -> bool:
        """End the session and delete its bytes. Return whether it was still there."""
        return self._disk.unlink(self._path)

    def close(self) -> None:
        """Let the next writer in; remember the hash, where there is a session to come back to."""
        with self._lock:
            status = os.fstat(self._descriptor)
            if self._state is not None and self._disk.is_file(self._path):
                progress = Progress(self._state, self.size, status.st_mtime_ns)
                self._cache.keep(self._path, progress)
            os.close(self._descriptor)

    def _digest(self, algorithm: str) -> Digest:
        if self._state is None or self._state.name != algorithm:
            self._state = hasher(algorithm)
            # Bounded memory, and the GIL is released: 256 KiB at a time.
            place = 0
            while block := os.pread(self._descriptor, 1 << 18, place):
                self._state.update(block)
                place += len(block)
        return Digest.from_hasher(self._state)
