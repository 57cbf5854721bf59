"""Apply one layer to a directory (image-spec layer.md, Applying Changesets).

The result is what overlayfs shows of layers in directories of their own, as `images.whiteouts` has
it. Applying a layer again gives the same: so an interrupted extraction begins at a layer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import LayerError
from brolga.extract.attributes import AttributeReader, set_attributes, set_link_attributes
from brolga.extract.content import write_content
from brolga.extract.directories import Directories
from brolga.extract.names import LayerNames
from brolga.extract.state import NAME
from brolga.extract.tree import change_mode
from brolga.images.paths import ancestors, parent_of
from brolga.images.whiteout_names import Whiteout, parse_whiteout
from brolga.tar import reader
from brolga.tar.reader import printable_name as printable

if TYPE_CHECKING:
    from brolga.extract.options import ExtractOptions
    from brolga.extract.report import Report
    from brolga.extract.state import State
    from brolga.extract.tree import Tree
    from brolga.tar.entries import Entry

_T = TypeVar("_T")

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES: Final = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK}
_FIFO: Final = b"6"


class LayerExtraction:
    """Extracts the entries of one layer. `entry` is the name of the last one."""

    def __init__(self, tree: Tree, state: State, options: ExtractOptions, report: Report) -> None:
        self.entry: bytes | None = None
        self._tree = tree
        self._usage = state.usage
        self._selection = options.selection
        self._with_devices = options.devices
        self._report = report
        self._names = LayerNames(NAME)
        self._attributes = AttributeReader(options, report)
        implied = self._attributes.implied
        self._directories = Directories(tree, state, implied, report, self._replace_by_directory)
        self._removed: set[bytes] = set()  # by whiteouts
        self._emptied: set[bytes] = set()  # directories that have nothing of a lower layer left
        self._left_out: set[bytes] = set()
        self._create: dict[bytes, Callable[[Entry, bytes], None]] = {
            reader.FILE: self._write_file,
            reader.SYMLINK: self._write_symlink,
            **dict.fromkeys([*_DEVICES, _FIFO], self._write_node),
        }

    def extract(self, entries: Iterable[Entry]) -> None:
        """Extract the entries. Raises what reading them raises, LayerError and OSError."""
        for entry in entries:
            self.entry = entry.name
            self._usage.count_entry(entry.name)
            path = self._names.resolve(entry.name)
            whiteout = parse_whiteout(path)
            if whiteout is None:
                self._extract(entry, path)
            else:
                self._apply_whiteout(whiteout)
        self.entry = None

    def finish(self) -> None:
        """Set the modes and times of the directories, after the layer was read to its end."""
        self._attributes.report_cleared()
        self._directories.finish()

    def _extract(self, entry: Entry, path: bytes) -> None:
        """Record an entry, and create it if it is selected."""
        if entry.is_directory:
            self._names.add_directory(path)
            if self._selection.needs(path):
                self._directories.list(path, self._attributes.read(entry))
            return
        self._names.add_file(path, entry)
        is_selected = self._selection.includes(path)
        if not is_selected and path in self._selection.parents:
            what = f"a symbolic link to {printable(entry.link)}" if entry.is_symlink else "a file"
            self._report.warn(f"{printable(path)} is {what}: no path below it is extracted")
        if entry.is_hard_link:
            target = self._names.resolve(entry.link)
            self._names.add_hard_link(path, target)
            if is_selected:
                self._link(path, target)
        elif is_selected:
            self._create[entry.kind](entry, path)

    def _apply_whiteout(self, whiteout: Whiteout) -> None:
        """Remove what a whiteout hides, except what is of this layer, wherever the whiteout is."""
        names, directory, hidden = self._names, whiteout.directory, whiteout.hidden
        if names.has_file_above(directory) or not (whiteout.is_opaque or hidden is not None):
            return
        if not self._directories.reach(directory, replaces=True):
            return
        path = directory if hidden is None else hidden
        if not self._emptied.isdisjoint(ancestors(path)):
            return
        done = self._emptied if hidden is None else self._removed
        if path in done or path in names.files:
            return
        names.check_removal(path)
        names.count_memory(path)
        remove = self._tree.empty if hidden is None else self._tree.remove
        removed = remove(path, names, self._emptied)
        done.add(path)
        self._emptied.add(path)
        self._directories.forget(removed)

    def _place(self, path: bytes, create: Callable[[int, bytes], _T]) -> _T:
        """Create something at a path, in the place of what is there."""
        directory, name = self._directories.open(parent_of(path)), path.rpartition(b"/")[2]
        try:
            return create(directory, name)
        except FileExistsError:
            self._remove(path)
            return create(self._directories.open(parent_of(path)), name)

    def _remove(self, path: bytes) -> None:
        """Remove what a lower layer has at a path."""
        self._names.check_removal(path)
        self._directories.forget(self._tree.remove(path))

    def _replace_by_directory(self, path: bytes, is_listed: bool) -> None:  # noqa: FBT001 - a callback
        """Remove what a lower layer has in the place of a directory."""
        if not is_listed:
            directory, name = self._tree.locate(path)
            what = "not a directory"
            with suppress(OSError):
                target = os.readlink(name, dir_fd=directory)
                what = f"a symbolic link to {printable(target)}"
            self._report.report_difference(
                f"{printable(path)} is {what} in a layer below, and this layer has "
                f"{printable(self.entry or b'')} without an entry for {printable(path)} before it. "
                "Readers differ: overlayfs shows a directory, and so does this result; others "
                "follow the link, or fail"
            )
        self._remove(path)

    def _write_file(self, entry: Entry, path: bytes) -> None:
        attributes = self._attributes.read(entry)
        descriptor = self._place(path, _create_file)
        try:
            write_content(descriptor, entry, self._usage.add)
            set_attributes(descriptor, attributes, path, self._report)
        finally:
            os.close(descriptor)

    def _write_symlink(self, entry: Entry, path: bytes) -> None:
        if not entry.link:
            raise LayerError(f"the symbolic link {printable(path)} has no target")
        attributes = self._attributes.read(entry)

        def create(directory: int, name: bytes) -> None:
            os.symlink(entry.link, name, dir_fd=directory)
            set_link_attributes(directory, name, attributes)

        self._place(path, create)

    def _write_node(self, entry: Entry, path: bytes) -> None:
        """Create a FIFO, or a device if that is allowed."""
        if entry.kind != _FIFO and not self._with_devices:
            self._leave_out(path, "is a device node")
            return
        attributes = self._attributes.read(entry)
        meta = entry.metadata
        kind = _DEVICES.get(entry.kind, stat.S_IFIFO)
        device = os.makedev(meta.devmajor, meta.devminor)

        def create(directory: int, name: bytes) -> None:
            os.mknod(name, kind | 0o600, device, dir_fd=directory)
            set_link_attributes(directory, name, attributes)
            handle = os.open(name, _HANDLE, dir_fd=directory)
            try:
                change_mode(handle, attributes.mode)
            finally:
                os.close(handle)

        self._place(path, create)

    def _leave_out(self, path: bytes, reason: str) -> None:
        """Report an entry that is left out, and remove what it hides."""
        self._report.warn(f"{printable(path)} {reason}: it is left out")
        self._names.count_memory(path)
        self._left_out.add(path)
        self._directories.open(parent_of(path))
        self._remove(path)

    def _link(self, path: bytes, target: bytes) -> None:
        """Create a hard link to a file that is there. Raises LayerError if it is not."""
        if target in self._left_out:
            self._leave_out(path, f"is a hard link to {printable(target)}, which is left out")
            return
        is_there = self._directories.reach(parent_of(target))
        status = self._tree.status(target) if is_there else None
        if status is None or stat.S_ISDIR(status.st_mode):
            what = "which is not there" if status is None else "a directory"
            hint = "" if self._selection.includes(target) else "extract that path too"
            raise LayerError(
                f"the hard link {printable(path)} points to {printable(target)}, {what}", hint=hint
            )
        source_name = target.rpartition(b"/")[2]

        def create(directory: int, name: bytes) -> None:
            source = self._tree.open(parent_of(target))
            os.link(
                source_name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False
            )

        self._place(path, create)


def _create_file(directory: int, name: bytes) -> int:
    return os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
