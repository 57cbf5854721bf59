"""What the command writes: results on stdout, lines on stderr.

Knows the two streams, and that each may be closed, full or gone. Must not know what is written.

Strategy: a result that stdout does not take is an error, for it is what the user came for. A line
that stderr does not take is none: the exit code still tells what happened.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "CLEAR",
    "LostResult",
    "lines",
    "logged",
    "one_line",
    "raw",
    "result",
    "say",
    "settle",
    "warn",
]

CLEAR = "\r\x1b[K"  # to the line's start, and erase it


class LostResult(Exception):
    """A result that stdout did not take."""


def result(
    line: str, fields: Mapping[str, object] | None = None, *, as_json: bool = False, done: str = ""
) -> None:
    """Print a result on stdout: `line`, or with `as_json` its `fields` as one JSON object.

    `done` says what was done all the same where it cannot be printed, with the result in it.

    Raises LostResult; BrokenPipeError where the reader has gone and nothing was done.
    """
    try:
        _write(json.dumps(fields) if as_json else line)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not done:
            raise
        what = f"stdout cannot be written: {error.strerror}"
        raise LostResult(f"{what}; {done}" if done else what) from error


def _write(text: str) -> None:
    click.echo(text, file=_stdout())


def _stdout() -> TextIO:
    if sys.stdout is None:  # the descriptor was closed at the start
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdout


def lines(texts: Iterable[str]) -> None:
    """Print results on stdout, one a line. Raises as `result` where nothing was done."""
    for text in texts:
        result(text)


def raw(data: bytes | memoryview) -> None:
    """Write bytes on stdout as they are. Raises as `result` where nothing was done."""
    try:
        out = _stdout().buffer
        out.write(data)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LostResult(f"stdout cannot be written: {error.strerror}") from error


def say(text: str) -> None:
    """Print a line on stderr, where that takes one."""
    with suppress(OSError):
        click.echo(text, err=True)


def warn(host: str, text: str) -> None:
    """Show what a registry warns of."""
    say(f"{_line_start()}warning: {one_line(f'{host}: {text}')}")


def _line_start() -> str:
    """Return what a line of stderr begins with: a status line may stand there; it comes back."""
    return CLEAR if sys.stderr is not None and sys.stderr.isatty() else ""


def one_line(text: str) -> str:
    """Return `text` on one line, with nothing in it that a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def settle() -> None:
    """Write what is left; forget what cannot be written.

    Python would try again at its end, and change the exit code where it fails.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _forget(stream)


def _forget(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


@contextmanager
def logged() -> Iterator[None]:
    """Show the log of brolga on stderr while the block runs, a line for each record."""
    import logging  # not needed otherwise

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return _line_start() + one_line(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(name)s: %(message)s"))
    log = logging.getLogger("brolga")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
