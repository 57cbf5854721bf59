"""`brolga config`: the bytes of an image's config.

Knows flags. Must not know how a registry is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import check_source
from brolga.cli.options import platform_flag, registry_flags
from brolga.cli.output import raw

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

__all__ = ["command"]


@click.command("config", cls=Verb)
@click.argument("ref")
@platform_flag
@registry_flags
def command(*, ref: str, platform: Platform | None, connection: Connection) -> None:
    """Print an image's config.

    The exact bytes, verified, without an added newline. If REF is an index, --platform chooses the
    image, by default linux/amd64.
    """
    from brolga.stores.location import parse_image_ref

    place = parse_image_ref(ref)
    check_source(place, connection)
    with open_client(connection) as client:
        raw(client.config(place, platform))
