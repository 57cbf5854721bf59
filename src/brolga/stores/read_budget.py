"""What the blobs that a client reads at a time share: connections, and memory for parts."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from brolga.spec.value import Value

_MIB: Final = 1 << 20


class ReadOptions(Value, kw_only=True):
    """How a client reads blobs of a registry.

    The rest of a blob is read in parts of `part_size` bytes, over up to `jobs` connections, if its
    reader has waited for more than `patience_s` seconds, and for more than `wait_share` of the
    time, while fewer than `fast_rate` bytes a second came: else something else limits the reader.

    The parts begin where the first request will be after `responses_ahead` times the time of its
    response, since they need new connections. It waits there for at most `begin_s` seconds.

    All blobs that are read at a time keep at most `window` bytes of parts in memory. If responses
    take long to begin, other requests are sent meanwhile: up to `requests_ahead` for each
    connection. A part is asked for again if it takes `slow_factor` times as long as others, and
    `slow_after_s` seconds.

    Raises ValueError for a `part_size` below 1.
    """

    window: int = 48 * _MIB
    part_size: int = 4 * _MIB
    patience_s: float = 0.1
    wait_share: float = 0.5
    fast_rate: float = 256 * _MIB
    responses_ahead: float = 3
    begin_s: float = 1
    requests_ahead: float = 2
    slow_factor: float = 8
    slow_after_s: float = 2

    def __post_init__(self) -> None:
        """Check the values."""
        if self.part_size < 1:
            raise ValueError(f"a part has 1 byte or more, not {self.part_size}")


class ReadBudget:
    """The connections and the parts that all blobs share. Threads may use an instance."""

    def __init__(self, options: ReadOptions | None = None, jobs: int = 4) -> None:
        self.options = options or ReadOptions()
        self.connections = Tokens(jobs)
        self.parts = Tokens(self.options.window // self.options.part_size)


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
        return _move(self._tokens.free, self.taken)

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
            _move(self.taken, self._tokens.free)
            return
        _move(self.taken, other.taken)
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


def _move(source: list[None], target: list[None]) -> bool:
    """Move a token by one call of C; return False if there is none."""
    try:
        target.extend(map(list.pop, (source,)))
    except IndexError:
        return False
    return True
