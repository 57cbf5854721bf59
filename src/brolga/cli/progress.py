"""The progress of a command on stderr: lines that a terminal redraws, or lines for a log.

The client appends its events to a queue; a thread takes them from it, and alone writes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from brolga.cli.output import CLEAR, draw_on
from brolga.cli.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.spec.progress import ProgressEvent

_TICK_S: Final = 0.2  # between two looks at the events
_LOG_S: Final = 5.0  # between two lines of a log
_SIZE: Final = (80, 24)  # columns and rows, if the terminal does not say


@contextmanager
def show_progress(
    how: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[ProgressEvent], object]]:
    """Show the events that the yielded function gets while the block runs, and sum them up.

    `how` is `auto`, for a terminal, or `plain`, for a log, or a terminal that cannot move its
    cursor. `out` None is stderr. Errors of `out` are ignored.
    """
    out = out or sys.stderr
    events: deque[ProgressEvent] = deque()
    if out is None:
        yield events.append
        return
    is_drawn = how == "auto" and os.environ.get("TERM") != "dumb"
    view: _View = _Screen(out) if is_drawn else _Log(out, clock())
    transfers = Transfers(clock())

    def look() -> None:
        now_s = clock()
        lines = [transfers.note(events.popleft(), now_s) for _ in range(len(events))]
        transfers.tick(now_s)
        if not transfers.is_empty:
            view.show(transfers, list(filter(None, lines)), now_s)

    with draw_on(out) if is_drawn else nullcontext():
        try:
            with _run_every(_TICK_S, look):
                yield events.append
        finally:
            look()
            if not transfers.is_empty:
                view.finish(transfers.summary(clock()))


@contextmanager
def _run_every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=run, name="brolga-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _View(Protocol):
    def show(self, transfers: Transfers, news: list[str], now_s: float) -> None:
        """Show how far the blobs are, and what has happened since the last time."""

    def finish(self, summary: str) -> None:
        """Leave a line that says what was done."""


class _Log:
    """Whole lines: for what has happened at once, for all blobs together every few seconds."""

    def __init__(self, out: TextIO, now_s: float) -> None:
        self._out = out
        self._next_s = now_s + _LOG_S

    def show(self, transfers: Transfers, news: list[str], now_s: float) -> None:
        if now_s >= self._next_s:
            self._next_s = now_s + _LOG_S
            news = [*news, transfers.whole(now_s)]
        if news:
            _write(self._out, "".join(f"{line}\n" for line in news))

    def finish(self, summary: str) -> None:
        _write(self._out, f"{summary}\n")


class _Screen:
    """Lines at the bottom of a terminal, below an empty one on which the cursor waits.

    Whatever else is written meanwhile, by a command that is run too, begins on the empty line, and
    what it does not overwrite is erased by the next `show`. So the number of lines does not matter
    afterwards, nor does the width that the terminal has by then.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, transfers: Transfers, news: list[str], now_s: float) -> None:  # noqa: ARG002 - the lines tell it
        columns, rows = self._size()
        lines = transfers.lines(columns - 1, rows - 2, now_s)
        text = "".join(f"\n{line}" for line in lines)
        _write(self._out, f"{CLEAR}{text}\r\x1b[{len(lines)}A")

    def finish(self, summary: str) -> None:
        _write(self._out, f"{CLEAR}{summary}\n")

    def _size(self) -> tuple[int, int]:
        """Return columns and rows. `shutil.get_terminal_size` asks stdout, which may be a file."""
        columns = rows = 0
        with suppress(OSError):  # it has gone
            columns, rows = os.get_terminal_size(self._out.fileno())
        return columns or _SIZE[0], rows or _SIZE[1]


def _write(out: TextIO, text: str) -> None:
    with suppress(OSError):
        out.write(text)
        out.flush()
