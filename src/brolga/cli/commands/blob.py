"""`brolga blob`: print a blob."""

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.output import write_blocks


@verb("blob", "brolga blob localhost:5000/team/app@sha256:… | tar -tz")
@click.argument("ref", metavar="REPO@DIGEST")
@options.connection
def command(*, ref: str, connection: options.ConnectionOptions) -> None:
    """Print a blob.

    It is streamed, and verified as it passes: if the bytes do not match DIGEST, the exit code is 6,
    and what was printed must not be used.
    """
    with open_client(connection) as client, client.blob(ref) as stream:
        write_blocks(stream)
