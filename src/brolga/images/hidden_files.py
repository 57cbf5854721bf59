"""The files of one layer that layers above hide, kept in a spool until the layer's end."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from brolga.errors import LayerError
from brolga.tar.entries import Entry, read_entries
from brolga.tar.reader import printable_name as printable
from brolga.tar.writer import encode_data, encode_header

if TYPE_CHECKING:
    from brolga.stream.spool import Spool, SpoolChoice

_ANY_NAME: Final = b"kept"


class HiddenFiles:
    """Hidden files by their paths. In memory are only names; close it to free the disk."""

    def __init__(self, choice: SpoolChoice) -> None:
        self._choice = choice
        self._spool: Spool | None = None
        self._places: dict[bytes, int | bytes] = {}  # where it is in the spool, or a link's target
        self._targets: set[bytes] = set()
        self._replaced: set[bytes] = set()  # targets that the layer itself replaces afterwards

    def note(self, path: bytes) -> None:
        """Note an entry, hidden or not: it may replace the target of a hidden link."""
        if path in self._targets:
            self._replaced.add(path)

    def add(self, entry: Entry, path: bytes) -> None:
        """Keep a hidden file. Raises SpoolError."""
        if self._spool is None:
            from brolga.stream.spool import make_spool  # slow to import

            self._spool = make_spool(self._choice)
        self._places[path] = self._spool.size
        header = encode_header(entry, _ANY_NAME, entry.link)
        for block in chain([header], encode_data(entry)):
            self._spool.add(block)

    def add_link(self, path: bytes, target: bytes) -> None:
        """Keep a hidden hard link."""
        self._places[path] = target
        self._targets.add(target)

    def find(self, path: bytes) -> int | bytes:
        """Return the place of what is at a path, or the path to which its hard links lead.

        Raises LayerError if readers differ on that.
        """
        while (place := self._places.get(path)) is not None:
            if isinstance(place, int):
                return place
            if place == path:
                raise LayerError(f"the hard link {printable(path)} points to itself")
            if place in self._replaced:
                raise replaced_target_error(place)
            path = place
        return path

    def read(self, place: int) -> Entry:
        """Return a file, whose data must be read before `close`."""
        assert self._spool is not None  # noqa: S101 - it has the place
        return next(read_entries(self._spool.read(place)))

    def close(self) -> None:
        """Forget the files, and free the disk."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()


def replaced_target_error(path: bytes) -> LayerError:
    """Return the error for an entry at the path of a target, after the link."""
    return LayerError(
        f"{printable(path)} comes after a hard link that points to it in the same layer, so "
        "readers differ on what the link shows"
    )
