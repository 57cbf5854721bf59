"""Layers put together, from the top down, as a tar.

Knows how layers hide one another (image-spec layer.md, Applying Changesets). Must not know where
entries come from, or how tar is written.

Strategy: the layers are read from the top down, each once, so that what is read is either hidden by
what was read before, or belongs to the result and is passed on at once. Kept are names alone: which
are gone for the layers below, which are directories there. Hard links are held back to the end,
where all that they may stand for has been written. An image for which one pass cannot be right is
an error that names the entry.

The result is what overlayfs shows of layers that are each extracted into a directory of its own, as
docker, containerd and podman do. Other readers extract each layer over those below. The two differ
if a layer has something below a name without an entry for that name, and a lower layer has a
symbolic link or another file there: that is told, once for each name.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from brolga.errors import LayerError
from brolga.tar.entries import Entry, data_blocks, encode_header
from brolga.tar.reader import printable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["MAX_PATH", "Merge", "ancestors", "normal_path", "parent_of", "resolve_links"]

_WHITEOUT: Final = b".wh."
# aufs, whose format this was, kept notes of its own beside the files. Only the first of these names
# has a meaning in layers.
_OPAQUE: Final = b".wh..wh..opq"
_NOTES: Final = b".wh..wh."
_MAX_KEPT: Final = 1 << 30  # bytes of names, and of what Python needs to keep them
_NAME_COST: Final = 100  # bytes of memory beyond the name itself
_MAX_WARNINGS: Final = 100  # of one image


@dataclass(frozen=True)
class _Above:
    """What the layers above a layer say of names; a number is the lowest layer that says it."""

    gone: dict[bytes, int] = field(default_factory=dict)  # hidden here, with all below
    opaque: dict[bytes, int] = field(default_factory=dict)  # directories: all below is hidden
    folders: set[bytes] = field(default_factory=set)  # directories, told or by what is in them
    told: dict[bytes, int] = field(default_factory=dict)  # directories that have an entry
    # Directories that a layer has without an entry, or before it: the layer, and what is in them.
    assumed: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def is_between(self, path: bytes, top: int) -> bool:
        """Return whether a layer below `top` says what is at a path, or that nothing is."""
        parents = ancestors(path)
        return (
            self.told.get(path, top) < top
            or any(self.gone.get(name, top) < top for name in (path, *parents))
            or any(self.opaque.get(name, top) < top for name in parents)
        )

    def hides(self, path: bytes) -> bool:
        """Return whether a path is hidden, by what is above it or in its place."""
        parents = ancestors(path)
        return any(name in self.gone for name in (path, *parents)) or any(
            name in self.opaque for name in parents
        )

    def add(self, here: _Here, number: int) -> None:
        """Add what a layer says."""
        names = {**here.gone, **dict.fromkeys(here.files)}
        self.gone.update(dict.fromkeys(names, number))
        self.opaque.update(dict.fromkeys(here.opaque, number))
        self.told.update(dict.fromkeys(here.told, number))
        self.folders.update(here.folders)
        self.folders.update(here.marked - here.files)
        self.assumed.update((name, (number, user)) for name, user in here.assumed.items())


@dataclass(frozen=True)
class _Link:
    """A hard link that is held back."""

    target: bytes
    header: bytes


@dataclass(frozen=True)
class _Here:
    """What one layer says of names. `folders` tells of each whether its content is hidden."""

    gone: dict[bytes, None] = field(default_factory=dict)
    opaque: set[bytes] = field(default_factory=set)
    folders: dict[bytes, bool] = field(default_factory=dict)
    marked: set[bytes] = field(default_factory=set)  # directories that a whiteout is in
    told: set[bytes] = field(default_factory=set)
    assumed: dict[bytes, bytes] = field(default_factory=dict)
    files: set[bytes] = field(default_factory=set)  # all that is not a directory
    symlinks: dict[bytes, bytes] = field(default_factory=dict)
    links: dict[bytes, _Link] = field(default_factory=dict)
    targets: set[bytes] = field(default_factory=set)

    def assume(self, folder: bytes, user: bytes) -> None:
        """Note that `user` needs a directory, of which this layer has no entry yet."""
        if folder in self.assumed or folder in self.told or folder in self.gone:
            return
        parents = ancestors(folder)
        if not (self.opaque.intersection(parents) or any(name in self.gone for name in parents)):
            self.assumed[folder] = user


class Merge:
    """Layers put together, from the top down."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._above = _Above()
        self._links: list[dict[bytes, _Link]] = []
        self._written: set[bytes] = set()  # names that hard links may stand for
        self._kept = 0
        self._warned = 0
        self.warnings: list[str] = []

    def add(self, layer: Iterable[Entry], number: int) -> Iterator[bytes]:
        """Yield what the next lower layer adds to the archive; the lowest one is number 1."""
        here = _Here()
        for entry in layer:
            path = self._path(here, entry.name)
            if not self._marks(here, path):
                yield from self._shown(here, entry, path)
        self._above.add(here, number)
        self._links.append(here.links)

    def hard_links(self) -> Iterator[bytes]:
        """Yield the hard links, those of the lowest layer first: one may stand for another."""
        for links in reversed(self._links):
            for path, link in links.items():
                if link.target not in self._written:
                    raise LayerError(
                        f"the hard link {printable_name(path)} points to {printable_name(link.target)}, which is "
                        "not there"
                    )
                self._written.add(path)
                yield link.header

    def _path(self, here: _Here, name: bytes) -> bytes:
        """Return where an entry of this name is: its parents may be links of the same layer."""
        path = normal_path(name)
        folder, slash, last = path.rpartition(b"/")
        if not here.symlinks or folder in here.folders:
            return path
        found = resolve_links(folder, here.symlinks, lambda crossed: here.assume(crossed, path))
        return (found + slash if found else b"") + last

    def _marks(self, here: _Here, path: bytes) -> bool:
        """Note a whiteout (layer.md, Whiteouts). Return whether the name is one, or a like one."""
        if _WHITEOUT not in path:
            return False
        *parents, name = path.split(b"/")
        folder = b"/".join(parents)
        if any(part.startswith(_NOTES) for part in parents):
            return True
        if any(part.startswith(_WHITEOUT) for part in parents):
            raise LayerError(
                f"{printable_name(path)} is below a whiteout, which is not a directory"
            )
        if name == _OPAQUE:
            self._mark(here, folder, path)
            here.opaque.add(folder)
        elif name.startswith(_WHITEOUT) and not name.startswith(_NOTES):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in {b"", b".", b".."}:
                raise LayerError(f"the whiteout {printable_name(path)} names nothing")
            hidden = b"/".join([*parents, hidden])
            self._mark(here, folder, path)
            self._keep(hidden)
            here.gone[hidden] = None
        return name.startswith(_WHITEOUT)

    def _mark(self, here: _Here, folder: bytes, path: bytes) -> None:
        """Note the directory that a whiteout is in: readers make it to put the whiteout there."""
        for name in [folder, *ancestors(folder)] if folder else []:
            if name in here.marked:
                break
            self._keep(name)
            here.marked.add(name)
            here.assume(name, path)

    def _shown(self, here: _Here, entry: Entry, path: bytes) -> Iterator[bytes]:
        """Yield an entry, or nothing where it is hidden or a hard link, which is held back."""
        if path in here.targets:
            raise LayerError(
                f"{printable_name(path)} comes after a hard link that points to it in the same layer, so "
                "readers differ on what the link shows"
            )
        if entry.is_directory:
            here.told.add(path)
            self._folder(here, path, path)
            if path not in self._above.told and not self._is_hidden(here, path):
                yield encode_header(entry, path or b".", b"")
            return
        self._file(here, entry, path)
        yield from self._differs(here, entry, path)
        if path in self._above.folders or self._is_hidden(here, path):
            return
        here.links.pop(path, None)
        if entry.is_hard_link:
            here.links[path] = self._held(here, entry, path)
            return
        self._written.add(path)
        yield encode_header(entry, path, entry.link)
        yield from data_blocks(entry)

    def _differs(self, here: _Here, entry: Entry, path: bytes) -> Iterator[bytes]:
        """Warn if a layer above assumes a directory where this layer has none; yield its entry."""
        number, user = self._above.assumed.get(path, (0, b""))
        if not number or self._above.is_between(path, number):
            return
        del self._above.assumed[path]
        kind = (
            f"a symbolic link to {printable_name(entry.link)}"
            if entry.is_symlink
            else "not a directory"
        )
        self._warn(
            f"{printable_name(path)} is {kind}, and layer {number} has {printable_name(user)} without an entry for "
            f"{printable_name(path)} before it. Readers differ: overlayfs shows a directory, and so does "
            "this result; others follow the link, or fail"
        )
        if path not in self._above.told and not self._is_hidden(here, path):
            self._above.told[path] = number
            yield encode_header(_directory(), path, b"")

    def _warn(self, text: str) -> None:
        if self._strict:
            raise LayerError(text)
        self._warned += 1
        if self._warned <= _MAX_WARNINGS:
            self.warnings.append(text)
        elif self._warned == _MAX_WARNINGS + 1:
            self.warnings.append("readers differ on more entries, which are not named")

    def _held(self, here: _Here, entry: Entry, path: bytes) -> _Link:
        """Return a hard link for later, if its target will be what this layer sees there."""
        target = self._path(here, entry.link)
        if target in self._above.folders or self._above.hides(target):
            raise LayerError(
                f"the hard link {printable_name(path)} points to {printable_name(target)}, which a layer above "
                "replaces or removes: its content cannot be had in one pass, so this image "
                "cannot be flattened"
            )
        if target == path:
            raise LayerError(f"the hard link {printable_name(path)} points to itself")
        here.targets.add(target)
        link = _Link(target, encode_header(entry, path, target))
        self._keep(link.header)
        return link

    def _is_hidden(self, here: _Here, path: bytes) -> bool:
        """Return whether a layer above hides a name, by a file, a whiteout or an opaque mark."""
        if not path:
            return False
        return path in self._above.gone or self._folder(here, parent_of(path), path)

    def _file(self, here: _Here, entry: Entry, path: bytes) -> None:
        """Note what is no directory. Raises LayerError where the layer has one of that name."""
        if not path:
            raise LayerError("the root is not a directory")
        self._folder(here, parent_of(path), path)
        if path in here.folders:
            raise _two_kinds(path)
        self._keep(path)
        here.files.add(path)
        here.symlinks.pop(path, None)
        if entry.is_symlink:
            here.symlinks[path] = entry.link
            self._keep(entry.link)
        elif entry.is_hard_link:  # of a symbolic link, it is one too
            target = here.symlinks.get(self._path(here, entry.link))
            here.symlinks.update({path: target} if target is not None else {})

    def _folder(self, here: _Here, path: bytes, user: bytes) -> bool:
        """Note a directory and those that it is in. Return whether what is in it is hidden.

        Raises LayerError where the layer has something else of that name: other readers would
        write over it, or fail.
        """
        above, new = self._above, []
        while path not in here.folders and path:
            if path in here.files:
                raise _two_kinds(path)
            self._keep(path)
            new.append(path)
            here.assume(path, user)
            path = parent_of(path)
        hidden = here.folders.setdefault(path, b"" in above.opaque)
        for folder in reversed(new):
            hidden = hidden or folder in above.gone or folder in above.opaque
            here.folders[folder] = hidden
        return hidden

    def _keep(self, kept: bytes) -> None:
        self._kept += len(kept) + _NAME_COST
        if self._kept > _MAX_KEPT:
            raise LayerError(f"the names in the layers take more than {_MAX_KEPT} bytes of memory")


def _two_kinds(path: bytes) -> LayerError:
    return LayerError(
        f"{printable_name(path)} is both a directory and something else in the same layer, so readers "
        "differ on what it shows"
    )


def _directory() -> Entry:
    """Return an entry for a directory that readers make without one."""
    info = tarfile.TarInfo()
    info.mode = 0o755
    return Entry(tarfile.DIRTYPE, b"", b"", 0, info, {}, iter(()))


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
        raise LayerError(f"the name {printable_name(name)} leads upwards by '..'")
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
            raise LayerError(
                f"{printable_name(folder)} leads through more than {_MAX_LINKS} symbolic links"
            )
    path = b"/".join(done)
    if len(path) > MAX_PATH:
        raise LayerError(f"{printable_name(folder)} leads to a name of {len(path)} bytes")
    return path
