"""`brolga digest`: the digest that a name stands for.

Knows flags, and how a result is printed. Must not know how a registry is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.options import (
    Connection,
    json_flag,
    open_client,
    platform_flag,
    registry_flags,
)
from brolga.cli.output import result
from brolga.cli.places import check_source
from brolga.cli.verbs import Verb

if TYPE_CHECKING:
    from brolga.descriptor import Platform

__all__ = ["command"]


@click.command("digest", cls=Verb)
@click.argument("ref")
@click.option("--full-ref", is_flag=True, help="Print REPO@DIGEST.")
@platform_flag
@json_flag
@registry_flags
def command(
    *, ref: str, full_ref: bool, platform: Platform | None, as_json: bool, connection: Connection
) -> None:
    """Print the digest of an image or index.

    With --platform that image's digest, where REF is an index. With --json: ref, digest,
    mediaType, size (bytes of the manifest).
    """
    from brolga.place import by_digest, parse_place

    place = parse_place(ref)
    check_source(place, connection)
    with open_client(connection) as client:
        found = client.manifest(place, platform).descriptor if platform else client.head(place)
    full = str(by_digest(place, found.digest))
    fields = {
        "ref": full,
        "digest": str(found.digest),
        "mediaType": found.media_type,
        "size": found.size,
    }
    result(full if full_ref else str(found.digest), fields, as_json=as_json)
