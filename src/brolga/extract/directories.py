"""The directories that a layer works in: made where they are missing, and finished at its end.

While a layer is extracted, its directories are open to the user. Their modes and times are set when
nothing more is written into them; a directory of a lower layer gets back what it had.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from brolga.extract.attributes import Attributes, clear_xattrs, set_attributes, set_xattrs
from brolga.images.paths import ancestors, parent_of
from brolga.spec.value import replace

if TYPE_CHECKING:
    from brolga.extract.report import Report
    from brolga.extract.state import State
    from brolga.extract.tree import Removed, Tree

_NEW: Final = 0o700  # until the end of the layer


class Directories:
    """The directories of one layer.

    `implied` is what a directory without an entry gets. `replace` is called to remove what is in
    the place of a directory: with its path, and with whether the directory has an entry.
    """

    def __init__(
        self,
        tree: Tree,
        state: State,
        implied: Attributes,
        report: Report,
        replace: Callable[[bytes, bool], None],
    ) -> None:
        self._tree = tree
        self._state = state
        self._implied = implied
        self._report = report
        self._replace = replace
        self._attributes: dict[bytes, Attributes] = {}  # of those that are ready to be worked in
        self._listed: set[bytes] = set()

    def open(self, path: bytes) -> int:
        """Return a descriptor of a directory, which is made if it is not there."""
        if path not in self._attributes:
            missing = [path]
            for parent in ancestors(path):
                if parent in self._attributes:
                    break
                missing.append(parent)
            for directory in reversed(missing):
                self._attributes[directory] = self._prepare(directory)
        return self._tree.open(path)

    def reach(self, path: bytes, *, replaces: bool = False) -> bool:
        """Return whether a directory is there, and let the user work in it.

        With `replaces`, one is made in the place of a file or a link.
        """
        for directory in reversed([path, *ancestors(path)]):
            if directory not in self._attributes:
                status = self._tree.status(directory)
                if status is None or not (replaces or stat.S_ISDIR(status.st_mode)):
                    return False
                self.open(directory)
        return True

    def list(self, path: bytes, attributes: Attributes) -> None:
        """Make a directory that has an entry."""
        if path in self._attributes:
            clear_xattrs(self._tree.open(path))
        else:
            if path:
                self.open(parent_of(path))
            self._prepare(path, is_listed=True)
        if attributes.xattrs:  # now, as all of them together could fill the memory
            set_xattrs(self._tree.open(path), attributes, path, self._report)
        self._attributes[path] = replace(attributes, xattrs={})
        self._listed.add(path)

    def forget(self, removed: Removed) -> None:
        """Record what was removed. A directory that stays without an entry is a new one."""
        for path in removed.deleted:
            self._attributes.pop(path, None)
        for path in removed.kept:
            if path not in self._listed:
                self._attributes[path] = self._implied
                clear_xattrs(self._tree.open(path))

    def finish(self) -> None:
        """Set the modes and times, those of the inner directories first."""
        for path in sorted(self._attributes, reverse=True):
            descriptor = self._tree.open(path)
            set_attributes(descriptor, self._attributes[path], path, self._report)

    def _prepare(self, path: bytes, *, is_listed: bool = False) -> Attributes:
        """Let the user work in a directory, or make it; return what it gets at the end."""
        status, state = self._tree.status(path), self._state
        if status is None or not stat.S_ISDIR(status.st_mode):
            if status is not None:
                self._replace(path, is_listed)
            if not is_listed:  # the next run must not take it for a lower layer's
                state.record_directory(path, self._implied.mode, None)
            directory, name = self._tree.locate(path)
            os.mkdir(name, _NEW, dir_fd=directory)
            return self._implied
        if path not in state.directories and not is_listed:
            state.record_directory(path, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
        self._tree.make_usable(path)
        if is_listed:
            clear_xattrs(self._tree.open(path))
        mode, mtime_ns = state.directories.get(path, (0, None))
        return self._implied if mtime_ns is None else Attributes(mode, mtime_ns)
