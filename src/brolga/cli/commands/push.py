"""`brolga push`: an image from this machine into a registry.

Knows flags, and which image of a path is meant. Must not know how anything is pushed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import check_source, check_target, found, told
from brolga.cli.options import (
    Sending,
    jobs_flag,
    json_flag,
    platform_flag,
    recheck_flag,
    registry_flags,
    upload_flags,
)
from brolga.errors import ImageNotFound

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef, LocalRef

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES: Final = """\b
Examples:
  docker save app:1 | brolga push - registry.example/team/app:1
  brolga push app.tar registry.example/team/app:1
  brolga push oci:build:v1 localhost:5000/team/app:1
"""


@click.command("push", cls=Verb, epilog=_EXAMPLES)
@click.argument("path")
@click.argument("ref")
@click.option("--index", "whole", is_flag=True, help="Push all images of a layout as one index.")
@click.option(
    "--image-refs",
    "refs",
    metavar="FILE",
    help="Also write REPO@DIGEST to FILE.",
)
@recheck_flag
@platform_flag
@jobs_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    path: str,
    ref: str,
    whole: bool,
    refs: str | None,
    recheck: bool,
    platform: Platform | None,
    jobs: int,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Push an image from this machine: a layout or an archive.

    PATH is a directory with an OCI image layout, or an archive: what docker save writes, or a
    layout in a tar; brolga looks which. `-` is an archive from stdin, which is read once: blobs are
    pushed as they arrive. oci:DIR:TAG and the like name one image of several. Digests stay the
    same, but uncompressed layers of a docker archive are compressed with gzip.

    Prints REPO@DIGEST. With --json: ref, digest.
    """
    from brolga.stores.location import is_archive, parse_image_ref, registry_of

    source, target = found(path), parse_image_ref(ref)
    if whole and (is_archive(source) or source.name or platform):
        raise click.UsageError("--index is for all images of a layout: name only its directory")
    check_source(source, connection)
    check_target(target, as_json=as_json)
    registry = registry_of(target)
    with open_client(connection, jobs=jobs, registry=registry, sending=sending) as client:
        pushed = _pushed(client, source, target, platform, whole=whole, recheck=recheck)
    if refs is not None:
        _write(refs, pushed)
    told(pushed, done="pushed", as_json=as_json)


def _pushed(  # noqa: PLR0913 - the flags that matter to it
    client: Client,
    source: LocalRef,
    target: ImageRef,
    platform: Platform | None,
    *,
    whole: bool,
    recheck: bool,
) -> ImageRef:
    if whole:
        from brolga.stores.layout import Layout

        return client.push(target, Layout(source.path).whole(), verify_existing=recheck)
    try:
        return client.copy(source, target, platform=platform, verify_existing=recheck)
    except ImageNotFound as error:
        if source.kind == "oci" and not source.name and error.available:
            error.add_note(f"push oci:{source.path}:NAME, or all of them with --index")
        raise


def _write(file: str, place: ImageRef) -> None:
    try:
        Path(file).write_text(f"{place}\n")
    except OSError as error:
        raise click.ClickException(
            f"--image-refs {file}: {error.strerror}; it was pushed anyway: {place}"
        ) from error
