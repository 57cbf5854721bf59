"""The directory that an image is extracted into, and what is below it.

A path here is bytes without `..`, and below the directory. Nothing that is done follows a link:
each directory is opened without one (`openat2`), and a name is used in the last of them only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from brolga.extract import openat2
from brolga.spec.value import Value

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

# ELOOP or ENOTDIR: there is a link or a file in the place of a directory.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_ROOT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN: Final = 64  # directories
_USABLE: Final = stat.S_IRWXU  # of a directory, by its owner


class Removed(Value):
    """The directories that `Tree.remove` deleted, and those that it kept."""

    deleted: list[bytes]
    kept: list[bytes]


class Tree:
    """A directory below which paths are opened. `root` is its descriptor.

    Threads must not share a tree.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._open_below = openat2.find_opener(root)
        self._handles: OrderedDict[bytes, int] = OrderedDict()
        self._is_root_user = os.geteuid() == 0

    def close(self) -> None:
        """Close every descriptor."""
        while self._handles:
            os.close(self._handles.popitem()[1])
        os.close(self.root)

    def open(self, path: bytes) -> int:
        """Return a descriptor of a directory, valid until some more are opened. Raises OSError."""
        if not path:
            return self.root
        handles = self._handles
        if (descriptor := handles.get(path)) is not None:
            handles.move_to_end(path)
            return descriptor
        # One step is enough below a directory that is open already.
        parent, _, name = path.rpartition(b"/")
        above = handles.get(parent)
        descriptor = (
            self._open_below(self.root, path) if above is None else self._open_below(above, name)
        )
        if len(handles) >= _MAX_OPEN:
            os.close(handles.popitem(last=False)[1])
        handles[path] = descriptor
        return descriptor

    def locate(self, path: bytes) -> tuple[int, bytes]:
        """Return the directory that a path is in, and its name there. Raises OSError."""
        parent, _, name = path.rpartition(b"/")
        return self.open(parent), name

    def status(self, path: bytes) -> os.stat_result | None:
        """Return the status of what is at a path, or None if nothing is. Raises OSError."""
        if not path:
            return os.fstat(self.root)
        try:
            directory, name = self.locate(path)
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise

    def make_usable(self, path: bytes) -> None:
        """Let the user list a directory and change what is in it, if its mode does not."""
        if self._is_root_user:
            return
        directory, name = self.locate(path)
        if not path:
            handle = os.dup(self.root)
        else:
            handle = os.open(name, _HANDLE | os.O_DIRECTORY, dir_fd=directory)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & _USABLE != _USABLE:
                change_mode(handle, mode | _USABLE)
        finally:
            os.close(handle)

    def remove(
        self, path: bytes, kept: Container[bytes] = (), emptied: Container[bytes] = ()
    ) -> Removed:
        """Remove what is at a path, if anything, as `empty` does."""
        directory, name = self.locate(path)
        status = self.status(path)
        if status is None or not stat.S_ISDIR(status.st_mode):
            if status is not None and path not in kept:
                os.unlink(name, dir_fd=directory)
            return Removed([], [])
        removed = self.empty(path, kept, emptied)
        if path in kept:
            removed.kept.append(path)
        else:
            self._remove_directory(path)
            removed.deleted.append(path)
        return removed

    def empty(
        self, path: bytes, kept: Container[bytes] = (), emptied: Container[bytes] = ()
    ) -> Removed:
        """Remove what is in a directory, except what is in `kept`.

        The directories in `emptied` have nothing else in them: they are not listed again.
        """
        todo, found = [path], list[bytes]()
        while todo:
            directory = todo.pop()
            if directory not in emptied:
                inner = list(self._empty_of_files(directory, kept))
                todo += inner
                found += inner
        removed = Removed([], [])
        for directory in reversed(found):
            if directory in kept:
                removed.kept.append(directory)
            else:
                self._remove_directory(directory)
                removed.deleted.append(directory)
        return removed

    def _empty_of_files(self, path: bytes, kept: Container[bytes]) -> Iterator[bytes]:
        """Remove the files in a directory, and yield the directories."""
        self.make_usable(path)
        directory = self.open(path)
        prefix = path + b"/" if path else b""
        with os.scandir(directory) as entries:
            names = [
                (os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in entries
            ]
        for name, is_directory in names:
            if is_directory:
                yield prefix + name
            elif prefix + name not in kept:
                os.unlink(name, dir_fd=directory)

    def _remove_directory(self, path: bytes) -> None:
        if (descriptor := self._handles.pop(path, None)) is not None:
            os.close(descriptor)
        directory, name = self.locate(path)
        os.rmdir(name, dir_fd=directory)


def change_mode(handle: int, mode: int) -> None:
    """Change the mode of what a handle (O_PATH) stands for."""
    Path(f"/proc/self/fd/{handle}").chmod(mode)


@contextmanager
def open_tree(path: str | os.PathLike[str]) -> Iterator[Tree]:
    """Create a directory with its parents, unless it is there, and open it as a tree."""
    Path(path).mkdir(parents=True, exist_ok=True)
    tree = Tree(os.open(path, _ROOT))
    try:
        yield tree
    finally:
        tree.close()
