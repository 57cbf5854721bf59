"""SOURCE: what a user names as the bytes of a layer, and the layer that it becomes.

Knows stdin, files, commands, and how flags say that a layer is made. Must not know where the layer
goes.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from typing import TYPE_CHECKING, Final, cast

import click

from brolga.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedReader

    from brolga.cli.client_factory import Connection
    from brolga.cli.options import Making
    from brolga.stream.layer import StreamLayer
    from brolga.stream.sources import Source

__all__ = ["check_stdin", "command_layer", "refuse_compressed", "stream_layer"]

# What a compressed stream begins with, and what undoes it.
_PROGRAMS: Final = {
    b"\x1f\x8b": "gzip",  # RFC 1952, section 2.3.1
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878, section 3.1.1
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
_LONGEST: Final = max(map(len, _PROGRAMS))


def stream_layer(
    name: str, making: Making, connection: Connection, verb: str, *, tar: bool | None
) -> StreamLayer:
    """Return the layer that SOURCE is to be: a file, or `-` for stdin. Nothing is read yet.

    `verb` is how the command goes on behind a pipe; `tar` is as a `StreamLayer` has it. Raises
    SourceError where there is no such source, UsageError for flags that are none and for a stdin
    that cannot be one.
    """
    if name == "-":
        check_stdin(connection)
    elif os.path.isdir(name):  # noqa: PTH112 - Path's raises where a parent is closed to us
        raise SourceError(
            f"{name} is a directory; stream it with: tar -C {shlex.quote(name)} -c . | {verb}"
        )
    return _layer(sys.stdin.buffer if name == "-" else name, making, tar)


def command_layer(
    arguments: Sequence[str], making: Making, connection: Connection, *, tar: bool | None
) -> StreamLayer:
    """Return the layer that a command's stdout is to be. It does not run yet.

    Where the password comes from stdin, the command has an empty one: nobody could tell how much
    of the rest has been read ahead. Raises UsageError for flags that are none, and for no command.
    """
    from brolga.stream.command import Command

    if not arguments:
        raise click.UsageError("a COMMAND must follow --")
    command = Command(arguments, reads_stdin=not connection.password_stdin)
    return _layer(command, making, tar)


def _layer(source: Source, making: Making, tar: bool | None) -> StreamLayer:  # noqa: FBT001 - as StreamLayer's
    from brolga.spec.mediatypes import check_media_type
    from brolga.stream.compression import parse_compression
    from brolga.stream.layer import StreamLayer

    try:
        compression, level = parse_compression(making.compression)
        if making.media_type is not None:
            check_media_type(making.media_type)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return StreamLayer(
        source, compression, level, making.media_type, threads=making.threads, tar=tar
    )


def check_stdin(connection: Connection) -> None:
    """Raise UsageError or SourceError where stdin cannot be a source."""
    if connection.password_stdin:
        raise click.UsageError("--password-stdin and - both want stdin: name a file")
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("stdin is closed")
    if os.isatty(sys.stdin.fileno()):
        raise click.UsageError("stdin is a terminal: pipe the bytes in, or name a file")


def refuse_compressed(name: str) -> None:
    """Refuse a SOURCE that is compressed already: a layer's DiffID is that of the tar inside.

    Waits for stdin's first bytes, and leaves them there. What can be read only once, and is not
    stdin, is not looked at. Raises SourceError.
    """
    head = _head(name)
    for magic, program in _PROGRAMS.items():
        if head.startswith(magic):
            what = "stdin" if name == "-" else name
            file = "" if name == "-" else f" {shlex.quote(name)}"
            raise SourceError(
                f"{what} is already compressed, and a layer is made from the tar: "
                f"use the output of `{program} -dc{file}`"
            )


def _head(name: str) -> bytes:
    try:
        if name == "-":
            return cast("BufferedReader", sys.stdin.buffer).peek(_LONGEST)
        if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - a str needs no Path for this
            return b""
        with open(name, "rb") as file:  # noqa: PTH123 - as above
            return file.read(_LONGEST)
    except OSError as error:
        raise SourceError(f"cannot open the source: {error}") from error
