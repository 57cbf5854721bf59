"""`brolga delete`: an image or index, or a tag.

Knows flags, and what registries say that delete by digest alone. Must not know how one is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import registry_flags
from brolga.errors import BrolgaError, NotFound, RegistryError

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.stores.location import ImageRef

__all__ = ["command"]

# "If tag deletion is disabled, the registry MUST respond with either a `400 Bad Request` or a
# `405 Method Not Allowed`" (distribution-spec, Deleting tags); others act as if it were not there.
_NO_TAGS: Final = (400, 404, 405)


@click.command("delete", cls=Verb)
@click.argument("ref")
@registry_flags
def command(*, ref: str, connection: Connection) -> None:
    """Delete an image or index, or a tag.

    If REF is a digest (REPO@DIGEST), the image and all its tags are deleted; if it is a tag, only
    the tag, if the registry can do that. Prints nothing.
    """
    from brolga.stores.location import parse_image_ref

    reference = parse_image_ref(ref)
    with open_client(connection) as client:
        try:
            client.delete(reference)
        except RegistryError as error:
            if reference.digest is None and error.status in _NO_TAGS:
                _advise(client, reference, error)
            raise


def _advise(client: Client, reference: ImageRef, error: RegistryError) -> None:
    """Say how the image of a tag can be deleted. Raises NotFound where there is no such tag."""
    from brolga.stores.location import with_digest

    try:
        digest = client.head(reference).digest
    except NotFound:
        raise
    except BrolgaError:
        return
    named = with_digest(reference, digest)
    error.add_note(
        "it may not support deleting tags: to delete the image with all its tags, "
        f"run brolga delete {named}"
    )
