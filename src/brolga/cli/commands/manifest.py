"""`brolga manifest`: print a manifest or index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source
from brolga.cli.output import write_bytes
from brolga.stores.location import parse_image_ref

if TYPE_CHECKING:
    from brolga.spec.platform import Platform


@verb("manifest")
@click.argument("ref")
@options.platform
@options.connection
def command(*, ref: str, platform: Platform | None, connection: options.ConnectionOptions) -> None:
    """Print a manifest or index.

    The exact bytes that the digest is of, without an added newline. If REF is an index, --platform
    prints the manifest of one of its images.
    """
    place = parse_image_ref(ref)
    check_source(place, connection)
    with open_client(connection) as client:
        write_bytes(client.manifest(place, platform).raw)
