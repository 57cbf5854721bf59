"""`brolga config`: print an image's config."""

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source
from brolga.cli.output import write_bytes
from brolga.spec.platform import Platform
from brolga.stores.location import parse_image_ref


@verb("config")
@click.argument("ref")
@options.platform
@options.connection
def command(*, ref: str, platform: Platform | None, connection: options.ConnectionOptions) -> None:
    """Print an image's config.

    The exact bytes, verified, without an added newline. If REF is an index, --platform chooses the
    image, by default linux/amd64.
    """
    place = parse_image_ref(ref)
    check_source(place, connection)
    with open_client(connection) as client:
        write_bytes(client.config(place, platform))
