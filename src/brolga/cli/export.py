"""`brolga export`: the files of an image, as a tar.

Knows flags, and where the tar goes. Must not know how layers are put together.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.blob import to_stdout
from brolga.cli.connection import Connection, open_client
from brolga.cli.files import replace_file
from brolga.cli.options import platform_flag, registry_flags
from brolga.cli.places import check_file, check_stdout
from brolga.cli.verbs import Verb

if TYPE_CHECKING:
    from brolga.descriptor import Platform

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES: Final = """\b
Examples:
  brolga export registry.example/app:v1 | tar -C rootfs -x
  brolga export registry.example/app:v1 app.tar
"""


@click.command("export", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref")
@click.argument("target", metavar="[FILE]", default="-")
@platform_flag
@registry_flags
def command(*, ref: str, target: str, platform: Platform | None, connection: Connection) -> None:
    """Write the files of an image as a tar.

    They are what all its layers show together. FILE appears only when the tar is complete; `-` is
    stdout. If REF is an index, --platform chooses the image, by default linux/amd64.
    """
    from brolga.images.flatten import merged_tar

    if target == "-":
        check_stdout("tar")
    else:
        check_file(target)
    with open_client(connection) as client:
        blocks = merged_tar(client.image(ref, platform).layers)
        if target == "-":
            to_stdout(blocks)
        else:
            with replace_file(Path(target)) as write:
                for block in blocks:
                    write(block)
