"""What is in a directory, entry by entry: for tests that compare two trees, or one with itself."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Item", "link_groups", "read_tree"]


class Item(NamedTuple):
    """An entry of a directory, as lstat(2) and the content have it."""

    kind: int
    mode: int
    owner: tuple[int, int]
    content: bytes
    """The bytes of a regular file, the target of a link, the number of a device."""
    xattrs: tuple[tuple[str, bytes], ...]
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int


def read_tree(root: Path, *leave_out: Path) -> dict[bytes, Item]:
    """Return each entry below a directory by its path, and the directory itself as b"".

    What is in `leave_out` is not looked at.
    """
    top = os.fsencode(root)
    left_out = {os.fsencode(path) for path in leave_out}
    items: dict[bytes, Item] = {}
    todo = [top]
    while todo:
        path = todo.pop()
        items[path[len(top) + 1 :]] = item = _read_item(path)
        if stat.S_ISDIR(item.kind):
            inner = [path + b"/" + name for name in os.listdir(path)]  # noqa: PTH208 - bytes
            todo += [name for name in inner if name not in left_out]
    return items


def link_groups(tree: dict[bytes, Item]) -> set[frozenset[bytes]]:
    """Return the sets of paths that are names of one regular file."""
    by_inode: dict[int, set[bytes]] = {}
    for path, item in tree.items():
        if stat.S_ISREG(item.kind):
            by_inode.setdefault(item.inode, set()).add(path)
    return {frozenset(paths) for paths in by_inode.values() if len(paths) > 1}


def _read_item(path: bytes) -> Item:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = b""
    if stat.S_ISLNK(kind):
        content = os.readlink(path)  # noqa: PTH115 - bytes
    elif stat.S_ISREG(kind):
        with open(path, "rb") as file:  # noqa: PTH123 - bytes
            content = file.read()
    elif not stat.S_ISDIR(kind):
        content = b"%d" % status.st_rdev
    names = os.listxattr(path, follow_symlinks=False)
    return Item(
        kind,
        stat.S_IMODE(status.st_mode),
        (status.st_uid, status.st_gid),
        content,
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)),
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_nlink,
    )
