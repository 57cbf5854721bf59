"""Open a directory below another one without following a link on the way.

Linux 5.6 does it in one call, openat2(2). Elsewhere each directory is opened from the one above it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, TypeAlias

Opener: TypeAlias = Callable[[int, bytes], int]
"""Opens the directory of a path below an open one. Raises OSError: ELOOP or ENOTDIR for a link."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENAT2: Final = 437  # the number of the system call, on every architecture but alpha
_NO_MAGIC_LINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08  # linux/openat2.h, RESOLVE_*
_RESOLVE: Final = _NO_MAGIC_LINKS | _NO_SYMLINKS | _BENEATH
_MAX_LENGTH: Final = 4095  # bytes of a path in one call (PATH_MAX)


def find_opener(directory: int) -> Opener:
    """Return how to open directories below `directory`: by openat2 if the kernel has it."""
    try:
        opener = _make_openat2()
        os.close(opener(directory, b"."))
    except (OSError, AttributeError):  # an old kernel, a filter of system calls, another C library
        return open_by_steps
    return opener


def open_by_steps(directory: int, path: bytes) -> int:
    """Open each directory of a path from the one above it."""
    descriptor = directory
    for name in path.split(b"/"):
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
        finally:
            if descriptor != directory:
                os.close(descriptor)
        descriptor = inner
    return descriptor


def _make_openat2() -> Opener:
    """Return a function that calls openat2(2). Raises AttributeError without syscall(2)."""
    import ctypes

    class OpenHow(ctypes.Structure):
        _fields_ = (
            ("flags", ctypes.c_uint64),
            ("mode", ctypes.c_uint64),
            ("resolve", ctypes.c_uint64),
        )

    how = OpenHow(_DIRECTORY, 0, _RESOLVE)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    number = ctypes.c_long(_OPENAT2)
    pointer = ctypes.byref(how)
    call = ctypes.CDLL(None, use_errno=True).syscall

    def open_beneath(directory: int, path: bytes) -> int:
        if len(path) > _MAX_LENGTH:
            return open_by_steps(directory, path)
        descriptor: int = call(number, directory, ctypes.c_char_p(path), pointer, size)
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code == errno.EAGAIN:  # a rename elsewhere came between
            return open_by_steps(directory, path)
        raise OSError(code, os.strerror(code), os.fsdecode(path))

    return open_beneath
