"""`brolga digest`: the digest that a name stands for.

Knows flags, and how a result is printed. Must not know how a registry is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import check_source, found
from brolga.cli.options import json_flag, platform_flag, registry_flags
from brolga.cli.output import result

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

__all__ = ["command"]


@click.command("digest", cls=Verb)
@click.argument("ref", required=False)
@click.option("--full-ref", is_flag=True, help="Print REPO@DIGEST.")
@click.option(
    "--tarball",
    "path",
    metavar="PATH",
    help="Look in an archive or a layout on this machine; REF is a name in it.",
)
@platform_flag
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str | None,
    full_ref: bool,
    path: str | None,
    platform: Platform | None,
    as_json: bool,
    connection: Connection,
) -> None:
    """Print the digest of an image or index.

    If REF is an index, --platform prints the digest of one of its images. With --json: ref, digest,
    mediaType, size (bytes of the manifest).
    """
    from brolga.stores.location import parse_image_ref, with_digest, with_name

    if ref is None and path is None:
        raise click.UsageError("Missing argument 'REF'.")
    place = with_name(found(path), ref or "") if path is not None else parse_image_ref(str(ref))
    check_source(place, connection)
    with open_client(connection) as client:
        about = client.manifest(place, platform).descriptor if platform else client.head(place)
    full = str(with_digest(place, about.digest))
    fields = {
        "ref": full,
        "digest": str(about.digest),
        "mediaType": about.media_type,
        "size": about.size,
    }
    result(full if full_ref else str(about.digest), fields, as_json=as_json)
