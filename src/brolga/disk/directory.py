"""Files below a directory, opened so that no link leads out of it.

Knows openat, O_NOFOLLOW and O_NONBLOCK. Must not know what the files are for.

Strategy: a path is walked from the root down. Each directory is opened from the one above it, and a
file by its name in the last of them, never by following a link. A file is opened without waiting,
and only if it is a regular one: a planted FIFO or device neither stops the program nor is read. The
root is the user's choice: it may be a link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Directory", "UnsafePath"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOWHERE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Another process may delete an empty directory before it is used.
_TRIES: Final = 10


class UnsafePath(OSError):
    """A link, a FIFO or a device is in the place of a file or a directory."""

    def __init__(self, path: Path) -> None:
        what = "there is a link, or no regular file, in the place of a file or a directory"
        super().__init__(errno.ELOOP, what, os.fspath(path))


class Directory:
    """The directory `root`. Each method takes a path below it; none follows a link there.

    Each raises FileNotFoundError, NotADirectoryError, UnsafePath, and OSError of the system.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parts = root.parts

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """Open a directory; gives its descriptor."""
        descriptor = os.open(self.root, _DIRECTORY)
        try:
            for name in self._below(path):
                inner = _enter(descriptor, name, path)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _below(self, path: Path) -> tuple[str, ...]:
        """Return the parts of a path below the root. Raises ValueError if it is not."""
        parts = path.parts
        count = len(self._parts)
        if parts[:count] != self._parts or ".." in parts[count:]:
            raise ValueError(f"{path} is not below {self.root}")
        return parts[count:]

    def make(self, path: Path) -> list[Path]:
        """Make a directory and those above it if they are missing; return the new ones."""
        made = [one for one in (self.root, *self.root.parents) if not one.exists()]
        for left in reversed(range(_TRIES)):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                return made + self._make_below(path)
            except FileNotFoundError:
                if not left:
                    raise
        raise AssertionError  # pragma: no cover - the last try returns or raises

    def _make_below(self, path: Path) -> list[Path]:
        made, at = [], self.root
        for name in self._below(path):
            with self.opened(at) as descriptor, suppress(FileExistsError):
                os.mkdir(name, dir_fd=descriptor)
                made.append(at / name)
            at /= name
        with self.opened(at):
            return made

    def open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """Open a regular file; one to be written has no other name. A new one has mode 666."""
        with self.opened(path.parent) as directory:
            try:
                descriptor = os.open(path.name, flags | _NOWHERE, 0o666, dir_fd=directory)
            except OSError as error:
                # ENXIO: a socket, or a FIFO without a reader.
                if error.errno in {errno.ELOOP, errno.ENXIO}:
                    raise UnsafePath(path) from error
                raise
        status = os.fstat(descriptor)
        is_shared = bool(flags & (os.O_WRONLY | os.O_RDWR)) and status.st_nlink > 1
        if not stat.S_ISREG(status.st_mode) or is_shared:
            os.close(descriptor)
            raise UnsafePath(path)
        return descriptor

    def status(self, path: Path) -> os.stat_result:
        """Return the status of a regular file."""
        with self.opened(path.parent) as directory:
            status = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafePath(path)
        return status

    def is_file(self, path: Path) -> bool:
        """Return whether there is a regular file. Raises UnsafePath."""
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
        """Delete a name, whatever has it. Return whether it was there."""
        try:
            with self.opened(path.parent) as directory:
                os.unlink(path.name, dir_fd=directory)
        except FileNotFoundError:
            return False
        return True

    def replace(self, source: Path, target: Path) -> None:
        """Move a file to another name; what had the name before is gone at that moment."""
        with self.opened(source.parent) as old, self.opened(target.parent) as new:
            os.replace(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)

    def link(self, source: Path, target: Path) -> None:
        """Give a regular file a second name. Raises FileExistsError."""
        self.status(source)
        with self.opened(source.parent) as old, self.opened(target.parent) as new:
            names = (source.name, target.name)
            os.link(*names, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)

    @contextmanager
    def locked(self, path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold a lock on a directory, against other threads and processes: flock(2).

        Raises BlockingIOError if `operation` says not to wait, FileNotFoundError if the directory
        was deleted before the lock: the next process would lock another one of this name.
        """
        with self.opened(path) as descriptor:
            fcntl.flock(descriptor, operation)
            with self.opened(path) as current:
                if not os.path.samestat(os.fstat(descriptor), os.fstat(current)):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            yield

    def prune(self, path: Path) -> None:
        """Delete a directory and those above it, below the root, as long as each is empty.

        Each is deleted under its lock. A directory that another thread or process has locked stays.
        """
        with suppress(OSError):
            while path != self.root:
                lock = self.locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with lock, self.opened(path.parent) as above:
                    os.rmdir(path.name, dir_fd=above)
                path = path.parent

    def scan(self, path: Path) -> Iterator[os.DirEntry[str]]:
        """Yield what is in a directory; nothing if it is missing."""
        missing = suppress(FileNotFoundError, NotADirectoryError)
        with missing, self.opened(path) as descriptor, os.scandir(descriptor) as entries:
            yield from entries


def _enter(above: int, name: str, path: Path) -> int:
    """Open a directory by its name in another."""
    try:
        return os.open(name, _DIRECTORY | _NOWHERE, dir_fd=above)
    except OSError as error:
        # Linux has ENOTDIR for a link as well.
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise UnsafePath(path) from error
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
