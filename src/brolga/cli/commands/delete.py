"""`brolga delete`: delete an image or index, or a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.errors import BrolgaError, NotFound, RegistryError
from brolga.stores.location import ImageRef, parse_image_ref, with_digest

if TYPE_CHECKING:
    from brolga.client import Client

# "If tag deletion is disabled, the registry MUST respond with either a `400 Bad Request` or a
# `405 Method Not Allowed`" (distribution-spec, Deleting tags); others answer 404.
_TAG_DELETION_DISABLED: Final = (400, 404, 405)


@verb("delete")
@click.argument("ref")
@options.connection
def command(*, ref: str, connection: options.ConnectionOptions) -> None:
    """Delete an image or index, or a tag.

    If REF is a digest (REPO@DIGEST), the image and all its tags are deleted; if it is a tag, only
    the tag, if the registry can do that. Prints nothing.
    """
    reference = parse_image_ref(ref)
    with open_client(connection) as client:
        try:
            client.delete(reference)
        except RegistryError as error:
            if reference.digest is None and error.status in _TAG_DELETION_DISABLED:
                _add_hint(client, reference, error)
            raise


def _add_hint(client: Client, reference: ImageRef, error: RegistryError) -> None:
    """Note how to delete the image of a tag. Raises NotFound if the tag does not exist."""
    try:
        digest = client.head(reference).digest
    except NotFound:
        raise
    except BrolgaError:
        return
    error.add_note(
        "it may not support deleting tags: to delete the image with all its tags, "
        f"run brolga delete {with_digest(reference, digest)}"
    )
