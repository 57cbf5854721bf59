"""One layer of what many show together.

Knows how layers hide one another (image-spec layer.md, Applying Changesets). Must not know where
layers come from, how they are compressed, or how tar is written.

Strategy: the layers are read from the top down, each once, so that what is read is either hidden by
what was read before, or belongs to the result and is passed on at once. Kept are names alone: which
are gone for the layers below, which are directories there. Hard links are held back to the end,
where all that they may stand for has been written. An image for which one pass cannot be right is
an error that names the entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from brolga.blob import runs_user_code
from brolga.decompression import DEFAULT_LIMITS, Limits, decompressed
from brolga.errors import CorruptBlob, LayerError
from brolga.images.entries import ARCHIVE_END, Entry, data_blocks, entries, header, shown
from brolga.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.blob import Blob

__all__ = ["flattened", "merged_tar"]

_WHITEOUT: Final = b".wh."
# aufs, whose format this was, kept notes of its own beside the files. Only the first of these names
# has a meaning in layers.
_OPAQUE: Final = b".wh..wh..opq"
_NOTES: Final = b".wh..wh."
_MAX_NAME: Final = 4096  # bytes; no system that runs containers opens a longer path
_MAX_KEPT: Final = 1 << 30  # bytes of names, and of what Python needs to keep them
_NAME_COST: Final = 100  # bytes of memory beyond the name itself


def flattened(layers: Sequence[Blob], limits: Limits = DEFAULT_LIMITS) -> StreamLayer:
    """Return a layer of what all layers show together, made while it is read.

    `layers` has the lowest first. The same layers give the same bytes. Raises LayerError where one
    of them can be read only once. Reading raises what `merged_tar` raises.
    """
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, StreamLayer):
            raise LayerError(
                f"layer {number} of {len(layers)} can be read only once: push the image first, "
                "then flatten what is in the registry"
            )
    layer = StreamLayer(merged_tar(tuple(layers), limits))
    layer.runs_user_code = any(map(runs_user_code, layers))
    return layer


def merged_tar(layers: Sequence[Blob], limits: Limits = DEFAULT_LIMITS) -> Iterator[bytes]:
    """Yield a tar stream of what all layers show together; `layers` has the lowest first.

    Raises LayerError where that cannot be told in one pass, CorruptBlob for a layer that is no
    valid tar, and what reading the layers raises.
    """
    merge = _Merge(limits)
    for number in range(len(layers), 0, -1):
        layer = layers[number - 1]
        try:
            yield from merge.add(layer)
        except (CorruptBlob, LayerError) as error:
            place = f"layer {number} of {len(layers)}, {layer.descriptor.digest}"
            raise type(error)(f"{place}: {error}") from error
    yield from merge.hard_links()
    yield ARCHIVE_END


@dataclass(frozen=True)
class _Above:
    """What the layers above a layer say of names."""

    gone: set[bytes] = field(default_factory=set)  # hidden here, with all below
    opaque: set[bytes] = field(default_factory=set)  # directories of which all below is hidden
    folders: set[bytes] = field(default_factory=set)  # directories, told or by what is in them
    told: set[bytes] = field(default_factory=set)  # directories whose entry was written


@dataclass(frozen=True)
class _Link:
    """A hard link that is held back."""

    target: bytes
    header: bytes


@dataclass(frozen=True)
class _Here:
    """What one layer says of names. `folders` tells of each whether its content is hidden."""

    gone: set[bytes] = field(default_factory=set)
    opaque: set[bytes] = field(default_factory=set)
    folders: dict[bytes, bool] = field(default_factory=dict)
    told: set[bytes] = field(default_factory=set)
    files: set[bytes] = field(default_factory=set)  # all that is not a directory
    links: dict[bytes, _Link] = field(default_factory=dict)
    targets: set[bytes] = field(default_factory=set)


class _Merge:
    """Layers put together, from the top down."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._above = _Above()
        self._links: list[dict[bytes, _Link]] = []
        self._written: set[bytes] = set()  # names that hard links may stand for
        self._kept = 0

    def add(self, layer: Blob) -> Iterator[bytes]:
        """Yield what the next lower layer adds to the archive."""
        here, above = _Here(), self._above
        with layer.open() as stream:
            for entry in entries(decompressed(stream.with_heartbeats(), self._limits)):
                path = _normal(entry.name)
                if not self._marks(here, path):
                    yield from self._shown(here, entry, path)
        above.gone.update(here.gone, here.files)
        above.opaque.update(here.opaque)
        above.folders.update(here.folders)
        above.told.update(here.told)
        self._links.append(here.links)

    def hard_links(self) -> Iterator[bytes]:
        """Yield the hard links, those of the lowest layer first: one may stand for another."""
        for links in reversed(self._links):
            for path, link in links.items():
                if link.target not in self._written:
                    raise LayerError(
                        f"the hard link {shown(path)} points to {shown(link.target)}, which is "
                        "not there"
                    )
                self._written.add(path)
                yield link.header

    def _marks(self, here: _Here, path: bytes) -> bool:
        """Note a whiteout (layer.md, Whiteouts). Return whether the name is one, or a like one."""
        if _WHITEOUT not in path:
            return False
        *parents, name = path.split(b"/")
        folder = b"/".join(parents)
        if any(part.startswith(_NOTES) for part in parents):
            return True
        if any(part.startswith(_WHITEOUT) for part in parents):
            raise LayerError(f"{shown(path)} is below a whiteout, which is not a directory")
        if name == _OPAQUE:
            self._keep(folder)
            here.opaque.add(folder)
        elif name.startswith(_WHITEOUT) and not name.startswith(_NOTES):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in {b"", b".", b".."}:
                raise LayerError(f"the whiteout {shown(path)} names nothing")
            hidden = b"/".join([*parents, hidden])
            self._keep(hidden)
            here.gone.add(hidden)
        return name.startswith(_WHITEOUT)

    def _shown(self, here: _Here, entry: Entry, path: bytes) -> Iterator[bytes]:
        """Yield an entry, or nothing where it is hidden or a hard link, which is held back."""
        if path in here.targets:
            raise LayerError(
                f"{shown(path)} comes after a hard link that points to it in the same layer, so "
                "readers differ on what the link shows"
            )
        if entry.is_directory:
            self._folder(here, path)
            if path not in self._above.told and not self._is_hidden(here, path):
                here.told.add(path)
                yield header(entry, path or b".", b"")
            return
        self._file(here, path)
        if path in self._above.folders or self._is_hidden(here, path):
            return
        here.links.pop(path, None)
        if entry.is_hard_link:
            here.links[path] = self._held(here, entry, path)
            return
        self._written.add(path)
        yield header(entry, path, entry.link)
        yield from data_blocks(entry)

    def _held(self, here: _Here, entry: Entry, path: bytes) -> _Link:
        """Return a hard link for later, if its target will be what this layer sees there."""
        target = _normal(entry.link)
        if target in self._above.folders or self._is_hidden(here, target):
            raise LayerError(
                f"the hard link {shown(path)} points to {shown(target)}, which a layer above "
                "replaces or removes: its content cannot be had in one pass, so this image "
                "cannot be flattened"
            )
        here.targets.add(target)
        link = _Link(target, header(entry, path, target))
        self._keep(link.header)
        return link

    def _is_hidden(self, here: _Here, path: bytes) -> bool:
        """Return whether a layer above hides a name, by a file, a whiteout or an opaque mark."""
        if not path:
            return False
        return path in self._above.gone or self._folder(here, path.rpartition(b"/")[0])

    def _file(self, here: _Here, path: bytes) -> None:
        """Note what is no directory. Raises LayerError where the layer has one of that name."""
        if not path:
            raise LayerError("the root is not a directory")
        self._folder(here, path.rpartition(b"/")[0])
        if path in here.folders:
            raise _two_kinds(path)
        self._keep(path)
        here.files.add(path)

    def _folder(self, here: _Here, path: bytes) -> bool:
        """Note a directory and those that it is in. Return whether what is in it is hidden.

        Raises LayerError where the layer has something else of that name: other readers would go
        through a symbolic link there, or write over it.
        """
        above, new = self._above, []
        while path not in here.folders and path:
            if path in here.files:
                raise _two_kinds(path)
            self._keep(path)
            new.append(path)
            path = path.rpartition(b"/")[0]
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
        f"{shown(path)} is both a directory and something else in the same layer, so readers "
        "differ on what it shows"
    )


def _normal(name: bytes) -> bytes:
    """Return a name without what does not count: `a`, `./a`, `/a` and `a/` are one; "" is the root.

    Raises LayerError for a name that leads upwards, or is too long for any file.
    """
    if len(name) > _MAX_NAME:
        raise LayerError(f"a name of {len(name)} bytes, where at most {_MAX_NAME} can be a file's")
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise LayerError(f"the name {shown(name)} leads upwards by '..'")
    return b"/".join(parts)
