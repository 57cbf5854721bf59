"""A tree around the directory that layers are extracted to: nothing in it may change.

    root/outside/secret, hard (another name of it), link (a link to it), private/inner, fifo
    root/parent/neighbour, near/inner
    root/parent/DIR                the directory, which does not exist at first

The tree is not in pytest's own directory, which an ordinary user cannot enter as root made it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.file_trees import Item, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OLD_S", "Guard", "guarded"]

OLD_S = 1_000_000_000
"""The times of all that is in the tree: a new one shows."""


class Guard(NamedTuple):
    """The tree, and how it was."""

    root: Path
    before: dict[bytes, Item]

    @property
    def directory(self) -> Path:
        """The directory to extract to."""
        return self.root / "parent" / "DIR"

    @property
    def outside(self) -> str:
        """The absolute path of a directory outside."""
        return str(self.root / "outside")

    def changes(self) -> dict[bytes, tuple[Item | None, Item | None]]:
        """Return what is not as before outside of the directory, by path."""
        after = _snapshot(self.root, self.directory)
        paths = sorted(self.before.keys() | after.keys())
        pairs = {path: (self.before.get(path), after.get(path)) for path in paths}
        return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


@contextmanager
def guarded(directory: Path | None = None) -> Iterator[Guard]:
    """Make the tree, and remove it at the end."""
    root = Path(tempfile.mkdtemp(prefix="guard-", dir=directory))
    try:
        _fill(root)
        yield Guard(root, _snapshot(root, root / "parent" / "DIR"))
    finally:
        _remove(root)


def _fill(root: Path) -> None:
    outside, parent = root / "outside", root / "parent"
    for path in (outside / "private", parent / "near"):
        path.mkdir(parents=True)
        (path / "inner").write_bytes(b"inner")
    (outside / "secret").write_bytes(b"secret")
    (outside / "secret").chmod(0o600)
    (outside / "hard").hardlink_to(outside / "secret")
    (outside / "link").symlink_to("secret")
    (outside / "private").chmod(0o700)
    os.mkfifo(outside / "fifo")
    (parent / "neighbour").write_bytes(b"neighbour")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (OLD_S, OLD_S), follow_symlinks=False)


def _snapshot(root: Path, directory: Path) -> dict[bytes, Item]:
    """Return the tree without `directory`.

    The directory is new in its parent: the times and links of that one may change.
    """
    tree = read_tree(root, directory)
    tree[b"parent"] = tree[b"parent"]._replace(mtime_ns=0, ctime_ns=0, links=0)
    return tree


def _remove(root: Path) -> None:
    """Remove a tree, even with directories that forbid it, or deeper than Python recurses."""
    try:
        shutil.rmtree(root)
    except (OSError, RecursionError):
        subprocess.run(["chmod", "-R", "u+rwx", root], check=True)
        subprocess.run(["rm", "-rf", root], check=True)
