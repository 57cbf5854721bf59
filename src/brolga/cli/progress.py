"""The progress of streams, as a line on stderr that a thread updates."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from brolga.cli.output import CLEAR
from brolga.spec.blob import Progress
from brolga.stream.layer import StreamLayer

_INTERVAL_S: Final = {"auto": 0.2, "plain": 5.0}
_DEFAULT_COLUMNS: Final = 80  # if the terminal does not say
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@contextmanager
def show_progress(
    layers: Sequence[StreamLayer], how: str, out: TextIO | None = None
) -> Iterator[None]:
    """Show the progress of all layers together while the block runs, and when it ends.

    `how` is `auto` (a status line if `out` is a terminal, else nothing), `plain` (a new line every
    few seconds) or `none`. `out` None is stderr. Errors of `out` are ignored.
    """
    out = out or sys.stderr
    if out is None or how == "none" or (how == "auto" and not out.isatty()):
        yield
        return
    start_s = time.monotonic()

    def write(start: str, end: str) -> None:
        progress = [layer.progress for layer in layers]
        total = Progress(
            sum(each.read for each in progress), sum(each.written for each in progress)
        )
        sizes = [layer.source_size for layer in layers]
        size = None if None in sizes else sum(filter(None, sizes))
        text = format_progress(total, size, time.monotonic() - start_s)
        with suppress(OSError):
            out.write(start + (text[: _columns(out) - 1] if out.isatty() else text) + end)
            out.flush()

    start, end = (CLEAR, "") if how == "auto" else ("", "\n")
    try:
        with _run_every(_INTERVAL_S[how], lambda: write(start, end)):
            yield
    finally:
        write(start, "\n")


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


def _columns(terminal: TextIO) -> int:
    """Return a terminal's width. `shutil.get_terminal_size` asks stdout, which may be a file."""
    return os.get_terminal_size(terminal.fileno()).columns or _DEFAULT_COLUMNS


def format_progress(progress: Progress, size: int | None, elapsed_s: float) -> str:
    """Return one line: bytes read and written, ratio, rate, time.

    If `size`, the bytes of the source, is known, the line ends with the share and the time left.
    """
    rate = progress.read / elapsed_s if elapsed_s > 0 else 0.0
    parts = [
        f"{_format_bytes(progress.read)} in",
        f"{_format_bytes(progress.written)} out",
        f"ratio {progress.written / progress.read:.2f}" if progress.read else "ratio -",
        f"{rate / 1e6:.0f} MB/s",
        _format_time(elapsed_s),
    ]
    if size:
        share = min(1.0, progress.read / size)
        left_s = (size - progress.read) / rate if rate and share < 1 else 0
        parts.append(f"{share:.0%} of {_format_bytes(size)}, {_format_time(left_s)} left")
    return "  ".join(parts)


def _format_bytes(count: float) -> str:
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:  # noqa: PLR2004 - the step of the units
        count, step = count / 1024, step + 1
    return f"{count:.1f} {_UNITS[step]}" if step else f"{count:.0f} B"


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
