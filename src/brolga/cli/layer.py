"""`brolga layer`: streams into a repository.

Knows flags, stdin and how a result is printed. Must not know how a layer is read or pushed.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

import click

from brolga.errors import SourceError

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.layer import StreamLayer
    from brolga.reference import Repository
    from brolga.sources import Source

__all__ = ["command"]

_MAX_TIMEOUT_S = 86400
# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  tar -c app | brolga layer push registry.example/team/app
  pg_dump db | brolga layer push --compression zstd:9 localhost:5000/dumps
"""


@click.group("layer")
def command() -> None:
    """Stream layers into a registry."""


@command.command(epilog=_EXAMPLES)
@click.argument("repo")
@click.argument("source", default="-")
@click.option(
    "--compression",
    default="gzip",
    show_default=True,
    metavar="NAME[:LEVEL]",
    help="gzip (levels 1 to 9, default 1), zstd (1 to 22, default 3) or none.",
)
@click.option("--media-type", help="The layer's media type; default: OCI's for the compression.")
@click.option("--jobs", type=click.IntRange(1), help="Compressing threads; default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "none"]),
    default="auto",
    show_default=True,
    help="auto: a status line where stderr is a terminal. plain: a line every few seconds.",
)
@click.option("--insecure", is_flag=True, help="Allow plain http, and TLS without verification.")
@click.option(
    "--ca-cert", type=click.Path(exists=True, dir_okay=False), help="PEM authorities to trust."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, _MAX_TIMEOUT_S, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to connect, to send a block, to answer.",
)
def push(  # noqa: PLR0913 - the flags of the verb
    *,
    repo: str,
    source: str,
    compression: str,
    media_type: str | None,
    jobs: int | None,
    as_json: bool,
    progress: str,
    insecure: bool,
    ca_cert: str | None,
    timeout: float,
) -> None:
    """Stream SOURCE into REPO as a layer, in one pass.

    SOURCE is a file, or - for stdin (the default). REPO is a repository without tag, such as
    registry.example/team/app. Plain http is spoken to loopback addresses, or with --insecure.
    BROLGA_USERNAME and BROLGA_PASSWORD are the credentials.

    Prints REPO@DIGEST. With --json: ref, digest, diffId, size, uncompressedSize (bytes),
    mediaType, seconds.
    """
    from brolga.cli.progress import shown
    from brolga.compression import parse
    from brolga.layer import StreamLayer
    from brolga.reference import Repository

    began = time.monotonic()
    repository = Repository.parse(repo)
    try:
        name, level = parse(compression)
        stream = StreamLayer(_source(source), name, level, media_type, threads=jobs)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with (
        _client(insecure=insecure, ca_cert=ca_cert, timeout=timeout) as client,
        shown(stream, progress),
    ):
        client.push_layer(repository, stream)
    _print(repository, stream, time.monotonic() - began, as_json=as_json)


def _client(*, insecure: bool, ca_cert: str | None, timeout: float) -> Client:
    from brolga.auth import credentials_from_environment
    from brolga.client import Client

    credentials = credentials_from_environment()
    try:
        return Client(
            credentials=credentials, insecure=insecure, ca_cert=ca_cert, timeout_s=timeout
        )
    except (OSError, ValueError) as error:
        what = f"--ca-cert {ca_cert}" if isinstance(error, OSError) else "--timeout"
        raise click.UsageError(f"{what}: {error}") from error


def _source(name: str) -> Source:
    if name != "-":
        if os.path.isdir(name):  # noqa: PTH112 - Path's raises where a parent is closed to us
            raise SourceError(
                f"{name} is a directory; stream it with: "
                f"tar -C {shlex.quote(name)} -c . | brolga layer push …"
            )
        return name
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("stdin is closed")
    if os.isatty(sys.stdin.fileno()):
        raise click.UsageError("stdin is a terminal: pipe the bytes in, or name a file")
    return sys.stdin.buffer


def _print(repository: Repository, layer: StreamLayer, seconds: float, *, as_json: bool) -> None:
    ref = f"{repository}@{layer.digest}"
    if not as_json:
        click.echo(ref)
        return
    result = {
        "ref": ref,
        "digest": str(layer.digest),
        "diffId": str(layer.diff_id),
        "size": layer.size,
        "uncompressedSize": layer.uncompressed_size,
        "mediaType": layer.media_type,
        "seconds": round(seconds, 3),
    }
    click.echo(json.dumps(result))
