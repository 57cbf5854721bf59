"""`brolga export`: the files of an image, as a tar.

Knows flags, and where the tar goes. Must not know how layers are put together.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.commands.blob import to_stdout
from brolga.cli.files import replace_file
from brolga.cli.local_paths import check_file, check_stdout
from brolga.cli.options import platform_flag, registry_flags, strict_flag
from brolga.cli.output import warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.spec.blob import Blob, Block
    from brolga.spec.platform import Platform

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
@strict_flag
@registry_flags
def command(
    *, ref: str, target: str, platform: Platform | None, strict: bool, connection: Connection
) -> None:
    """Write the files of an image as a tar.

    They are what all its layers show together in a container. An entry on which readers differ is
    named on stderr; with --strict it is an error. FILE appears only when the tar is complete; `-`
    is stdout. If REF is an index, --platform chooses the image, by default linux/amd64.

    Of an artifact that is one file, write the file as it is.
    """
    from brolga.images.flatten import merge_layers

    if target == "-":
        check_stdout("tar")
    else:
        check_file(target)
    with open_client(connection) as client:
        layers = client.image(ref, platform).layers
        blocks = (
            _file(layers[0])
            if _is_one_file(layers)
            else merge_layers(layers, strict=strict, on_warning=partial(warn, ref))
        )
        if target == "-":
            to_stdout(blocks)
        else:
            with replace_file(Path(target)) as write:
                for block in blocks:
                    write(block)


def _is_one_file(layers: Sequence[Blob]) -> bool:
    """Return whether an image is one blob of a media type that is not a layer's, as crane does."""
    from brolga.spec.mediatypes import COMPRESSION_BY_LAYER, ENCRYPTED

    if len(layers) != 1:
        return False
    media_type = layers[0].descriptor.media_type
    return media_type not in COMPRESSION_BY_LAYER and not media_type.endswith(ENCRYPTED)


def _file(blob: Blob) -> Iterator[Block]:
    with blob.open() as stream:
        yield from stream.blocks()
