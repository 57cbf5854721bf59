"""`brolga layer`: streams into a repository, and out of it.

Knows flags, stdin and how a result is printed. Must not know how a layer is read or pushed.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb, Verbs
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.commands.blob import to_stdout
from brolga.cli.files import replace_file
from brolga.cli.local_paths import as_path, check_file, check_stdout, check_target, told
from brolga.cli.mutation import check_clock
from brolga.cli.options import Making, Sending, json_flag, layer_flags, registry_flags, upload_flags
from brolga.cli.output import result, say
from brolga.cli.params import pairs
from brolga.cli.upload_options import SizeType
from brolga.errors import CorruptBlob, InvalidReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef
    from brolga.stream.layer import StreamLayer

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  tar -c app | brolga layer push registry.example/team/app:v1
  brolga layer push --compression zstd:9 localhost:5000/dumps:monday -- pg_dump db
"""
_PULL_EXAMPLES = """\b
Examples:
  brolga layer pull localhost:5000/dumps:monday | psql db
  brolga layer pull registry.example/models:7 -o weights.bin
"""
_FILE_SUFFIXES: Final = {"gzip": ".gz", "zstd": ".zst", "none": ""}


@click.group("layer", cls=Verbs)
def command() -> None:
    """Stream layers into a registry, and out of it."""


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
@click.argument("repo", metavar="REPO[:TAG]")
@click.argument("source", required=False)
@click.option(
    "--tar/--no-tar",
    default=None,
    help="Whether to refuse what is not a complete tar; default: if it begins like one.",
)
@click.option(
    "--artifact-type",
    metavar="TYPE",
    help="With TAG: what the stream is, a media type; default: an unknown artifact.",
)
@click.option(
    "-a",
    "--annotation",
    "annotations",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="With TAG: an annotation of the manifest; repeatable.",
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
    artifact_type: str | None,
    annotations: dict[str, str],
    making: Making,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Stream SOURCE, or what COMMAND writes, into REPO as a layer, in one pass.

    SOURCE is a file, or - for stdin (the default). COMMAND is run, and its stdout is the source:
    nothing is pushed unless it exits with 0. REPO is a repository such as
    registry.example/team/app. Plain http is used for loopback addresses, or with --insecure. The
    credentials are --username's, else BROLGA_USERNAME and BROLGA_PASSWORD, else those that docker
    or podman has.

    With TAG, a manifest names the layer: it is an artifact, and `layer pull` gives the stream back.
    Without TAG, no manifest names the layer, and a garbage collection of the registry may delete
    it. A stream that is not a tar has the media type application/octet-stream, +gzip or +zstd.

    Prints REPO@DIGEST: the digest of the manifest, or without TAG of the layer. With --json: ref,
    digest, seconds, and of the layer diffId, size, uncompressedSize (bytes), mediaType; with TAG
    artifactType, and what belongs to the layer is in layer.
    """
    from brolga.cli.progress import shown
    from brolga.images import StreamBlob
    from brolga.spec.mediatypes import UNKNOWN_ARTIFACT
    from brolga.spec.reference import Repository

    began = time.monotonic()
    target = _target(repo)
    layer = _layer(source, behind, making, connection, tar=tar)
    is_named = not isinstance(target, Repository)
    check_target(target, as_json=as_json)
    _check_flags(artifact_type, annotations, making.media_type, layer, is_named=is_named)
    with (
        open_client(connection, sending=sending) as client,
        shown([layer], making.progress),
        _tar_advice(),
    ):
        if isinstance(target, Repository):
            blob = StreamBlob(layer)
            client.push_layer(target, blob)
        else:
            kind = artifact_type or UNKNOWN_ARTIFACT
            title = _title(source, layer.compression)
            ref = client.push_stream(
                target, layer, artifact_type=kind, title=title, annotations=annotations
            )
    seconds = round(time.monotonic() - began, 3)
    if isinstance(target, Repository):
        _print_layer(target, layer, seconds, as_json=as_json)
    else:
        more = {"artifactType": kind, "layer": _fields(layer), "seconds": seconds}
        told(ref, done="pushed", as_json=as_json, more=more)


@command.command(cls=Verb, epilog=_PULL_EXAMPLES)
@click.argument("ref")
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to write it; default: stdout, -."
)
@click.option("--raw", is_flag=True, help="Write the bytes as they are stored, compressed.")
@click.option(
    "--max-size",
    type=SizeType(),
    metavar="SIZE",
    help="Refuse a stream of more bytes (512K, 32M, 1G); default: no limit, but one that grows by "
    "more than 1100 times, beyond 4 GiB, is refused.",
)
@registry_flags
def pull(*, ref: str, output: str, raw: bool, max_size: int | None, connection: Connection) -> None:
    """Write a stream that `layer push` has pushed, as it was before.

    REF is an artifact, or an image, of one layer. Its media type says how the bytes are compressed.
    They are verified as they pass. FILE appears only when the stream is complete and verified. With
    stdout, if the bytes are wrong, the exit code is 6, and what was printed must not be used.
    """
    from brolga.stores.location import parse_image_ref
    from brolga.stream.decompression import Limits

    place = parse_image_ref(ref)
    if output == "-":
        check_stdout("stream")
    else:
        check_file(output)
    limits = Limits(max_size, Limits.ratio if max_size is None else None)
    with (
        open_client(connection) as client,
        client.pull_stream(place, raw=raw, limits=limits) as stream,
    ):
        if output == "-":
            to_stdout(stream.blocks())
        else:
            with replace_file(Path(output)) as write:
                for block in stream:
                    write(block)


def _target(text: str) -> Repository | ImageRef:
    """Read REPO[:TAG], or the place of an image on this machine. Raises InvalidReference."""
    from brolga.spec.reference import Reference, Repository
    from brolga.stores.location import parse_image_ref

    if (local := as_path(text)) is not None:
        if local.tag:
            return local
        error = InvalidReference(f"{text}: a layer alone is not an image, so it needs a name")
        error.add_note("name it: oci:DIR:TAG")
        raise error
    place = parse_image_ref(text)
    if not isinstance(place, Reference) or place.tag_is_default:
        return Repository.parse(text)
    if place.digest is not None:
        error = InvalidReference("a tag is wanted here: the digest is known when it was pushed")
        error.add_note("a repository is written like registry.example/team/app")
        raise error
    return place


def _layer(
    source: str | None,
    behind: Sequence[str] | None,
    making: Making,
    connection: Connection,
    *,
    tar: bool | None,
) -> StreamLayer:
    """Return the layer of SOURCE or of COMMAND. Raises UsageError, SourceError."""
    from brolga.cli.source import command_layer, stream_layer

    if behind is None:
        verb = "brolga layer push …"
        return stream_layer("-" if source is None else source, making, connection, verb, tar=tar)
    if source is None:
        return command_layer(behind, making, connection, tar=tar)
    raise click.UsageError("give either SOURCE or -- COMMAND, not both")


def _check_flags(
    artifact_type: str | None,
    annotations: dict[str, str],
    media_type: str | None,
    layer: StreamLayer,
    *,
    is_named: bool,
) -> None:
    """Raise UsageError for flags that need a tag, and for media types that are not right."""
    from brolga.spec.mediatypes import check_media_type, compression_of_media_type

    if not is_named:
        if artifact_type is not None or annotations:
            raise click.UsageError("--artifact-type and --annotation need a manifest: REPO:TAG")
        return
    check_clock()
    if artifact_type is not None:
        try:
            check_media_type(artifact_type)
        except ValueError as error:
            raise click.UsageError(f"--artifact-type: {error}") from error
    how = layer.compression
    if media_type and how != "none" and compression_of_media_type(media_type) != how:
        raise click.UsageError(
            f"--media-type {media_type} does not say how the bytes are compressed, so that nobody "
            f"could undo it: use {media_type}+{how}, or --compression none"
        )


def _title(source: str | None, compression: str) -> str:
    """Return the name of the file that ORAS makes of a stream; stdin and a command have none."""
    if source in {None, "-"}:
        return ""
    return os.path.basename(str(source)) + _FILE_SUFFIXES[compression]  # noqa: PTH119 - a str


@contextmanager
def _tar_advice() -> Iterator[None]:
    """Add to the error of a tar that is cut short what to do."""
    try:
        yield
    except CorruptBlob as error:
        error.add_note("make sure that it is complete, or push it as it is with --no-tar")
        raise


def _print_layer(
    repository: Repository, layer: StreamLayer, seconds: float, *, as_json: bool
) -> None:
    """Print the name of a layer, and that nothing keeps it."""
    ref = f"{repository}@{layer.digest}"
    fields = {"ref": ref, **_fields(layer), "seconds": seconds}
    result(ref, fields, as_json=as_json, done=f"the layer was pushed anyway: {ref}")
    say(
        "warning: no manifest names this layer, and a garbage collection of the registry "
        "may delete it; REPO:TAG keeps it"
    )


def _fields(layer: StreamLayer) -> dict[str, object]:
    """Return what the JSON object says of a layer."""
    return {
        "digest": str(layer.digest),
        "diffId": str(layer.diff_id),
        "size": layer.size,
        "uncompressedSize": layer.uncompressed_size,
        "mediaType": layer.stream_media_type,
    }
