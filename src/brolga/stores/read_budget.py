"""What the blobs that a client reads at a time share: connections, and memory for parts."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from brolga.spec.value import Value

_MIB: Final = 1 << 20


class ReadLimits(Value, kw_only=True):
    """When a blob is read in parts, and how.

    It is if its reader has waited for bytes for `patience_s` seconds, and for most of the time,
    while fewer than `fast_rate` bytes a second came: else something else limits the reader. Parts
    have `part_size` bytes. All blobs together have `jobs` connections, and `parts` parts in memory.
    If responses take long to begin, up to `requests_ahead` more requests wait for theirs, for each
    of these connections.

    A part is asked for again if it takes `slow_factor` times as long as others, and `slow_after_s`
    seconds.
    """

    jobs: int = 4
    part_size: int = 4 * _MIB
    parts: int = 12
    requests_ahead: int = 2
    patience_s: float = 0.1
    fast_rate: float = 256 * _MIB
    slow_factor: float = 8.0
    slow_after_s: float = 2.0


class ReadBudget:
    """The connections and the parts that all blobs share. Threads may use an instance."""

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self.limits = limits or ReadLimits()
        self.connections = Tokens(self.limits.jobs)
        self.parts = Tokens(self.limits.parts)


class Tokens:
    """A number of tokens, of which `Share`s have some. `owed` are shares that wait for one.

    Only single calls of C change the lists: an interrupt cannot come in between.
    """

    def __init__(self, count: int) -> None:
        self.free: list[None] = [None] * count
        self.owed: list[Share] = []


class Share:
    """The tokens that one blob has. They return when it is closed."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.taken: list[None] = []  # by `give` of another share too
        self.is_closed = False

    @property
    def count(self) -> int:
        """How many tokens it has."""
        return len(self.taken)

    def take(self) -> bool:
        """Take one more; return False if none is free."""
        try:
            self.taken.extend(map(list.pop, (self._tokens.free,)))
        except IndexError:
            return False
        return True

    def require(self) -> None:
        """Take one more, or get the next one that another share gives."""
        if not self.take():
            self._tokens.owed.append(self)

    def give(self) -> None:
        """Give one, if it has any, to a share that waits for one, or to all."""
        if not self.taken:
            return
        try:
            other = self._tokens.owed.pop(0)
        except IndexError:
            self._tokens.free.append(self.taken.pop())
            return
        other.taken.append(self.taken.pop())
        if other.is_closed:  # by another thread meanwhile
            other.close()

    def give_if_owed(self) -> bool:
        """Give one of several tokens to a share that waits; return whether there was such."""
        if self.count > 1 and self._tokens.owed:
            self.give()
            return True
        return False

    def close(self) -> None:
        """Give all."""
        self.is_closed = True
        with suppress(ValueError):
            self._tokens.owed.remove(self)
        while self.taken:
            self.give()
