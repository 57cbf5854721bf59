"""`brolga blob`: print a blob, or write it to a file."""

import sys

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_output
from brolga.cli.output import write_blocks


@verb(
    "blob",
    "brolga blob localhost:5000/team/app@sha256:… | tar -tz",
    "brolga blob registry.example/models@sha256:… -o weights.bin",
)
@click.argument("ref", metavar="REPO@DIGEST")
@options.output
@options.jobs
@options.progress
@options.connection
def command(
    *, ref: str, output: str, jobs: int, progress: str, connection: options.ConnectionOptions
) -> None:
    """Print a blob, or write it to a file.

    On stdout it is verified as it passes: if the bytes do not match DIGEST, the exit code is 6, and
    what was printed must not be used.

    FILE appears only when it is complete and verified. Until then the bytes are beside it, in
    .FILE.….partial. If brolga is stopped or killed, or the network fails, the same command goes on
    with them.
    """
    if output != "-":
        check_output(output, "blob")
    elif sys.stdout is not None and sys.stdout.isatty():
        progress = "none"  # both would write to the terminal
    with open_client(connection, jobs=jobs, progress=progress) as client:
        if output == "-":
            with client.blob(ref) as stream:
                write_blocks(stream)
        else:
            client.pull_blob(ref, output)
