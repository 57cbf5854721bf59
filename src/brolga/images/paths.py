"""Paths in an image, as bytes without `.` and `..`; the root is ""."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from brolga.errors import LayerError
from brolga.tar.reader import printable_name as printable

_MAX_PATH: Final = 4096  # bytes; systems that run containers open no longer path
_MAX_LINKS: Final = 40  # on one path, as in Linux


def normalize_path(name: bytes) -> bytes:
    """Return the path of a name: `a`, `./a`, `/a` and `a/` are one. Raises LayerError for '..'."""
    if len(name) > _MAX_PATH:
        raise LayerError(f"a name of {len(name)} bytes, but a file's has at most {_MAX_PATH}")
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise LayerError(f"the name {printable(name)} leads upwards by '..'")
    return b"/".join(parts)


def parent_of(path: bytes) -> bytes:
    """Return the directory of a path."""
    return path.rpartition(b"/")[0]


def ancestors(path: bytes) -> list[bytes]:
    """Return all directories of a path, the nearest first, the root last."""
    parents = []
    while path:
        path = parent_of(path)
        parents.append(path)
    return parents


def resolve_links(
    directory: bytes, links: Mapping[bytes, bytes], cross: Callable[[bytes], object]
) -> bytes:
    """Return the directory that a path leads to through symbolic links; the root is "".

    `cross` is called with each directory that a link's `..` leaves again. Raises LayerError if the
    path has too many links, or becomes too long.
    """
    todo, done, followed = directory.split(b"/")[::-1], list[bytes](), 0
    while todo:
        part = todo.pop()
        if part == b"..":
            cross(b"/".join(done))
            del done[-1:]
        elif part not in {b"", b"."}:
            done.append(part)
            target = links.get(b"/".join(done))
            if target is not None:
                followed += 1
                del done[-1 if not target.startswith(b"/") else 0 :]
                todo += target.split(b"/")[::-1]
        if followed > _MAX_LINKS:
            raise LayerError(
                f"{printable(directory)} leads through more than {_MAX_LINKS} symbolic links"
            )
    path = b"/".join(done)
    if len(path) > _MAX_PATH:
        raise LayerError(f"{printable(directory)} leads to a name of {len(path)} bytes")
    return path
