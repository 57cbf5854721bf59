"""`brolga attach`: attach files to an image."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.mutation import check_clock, push_and_print, refuse_archive
from brolga.cli.params import Parsed, parse_media_type
from brolga.cli.source import stream_layer
from brolga.images import Artifact, TitledBlob
from brolga.spec.blob import Blob
from brolga.spec.platform import Platform
from brolga.stores.location import home_of, parse_image_ref

_OCTETS: Final = "application/octet-stream"
_STDIN: Final = "-"


@verb(
    "attach",
    "brolga attach --artifact-type application/spdx+json localhost:5000/app:v1 sbom.json",
    "make-sbom | brolga attach --artifact-type text/spdx localhost:5000/app:v1 -:text/spdx",
)
@click.argument("subject")
@click.argument("files", nargs=-1, metavar="[FILE[:TYPE]]...")
@click.option(
    "-:", "stdin_type", metavar="TYPE", help="Stdin as a FILE of this media type: -:text/plain."
)
@click.option(
    "--artifact-type",
    type=Parsed(parse_media_type),
    required=True,
    metavar="TYPE",
    help="What the artifact is: a media type.",
)
@options.annotation(help="An annotation of the artifact; repeatable.")
@options.platform
@options.jobs
@options.upload
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    subject: str,
    files: tuple[str, ...],
    stdin_type: str | None,
    artifact_type: str,
    annotations: dict[str, str],
    platform: Platform | None,
    jobs: int,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Attach files to an image, as an artifact that refers to it.

    SUBJECT is an image or an index; with --platform, an image of that index. Each FILE is stored
    unchanged with its name, which oras restores when it pulls; - is stdin, which has no name. The
    media type follows the last colon, by default application/octet-stream. Without FILE, the
    artifact has only annotations.

    Prints REPO@DIGEST of the artifact. With --json: ref, digest, mediaType, size (bytes),
    artifactType, subject.
    """
    check_clock()
    reference = parse_image_ref(subject)
    refuse_archive(reference)
    if stdin_type is not None:
        files = (*files, f"-:{stdin_type}")
    blobs = _blobs(files, connection)
    with open_client(connection, jobs=jobs, upload_opts=upload_opts) as client:
        if platform is None:
            descriptor = client.head(reference)
        else:
            descriptor = client.manifest(reference, platform).descriptor
        artifact = Artifact.of(artifact_type, *blobs, annotations=annotations, subject=descriptor)
        more = {"artifactType": artifact_type, "subject": descriptor.to_dict()}
        push_and_print(client, home_of(reference), artifact, as_json=as_json, more=more)


def _blobs(files: Sequence[str], connection: options.ConnectionOptions) -> list[Blob]:
    """Return the files as streams, with their names. Raises UsageError, SourceError."""
    parts = [_split(file) for file in files]
    names = [name for name, _ in parts]
    if names.count(_STDIN) > 1:
        raise click.UsageError("stdin can be only one FILE")
    titles = Counter(map(os.path.basename, names))
    if duplicates := [title for title, count in titles.items() if count > 1]:
        raise click.UsageError(f"two files are named {duplicates[0]}: a pull would keep only one")
    blobs: list[Blob] = []
    for name, media_type in parts:
        layer_opts = options.LayerOptions(compression="none", media_type=media_type)
        stream = stream_layer(name, layer_opts, connection, "brolga attach SUBJECT - …", tar=False)
        blobs.append(stream if name == _STDIN else TitledBlob(stream, os.path.basename(name)))  # noqa: PTH119 - a str
    return blobs


def _split(file: str) -> tuple[str, str]:
    """Return a file's name and media type. Raises UsageError if the media type is not valid.

    A colon with a later slash begins a media type, unless a file has the whole name.
    """
    name, colon, media_type = file.rpartition(":")
    if not colon or "/" not in media_type or os.path.lexists(file):
        return file, _OCTETS
    try:
        return name, parse_media_type(media_type)
    except ValueError as error:
        raise click.UsageError(f"{file}: {error}") from error
