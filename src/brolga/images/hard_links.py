"""The hard links of layers that are merged from the top down.

They are written at the end, after their targets. A target that a layer above replaces or removes is
read before its links are known: with a spool, what is hidden in a layer is kept until its end. The
first name that still shows such a file becomes the file, and the others become links to that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from brolga.errors import LayerError
from brolga.images.hidden_files import HiddenFiles, replaced_target_error
from brolga.spec.value import Value, replace
from brolga.tar.reader import printable_name as printable
from brolga.tar.writer import encode_data, encode_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.spec.blob import Block
    from brolga.stream.spool import SpoolChoice
    from brolga.tar.entries import Entry


class _Link(Value):
    """A link to a name of the result, which is written at the end."""

    target: bytes
    header: bytes


class _Need(Value):
    """A link to a hidden name, as the layers up to `number` show it."""

    target: bytes
    entry: Entry
    number: int


_Links: TypeAlias = "dict[bytes, _Link | _Need]"  # of one layer, by path


class HardLinks:
    """The hard links of a merge, whose layers are added from the top down.

    `hides(path, below)` returns whether a layer above the present one, with a number less than
    `below` if that is given, hides what is at a path.
    """

    def __init__(self, spool: SpoolChoice, hides: Callable[..., bool]) -> None:
        self.written: set[bytes] = set()  # possible targets
        self._spool = spool
        self._hides = hides
        self._layers: list[_Links] = []
        self._needs: dict[bytes, list[tuple[_Links, bytes]]] = {}  # by target
        self._targets: set[bytes] = set()  # of the present layer
        self._hidden = HiddenFiles(spool)

    def begin_layer(self) -> None:
        """Begin the next lower layer."""
        self._layers.append({})
        self._targets = set()
        self._hidden = HiddenFiles(self._spool)

    def check_order(self, path: bytes) -> None:
        """Raise LayerError if an entry comes after a link to its path."""
        if path in self._targets:
            raise replaced_target_error(path)
        self._hidden.note(path)

    def forget(self, path: bytes) -> None:
        """Forget the link at a path, which another entry of its layer replaces."""
        self._layers[-1].pop(path, None)

    def hold(self, entry: Entry, path: bytes, target: bytes, number: int) -> bytes:
        """Hold a link of layer `number` until its target is written; return its header.

        Raises LayerError if the target is hidden, and there is no spool.
        """
        if target == path:
            raise LayerError(f"the hard link {printable(path)} points to itself")
        header = encode_header(entry, path, target)
        if not self._hides(target):
            self._layers[-1][path] = _Link(target, header)
        elif self._spool is False:
            raise LayerError(
                f"the hard link {printable(path)} points to {printable(target)}, which a layer "
                "above replaces or removes: its content cannot be had in one pass",
                hint="keep such content on disk with --spool, or spool=True in Python",
            )
        else:
            bare = replace(entry, data=iter(()))
            self._layers[-1][path] = _Need(target, bare, number)
        self._targets.add(target)
        return header

    def keep(self, entry: Entry, path: bytes, target: bytes) -> None:
        """Keep a hidden file, or the `target` of a hidden link, if there is a spool."""
        if self._spool is False:
            return
        if entry.is_hard_link:
            self._hidden.add_link(path, target)
        else:
            self._hidden.add(entry, path)

    def end_layer(self, files: set[bytes], number: int) -> Iterator[Block]:
        """Yield the content of hidden `files` of the layer that links need, under their names."""
        links, names = self._layers[-1], dict[int, bytes]()
        for path, link in links.items():
            if isinstance(link, _Need):
                self._needs.setdefault(link.target, []).append((links, path))
        # In order, as the same layers give the same bytes.
        for target in sorted(files & self._needs.keys()):
            for links, path in self._needs.pop(target):
                need = links[path]
                assert isinstance(need, _Need)  # noqa: S101 - nothing else is in the list
                if self._hides(target, need.number + 1):
                    self._needs.setdefault(target, []).append((links, path))
                else:
                    yield from self._resolve(links, path, need, number, names)
        self._hidden.close()

    def _resolve(
        self, links: _Links, path: bytes, need: _Need, number: int, names: dict[int, bytes]
    ) -> Iterator[Block]:
        """Yield a file that a link needs, or make it a link to what shows that file.

        `names` has the first name of each hidden file of the layer.
        """
        place = self._hidden.find(need.target)
        if isinstance(place, bytes) and self._hides(place):  # it is a file of the layers below
            links[path] = replace(need, target=place, number=number)
            self._needs.setdefault(place, []).append((links, path))
        elif isinstance(place, bytes) or place in names:
            target = place if isinstance(place, bytes) else names[place]
            links[path] = _Link(target, encode_header(need.entry, path, target))
        else:
            names[place] = path
            self.written.add(path)
            del links[path]
            entry = self._hidden.read(place)
            yield encode_header(entry, path, entry.link)
            yield from encode_data(entry)

    def write(self) -> Iterator[Block]:
        """Yield the links, those of the lowest layer first: one may be another's target."""
        for links in reversed(self._layers):
            for path, link in links.items():
                if isinstance(link, _Need) or link.target not in self.written:
                    raise LayerError(
                        f"the hard link {printable(path)} points to {printable(link.target)}, "
                        "which is not there"
                    )
                self.written.add(path)
                yield link.header

    def close(self) -> None:
        """Free the disk."""
        self._hidden.close()
