"""Files in their place: at once, whole, and where wanted safe from a power cut.

Knows rename, link and fsync. Must not know what a layout is.

What is renamed appears whole or not at all, wherever the process is killed. A durable disk also
waits for the device (fsync of the file, then of its directory) before it says that it is done:
what was acknowledged then outlives a loss of power.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Disk"]


class Disk:
    """How files are put in their place, durably or not."""

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable

    def make(self, directory: Path) -> None:
        """Make a directory and those above it, where they are not there."""
        new = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        for path in new:
            self._settle(path.parent)

    def move(self, descriptor: int, source: Path, target: Path) -> None:
        """Move an open file to its place; what was there before is gone at that moment."""
        self.make(target.parent)
        if self._durable:
            os.fsync(descriptor)
        source.replace(target)
        self._settle(target.parent)

    def write(self, target: Path, data: bytes, scratch: Path) -> None:
        """Put a file of these bytes in its place, by way of one in the directory `scratch`."""
        self.make(scratch)
        partial = scratch / f"{target.name[:32]}.{uuid.uuid4().hex}"
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                self.move(file.fileno(), partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name. Raises OSError where the file system cannot."""
        self.make(target.parent)
        target.hardlink_to(source)
        self._settle(target.parent)

    def _settle(self, directory: Path) -> None:
        """Wait until the device has a directory's entries."""
        if not self._durable:
            return
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
