"""Files below a root directory, opened without following a link below the root.

Each directory is opened from the one above it (openat, O_NOFOLLOW), and a file by its name in the
last of them. A file is opened without waiting, and only if it is a regular file, so that a planted
FIFO or device neither blocks the program nor is read. The root itself may be a link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


T = TypeVar("T")

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Another process may delete an empty directory before it is used.
_TRIES: Final = 10


class UnsafePath(OSError):
    """A link, a FIFO or a device is in the place of a file or a directory."""

    def __init__(self, path: Path) -> None:
        message = "there is a link, or no regular file, in the place of a file or a directory"
        super().__init__(errno.ELOOP, message, os.fspath(path))


class Sync(Enum):
    """When files and directories are flushed to the device (fsync)."""

    NEVER = "never"
    REPLACED = "replaced"
    """Before a file takes the place of another: a power cut must not lose both."""
    ALWAYS = "always"
    """Always, and the directory too: whatever was stored outlives a power cut."""


class Directory:
    """The directory `root`. Each method takes a path below it and follows no link there.

    All methods raise FileNotFoundError, NotADirectoryError, other OSErrors, and the error that
    `unsafe_path` returns.
    """

    def __init__(
        self,
        root: Path,
        sync: Sync = Sync.REPLACED,
        unsafe_path: Callable[[Path], Exception] = UnsafePath,
    ) -> None:
        self.root = root
        self._sync = sync
        self._unsafe_path = unsafe_path
        self._parts = root.parts

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """Open a directory and return its descriptor."""
        descriptor = os.open(self.root, _DIRECTORY)
        try:
            for name in self._parts_below(path):
                inner = self._open_directory(descriptor, name, path)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_directory(self, parent: int, name: str, path: Path) -> int:
        try:
            return os.open(name, _DIRECTORY | _SAFE, dir_fd=parent)
        except OSError as error:
            # Linux returns ENOTDIR for a link as well.
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise self._unsafe_path(path) from error
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)
            ) from error

    def _parts_below(self, path: Path) -> tuple[str, ...]:
        """Return the parts of a path below the root. Raises ValueError if it is not below it."""
        parts = path.parts
        count = len(self._parts)
        if parts[:count] != self._parts or ".." in parts[count:]:
            raise ValueError(f"{path} is not below {self.root}")
        return parts[count:]

    def make(self, path: Path) -> list[Path]:
        """Create a directory and its missing parents; return the new ones."""
        missing = [parent for parent in (self.root, *self.root.parents) if not parent.exists()]

        def make_below() -> list[Path]:
            self.root.mkdir(parents=True, exist_ok=True)
            new, parent = [], self.root
            for name in self._parts_below(path):
                with self.opened(parent) as descriptor, suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
                    new.append(parent / name)
                parent /= name
            with self.opened(parent):
                return new

        new = missing + _retry(make_below)
        for directory in new:
            self._sync_directory(directory.parent)
        return new

    def open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """Open a regular file; a new one has mode 666. One with two names cannot be written."""
        with self.opened(path.parent) as directory:
            try:
                descriptor = os.open(path.name, flags | _SAFE, 0o666, dir_fd=directory)
            except OSError as error:
                # ENXIO: a socket, or a FIFO without a reader.
                if error.errno in {errno.ELOOP, errno.ENXIO}:
                    raise self._unsafe_path(path) from error
                raise
        status = os.fstat(descriptor)
        is_shared = bool(flags & (os.O_WRONLY | os.O_RDWR)) and status.st_nlink > 1
        if not stat.S_ISREG(status.st_mode) or is_shared:
            os.close(descriptor)
            raise self._unsafe_path(path)
        return descriptor

    def open_file(self, path: Path) -> BinaryIO:
        """Open a regular file for reading, as a file object."""
        return os.fdopen(self.open(path), "rb")

    def create(self, path: Path, flags: int = os.O_WRONLY) -> int:
        """Create a file for writing, and its missing directories; return its descriptor."""

        def create() -> int:
            self.make(path.parent)
            return self.open(path, flags | os.O_CREAT | os.O_EXCL)

        return _retry(create)

    def move(self, descriptor: int, source: Path, target: Path) -> None:
        """Move an open file to its place, atomically; create the missing directories."""
        is_replaced = self._sync is Sync.REPLACED and os.path.lexists(target)
        if is_replaced or self._sync is Sync.ALWAYS:
            os.fsync(descriptor)

        def move() -> None:
            self.make(target.parent)
            self.replace(source, target)

        _retry(move)
        self._sync_directory(target.parent)

    def status(self, path: Path) -> os.stat_result:
        """Return the status of a regular file."""
        with self.opened(path.parent) as directory:
            status = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise self._unsafe_path(path)
        return status

    def is_file(self, path: Path) -> bool:
        """Return whether a regular file is there. Raises UnsafePath."""
        try:
            self.status(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def touch(self, path: Path) -> None:
        """Set the times of a file to now."""
        with self.opened(path.parent) as directory:
            os.utime(path.name, dir_fd=directory, follow_symlinks=False)

    def unlink(self, path: Path) -> bool:
        """Delete a name, of whatever kind. Return whether it was there."""
        try:
            with self.opened(path.parent) as directory:
                os.unlink(path.name, dir_fd=directory)
        except FileNotFoundError:
            return False
        return True

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file; a file of that name is replaced."""
        with self.opened(source.parent) as old, self.opened(target.parent) as new:
            os.replace(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)

    def link(self, source: Path, target: Path) -> None:
        """Add a second name to a regular file; create the missing directories.

        Raises FileExistsError, and OSError if the file system has no hard links.
        """
        self.status(source)
        self.make(target.parent)
        with self.opened(source.parent) as old, self.opened(target.parent) as new:
            names = (source.name, target.name)
            os.link(*names, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        self._sync_directory(target.parent)

    @contextmanager
    def locked(self, path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold a lock on a directory, against other threads and processes (flock(2)).

        Raises BlockingIOError if `operation` has LOCK_NB and another holder exists. Raises
        FileNotFoundError if the directory was deleted or replaced before it was locked.
        """
        with self.opened(path) as descriptor:
            fcntl.flock(descriptor, operation)
            with self.opened(path) as current:
                if not os.path.samestat(os.fstat(descriptor), os.fstat(current)):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            yield

    def prune(self, path: Path) -> None:
        """Delete a directory and its parents below the root, up to the first that is not empty.

        Each is deleted under its lock. A directory that another holder has locked stays.
        """
        with suppress(OSError):
            while path != self.root:
                lock = self.locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with lock, self.opened(path.parent) as parent:
                    os.rmdir(path.name, dir_fd=parent)
                path = path.parent

    def scan(self, path: Path) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a directory; nothing if it is missing."""
        missing = suppress(FileNotFoundError, NotADirectoryError)
        with missing, self.opened(path) as descriptor, os.scandir(descriptor) as entries:
            yield from entries

    def _sync_directory(self, path: Path) -> None:
        if self._sync is not Sync.ALWAYS:
            return
        # The directory above the root, in which the root is new, is the user's.
        directory = self if path.is_relative_to(self.root) else Directory(path)
        with directory.opened(path) as descriptor:
            os.fsync(descriptor)


def _retry(work: Callable[[], T]) -> T:
    """Work in a directory that was just made; repeat if another process deleted it meanwhile."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return work()
    return work()
