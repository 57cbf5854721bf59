"""How far streams have come, as a line on stderr.

Knows terminals and a layer's `progress`. Must not know who moves the layers on: a thread of this
module looks at them now and then.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

from brolga.cli.output import CLEAR
from brolga.spec.blob import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from brolga.stream.layer import StreamLayer

__all__ = ["line", "shown"]

_LOOK_S: Final = {"auto": 0.2, "plain": 5.0}  # seconds between two looks
_COLUMNS: Final = 80  # of a terminal that does not know
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@contextmanager
def shown(layers: Sequence[StreamLayer], how: str, out: TextIO | None = None) -> Iterator[None]:
    """Show the progress of all layers together while the block runs, and at its end, good or bad.

    `how` is `auto` (a line that changes, where `out` is a terminal, and nothing elsewhere),
    `plain` (a new line every few seconds) or `none`. `out` None is stderr. An `out` that takes no
    more is no error: the stream goes on unseen.
    """
    out = out or sys.stderr
    if out is None or how == "none" or (how == "auto" and not out.isatty()):
        yield
        return
    began = time.monotonic()

    def write(start: str, end: str) -> None:
        text = line(_sum(layers), _total(layers), time.monotonic() - began)
        with suppress(OSError):
            out.write(start + (text[: _columns(out) - 1] if out.isatty() else text) + end)
            out.flush()

    start, end = (CLEAR, "") if how == "auto" else ("", "\n")
    try:
        with _every(_LOOK_S[how], lambda: write(start, end)):
            yield
    finally:
        write(start, "\n")


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
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


def _sum(layers: Sequence[StreamLayer]) -> Progress:
    each = [layer.progress for layer in layers]
    return Progress(sum(one.read for one in each), sum(one.written for one in each))


def _total(layers: Sequence[StreamLayer]) -> int | None:
    """Return the bytes of all sources, or None where the size of one is not known."""
    sizes = [layer.source_size for layer in layers]
    return None if None in sizes else sum(filter(None, sizes))


def _columns(terminal: TextIO) -> int:
    """Return a terminal's width; stdout, which the standard library would ask, may be a file."""
    return os.get_terminal_size(terminal.fileno()).columns or _COLUMNS


def line(progress: Progress, total: int | None, elapsed_s: float) -> str:
    """Return one line: bytes in, bytes out, ratio, rate, time; share and time left where known.

    `total` is the source's size in bytes, or None.
    """
    rate = progress.read / elapsed_s if elapsed_s > 0 else 0.0
    parts = [
        f"{_bytes(progress.read)} in",
        f"{_bytes(progress.written)} out",
        f"ratio {progress.written / progress.read:.2f}" if progress.read else "ratio -",
        f"{rate / 1e6:.0f} MB/s",
        _clock(elapsed_s),
    ]
    if total:
        share = min(1.0, progress.read / total)
        left = _clock((total - progress.read) / rate) if rate and share < 1 else _clock(0)
        parts.append(f"{share:.0%} of {_bytes(total)}, {left} left")
    return "  ".join(parts)


def _bytes(count: float) -> str:
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:  # noqa: PLR2004 - the step of the units
        count, step = count / 1024, step + 1
    return f"{count:.1f} {_UNITS[step]}" if step else f"{count:.0f} B"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
