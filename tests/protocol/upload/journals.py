"""A journal in memory, and a body that was not read yet, for tests of uploads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brolga.protocol.upload.journal import Record
from brolga.stream.replay import MemoryBuffer, ReplayableBody

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BLOCKS", "KnownJournal", "unread_body"]

BLOCKS = [b"bl", b"ob"]


@dataclass
class KnownJournal:
    """What an earlier run recorded, what it says of the bytes, and what is recorded since."""

    past: Record = field(default_factory=Record)
    differs: bool = False
    confirmed: int = 4
    records: list[Record] = field(default_factory=list)

    def confirms(self, size: int) -> bool:
        """Return whether so many bytes are those of the earlier run."""
        return size <= self.confirmed and not self.differs

    def record(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)


def unread_body(stream: Iterable[bytes] = BLOCKS) -> ReplayableBody:
    """Return a body that can be read again from its first byte."""
    return ReplayableBody(stream, MemoryBuffer(), lambda: iter(BLOCKS))
