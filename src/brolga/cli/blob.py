"""`brolga blob`: the bytes of a blob.

Knows flags, and that what is on stdout cannot be taken back. Must not know how a registry is asked.
"""

from __future__ import annotations

import click

from brolga.cli.options import Connection, open_client, registry_flags
from brolga.cli.output import raw
from brolga.cli.verbs import Verb
from brolga.errors import BrolgaError

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  brolga blob localhost:5000/team/app@sha256:… | tar -tz
"""


@click.command("blob", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref", metavar="REPO@DIGEST")
@registry_flags
def command(*, ref: str, connection: Connection) -> None:
    """Print a blob.

    It streams, and is verified on its way: where the bytes are not those of DIGEST the exit code
    is 6, and what was printed must not be used.
    """
    written = 0
    with open_client(connection) as client, client.blob(ref) as stream:
        try:
            for block in stream.with_heartbeats():
                raw(block)
                written += len(block)
        except BrolgaError as error:
            if written:
                error.add_note(f"stdout got {written} bytes, which must not be used; try again")
            raise
