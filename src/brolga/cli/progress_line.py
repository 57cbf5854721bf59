"""A line of progress: name, bar, share, bytes, rate and more, aligned with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.cli.figures import (
    draw_bar,
    format_bytes,
    format_part,
    format_share,
    format_time,
    pad_columns,
)
from brolga.spec.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME: Final = 16  # columns
_MIN_BAR, _MAX_BAR = 8, 30  # columns
_GAP: Final = "  "


class Line(Value):
    """The parts of a line: so many bytes of a whole, and at which rate, if that is shown."""

    name: str
    part: int
    whole: int | None
    rate: float | None
    more: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[str, ...]:
        """The time that is left, if it can be known."""
        if self.whole is None or self.part >= self.whole or not self.rate:
            return ()
        return (format_time((self.whole - self.part) / self.rate),)

    @property
    def figures(self) -> tuple[str, str, str]:
        """Share, bytes and rate, each empty if it is not known or not shown."""
        share = "" if self.whole is None else format_share(self.part, self.whole)
        rate = "" if self.rate is None else f"{format_bytes(self.rate)}/s"
        return share, format_part(self.part, self.whole), rate

    @property
    def aligned(self) -> str:
        """All but name and bar, in columns."""
        share, amount, rate = self.figures
        columns = (share.rjust(4), amount.rjust(17), rate.rjust(10) if rate else "")
        return _GAP.join(filter(None, (*columns, *self.more)))

    @property
    def unaligned(self) -> str:
        """The line without columns and bar, for a log."""
        return _GAP.join(filter(None, (self.name, *self.figures, *self.more)))

    @property
    def has_bar(self) -> bool:
        """Whether there is a share, and no text in the place of the bar."""
        return self.whole is not None and self.rate is not None

    def bar(self, columns: int) -> str:
        """Return the bar, or "" if there is none, or no place for one."""
        if self.whole is None or self.rate is None or columns < _MIN_BAR:
            return ""
        return draw_bar(self.part, self.whole, columns)


def align(lines: Iterable[Line], columns: int) -> list[str]:
    """Return lines of so many columns, with bars of one length if these fit."""
    texts = [(line, line.aligned) for line in lines]
    rest = max((len(text) for line, text in texts if line.has_bar), default=0)
    bar = min(_MAX_BAR, columns - _NAME - rest - 2 * len(_GAP))
    return [
        _GAP.join(filter(None, (pad_columns(line.name, _NAME), line.bar(bar), text)))
        for line, text in texts
    ]
