"""Merge layers from the top down into one tar (image-spec layer.md, Applying Changesets).

Each layer is read once, and only names are kept in memory. The result is what overlayfs shows of
layers in directories of their own. Other readers extract each layer over those below: a warning
names each entry for which that differs. An image that one pass cannot merge is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.errors import LayerError
from brolga.images.hard_links import HardLinks
from brolga.images.paths import ancestors, normalize_path, parent_of, resolve_links
from brolga.images.whiteout_names import parse_whiteout
from brolga.spec.value import Value, field
from brolga.tar.entries import Entry
from brolga.tar.reader import DIRECTORY, Metadata
from brolga.tar.reader import printable_name as printable
from brolga.tar.writer import encode_data, encode_header

if TYPE_CHECKING:
    from brolga.spec.blob import Block
    from brolga.stream.spool import SpoolChoice

_MAX_MEMORY: Final = 1 << 30  # bytes of names, and of Python's objects for them
_NAME_COST: Final = 100  # bytes of memory beyond the name itself
_MAX_WARNINGS: Final = 100  # of one image


class _UpperLayers(Value):
    """The names in the layers above; a number is the lowest layer that has the name."""

    removed: dict[bytes, int] = field(default_factory=dict)  # hidden here, and all below it
    opaque: dict[bytes, int] = field(default_factory=dict)  # directories whose content is hidden
    directories: dict[bytes, int] = field(default_factory=dict)  # listed or implied
    listed: dict[bytes, int] = field(default_factory=dict)  # directories that have an entry
    # Directories without an entry, or before it: the layer, and a name in the directory.
    implied: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def is_decided_below(self, path: bytes, number: int) -> bool:
        """Return whether a layer below `number` decides what is at a path."""
        return self.listed.get(path, number) < number or self._removes(path, number)

    def hides(self, path: bytes, below: float = math.inf) -> bool:
        """Return whether a layer hides a file, only those with a number less than `below`."""
        return self.directories.get(path, below) < below or self._removes(path, below)

    def _removes(self, path: bytes, below: float) -> bool:
        """Return whether a path is removed, replaced, or in an opaque directory."""
        parents = ancestors(path)
        return any(self.removed.get(name, below) < below for name in (path, *parents)) or any(
            self.opaque.get(name, below) < below for name in parents
        )

    def add(self, layer: _Layer, number: int) -> None:
        """Add the names of a layer."""
        self.removed.update(dict.fromkeys({**layer.removed, **dict.fromkeys(layer.files)}, number))
        self.opaque.update(dict.fromkeys(layer.opaque, number))
        self.listed.update(dict.fromkeys(layer.listed, number))
        self.directories.update(dict.fromkeys(layer.directories, number))
        self.directories.update(dict.fromkeys(layer.whiteout_parents - layer.files, number))
        self.implied.update((name, (number, user)) for name, user in layer.implied.items())


class _Layer(Value):
    """The names in one layer."""

    removed: dict[bytes, None] = field(default_factory=dict)
    opaque: set[bytes] = field(default_factory=set)
    directories: dict[bytes, bool] = field(default_factory=dict)  # and whether content is hidden
    whiteout_parents: set[bytes] = field(default_factory=set)
    listed: set[bytes] = field(default_factory=set)
    implied: dict[bytes, bytes] = field(default_factory=dict)
    files: set[bytes] = field(default_factory=set)  # all that is not a directory
    symlinks: dict[bytes, bytes] = field(default_factory=dict)

    def imply(self, directory: bytes, user: bytes) -> None:
        """Record that `user` needs a directory, which has no entry in this layer yet."""
        if directory in self.implied or directory in self.listed or directory in self.removed:
            return
        parents = ancestors(directory)
        if not (self.opaque.intersection(parents) or any(name in self.removed for name in parents)):
            self.implied[directory] = user


class Merge:
    """Merges layers, which are added from the top down. Close it to free the spool."""

    def __init__(self, *, strict: bool, spool: SpoolChoice = False) -> None:
        self._strict = strict
        self._above = _UpperLayers()
        self._links = HardLinks(spool, self._above.hides)
        self._memory = 0
        self._warned = 0
        self.warnings: list[str] = []

    def add(self, entries: Iterable[Entry], number: int) -> Iterator[Block]:
        """Yield what the next lower layer adds to the tar; the lowest layer is number 1."""
        layer = _Layer()
        self._links.begin_layer()
        for entry in entries:
            path = self._resolve(layer, entry.name)
            if not self._add_whiteout(layer, path):
                yield from self._add_entry(layer, entry, path, number)
        yield from self._links.end_layer(layer.files, number)
        self._above.add(layer, number)

    def hard_links(self) -> Iterator[Block]:
        """Yield the hard links, after all layers. Raises LayerError if one has no target."""
        return self._links.write()

    def close(self) -> None:
        """Free the spool."""
        self._links.close()

    def _resolve(self, layer: _Layer, name: bytes) -> bytes:
        """Return the path of an entry: its parents may be symbolic links of the same layer."""
        path = normalize_path(name)
        directory, slash, last = path.rpartition(b"/")
        if not layer.symlinks or directory in layer.directories:
            return path
        parent = resolve_links(directory, layer.symlinks, partial(layer.imply, user=path))
        return (parent + slash if parent else b"") + last

    def _add_whiteout(self, layer: _Layer, path: bytes) -> bool:
        """Record a whiteout (layer.md, Whiteouts). Return whether to leave out the entry."""
        whiteout = parse_whiteout(path)
        if whiteout is None:
            return False
        if whiteout.is_opaque:
            self._add_whiteout_parents(layer, whiteout.directory, path)
            layer.opaque.add(whiteout.directory)
        elif whiteout.hidden is not None:
            self._add_whiteout_parents(layer, whiteout.directory, path)
            self._count_memory(whiteout.hidden)
            layer.removed[whiteout.hidden] = None
        return True

    def _add_whiteout_parents(self, layer: _Layer, directory: bytes, path: bytes) -> None:
        """Record the directories of a whiteout: readers create them for it."""
        for name in [directory, *ancestors(directory)] if directory else []:
            if name in layer.whiteout_parents:
                break
            self._count_memory(name)
            layer.whiteout_parents.add(name)
            layer.imply(name, path)

    def _add_entry(self, layer: _Layer, entry: Entry, path: bytes, number: int) -> Iterator[Block]:
        """Yield an entry, unless it is hidden or a hard link, which comes at the end."""
        self._links.check_order(path)
        if entry.is_directory:
            layer.listed.add(path)
            self._add_directory(layer, path, path)
            if path not in self._above.listed and not self._is_hidden(layer, path):
                yield encode_header(entry, path or b".", b"")
            return
        target = self._add_file(layer, entry, path)
        yield from self._check_implied(layer, entry, path)
        if path in self._above.directories or self._is_hidden(layer, path):
            self._links.keep(entry, path, target)
            self._count_memory(target)
            return
        self._links.forget(path)
        if entry.is_hard_link:
            self._count_memory(self._links.hold(entry, path, target, number))
            return
        self._links.written.add(path)
        yield encode_header(entry, path, entry.link)
        yield from encode_data(entry)

    def _check_implied(self, layer: _Layer, entry: Entry, path: bytes) -> Iterator[Block]:
        """Warn if a layer above implies a directory where this one has a file; yield one."""
        number, user = self._above.implied.get(path, (0, b""))
        if not number or self._above.is_decided_below(path, number):
            return
        del self._above.implied[path]
        kind = "not a directory"
        if entry.is_symlink:
            kind = f"a symbolic link to {printable(entry.link)}"
        self._warn(
            f"{printable(path)} is {kind}, and layer {number} has {printable(user)} without an "
            f"entry for {printable(path)} before it. Readers differ: overlayfs shows a directory, "
            "and so does this result; others follow the link, or fail"
        )
        if path not in self._above.listed and not self._is_hidden(layer, path):
            self._above.listed[path] = number
            yield encode_header(Entry(DIRECTORY, path, b"", 0, Metadata(0o755)), path, b"")

    def _warn(self, text: str) -> None:
        if self._strict:
            raise LayerError(text)
        self._warned += 1
        if self._warned <= _MAX_WARNINGS:
            self.warnings.append(text)
        elif self._warned == _MAX_WARNINGS + 1:
            self.warnings.append("readers differ on more entries, which are not named")

    def _is_hidden(self, layer: _Layer, path: bytes) -> bool:
        """Return whether a layer above hides a path: by a file, a whiteout or an opaque mark."""
        if not path:
            return False
        return path in self._above.removed or self._add_directory(layer, parent_of(path), path)

    def _add_file(self, layer: _Layer, entry: Entry, path: bytes) -> bytes:
        """Record a file; return the path of a hard link's target.

        Raises LayerError if the layer has a directory of that name.
        """
        if not path:
            raise LayerError("the root is not a directory")
        self._add_directory(layer, parent_of(path), path)
        if path in layer.directories:
            raise _two_kinds_error(path)
        self._count_memory(path)
        layer.files.add(path)
        layer.symlinks.pop(path, None)
        if entry.is_symlink:
            layer.symlinks[path] = entry.link
            self._count_memory(entry.link)
        if not entry.is_hard_link:
            return b""
        target = self._resolve(layer, entry.link)
        if target in layer.symlinks:  # which the link then is too
            layer.symlinks[path] = layer.symlinks[target]
        return target

    def _add_directory(self, layer: _Layer, path: bytes, user: bytes) -> bool:
        """Record a directory and its parents. Return whether its content is hidden."""
        above, new = self._above, []
        while path not in layer.directories and path:
            if path in layer.files:
                raise _two_kinds_error(path)
            self._count_memory(path)
            new.append(path)
            layer.imply(path, user)
            path = parent_of(path)
        hidden = layer.directories.setdefault(path, b"" in above.opaque)
        for directory in reversed(new):
            hidden = hidden or directory in above.removed or directory in above.opaque
            layer.directories[directory] = hidden
        return hidden

    def _count_memory(self, name: bytes) -> None:
        self._memory += len(name) + _NAME_COST
        if self._memory > _MAX_MEMORY:
            raise LayerError(
                f"the names in the layers take more than {_MAX_MEMORY} bytes of memory"
            )


def _two_kinds_error(path: bytes) -> LayerError:
    return LayerError(
        f"{printable(path)} is both a directory and something else in the same layer, so readers "
        "differ on what it shows"
    )
