"""Open files: reads and writes without a short count, and a file that is replaced atomically.

A new file has no name while it is written (O_TMPFILE), so that a killed process leaves nothing. A
file system without such files gets a temporary name beside the path, which a kill leaves there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.spec.blob import Block


_NEW_FILE: Final = 0o666  # before the umask
_PERMISSIONS: Final = 0o777
_MAX_NAME: Final = 50  # characters, so that a name of 255 bytes gets a temporary one
_OPEN_FILES: Final = "/proc/self/fd"


def read_at(descriptor: int, size: int, start: int) -> memoryview:
    """Return `size` bytes from offset `start` on; fewer only if the file ends before.

    Any number of threads may read one file, because no call moves its position.
    """
    block = memoryview(bytearray(size))
    filled = 0
    while filled < size:
        count = os.preadv(descriptor, [block[filled:]], start + filled)
        if not count:
            break
        filled += count
    return block[:filled]


def write_all(descriptor: int, block: Block) -> None:
    """Write all bytes of a block."""
    with memoryview(block) as view:
        written = 0
        while written < len(view):
            written += os.write(descriptor, view[written:])


@contextmanager
def atomic_file(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place at the end of the block, unless it raises.

    If `mode` is None, a file that was there keeps its permissions. A link stays, and its target is
    replaced. The file has no buffer, so that closing it writes nothing. Raises OSError.
    """
    import secrets

    path = Path(os.path.realpath(path))
    is_new = not path.exists()
    if mode is None:
        mode = _NEW_FILE if is_new else path.stat().st_mode & _PERMISSIONS
    temporary = path.with_name(f".{path.name[:_MAX_NAME]}.{secrets.token_hex(4)}")
    try:
        file, has_name = _open_new(temporary, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with file:
            if not is_new:
                os.fchmod(file.fileno(), mode)
            yield file
            if not is_new:
                os.fsync(file.fileno())  # else a power cut could lose both files
            if not has_name:
                # Only a call with a directory's descriptor follows the link (open(2), O_TMPFILE).
                descriptor = file.fileno()
                source = f"{_OPEN_FILES}/{descriptor}"
                os.link(source, temporary, src_dir_fd=descriptor, follow_symlinks=True)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _open_new(temporary: Path, mode: int) -> tuple[BinaryIO, bool]:
    """Open a file without a name, or else under a temporary one; return whether it has a name."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    has_name = False
    try:
        Path(_OPEN_FILES).stat()  # it is needed to name the file at the end
        descriptor = os.open(temporary.parent, flags | os.O_TMPFILE, mode)
    except (OSError, AttributeError):
        descriptor = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, mode)
        has_name = True
    return cast("BinaryIO", open(descriptor, "wb", buffering=0)), has_name  # noqa: PTH123 - no path
