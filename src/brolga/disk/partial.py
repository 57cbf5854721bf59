"""A file that is complete under its own name only, and that a killed writer leaves to the next one.

It is written under the name of a partial file. Its writer holds a lock on it (flock), which the
kernel releases if the process dies; the next writer goes on from the bytes that are there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from brolga.disk.files import read_at, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from brolga.disk.directory import Directory
    from brolga.spec.blob import Block

    Errors = Callable[[], AbstractContextManager[object]]


_BLOCK_SIZE: Final = 1 << 20  # bytes
_APPEND: Final = os.O_RDWR | os.O_APPEND


class PartialFile:
    """An open file, which this object alone writes. Use it in a `with` statement.

    It stays at its end, unless it is empty, moved or deleted. `size` is the number of its bytes.
    `errors` returns a context for what may raise OSError.
    """

    def __init__(
        self, tree: Directory, path: Path, descriptor: int, errors: Errors = nullcontext
    ) -> None:
        self.size = os.fstat(descriptor).st_size
        self._tree = tree
        self._path = path
        self._descriptor = descriptor
        self._errors = errors
        self._has_name = True

    def blocks(self) -> Generator[memoryview, None, None]:
        """Yield the bytes from the start on."""
        position = 0
        while position < self.size:
            with self._errors():
                block = read_at(self._descriptor, _BLOCK_SIZE, position)
            if not block:
                raise OSError(errno.EIO, "it became shorter while it was read", str(self._path))
            position += len(block)
            yield block

    def write(self, block: Block) -> None:
        """Append a block."""
        with self._errors():
            write_all(self._descriptor, block)
        self.size += len(block)

    def set_mode(self, mode: int) -> None:
        """Set the permissions, unless they are so: some file systems have none to set."""
        with self._errors():
            if stat.S_IMODE(os.fstat(self._descriptor).st_mode) != mode:
                os.fchmod(self._descriptor, mode)

    def truncate(self) -> None:
        """Drop all bytes."""
        with self._errors():
            os.ftruncate(self._descriptor, 0)
        self.size = 0

    def move(self, target: Path) -> None:
        """Move the file to its path, atomically."""
        with self._errors():
            os.utime(self._descriptor)  # its bytes may be old: gc must not take it for a left one
            self._tree.move(self._descriptor, self._path, target)
        self._has_name = False

    def delete(self) -> None:
        """Delete the file, unless it was moved."""
        if self._has_name:
            self._tree.unlink(self._path)
            self._has_name = False

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the file if it is empty; release and close it."""
        try:
            if not os.fstat(self._descriptor).st_size:
                self.delete()
        finally:
            os.close(self._descriptor)


@contextmanager
def open_partial(
    tree: Directory,
    path: Path,
    target: Path,
    wait: Callable[[], None],
    errors: Errors = nullcontext,
) -> Iterator[PartialFile | None]:
    """Open or create the partial file `path` of `target`; None if another writer completed it.

    `wait` is called again and again while another writer has it. A file of another user is not
    continued: that user could change it later. Raises OSError, and as `Directory` does.
    """
    file = None
    while file is None:
        with errors():
            descriptor, is_own = _open(tree, path)
        try:
            while not _try_lock(descriptor):
                wait()
            with errors():
                if _is_at(tree, target, descriptor):
                    break  # the other writer has moved it
                if not _is_at(tree, path, descriptor):
                    continue  # moved elsewhere or deleted
                if not is_own:
                    tree.unlink(path)
                    continue
            file = PartialFile(tree, path, descriptor, errors)
        finally:
            if file is None:
                os.close(descriptor)
    if file is None:
        yield None
    else:
        with file:
            yield file


def _open(tree: Directory, path: Path) -> tuple[int, bool]:
    """Open or create a file; return its descriptor, and whether it is this user's to write."""
    while True:
        try:
            # The owner of a new file is not compared: a file system may give it to another user.
            return tree.create(path, _APPEND), True
        except FileExistsError:
            pass
        try:
            descriptor = tree.open(path, _APPEND)
            return descriptor, os.fstat(descriptor).st_uid == os.geteuid()
        except PermissionError:
            return tree.open(path), False  # enough to wait for its lock
        except FileNotFoundError:
            continue


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(tree: Directory, path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), tree.status(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
