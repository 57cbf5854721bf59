"""`brolga blob`: the bytes of a blob.

Knows flags, and that what is on stdout cannot be taken back. Must not know how a registry is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import registry_flags
from brolga.cli.output import raw
from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.spec.blob import Block

__all__ = ["command", "to_stdout"]

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

    It is streamed, and verified as it passes: if the bytes do not match DIGEST, the exit code is 6,
    and what was printed must not be used.
    """
    with open_client(connection) as client, client.blob(ref) as stream:
        to_stdout(stream.blocks())


def to_stdout(blocks: Iterable[Block]) -> None:
    """Write blocks on stdout as they come. Raises what they raise, with a word on what is there."""
    written = 0
    try:
        for block in blocks:
            raw(block)
            written += len(block)
    except BrolgaError as error:
        if written:
            error.add_note(f"stdout got {written} bytes, which must not be used; try again")
        raise
