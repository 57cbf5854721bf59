"""A buffer in an unnamed file, which disappears when it is closed or its process ends.

Every read and write names its offset (pread, pwrite), so threads can share the file.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Final, TypeAlias

from brolga.disk.files import read_at
from brolga.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from brolga.spec.blob import Block

# A directory; True for the system's directory for temporary files, False for no spool.
SpoolChoice: TypeAlias = "bool | str | PathLike[str]"
_BLOCK_SIZE: Final = 1 << 20  # bytes


class Spool:
    """A `ReplayBuffer` that keeps all bytes on disk.

    `directory` None is the system's directory for temporary files. Raises SpoolError if the file
    cannot be made, written or read.
    """

    start = 0

    def __init__(self, directory: str | PathLike[str] | None = None) -> None:
        self._directory = directory
        self._fd = -1
        self.size = 0
        try:
            with tempfile.TemporaryFile(dir=directory, prefix="brolga-", buffering=0) as file:
                self._fd = os.dup(file.fileno())
        except OSError as error:
            raise self._error("made", error) from error

    def add(self, block: Block, retain_from: int | None = None) -> None:  # noqa: ARG002 - it keeps all bytes
        """Append a block."""
        view = memoryview(block)
        while view:
            try:
                count = os.pwrite(self._fd, view, self.size)
            except OSError as error:
                raise self._error(f"written after {self.size} bytes", error) from error
            self.size += count
            view = view[count:]

    def read(self, start: int) -> Iterator[Block]:
        """Yield the bytes from offset `start` on."""
        end = self.size
        while start < end:
            block = self.read_at(min(_BLOCK_SIZE, end - start), start)
            yield block
            start += len(block)

    def read_at(self, size: int, start: int) -> memoryview:
        """Return `size` bytes from `start` on."""
        try:
            block = read_at(self._fd, size, start)
        except OSError as error:
            raise self._error(f"read at byte {start}", error) from error
        if len(block) < size:
            end = start + len(block)
            raise SpoolError(f"the spool in {self._place} ends at byte {end}: it was truncated")
        return block

    def close(self) -> None:
        """Close the file, which deletes it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close

    @property
    def _place(self) -> str:
        return os.fspath(self._directory or tempfile.tempdir or "the directory for temporary files")

    def _error(self, action: str, error: OSError) -> SpoolError:
        return SpoolError(
            f"the spool in {self._place} cannot be {action}: {error.strerror}; "
            "choose another directory with --spool=DIR"
        )


def open_spool(choice: SpoolChoice) -> Spool | None:
    """Return a new spool if one is chosen. Raises SpoolError."""
    return None if choice is False else make_spool(choice)


def make_spool(choice: SpoolChoice) -> Spool:
    """Return a new spool in the directory of a choice. Raises SpoolError."""
    return Spool(None if isinstance(choice, bool) else choice)
