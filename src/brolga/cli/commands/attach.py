"""`brolga attach`: files that belong to an image, as an artifact that refers to it.

Knows flags, and how files and their types are written. Must not know manifests.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.mutation import check_clock, check_open, pushed
from brolga.cli.options import (
    Making,
    Sending,
    jobs_flag,
    json_flag,
    platform_flag,
    registry_flags,
    upload_flags,
)
from brolga.cli.params import pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.spec.blob import Blob
    from brolga.spec.platform import Platform

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  brolga attach --artifact-type application/spdx+json localhost:5000/app:v1 sbom.json
  make-sbom | brolga attach --artifact-type text/spdx localhost:5000/app:v1 -:text/spdx
"""
_OCTETS: Final = "application/octet-stream"
_STDIN: Final = "-"


@click.command("attach", cls=Verb, epilog=_EXAMPLES)
@click.argument("subject")
@click.argument("files", nargs=-1, metavar="[FILE[:TYPE]]...")
@click.option(
    "-:", "stdin_type", metavar="TYPE", help="Stdin as a FILE of this media type: -:text/plain."
)
@click.option(
    "--artifact-type", required=True, metavar="TYPE", help="What the artifact is: a media type."
)
@click.option(
    "-a",
    "--annotation",
    "annotations",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="An annotation of the artifact; repeatable.",
)
@platform_flag
@jobs_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    subject: str,
    files: tuple[str, ...],
    stdin_type: str | None,
    artifact_type: str,
    annotations: dict[str, str],
    platform: Platform | None,
    jobs: int,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Attach files to an image, as an artifact that refers to it.

    SUBJECT is an image or an index; with --platform, an image of that index. Each FILE is stored
    as it is, with its name, which oras gives it again when it pulls; - is stdin, which has no name.
    Its media type is what follows the last colon, by default application/octet-stream. Without
    FILE, the artifact is only its annotations.

    Prints REPO@DIGEST of the artifact. With --json: ref, digest, mediaType, size (bytes),
    artifactType, subject.
    """
    from brolga.images import Artifact
    from brolga.stores.location import home_of, parse_image_ref

    check_clock()
    reference = parse_image_ref(subject)
    check_open(reference)
    _check(artifact_type, "--artifact-type")
    if stdin_type is not None:
        files = (*files, f"-:{stdin_type}")
    blobs = _blobs(files, connection)
    with open_client(connection, jobs=jobs, sending=sending) as client:
        if platform is None:
            about = client.head(reference)
        else:
            about = client.manifest(reference, platform).descriptor
        artifact = Artifact.of(artifact_type, *blobs, annotations=annotations, subject=about)
        more = {"artifactType": artifact_type, "subject": about.to_dict()}
        pushed(client, home_of(reference), artifact, as_json=as_json, more=more)


def _blobs(files: Sequence[str], connection: Connection) -> list[Blob]:
    """Return the files as streams, with their names. Raises UsageError, SourceError."""
    from brolga.cli.source import stream_layer
    from brolga.images import TitledBlob

    making = Making(compression="none", media_type=None, threads=None, progress="none")
    parts = [_split(file) for file in files]
    _check_names([name for name, _ in parts])
    blobs: list[Blob] = []
    for name, media_type in parts:
        how = replace(making, media_type=media_type)
        stream = stream_layer(name, how, connection, "brolga attach SUBJECT - …", tar=False)
        blobs.append(stream if name == _STDIN else TitledBlob(stream, os.path.basename(name)))  # noqa: PTH119 - a str
    return blobs


def _check_names(names: Sequence[str]) -> None:
    if names.count(_STDIN) > 1:
        raise click.UsageError("stdin can be only one FILE")
    titles = Counter(map(os.path.basename, names))
    if twice := [title for title, count in titles.items() if count > 1]:
        raise click.UsageError(
            f"two files are named {twice[0]}: whoever pulls them would get only one"
        )


def _split(file: str) -> tuple[str, str]:
    """Return a file's name and media type. Raises UsageError for a type that is none.

    A colon with a slash behind it begins a media type, unless there is a file of the whole name.
    """
    name, colon, media_type = file.rpartition(":")
    if not colon or "/" not in media_type or os.path.lexists(file):
        return file, _OCTETS
    _check(media_type, file)
    return name, media_type


def _check(media_type: str, where: str) -> None:
    from brolga.spec.mediatypes import check_media_type

    try:
        check_media_type(media_type)
    except ValueError as error:
        raise click.UsageError(f"{where}: {error}") from error
