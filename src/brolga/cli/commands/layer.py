"""`brolga layer`: stream layers into a registry, and out of it."""

import os
import time
from collections.abc import Sequence
from typing import Final

import click

from brolga import images
from brolga.cli import options
from brolga.cli.click_ext import Verb, VerbGroup, examples
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_output, check_target, print_ref
from brolga.cli.output import eprint, print_result, write_blocks
from brolga.cli.params import Parsed, parse_media_type, parse_size
from brolga.cli.source import command_layer, layer_fields, stream_layer
from brolga.errors import CorruptBlob, InvalidReference
from brolga.spec.mediatypes import UNKNOWN_ARTIFACT, compression_of_media_type
from brolga.spec.reference import Repository
from brolga.stores.location import ImageRef, LocalRef, home_of, is_archive, parse_image_ref
from brolga.stream.layer import StreamLayer

_FILE_SUFFIXES: Final = {"gzip": ".gz", "zstd": ".zst", "none": ""}


@click.group("layer", cls=VerbGroup)
def command() -> None:
    """Stream layers into a registry, and out of it."""


class _Push(Verb):
    """A verb with a command after `--`, which it gets as `arguments`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        arguments = None
        if "--" in args:
            end = args.index("--")
            args, arguments = args[:end], args[end + 1 :]
        rest = super().parse_args(ctx, args)
        ctx.params["arguments"] = arguments
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND ARG...]"]


@command.command(
    cls=_Push,
    epilog=examples(
        "tar -c app | brolga layer push registry.example/team/app:v1",
        "brolga layer push --compression zstd:9 localhost:5000/dumps:monday -- pg_dump db",
    ),
)
@click.argument("repo", metavar="REPO[:TAG]")
@click.argument("source", required=False)
@click.option(
    "--tar/--no-tar",
    default=None,
    help="Refuse a stream that is not a complete tar, or do not check; default: if it begins like "
    "a tar, it must be complete.",
)
@click.option(
    "--artifact-type",
    type=Parsed(parse_media_type),
    metavar="TYPE",
    help="With TAG: what the stream is, a media type; default: an unknown artifact.",
)
@options.annotation(help="With TAG: an annotation of the manifest; repeatable.")
@options.layer
@options.progress
@options.upload
@options.json_output
@options.connection
def push(  # noqa: PLR0913 - the flags of the verb
    *,
    repo: str,
    source: str | None,
    arguments: list[str] | None,
    tar: bool | None,
    artifact_type: str | None,
    annotations: dict[str, str],
    layer_opts: options.LayerOptions,
    progress: str,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Stream SOURCE, or what COMMAND writes, into REPO as a layer, in one pass.

    SOURCE is a file, or - for stdin (the default). COMMAND is run, and its stdout is the source:
    nothing is pushed unless it exits with 0. REPO is a repository such as
    registry.example/team/app. Plain http is used for loopback addresses, or with --insecure. The
    credentials are --username's, else BROLGA_USERNAME and BROLGA_PASSWORD, else those that docker
    or podman has.

    With TAG, a manifest names the layer: it is an artifact, and `layer pull` returns the stream.
    Without TAG, no manifest names the layer, and a garbage collection of the registry may delete
    it. A stream that is not a tar has the media type application/octet-stream, +gzip or +zstd.

    Prints REPO@DIGEST: the digest of the manifest, or without TAG of the layer. With --json: ref,
    digest, seconds, and of the layer diffId, size, uncompressedSize (bytes), mediaType; with TAG
    artifactType, and the layer's fields in layer.
    """
    start_s = time.monotonic()
    target = _target(repo)
    layer = _layer(source, arguments, layer_opts, connection, tar=tar)
    is_named = not isinstance(target, Repository)
    check_target(target, as_json=as_json)
    _check_flags(artifact_type, annotations, layer_opts.media_type, layer, is_named=is_named)
    kind, title = artifact_type or UNKNOWN_ARTIFACT, ""
    if source and source != "-":  # the name of the file that ORAS makes of the stream
        title = os.path.basename(source) + _FILE_SUFFIXES[layer.compression]  # noqa: PTH119 - a str
    try:
        with open_client(connection, upload_opts=upload_opts, progress=progress) as client:
            if isinstance(target, Repository):
                client.push_layer(target, images.StreamBlob(layer))
            else:
                ref = client.push_stream(
                    target, layer, artifact_type=kind, title=title, annotations=annotations
                )
    except CorruptBlob as error:
        error.add_note("make sure that it is complete, or push it as it is with --no-tar")
        raise
    seconds = round(time.monotonic() - start_s, 3)
    if isinstance(target, Repository):
        _print_layer(target, layer, seconds, as_json=as_json)
    else:
        more = {
            "artifactType": kind,
            "layer": layer_fields(layer, layer.stream_media_type),
            "seconds": seconds,
        }
        print_ref(ref, done="pushed", as_json=as_json, more=more)


@command.command(
    cls=Verb,
    epilog=examples(
        "brolga layer pull localhost:5000/dumps:monday | psql db",
        "brolga layer pull registry.example/models:7 -o weights.bin",
    ),
)
@click.argument("ref")
@options.output
@click.option("--raw", is_flag=True, help="Write the bytes as they are stored, compressed.")
@click.option(
    "--max-size",
    type=Parsed(parse_size),
    metavar="SIZE",
    help="Refuse a stream of more bytes (512K, 32M, 1G); default: no limit, but one that grows by "
    "more than 1100 times, beyond 4 GiB, is refused.",
)
@options.jobs
@options.progress
@options.connection
def pull(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    output: str,
    raw: bool,
    max_size: int | None,
    jobs: int,
    progress: str,
    connection: options.ConnectionOptions,
) -> None:
    """Write a stream that `layer push` has pushed, as it was before.

    REF is an artifact or an image of one layer. Its media type says how the bytes are compressed.
    They are verified as they pass. FILE appears only when the stream is complete and verified. On
    stdout, if the bytes are wrong, the exit code is 6, and the output must not be used.

    If the bytes are written as they are stored, with --raw or because they are not compressed, and
    brolga is stopped or killed, the same command goes on with what is in FILE's partial file.
    """
    from brolga.client.streams import only_layer, open_stream
    from brolga.stream.decompression import Limits

    source = parse_image_ref(ref)
    check_output(output, "stream")
    limits = Limits(max_size, Limits.ratio if max_size is None else None)
    with open_client(connection, jobs=jobs, progress=progress) as client:
        tree = client.get(source, compress_layers=False)
        layer, compression = only_layer(source, tree)
        is_as_stored = (raw or compression == "none") and max_size is None
        if is_as_stored and output != "-" and not is_archive(source):
            client.pull_blob(home_of(source), output, layer.descriptor)
            return
        with open_stream(source, tree, limits, raw=raw) as stream:
            write_blocks(stream, output)


def _target(text: str) -> Repository | ImageRef:
    """Return REPO[:TAG], or a place on this machine with a tag. Raises InvalidReference."""
    ref = parse_image_ref(text)
    if isinstance(ref, LocalRef):
        if ref.tag:
            return ref
        raise InvalidReference(
            f"{text}: a layer alone is not an image, so it needs a name",
            hint="name it: oci:DIR:TAG",
        )
    if ref.tag_is_default:
        return Repository.parse(text)
    if ref.digest is not None:
        raise InvalidReference(
            "a tag is wanted here: the digest is known when it was pushed",
            hint="a repository is written like registry.example/team/app",
        )
    return ref


def _layer(
    source: str | None,
    arguments: Sequence[str] | None,
    layer_opts: options.LayerOptions,
    connection: options.ConnectionOptions,
    *,
    tar: bool | None,
) -> StreamLayer:
    """Return the layer of SOURCE or of COMMAND. Raises UsageError, SourceError."""
    if arguments is None:
        name = "-" if source is None else source
        return stream_layer(name, layer_opts, connection, "brolga layer push …", tar=tar)
    if source is None:
        return command_layer(arguments, layer_opts, connection, tar=tar)
    raise click.UsageError("give either SOURCE or -- COMMAND, not both")


def _check_flags(
    artifact_type: str | None,
    annotations: dict[str, str],
    media_type: str | None,
    layer: StreamLayer,
    *,
    is_named: bool,
) -> None:
    """Raise UsageError for flags that need a tag, and for media types that are not valid."""
    if not is_named:
        if artifact_type is not None or annotations:
            raise click.UsageError("--artifact-type and --annotation need a manifest: REPO:TAG")
        return
    from brolga.cli.mutation import check_clock

    check_clock()
    compression = layer.compression
    declared = compression_of_media_type(media_type) if media_type else compression
    if compression not in {"none", declared}:
        raise click.UsageError(
            f"--media-type {media_type} does not say how the bytes are compressed, so that no "
            f"reader could decompress them: use {media_type}+{compression}, or --compression none"
        )


def _print_layer(
    repository: Repository, layer: StreamLayer, seconds: float, *, as_json: bool
) -> None:
    """Print the name of a layer, and warn that no manifest names it."""
    ref = f"{repository}@{layer.digest}"
    fields = {"ref": ref, **layer_fields(layer, layer.stream_media_type), "seconds": seconds}
    print_result(ref, fields, as_json=as_json, done=f"the layer was pushed anyway: {ref}")
    eprint(
        "warning: no manifest names this layer, and a garbage collection of the registry "
        "may delete it; REPO:TAG keeps it"
    )
