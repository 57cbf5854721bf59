"""`brolga layer`: streams into a repository.

Knows flags, stdin and how a result is printed. Must not know how a layer is read or pushed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from brolga.cli.connection import Connection, open_client
from brolga.cli.options import Making, Sending, json_flag, layer_flags, registry_flags, upload_flags
from brolga.cli.output import result
from brolga.cli.verbs import Verb, Verbs
from brolga.errors import CorruptBlob

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.layer import StreamLayer
    from brolga.reference import Repository

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  tar -c app | brolga layer push registry.example/team/app
  brolga layer push --compression zstd:9 localhost:5000/dumps -- pg_dump db
"""


@click.group("layer", cls=Verbs)
def command() -> None:
    """Stream layers into a registry."""


class _Push(Verb):
    """A verb with a command after `--`, which it gets as `behind`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        behind = None
        if "--" in args:
            end = args.index("--")
            args, behind = args[:end], args[end + 1 :]
        rest = super().parse_args(ctx, args)
        ctx.params["behind"] = behind
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND ARG...]"]


@command.command(cls=_Push, epilog=_EXAMPLES)
@click.argument("repo")
@click.argument("source", required=False)
@click.option(
    "--tar/--no-tar",
    default=None,
    help="Whether to refuse what is not a complete tar; default: if it begins like one.",
)
@layer_flags
@upload_flags
@json_flag
@registry_flags
def push(  # noqa: PLR0913 - the flags of the verb
    *,
    repo: str,
    source: str | None,
    behind: list[str] | None,
    tar: bool | None,
    making: Making,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Stream SOURCE, or what COMMAND writes, into REPO as a layer, in one pass.

    SOURCE is a file, or - for stdin (the default). COMMAND is run, and its stdout is the source:
    nothing is pushed unless it exits with 0. REPO is a repository without a tag, such
    as registry.example/team/app. Plain http is used for loopback addresses, or with --insecure.
    The credentials are --username's, else BROLGA_USERNAME and BROLGA_PASSWORD, else those that
    docker or podman has.

    Prints REPO@DIGEST. With --json: ref, digest, diffId, size, uncompressedSize (bytes),
    mediaType, seconds.
    """
    from brolga.cli.progress import shown
    from brolga.cli.source import command_layer, stream_layer
    from brolga.reference import Repository

    began = time.monotonic()
    repository = Repository.parse(repo)
    if behind is None:
        layer = stream_layer(
            "-" if source is None else source, making, connection, "brolga layer push …", tar=tar
        )
    elif source is None:
        layer = command_layer(behind, making, connection, tar=tar)
    else:
        raise click.UsageError("give either SOURCE or -- COMMAND, not both")
    with open_client(connection, sending=sending) as client, shown([layer], making.progress):
        _push(client, repository, layer)
    _print(repository, layer, time.monotonic() - began, as_json=as_json)


def _push(client: Client, repository: Repository, layer: StreamLayer) -> None:
    try:
        client.push_layer(repository, layer)
    except CorruptBlob as error:
        error.add_note("make sure that it is complete, or push it as it is with --no-tar")
        raise


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
    result(ref, fields, as_json=as_json, done=f"the layer was pushed anyway: {ref}")
