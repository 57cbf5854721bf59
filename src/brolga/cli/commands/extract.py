"""`brolga extract`: extract the files of an image into a directory."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.output import print_result, print_warning
from brolga.cli.params import Parsed, parse_size

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

_OWNER: Final = r"([0-9]{1,10}):([0-9]{1,10})"


def _parse_owner(text: str) -> tuple[int, int]:
    """Return the numbers of a user and a group. Raises ValueError."""
    match = re.fullmatch(_OWNER, text)
    if match is None:
        raise ValueError(f"{text!r} is not UID:GID, two numbers")
    return int(match[1]), int(match[2])


@verb(
    "extract",
    "brolga extract registry.example/app:v1 rootfs",
    "brolga extract --only etc/ssl --only usr/bin/app registry.example/app:v1 files",
)
@click.argument("ref")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--only",
    multiple=True,
    metavar="PATH",
    help="Extract this path alone, with all that is below it; can be repeated.",
)
@options.platform
@click.option("--devices", is_flag=True, help="Create device nodes; by default they are left out.")
@click.option(
    "--setuid",
    is_flag=True,
    help="Keep setuid and setgid bits and file capabilities; by default they are left out.",
)
@click.option(
    "--map-owner",
    type=Parsed(_parse_owner),
    metavar="UID:GID",
    help="Give all files to this user and group; default: to those of the image if root extracts "
    "it, else to the user.",
)
@click.option(
    "--max-size",
    type=Parsed(parse_size),
    metavar="SIZE",
    help="Fail if the layers are larger than this, uncompressed; default: 1 TiB.",
)
@click.option(
    "--max-ratio",
    type=click.IntRange(1),
    metavar="N",
    help="Fail if more than N bytes come out of each compressed one, beyond 1 GiB; default: 200.",
)
@click.option(
    "--max-entries",
    type=click.IntRange(1),
    metavar="N",
    help="Fail if the layers have more entries than this; default: 5 million.",
)
@options.strict
@click.option(
    "--clean", is_flag=True, help="Delete what an interrupted extraction left, and start over."
)
@options.jobs
@options.progress
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    directory: str,
    only: tuple[str, ...],
    platform: Platform | None,
    devices: bool,
    setuid: bool,
    map_owner: tuple[int, int] | None,
    max_size: int | None,
    max_ratio: int | None,
    max_entries: int | None,
    strict: bool,
    clean: bool,
    jobs: int,
    progress: str,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Extract the files of an image into a directory.

    They are the files that all its layers show together in a container. DIR must be new or empty.
    Nothing outside of it changes, whatever the layers say. Each layer is verified while it is
    extracted: if the exit code is not 0, DIR is not complete, and the same command again goes on at
    the first incomplete layer. If REF is an index, --platform chooses the image, by default
    linux/amd64.

    Prints the digest of the image. With --json: digest, mediaType, size (bytes).
    """
    from brolga.extract import ExtractLimits, ExtractOptions

    caps = {"size": max_size, "ratio": max_ratio, "entries": max_entries}
    chosen = ExtractOptions(
        devices=devices,
        setuid=setuid,
        map_owner=map_owner,
        limits=ExtractLimits(**{name: cap for name, cap in caps.items() if cap is not None}),
        strict=strict,
        on_warning=partial(print_warning, ref),
        clean=clean,
    )
    with open_client(connection, jobs=jobs, progress=progress) as client:
        image = client.extract(ref, directory, only=only, platform=platform, options=chosen)
    print_result(
        str(image.digest),
        {"digest": str(image.digest), "mediaType": image.media_type, "size": image.size},
        as_json=as_json,
        done=f"it was extracted anyway: {image.digest}",
    )
