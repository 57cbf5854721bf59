"""Upload sessions: files that grow, and the hashes of their bytes.

The file is the only state: its size is the offset, so a session survives a restart. The hash is
kept in memory; if it was lost (a restart, a long idle session, another algorithm), it is computed
from the file at the end. A writer holds a lock on the file (flock), which separates requests of one
process and of several; the kernel releases it if the process dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections import OrderedDict
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from brolga.errors import BrolgaError, DigestMismatch
from brolga.spec.digest import Digest, Hasher, hasher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Self

    from brolga.disk.directory import Directory


# Clients that open sessions without end must not fill the memory, or the disk.
_MAX_CACHED_HASHES: Final = 1024
_MAX_SESSIONS: Final = 10_000

DEFAULT_ALGORITHM: Final = "sha256"

# How long a request waits for the one before it to release a session. A client whose connection
# was cut may be back before the last bytes of the old connection are on disk.
_WAIT_S: Final = 1.0
_POLL_S: Final = 0.02


class UploadUnknown(BrolgaError):
    """No session has that id: it was never started, or is cancelled or finished."""


class UploadBusy(BrolgaError):
    """Another request is writing to the session."""


class TooManyUploads(BrolgaError):
    """The limit of open sessions is reached."""


class HashCache:
    """The hashes of idle sessions; the least recently used one is dropped first."""

    def __init__(self, limit: int = _MAX_CACHED_HASHES) -> None:
        self._limit = limit
        self._hashers: OrderedDict[Path, tuple[Hasher, int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, path: Path, hasher: Hasher, status: os.stat_result) -> None:
        """Store the hash of a session's file."""
        with self._lock:
            self._hashers[path] = (hasher, status.st_size, status.st_mtime_ns)
            if len(self._hashers) > self._limit:
                self._hashers.popitem(last=False)

    def pop(self, path: Path, status: os.stat_result) -> Hasher | None:
        """Remove and return the hash of a session, if its file has not changed."""
        with self._lock:
            hasher, *state = self._hashers.pop(path, (None, 0, 0))
        return hasher if state == [status.st_size, status.st_mtime_ns] else None


class SessionCount:
    """The number of open sessions, bounded because each has a file."""

    def __init__(self, limit: int = _MAX_SESSIONS) -> None:
        self.count = 0
        self._limit = limit
        self._lock = threading.Lock()

    def add(self) -> None:
        """Count a new session. Raises TooManyUploads."""
        with self._lock:
            if self.count >= self._limit:
                raise TooManyUploads(f"{self._limit} uploads are open: finish or cancel some")
            self.count += 1

    def remove(self) -> None:
        """Count a session that ended."""
        with self._lock:
            self.count = max(self.count - 1, 0)


class Upload:
    """A session, named by its file; the file is opened by `writer` only."""

    def __init__(self, path: Path, cache: HashCache, tree: Directory) -> None:
        self.path = path
        self.cache = cache
        self.tree = tree

    @property
    def id(self) -> str:
        """The session's id in its URL."""
        return self.path.name

    def size(self) -> int:
        """Return how many bytes are stored. Raises UploadUnknown."""
        try:
            return self.tree.status(self.path).st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UploadUnknown(f"no upload {self.id}") from error

    def writer(self) -> UploadWriter:
        """Open the session for writing. Raises UploadUnknown, UploadBusy."""
        with ExitStack() as stack:
            try:
                descriptor = self.tree.open(self.path, os.O_RDWR | os.O_APPEND)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = self.tree.status(self.path)
            except BlockingIOError as error:
                raise UploadBusy(f"another request is writing to upload {self.id}") from error
            except (FileNotFoundError, NotADirectoryError) as error:
                raise UploadUnknown(f"no upload {self.id}") from error
            # The last holder may have finished the session between the open and the lock.
            if not os.path.samestat(os.fstat(descriptor), status):
                raise UploadUnknown(f"no upload {self.id}")
            writer = UploadWriter(self, descriptor)
            stack.pop_all()
            return writer


@asynccontextmanager
async def open_writer(upload: Upload) -> AsyncIterator[UploadWriter]:
    """Open a session for writing, after a short wait for another writer. Raises UploadBusy."""
    for _ in range(round(_WAIT_S / _POLL_S)):
        with suppress(UploadBusy):
            writer = upload.writer()
            break
        await asyncio.sleep(_POLL_S)
    else:
        writer = upload.writer()
    with writer:
        yield writer


class UploadWriter:
    """The only writer of a session: a context manager, after which the stored bytes stay.

    `write` runs in a worker thread; the lock makes the exit wait for it.
    """

    def __init__(self, upload: Upload, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.size = status.st_size
        self._upload = upload
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._hasher = upload.cache.pop(upload.path, status)
        if self._hasher is None:
            self.use_algorithm(DEFAULT_ALGORITHM)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the session; cache the hash if the session continues."""
        with self._lock:
            status = os.fstat(self._descriptor)
            if self._hasher is not None and self._upload.tree.is_file(self._upload.path):
                self._upload.cache.put(self._upload.path, self._hasher, status)
            os.close(self._descriptor)

    def use_algorithm(self, algorithm: str) -> None:
        """Hash with an algorithm from the start, if nothing is stored yet."""
        if self.size == 0:
            self._hasher = hasher(algorithm)

    def write(self, block: bytes | bytearray) -> None:
        """Append bytes to the file and to the hash. After an error, `size` is still the file's."""
        with self._lock, memoryview(block) as view:
            done = 0
            while done < len(view):
                written = os.write(self._descriptor, view[done:])
                if self._hasher is not None:
                    self._hasher.update(view[done : done + written])
                done += written
                self.size += written

    def truncate(self, size: int) -> None:
        """Drop the bytes after the first `size`."""
        with self._lock:
            os.ftruncate(self._descriptor, size)
            self.size = size
            self._hasher = None

    def verify(self, digest: Digest) -> None:
        """Compare the stored bytes with a digest. Raises DigestMismatch, and ends the session."""
        if self._hasher is None or self._hasher.name != digest.algorithm:
            self._hasher = hasher(digest.algorithm)
            # Large enough to release the GIL, small enough to bound memory.
            offset = 0
            while block := os.pread(self._descriptor, 1 << 18, offset):
                self._hasher.update(block)
                offset += len(block)
        actual = Digest.from_hasher(self._hasher)
        if actual != digest:
            self.discard()
            raise DigestMismatch(
                f"the {self.size} bytes that arrived are {actual}",
                expected=str(digest),
                actual=str(actual),
            )

    def commit(self, target: Path) -> None:
        """Move the file to its place as a blob, atomically."""
        os.utime(self._descriptor)  # age-based GC must not delete a new blob of an old session
        # If the blob exists already, the same bytes replace it.
        self._upload.tree.move(self._descriptor, self._upload.path, target)

    def discard(self) -> bool:
        """End the session and delete its bytes. Return whether it still existed."""
        return self._upload.tree.unlink(self._upload.path)
