"""A file that takes its place when it is whole: before that, what was there before is there.

Knows the system's files without a name, links and modes. Must not know archives.

Strategy: the file has no name while it is written (O_TMPFILE), so that a killed process leaves
nothing. When it is whole it is linked beside its place, and moved there at once. A file system that
has no such files gets one beside the place from the start, which a kill leaves there.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["whole_file"]

_NEW_FILE: Final = 0o666  # less what the umask takes
_PERMISSIONS: Final = 0o777
_OPEN_FILES: Final = "/proc/self/fd"


@contextmanager
def whole_file(place: Path) -> Iterator[BinaryIO]:
    """Open a file to be written, which takes its place at the end of the block; not at an error.

    It keeps the permissions of the file that was there. A link stays, and what it leads to is
    written. It has no buffer: its close writes nothing, and so has no error of its own. Raises
    OSError.
    """
    place = Path(os.path.realpath(place))
    is_new = not place.exists()
    mode = _NEW_FILE if is_new else place.stat().st_mode & _PERMISSIONS
    beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        file, has_name = _opened(beside, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error
    try:
        with file:
            if not is_new:
                os.fchmod(file.fileno(), mode)
            yield file
            if not is_new:
                os.fsync(file.fileno())  # else a power cut could leave neither of the two
            if not has_name:
                _link(file.fileno(), beside)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _opened(beside: Path, mode: int) -> tuple[BinaryIO, bool]:
    """Open a file without a name, or else one of this name; return whether it has it."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    with suppress(OSError, AttributeError):
        Path(_OPEN_FILES).stat()  # else it would get no name at the end
        fd = os.open(beside.parent, flags | os.O_TMPFILE, mode)
        return cast("BinaryIO", open(fd, "wb", buffering=0)), False  # noqa: PTH123 - a descriptor has no path
    fd = os.open(beside, flags | os.O_CREAT | os.O_EXCL, mode)
    return cast("BinaryIO", open(fd, "wb", buffering=0)), True  # noqa: PTH123 - as above


def _link(fd: int, beside: Path) -> None:
    """Give an open file a name (open(2), O_TMPFILE)."""
    # With a directory's descriptor, which an absolute path does not need, the link is followed.
    os.link(f"{_OPEN_FILES}/{fd}", beside, src_dir_fd=fd, follow_symlinks=True)
