"""The repositories below the registry's directory, found by walking it.

Knows directories. Must not know what is in a layout.

The walk is the truth: other programs add and remove layouts at any time. It holds one directory at
a time and yields names in the order in which they are listed, so that a page costs what is on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.disk.directory import UnsafePath
from brolga.server.layout import BLOBS, LAYOUT_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.disk.directory import Directory

__all__ = ["directories", "names_below"]


def names_below(disk: Directory, last: str = "") -> Iterator[str]:
    """Yield the name of each layout, after `last`, in the order of the names as texts."""
    # What is still to be visited, the next at the end: a directory by its name with a slash.
    waiting = [""]
    while waiting:
        name = waiting.pop()
        if name and not name.endswith("/"):
            if name > last and _is_layout(disk, disk.root / name):
                yield name
            continue
        inside = [name + entry for entry in _inside(disk, disk.root / name)]
        # "a" comes before "a-b", and that before "a/b": a directory is sorted by name and slash.
        words = sorted([*inside, *(f"{one}/" for one in inside)], reverse=True)
        waiting += [word for word in words if _may_follow(word, last)]


def directories(disk: Directory) -> Iterator[Path]:
    """Yield each directory that may be a repository, the inner ones before those above them."""
    waiting = [(disk.root, False)]
    while waiting:
        path, is_done = waiting.pop()
        if is_done:
            yield path
        else:
            waiting.append((path, True))
            waiting += [(path / name, False) for name in _inside(disk, path)]


def _may_follow(word: str, last: str) -> bool:
    """Return whether a name, or something below a directory, may come after `last`."""
    return word > last or (word.endswith("/") and last.startswith(word))


def _inside(disk: Directory, path: Path) -> list[str]:
    """Return the directories in one that may be parts of a name; no link is one."""
    try:
        return [
            entry.name
            for entry in disk.scan(path)
            if entry.name != BLOBS
            and not entry.name.startswith(".")
            and entry.is_dir(follow_symlinks=False)
        ]
    except (UnsafePath, PermissionError):  # a link took its place, or it is another user's
        return []


def _is_layout(disk: Directory, path: Path) -> bool:
    try:
        return disk.is_file(path / LAYOUT_FILE)
    except OSError:
        return False
