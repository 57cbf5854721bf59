"""Paths inside a layer: one form for each, and the symbolic links of the layer on their way.

Strategy: a layer is extracted into a directory of its own, so a path goes through the links of its
own layer, as `open` would in that directory, and never leads out of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.errors import LayerError
from brolga.tarheaders import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MAX_PATH", "ancestors", "normal_path", "parent_of", "resolve_links"]

MAX_PATH: Final = 4096  # bytes; no system that runs containers opens a longer path
_MAX_LINKS: Final = 40  # on one path, as Linux has it


def normal_path(name: bytes) -> bytes:
    """Return a name without what does not count: `a`, `./a`, `/a` and `a/` are one; "" is the root.

    Raises LayerError for a name that leads upwards, or is too long for any file.
    """
    if len(name) > MAX_PATH:
        raise LayerError(f"a name of {len(name)} bytes, where at most {MAX_PATH} can be a file's")
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise LayerError(f"the name {shown(name)} leads upwards by '..'")
    return b"/".join(parts)


def parent_of(path: bytes) -> bytes:
    """Return the directory that a path is in."""
    return path.rpartition(b"/")[0]


def ancestors(path: bytes) -> list[bytes]:
    """Return the directories that a path is in, the nearest first; the root is the last one."""
    found = []
    while path:
        path = parent_of(path)
        found.append(path)
    return found


def resolve_links(
    folder: bytes, links: Mapping[bytes, bytes], cross: Callable[[bytes], object]
) -> bytes:
    """Return the directory that a path leads to through symbolic links; "" is the root.

    `cross` is called with each directory that a link's `..` leaves again. Raises LayerError if the
    path has too many links, or becomes too long.
    """
    todo, done, followed = folder.split(b"/")[::-1], list[bytes](), 0
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
            raise LayerError(f"{shown(folder)} leads through more than {_MAX_LINKS} symbolic links")
    path = b"/".join(done)
    if len(path) > MAX_PATH:
        raise LayerError(f"{shown(folder)} leads to a name of {len(path)} bytes")
    return path
