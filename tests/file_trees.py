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

    What is in `leave_out` is not looked at. An ordinary user can read all of it meanwhile.
    """
    top = os.fsencode(root)
    left_out = {os.fsencode(path) for path in leave_out}
    items: dict[bytes, Item] = {}
    opened: list[tuple[bytes, int]] = []
    todo = [top]
    while todo:
        path = todo.pop()
        status = os.lstat(path)
        if os.geteuid() != 0 and not _is_readable(status.st_mode):
            os.chmod(path, status.st_mode | stat.S_IRWXU)  # noqa: PTH101 - bytes
            opened.append((path, stat.S_IMODE(status.st_mode)))
        items[path[len(top) + 1 :]] = _make_item(path, status)
        if stat.S_ISDIR(status.st_mode):
            inner = [path + b"/" + name for name in os.listdir(path)]  # noqa: PTH208 - bytes
            todo += [name for name in inner if name not in left_out]
    for path, mode in reversed(opened):
        os.chmod(path, mode)  # noqa: PTH101 - bytes
    return items


def link_groups(tree: dict[bytes, Item]) -> set[frozenset[bytes]]:
    """Return the sets of paths that are names of one regular file."""
    by_inode: dict[int, set[bytes]] = {}
    for path, item in tree.items():
        if stat.S_ISREG(item.kind):
            by_inode.setdefault(item.inode, set()).add(path)
    return {frozenset(paths) for paths in by_inode.values() if len(paths) > 1}


def _is_readable(mode: int) -> bool:
    """Return whether the owner can read what has this mode."""
    wanted = stat.S_IRUSR | (stat.S_IXUSR if stat.S_ISDIR(mode) else 0)
    return stat.S_ISLNK(mode) or mode & wanted == wanted


def _make_item(path: bytes, status: os.stat_result) -> Item:
    names = os.listxattr(path, follow_symlinks=False)
    return Item(
        stat.S_IFMT(status.st_mode),
        stat.S_IMODE(status.st_mode),
        (status.st_uid, status.st_gid),
        _read_content(path, status),
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)),
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_nlink,
    )


def _read_content(path: bytes, status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)  # noqa: PTH115 - bytes
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:  # noqa: PTH123 - bytes
            return file.read()
    return b"" if stat.S_ISDIR(status.st_mode) else b"%d" % status.st_rdev
