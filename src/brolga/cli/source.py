"""SOURCE arguments: stdin, files and commands as layers."""

import os
import stat
import sys
from collections.abc import Sequence
from typing import Final

import click

from brolga.cli.local_paths import check_stdin
from brolga.cli.options import ConnectionOptions, LayerOptions
from brolga.errors import SourceError
from brolga.stream.compression import parse_compression
from brolga.stream.layer import StreamLayer
from brolga.stream.sources import Source

# The first bytes of a compressed stream, and the program that decompresses it.
_PROGRAMS: Final = {
    b"\x1f\x8b": "gzip",  # RFC 1952, section 2.3.1
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878, section 3.1.1
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
_MAX_MAGIC: Final = max(map(len, _PROGRAMS))


def stream_layer(
    name: str,
    layer_opts: LayerOptions,
    connection: ConnectionOptions,
    verb: str,
    *,
    tar: bool | None,
) -> StreamLayer:
    """Return the layer of a file, or of stdin for `-`. Nothing is read yet.

    `verb` is the rest of a command line after a pipe; `tar` is as for `StreamLayer`. Raises
    SourceError if the file does not exist, UsageError if the flags or stdin are not usable.
    """
    if name == "-":
        check_stdin(connection)
    elif os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises if a parent is not accessible
        from shlex import quote

        raise SourceError(
            f"{name} is a directory; stream it with: tar -C {quote(name)} -c . | {verb}"
        )
    return _layer(sys.stdin.buffer if name == "-" else name, layer_opts, tar)


def command_layer(
    arguments: Sequence[str],
    layer_opts: LayerOptions,
    connection: ConnectionOptions,
    *,
    tar: bool | None,
) -> StreamLayer:
    """Return the layer of a command's stdout. The command does not run yet.

    If the password comes from stdin, the command's stdin is empty: Python may have read ahead.
    Raises UsageError.
    """
    from brolga.stream.command import Command

    if not arguments:
        raise click.UsageError("a COMMAND must follow --")
    command = Command(arguments, reads_stdin=not connection.password_stdin)
    return _layer(command, layer_opts, tar)


def _layer(source: Source, layer_opts: LayerOptions, tar: bool | None) -> StreamLayer:  # noqa: FBT001 - as in StreamLayer

    try:
        compression, level = parse_compression(layer_opts.compression)
        return StreamLayer(
            source,
            compression,
            level,
            layer_opts.media_type,
            threads=layer_opts.threads,
            tar=tar,
            digest_algorithm=layer_opts.digest_algorithm,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def layer_fields(layer: StreamLayer, media_type: str) -> dict[str, object]:
    """Return the members of a JSON object that describe a layer."""
    return {
        "digest": str(layer.digest),
        "diffId": str(layer.diff_id),
        "size": layer.size,
        "uncompressedSize": layer.uncompressed_size,
        "mediaType": media_type,
    }


def refuse_compressed(name: str) -> None:
    """Raise SourceError if a SOURCE is compressed: a layer's DiffID is the digest of the tar.

    This waits for the first bytes of stdin, which stay in its buffer. A named pipe is not checked.
    """
    from shlex import quote

    head = _read_head(name)
    for magic, program in _PROGRAMS.items():
        if head.startswith(magic):
            source = "stdin" if name == "-" else name
            file = "" if name == "-" else f" {quote(name)}"
            raise SourceError(
                f"{source} is already compressed, and a layer is made from the tar: "
                f"use the output of `{program} -dc{file}`"
            )


def _read_head(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.peek(_MAX_MAGIC)  # type: ignore[union-attr,no-any-return] # a BufferedReader
        if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - a str needs no Path for this
            return b""
        with open(name, "rb") as file:  # noqa: PTH123 - as above
            return file.read(_MAX_MAGIC)
    except OSError as error:
        raise SourceError(f"cannot open the source: {error}") from error
