"""The paths that are extracted, if it is not all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from brolga.images.paths import ancestors, normalize_path
from brolga.spec.value import Value


class Selection(Value):
    """Paths, each with all that is below it; none means everything.

    `parents` are the directories that lead to the paths.
    """

    paths: frozenset[bytes]
    parents: frozenset[bytes]

    @classmethod
    def of(cls, names: Iterable[bytes]) -> Self:
        """Return the selection of some names. Raises LayerError for one that leads upwards."""
        paths = frozenset(map(normalize_path, names))
        if b"" in paths:  # the root
            paths = frozenset()
        return cls(paths, frozenset(parent for path in paths for parent in ancestors(path)))

    def includes(self, path: bytes) -> bool:
        """Return whether a path is one of these, or below one."""
        paths = self.paths
        return not paths or path in paths or not paths.isdisjoint(ancestors(path))

    def needs(self, path: bytes) -> bool:
        """Return whether a directory is included, or leads to what is."""
        return path in self.parents or self.includes(path)
