"""Files in their place: at once, whole, and where wanted safe from a power cut.

Knows rename, link and fsync. Must not know what a layout is.

What is renamed appears whole or not at all, wherever the process is killed. A durable disk also
waits for the device (fsync of the file, then of its directory) before it says that it is done:
what was acknowledged then outlives a loss of power. No link below the root is followed (directory).
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from brolga.disk.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Disk"]

_T = TypeVar("_T")

_TRIES = 10


class Disk(Directory):
    """How files below `root` are put in their place, durably or not."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        super().__init__(root)
        self._durable = durable

    def make(self, path: Path) -> list[Path]:
        """Make a directory and those above it if they are missing; return the new ones."""
        new = super().make(path)
        for one in new:
            self._settle(one.parent)
        return new

    def reader(self, path: Path) -> BinaryIO:
        """Open a regular file to be read."""
        return os.fdopen(self.open(path), "rb")

    def create(self, path: Path) -> int:
        """Make a file that is not there, and the directories above it; return its descriptor."""

        def create() -> int:
            self.make(path.parent)
            return self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

        return _repeated(create)

    def move(self, descriptor: int, source: Path, target: Path) -> None:
        """Move an open file to its place; what was there before is gone at that moment."""
        if self._durable:
            os.fsync(descriptor)

        def move() -> None:
            self.make(target.parent)
            self.replace(source, target)

        _repeated(move)
        self._settle(target.parent)

    def write(self, target: Path, data: bytes, scratch: Path) -> None:
        """Put a file of these bytes in its place, by way of one in the directory `scratch`."""
        partial = scratch / f"{target.name[:32]}.{uuid.uuid4().hex}"
        try:
            with os.fdopen(self.create(partial), "wb") as file:
                file.write(data)
                file.flush()
                self.move(file.fileno(), partial, target)
        except BaseException:
            self.unlink(partial)
            raise

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name. Raises OSError where the file system cannot."""
        self.make(target.parent)
        super().link(source, target)
        self._settle(target.parent)

    def _settle(self, directory: Path) -> None:
        """Wait until the device has a directory's entries."""
        if not self._durable:
            return
        # The directory above the root, in which the root is new, is the user's.
        at = Directory(directory) if not directory.is_relative_to(self.root) else self
        with at.opened(directory) as descriptor:
            os.fsync(descriptor)


def _repeated(work: Callable[[], _T]) -> _T:
    """Do something in a directory that was just made, again if another session deleted it."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return work()
    return work()
