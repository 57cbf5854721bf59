"""What the command writes: results on stdout, lines on stderr.

Knows the two streams, and that each may be closed, full or gone. Must not know what is written.

Strategy: a result that stdout does not take is an error, for it is what the user came for. A line
that stderr does not take is none: the exit code still tells what happened. Any text may come from a
registry: whatever is printed here has nothing in it that a terminal would obey, and a document's
bytes are escaped if stdout is a terminal.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

import click

from brolga.errors import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "CLEAR",
    "LostResult",
    "lines",
    "logged",
    "raw",
    "result",
    "say",
    "say_lines",
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
        _write(_as_json(fields) if as_json else printable(line))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not done:
            raise
        what = f"stdout cannot be written: {error.strerror}"
        raise LostResult(f"{what}; {done}" if done else what) from error


def _as_json(fields: Mapping[str, object] | None) -> str:
    return json.dumps(fields).replace("\x7f", "\\u007f")  # the one control character in ASCII JSON


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
    """Write bytes on stdout as they are. Raises as `result` where nothing was done.

    If stdout is a terminal, control and format characters are written as JSON escapes them.
    """
    try:
        out = _stdout()
        out.buffer.write(_escaped(data) if out.isatty() else data)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LostResult(f"stdout cannot be written: {error.strerror}") from error


def _escaped(data: bytes | memoryview) -> bytes:
    text = bytes(data).decode("utf-8", "replace")
    letters = (one if one.isprintable() or one in "\n\t" else _escape(one) for one in text)
    return "".join(letters).encode()


def _escape(letter: str) -> str:
    return json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"


def say(text: str) -> None:
    """Print a line on stderr, where that takes one."""
    _say("", text)


def say_lines(text: str) -> None:
    """Print lines on stderr: a traceback, a help page."""
    for line in text.splitlines():
        say(line)


def warn(host: str, text: str) -> None:
    """Show what a registry warns of."""
    _say(_line_start(), f"warning: {one_line(f'{host}: {text}')}")


def _say(start: str, text: str) -> None:
    with suppress(OSError):
        click.echo(start + printable(text), err=True)


def _line_start() -> str:
    """Return what a line of stderr begins with: a status line may stand there; it comes back."""
    return CLEAR if sys.stderr is not None and sys.stderr.isatty() else ""


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
