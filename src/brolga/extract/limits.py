"""Limits of what an image may become on disk, and the counts that they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob
from brolga.spec.value import Value

if TYPE_CHECKING:
    from brolga.spec.blob import Block


class ExtractLimits(Value):
    """Limits of all layers of an image together; None means unlimited.

    `size` is the maximum of uncompressed bytes, the holes of sparse files included. `ratio` is the
    maximum of uncompressed bytes for each compressed one, once more than `grace` bytes came out.
    `entries` is the maximum number of entries, and `path` that of bytes in a path, at most 4096.
    """

    size: int | None = 1 << 40
    ratio: int | None = 200
    grace: int = 1 << 30
    entries: int | None = 5_000_000
    path: int = 4096


DEFAULT_LIMITS: Final = ExtractLimits()


class Usage:
    """Counts what the layers take, and raises CorruptBlob for what is over the limits.

    `read` has the compressed bytes of each layer, which its own thread counts. `written` counts
    uncompressed bytes, and `entries` entries.
    """

    def __init__(self, limits: ExtractLimits) -> None:
        self._limits = limits
        self.read: list[int] = []
        self.written = 0
        self.entries = 0

    def count_written(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield uncompressed blocks."""
        for block in blocks:
            self.add(len(block))
            yield block

    def add(self, count: int) -> None:
        """Count uncompressed bytes, or those of a hole."""
        self.written += count
        size, ratio = self._limits.size, self._limits.ratio
        if size is not None and self.written > size:
            raise CorruptBlob(
                f"more than {size} bytes uncompressed, which is the limit: raise it if you trust "
                "the image"
            )
        if ratio is None or self.written <= self._limits.grace:
            return
        if self.written > ratio * (read := sum(self.read)):
            raise CorruptBlob(
                f"{read} bytes grew to {self.written}, more than {ratio} for each: raise "
                "the limit if you trust the image"
            )

    def count_entry(self, name: bytes) -> None:
        """Count an entry."""
        self.entries += 1
        limit, path = self._limits.entries, self._limits.path
        if limit is not None and self.entries > limit:
            raise CorruptBlob(
                f"more than {limit} entries, which is the limit: raise it if you trust the image"
            )
        if len(name) > path:
            raise CorruptBlob(f"a path of {len(name)} bytes, more than the limit of {path}")
