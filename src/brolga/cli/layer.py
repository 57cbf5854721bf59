"""`brolga layer`: streams into a repository.

Knows flags, stdin and how a result is printed. Must not know how a layer is read or pushed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from brolga.cli.options import (
    Connection,
    Making,
    json_flag,
    layer_flags,
    open_client,
    registry_flags,
)
from brolga.cli.output import result
from brolga.cli.verbs import Verbs

if TYPE_CHECKING:
    from brolga.layer import StreamLayer
    from brolga.reference import Repository

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  tar -c app | brolga layer push registry.example/team/app
  pg_dump db | brolga layer push --compression zstd:9 localhost:5000/dumps
"""


@click.group("layer", cls=Verbs)
def command() -> None:
    """Stream layers into a registry."""


@command.command(epilog=_EXAMPLES)
@click.argument("repo")
@click.argument("source", default="-")
@layer_flags
@json_flag
@registry_flags
def push(*, repo: str, source: str, making: Making, as_json: bool, connection: Connection) -> None:
    """Stream SOURCE into REPO as a layer, in one pass.

    SOURCE is a file, or - for stdin (the default). REPO is a repository without tag, such as
    registry.example/team/app. Plain http is spoken to loopback addresses, or with --insecure.
    Credentials are --username's, else BROLGA_USERNAME and BROLGA_PASSWORD, else those that docker
    or podman has.

    Prints REPO@DIGEST. With --json: ref, digest, diffId, size, uncompressedSize (bytes),
    mediaType, seconds.
    """
    from brolga.cli.progress import shown
    from brolga.cli.source import stream_layer
    from brolga.reference import Repository

    began = time.monotonic()
    repository = Repository.parse(repo)
    layer = stream_layer(source, making, connection, "brolga layer push …")
    with open_client(connection) as client, shown([layer], making.progress):
        client.push_layer(repository, layer)
    _print(repository, layer, time.monotonic() - began, as_json=as_json)


def _print(repository: Repository, layer: StreamLayer, seconds: float, *, as_json: bool) -> None:
    ref = f"{repository}@{layer.digest}"
    fields = {
        "ref": ref,
        "digest": str(layer.digest),
        "diffId": str(layer.diff_id),
        "size": layer.size,
        "uncompressedSize": layer.uncompressed_size,
        "mediaType": layer.media_type,
        "seconds": round(seconds, 3),
    }
    result(ref, fields, as_json=as_json, done=f"the layer was pushed all the same: {ref}")
