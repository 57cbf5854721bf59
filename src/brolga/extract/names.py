"""The names in one layer, and the rules by which they are valid.

A layer is extracted as if into a directory of its own: symbolic links of the same layer lead on,
those of lower layers do not. So a name is resolved here, and no link is followed on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.errors import LayerError
from brolga.images.paths import ancestors, normalize_path, parent_of, resolve_links
from brolga.tar.reader import printable_name as printable

if TYPE_CHECKING:
    from brolga.tar.entries import Entry

_MAX_MEMORY: Final = 1 << 29  # bytes of names, and of Python's objects for them
# Bytes of memory beyond the name itself.
_NAME_COST: Final = 100
_DIRECTORY_COST: Final = 600


class LayerNames:
    """The names that one layer has so far. `reserved` is a name that no layer may have."""

    def __init__(self, reserved: bytes) -> None:
        self._reserved = reserved
        self._memory = 0
        self.directories: set[bytes] = {b""}  # listed or implied
        self.files: set[bytes] = set()  # all that is not a directory
        self._symlinks: dict[bytes, bytes] = {}
        self._targets: set[bytes] = set()  # of hard links
        # Targets in lower layers, and the directories that they are in.
        self._kept: set[bytes] = set()

    def __contains__(self, path: object) -> bool:
        """Return whether a path is this layer's, or reserved."""
        return path in self.files or path in self.directories or path == self._reserved

    def resolve(self, name: bytes) -> bytes:
        """Return the path of a name: its parents may be symbolic links of this layer.

        Raises LayerError for a name that leads upwards, or is not allowed.
        """
        path = normalize_path(name)
        directory, slash, last = path.rpartition(b"/")
        if self._symlinks and directory not in self.directories:
            parent = resolve_links(directory, self._symlinks, lambda _: None)
            path = (parent + slash if parent else b"") + last
        if path.partition(b"/")[0] == self._reserved:
            raise LayerError(
                f"{printable(path)} is the name of the file that records the extraction"
            )
        return path

    def add_directory(self, path: bytes) -> None:
        """Record a directory and its parents. Raises LayerError if one of them is a file."""
        while path not in self.directories:
            if path in self.files:
                raise _two_kinds_error(path)
            self.count_memory(path, _DIRECTORY_COST)
            self.directories.add(path)
            path = parent_of(path)

    def add_file(self, path: bytes, entry: Entry) -> None:
        """Record a file of any kind. Raises LayerError if readers differ on what it shows."""
        if not path:
            raise LayerError("the root is not a directory")
        if path in self._targets:
            raise LayerError(
                f"{printable(path)} comes after a hard link that points to it in the same layer, "
                "so readers differ on what the link shows"
            )
        self.add_directory(parent_of(path))
        if path in self.directories:
            raise _two_kinds_error(path)
        if path not in self.files:
            self.count_memory(path)
            self.files.add(path)
        self._symlinks.pop(path, None)
        if entry.is_symlink:
            self.count_memory(entry.link)
            self._symlinks[path] = entry.link

    def add_hard_link(self, path: bytes, target: bytes) -> None:
        """Record what a hard link points to. Raises LayerError if it cannot be that."""
        if target == path:
            raise LayerError(f"the hard link {printable(path)} points to itself")
        if target.startswith(path + b"/"):
            raise LayerError(f"the hard link {printable(path)} points to what is in it")
        if target in self.directories:
            raise LayerError(
                f"the hard link {printable(path)} points to {printable(target)}, a directory"
            )
        self.count_memory(target)
        self._targets.add(target)
        if target in self._symlinks:  # which the link then is too
            self._symlinks[path] = self._symlinks[target]
        while target not in self.files and target not in self._kept:
            self.count_memory(target)
            self._kept.add(target)
            target = parent_of(target)

    def check_removal(self, path: bytes) -> None:
        """Raise LayerError if what a lower layer has at a path is the target of a hard link."""
        if path in self._kept:
            raise LayerError(
                f"{printable(path)} is removed or replaced, and a hard link of the same layer "
                "points to it or to what is in it: readers differ on what the link shows"
            )

    def has_file_above(self, path: bytes) -> bool:
        """Return whether this layer has a file at a path, or in place of one of its parents."""
        return not self.files.isdisjoint((path, *ancestors(path)))

    def count_memory(self, name: bytes, cost: int = _NAME_COST) -> None:
        """Count a name that is kept. Raises LayerError if all take too much memory."""
        self._memory += len(name) + cost
        if self._memory > _MAX_MEMORY:
            raise LayerError(f"the names in the layer take more than {_MAX_MEMORY} bytes of memory")


def _two_kinds_error(path: bytes) -> LayerError:
    return LayerError(
        f"{printable(path)} is both a directory and something else in the same layer, so readers "
        "differ on what it shows"
    )
