"""The output of the command: results on stdout or in a file, messages on stderr.

A result that cannot be written is an error; a message that cannot be written is dropped, because
the exit code still reports the outcome. Text from a registry never controls the terminal.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

import click

from brolga.errors import BrolgaError, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


CLEAR: Final = "\r\x1b[J"  # move to the start of the line, and erase all from there on
_drawings: Final[list[TextIO]] = []  # the terminals at whose bottom progress is drawn now


class OutputError(Exception):
    """A result that stdout, or a file, did not accept."""


def print_result(
    line: str, fields: Mapping[str, object] | None = None, *, as_json: bool = False, done: str = ""
) -> None:
    """Print a result on stdout: `line`, or with `as_json` its `fields` as one JSON object.

    `done` says what was done, with the result in it; the error contains it if printing fails.

    Raises OutputError; BrokenPipeError if the reader is gone and `done` is empty.
    """
    text = _to_json(fields) if as_json else printable(line)
    with _open_stdout(done) as stdout:
        click.echo(_erase_drawing(stdout) + text, file=stdout)


def _to_json(value: object) -> str:
    """Return ASCII JSON, which has one control character that json does not escape: DEL."""
    import json

    return json.dumps(value).replace("\x7f", "\\u007f")


@contextmanager
def _open_stdout(done: str = "") -> Iterator[TextIO]:
    """Yield stdout, and turn its errors into OutputError; see `print_result`."""
    try:
        if sys.stdout is None:  # the descriptor was closed when Python started
            raise OSError(errno.EBADF, "it is closed")  # noqa: TRY301 - as if a write failed
        yield sys.stdout
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not done:
            raise
        problem = f"stdout cannot be written: {error.strerror}"
        raise OutputError(f"{problem}; {done}" if done else problem) from error


def print_lines(lines: Iterable[str]) -> None:
    """Print results on stdout, one per line. Raises OutputError, BrokenPipeError."""
    for line in lines:
        print_result(line)


def write_bytes(data: bytes | memoryview) -> None:
    """Write bytes to stdout unchanged. Raises OutputError, BrokenPipeError.

    If stdout is a terminal, control and format characters are written as JSON escapes.
    """
    with _open_stdout() as stdout:
        stdout.buffer.write(_escape(data) if stdout.isatty() else data)
        stdout.flush()


def _escape(data: bytes | memoryview) -> bytes:
    escaped = (
        letter if letter.isprintable() or letter in "\n\t" else _to_json(letter)[1:-1]
        for letter in bytes(data).decode("utf-8", "replace")
    )
    return "".join(escaped).encode()


def write_blocks(blocks: Iterable[bytes | memoryview], target: str = "-") -> None:
    """Write blocks to stdout as they come, or to a file that appears when it is complete."""
    if target != "-":
        from pathlib import Path  # slow to import

        _write_file(blocks, Path(target))
        return
    written = 0
    try:
        for block in blocks:
            write_bytes(block)
            written += len(block)
    except BrolgaError as error:
        if written:
            error.add_note(f"stdout got {written} bytes, which must not be used; try again")
        raise


def _write_file(blocks: Iterable[bytes | memoryview], target: Path) -> None:
    from brolga.disk.files import atomic_file, write_all

    with ExitStack() as stack:
        with _name_in_errors(target):
            is_special = target.exists() and not target.is_file()  # a pipe, /dev/null
            opened = target.open("wb", buffering=0) if is_special else atomic_file(target)
            file = stack.enter_context(opened)
        for block in blocks:
            with _name_in_errors(target):
                write_all(file.fileno(), block)


@contextmanager
def _name_in_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error


def eprint(text: str) -> None:
    """Print a line on stderr. A failure is ignored."""
    with suppress(OSError):
        click.echo(_erase_drawing(sys.stderr) + printable(text), err=True)


def eprint_lines(text: str) -> None:
    """Print lines on stderr: a traceback, a help page."""
    for line in text.splitlines():
        eprint(line)


def print_warning(host: str, text: str) -> None:
    """Print a registry's warning on stderr."""
    eprint(f"warning: {one_line(f'{host}: {text}')}")


@contextmanager
def draw_on(terminal: TextIO) -> Iterator[None]:
    """Say that lines are drawn at the bottom of a terminal while the block runs.

    What is printed meanwhile erases them first; they are drawn again below it.
    """
    _drawings.append(terminal)
    try:
        yield
    finally:
        _drawings.remove(terminal)


def _erase_drawing(out: TextIO | None) -> str:
    """Return the escape that erases the lines that are drawn on a terminal, if any."""
    return CLEAR if _drawings and out is not None and out.isatty() else ""


def flush_streams() -> None:
    """Flush stdout and stderr, and discard bytes that cannot be written.

    Otherwise Python tries again when it exits, and changes the exit code if that fails.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Print brolga's log on stderr while the block runs, one line for each record."""
    import logging  # only for -v

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return _erase_drawing(sys.stderr) + one_line(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(name)s: %(message)s"))
    logger = logging.getLogger("brolga")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
