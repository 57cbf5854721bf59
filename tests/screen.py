"""A terminal for tests: it interprets what a program writes to it, as far as this project does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Screen", "open_terminal", "set_terminal_size"]

_PIECE: Final = r"\x1b\[(\d*)([A-Z])|\r|\n|[^\x1b\r\n]"


class Screen:
    """The lines of a terminal of so many columns, and all lines that have left it at the top."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.rows = rows
        self.lines = [""]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        """Show text. Raises ValueError for a control that is not known here."""
        end = 0
        for match in re.finditer(_PIECE, text):
            if match.start() != end:
                raise ValueError(f"unknown control: {text[end : end + 10]!r}")
            end = match.end()
            self._apply(match.group(), match[1], match[2])

    @property
    def text(self) -> str:
        """All lines, without spaces at their ends."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def _apply(self, piece: str, number: str | None, control: str | None) -> None:
        if control == "A":
            self.row = max(self.row - int(number or 1), len(self.lines) - self.rows, 0)
        elif control == "J":
            del self.lines[self.row + 1 :]
            self._erase_line()
        elif control == "K":
            self._erase_line()
        elif control:
            raise ValueError(f"unknown control: {piece!r}")
        elif piece == "\r":
            self.column = 0
        elif piece == "\n":  # a terminal's driver returns to the first column as well
            self._go_down()
        else:
            if self.column == self.columns:
                self._go_down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + piece + line[self.column + 1 :]
            self.column += 1

    def _erase_line(self) -> None:
        self.lines[self.row] = self.lines[self.row][: self.column]

    def _go_down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")


@contextmanager
def open_terminal(columns: int = 80, rows: int = 24) -> Iterator[tuple[TextIO, int]]:
    """Make a pseudo-terminal; give the side that is written to, and the other's number."""
    master, slave = pty.openpty()
    set_terminal_size(master, columns, rows)
    with os.fdopen(slave, "w") as out:
        try:
            yield out, master
        finally:
            os.close(master)


def set_terminal_size(terminal: int, columns: int, rows: int) -> None:
    """Give a terminal another size; 0 means that it does not say."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
